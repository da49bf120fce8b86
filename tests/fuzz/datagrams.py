"""Parsers of packets and messages in bytes: ICMP, STAMP, STUN, NTP, SNMP, DNS, certificates."""

from __future__ import annotations

import struct
from typing import Final

from probes import dns_message, ntp, snmp_message, snmp_usm, stamp_packet, stun_message
from probes.base import ProbeError
from probes.blackbox.certificate import read_leaf
from probes.certificates import read_certificate, refusal
from probes.icmp_packet import Echo, encode, parse, reason
from probes.net import offender
from probes.own_clock import stamp_of
from probes.resolver_wire import NameServer
from probes.snmp_ber import BerError, Reader, dotted, octets, sequence
from probes.stun_message import Attr, Method
from tests.fuzz.target import Target

_KEY: Final = b"mot khoa bi mat"
_TRANSACTION: Final = b"giaodich-012"
_LOGIN: Final = stun_message.login("trực", "mật khẩu", b"langson.gov.vn", b"n0nce")
_COMMUNITY: Final = b"langson"
_ENGINE: Final = snmp_usm.Engine(b"\x80\x00\x1f\x88\x04abcd", 3, 1000)
_USER: Final = snmp_usm.User(b"truc", snmp_usm.Auth.SHA256, b"mat khau dai", b"mat khau khac")
_SYSTEM: Final = (1, 3, 6, 1, 2, 1, 1, 3, 0)


# ICMP: the first byte says the version and whether the IP header comes first.


def _icmp(data: bytes) -> None:
    version, ip_header = (6 if data[:1] > b"\x7f" else 4), data[:1].isalpha()
    found = parse(version, data[1:], ip_header=ip_header)
    if found is not None and not isinstance(found, Echo):
        reason(version, found)


_ECHO: Final = encode(4, Echo(True, 7, 9, bytes(range(56))))
_QUOTED_IP: Final = bytes.fromhex("4500005400004000400100000a0000010a000002")
_DEAD: Final = bytes.fromhex("0301000000000000") + _QUOTED_IP + encode(4, Echo(False, 7, 9, bytes(16)))
_QUOTED_IP6: Final = bytes.fromhex("6000000000103a40") + bytes(15) + b"\x01" + bytes(15) + b"\x02"
_BIG6: Final = bytes.fromhex("020000000000050c") + _QUOTED_IP6 + encode(6, Echo(False, 7, 9, bytes(16)))


# STAMP


def _stamp(data: bytes) -> None:
    for key in (b"", _KEY):
        stamp_packet.parse_test(data, key)
        back = stamp_packet.parse_reflected(data, key)
        if back is not None:
            assert isinstance(back.held_ns, int)
            stamp_packet.claimed_error_s(back.clock)


_TEST: Final = stamp_packet.Test(1, stamp_of(10**18), 0x8001)
_BACK: Final = stamp_packet.Reflected(1, 10**18 + 90, 0x8001, 0, 10**18 + 50, _TEST, 64)


# STUN


def _stun(data: bytes) -> None:
    whole = data[:8] + _TRANSACTION + data[20:]  # a fuzzer cannot guess what we drew at random
    for method in (Method.BINDING, Method.ALLOCATE):
        answer = stun_message.parse(whole, method, _TRANSACTION)
        if answer is not None:
            answer.is_from(_LOGIN)
            assert len(answer.software) <= len(data)
            str(answer.mapped)
    stun_message.wire_size(data)


def _stun_answer(kind: int, *attributes: tuple[int, bytes]) -> bytes:
    asked = stun_message.encode(Method.BINDING, _TRANSACTION, [(Attr(a), value) for a, value in attributes])
    return kind.to_bytes(2, "big") + asked[2:-8].replace(asked[2:4], (len(asked) - 28).to_bytes(2, "big"), 1)


_MAPPED: Final = (Attr.XOR_MAPPED_ADDRESS, bytes.fromhex("0001a147e112a643"))
_CHALLENGE: Final = (Attr.ERROR_CODE, b"\0\0\x04\x01Unauthorized")


