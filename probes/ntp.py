"""NTP: does a time server answer, is it itself in step, and how far is its clock from ours?

One question a round, sent again when no answer came. What a server says counts only when it repeats the random number
of our question, which stands where our time would stand: nobody off the path can forge an answer, and nobody learns
our clock. The true offset lies within half the delay of the measured one; a check fails only for what is certain.
Our own clock is the yardstick: whether anybody keeps it is told as the fact `own_clock`.

Source: RFC 5905 sections 6 to 8 (packet, offset, delay, root distance) and 7.4 (kiss-o'-death), RFC 4330 section 5
(what a client has to check), RFC 9109 (random ports).
"""

from __future__ import annotations

import ipaddress
import secrets
import struct
import time
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from probes.base import Duration, Fault, Host, IpFamily, Measurement, Port, ProbeError, ProbeSettings, ProbeType, Value
from probes.datagram import Ask, exchange, open_datagram, time_left
from probes.net import resolve
from probes.own_clock import Moment, clock_state, read_clocks, seconds_between, stamp_of, was_set

PACKET_BYTES: Final = 48  # without extension fields and authentication
_PACKET: Final = struct.Struct("!BBbbII4sQQQQ")
_SHORT_S: Final = 2.0**-16  # unit of the root delay and dispersion
_CLIENT, _SERVER = 3, 4
_UNSYNCHRONISED: Final = 3
_LEAP_WORDS: Final = {
    0: "none",
    1: "the last minute of the day has 61 seconds",
    2: "the last minute of the day has 59 seconds",
    _UNSYNCHRONISED: "not synchronised",
}
# RFC 5905 figure 13; others are told by their letters.
_KISSES: Final = {
    "RATE": "it is asked too often",
    "DENY": "it refuses us",
    "RSTR": "it refuses us by its rules",
    "INIT": "it has not been synchronised yet",
    "STEP": "its own time has just been set",
    "AUTH": "it could not authenticate its own server",
    "CRYP": "it wants authentication",
}
_CLOCK_SLACK_S: Final = 0.001  # chosen: more than clocks differ in speed within one exchange


