from __future__ import annotations

import asyncio

import pytest

from probes.base import Fault, Path, Reading
from probes.dialogue import UNMATCHED_LIMIT
from probes.tcp import PROBE
from tests.probes.probing import cancelled_after, open_sockets, run_probe
from tests.servers import (
    Address,
    byte_server,
    deaf_port,
    drip_server,
    endless_line_server,
    refused_port,
    resetting_server,
    silent_server,
    talk_server,
)


async def tcp(server: Address, *dialogue: dict[str, str], timeout_s: float = 3.0, path: Path | None = None) -> Reading:
    return await run_probe(
        PROBE, timeout_s=timeout_s, path=path, host=server.host, port=server.port, dialogue=list(dialogue)
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_open_port_is_good_and_nothing_is_sent(host: str) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read())

    async with byte_server(handler, host=host) as server:
        reading = await tcp(server)
        assert await heard.get() == b""
    assert (reading.fault, reading.facts) == (None, {"address": host})
    assert reading.phases.keys() == {"resolve", "connect"}


async def test_a_closed_port_is_a_refusal() -> None:
    with refused_port() as closed:
        reading = await tcp(closed)
    assert reading.fault is Fault.REFUSED
    assert reading.detail == f"Connection refused (127.0.0.1 port {closed.port})"


async def test_a_port_that_never_answers_is_a_timeout() -> None:
    with deaf_port() as deaf:
        reading = await tcp(deaf, timeout_s=0.05)
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no answer within 0.05 s in phase connect")


async def test_silence_where_words_are_expected_is_a_timeout() -> None:
    async with silent_server() as server:
        reading = await tcp(server, {"expect": "hello"}, timeout_s=0.05)
    assert (reading.fault, reading.detail) == (Fault.TIMEOUT, "no answer within 0.05 s in phase processing")


async def test_a_dialogue_goes_step_by_step() -> None:
    async with talk_server(b"220 mail ready\r\n", b"250-one\r\n250 two\r\n", b"221 bye\r\n") as server:
        reading = await tcp(
            server,
            {"expect": "^220 "},
            {"send": "EHLO a\r\n", "expect": "(?m)^250 .*\n"},
            {"send": "QUIT\r\n", "expect": "^221"},
        )
    assert reading.fault is None
    assert reading.facts["answer"] == "221 bye"
    assert reading.phases.keys() == {"resolve", "connect", "processing"}


async def test_what_came_behind_a_match_is_left_to_the_next_step() -> None:
    async with talk_server(b"one two three") as server:
        reading = await tcp(server, {"expect": "one"}, {"expect": "^ two"}, {"expect": "^ three$"})
    assert reading.fault is None


async def test_words_that_were_used_do_not_match_again() -> None:
    async with talk_server(b"one two") as server:
        reading = await tcp(server, {"expect": "two"}, {"expect": "one"})
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "expected pattern 'one', got nothing more and the end")


async def test_sending_alone_is_enough() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.readline())

    async with byte_server(handler) as server:
        assert (await tcp(server, {"send": "xin chào\n"})).fault is None
        assert await heard.get() == "xin chào\n".encode()


async def test_the_wrong_words_are_a_content_fault_that_shows_them() -> None:
    async with talk_server("421 quá tải\r\n".encode()) as server:
        reading = await tcp(server, {"expect": "^220 "})
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "expected pattern '^220 ', got '421 quá tải' and the end"
    assert reading.facts["answer"] == "421 quá tải"


async def test_garbage_is_a_content_fault_on_one_line() -> None:
    async with talk_server(bytes(range(256))) as server:
        reading = await tcp(server, {"expect": "^SSH-"})
    assert reading.fault is Fault.CONTENT
    assert reading.detail.isprintable()


async def test_an_answer_without_end_is_bounded() -> None:
    async with endless_line_server() as server:
        reading = await tcp(server, {"expect": "b"})
    assert reading.fault is Fault.CONTENT
    assert int(reading.detail.rsplit(" ", 2)[1]) < UNMATCHED_LIMIT + 65536 + 1


async def test_a_pattern_that_would_hang_elsewhere_does_not() -> None:
    async with talk_server(b"a" * 5000 + b"b") as server:
        reading = await tcp(server, {"expect": "(a*)*c"})
    assert reading.fault is Fault.CONTENT
    assert reading.duration_s < 2


async def test_a_letter_cut_in_two_by_the_network_is_put_together() -> None:
    async with drip_server("chào".encode(), every_s=0.001) as server:
        assert (await tcp(server, {"expect": "chào"})).fault is None


async def test_what_came_before_the_deadline_is_kept() -> None:
    async with talk_server(b"HELLO\n", b"", b"") as server:
        reading = await tcp(server, {"expect": "WORLD"}, timeout_s=0.05)
    assert (reading.fault, reading.facts["answer"]) == (Fault.TIMEOUT, "HELLO")


async def test_hanging_up_without_a_word_is_a_refusal() -> None:
    async with talk_server(b"") as server:
        reading = await tcp(server, {"expect": "."})
    assert (reading.fault, reading.detail) == (Fault.REFUSED, "the server hung up without a word")


async def test_a_reset_is_a_refusal() -> None:
    async with resetting_server() as server:
        assert (await tcp(server, {"expect": "."})).fault is Fault.REFUSED


async def test_the_server_sees_the_paths_source() -> None:
    async def handler(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(writer.get_extra_info("peername")[0].encode())

    async with byte_server(handler) as server:
        path = Path("vnpt", "VNPT", source="127.0.0.8")
        assert (await tcp(server, {"expect": r"^127\.0\.0\.8$"}, path=path)).fault is None


async def test_an_interface_that_is_not_there_is_our_own_fault() -> None:
    async with silent_server() as server:
        reading = await tcp(server, path=Path("4g", "4G", interface="wwan99"))
    assert (reading.fault, reading.detail) == (Fault.LOCAL, "cannot leave by path 4g (wwan99): No such device")


async def test_cancelling_closes_the_connection() -> None:
    async with silent_server() as server:
        before = open_sockets()
        await cancelled_after(PROBE, 0.02, host=server.host, port=server.port, dialogue=[{"expect": "x"}])
        await asyncio.sleep(0.02)
        assert open_sockets() == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dialogue": [{}]}, "give send, expect or both"),
        ({"dialogue": [{"expect": "(a"}]}, r"not a regular expression \(RE2 syntax\): missing \)"),
        ({"dialogue": [{"expect": r"(a)\1"}]}, "invalid escape sequence"),
        ({"dialogue": [{"send": "a"}] * 21}, "at most 20 items"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"port": "80"}, "valid integer"),
        ({"tls": True}, "Extra inputs are not permitted"),
    ],
)
async def test_wrong_settings_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        await run_probe(PROBE, **{"host": "127.0.0.1", "port": 1, **wrong})  # type: ignore[arg-type]
