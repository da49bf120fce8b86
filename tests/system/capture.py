"""What really passed on a wire: tcpdump with the kernel's stamps, and the file it writes, read.

Source: draft-ietf-opsawg-pcap (the file), RFC 791, RFC 792, RFC 9293.
"""

from __future__ import annotations

import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.system.namespaces import Namespace

_NANOSECONDS: Final = 0xA1B23C4D
_FILE_HEAD_BYTES: Final = 24
_ETHERNET_BYTES: Final = 14
_HANDED_OVER_AFTER_S: Final = 1.2  # libpcap's read time-out of tcpdump is one second; sooner it would miss the end
_TCP: Final = 6
_ECHO: Final = {(1, 8), (58, 128)}  # protocol, type
_ECHO_REPLY: Final = {(1, 0), (58, 129)}
_SYN, _SYN_ACK = 2, 18


class Packet(NamedTuple):
    """An IP packet as it was seen."""

    at_ns: int  # since 1970, by the kernel
    protocol: int
    body: bytes  # behind the IP header


@contextmanager
def capturing(where: Namespace, interface: str, file: Path, pattern: str) -> Iterator[None]:
    """Capture what a pcap-filter pattern lets through while the block runs; afterwards the file is whole."""
    argv = ["tcpdump", "-i", interface, "-n", "-U", "-Z", "root", "-B", "8192", "-s", "96"]
    argv += ["--time-stamp-precision=nano", "-w", str(file), pattern]
    with subprocess.Popen([*where.prefix(), *argv], stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stderr is not None
        said = ""
        while "listening on" not in said:
            said = tcpdump.stderr.readline()
            assert said, "tcpdump did not start"
        try:
            yield
        finally:
            time.sleep(_HANDED_OVER_AFTER_S)
            tcpdump.send_signal(signal.SIGINT)
            end = tcpdump.stderr.read()
            tcpdump.wait(timeout=10)
    assert "0 packets dropped by kernel" in end, end


def packets(file: Path) -> Iterator[Packet]:
    """Read a capture of Ethernet frames that carry IP without options or extension headers."""
    data = file.read_bytes()
    assert struct.unpack_from("=I", data)[0] == _NANOSECONDS
    at = _FILE_HEAD_BYTES
    while at < len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("=IIII", data, at)
        frame = data[at + 16 + _ETHERNET_BYTES : at + 16 + kept]
        at += 16 + kept
        v6 = frame[0] >> 4 == 6
        yield Packet(seconds * 1_000_000_000 + nanoseconds, frame[6 if v6 else 9], frame[40 if v6 else 20 :])


def echo_rtts_s(file: Path) -> list[float | None]:
    """Return the round-trip time of each echo in order of sending; None where no reply was seen."""
    sent: dict[bytes, int] = {}
    back: dict[bytes, int] = {}
    for packet in packets(file):
        echo = packet.body[4:8]  # identifier and sequence number
        kind = packet.protocol, packet.body[0]
        if kind in _ECHO:
            assert echo not in sent, "an identifier and number came twice"
            sent[echo] = packet.at_ns
        elif kind in _ECHO_REPLY:
            back.setdefault(echo, packet.at_ns)
    return [(back[echo] - at_ns) / 1e9 if echo in back else None for echo, at_ns in sent.items()]


def handshakes_s(file: Path) -> list[float]:
    """Return the time from SYN to SYN-ACK of each TCP connection in order of opening; none may have been repeated."""
    sent: dict[bytes, int] = {}
    found: list[float] = []
    for packet in packets(file):
        ports, flags = packet.body[0:4], packet.body[13]
        if packet.protocol == _TCP and flags == _SYN:
            assert ports not in sent, "a SYN was sent again"
            sent[ports] = packet.at_ns
        elif packet.protocol == _TCP and flags == _SYN_ACK:
            found.append((packet.at_ns - sent[ports[2:4] + ports[0:2]]) / 1e9)
    assert len(found) == len(sent)
    return found
