"""Name servers for tests: what the zone says, and what they make of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from probes.base import Fault, Path, ProbeError, Reading
from probes.dns import PROBE
from tests.probes.probing import run_probe
from tests.servers import Address, byte_server, datagram_server

Reply = Callable[[dns.message.Message], dns.message.Message | bytes | None]

ZONE = {
    ("langson.gov.vn.", "A"): "192.0.2.10 192.0.2.11",
    ("langson.gov.vn.", "AAAA"): "2001:db8::10",
    ("langson.gov.vn.", "MX"): "10 mail.langson.gov.vn.",
    ("langson.gov.vn.", "SOA"): "ns1.langson.gov.vn. quantri.langson.gov.vn. 2027010105 3600 600 86400 300",
    ("langson.gov.vn.", "TXT"): '"v=spf1 -all"',
}


def answered(query: dns.message.Message) -> dns.message.Message:
    """Answer as a small name server of the zone does."""
    reply = dns.message.make_response(query, recursion_available=True)
    name, kind = str(query.question[0].name), query.question[0].rdtype.name
    if not name.endswith("langson.gov.vn."):
        reply.set_rcode(dns.rcode.REFUSED)
    elif name == "www.langson.gov.vn.":
        reply.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "langson.gov.vn."))
        if kind == "A":
            reply.answer.append(dns.rrset.from_text("langson.gov.vn.", 300, "IN", "A", "192.0.2.10"))
    elif name != "langson.gov.vn.":
        reply.set_rcode(dns.rcode.NXDOMAIN)
        soa = ZONE[("langson.gov.vn.", "SOA")]
        reply.authority.append(dns.rrset.from_text("langson.gov.vn.", 300, "IN", "SOA", soa))
    elif (data := ZONE.get((name, kind))) is not None:
        texts = data.split() if kind == "A" else [data]
        reply.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *texts))
        reply.flags |= dns.flags.AA
    return reply


def wire(made: dns.message.Message | bytes | None) -> bytes | None:
    return made.to_wire() if isinstance(made, dns.message.Message) else made


@contextlib.asynccontextmanager
async def name_server(
    udp: Reply = answered, tcp: Reply | None = answered, *, host: str = "127.0.0.1"
) -> AsyncIterator[Address]:
    """Serve by UDP and TCP on one port."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        made = wire(tcp(dns.message.from_wire(await reader.readexactly(size)))) if tcp else None
        if made is not None:
            writer.write(len(made).to_bytes(2, "big") + made)
            await writer.drain()

    async with (
        byte_server(handler, host=host) as address,
        datagram_server(lambda data: wire(udp(dns.message.from_wire(data))), host=host, port=address.port),
    ):
        yield address


async def ask(server: Address, *, timeout_s: float = 3.0, path: Path | None = None, **settings: object) -> Reading:
    given_ = {"server": server.host, "port": server.port, "name": "langson.gov.vn", **settings}
    return await run_probe(PROBE, timeout_s=timeout_s, path=path, **given_)  # type: ignore[arg-type]


@contextlib.contextmanager
def udp_socket(hear: Callable[[socket.socket, bytes, tuple[str, int]], object], port: int = 0) -> Iterator[Address]:
    """Hand every datagram to `hear` with the socket and the sender, to answer as often as it wants."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", port))
        loop.add_reader(sock, lambda: hear(sock, *sock.recvfrom(4096)))
        yield Address(*sock.getsockname())
        loop.remove_reader(sock)


def edited(change: Callable[[dns.message.Message], None]) -> Reply:
    def reply(query: dns.message.Message) -> dns.message.Message:
        made = answered(query)
        change(made)
        return made

    return reply


@contextlib.contextmanager
def only_protocol_faults() -> Iterator[None]:
    try:
        yield
    except ProbeError as exc:
        if exc.fault is not Fault.PROTOCOL:
            raise