# NTP


def _ntp(data: bytes) -> None:
    ntp.nonce_of(data)
    answer = ntp.parse(data)
    assert answer.kiss.isprintable()
    assert answer.source.isprintable()


_TIME: Final = struct.pack(
    "!BBbbII4sQQQQ", 0x24, 2, 6, -20, 500, 900, b"\xcb\x71\x0a\x01", 1 << 60, 7, 2 << 60, 3 << 60
)
_KISS: Final = struct.pack("!BBbbII4sQQQQ", 0xE4, 0, 6, -20, 0, 0, b"RATE", 0, 7, 0, 0)


# SNMP


def _snmp_v2c(data: bytes) -> None:
    pdu = snmp_message.read_v2c(data, _COMMUNITY)
    assert len(pdu.bindings) <= snmp_message.BINDINGS_LIMIT
    assert pdu.error.isprintable()
    for name, _ in pdu.bindings:
        dotted(name)


def _snmp_v3(data: bytes) -> None:
    snmp_usm.read_v3(data, _USER if data[-1:] > b"\x7f" else snmp_usm.User(b"truc"))


def _ber(data: bytes) -> None:
    reader = Reader(data)
    while reader.more:
        reader.value()


def _response(wire: bytes) -> bytes:
    return wire.replace(b"\xa0", b"\xa2", 1)  # a request becomes the response of an agent that knows no value


_ASKED: Final = snmp_message.get(77, [_SYSTEM])
_V2C: Final = _response(snmp_message.encode_v2c(_COMMUNITY, _ASKED))
_V3_PLAIN: Final = _response(snmp_usm.encode_v3(_ASKED, 5, snmp_usm.User(b"truc"), _ENGINE, b""))
_V3_SECRET: Final = snmp_usm.encode_v3(_ASKED, 5, _USER, _ENGINE, b"muoi-8by")
_VALUES: Final = bytes.fromhex("410200ff4203010203430400a1b2c34608ffffffffffffffff06082b060102010103000500") + octets(
    b"x"
)


# DNS


_QUESTION: Final = dns_message.question("langson.gov.vn", "A")
_IDENT: Final = 0x4C53
_HEAD: Final = struct.pack("!HHHHHH", _IDENT, 0x8180, 1, 2, 0, 1) + _QUESTION.name + b"\0\1\0\1"
_CNAME: Final = b"\xc0\x0c\0\x05\0\x01\0\0\x01\x2c\0\x06\x03www\xc0\x0c"
_A: Final = b"\xc0\x2c\0\x01\0\x01\0\0\x00\x3c\0\x04\xcb\x71\x0a\x05"
_OPT: Final = b"\0\0\x29\x04\xd0\0\0\0\0\0\x08\0\x0f\0\x04\0\x16up"
_DIRECT: Final = _HEAD[:7] + b"\x01" + _HEAD[8:11] + b"\0" + _HEAD[12:] + b"\xc0\x0c" + _A[2:]
_SOA: Final = (
    _HEAD[:6] + b"\0\0\0\x01\0\0" + _HEAD[12:] + b"\xc0\x0c\0\x06\0\x01\0\0\x0e\x10\0\x18\xc0\x0c\xc0\x0c"
    + struct.pack("!5I", 2026020101, 3600, 600, 86400, 300) + b"\x01a\0\0"
)  # fmt: skip


def _answered(data: bytes) -> dns_message.Answer | None:
    # The identifier and the question are ours: what does not repeat them is not read at all.
    wire = data if data[:2] == _HEAD[:2] else _HEAD[:2] + data[:10] + _HEAD[12:] + data[10:]
    return dns_message.parse(wire, _IDENT, _QUESTION)


def _dns(data: bytes) -> None:
    answer = _answered(data)
    if answer is None:
        return
    dns_message.rcode_name(answer.rcode)
    dns_message.matching(answer, _QUESTION)
    for read in (_soa, _texts):
        read(answer)


def _soa(answer: dns_message.Answer) -> None:
    dns_message.soa_serial(answer)


