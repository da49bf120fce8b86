"""Figures with the approved corrections laid over what was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from monitor.availability import Outage, Segment
from monitor.corrections import Correction
from monitor.model import State


def laid_over(corrections: Iterable[Correction], *subjects: str) -> list[Segment]:
    """Return the spans of the approved corrections of some subjects, in the order in which they were approved."""
    counted = sorted((c for c in corrections if c.approved and c.subject in subjects), key=lambda c: c.decision_no)
    return [Segment(c.window.start, c.window.end, c.state) for c in counted]


def adjusted_outages(segments: Sequence[Segment], measured: Sequence[Outage]) -> list[Outage]:
    """List the spans of being down of a corrected timeline.

    An edge that was measured keeps its doubt; one that a correction made is as sharp as the correction.
    """
    found: list[Outage] = []
    for segment in segments:
        if segment.state is not State.DOWN:
            continue
        hit = next((o for o in measured if o.start < segment.end and o.end > segment.start), None)
        begins = next((o for o in measured if o.start == segment.start), None)
        ends = next((o for o in measured if o.end == segment.end), None)
        earliest_end = max(ends.earliest_end, segment.start) if ends else segment.end
        found.append(
            Outage(
                start=segment.start,
                end=segment.end,
                earliest_start=begins.earliest_start if begins else segment.start,
                earliest_end=earliest_end,
                open_start=begins.open_start if begins else False,
                open_end=ends.open_end if ends else False,
                fault=hit.fault if hit else "",
                detail=hit.detail if hit else "",
            )
        )
    return found
