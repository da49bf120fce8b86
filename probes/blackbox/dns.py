"""The dns prober: one question, one answer, and rules for the records as texts.

Nothing is asked twice, and a cut answer stays cut. Records are written as the original's library does, with tabs
between name, TTL, class, type and data. `fail_if_all_match_regexp` fails when *not* all records match: so the original
does and tests it; with `compat: fixed` it does what its name says. Source: RFC 1035 sections 4 and 7.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import dns.exception
import dns.message
import dns.rrset

from probes import dns_message
from probes.base import Fault, Measurement, ProbeError
from probes.blackbox.address import choose, once_more
from probes.blackbox.expression import search
from probes.blackbox.modules import DnsModule, RecordRules
from probes.blackbox.task import Task, split_host_port
from probes.blackbox.tls import Wish, secure
from probes.dns_message import MESSAGE_LIMIT, Answer, Question
from probes.net import Address, Stream, bind_to_path, connect_error, open_stream, queue_errors, resolve
from probes.tls_context import alert_words

_SOA: Final = 6


async def probe_dns(task: Task, m: Measurement) -> None:
    """Ask once and judge.

    Raises:
        ProbeError: the probe failed; the reason was said.
        OSError: the network or host said so.
    """
    module = task.module.dns
    assert module is not None  # or the module had been refused
    counts = ("dns_answer_rrs", "dns_authority_rrs", "dns_additional_rrs", "dns_query_succeeded")
    m.values |= dict.fromkeys(counts, 0.0)
    asked = _question(task, module)
    host, port = split_host_port(task.target) or (task.target.strip("[]"), 853 if module.dns_over_tls else 53)
    ip = await choose(task, m, host, module)
    task.say("Making DNS query", query=module.query_name, type=module.query_type, server=f"{ip} port {port}")
    try:
        answer = await _ask(task, m, module, asked, (host, ip, port))
    except (ProbeError, OSError) as exc:
        task.say("Error while sending a DNS query", "error", err=str(exc))
        raise
    sections = (answer.answers, answer.authority, answer.additional)
    m.values |= dict(zip(counts, (*(float(len(records)) for records in sections), 1.0), strict=True))
    if asked.type == _SOA:
        m.values["dns_serial"] = float(_serial(answer))
    task.say("Got response", rcode=dns_message.rcode_name(answer.rcode), answers=len(answer.answers))
    _judge(task, m, module, answer)


def _question(task: Task, module: DnsModule) -> Question:
    try:
        return dns_message.question(module.query_name, module.query_type, module.query_class)
    except ValueError as exc:
        raise task.fail("Invalid query", err=exc) from exc


async def _ask(task: Task, m: Measurement, module: DnsModule, asked: Question, where: tuple[str, str, int]) -> Answer:
    ident = secrets.randbits(16)
    query = dns_message.encode_query(ident, asked, recursion=module.recursion_desired)
    host, ip, port = where
    if module.transport_protocol == "udp":
        return await _by_udp(m, (await resolve(m, ip, port))[0], query, ident, asked)
    async with open_stream(m, ip, port) as stream:
        if module.dns_over_tls:
            await secure(task, m, stream, Wish(module.tls_config, host, once_more(m, ip, port)))
        with m.phase("processing"):
            return await _by_stream(stream, query, ident, asked)


async def _by_stream(stream: Stream, query: bytes, ident: int, asked: Question) -> Answer:
    try:
        await stream.write(len(query).to_bytes(2, "big") + query)
        size = int.from_bytes(await stream.reader.readexactly(2), "big")
        wire = await stream.reader.readexactly(size)
    except asyncio.IncompleteReadError as exc:
        raise ProbeError(Fault.REFUSED, "the server hung up before the whole answer") from exc
    except ssl.SSLError as exc:  # TLS 1.3 refuses a client only after the handshake
        raise ProbeError(Fault.TLS, alert_words(exc)) from exc
    answer = dns_message.parse(wire, ident, asked)
    if answer is None:
        raise ProbeError(Fault.PROTOCOL, f"{size} bytes came that do not answer our question")
    return answer


async def _by_udp(m: Measurement, address: Address, query: bytes, ident: int, asked: Question) -> Answer:
    with m.phase("connect"):
        sock = socket.socket(address.family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        bind_to_path(sock, m.path)
        queue_errors(sock, True)
        with m.phase("processing"):
            try:
                sock.connect(address.sockaddr)
                sock.send(query)
            except OSError as exc:
                raise connect_error(exc.errno or 0, address) from exc
            async with _incoming(sock) as datagrams:
                while True:
                    wire = await datagrams.get()
                    if isinstance(wire, OSError):
                        raise connect_error(wire.errno or 0, address, sock) from wire
                    answer = dns_message.parse(wire, ident, asked)
                    if answer is not None:
                        return answer
    finally:
        sock.close()


@asynccontextmanager
async def _incoming(sock: socket.socket) -> AsyncIterator[asyncio.Queue[bytes | OSError]]:
    """Give what comes on a connected socket, datagrams and errors, as long as the block lasts."""
    came: asyncio.Queue[bytes | OSError] = asyncio.Queue()

    def read() -> None:
        try:
            came.put_nowait(sock.recv(MESSAGE_LIMIT))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            came.put_nowait(exc)

    loop = asyncio.get_running_loop()
    loop.add_reader(sock, read)
    try:
        yield came
    finally:
        loop.remove_reader(sock)


def _serial(answer: Answer) -> int:
    found = answer._replace(authority=())  # only an answer's own record counts
    return dns_message.soa_serial(found) or 0


def _judge(task: Task, m: Measurement, module: DnsModule, answer: Answer) -> None:
    rcode = dns_message.rcode_name(answer.rcode)
    wanted = module.valid_rcodes or ("NOERROR",)
    if rcode not in wanted:
        raise task.fail("Rcode is not one of the valid rcodes", rcode=rcode, valid_rcodes=",".join(wanted))
    rules = (module.validate_answer_rrs, module.validate_authority_rrs, module.validate_additional_rrs)
    if not any(rule.model_fields_set for rule in rules):
        return
    if task.fixed:
        m.values["failed_due_to_regex"] = 1.0
    for word, rule, texts in zip(("Answer", "Authority", "Additional"), rules, record_texts(answer.wire), strict=True):
        task.say(f"Validating {word} RRs")
        problem = broken_rule(rule, texts, fixed=task.fixed)
        if problem:
            raise task.fail(f"{word} RRs validation failed", err=problem)
    if task.fixed:
        m.values["failed_due_to_regex"] = 0.0


def record_texts(wire: bytes) -> tuple[list[str], list[str], list[str]]:
    """Return the records of the answer, authority and additional sections, tabs between the fields. Pure.

    Raises:
        ProbeError: PROTOCOL when a record is malformed.
    """
    try:
        message = dns.message.from_wire(wire, one_rr_per_rrset=True, ignore_trailing=True, raise_on_truncation=False)
        answer, authority, additional = (
            [_text(rrset) for rrset in section] for section in (message.answer, message.authority, message.additional)
        )
    except (dns.exception.DNSException, ValueError) as exc:
        raise ProbeError(Fault.PROTOCOL, f"a record of the answer is broken: {exc}") from exc
    return answer, authority, additional


def _text(rrset: dns.rrset.RRset) -> str:
    _, ttl, rdclass, rdtype, *rest = rrset.to_text().split(" ", 4)
    return "\t".join((str(rrset.name), ttl, rdclass, rdtype, *rest))


def broken_rule(rules: RecordRules, texts: Sequence[str], *, fixed: bool) -> str:
    """Say which rule the records break, or nothing. Pure."""
    if not texts:
        for name in ("fail_if_not_matches_regexp", "fail_if_none_matches_regexp"):
            if getattr(rules, name):
                return f"{name} specified but no RRs returned"
    records = [text.encode("utf-8", "replace") for text in texts]
    for record in records:
        if pattern := next((p for p in rules.fail_if_matches_regexp if search(p, record)), ""):
            return f"at least one RR matched {pattern}"
        if pattern := next((p for p in rules.fail_if_not_matches_regexp if not search(p, record)), ""):
            return f"at least one RR did not match {pattern}"
    return _all_or_none(rules, records, fixed=fixed)


def _all_or_none(rules: RecordRules, records: Sequence[bytes], *, fixed: bool) -> str:
    if rules.fail_if_all_match_regexp:
        all_match = all(search(p, record) for record in records for p in rules.fail_if_all_match_regexp)
        if fixed and records and all_match:
            return "all RRs matched"
        if not fixed and not all_match:
            return "not all RRs matched, as fail_if_all_match_regexp wants it"
    none = rules.fail_if_none_matches_regexp
    if none and not any(search(p, record) for record in records for p in none):
        return "none of the RRs matched"
    return ""
