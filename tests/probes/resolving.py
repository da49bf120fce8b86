"""A resolver with files and name servers of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dns.edns
import dns.message
import dns.rcode
import dns.rrset

from probes.base import Fault, IpFamily, ProbeError
from probes.resolver import Resolver
from probes.resolver_conf import FileWatch
from tests.probes.dns_servers import Reply, name_server, wire
from tests.servers import datagram_server


class Files(NamedTuple):
    """Where the resolver's hosts and resolv.conf are."""

    hosts: Path
    resolv_conf: Path

    def say(self, *, hosts: str = "", resolv_conf: str = "") -> Files:
        """Write both."""
        self.hosts.write_text(hosts, "utf-8")
        self.resolv_conf.write_text(resolv_conf, "utf-8")
        return self


@contextlib.contextmanager
def resolver_of(files: Files, port: int) -> Iterator[Resolver]:
    """Give a resolver that asks all its servers at one port."""
    made = Resolver(FileWatch(*files), port=port)
    try:
        yield made
    finally:
        made.close()


async def fault(
    resolver: Resolver, host: str, family: IpFamily = IpFamily.ANY, *, timeout_s: float = 1.0
) -> tuple[Fault, str]:
    """Return the fault of a look-up that must fail."""
    try:
        found = await resolver.lookup(host, family, timeout_s=timeout_s)
    except ProbeError as exc:
        return exc.fault, exc.detail
    raise AssertionError(f"{host} was found: {found}")


class Zone:
    """Answers from a table, and counts what it is asked; every answer may be changed while a test runs."""

    def __init__(self, records: dict[str, str] | None = None) -> None:
        """Args: records: data by `name type`, as `{"a.vn A": "192.0.2.1"}`; `silence` gets no answer."""
        self.records = records or {}
        self.rcodes: dict[str, dns.rcode.Rcode] = {}  # by name, or by name and type
        self.ttl_s = 60
        self.asked: list[str] = []

    def __call__(self, query: dns.message.Message) -> dns.message.Message | None:
        name, kind = str(query.question[0].name).rstrip("."), query.question[0].rdtype.name
        key = f"{name} {kind}"
        self.asked.append(key)
        reply = dns.message.make_response(query, recursion_available=True)
        rcode = self.rcodes.get(key, self.rcodes.get(name))
        if rcode is not None:
            reply.set_rcode(rcode)
            return reply
        if self.records.get(key) == "silence":
            return None
        self._add(reply, name, kind)
        if not reply.answer and not any(k.startswith(f"{name} ") for k in self.records):
            reply.set_rcode(dns.rcode.NXDOMAIN)
        return reply

    def _add(self, reply: dns.message.Message, name: str, kind: str) -> None:
        if alias := self.records.get(f"{name} CNAME"):
            reply.answer.append(dns.rrset.from_text(f"{name}.", self.ttl_s, "IN", "CNAME", alias))
        if data := self.records.get(f"{name} {kind}"):
            reply.answer.append(dns.rrset.from_text(f"{name}.", self.ttl_s, "IN", kind, *data.split()))


@contextlib.asynccontextmanager
async def asking(files: Files, udp: Reply, tcp: Reply | None = None) -> AsyncIterator[Resolver]:
    """Serve names at 127.0.0.1 and give a resolver that asks there."""
    async with name_server(udp, tcp) as server:
        with resolver_of(files, server.port) as resolver:
            yield resolver
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def served(files: Files, *servers: Reply | None, options: str = "") -> AsyncIterator[Resolver]:
    """Serve by UDP at 127.0.0.1, 127.0.0.2 and so on, None being a place where nothing listens, and ask there."""
    hosts = [f"127.0.0.{n}" for n in range(1, len(servers) + 1)]
    files.say(resolv_conf="".join(f"nameserver {h}\n" for h in hosts) + f"options {options}\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.9", 0))
        port = sock.getsockname()[1]
    async with contextlib.AsyncExitStack() as stack:
        for host, reply in zip(hosts, servers, strict=True):
            if reply is not None:
                await stack.enter_async_context(datagram_server(_answer(reply), host=host, port=port))
        with resolver_of(files, port) as resolver:
            yield resolver
            await asyncio.sleep(0)


def _answer(reply: Reply) -> Callable[[bytes], bytes | None]:
    return lambda data: wire(reply(dns.message.from_wire(data)))


def silent(_: dns.message.Message) -> None:
    """Say nothing."""


def saying(rcode: dns.rcode.Rcode, ede: dns.edns.EDECode | None = None) -> Reply:
    """Answer everything with an error."""

    def reply(query: dns.message.Message) -> dns.message.Message:
        made = dns.message.make_response(query)
        made.set_rcode(rcode)
        if ede is not None:
            made.use_edns(0, options=[dns.edns.EDEOption(ede)])
        return made

    return reply
