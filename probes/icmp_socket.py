"""Sockets for echoes: raw where allowed, the kernel's ping sockets otherwise, set up for one flow.

Nothing is sent here. Source: raw(7), icmp(7), ip(7), ipv6(7), socket(7) and capabilities(7) of the Linux manual.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from pathlib import Path as FilePath
from typing import Final, NamedTuple

from probes.base import Fault, Path, ProbeError
from probes.net import bind_to_path, queue_errors

# Linux's numbers; the socket module of Python 3.11 lacks the names. asm-generic/socket.h, linux/in.h, linux/in6.h.
SO_MEMINFO: Final = 55
SO_TIMESTAMPNS_NEW: Final = 64  # 64-bit seconds on every architecture
SO_TIMESTAMPING_NEW: Final = 65  # likewise
IPV6_HOPLIMIT: Final = 52
_SO_ATTACH_FILTER: Final = 26
# linux/net_tstamp.h: stamp in software what is sent and what comes, number what is sent, give back no copy of it.
_TX_SOFTWARE: Final = 1 << 1
_RX_SOFTWARE: Final = 1 << 3
_SOFTWARE: Final = 1 << 4
_OPT_ID: Final = 1 << 7
_OPT_TSONLY: Final = 1 << 11
_BOTH_WAYS: Final = _TX_SOFTWARE | _RX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
_IP_RECVTTL: Final = 12
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DO: Final = 2

_PROGRAM: Final = FilePath(sys.executable).resolve()  # the interpreter itself: setcap refuses links
_RECEIVE_BUFFER_BYTES: Final = 1 << 20  # chosen: some 1,000 echoes at the kernel's own accounting


class Flow(NamedTuple):
    """What decides which socket an echo leaves by."""

    family: socket.AddressFamily
    path: Path | None
    dscp: int
    ttl: int | None  # hop limit of what we send; None is the system's own
    dont_fragment: bool = False  # what is too big for the way is refused, not cut into pieces

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if self.family == socket.AF_INET6 else 4


def open_flow(flow: Flow, ident: int) -> tuple[socket.socket, bool]:
    """Open, bind and set up the socket of a flow; True when it is a raw one.

    Raises:
        ProbeError: LOCAL, with what to mend.
    """
    sock, raw = open_icmp(flow.family)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 1)
        if raw:
            _attach_filter(sock, flow.version, ident)
        if flow.version == 4:
            _set_up_v4(sock, flow, raw)
        else:
            _set_up_v6(sock, flow, raw)
        bind_to_path(sock, flow.path)
    except OSError as exc:
        sock.close()
        raise ProbeError(Fault.LOCAL, f"an ICMP socket cannot be set up: {exc.strerror}") from exc
    except BaseException:
        sock.close()
        raise
    return sock, raw


def stamp_both_ways(sock: socket.socket) -> bool:
    """Let the kernel stamp what is sent as well as what comes, numbering what is sent from 0 on; False if it cannot.

    The stamp of a packet sent is put into the socket's error queue when the driver takes the packet: on most ways
    before the call that sends returns. Called again, the numbers begin anew.
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING_NEW, 0)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING_NEW, _BOTH_WAYS)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS_NEW, 0)  # two notes of one moment cost twice
    except OSError:
        return False
    return True


def _set_up_v4(sock: socket.socket, flow: Flow, raw: bool) -> None:
    if not raw:
        queue_errors(sock, True)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    if flow.dscp:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, flow.dscp << 2)
    if flow.ttl is not None:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, flow.ttl)
    if flow.dont_fragment:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)


def _set_up_v6(sock: socket.socket, flow: Flow, raw: bool) -> None:
    if not raw:
        queue_errors(sock, True)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    if flow.dscp:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, flow.dscp << 2)
    if flow.ttl is not None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, flow.ttl)
    if flow.dont_fragment:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)


def open_icmp(family: socket.AddressFamily) -> tuple[socket.socket, bool]:
    """Open a socket for echoes; True when it is a raw one.

    Raises:
        ProbeError: LOCAL when neither kind is permitted, with the fix; or when the family is missing.
    """
    protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
    for kind in (socket.SOCK_RAW, socket.SOCK_DGRAM):
        try:
            return socket.socket(family, kind, protocol), kind == socket.SOCK_RAW
        except PermissionError:
            continue
        except OSError as exc:
            raise ProbeError(Fault.LOCAL, f"an ICMP socket cannot be opened: {exc.strerror}") from exc
    raise ProbeError(Fault.LOCAL, permission_fix())


def permission_fix() -> str:
    """Say what to do so that this process may send echoes."""
    group = os.getegid()
    return (
        f"echoes are not permitted; mend by one of: AmbientCapabilities=CAP_NET_RAW in the unit | "
        f"sysctl -w net.ipv4.ping_group_range='{group} {group}' | setcap cap_net_raw+ep {_PROGRAM}"
    )


# Classic BPF (linux/filter.h): opcodes used below.
_LD_BYTE: Final = 0x30  # absolute
_LD_BYTE_X: Final = 0x50  # behind the IPv4 header whose length is in X
_LD_HALF: Final = 0x28
_LD_HALF_X: Final = 0x48
_LDX_HEADER_LENGTH: Final = 0xB1
_JUMP: Final = 0x05
_JUMP_EQUAL: Final = 0x15
_RETURN: Final = 0x06


def echo_filter(version: int, ident: int) -> list[tuple[int, int, int, int]]:
    """Return the filter that lets through replies to `ident` and ICMP errors that quote it, and nothing else.

    Without it every raw socket wakes for every ping of the host, its own requests on loopback included.
    """
    if version == 4:
        head = [(_LDX_HEADER_LENGTH, 0, 0, 0)]
        byte, half, reply = _LD_BYTE_X, _LD_HALF_X, 0
        errors, quoted_ident = (3, 11, 12, 12), 8 + 20 + 4  # we send no IP options
    else:
        head = []
        byte, half, reply = _LD_BYTE, _LD_HALF, 129
        errors, quoted_ident = (1, 2, 3, 4), 8 + 40 + 4
    return [
        *head,
        (byte, 0, 0, 0),
        (_JUMP_EQUAL, 5, 0, reply),
        (_JUMP_EQUAL, 6, 0, errors[0]),
        (_JUMP_EQUAL, 5, 0, errors[1]),
        (_JUMP_EQUAL, 4, 0, errors[2]),
        (_JUMP_EQUAL, 3, 0, errors[3]),
        (_RETURN, 0, 0, 0),
        (half, 0, 0, 4),
        (_JUMP, 0, 0, 1),
        (half, 0, 0, quoted_ident),
        (_JUMP_EQUAL, 0, 1, ident),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]


def _attach_filter(sock: socket.socket, version: int, ident: int) -> None:
    program = echo_filter(version, ident)
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    held = ctypes.create_string_buffer(code)  # the kernel copies it during the call
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(held)))
