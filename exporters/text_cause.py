"""Why services fail together, in one sentence: the cause, how sure it is, and the evidence. Pure."""

from __future__ import annotations

from typing import Final

from config.plan import Language
from exporters.text import Words, duration_words, number_words, pick
from monitor.model import Cause, CauseKind, Certainty
from probes.base import one_line

_CERTAINTY: Final[dict[Certainty, Words]] = {
    Certainty.CERTAIN: ("chắc chắn", "certain"),
    Certainty.LIKELY: ("nhiều khả năng", "likely"),
    Certainty.POSSIBLE: ("có thể", "possible"),
}
_SUBJECTS: Final[dict[CauseKind, Words]] = {
    CauseKind.NEEDS: ("“{name}”", "“{name}”"),
    CauseKind.PATH: ("kênh {name}", "the path {name}"),
    CauseKind.HOST: ("máy chủ {name}", "the host {name}"),
    CauseKind.CARRIER: ("nhà mạng “{name}”", "the carrier {name}"),
    CauseKind.RESOLVER: ("việc phân giải tên miền {name}", "finding names below {name}"),
    CauseKind.COINCIDENCE: ("nguyên nhân chung chưa rõ", "a common cause not known"),
}
_NO_NAMES: Final[Words] = ("việc phân giải tên miền", "finding names")
_BEGINS: Final[dict[Certainty, Words]] = {
    Certainty.CERTAIN: ("Nguyên nhân là", "The cause is"),
    Certainty.LIKELY: ("Nhiều khả năng do", "Probably it is"),
    Certainty.POSSIBLE: ("Có thể do", "Possibly it is"),
}
_LEAST_CHANCE: Final = 0.0001


def certainty_word(certainty: Certainty, lang: Language = Language.VI) -> str:
    """Return how sure a cause is, in one or two words."""
    return pick(_CERTAINTY[certainty], lang)


def subject_words(cause: Cause, name: str, lang: Language = Language.VI) -> str:
    """Return what is blamed, to stand in a headline. Args: name: of the cause's subject, for people."""
    named = cause.subject or cause.kind is not CauseKind.RESOLVER
    words = pick(_SUBJECTS[cause.kind] if named else _NO_NAMES, lang)
    return words.replace("{name}", one_line(name or cause.subject))


def count_words(count: int, lang: Language = Language.VI) -> str:
    """Return how many services: `3 dịch vụ`."""
    return pick((f"{count} dịch vụ", f"{count} service{'' if count == 1 else 's'}"), lang)


def why_sentence(cause: Cause, name: str, lang: Language = Language.VI) -> str:
    """Return the cause, its certainty and the evidence in one sentence. Args: name: of its subject, for people."""
    what = subject_words(cause, name, lang)
    if cause.kind is CauseKind.NEEDS:
        services = count_words(len(cause.members), lang)
        return pick(
            (
                f"Nguyên nhân là sự cố của {what} (chắc chắn, theo khai báo phụ thuộc): {services} cần đến nó "
                "cùng bị ảnh hưởng.",
                f"The cause is the trouble of {what} (certain, as declared): it is needed by {services} hit with it.",
            ),
            lang,
        )
    if cause.kind is CauseKind.PATH and cause.paths:
        return _one_path(cause, what, lang)
    begins = pick(_BEGINS[cause.certainty], lang)
    return f"{begins} {what}: {_evidence(cause, lang)}."


def _one_path(cause: Cause, what: str, lang: Language) -> str:
    several = len(cause.members) > 1
    vi = f" {len(cause.members)} dịch vụ" if several else ""
    en = f"{len(cause.members)} services" if several else "the service"
    return pick(
        (
            f"Qua {what} không tới được{vi}, qua {cause.paths} kênh khác vẫn tốt → lỗi ở phía {what} "
            f"({certainty_word(cause.certainty, lang)}), không phải ở dịch vụ.",
            f"{en[0].upper()}{en[1:]} cannot be reached by {what} and can by {cause.paths} other "
            f"path{'' if cause.paths == 1 else 's'} → the fault is on the side of {what} "
            f"({certainty_word(cause.certainty, lang)}), not of the service.",
        ),
        lang,
    )


def _evidence(cause: Cause, lang: Language) -> str:
    hit = len(cause.members)
    within = duration_words(cause.span_s, lang)
    when = pick(("một lúc", "at once") if cause.span_s < 1 else (f"trong vòng {within}", f"within {within}"), lang)
    if cause.kind is CauseKind.COINCIDENCE:
        limit = max(cause.chance, _LEAST_CHANCE) * 100
        share = number_words(limit, 2, lang)
        return pick(
            (
                f"{hit} dịch vụ cùng hỏng {when}, mà nếu mỗi dịch vụ tự hỏng thì xác suất trùng hợp dưới {share} %",
                f"{hit} services failed {when}; were each to fail by itself, chance would do this in less than "
                f"{share} % of cases",
            ),
            lang,
        )
    parts = [
        pick(
            (
                f"{hit}/{cause.of} dịch vụ đi qua đó cùng hỏng {when}",
                f"{hit} of {cause.of} services that use it failed {when}",
            ),
            lang,
        )
    ]
    if cause.good:
        vi, en = f"còn {cause.good} phép kiểm tra qua đó vẫn tốt", f"{cause.good} checks through it still answer"
        parts.append(pick((vi, en), lang))
    if cause.elsewhere:
        vi, en = f"{cause.elsewhere} dịch vụ khác vẫn bình thường", f"{cause.elsewhere} other services are well"
        parts.append(pick((vi, en), lang))
    return ", ".join(parts)
