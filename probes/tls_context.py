"""TLS for every probe that speaks it: settings, contexts, and a handshake that says what was wrong.

A refused certificate is read all the same, over a second connection that trusts anything and sends nothing, so
that its dates are known. No protocol lives here.
Source: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 9525 (names).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Protocol, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from probes.base import Fault, IpFamily, Measurement, ProbeError, ProbeSettings, Value, one_line, utc_now
from probes.certificates import Certificate, earliest_end, refusal
from probes.net import Stream, open_stream
from probes.tls_sessions import Place, ResumingContext, Shaken, chain_of, offering
from probes.wire import Wire, open_wire

CONTEXTS_KEPT: Final = 256  # chosen: different settings in one configuration; beyond it the oldest is made anew
STAMP_KEPT_S: Final = 1.0  # how long a look at a file's date is good for; a thread for each probe costs more
SECOND_LOOK_SHARE: Final = 0.5  # of the time left: the reason must be told before the deadline hides it


class TlsVersion(StrEnum):
    """Versions of TLS that can be asked for."""

    V1_0 = "1.0"
    V1_1 = "1.1"
    V1_2 = "1.2"
    V1_3 = "1.3"

    @property
    def wire(self) -> ssl.TLSVersion:
        """The ssl module's constant."""
        return ssl.TLSVersion[f"TLSv{self.value.replace('.', '_').removesuffix('_0')}"]


class TlsHandshake(StrEnum):
    """How a check's connections begin."""

    AUTO = "auto"
    FULL = "full"
    RESUME = "resume"


def _version_word(value: object) -> object:
    # YAML reads an unquoted 1.2 as a number; there is no doubt about what was meant.
    return str(value) if isinstance(value, float) else value


class TlsSettings(ProbeSettings):
    """How far a server's TLS is trusted; a mixin for probes that speak it."""

    watches_certificate: ClassVar[bool] = False  # whether the kind of probe is there for the certificate

    verify: bool = Field(default=True, description="Whether the certificate must be trusted, in date and for the name")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of the authorities to trust, instead of the system's"
    )
    min_version: Annotated[TlsVersion, BeforeValidator(_version_word)] = Field(
        default=TlsVersion.V1_2, description="Oldest version of TLS to accept: 1.0, 1.1, 1.2 or 1.3"
    )
    server_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=r"^[^\s/]+$",
        description="Name to ask for and to verify, when it is not the host",
    )
    min_days_left: int | None = Field(
        default=None, ge=0, le=3650, description="Days the certificate must still be valid; fewer is a content fault"
    )

    tls_handshake: TlsHandshake = Field(
        default=TlsHandshake.AUTO,
        description="full: every run sees the certificate. resume: a session is resumed, at less cost to both sides, "
        "and the certificate seen at least every hour and after a failure. auto: full where the certificate is "
        "watched (kind tls, min_days_left), otherwise resume",
    )

    @property
    def resumes(self) -> bool:
        """Whether a run may resume the session of an earlier one."""
        if self.tls_handshake is TlsHandshake.AUTO:
            return self.min_days_left is None and not self.watches_certificate
        return self.tls_handshake is TlsHandshake.RESUME

    @model_validator(mode="after")
    def _authorities_have_a_use(self) -> TlsSettings:
        if self.ca_file is not None and not self.verify:
            raise ValueError("ca_file has no use with verify: false; leave one of them out")
        return self


TLS_VALUES: Final = (
    Value("tls_not_after_timestamp_s", "When the first certificate of the server's chain ends, Unix time"),
    Value("tls_not_before_timestamp_s", "From when the server's certificate is valid, Unix time"),
)
TLS_FACTS: Final = (
    Value("tls_version", "Version of TLS that was agreed on"),
    Value("tls_cipher", "Cipher suite that was agreed on"),
    Value("tls_handshake", "full, or resumed: then what is said of the certificate is from the last full handshake"),
    Value("certificate_subject", "Whom the server's certificate names (RFC 4514)"),
    Value("certificate_issuer", "Who signed the server's certificate (RFC 4514)"),
    Value("certificate_names", "Host names and addresses the certificate is for, the first ones of many"),
    Value("certificate_sha256", "Fingerprint of the server's certificate"),
)


class _Wanted(NamedTuple):
    """What a context is made from."""

    ca_file: FilePath | None
    verify: bool
    min_version: TlsVersion
    alpn: tuple[str, ...]
    stamp: tuple[int, int, int] = (0, 0, 0)  # of ca_file: inode, size, modified (ns)


