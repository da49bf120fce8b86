"""DNS: does a name server answer a question, how fast, and is the answer the right one?

One query a round goes to one chosen server, by UDP from a fresh random port or by TCP, and is sent again when no
answer came. A truncated UDP answer is fetched again by TCP. Datagrams that do not answer the question are counted and
ignored until the deadline, so that a forged one cannot end a check.

Source: RFC 1035 sections 4 and 7, RFC 5452 (what an answer must match), RFC 7766 (TCP), RFC 6891 (EDNS).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from enum import StrEnum
from typing import Annotated, ClassVar, Final

import dns.exception
import dns.rcode
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from probes import dns_message
from probes.base import (
    Done,
    Fault,
    Host,
    IpFamily,
    Launch,
    Measurement,
    Path,
    Port,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Stop,
    Tools,
    Value,
    one_line,
)
from probes.datagram import Ask, Exchange, exchange, open_datagram, time_left
from probes.dns_message import MESSAGE_LIMIT, Answer, Question
from probes.net import Address, open_stream, resolve, written_address
from probes.regex import Regex, search

SHOWN: Final = 100  # characters of records in a reason
_NOT_QUERIES: Final = {"IXFR", "AXFR", "251", "252", "TYPE251", "TYPE252"}


class Transport(StrEnum):
    """How the query travels."""

    UDP = "udp"
    TCP = "tcp"


def _rcode(name: str) -> str:
    try:
        return str(dns.rcode.to_text(dns.rcode.from_text(name)))
    except dns.exception.DNSException as exc:
        raise ValueError(f"{name!r} is not a response code: expected one like NOERROR or NXDOMAIN") from exc


class AnswerRules(BaseModel):
    """What the records of the answer must be."""

    model_config: ClassVar[ConfigDict] = ConfigDict(strict=True, frozen=True, extra="forbid")

    at_least: int = Field(default=1, ge=0, le=1000, description="Fewest records of the asked type")
    match: tuple[Regex, ...] = Field(
        default=(),
        max_length=50,
        description="Patterns (RE2); each must be found in some record as dig +short prints it",
    )
    forbid: tuple[Regex, ...] = Field(
        default=(), max_length=50, description="Patterns (RE2) that may be found in no record"
    )


class Settings(ProbeSettings):
    """What a DNS check needs."""

    server: Host = Field(description="Name server asked: name or address")
    port: Port = Field(default=53, description="Port")
    name: str = Field(min_length=1, max_length=255, description="Name asked for")
    type: str | int = Field(default="A", description="Record type, as a name or number")
    rdclass: str = Field(default="IN", alias="class", description="Class: IN, or CH for version.bind")
    transport: Transport = Field(default=Transport.UDP, description="udp or tcp")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family towards the server")
    recursion: bool = Field(default=True, description="Ask for recursion (RD); false for an authoritative server")
    tries: int = Field(default=2, ge=1, le=5, description="UDP: how often the query is sent, spread over the timeout")
    udp_size: int = Field(default=1232, ge=512, le=4096, description="Largest UDP answer taken; above 512 by EDNS")
    rcodes: tuple[Annotated[str, AfterValidator(_rcode)], ...] = Field(
        default=("NOERROR",), min_length=1, description="Response codes that are good"
    )
    answers: AnswerRules = Field(default=AnswerRules(), description="Rules for a NOERROR answer's records")
    authoritative: bool | None = Field(default=None, description="Whether the answer must, or must not, carry AA")
    dnssec: bool = Field(default=False, description="Require that the resolver vouches for the answer (AD)")
    soa_serial_at_least: int | None = Field(
        default=None, ge=0, lt=2**32, description="Zone serial that must be reached (type SOA; RFC 1982)"
    )

    @model_validator(mode="after")
    def _can_be_asked(self) -> Settings:
        kind = str(self.type).upper()
        if kind in _NOT_QUERIES:
            raise ValueError("type: a zone transfer is not a query")
        asked = self.question()
        if self.soa_serial_at_least is not None and asked.type != 6:
            raise ValueError("soa_serial_at_least needs type: SOA")
        return self

    def endpoint(self) -> str:
        """Return the server."""
        return self.server

    def question(self) -> Question:
        """Return the question in wire form."""
        return dns_message.question(self.name, str(self.type).upper(), self.rdclass.upper())


def prepare(settings: Settings, path: Path | None, _tools: Tools) -> Launch | None:
    """Ask a server at a written address by UDP without a task; TCP, also for an answer that was cut, takes one."""
    address = written_address(settings.server, settings.port, settings.family, path)
    if settings.transport != Transport.UDP or address is None:
        return None
    asked, query = settings.question(), _query(settings, 0)[2:]
    pauses: dict[float, list[float]] = {}  # by time-out: one check has one

    def launch(m: Measurement, done: Done) -> Stop:
        m.phases["resolve"] = 0.0
        m.facts["address"] = address.ip
        m.current = "processing"
        began = time.perf_counter()
        if m.timeout_s not in pauses:
            pauses[m.timeout_s] = _pauses(settings, time_left(m, began))
        ident = secrets.randbits(16)
        wire = ident.to_bytes(2, "big") + query
        ask = Ask(lambda: wire, lambda came, _: dns_message.parse(came, ident, asked), pauses[m.timeout_s])
        sock = open_datagram(m, address)
        whole: list[asyncio.Task[Answer]] = []  # the fetching of an answer that was cut

        def tell(answer: Answer | None, exc: Exception | None) -> None:
            sock.close()
            m.phases["processing"] = time.perf_counter() - began
            if answer is not None and answer.truncated:
                whole.append(asyncio.get_running_loop().create_task(_ask_whole(settings, m, address)))
                whole[0].add_done_callback(fetched)
            else:
                done(_take, settings, m, answer, exc)

        def fetched(task: asyncio.Task[Answer]) -> None:
            if not task.cancelled():
                exc = task.exception()
                done(_take, settings, m, None if exc else task.result(), exc)

        running = Exchange(m, sock, address, ask, tell)
        running.begin()

        def stop() -> None:
            running.close()
            sock.close()
            for task in whole:
                task.cancel()

        return stop

    return launch


def _take(settings: Settings, m: Measurement, answer: Answer | None, exc: BaseException | None) -> None:
    if answer is None:
        raise exc or AssertionError
    m.current = ""
    _report(settings, m, answer)
    _judge(settings, answer)


async def run(settings: Settings, m: Measurement) -> None:
    """Ask once and judge the answer by the rules.

    Raises:
        ProbeError: TIMEOUT without an answer, PROTOCOL when only rubbish came, REFUSED or UNREACHABLE when host or
            network said so, CONTENT when the answer breaks a rule.
    """
    began = time.perf_counter()
    if settings.transport == Transport.UDP:
        address = (await resolve(m, settings.server, settings.port, settings.family))[0]
        m.fact("address", address.ip)
        answer = await _ask_udp(settings, m, address, time_left(m, began))
        if answer.truncated:
            answer = await _ask_whole(settings, m, address)
    else:
        answer = await _ask_tcp(settings, m, settings.server)
    _take(settings, m, answer, None)


async def _ask_udp(settings: Settings, m: Measurement, address: Address, left_s: float) -> Answer:
    ident = secrets.randbits(16)
    query = _query(settings, ident)
    asked = settings.question()
    pauses = _pauses(settings, left_s)
    ask = Ask(lambda: query, lambda wire, _: dns_message.parse(wire, ident, asked), pauses, limit=MESSAGE_LIMIT)
    with open_datagram(m, address) as sock, m.phase("processing"):
        return await exchange(m, sock, address, ask)


async def _ask_whole(settings: Settings, m: Measurement, address: Address) -> Answer:
    m.fact("truncated", "the UDP answer was cut; asked again by TCP")
    return await _ask_tcp(settings, m, address.ip)


async def _ask_tcp(settings: Settings, m: Measurement, host: str) -> Answer:
    ident = secrets.randbits(16)
    query = _query(settings, ident)
    async with open_stream(m, host, settings.port, family=settings.family) as stream:
        with m.phase("processing"):
            await stream.write(len(query).to_bytes(2, "big") + query)
            try:
                size = int.from_bytes(await stream.reader.readexactly(2), "big")
                wire = await stream.reader.readexactly(size)
            except asyncio.IncompleteReadError as exc:
                raise ProbeError(Fault.REFUSED, "the server hung up before the whole answer") from exc
    answer = dns_message.parse(wire, ident, settings.question())
    if answer is None:
        raise ProbeError(Fault.PROTOCOL, f"{size} bytes came that do not answer our question")
    return answer


def _pauses(settings: Settings, left_s: float) -> list[float]:
    return [max(left_s, 0.0) / settings.tries] * settings.tries


def _query(settings: Settings, ident: int) -> bytes:
    return dns_message.encode_query(
        ident,
        settings.question(),
        recursion=settings.recursion,
        udp_size=settings.udp_size,
        dnssec=settings.dnssec,
    )


def _report(settings: Settings, m: Measurement, answer: Answer) -> None:
    values = m.values
    values["rcode_code"] = answer.rcode
    values["answers_count"] = len(answer.answers)
    values["authority_count"] = len(answer.authority)
    values["additional_count"] = len(answer.additional)
    values["answer_bytes"] = len(answer.wire)
    if answer.answers:
        values["ttl_min_s"] = min(record.ttl_s for record in answer.answers)
    serial = dns_message.soa_serial(answer)
    if serial is not None:
        values["soa_serial_count"] = serial
    m.fact("rcode", dns_message.rcode_name(answer.rcode))
    records = dns_message.matching(answer, settings.question())
    if records:
        more = f" (+{len(records) - 1})" if len(records) > 1 else ""
        m.fact("answer", dns_message.text(answer, records[0]) + more)


def _judge(settings: Settings, answer: Answer) -> None:
    """Compare an answer with the rules.

    Raises:
        ProbeError: CONTENT with what was expected and what came.
    """
    rcode = dns_message.rcode_name(answer.rcode)
    if rcode not in settings.rcodes:
        several = "one of " if len(settings.rcodes) > 1 else ""
        raise ProbeError(Fault.CONTENT, f"rcode {rcode}, expected {several}{', '.join(settings.rcodes)}")
    if settings.authoritative is not None and answer.authoritative != settings.authoritative:
        came, wanted = ("", "not ") if answer.authoritative else ("not ", "")
        raise ProbeError(Fault.CONTENT, f"the answer is {came}authoritative, expected {wanted}authoritative")
    if settings.dnssec and not answer.authentic:
        raise ProbeError(Fault.CONTENT, "the resolver does not vouch for the answer (no AD flag)")
    if answer.rcode == 0:
        _judge_records(settings, answer)


def _judge_records(settings: Settings, answer: Answer) -> None:
    rules = settings.answers
    records = dns_message.matching(answer, settings.question())
    if len(records) < rules.at_least:
        raise ProbeError(Fault.CONTENT, f"{len(records)} {settings.type} records, expected at least {rules.at_least}")
    if rules.match or rules.forbid:
        texts = [dns_message.text(answer, record) for record in answer.answers]
        _judge_texts(rules, texts)
    wanted = settings.soa_serial_at_least
    if wanted is not None:
        serial = dns_message.soa_serial(answer)
        if serial is None or not dns_message.serial_reached(serial, wanted):
            raise ProbeError(Fault.CONTENT, f"SOA serial {serial}, expected at least {wanted}")


def _judge_texts(rules: AnswerRules, texts: list[str]) -> None:
    shown = one_line(", ".join(texts), SHOWN) or "no records"
    for pattern in rules.match:
        if not any(search(pattern, text) for text in texts):
            raise ProbeError(Fault.CONTENT, f"got {shown}, expected pattern '{pattern[:SHOWN]}'")
    for pattern in rules.forbid:
        if any(search(pattern, text) for text in texts):
            raise ProbeError(Fault.CONTENT, f"got {shown}, forbidden pattern '{pattern[:SHOWN]}'")


PROBE = ProbeType(
    kind="dns",
    summary="A question to a chosen name server, by UDP or TCP, and rules for its answer",
    settings=Settings,
    run=run,
    prepare=prepare,
    values=(
        Value("rcode_code", "Response code; 0 is NOERROR, 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED"),
        Value("answers_count", "Records in the answer section"),
        Value("authority_count", "Records in the authority section"),
        Value("additional_count", "Records in the additional section"),
        Value("answer_bytes", "Size of the answer"),
        Value("ttl_min_s", "Shortest time to live in the answer section"),
        Value("soa_serial_count", "Serial of the zone, when its SOA record came"),
        Value("sent_count", "UDP queries sent until the answer came"),
        Value("foreign_count", "Datagrams that came and did not answer the question"),
    ),
    facts=(
        Value("address", "The server's address"),
        Value("rcode", "The response code's name"),
        Value("answer", "The first record of the asked type, and how many more"),
        Value("truncated", "Set when the UDP answer was cut"),
    ),
    default_timeout_s=5.0,
)
