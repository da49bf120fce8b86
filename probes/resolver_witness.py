"""Whose fault a SERVFAIL is: that of the name's own servers, or of our resolver?

A resolver that has lost its own way to the world says SERVFAIL as well, and goes on answering from its cache. So its
answers for other names prove nothing, unless they are fresh: a time to live that went up since we last saw it shows
that the resolver went and asked. A name is called broken only when another one was fetched afresh since it began
to fail.

Source: RFC 1035 section 3.2.1 (TTL counts down in a cache), RFC 8914 section 1 (what SERVFAIL may mean).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

_T = TypeVar("_T")

NAMES: Final = 4096  # chosen: enough witnesses, and as many failing names; the oldest goes first
SLACK_S: Final = 2.0  # chosen: rounding of times to live to whole seconds, on both sides


class _Seen(NamedTuple):
    expires_s: float
    longest_ttl_s: float


class Witness:
    """What fresh answers of a resolver prove. Times are those of one monotonic clock, handed in."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._failing_since: dict[str, float] = {}
        self._fetched_s = float("-inf")  # when the resolver last got something new from the world, as far as is proved

    def answered(self, name: str, ttl_s: float, now_s: float, *, authoritative: bool) -> None:
        """Note an answer; one of the resolver's own data (`authoritative`) proves nothing."""
        self._failing_since.pop(name, None)
        if authoritative:
            return
        before = self._seen.pop(name, None)
        longest_s = max(ttl_s, before.longest_ttl_s) if before else ttl_s
        if before and now_s + ttl_s > before.expires_s + SLACK_S:
            self._fetched_s = max(self._fetched_s, now_s - (longest_s - ttl_s) - 1.0)
        _put(self._seen, name, _Seen(now_s + ttl_s, longest_s))

    def failed(self, name: str, now_s: float) -> bool:
        """Note a SERVFAIL; return whether it is the name's own trouble, as far as is proved."""
        since_s = self._failing_since.get(name)
        if since_s is None:
            _put(self._failing_since, name, now_s)
            return False
        return self._fetched_s > since_s


def _put(book: dict[str, _T], name: str, what: _T) -> None:
    if len(book) >= NAMES:
        del book[next(iter(book))]
    book[name] = what
