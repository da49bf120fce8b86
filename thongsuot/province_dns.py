"""The demo province's name servers: authoritative zones over UDP and TCP.

What is in a zone is answered, what is not gets NXDOMAIN or an empty answer with the SOA; other names are refused.
Source: RFC 1035 section 4, RFC 2308 section 5, RFC 6891 section 6.2.3, RFC 7766 section 8.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.zone

from thongsuot.province_net import StreamListener

CLASSIC_UDP_BYTES: Final = 512  # RFC 1035 section 4.2.1: without EDNS
EDNS_UDP_BYTES: Final = 1232  # the size agreed on for the DNS flag day 2020: never fragments
PORT_TRIES: Final = 20


class Zones:
    """What a name server knows, and the answers that follow from it. Pure: no sockets."""

    def __init__(self, *texts: tuple[str, str], recursive: bool = False) -> None:
        """Args: texts: (origin, zone file). recursive: say that recursion is available, as a resolver does."""
        self._zones = [dns.zone.from_text(text, origin=origin, relativize=False) for origin, text in texts]
        self._recursive = recursive
        self.silent = False  # queries are taken and never answered, as by a server behind a broken link

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """Return the response to a query."""
        response = dns.message.make_response(query, recursion_available=self._recursive, our_payload=EDNS_UDP_BYTES)
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP if query.opcode() != dns.opcode.QUERY else dns.rcode.FORMERR)
            return response
        question = query.question[0]
        zone = self._zone_of(question.name)
        if zone is None or question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
            return response
        if not self._recursive:
            response.flags |= dns.flags.AA
        node = zone.get_node(question.name)
        found = node.get_rdataset(question.rdclass, question.rdtype) if node else None
        if found is not None:
            response.answer.append(dns.rrset.from_rdata_list(question.name, found.ttl, list(found)))
            return response
        if node is None and not _has_names_below(zone, question.name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        origin = zone.origin or dns.name.root
        soa = zone.find_rdataset(origin, dns.rdatatype.SOA)
        response.authority.append(dns.rrset.from_rdata_list(origin, soa.ttl, list(soa)))
        return response

    def reply(self, wire: bytes, *, udp: bool) -> bytes | None:
        """Return the response to a query as it goes on the wire; None when there is nothing sensible to say."""
        if self.silent:
            return None
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return _format_error(wire)
        if query.flags & dns.flags.QR:
            return None  # a response; answering it could begin an endless exchange
        size = 65535
        if udp:
            size = min(max(query.payload, CLASSIC_UDP_BYTES), EDNS_UDP_BYTES) if query.edns >= 0 else CLASSIC_UDP_BYTES
        return self.answer(query).to_wire(max_size=size, prefer_truncation=True)

    def _zone_of(self, name: dns.name.Name) -> dns.zone.Zone | None:
        """Return the zone with the longest origin that the name lies in."""
        fitting = [z for z in self._zones if z.origin is not None and name.is_subdomain(z.origin)]
        return max(fitting, key=lambda z: len(z.origin or dns.name.root), default=None)


def _has_names_below(zone: dns.zone.Zone, name: dns.name.Name) -> bool:
    """An empty non-terminal exists: RFC 8020 section 2."""
    return any(other.is_subdomain(name) for other in zone.nodes)


def _format_error(wire: bytes) -> bytes | None:
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    return wire[:2] + bytes([0x80 | (wire[2] & 0x79), dns.rcode.FORMERR]) + bytes(8)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zones: Zones) -> None:
        self._zones = zones
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # it always is
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        reply = self._zones.reply(data, udp=True)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


class DnsListener:
    """A name server on one port, UDP and TCP."""

    def __init__(self, host: str, zones: Zones) -> None:
        self._zones = zones
        self._tcp = self._on_a_port_free_for_both(host)
        self.host, self.port = host, self._tcp.port
        self._udp: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Accept queries; OSError when the port is not to be had."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self._zones), local_addr=(self.host, self.port))
        await self._tcp.start()

    async def stop(self) -> None:
        """Answer no more; the TCP port stays ours."""
        if self._udp is not None:
            self._udp.abort()
            self._udp = None
        await self._tcp.stop()

    def release(self) -> None:
        """Give the port back for good."""
        self._tcp.release()

    def _on_a_port_free_for_both(self, host: str) -> StreamListener:
        """Choose a port; one that is free for TCP may be in use for UDP, so that is tried too."""
        for attempt in range(PORT_TRIES):
            tcp = StreamListener(host, self._session)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trial:
                try:
                    trial.bind((host, tcp.port))
                except OSError:
                    tcp.release()
                    if attempt == PORT_TRIES - 1:
                        raise
                else:
                    return tcp
        raise AssertionError("the loop either returns or raises")

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = self._zones.reply(await reader.readexactly(length), udp=False)
            if reply is None:
                return
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
