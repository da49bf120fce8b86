"""TLS: does the handshake succeed, and how long is the server's certificate still good?

Nothing is sent after the handshake. A certificate that is expired, untrusted or for another name is read all the
same, and then refused. Source: RFC 8446 section 2, RFC 9525 section 6, RFC 7301 (ALPN).
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from probes.base import Fault, Host, IpFamily, Measurement, Port, ProbeError, ProbeType, Value
from probes.tls_context import TLS_FACTS, TLS_VALUES, TlsHandshake, TlsSettings, open_tls_wire

Alpn = Annotated[str, Field(min_length=1, max_length=50, pattern=r"^[!-~]+$")]


class Settings(TlsSettings):
    """What a TLS server needs."""

    watches_certificate: ClassVar[bool] = True

    host: Host = Field(description="Name or IP address")
    port: Port = Field(default=443, description="TCP port on which TLS begins with the first byte")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family: any, ip4 or ip6")
    alpn: tuple[Alpn, ...] = Field(
        default=(), max_length=16, description="Protocols to offer (h2, http/1.1, imap, …); one must be chosen"
    )

    @model_validator(mode="after")
    def _certificate_is_seen(self) -> Settings:
        if self.tls_handshake is TlsHandshake.RESUME:
            raise ValueError("a tls check is there for the certificate, which a resumed handshake does not show")
        return self


async def run(s: Settings, m: Measurement) -> None:
    """Connect, shake hands, look at the certificate and close.

    Raises:
        ProbeError: TLS with the reason in plain words; CONTENT when the certificate ends too soon or no offered
            protocol was chosen; see also `probes.net.connect`.
        OSError: the connection failed.
    """
    async with open_tls_wire(m, s, s.host, s.port, family=s.family, alpn=s.alpn) as stream:
        session = stream.ssl_object
        chosen = session.selected_alpn_protocol() if session else None
    if chosen:
        m.fact("alpn", chosen)
    elif s.alpn:
        raise ProbeError(Fault.CONTENT, f"the server chose no protocol by ALPN, expected one of {', '.join(s.alpn)}")


PROBE = ProbeType(
    kind="tls",
    summary="TLS handshake and certificate: dates, names, issuer, version",
    settings=Settings,
    run=run,
    values=TLS_VALUES,
    facts=(
        Value("address", "Address that was connected to"),
        *TLS_FACTS,
        Value("alpn", "Protocol chosen by ALPN"),
    ),
)
