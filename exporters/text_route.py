"""The way to what failed, in one sentence: where it stops, and what came next when it was whole. Pure."""

from __future__ import annotations

from datetime import tzinfo
from typing import Final

from config.plan import Language
from exporters.text import Words, local_time, pick
from monitor.traced import Moment, RouteTrace
from probes.base import one_line

MOMENTS: Final[dict[Moment, Words]] = {
    Moment.OPENED: ("khi sự cố bắt đầu", "when the incident began"),
    Moment.LATER: ("vài phút sau", "some minutes later"),
    Moment.RECOVERED: ("khi đã thông trở lại", "when it was over"),
}


def moment_word(moment: Moment, lang: Language = Language.VI) -> str:
    """Return when of an incident a trace was made."""
    return pick(MOMENTS[moment], lang)


def way_sentence(trace: RouteTrace, zone: tzinfo, lang: Language = Language.VI) -> str:
    """Return where the way to a host stops, or that it leads there, and what that is compared with."""
    host, last = one_line(trace.host), trace.last
    if trace.reached:
        count = len(trace.route)
        first = pick((f"Đường đi tới {host} thông, {count} trạm.", f"The way to {host} is whole, {count} hops."), lang)
    elif last is None:
        first = pick(
            (f"Trên đường đi tới {host} không trạm nào trả lời.", f"No hop on the way to {host} answers."), lang
        )
    else:
        number, address = last
        first = pick(
            (
                f"Đường đi tới {host} dừng ở trạm thứ {number} ({address}).",
                f"The way to {host} ends at hop {number} ({address}).",
            ),
            lang,
        )
    compared = _compared(trace, zone, lang)
    return f"{first} {compared}" if compared else first


def _compared(trace: RouteTrace, zone: tzinfo, lang: Language) -> str:
    if not trace.before or trace.before_at is None:
        return ""
    when = local_time(trace.before_at, zone)
    if trace.turned is not None:
        now, then = trace.route[trace.turned - 1], trace.before[trace.turned - 1]
        return pick(
            (
                f"Đường đi đã khác so với lúc bình thường ({when}) từ trạm thứ {trace.turned}: nay là {now}, trước là "
                f"{then}.",
                f"It is another way than when all was well ({when}) from hop {trace.turned} on: {now}, before {then}.",
            ),
            lang,
        )
    if trace.beyond:
        return pick(
            (
                f"Lúc bình thường ({when}) trạm kế tiếp là {trace.beyond}, cả đường có {len(trace.before)} trạm.",
                f"When all was well ({when}) the next hop was {trace.beyond}, {len(trace.before)} hops in all.",
            ),
            lang,
        )
    return ""


def hops_line(trace: RouteTrace) -> str:
    """Return the hops with their times, for those who know: `1 10.0.1.1 0.3 ms, 2 *`."""
    times = [*trace.times_ms, *([None] * len(trace.route))]
    hops = zip(trace.route, times, strict=False)
    return ", ".join(f"{n} {a}" + (f" {ms:.1f} ms" if ms is not None else "") for n, (a, ms) in enumerate(hops, 1))
