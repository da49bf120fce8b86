from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import Fault, ProbeError
from probes.hpack import LIST_LIMIT, Decoder, encode, huffman


def hexed(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


# The examples of RFC 7541 appendix C.
def test_the_standard_s_literals_and_indexes() -> None:
    custom = hexed("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")
    assert Decoder().decode(custom) == [("custom-key", "custom-header")]
    assert Decoder().decode(hexed("040c 2f73 616d 706c 652f 7061 7468")) == [(":path", "/sample/path")]
    assert Decoder().decode(hexed("82")) == [(":method", "GET")]


def test_the_standard_s_requests_with_huffman_codes_share_one_table() -> None:
    decoder = Decoder()
    first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
    assert decoder.decode(hexed("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")) == first
    assert decoder.decode(hexed("8286 84be 5886 a8eb 1064 9cbf")) == [*first, ("cache-control", "no-cache")]
    third = decoder.decode(hexed("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"))
    assert third == [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ]


def test_an_entry_that_no_longer_fits_is_forgotten() -> None:
    decoder = Decoder()
    decoder.decode(hexed("4001 6101 62"))  # a: b
    assert decoder.decode(hexed("be")) == [("a", "b")]
    with pytest.raises(ProbeError, match="an index of nothing"):
        decoder.decode(hexed("20 be"))  # the table is made empty first


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("80", "an index of nothing"),
        ("ff", "a number without end"),
        ("ffffffffffffffff", "a number without end"),
        ("0005 61", "less than it promises"),
        ("00", "less than it promises"),
        ("3fe2 1f", "a larger table than was allowed"),
        ("0081 00 00", "wrong padding"),
        ("0084 ffffffff 00", "a Huffman code that does not exist"),
    ],
)
def test_what_is_malformed_is_a_named_fault(block: str, words: str) -> None:
    with pytest.raises(ProbeError, match=words) as caught:
        Decoder().decode(hexed(block))
    assert caught.value.fault is Fault.PROTOCOL


def test_a_short_block_cannot_grow_without_bound() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40\x01a" + b"\x7f\x81\x1e" + b"b" * 3968)
    with pytest.raises(ProbeError, match=f"longer than {LIST_LIMIT} bytes"):
        decoder.decode(b"\xbe" * 1000)


names = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), min_size=1, max_size=200)


@given(st.lists(st.tuples(names, st.text(max_size=300).filter(lambda t: t.isprintable())), max_size=10))
def test_what_is_encoded_is_decoded_again(headers: list[tuple[str, str]]) -> None:
    assert Decoder().decode(encode(headers)) == headers


@given(st.binary(max_size=300))
def test_any_bytes_are_headers_or_a_named_fault(block: bytes) -> None:
    with contextlib.suppress(ProbeError):
        Decoder().decode(block)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_huffman_string_or_a_named_fault(raw: bytes) -> None:
    with contextlib.suppress(ProbeError):
        assert len(huffman(raw)) <= len(raw) * 8 // 5
