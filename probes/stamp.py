"""STAMP: the quality of a path for voice and video: loss each way, delay, its variation, and a mean opinion score.

A round sends small UDP packets at an even pace to a reflector (`thongsuot reflector`, a router's STAMP or TWAMP Light
responder), which sends each back with its own times. The reflector's time is no part of the delay. Times of arrival are
the kernel's; how late our own sending was is told with the result. One-way delays are told only where both ends are
stated to keep their clocks in step; variation each way needs no such clocks. The score is the worse direction's.

Source: RFC 8762 (STAMP, and TWAMP Light by its section 4.6), RFC 8972 sections 3 and 4.1, RFC 5481 (PDV); ITU-T G.107
(E-model).
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import statistics
import time
from pathlib import Path as FilePath
from typing import Final

from pydantic import Field, model_validator

from probes import stamp_packet, voice
from probes.base import (
    Duration,
    Fault,
    Host,
    IpFamily,
    Measurement,
    Port,
    ProbeError,
    ProbeSettings,
    ProbeType,
    Value,
    fault_of,
    read_secret,
)
from probes.datagram import DATAGRAMS_AT_ONCE, MARGIN_S, open_datagram, receive, time_left
from probes.net import Address, connect_error, resolve
from probes.own_clock import clock_state, read_clocks, was_set
from probes.stamp_packet import PLAIN_BYTES, SIGNED_BYTES, Test
from probes.stamp_round import Reply, Round, Way, clocks_agree, jitter, losses, quantile, voice_rating, way
from probes.voice import Codec

LEAST_WAIT_S: Final = 0.1  # chosen: a round that could wait less than this for its last packet is a wrong setting
RECEIVE_BUFFER_BYTES: Final = 1 << 20  # chosen: a whole round fits, however late we look


class Settings(ProbeSettings):
    """What a quality check needs."""

    host: Host = Field(description="Reflector: name or address")
    port: Port = Field(default=862, description="UDP port of the reflector")
    family: IpFamily = Field(default=IpFamily.ANY, description="Address family")
    count: int = Field(default=50, ge=2, le=1000, description="Packets a round")
    gap: Duration = Field(default=0.02, ge=0.005, le=10, description="Pause between packets; 20ms is voice's")
    wait: Duration = Field(default=1.0, gt=0, le=60, description="How long the last packet of a round is waited for")
    size: int = Field(default=172, ge=PLAIN_BYTES, le=9000, description="UDP payload in bytes; 172 is voice's (G.711)")
    dscp: int = Field(default=0, ge=0, le=63, description="Class of service in the IP header (RFC 2474); 46 is voice's")
    key_file: FilePath | None = Field(default=None, description="File whose first line is the key both ends share")
    key_env: str | None = Field(default=None, description="Environment variable that holds the key both ends share")
    counts: bool = Field(
        default=False, description="The reflector counts its own packets (stateful); tells loss there from loss back"
    )
    synchronised: bool = Field(
        default=False, description="Both clocks are kept in step (NTP, PTP); then one-way delays are told"
    )
    codec: Codec = Field(default=Codec.G711_PLC, description="Codec of the score: g711, g711-plc or g729a")
    jitter_buffer: Duration = Field(default=0.06, ge=0, le=1, description="How long a receiver holds voice back")
    max_loss: float = Field(default=1.0, ge=0, le=1, description="A round that loses a greater share is bad; 1: all")
    min_mos: float | None = Field(default=None, ge=1, le=4.5, description="A round with a lower score is bad")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        if self.key_file is not None and self.key_env is not None:
            raise ValueError("give key_file or key_env, not both")
        if self.has_key and self.size < SIGNED_BYTES:
            raise ValueError(f"size: authenticated packets have at least {SIGNED_BYTES} bytes")
        return self

    @property
    def has_key(self) -> bool:
        """Whether packets are authenticated."""
        return self.key_file is not None or self.key_env is not None


async def run(settings: Settings, m: Measurement) -> None:
    """Send one round and measure it.

    Raises:
        ProbeError: TIMEOUT when too few came back, PROTOCOL when only rubbish came or the reflector's times cannot be,
            CONTENT when the score is too low, UNREACHABLE when the network said so, LOCAL when we could not measure.
        OSError: the host refused.
    """
    began = time.perf_counter()
    key = (await read_secret(settings.key_file, settings.key_env)).get_secret_value() if settings.has_key else ""
    address = (await resolve(m, settings.host, settings.port, settings.family))[0]
    m.fact("address", address.ip)
    wait_s = _wait_s(settings, time_left(m, began))
    with open_datagram(m, address, stamped=True, dscp=settings.dscp) as sock, m.phase("processing"):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        clocks = read_clocks()
        sending = _Sending(settings, sock, address, key.encode(), wait_s)
        try:
            await sending.done
        finally:
            sending.close()
    done = sending.round
    if sending.is_ours and sending.error is not None:
        raise sending.error
    if was_set(clocks):
        raise ProbeError(Fault.LOCAL, "our own clock was set during the round")
    if sending.error is not None and done.first:
        m.fact("error", getattr(sending.error, "strerror", None) or str(sending.error))
    _report(settings, m, done)
    _judge(settings, m, done, sending.error)


def _wait_s(s: Settings, left_s: float) -> float:
    sending_s = s.gap * (s.count - 1)
    if left_s - sending_s < min(LEAST_WAIT_S, s.wait):
        raise ProbeError(
            Fault.LOCAL,
            f"{s.count} packets {s.gap:g} s apart need {sending_s:g} s and some for the answer: "
            "the timeout is too short",
        )
    return min(s.wait, left_s - sending_s)


class _Sending:
    """A round under way: paced by the loop's clock, ended when all came back or the wait is over."""

    def __init__(self, s: Settings, sock: socket.socket, address: Address, key: bytes, wait_s: float) -> None:
        self._s = s
        self._sock = sock
        self._address = address
        self._key = key
        self._wait_s = wait_s
        self._clock = stamp_packet.error_estimate(clock_state(), synchronised=s.synchronised or None)
        self._session = 1 + secrets.randbelow(0xFFFF)  # tells this round's packets from those of the round before
        self._sent: dict[int, tuple[int, int]] = {}  # when each packet was sent: nanoseconds, and the stamp it bears
        self.round = Round()
        self.error: ProbeError | OSError | None = None
        self.is_ours = False  # the error is our own: nothing was measured
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._began = time.monotonic()  # the clock of both kinds of loop, to the nanosecond
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, self._read)
        self._send()

    def _send(self) -> None:
        seq = self.round.sent
        due = self._began + seq * self._s.gap
        # uvloop's own clock stands still within a turn.
        self.round.lateness_s = max(self.round.lateness_s, time.monotonic() - due)
        self._send_one(seq)
        if self.done.done():
            return
        if self.round.sent < self._s.count:
            self._timer = self._loop.call_at(due + self._s.gap, self._send)
        else:
            self._timer = self._loop.call_later(self._wait_s, self._wait_over)

    def _send_one(self, seq: int) -> None:
        for _ in range(2):  # an error that the network sent for an earlier packet is reported by the next send, once
            exc = self._try(seq)
            if exc is None:
                break
            self._failed(exc)
            if self.done.done():
                return
        self.round.sent += 1

    def _try(self, seq: int) -> OSError | None:
        packet = bytearray(Test(seq, 0, self._clock, self._session).encode(self._s.size, self._key))
        sent_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        self._sent[seq] = sent_ns, stamp_packet.stamp_in_place(packet, sent_ns, self._key)
        try:
            self._sock.send(packet)
        except OSError as exc:
            return exc
        return None

    def _failed(self, exc: OSError) -> None:
        """Note an error: our own ends the round, and so does the network's before anything came back."""
        error = connect_error(exc.errno or 0, self._address, self._sock if self.round.sent else None)
        own = isinstance(error, OSError) and fault_of(error) is Fault.LOCAL
        if own or self.error is None:
            self.error = error
        if own or not self.round.first:
            self.is_ours = own
            self._finish()

    def _read(self) -> None:
        for _ in range(DATAGRAMS_AT_ONCE):
            if self.done.done():
                return
            try:
                wire, came_ns = receive(self._sock, self._s.size + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._failed(exc)
                continue
            self._take(wire, came_ns)

    def _take(self, wire: bytes, came_ns: int) -> None:
        packet = stamp_packet.parse_reflected(wire, self._key)
        # Who does not know RFC 8972 leaves the session's place empty.
        if packet is None or packet.session not in (self._session, 0) or packet.test.seq not in self._sent:
            self.round.foreign += 1
            return
        sent_ns, stamp = self._sent[packet.test.seq]
        if packet.test.stamp != stamp:  # of another round, or of nobody who saw our packet
            self.round.foreign += 1
            return
        self.round.take(Reply(packet.test.seq, sent_ns, came_ns, packet))
        if len(self.round.first) == self._s.count:
            self._finish()

    def _wait_over(self) -> None:
        self._read()  # what the kernel holds already has come in time, however late we look
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def close(self) -> None:
        """Stop listening and sending."""
        self._loop.remove_reader(self._sock)
        if self._timer is not None:
            self._timer.cancel()


def _report(s: Settings, m: Measurement, done: Round) -> None:
    values = m.values
    values["sent_count"] = done.sent
    values["received_count"] = len(done.first)
    values["duplicate_count"] = done.duplicates
    values["reordered_count"] = done.reordered
    values["foreign_count"] = done.foreign
    values["send_lateness_s"] = done.lateness_s
    if not done.sent:
        return
    values["loss_ratio"] = done.loss_ratio
    values["longest_loss_count"] = done.longest_loss
    m.rtts_s.extend(done.first[seq].rtt_s if seq in done.first else None for seq in range(done.sent))
    replies = done.replies
    if not replies:
        values["mos_score"] = voice.WORST_SCORE
        return
    rtts = [reply.rtt_s for reply in replies]
    values["rtt_min_s"] = min(rtts)
    values["rtt_median_s"] = statistics.median(rtts)
    values["rtt_mean_s"] = sum(rtts) / len(rtts)
    values["rtt_max_s"] = max(rtts)
    if replies[-1].packet.test_ttl:
        values["forward_ttl_count"] = replies[-1].packet.test_ttl
    values["pdv_s"] = quantile(rtts, 0.95) - min(rtts)
    if (steps := jitter(rtts, [reply.seq for reply in replies])) is not None:
        values["jitter_s"] = steps
    _report_ways(s, m, done, replies)


def _report_ways(s: Settings, m: Measurement, done: Round, replies: list[Reply]) -> None:
    values = m.values
    there, back = losses(done, counts=s.counts)
    seqs = [reply.seq for reply in replies]
    if all(reply.packet.received_ns for reply in replies):
        ways = {
            "forward": way([reply.forward_s for reply in replies], there, seqs),
            "backward": way([reply.backward_s for reply in replies], back, seqs),
        }
    else:  # a reflector without times: all that varied may have varied on either way
        both = way([reply.rtt_s for reply in replies], None, seqs)
        ways = {"forward": both, "backward": both}
    agree = s.synchronised and clocks_agree(replies)
    m.fact("clocks", _clock_words(s, replies, agree=agree))
    scores = []
    for name, one in ways.items():
        delays = [getattr(reply, f"{name}_s") for reply in replies]
        least_s = min(delays) if agree else values["rtt_min_s"] / 2
        if agree:
            values[f"{name}_delay_min_s"] = least_s
            values[f"{name}_delay_median_s"] = statistics.median(delays)
        if ways["forward"] is not ways["backward"]:
            _report_way(values, name, one)
        rating = voice_rating(done, one, least_s, codec=s.codec, buffer_s=s.jitter_buffer)
        scores.append(rating)
        if one.loss_ratio is not None:
            values[f"{name}_mos_score"] = voice.mos(rating)
    values["r_score"] = min(scores)
    values["mos_score"] = voice.mos(min(scores))


def _report_way(values: dict[str, float], name: str, one: Way) -> None:
    values[f"{name}_pdv_s"] = one.pdv_s
    if one.jitter_s is not None:
        values[f"{name}_jitter_s"] = one.jitter_s
    if one.loss_ratio is not None:
        values[f"{name}_loss_ratio"] = one.loss_ratio


def _clock_words(s: Settings, replies: list[Reply], *, agree: bool) -> str:
    if not s.synchronised:
        return "not stated to be in step"
    if agree:
        return "in step"
    if all(reply.packet.synchronised for reply in replies):
        return "stated to be in step, but a one-way delay came out that cannot be"
    return "the reflector does not vouch for its clock"


def _judge(s: Settings, m: Measurement, done: Round, error: ProbeError | OSError | None) -> None:
    """Compare a round with the rules.

    Raises:
        ProbeError: with what was expected and what came.
        OSError: the host refused.
    """
    if not done.first:
        if error is not None:
            raise error
        if done.foreign:
            words = f"only {done.foreign} that answer none of ours"
            raise ProbeError(Fault.PROTOCOL, f"none of {done.sent} packets came back, {words}")
        raise ProbeError(Fault.TIMEOUT, f"none of {done.sent} packets came back")
    if not all(reply.is_possible for reply in done.first.values()):
        raise ProbeError(Fault.PROTOCOL, "the reflector says it kept packets longer than they were away")
    if done.loss_ratio > s.max_loss:
        lost = done.sent - len(done.first)
        raise ProbeError(Fault.TIMEOUT, f"{lost} of {done.sent} packets lost, at most {s.max_loss:.0%} allowed")
    score = m.values["mos_score"]
    if s.min_mos is not None and score < s.min_mos:
        loss, rtt_s, pdv_s = done.loss_ratio, m.values["rtt_median_s"], m.values["pdv_s"]
        cause = f"loss {loss:.1%}, round trip {rtt_s * 1000:.0f} ms, variation {pdv_s * 1000:.0f} ms"
        raise ProbeError(Fault.CONTENT, f"MOS {score:.2f}, at least {s.min_mos:g} wanted ({cause})")


def _least_timeout_s(s: Settings) -> float:
    return s.gap * (s.count - 1) + MARGIN_S + min(LEAST_WAIT_S, s.wait)


def _least_every_s(s: Settings) -> float:
    return max(1.0, s.count * s.gap, _least_timeout_s(s))


_WAYS: Final = (("forward", "the way there"), ("backward", "the way back"))

PROBE = ProbeType(
    kind="stamp",
    summary="Quality of a path by paced packets to a reflector: loss each way, delay, variation, MOS",
    settings=Settings,
    run=run,
    values=(
        Value("mos_score", "How a voice would sound over the worse direction, 1 to 4.5 (G.107)"),
        Value("r_score", "The transmission rating behind it, 93 at best"),
        Value("loss_ratio", "Share of the round's packets that did not come back in time"),
        Value("longest_loss_count", "Longest run of lost packets"),
        Value("sent_count", "Packets sent"),
        Value("received_count", "Packets that came back in time"),
        Value("duplicate_count", "Packets that came back more than once"),
        Value("reordered_count", "Packets that came back after one sent later"),
        Value("foreign_count", "Datagrams that answer none of ours"),
        Value("rtt_min_s", "Shortest round trip, without the reflector's own time"),
        Value("rtt_median_s", "Median round trip"),
        Value("rtt_mean_s", "Mean round trip"),
        Value("rtt_max_s", "Longest round trip"),
        Value("pdv_s", "Variation of the round trip: its 95 % quantile above its least (RFC 5481)"),
        Value("jitter_s", "Mean absolute difference of the round trips of successive packets"),
        *(Value(f"{way_}_loss_ratio", f"Share lost on {words}, where the reflector tells") for way_, words in _WAYS),
        *(Value(f"{way_}_pdv_s", f"Variation of {words}, 95 % quantile above its least") for way_, words in _WAYS),
        *(
            Value(f"{way_}_jitter_s", f"Mean absolute difference of successive delays on {words}")
            for way_, words in _WAYS
        ),
        *(
            Value(f"{way_}_delay_min_s", f"Shortest delay of {words}, where clocks are in step")
            for way_, words in _WAYS
        ),
        *(
            Value(f"{way_}_delay_median_s", f"Median delay of {words}, where clocks are in step")
            for way_, words in _WAYS
        ),
        *(Value(f"{way_}_mos_score", f"Score of {words} alone, where its loss is known") for way_, words in _WAYS),
        Value("forward_ttl_count", "TTL or hop limit left at the reflector; a jump means that the way there changed"),
        Value("send_lateness_s", "Most that our own sending was behind its pace; much of it makes the variation ours"),
    ),
    facts=(
        Value("address", "The reflector's address"),
        Value("clocks", "Whether one-way delays can be told, and why not"),
        Value("error", "What the network said of packets that were lost"),
    ),
    rounds_to_down=2,  # each round holds many packets already
    least_every_s=_least_every_s,
    least_timeout_s=_least_timeout_s,
    default_timeout_s=5.0,
)