def _texts(answer: dns_message.Answer) -> None:
    for record in (*answer.answers, *answer.authority, *answer.additional):
        try:
            dns_message.text(answer, record)
        except ProbeError:
            continue


def _resolver(data: bytes) -> None:
    answer = _answered(data)
    if answer is not None:
        NameServer("192.0.2.53").read_datagram(_QUESTION, answer, edns=bool(data[-1:] > b"\x7f"))


# Certificates


def _certificate(data: bytes) -> None:
    for host in ("mail.langson.gov.vn", "127.0.0.1"):
        leaf = read_certificate(data)
        leaf.shown_names()
        for code in (9, 10, 18, 20, 62, 99):
            refusal(code, "no", host, leaf)


def _leaf(data: bytes) -> None:
    read_leaf(data)


# One that signed itself: CN and a name of Lạng Sơn's mail, made once with openssl.
_CERTIFICATE: Final = bytes.fromhex(
    """
    30820211308201b8a00302010202147571fc2e83b845c0498ee160bd4265c769eb46df300a06082a8648ce3d0403023052310b3009060355
    04061302564e31253023060355040a0c1c536f2054686f6e672074696e2076612054727579656e2074686f6e67311c301a06035504030c13
    6d61696c2e6c616e67736f6e2e676f762e766e301e170d3236313132323036323634335a170d3336313131393036323634335a3052310b30
    0906035504061302564e31253023060355040a0c1c536f2054686f6e672074696e2076612054727579656e2074686f6e67311c301a060355
    04030c136d61696c2e6c616e67736f6e2e676f762e766e3059301306072a8648ce3d020106082a8648ce3d030107034200043fb6f5d82edb
    e2ba862676377355bf5bc4f1fdf49d6e78b9f7d2ff5680af73f8c85f888e423914c731237a9c5e7b61c525b45a6a530fd41e9a40f5a7f917
    eee5a36c306a303e0603551d110437303582136d61696c2e6c616e67736f6e2e676f762e766e82102a2e6c616e67736f6e2e676f762e766e
    8704c000020181066140622e766e30090603551d1304023000301d0603551d0e0416041404937810e8352a547cde74ad108984f63f9a69e1
    300a06082a8648ce3d0403020347003044022046dc2e39c730447ee4f39f7bfdd16304e866a51356e00ac2a043b1b7b2adcd5b022059b15e
    1b5ee789a61f903b0fa3257f7007a21449c22a1e9e472afd7b0d43ec5d
    """
)


def _offender(data: bytes) -> None:
    offender(data)


TARGETS: Final = (
    Target("icmp", _icmp, (b"0" + _ECHO, b"a" + _QUOTED_IP + _ECHO, b"0" + _DEAD, b"\xff" + _BIG6)),
    Target("icmp_error_queue", _offender, (b"\2\0\0\0\x0a\0\0\1" + bytes(8), b"\x0a\0" + bytes(26)), ()),
    Target("stamp", _stamp, (_TEST.encode(44), _BACK.encode(bytes(60)), _BACK.encode(bytes(112), _KEY)), ()),
    Target("stun", _stun, (_stun_answer(0x0101, _MAPPED), _stun_answer(0x0111, _CHALLENGE))),
    Target("ntp", _ntp, (_TIME, _KISS)),
    Target("snmp_v2c", _snmp_v2c, (_V2C,), (BerError,)),
    Target("snmp_v3", _snmp_v3, (_V3_PLAIN, _V3_SECRET), (BerError,)),
    Target("snmp_ber", _ber, (_VALUES, sequence(_VALUES)), (BerError,)),
    Target("dns", _dns, (_HEAD + _CNAME + _A + _OPT, _DIRECT, _SOA)),
    Target("resolver", _resolver, (_DIRECT, _HEAD + _CNAME + _A + _OPT, _SOA)),
    Target("certificate", _certificate, (_CERTIFICATE,)),
    Target("certificate_of_blackbox", _leaf, (_CERTIFICATE,)),
)
