"""The fast tier of peaks: the same judge on short windows, with what the ordinary one has learned. Pure."""

from __future__ import annotations

from typing import Final

from monitor.judge.congestion import Judge

# What belongs to the windows and to what is under way; the rest (floor, noise, usual loss) is the path's own.
_OF_WINDOWS: Final = ("settings", "binner", "recent", "run", "before", "times", "open", "low", "suspected", "seconds")


def at_peak(judge: Judge) -> Judge:
    """Return a judge of the fast tier that knows the path as another does.

    It goes its own way from here on: the other one is not touched by what it finds or forgets.
    """
    anew = Judge(judge.settings.peak()).state()
    return Judge.from_state(judge.state() | {name: anew[name] for name in _OF_WINDOWS})
