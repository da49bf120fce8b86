"""Every parser of bytes from the wire: for any bytes a value or a named fault, never another exception.

Random bytes, and real exchanges with a part of them changed; `tests/fuzz` holds the table and a fuzzer for more.
"""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target

EXAMPLES = 50  # of each kind for each parser; the fuzzer tries a thousand times as many

each_parser = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


@st.composite
def _changed(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """One of the exchanges with some stretches taken out, doubled or overwritten."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 8)))
        middle = draw(st.one_of(st.binary(max_size=8), st.just(data[begin:end] * 2), st.sampled_from(_TELLING)))
        data = data[:begin] + middle + data[end:]
    return data


_TELLING = (
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\x80",
    b"-1",
    b"9" * 30,
    b"\r\n",
    b"\n\n",
    b"<!--",
    b"&#x110000;",
)


@each_parser
def test_the_first_of_its_exchanges_is_read_without_a_fault(target: Target) -> None:
    target.take(target.seeds[0])


@each_parser
def test_random_bytes_are_a_value_or_a_named_fault(target: Target) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(st.binary(max_size=200))
    def attempt(data: bytes) -> None:
        target(data)

    attempt()


@each_parser
def test_a_changed_exchange_is_a_value_or_a_named_fault(target: Target) -> None:
    @settings(max_examples=EXAMPLES, deadline=None)
    @given(_changed(target.seeds))
    def attempt(data: bytes) -> None:
        target(data)

    attempt()


LONG = 65_000  # bytes: as much as a datagram holds, or one read of a connection
OF_THE_CONFIGURATION = {"selector", "json_path"}  # short there, and no stranger's
REPEATED = (b"a", b" ", b"'", b"/", b"\0", b"\xff", b"\r\n", b"<a b=", b"a=,", b"&#", b"{1", b"\xc0\x0c")


@pytest.mark.parametrize("name", sorted(set(TARGETS) - OF_THE_CONFIGURATION))
def test_a_long_input_takes_no_quadratic_time(name: str) -> None:
    target = TARGETS[name]
    for piece in (*REPEATED, target.seeds[0]):
        data = target.seeds[0] + piece * (LONG // len(piece))
        began = time.thread_time()
        target(data)
        assert time.thread_time() - began < 1.0, piece  # quadratic time would be many seconds, linear is some 10 ms
