"""Guessing tokens is slow, and holds up nobody else."""

from __future__ import annotations

from exporters.web.wrong_calls import ADDRESSES, MOST, WINDOW_S, WrongCalls

GUESSER = "192.0.2.66"


def guessed(address: str = GUESSER, times: int = MOST) -> WrongCalls:
    calls = WrongCalls()
    for n in range(times):
        assert calls.wait_s(address, n * 0.1) == 0
        calls.note(address, n * 0.1)
    return calls


def test_who_is_wrong_too_often_waits_for_the_rest_of_a_minute() -> None:
    calls = guessed()
    assert calls.wait_s(GUESSER, 10) == WINDOW_S - 10
    assert calls.wait_s("192.0.2.67", 10) == 0
    assert calls.wait_s(GUESSER, WINDOW_S) == 0
    calls.note(GUESSER, WINDOW_S + 1)
    assert calls.wait_s(GUESSER, WINDOW_S + 1) == 0


def test_a_proxy_on_our_own_host_is_not_held_up() -> None:
    for address in ("127.0.0.1", "::1", ""):
        assert guessed(address, 10 * MOST).wait_s(address, 30) == 0


def test_what_is_remembered_is_bounded_and_the_latest_stay() -> None:
    calls = guessed()
    for n in range(ADDRESSES):
        calls.note(f"198.51.{n // 250}.{n % 250}", 11)
    assert len(calls._seen) == ADDRESSES
    assert calls.wait_s(GUESSER, 11) == 0