class Contexts:
    """SSL contexts by what they were made from; a changed file of authorities makes a new one."""

    def __init__(self, stamp_kept_s: float = STAMP_KEPT_S) -> None:
        """Args: stamp_kept_s: how long one look at a file's date is good for, in seconds."""
        self._stamp_kept_s = stamp_kept_s
        self._made: dict[_Wanted, ssl.SSLContext] = {}
        self._stamps: dict[FilePath, tuple[float, tuple[int, int, int]]] = {}  # when looked at, and what was seen

    async def get(
        self, settings: TlsSettings, alpn: Sequence[str] = (), *, verify: bool | None = None
    ) -> ssl.SSLContext:
        """Return the context for these settings; `verify` overrides theirs.

        Raises:
            ProbeError: LOCAL when the file of authorities cannot be used.
        """
        checked = settings.verify if verify is None else verify
        wanted = _Wanted(settings.ca_file if checked else None, checked, settings.min_version, tuple(alpn))
        if wanted.ca_file is not None:
            wanted = wanted._replace(stamp=await self._stamp(wanted.ca_file))
        context = self._made.get(wanted)
        if context is None:
            context = await asyncio.to_thread(_make, wanted)
            while len(self._made) >= CONTEXTS_KEPT:
                del self._made[next(iter(self._made))]
            self._made[wanted] = context
        return context

    async def _stamp(self, file: FilePath) -> tuple[int, int, int]:
        now = asyncio.get_running_loop().time()
        seen = self._stamps.get(file)
        if seen is None or now - seen[0] >= self._stamp_kept_s:
            try:
                found = await asyncio.to_thread(file.stat)
            except OSError as exc:
                self._stamps.pop(file, None)
                raise ProbeError(Fault.LOCAL, f"ca_file {file} cannot be read: {exc.strerror}") from exc
            seen = self._stamps[file] = now, (found.st_ino, found.st_size, found.st_mtime_ns)
        return seen[1]


def _make(wanted: _Wanted) -> ssl.SSLContext:
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    _allow_from(context, wanted.min_version)
    if wanted.alpn:
        context.set_alpn_protocols(list(wanted.alpn))
    if not wanted.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif wanted.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(wanted.ca_file)
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError: no certificate in the file
            raise ProbeError(Fault.LOCAL, f"ca_file {wanted.ca_file} holds no usable certificate") from exc
    return context


def _allow_from(context: ssl.SSLContext, version: TlsVersion) -> None:
    if version >= TlsVersion.V1_2:
        context.minimum_version = version.wire
        return
    # OpenSSL 3 takes part in TLS 1.0 and 1.1 only at its lowest security level. Naming those versions makes the
    # ssl module warn; "all you support" does not, and `handshake` looks at what was agreed on.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED


