"""TLS as a module's tls_config wants it, and what is noted of a session.

A refused certificate ends the probe without a word on its dates, as Go's handshake does; with `compat: fixed` it is
read over a second connection. Source: crypto/tls of Go, tls_config of prometheus/common.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final, NamedTuple

from probes.base import Fault, Measurement, ProbeError
from probes.blackbox.certificate import read_leaf, suite_name
from probes.blackbox.modules import TlsConfig
from probes.blackbox.task import Task, keep
from probes.net import Stream
from probes.tls_context import alert_words, server_name

CONTEXTS_KEPT: Final = 256
YEAR_ONE: Final = -62135596800.0  # Unix time of Go's zero time: what it says of a chain that nobody verified
SECOND_LOOK_S: Final = 2.0
_VERSIONS: Final = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
_SAID: Final = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}

Again = Callable[[], AbstractAsyncContextManager[Stream]]
_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class Contexts:
    """SSL contexts by what they were made from; a changed file makes a new one."""

    _made: dict[str, tuple[tuple[_Stamp, ...], ssl.SSLContext]] = field(default_factory=dict)

    async def get(self, config: TlsConfig, alpn: Sequence[str]) -> ssl.SSLContext:
        """Return the context for a configuration.

        Raises:
            ProbeError: LOCAL when its files cannot be used.
        """
        return await asyncio.to_thread(self._get, config, tuple(alpn))

    def _get(self, config: TlsConfig, alpn: tuple[str, ...]) -> ssl.SSLContext:
        key = repr((config.model_dump(), config.key and config.key.get_secret_value(), alpn))
        try:
            stamps = tuple(map(_stamp, filter(None, (config.ca_file, config.cert_file, config.key_file))))
            found = self._made.get(key)
            if found is None or found[0] != stamps:
                found = stamps, _make(config, alpn)
                if len(self._made) >= CONTEXTS_KEPT:
                    self._made.clear()
                self._made[key] = found
        except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
            raise ProbeError(Fault.LOCAL, f"tls_config cannot be used: {exc}") from exc
        return found[1]


def _stamp(file: FilePath) -> _Stamp:
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _make(config: TlsConfig, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    oldest = _VERSIONS[config.min_version or "TLS12"]
    if oldest < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL refuses the old versions otherwise
    with contextlib.suppress(ValueError):
        context.minimum_version = oldest
    if config.max_version is not None:
        context.maximum_version = _VERSIONS[config.max_version]
    if alpn:
        context.set_alpn_protocols(list(alpn))
    # Go trusts whatever stands in the file, an intermediate or the server's own certificate too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif config.ca is not None or config.ca_file is not None:
        context.load_verify_locations(cafile=config.ca_file, cadata=config.ca)
    else:
        context.load_default_certs()
    _show_ourselves(context, config)
    return context


def _show_ourselves(context: ssl.SSLContext, config: TlsConfig) -> None:
    if config.cert_file is not None and config.key_file is not None:
        context.load_cert_chain(config.cert_file, config.key_file)
    elif config.cert is not None or config.cert_file is not None:
        # The ssl module takes files only; this one is readable by us alone and gone at once.
        cert = config.cert if config.cert is not None else FilePath(str(config.cert_file)).read_text("utf-8")
        key = config.key.get_secret_value() if config.key is not None else FilePath(str(config.key_file)).read_text()
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            both.write(f"{cert}\n{key}\n")
            both.flush()
            context.load_cert_chain(both.name)


class Wish(NamedTuple):
    """What a handshake is to be like."""

    config: TlsConfig
    host: str  # the name to verify unless the configuration has its own
    again: Again | None = None  # opens such a connection once more, for reading a refused certificate
    alpn: tuple[str, ...] = ()  # protocols to offer, best first


async def secure(task: Task, m: Measurement, stream: Stream, wish: Wish) -> None:
    """Shake hands on a plain connection and note what the server shows.

    Raises:
        ProbeError: TLS with the reason; LOCAL when files cannot be used.
    """
    config = wish.config
    context = await m.tools.of(Contexts).get(config, wish.alpn)
    wanted = config.server_name or wish.host
    if not wanted and not config.insecure_skip_verify:
        raise task.fail("TLS needs server_name or insecure_skip_verify")
    try:
        await stream.start_tls(m, context, server_name(wanted) if wanted else "")
    except (ssl.SSLError, ConnectionError) as exc:
        words = exc.verify_message if isinstance(exc, ssl.SSLCertVerificationError) else alert_words(exc, wanted)
        task.say("TLS handshake failed", "error", err=words, server_name=wanted)
        if task.fixed and wish.again is not None and isinstance(exc, ssl.SSLCertVerificationError):
            await _second_look(m, config, wanted, wish.again)
        raise ProbeError(Fault.TLS, words) from exc
    task.say("TLS handshake succeeded", server_name=wanted)
    _note(m, stream, verified=not config.insecure_skip_verify, fixed=task.fixed)


async def _second_look(m: Measurement, config: TlsConfig, name: str, again: Again) -> None:
    trusting = config.model_copy(update={"insecure_skip_verify": True, "ca": None, "ca_file": None})
    context = await m.tools.of(Contexts).get(trusting, ())
    try:
        async with asyncio.timeout(SECOND_LOOK_S), again() as stream:
            second = Measurement(timeout_s=SECOND_LOOK_S)
            await stream.start_tls(second, context, server_name(name) if name else "")
            ends = [read_leaf(der).not_after for der in _shown(stream)]
            m.values["ssl_earliest_cert_expiry"] = min(ends)
    except (OSError, ProbeError):  # TimeoutError is an OSError; the first refusal is the one to tell
        return


def forget(m: Measurement) -> None:
    """Drop what an earlier connection of the same probe showed."""
    for name in ("ssl_earliest_cert_expiry", "ssl_last_chain_expiry_timestamp_seconds"):
        m.values.pop(name, None)
    for name in [name for name in m.facts if name.startswith(("chain:", "tls_"))]:
        del m.facts[name]


def _note(m: Measurement, stream: Stream, *, verified: bool, fixed: bool) -> None:
    session = stream.ssl_object
    assert session is not None
    shown = [read_leaf(der) for der in _shown(stream)]
    m.values["ssl_earliest_cert_expiry"] = min(leaf.not_after for leaf in shown)
    if verified:
        chain = [read_leaf(der) for der in _chain(session, "get_verified_chain")]
        m.values["ssl_last_chain_expiry_timestamp_seconds"] = min(leaf.not_after for leaf in chain)
    elif not fixed:
        m.values["ssl_last_chain_expiry_timestamp_seconds"] = YEAR_ONE
    for label in ("fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber"):
        keep(m, f"chain:{label}", getattr(shown[0], label))
    keep(m, "tls_version", _SAID.get(session.version() or "", "unknown"))
    keep(m, "tls_cipher", suite_name((session.cipher() or ("",))[0]))


def _shown(stream: Stream) -> list[bytes]:
    """Return the certificates that the server sent, its own first."""
    session = stream.ssl_object
    leaf = session.getpeercert(binary_form=True) if session else None
    if session is None or not leaf:
        raise ProbeError(Fault.TLS, "the server showed no certificate")
    return _chain(session, "get_unverified_chain") or [leaf]


def _chain(session: ssl.SSLObject, method: str) -> list[bytes]:
    # Public since Python 3.13; before that only the object underneath has it (CPython issue 62433).
    source: Any = session if hasattr(session, method) else getattr(session, "_sslobj", None)
    found = getattr(source, method)() if hasattr(source, method) else []
    return [c if isinstance(c, bytes) else ssl.PEM_cert_to_DER_cert(c.public_bytes()) for c in found or []]