class Settings(ProbeSettings):
    """What an NTP check needs."""

    host: Host = Field(description="Time server: name or address")
    port: Port = Field(default=123, description="Port")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    version: int = Field(default=4, ge=3, le=4, description="Version of NTP to speak")
    tries: int = Field(default=2, ge=1, le=4, description="How often the question is sent, spread over the timeout")
    max_offset: Duration | None = Field(
        default=None, gt=0, description="Greatest offset from our clock; worse only when no delay can explain it"
    )
    max_stratum: int = Field(default=15, ge=1, le=15, description="Most steps from a reference clock")
    max_root_distance: Duration | None = Field(
        default=None, gt=0, description="Greatest error the server may have by its own account and the delay to it"
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    leap: int
    version: int
    stratum: int
    poll: int  # log2 of seconds
    precision: int  # log2 of seconds
    root_delay_s: float
    root_dispersion_s: float
    reference_id: bytes
    reference: int  # stamps: 2^-32 s since 1900, going round
    received: int
    sent: int

    @property
    def kiss(self) -> str:
        """The code of a kiss-o'-death, or an empty string."""
        return _letters(self.reference_id) if self.stratum == 0 else ""

    @property
    def source(self) -> str:
        """Where the server has its time from: a clock's letters, or the address (or hash of one) of its server."""
        if self.stratum <= 1:
            return _letters(self.reference_id)
        return str(ipaddress.IPv4Address(self.reference_id))


def _letters(reference_id: bytes) -> str:
    return "".join(chr(b) if 0x20 < b < 0x7F else "?" for b in reference_id.rstrip(b"\0 "))


def encode_query(nonce: int, version: int = 4) -> bytes:
    """Return a client's packet that says nothing of us; `nonce` stands in the transmit time stamp, 64 bits."""
    return _PACKET.pack(version << 3 | _CLIENT, 0, 0, 0, 0, 0, bytes(4), 0, 0, 0, nonce)


def nonce_of(wire: bytes) -> int | None:
    """Return the number that an answer repeats, or None when it is too short to be one."""
    return int.from_bytes(wire[24:32], "big") if len(wire) >= PACKET_BYTES else None


def parse(wire: bytes) -> Answer:
    """Read an answer; extension fields and authentication behind it are left alone.

    Raises:
        ProbeError: PROTOCOL when it is not a server's answer.
    """
    if len(wire) < PACKET_BYTES:
        raise ProbeError(Fault.PROTOCOL, f"{len(wire)} bytes came, expected at least {PACKET_BYTES}")
    first, stratum, poll, precision, delay, dispersion, source, reference, _, received, sent = _PACKET.unpack_from(wire)
    leap, version, mode = first >> 6, first >> 3 & 7, first & 7
    if mode != _SERVER or not 1 <= version <= 4:
        raise ProbeError(Fault.PROTOCOL, f"a packet of mode {mode}, version {version} came, expected mode {_SERVER}")
    if stratum and not sent:
        raise ProbeError(Fault.PROTOCOL, "the server's answer holds no time")
    return Answer(
        leap, version, stratum, poll, precision, delay * _SHORT_S, dispersion * _SHORT_S, source, reference, received,
        sent,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One exchange: asked, and answered."""

    answer: Answer
    asked: Moment
    came_ns: int  # wall clock, by the kernel

    @property
    def held_s(self) -> float:
        """How long the server kept the question, by its own clock."""
        return seconds_between(self.answer.received, self.answer.sent)

    @property
    def round_trip_s(self) -> float:
        """From asking to the answer's arrival, the server's time included."""
        return (self.came_ns - self.asked.wall_ns) / 1e9

    @property
    def delay_s(self) -> float:
        """Both ways together (RFC 5905 section 8); clocks of little precision may make it nothing, never less."""
        return max(0.0, self.round_trip_s - self.held_s)

    @property
    def offset_s(self) -> float:
        """How far the server's clock is ahead of ours, right within half the delay."""
        there = seconds_between(stamp_of(self.asked.wall_ns), self.answer.received)
        back = seconds_between(stamp_of(self.came_ns), self.answer.sent)
        return (there + back) / 2

    @property
    def root_distance_s(self) -> float:
        """Greatest error of the time we would get there (RFC 5905 section 11.2.3, without ageing)."""
        return self.answer.root_delay_s / 2 + self.answer.root_dispersion_s + self.delay_s / 2


async def run(settings: Settings, m: Measurement) -> None:
    """Ask for the time and judge the answer.

    Raises:
        ProbeError: TIMEOUT without an answer, PROTOCOL when only rubbish came, UNREACHABLE when the network said so,
            CONTENT when the server is not in step or breaks a rule, LOCAL when our own clock was set meanwhile.
        OSError: the host refused.
    """
    began = time.perf_counter()
    address = (await resolve(m, settings.host, settings.port, settings.family))[0]
    m.fact("address", address.ip)
    asked: dict[int, Moment] = {}

    def write() -> bytes:
        nonce = secrets.randbits(64)
        query = encode_query(nonce, settings.version)
        asked[nonce] = read_clocks()
        return query

    def read(wire: bytes, came_ns: int) -> Sample | None:
        when = asked.get(nonce_of(wire) or 0)
        return None if when is None else Sample(parse(wire), when, came_ns)

    pauses = [max(0.0, time_left(m, began)) / settings.tries] * settings.tries
    with open_datagram(m, address, stamped=True) as sock, m.phase("processing"):
        sample = await exchange(m, sock, address, Ask(write, read, pauses, limit=4096, stamped=True))
    if was_set(sample.asked):
        raise ProbeError(Fault.LOCAL, "our own clock was set during the exchange")
    _report(m, sample)
    _judge(settings, m, sample)


def _report(m: Measurement, sample: Sample) -> None:
    answer, values = sample.answer, m.values
    values["stratum_count"] = answer.stratum
    values["leap_code"] = answer.leap
    m.fact("leap", _LEAP_WORDS[answer.leap])
    m.fact("own_clock", clock_state().words)
    if answer.kiss:
        m.fact("kiss", answer.kiss)
    if answer.stratum == 0:
        return  # such an answer's times mean nothing
    values["offset_s"] = sample.offset_s
    values["delay_s"] = sample.delay_s
    values["root_delay_s"] = answer.root_delay_s
    values["root_dispersion_s"] = answer.root_dispersion_s
    values["root_distance_s"] = sample.root_distance_s
    values["precision_s"] = 2.0**answer.precision
    if answer.reference:
        values["reference_age_s"] = seconds_between(answer.reference, answer.sent)
    m.fact("reference", answer.source)


def _judge(settings: Settings, m: Measurement, sample: Sample) -> None:
    """Compare an answer with the rules.

    Raises:
        ProbeError: CONTENT with what was expected and what came; PROTOCOL when its times cannot be.
    """
    answer = sample.answer
    if answer.kiss:
        meant = _KISSES.get(answer.kiss, "")
        raise ProbeError(Fault.CONTENT, f"the server sends kiss-o'-death {answer.kiss}{meant and f': {meant}'}")
    if answer.leap == _UNSYNCHRONISED or not 1 <= answer.stratum <= 15:
        raise ProbeError(Fault.CONTENT, f"the server says that it is not synchronised (stratum {answer.stratum})")
    slack_s = _CLOCK_SLACK_S + sample.round_trip_s / 10  # a server may be slewing its clock
    if not -slack_s <= sample.held_s <= sample.round_trip_s + slack_s:
        raise ProbeError(
            Fault.PROTOCOL,
            f"the server says it kept the question {sample.held_s:.3g} s; the answer took {sample.round_trip_s:.3g} s",
        )
    if answer.stratum > settings.max_stratum:
        raise ProbeError(Fault.CONTENT, f"stratum {answer.stratum}, at most {settings.max_stratum} allowed")
    if settings.max_root_distance is not None and sample.root_distance_s > settings.max_root_distance:
        words = f"its time may be wrong by {sample.root_distance_s:.3g} s, at most {settings.max_root_distance:g} s"
        raise ProbeError(Fault.CONTENT, f"{words} allowed")
    own = m.facts["own_clock"]
    if settings.max_offset is not None and (words := offset_trouble(sample, settings.max_offset, own_clock=own)):
        raise ProbeError(Fault.CONTENT, words)


def offset_trouble(sample: Sample, max_offset_s: float, *, own_clock: str) -> str:
    """Say by how much a clock is off, or nothing when the delay may explain it: all of it may be on one way."""
    doubt_s = sample.delay_s / 2
    if abs(sample.offset_s) - doubt_s <= max_offset_s:
        return ""
    side = "ahead of" if sample.offset_s > 0 else "behind"
    words = f"the server's clock is {abs(sample.offset_s):.4g} s {side} ours (±{doubt_s:.2g} s)"
    ours = "" if own_clock == "synchronised" else f"; our own clock: {own_clock}"
    return f"{words}, at most {max_offset_s:g} s allowed{ours}"


PROBE = ProbeType(
    kind="ntp",
    summary="A time server: whether it is in step, its stratum, and its offset from our clock",
    settings=Settings,
    run=run,
    values=(
        Value("offset_s", "How far the server's clock is ahead of ours; right within half of delay_s"),
        Value("delay_s", "Way there and back, without the server's own time"),
        Value("stratum_count", "Steps from a reference clock; 1 has one, 16 or 0 is not synchronised"),
        Value("root_delay_s", "Delay between the server and its reference clock, by its account"),
        Value("root_dispersion_s", "Greatest error against its reference clock, by its account"),
        Value("root_distance_s", "Greatest error of the time got here: root dispersion and half of both delays"),
        Value("precision_s", "Precision of the server's clock, by its account"),
        Value("reference_age_s", "Time since the server's clock was last set or corrected"),
        Value("leap_code", "Leap indicator: 0 none, 1 and 2 a leap second is near, 3 not synchronised"),
        Value("sent_count", "Questions sent until the answer came"),
        Value("foreign_count", "Datagrams that came and did not answer the question"),
    ),
    facts=(
        Value("address", "The server's address"),
        Value("reference", "Where the server has its time from: a clock's letters, or its own server"),
        Value("leap", "What the server says of the next leap second, or that it is not synchronised"),
        Value("kiss", "The code by which the server turned us away"),
        Value(
            "own_clock",
            "Whether anybody keeps our own clock, the yardstick of the offset: synchronised or not, or unknown",
        ),
    ),
    default_timeout_s=5.0,
)