async def context_for(m: Measurement, settings: TlsSettings, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return the client context that these settings ask for, shared between probes.

    Raises:
        ProbeError: LOCAL when the file of authorities cannot be used.
    """
    return await m.tools.of(Contexts).get(settings, alpn)


class Plain(Protocol):
    """A connection that TLS can begin on: a `probes.net.Stream` or a `probes.wire.Wire`."""

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """The TLS session, once there is one."""

    @property
    def peer(self) -> tuple[Any, ...]:
        """Address and port of the other side."""

    async def start_tls(self, m: Measurement, context: ssl.SSLContext, server_name: str) -> None:
        """Turn it into TLS, timed as phase `tls`."""


# Opens another connection, up to the point where TLS would begin, with a measurement of its own.
Again = Callable[[Measurement], AbstractAsyncContextManager[Plain]]


async def handshake(
    m: Measurement, stream: Plain, settings: TlsSettings, host: str, again: Again, alpn: Sequence[str] = ()
) -> Shaken:
    """Turn a plain stream into verified TLS, timed as phase `tls`, and keep what the certificate says.

    Where the settings allow it, the session of an earlier run of the same check is resumed; call `Shaken.well` at the
    end, or the next handshake is a full one.

    Fills `TLS_VALUES` and `TLS_FACTS` also when the certificate is refused: it is then read over a second
    connection from `again`, whose times are not counted.

    Args:
        m: where values and facts go.
        stream: a plain connection at the point where TLS begins.
        settings: what to accept.
        host: the name to verify unless the settings have their own.
        again: opens such a connection once more, for reading a refused certificate.
        alpn: protocols to offer, best first.

    Raises:
        ProbeError: TLS with the reason in plain words; CONTENT when fewer days are left than `min_days_left`;
            PROTOCOL for text ahead of the handshake; LOCAL when the file of authorities cannot be used.
    """
    name = server_name(settings.server_name or host)
    _forget(m)
    context = await context_for(m, settings, alpn)
    shaken = Shaken(m, context, _place(m, stream, settings, name, alpn))
    try:
        with offering(shaken.offer()):
            await stream.start_tls(m, context, name)
    except (ssl.SSLError, ConnectionError) as exc:
        raise await _explained(m, settings, name, again, exc) from exc
    tls = stream.ssl_object
    assert tls is not None
    shaken.made(tls)
    _note(m, tls, shaken.chain)
    m.facts["tls_handshake"] = "resumed" if shaken.resumed else "full"
    if problem := _too_old(m, settings):
        raise ProbeError(Fault.TLS, problem)
    _require_days_left(settings, shaken.chain)
    return shaken


def _place(m: Measurement, stream: Plain, settings: TlsSettings, name: str, alpn: Sequence[str]) -> Place | None:
    # Only a check comes back; whoever asks once wants to see all.
    if not m.check or not settings.resumes:
        return None
    return Place(m.path.id if m.path else "", stream.peer, name, tuple(alpn))


def open_tls(
    m: Measurement,
    settings: TlsSettings,
    host: str,
    port: int,
    *,
    family: IpFamily = IpFamily.ANY,
    alpn: Sequence[str] = (),
) -> AbstractAsyncContextManager[Stream]:
    """Connect with TLS from the first byte, as `handshake` does it; closes the connection at the end.

    Raises:
        ProbeError: see `handshake` and `probes.net.connect`.
        OSError: see `probes.net.connect`.
    """

    def connected(m: Measurement, host: str) -> AbstractAsyncContextManager[Stream]:
        return open_stream(m, host, port, family=family)

    return _secured(m, settings, host, connected, alpn)


def open_tls_wire(
    m: Measurement,
    settings: TlsSettings,
    host: str,
    port: int,
    *,
    family: IpFamily = IpFamily.ANY,
    alpn: Sequence[str] = (),
) -> AbstractAsyncContextManager[Wire]:
    """Do what `open_tls` does, over a connection that costs less and reads no lines.

    Raises:
        ProbeError: see `handshake` and `probes.net.connect`.
        OSError: see `probes.net.connect`.
    """

    def connected(m: Measurement, host: str) -> AbstractAsyncContextManager[Wire]:
        return open_wire(m, host, port, family=family)

    return _secured(m, settings, host, connected, alpn)


P = TypeVar("P", bound=Plain)


@asynccontextmanager
async def _secured(
    m: Measurement,
    settings: TlsSettings,
    host: str,
    connected: Callable[[Measurement, str], AbstractAsyncContextManager[P]],
    alpn: Sequence[str],
) -> AsyncIterator[P]:
    def again(second: Measurement) -> AbstractAsyncContextManager[P]:
        # The address that answered first: another one of the same name may show another certificate.
        return connected(second, m.facts.get("address", host))

    # Made before connecting: a thread's time between connect and handshake would be the server's in the figures.
    await context_for(m, settings, alpn)
    async with connected(m, host) as stream:
        try:
            shaken = await handshake(m, stream, settings, host, again, alpn)
        except ProbeError as exc:
            if exc.fault is Fault.PROTOCOL:  # a greeting in plain text came before we said a word
                raise ProbeError(Fault.TLS, NO_TLS_HERE) from exc
            raise
        yield stream
        shaken.well()


@lru_cache(maxsize=4096)  # the same names at every slot; the codec costs some 10 us
def server_name(host: str) -> str:
    """Return a host as TLS wants it: ASCII, without brackets, zone or closing dot.

    Raises:
        ProbeError: NAME when it cannot be a host name.
    """
    bare = host.strip("[]").split("%", 1)[0].rstrip(".")
    try:
        name = bare if ":" in bare else bare.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise ProbeError(Fault.NAME, f"{host} is not a valid host name") from exc
    if not name or name.startswith(".") or "\0" in name:
        raise ProbeError(Fault.NAME, f"{host} is not a valid host name")
    return name


# OpenSSL's reasons that say: no version, cipher or key size suits both sides.
_NO_COMMON_GROUND: Final = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY",
        "DH_KEY_TOO_SMALL",
        "EE_KEY_TOO_SMALL",
        "WRONG_SIGNATURE_TYPE",
        "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED",
        "INTERNAL_ERROR",
    }
)
NO_TLS_HERE: Final = "the server does not speak TLS on this port"
_NOT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "PACKET_LENGTH_TOO_LONG"})


async def _explained(m: Measurement, settings: TlsSettings, name: str, again: Again, exc: OSError) -> ProbeError:
    """Say why a handshake failed, after a second look where that can tell more."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        leaf = await _second_look(m, settings, name, again)
        return ProbeError(Fault.TLS, refusal(exc.verify_code, exc.verify_message, name, leaf))
    reason = _reason(exc)
    if reason in _NOT_TLS:
        return ProbeError(Fault.TLS, NO_TLS_HERE)
    # Servers that share no version or cipher with us say so, or just hang up.
    hung_up = isinstance(exc, ConnectionError | ssl.SSLEOFError | ssl.SSLZeroReturnError)
    if hung_up or reason in _NO_COMMON_GROUND:
        await _second_look(m, settings, name, again)
        if problem := _too_old(m, settings):
            return ProbeError(Fault.TLS, problem)
    if hung_up:
        return ProbeError(Fault.TLS, "the server closed the connection during the TLS handshake")
    return ProbeError(Fault.TLS, alert_words(exc, name))


_ALERTS: Final = {
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refused the handshake: no version, cipher or certificate suits both",
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": "the server refused the handshake: it wants stronger ciphers",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server refused the handshake: no version of TLS suits both",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server wants a certificate of its client",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "the server speaks none of the protocols offered by ALPN",
}


def alert_words(exc: OSError, name: str = "") -> str:
    """Say in plain words what went wrong inside TLS, for a failed handshake or an alert that came later.

    Args:
        exc: the error, usually an ssl.SSLError.
        name: the name that was asked for, when known.
    """
    reason = _reason(exc)
    if reason.endswith("UNRECOGNIZED_NAME"):
        return f"the server has no certificate for {name or 'the name asked for'}"
    words = reason.replace("_", " ").lower() or exc.strerror or str(exc)
    return _ALERTS.get(reason, f"TLS failed: {words}")


def _reason(exc: OSError) -> str:
    if not isinstance(exc, ssl.SSLError):
        return ""
    # Python knows the names of some reasons only; OpenSSL's words are in the message: "[SSL] words (_ssl.c:1006)".
    words = str(exc.strerror or exc).rpartition("]")[2].partition("(_ssl")[0]
    return exc.reason or "_".join(words.upper().split())


def _too_old(m: Measurement, settings: TlsSettings) -> str:
    offered = m.facts.get("tls_version", "").removeprefix("TLSv")
    offered = f"{offered}.0" if offered == "1" else offered
    if not offered or offered >= settings.min_version:
        return ""
    return f"server offers TLS {offered}, at least {settings.min_version} is wanted"


async def _second_look(m: Measurement, settings: TlsSettings, name: str, again: Again) -> Certificate | None:
    """Connect once more, trusting anything, only to read what the server shows; None when that fails."""
    left_s = max(0.0, m.timeout_s - sum(m.phases.values()))
    second = Measurement(timeout_s=m.timeout_s, path=m.path, tools=m.tools)
    trusting = settings.model_copy(update={"verify": False, "min_version": TlsVersion.V1_0})
    try:
        async with asyncio.timeout(left_s * SECOND_LOOK_SHARE), again(second) as stream:
            await stream.start_tls(second, await context_for(second, trusting), name)
            session = stream.ssl_object
            assert session is not None
            chain = chain_of(session)
            _note(m, session, chain)
            return chain[0]
    except (OSError, ProbeError):  # TimeoutError is an OSError; the first refusal is the one to tell
        return None


def _forget(m: Measurement) -> None:
    """Drop what an earlier connection of the same run showed, so that it is not taken for this one's."""
    for value in TLS_VALUES:
        m.values.pop(value.name, None)
    for fact in TLS_FACTS:
        m.facts.pop(fact.name, None)


def _note(m: Measurement, session: ssl.SSLObject, chain: Sequence[Certificate]) -> None:
    leaf = chain[0]
    m.values["tls_not_after_timestamp_s"] = earliest_end(chain).timestamp()
    m.values["tls_not_before_timestamp_s"] = leaf.not_before.timestamp()
    m.fact("tls_version", session.version() or "")
    m.fact("tls_cipher", (session.cipher() or ("",))[0])
    m.fact("certificate_subject", leaf.subject)
    m.fact("certificate_issuer", leaf.issuer)
    m.fact("certificate_names", leaf.shown_names())
    m.fact("certificate_sha256", leaf.sha256)


def _require_days_left(settings: TlsSettings, chain: Sequence[Certificate]) -> None:
    if settings.min_days_left is None:
        return
    # CONTENT, not TLS: clients are still served; TLS is kept for what turns them away.
    end = earliest_end(chain)
    left = end - utc_now()
    if left < timedelta(days=settings.min_days_left):
        days = left.total_seconds() / 86400
        raise ProbeError(
            Fault.CONTENT,
            one_line(
                f"certificate ends on {end:%Y-%m-%d}, in {days:.1f} days; at least {settings.min_days_left} wanted"
            ),
        )
