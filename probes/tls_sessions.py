"""TLS sessions that checks resume: one for each place a check connects to, until it is refused or its hour is over.

A resumed handshake proves that the server still holds the keys of an earlier one; it shows no certificate and verifies
none. So what the last full handshake showed is kept with the session. No protocol lives here.
Source: RFC 8446 sections 2.2 and 4.6.1, RFC 5077.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from probes.base import Fault, Measurement, ProbeError, utc_now
from probes.certificates import Certificate, earliest_end, read_certificate

FULL_EVERY_S: Final = 3600.0  # a certificate that was exchanged is noticed within that; RFC 8446 allows seven days
CHECKS_KEPT: Final = 2048  # chosen: a session holds some 12 kB; whoever comes after shakes hands in full
PLACES_KEPT: Final = 8  # of one check: addresses of its name, and hosts it is redirected to


class Place(NamedTuple):
    """Where a session may be offered again; with a certificate that was verified for exactly this."""

    path: str  # id of the uplink; empty for the system's own route
    peer: tuple[Any, ...]  # address and port of the connection
    name: str  # that was asked for and verified
    alpn: tuple[str, ...]


@dataclass(slots=True)
class Seen:
    """A place where a full handshake was made."""

    context: ssl.SSLContext  # a session belongs to the one that made it; another one may trust less
    session: ssl.SSLSession | None  # None where the server gives none that it takes back
    chain: Sequence[Certificate]
    until_s: float  # by the loop's clock
    resumed: int = 0  # times
    run: Measurement | None = None  # that it was offered in, until it is known to have ended well

    def fresh(self, context: ssl.SSLContext, now_s: float) -> bool:
        """Whether what was seen still stands for this context at a moment of the loop's clock."""
        return self.context is context and now_s < self.until_s

    def usable(self, m: Measurement, now: datetime) -> bool:
        """Whether the session may be offered in a run: in date, and no run that it was offered in ended badly."""
        return self.session is not None and now < earliest_end(self.chain) and (self.run is None or self.run is m)


class Sessions:
    """What was seen, by check and place. Get the one of a daemon by `Tools.of(Sessions)`."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[Place, Seen]] = {}

    def at(self, check: str, place: Place) -> Seen | None:
        """Return what was seen at a place by a check."""
        return self._seen.get(check, {}).get(place)

    def keep(self, check: str, place: Place, seen: Seen) -> None:
        """Keep what a full handshake showed; of too many the oldest is dropped."""
        places = self._seen.setdefault(check, {})
        while len(self._seen) > CHECKS_KEPT:
            del self._seen[next(iter(self._seen))]
        places.pop(place, None)
        while len(places) >= PLACES_KEPT:
            del places[next(iter(places))]
        places[place] = seen

    def forget(self, check: str) -> None:
        """Make the next handshakes of a check full ones: what it found may be another server's word."""
        self._seen.pop(check, None)


_offered: Final[ContextVar[ssl.SSLSession | None]] = ContextVar("offered", default=None)


class offering:  # noqa: N801  used as a block, as contextlib's are
    """The block in which connections of a `ResumingContext` begin with a session."""

    __slots__ = ("_session", "_token")

    def __init__(self, session: ssl.SSLSession | None) -> None:
        """Args: session: of the same context; None for a full handshake."""
        self._session = session

    def __enter__(self) -> Self:
        self._token = _offered.set(self._session)
        return self

    def __exit__(self, *_: object) -> None:
        _offered.reset(self._token)


class ResumingContext(ssl.SSLContext):
    """A context that takes the session from `offering`: asyncio's `start_tls` has no argument for one."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Do what `ssl.SSLContext` does, with the session offered."""
        offered = session or _offered.get()
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, offered)


def taken(tls: ssl.SSLObject) -> ssl.SSLSession | None:
    """Return the session of a connection that the server could resume; None when it gave none.

    With TLS 1.3 it comes after the handshake, so ask when an answer has been read. Reading it costs some 130 us.
    """
    session = tls.session
    if session is None or not (session.has_ticket or (session.id and tls.version() != "TLSv1.3")):
        return None
    return session


def lifetime_s(session: ssl.SSLSession | None) -> float:
    """Return how long a session is to be offered, in seconds; without one, how long to leave the server alone."""
    hint = session.ticket_lifetime_hint if session is not None else 0
    return min(FULL_EVERY_S, float(hint)) if hint else FULL_EVERY_S


def chain_of(session: ssl.SSLObject) -> list[Certificate]:
    """Return the verified chain, the server's own certificate first; that one alone when nothing was verified."""
    leaf = session.getpeercert(binary_form=True)
    if not leaf:
        raise ProbeError(Fault.TLS, "the server showed no certificate")
    chain = [read_certificate(leaf)]
    if session.context.verify_mode is not ssl.CERT_NONE:
        chain += [read_certificate(der) for der in _issuers(session)]
    return chain


_DER: Final = 2  # _ssl.ENCODING_DER


def _issuers(session: ssl.SSLObject) -> list[bytes]:
    # Public since Python 3.13; before that only the object underneath has it (CPython issue 62433).
    source: Any = session if hasattr(session, "get_verified_chain") else getattr(session, "_sslobj", None)
    found = source.get_verified_chain() if hasattr(source, "get_verified_chain") else []
    return [c if isinstance(c, bytes) else c.public_bytes(_DER) for c in found[1:]]


class Shaken:
    """A handshake that was made; whoever made it says when the connection has served well."""

    __slots__ = ("_context", "_had", "_m", "_place", "_tls", "chain", "resumed")

    def __init__(self, m: Measurement, context: ssl.SSLContext, place: Place | None) -> None:
        """Args: place: None when nothing may be resumed here."""
        self._m = m
        self._tls: ssl.SSLObject | None = None
        self._context = context
        self._place = place
        self._had: Seen | None = None  # what was seen here before, and still stands
        self.chain: Sequence[Certificate] = ()
        self.resumed = False

    def offer(self) -> ssl.SSLSession | None:
        """Return the session to begin with, if there is one."""
        if self._place is None:
            return None
        m = self._m
        had = m.tools.of(Sessions).at(m.check, self._place)
        if had is None or not had.fresh(self._context, asyncio.get_running_loop().time()):
            return None
        self._had = had
        if not had.usable(m, utc_now()):
            return None
        had.run = m
        return had.session

    def made(self, tls: ssl.SSLObject) -> None:
        """Take in how the handshake went, and whose certificate stands behind it."""
        self._tls, had = tls, self._had
        if had is not None and tls.session_reused:
            had.resumed += 1
            self.resumed = True
            self.chain = had.chain
        else:
            self.chain = chain_of(tls)

    def well(self) -> None:
        """Let the session be resumed by the next run; call it when the connection is at its end and all was well."""
        if self._place is None or self._tls is None:
            return
        m, had = self._m, self._had
        if self.resumed:
            assert had is not None
            had.run = None
            return
        if had is not None and not had.resumed and (had.session is None or had.run is m):
            # It gives no session, or does not take its own: none is read again before the hour is over.
            had.session, had.run, had.chain = None, None, self.chain
            return
        session = taken(self._tls)
        until_s = asyncio.get_running_loop().time() + lifetime_s(session)
        m.tools.of(Sessions).keep(m.check, self._place, Seen(self._context, session, self.chain, until_s))


def see_certificate_next(m: Measurement) -> None:
    """Make the check's next handshake a full one: what was found in this run is not well."""
    m.tools.of(Sessions).forget(m.check)
