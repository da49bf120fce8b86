"""The letters a duty officer gets: what happened, since when, how we know, is it us, what else, who else was told.

`compose` is pure: the same notice makes the same letter, at every try and after every restart. The text part is
complete by itself; the HTML part says the same and is styled inline, because many mail readers drop style sheets.
No background is set but behind the headline, so that it reads in light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.plan import SitePlan
from exporters import text, text_cause, text_route, text_suspicion
from exporters.letter_layout import Draft, Part, as_html, as_text
from exporters.text import Words, pick
from exporters.text_reason import incident_words, reason_words
from monitor.model import OWN_FAULT, CauseKind, EventKind, Evidence, Notice, State
from probes.base import one_line

MARK: Final = "[Thông Suốt]"  # the first word of every subject, for filters
LATE_S: Final = 120.0  # chosen: retries of two minutes are ordinary, greylisting for one
EVIDENCE_LIMIT: Final = 20  # lines of evidence in one letter; chosen: more is read on the page
NAMES_LIMIT: Final = 40  # services hit, in one letter


@dataclass(frozen=True, slots=True)
class Letter:
    """One message, ready to be put into headers and parts."""

    subject: str  # one line
    text: str
    html: str


def compose(
    notice: Notice,
    site: SitePlan,
    to: Sequence[str],
    page_url: str | None,
    sent_at: datetime | None = None,
    chain_head: str = "",
) -> Letter:
    """Write the letter for a notice, in the language and the local time of the site.

    Args:
        notice: what is to be told, as it was when it was confirmed.
        site: whose monitor this is.
        to: who is on the list.
        page_url: address of the live page.
        sent_at: when it leaves; one that leaves late says so, for what it tells may be over.
        chain_head: `number:sha256` of the evidence's newest line: whoever keeps the letter can prove what stood then.
    """
    writer = _Writer(notice, site, to)
    draft = Draft(
        headline=writer.headline(),
        state=writer.colour(),
        lead=f"{writer.lead()}{writer.late(sent_at)}",
        parts=tuple(part for part in writer.parts() if part.rows or part.lines),
        link=_safe_link(page_url),
        foot=writer.foot(chain_head),
    )
    subject = f"{MARK}[{text.short_site(notice.site_name or site.name)}] {writer.subject()}"
    return Letter(one_line(subject), as_text(draft, site.language), as_html(draft, site.language))


def _safe_link(url: str | None) -> str:
    """Return the address of the page if it is one a mail reader may open."""
    return one_line(url, 500) if url and url.startswith(("http://", "https://")) else ""


class _Writer:
    """Finds the words for one notice."""

    def __init__(self, notice: Notice, site: SitePlan, to: Sequence[str]) -> None:
        self.n = notice
        self.lang = site.language
        self.tz = site.timezone
        self.to = to
        self.own = notice.service == OWN_FAULT
        self.suspicion = notice.kind in text_suspicion.KINDS
        self.name = one_line(notice.service_name or notice.service)
        if notice.members and notice.why is not None:
            what = text_cause.subject_words(notice.why, notice.why_name, self.lang)
            self.name = f"{text_cause.count_words(len(notice.members), self.lang)} ({what})"

    def say(self, vi: str, en: str) -> str:
        return pick((vi, en), self.lang)

    def lasted(self) -> str:
        end = self.n.ended_at or self.n.at
        return text.duration_words((end - self.n.since).total_seconds(), self.lang)

    def state(self) -> str:
        return text.state_word(self.n.state, self.lang)

    def colour(self) -> State:
        if self.n.kind in (EventKind.RECOVERED, EventKind.TEST, EventKind.UNCONFIRMED):
            return State.UP
        return State.UNKNOWN if self.own else self.n.state

    # The subject: short, and the same words in the same place, so that a rule of a mail reader can find them.

    def subject(self) -> str:
        since = text.brief_time(self.n.since, self.n.at, self.tz)
        if self.n.kind is EventKind.TEST:
            return self.say("THƯ THỬ: kênh cảnh báo qua thư điện tử", "TEST: alerts by e-mail")
        if self.n.kind is EventKind.RECOVERED:
            end = text.brief_time(self.n.ended_at or self.n.at, self.n.at, self.tz)
            tail = self.say(f"lúc {end} (sau {self.lasted()})", f"at {end} (after {self.lasted()})")
            return f"{self.headline()} {tail}"
        if self.n.kind is EventKind.CORRECTED:
            return self.headline()
        if self.n.kind is EventKind.PASSED:
            end = text.brief_time(self.n.ended_at or self.n.at, self.n.at, self.tz)
            return f"{self.headline()} {self.say(f'từ {since} đến {end}', f'from {since} to {end}')}"
        tail = self.say(f"từ {since}", f"since {since}")
        worse = {EventKind.WORSENED: ("NẶNG HƠN, ", "WORSE, "), EventKind.SPREAD: ("LAN RỘNG, ", "SPREADING, ")}
        return f"{pick(worse.get(self.n.kind, ('', '')), self.lang)}{self.headline()} {tail}"

    def headline(self) -> str:
        if self.n.kind is EventKind.TEST:
            return self.say("THƯ THỬ KÊNH CẢNH BÁO", "TEST OF THE ALERTS")
        if self.suspicion:
            return text_suspicion.headline(self.n, self.lang)
        if self.own:
            return self._own_headline()
        if self.n.kind is EventKind.RECOVERED:
            return self.say(f"ĐÃ THÔNG SUỐT: {self.name}", f"RECOVERED: {self.name}")
        if self.n.kind is EventKind.PARTLY:
            back = f"{len(self.n.members) - len(self.n.still)}/{self.name}"
            return self.say(f"THÔNG MỘT PHẦN: {back}", f"PARTLY RECOVERED: {back}")
        return f"{self.state().upper()}: {self.name}"

    def _own_headline(self) -> str:
        where = text.own_fault_word(self.n.cause, self.lang)
        where += f" ({self.name})" if self.n.service_name else ""  # one uplink of several
        if self.n.kind is EventKind.CORRECTED:
            return self.say(f"ĐÍNH CHÍNH: tin đã gửi là do lỗi phía trạm đo ({where})", f"CORRECTION: {where}")
        if self.n.kind is EventKind.PASSED:
            return self.say(f"LỖI PHÍA TRẠM ĐO, ĐÃ HẾT: {where}", f"MONITOR WAS IN TROUBLE, NOW OVER: {where}")
        if self.n.kind is EventKind.RECOVERED:
            return self.say(f"TRẠM ĐO ĐÃ HOẠT ĐỘNG TRỞ LẠI: {where}", f"MONITOR CAN SEE AGAIN: {where}")
        if self.n.cause not in ("near", "far", ""):
            return self.say(f"TRẠM ĐO GẶP TRỤC TRẶC: {where}", f"MONITOR IN TROUBLE: {where}")
        return self.say(f"TRẠM ĐO MẤT KẾT NỐI: {where}", f"MONITOR CUT OFF: {where}")

    def lead(self) -> str:
        if self.n.kind is EventKind.TEST:
            return self.say(
                "Đây là thư thử. Nhận được thư này nghĩa là kênh cảnh báo qua thư điện tử hoạt động. "
                "Không có sự cố nào; không cần xử lý gì.",
                "This is a test. That it reached you means that alerts by e-mail work. Nothing is wrong.",
            )
        if self.own or self.suspicion:
            return self._own_lead() if self.own else text_suspicion.lead(self.n, self.lang)
        if self.n.kind in (EventKind.PARTLY, EventKind.SPREAD):
            return self._group_lead()
        if self.n.kind is EventKind.RECOVERED:
            return self.say(
                f"{self.name} đã thông suốt trở lại sau {self.lasted()}.",
                f"{self.name} works again after {self.lasted()}.",
            )
        if self.n.kind is EventKind.WORSENED:
            return self.say(
                f"Sự cố của {self.name} đã nặng hơn: dịch vụ {text.state_clause(self.n.state, self.lang)}.",
                f"The trouble of {self.name} got worse: it {text.state_clause(self.n.state, self.lang)} now.",
            )
        after = self.say(
            " Đã hết giờ bảo trì đã báo trước mà vẫn chưa thông: thời gian gián đoạn được tính từ lúc hết giờ bảo trì.",
            " The announced work is over and it still fails: the time counts from the end of the work on.",
        )
        clause = f"{self.name} {text.state_clause(self.n.state, self.lang)}."
        return clause + (after if self.n.failing_since is not None else "")

    def _group_lead(self) -> str:
        if self.n.kind is EventKind.PARTLY:
            still = ", ".join(map(one_line, self.n.still))
            return self.say(
                f"Một phần đã thông suốt trở lại; vẫn chưa thông: {still}.",
                f"Some are back; still not: {still}.",
            )
        clause = text.state_clause(self.n.state, self.lang)
        return self.say(
            f"Sự cố đã lan rộng: nay {self.name} {clause}.",
            f"The trouble has spread: {self.name} {_are(clause)} now.",
        )

    def _own_lead(self) -> str:
        if self.n.kind is EventKind.CORRECTED:
            return self.say(
                "Tin đã gửi dưới đây không đúng: lỗi ở phía trạm đo, bắt đầu trước khi tin được gửi. Thời gian đó được "
                "ghi “không có số liệu” và không tính là dịch vụ bị gián đoạn. Đề nghị báo lại cho những nơi đã được "
                "thông báo theo tin này.",
                "What was told below is not so: the fault was ours and had begun before. That time counts as not "
                "observed, not as an outage. Please tell whoever was told of it.",
            )
        if self.n.kind is EventKind.PASSED:
            return self.say(
                "Lỗi ở phía trạm đo, nay đã hết; không phải sự cố của dịch vụ. Khoảng giờ nêu dưới đây được ghi “không "
                "có số liệu”, không tính là dịch vụ bị gián đoạn.",
                "The fault was ours and is over. The time given below counts as not observed, not as an outage.",
            )
        if self.n.kind is EventKind.RECOVERED:
            return self.say(
                f"Trạm đo đã hoạt động bình thường trở lại sau {self.lasted()}. Trong khoảng thời gian đó không có "
                "số liệu về các dịch vụ; không tính là dịch vụ bị gián đoạn.",
                f"The monitor can see again after {self.lasted()}. That time counts as not observed, not as an outage.",
            )
        return self.say(
            "Lỗi ở phía trạm đo, không phải sự cố của dịch vụ. Từ lúc này các dịch vụ được ghi “không có số liệu”, "
            "không bị coi là gián đoạn.",
            "The fault is ours, not the services'. Until it ends they are recorded as not observed, not as down.",
        )

    # The blocks below the lead.

    def parts(self) -> tuple[Part, ...]:
        people = Part(self.say("Người nhận thư này", "Who gets this"), lines=_plain(self.to))
        if self.n.kind is EventKind.TEST:
            return (Part("", rows=self._when()), people)
        if self.suspicion:
            blocks = text_suspicion.blocks(self.n, self.tz, self.lang)
            return (*(Part(title, rows, lines) for title, rows, lines in blocks), people)
        return (
            Part("", rows=self._when()),
            self._retracted(),
            self._why(),
            self._way(),
            self._members(),
            self._evidence(),
            self._blame(),
            self._affected(),
            people,
        )

    def _retracted(self) -> Part:
        """List what was told and is not so, each with when it was told."""
        lines = [text.retracted_sentence(w, self.n.at, self.tz, self.lang) for w in self.n.retracted[:NAMES_LIMIT]]
        more = self._more(len(self.n.retracted) - NAMES_LIMIT)
        return Part(self.say("Tin đã gửi không đúng", "What was told and is not so"), lines=_plain(lines) + more)

    def _when(self) -> tuple[tuple[str, str], ...]:
        at, since = text.local_time(self.n.at, self.tz), text.local_time(self.n.since, self.tz)
        zone = text.zone_word(self.n.at, self.tz)
        site = (self.say("Đơn vị", "Site"), one_line(self.n.site_name))
        if self.n.kind is EventKind.TEST:
            return (site, (self.say("Lập lúc", "Made at"), f"{at} ({zone})"))
        what: tuple[tuple[str, str], ...] = ()
        if self.n.members and self.n.why is not None:
            sure = text_cause.certainty_word(self.n.why.certainty, self.lang)
            blamed = text_cause.subject_words(self.n.why, self.n.why_name, self.lang)
            what = ((self.say("Nguyên nhân", "Cause"), f"{blamed} ({sure})"),)
        elif not self.own:
            what = ((self.say("Loại", "Kind"), text.kind_word(self.n.service_kind, self.lang)),)
        elif self.n.service_name:
            what = ((self.say("Đường truyền", "Uplink"), self.name),)
        began = ((self.say("Bắt đầu", "Began"), f"{self._no_later()}{since} ({zone})"),)
        if self.n.failing_since is not None:
            fails = text.local_time(self.n.failing_since, self.tz)
            what += ((self.say("Hỏng từ", "Fails since"), f"{fails} ({self.say('trong lúc bảo trì', 'during work')})"),)
        rest: tuple[tuple[str, str], ...]
        if self.n.kind in (EventKind.RECOVERED, EventKind.PASSED):
            end = text.local_time(self.n.ended_at or self.n.at, self.tz)
            rest = (
                (self.say("Kết thúc", "Ended"), end),
                (self.say("Kéo dài", "Lasted"), self.lasted()),
                (self.say("Xác nhận", "Confirmed"), at),
            )
        else:
            rest = ((self.say("Xác nhận", "Confirmed"), at),)
        number = ((self.say("Sự cố số", "Incident"), str(self.n.incident)),)
        reason = incident_words(self.n.reason, self.lang, self.tz) or one_line(self.n.reason)
        why = ((self.say("Lý do đã ghi", "Recorded reason"), reason),)
        told_why = why if self.n.reason and self.n.kind is EventKind.RECOVERED else ()
        return (site, *what, *began, *rest, *told_why, *number)

    def late(self, sent_at: datetime | None) -> str:
        """Say how late the letter leaves, when no relay took it for a while; empty when it is fresh."""
        late_s = (sent_at - self.n.at).total_seconds() if sent_at else 0.0
        if late_s < LATE_S:
            return ""
        lasted = text.duration_words(late_s, self.lang)
        return self.say(
            f" Thư này bị chậm {lasted} vì máy chủ thư không nhận; tình hình hiện nay có thể đã khác.",
            f" This letter is {lasted} late because no relay took it; by now things may be different.",
        )

    def _no_later(self) -> str:
        """Say so when the begin is only the first time that anybody looked."""
        if not self.n.begin_unseen:
            return ""
        return self.say("trước khi bắt đầu theo dõi; muộn nhất ", "before it was watched; no later than ")

    def _why(self) -> Part:
        """Say why several services fail, or one by one path only."""
        if self.n.why is None:
            return Part("")
        sentence = text_cause.why_sentence(self.n.why, self.n.why_name, self.lang)
        return Part(self.say("Nguyên nhân", "Cause"), lines=_plain([sentence]))

    def _way(self) -> Part:
        """Say how far packets got while it lasted."""
        if self.n.way is None:
            return Part("")
        when = f"{text.local_time(self.n.way.at, self.tz)}, {text_route.moment_word(self.n.way.moment, self.lang)}"
        sentence = text_route.way_sentence(self.n.way, self.tz, self.lang)
        line = one_line(f"{sentence} ({when})", 400), one_line(text_route.hops_line(self.n.way), 400)
        return Part(self.say("Đường đi", "The way there"), lines=(line,))

    def _members(self) -> Part:
        still = set(self.n.still)
        ended = self.n.kind is EventKind.RECOVERED
        lines = [
            f"{one_line(name)}: {self.say('chưa thông', 'not back')}"
            if name in still and not ended
            else f"{one_line(name)}: {self.say('đã thông suốt', 'back')}"
            for name in self.n.members[:NAMES_LIMIT]
        ]
        more = self._more(len(self.n.members) - NAMES_LIMIT)
        return Part(self.say("Các dịch vụ trong sự cố này", "Services in this incident"), lines=_plain(lines) + more)

    def _evidence(self) -> Part:
        shown = tuple(self._evidence_line(e) for e in self.n.evidence[:EVIDENCE_LIMIT])
        return Part(
            self.say("Căn cứ: kết quả đo", "How we know: what the checks said"),
            lines=shown + self._more(len(self.n.evidence) - EVIDENCE_LIMIT),
        )

    def _evidence_line(self, e: Evidence) -> tuple[str, str]:
        kind = f" [{one_line(e.kind)}]" if e.kind else ""
        state = text.state_word(e.state, self.lang)
        why = reason_words(e.detail, self.lang, self.tz) or text.fault_phrase(e.fault, self.lang, e.state)
        when = text.local_clock(e.at, self.tz)
        if e.at.astimezone(self.tz).date() != self.n.at.astimezone(self.tz).date():
            when = text.local_time(e.at, self.tz)
        return f"{when}  {one_line(e.check)}{kind}: {state}, {why}", one_line(e.detail)

    def _blame(self) -> Part:
        title = self.say("Lỗi ở phía nào: trạm đo hay dịch vụ?", "Us or them?")
        lines: list[str] = []
        if self.own:
            if self.n.kind is not EventKind.RECOVERED:
                over = self.n.kind is EventKind.PASSED  # how the references stand now says nothing of it
                lines += [text.own_fault_sentence(self.n.cause, self.lang), "" if over else self._references()]
                lines.append(pick(_own_advice(self.n.cause), self.lang))
            return Part(title, lines=_plain([line for line in lines if line]))
        if self.n.cause:
            lines.append(text.cause_sentence(self.n.cause, self.lang))
        if self.n.kind is not EventKind.RECOVERED:
            good, bad, why = self.n.references_good, self.n.references_bad, self.n.why
            between = why is not None and why.kind in (CauseKind.PATH, CauseKind.CARRIER)
            lines.append(text.blame_sentence(good, bad, self.lang, between=between))
        if self.n.flapping:
            lines.append(pick(_FLAPPING, self.lang))
        return Part(title, lines=_plain(lines))

    def _references(self) -> str:
        good, bad = self.n.references_good, self.n.references_bad
        if not good + bad:
            return ""
        return self.say(
            f"Mốc tham chiếu: {good} mốc thông, {bad} mốc không trả lời.", f"References: {good} answer, {bad} do not."
        )

    def _affected(self) -> Part:
        if self.own:
            title = self.say("Dịch vụ không đo được", "Services not observed")
        else:
            title = self.say("Dịch vụ khác cùng bị ảnh hưởng", "Other services hit")
        if not self.n.affected:
            none = () if self.own or self.n.kind is EventKind.RECOVERED else (self.say("Không có.", "None."),)
            return Part(title, lines=_plain(none))
        return Part(title, lines=_plain(self.n.affected[:NAMES_LIMIT]) + self._more(len(self.n.affected) - NAMES_LIMIT))

    def _more(self, count: int) -> tuple[tuple[str, str], ...]:
        line = self.say(f"… và {count} mục nữa, xem trên trang theo dõi.", f"… and {count} more, see the page.")
        return ((line, ""),) if count > 0 else ()

    def foot(self, chain_head: str) -> str:
        foot = self.say(
            "Thư do phần mềm giám sát Thông Suốt tự động gửi. Giờ ghi trong thư là giờ địa phương.",
            "Sent by the monitor Thông Suốt. Times are local.",
        )
        head = self.say("Đầu chuỗi chứng cứ, xin giữ để đối chiếu", "Head of the chain of evidence, to be kept")
        return f"{foot}\n{head}: {one_line(chain_head)}" if chain_head else foot


_FLAPPING: Final[Words] = (
    "Lưu ý: dịch vụ đang chập chờn (đổi trạng thái nhiều lần trong thời gian ngắn), có thể còn thay đổi tiếp.",
    "Note: the service is flapping (it changed state many times in a short while) and may change again.",
)

_ADVICE: Final[dict[str, Words]] = {
    "near": (
        "Đề nghị kiểm tra: dây mạng, bộ chuyển mạch và cổng mạng (gateway) của phòng máy đặt trạm đo.",
        "Please check: cable, switch and gateway of the room in which the monitor stands.",
    ),
    "far": (
        "Đề nghị kiểm tra: đường truyền Internet của đơn vị; liên hệ nhà mạng nếu thiết bị tại chỗ bình thường.",
        "Please check: the site's Internet line; call the carrier if the equipment on site is well.",
    ),
}
_ADVICE_HOST: Final[Words] = (
    "Đề nghị kiểm tra máy chạy phần mềm giám sát: card mạng, DNS, đồng hồ, tải của máy.",
    "Please check the host the monitor runs on: network card, DNS, clock, load.",
)


def _are(clause: str) -> str:
    """Turn `is down` into `are down`, behind a number of services."""
    return "are" + clause.removeprefix("is")


def _own_advice(cause: str) -> Words:
    return _ADVICE.get(cause, _ADVICE_HOST)


def _plain(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return tuple((one_line(line, 400), "") for line in lines)
