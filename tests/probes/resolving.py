"""A resolver with files and name servers of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import dns.message
import dns.rcode
import dns.rrset

from probes.base import Fault, IpFamily, ProbeError
from probes.resolver import Resolver
from probes.resolver_conf import FileWatch


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
