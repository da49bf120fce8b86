"""What the differential run cannot show: newer probers, `compat: fixed`, proxies, certificates of clients, bounds."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web

from probes.blackbox.dns import record_texts
from tests.exporters.blackbox_endpoint import endpoint
from tests.servers import (
    LOOPBACK,
    Address,
    Certificates,
    byte_server,
    datagram_server,
    endless_line_server,
    refused_port,
    silent_server,
    talk_server,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def at(server: Address) -> str:
    return f"{server.host}:{server.port}"


@contextlib.asynccontextmanager
async def web_server(app: web.Application, tls: ssl.SSLContext | None = None) -> AsyncIterator[Address]:
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls).start()
    yield Address(LOOPBACK, runner.addresses[0][1])
    await runner.cleanup()


@contextlib.asynccontextmanager
async def unix_server(path: Path, said: bytes) -> AsyncIterator[str]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_unix_server(lambda r, w: tasks.add(asyncio.create_task(handler(r, w))), path)
    yield str(path)
    await asyncio.sleep(0.01)
    server.close()
    await asyncio.gather(*tasks)


UNIX = """
modules:
  open: {prober: unix, timeout: 1s}
  pong: {prober: unix, timeout: 1s, unix: {query_response: [{expect: "^PO(NG)", labels: [{name: got, value: "${1}"}]}]}}
"""


async def test_unix_has_no_addresses_and_the_figures_of_a_dialogue(tmp_path: Path) -> None:
    async with unix_server(tmp_path / "s", b"PONG\n") as path, endpoint(UNIX, allow=(f"{tmp_path}/*",)) as asked:
        found = await asked.probe("pong", path)
        dead = await asked.probe("open", f"{path}-none")
        assert (await asked.get("/probe", None, module="open", target="/run/other"))[0] == 403
    assert found["probe_success"] == 1
    assert found['probe_expect_info{got="NG"}'] == 1
    assert {name for name in found if not name.endswith("seconds")} == {
        "probe_success", "probe_failed_due_to_regex", "probe_failed_due_to_bytes", 'probe_expect_info{got="NG"}',
    }  # fmt: skip
    assert dead["probe_success"] == 0
    assert "probe_failed_due_to_regex" not in dead


SOCKETS = """
modules:
  live: {prober: websocket, timeout: 1s}
  greet:
    prober: websocket
    timeout: 1s
    websocket:
      http_config: {authorization: {credentials: bi-mat}}
      headers: {X-Tinh: {values: [ls]}}
      query_response: [{expect: "xin (.*)", send: "ack ${1}"}, {expect: "^echo ack chào$"}]
  wrong: {prober: websocket, timeout: 1s, websocket: {query_response: [{expect: "tạm biệt"}]}}
  tls: {prober: websocket, timeout: 1s, websocket: {http_config: {tls_config: {insecure_skip_verify: true}}}}
"""


def live_app() -> web.Application:
    async def live(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        login = request.headers.get("Authorization") == "Bearer bi-mat" and request.headers["X-Tinh"] == "ls"
        await socket.send_str("xin chào" if login else "không")
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                await socket.send_str(f"echo {message.data}")
        return socket

    app = web.Application()
    app.router.add_get("/live", live)
    return app


async def test_websocket_upgrades_talks_and_tells(certificates: Certificates) -> None:
    async with web_server(live_app()) as server, endpoint(SOCKETS) as asked:
        url = f"ws://{at(server)}"
        live, greet, wrong, absent = (
            await asked.probe("live", f"{url}/live"),
            await asked.probe("greet", f"{url}/live"),
            await asked.probe("wrong", f"{url}/live"),
            await asked.probe("live", f"{url}/absent"),
        )
        nothing = await asked.probe("live", "http://127.0.0.1/")
    async with web_server(live_app(), certificates.good.server_context()) as server, endpoint(SOCKETS) as asked:
        tls = await asked.probe("tls", f"wss://{at(server)}/live")
    upgraded = "probe_websocket_connection_upgraded"
    assert (live["probe_success"], live["probe_websocket_status_code"], live[upgraded]) == (1, 101, 1)
    assert (greet["probe_success"], greet["probe_websocket_failed_due_to_regex"]) == (1, 0)
    assert (wrong["probe_success"], wrong["probe_websocket_failed_due_to_regex"]) == (0, 1)
    assert (absent["probe_success"], absent["probe_websocket_status_code"], absent[upgraded]) == (0, 404, 0)
    assert nothing["probe_success"] == 0
    assert 'probe_websocket_duration_seconds{phase="transfer"}' in live
    assert tls["probe_success"] == 1
    assert not [name for name in tls if "ssl" in name or "tls" in name]


TALKS = """
modules:
  bytes:
    prober: tcp
    timeout: 1s
    tcp: {query_response: [{expect: "^one"}, {expect_bytes: "two"}, {expect: "^ three"}]}
  long: {prober: tcp, timeout: 1s, tcp: {query_response: [{expect_bytes: "0123456789"}]}}
  labels:
    prober: tcp
    timeout: 1s
    tcp:
      query_response:
        - expect: "^220 (?P<host>\\\\S+) (\\\\w+)"
          labels: [{name: host, value: "${host}"}, {name: soft, value: "$2!"}]
        - {expect: "^250 (.*)", labels: [{name: more, value: "$1"}]}
  prompt: {prober: tcp, timeout: 100ms, tcp: {query_response: [{expect: "login: "}]}}
  plain_tls: {prober: tcp, timeout: 1s, tcp: {tls: true, query_response: [{starttls: true}]}}
  injected: {prober: tcp, timeout: 1s, tcp: {query_response: [{expect: "^220"}, {starttls: true}]}}
"""


async def test_bytes_after_a_line_are_not_lost_and_wrong_ones_are_told() -> None:
    async with endpoint(TALKS) as asked:
        async with talk_server(b"one\ntwo three\n") as server:
            mixed = await asked.probe("bytes", at(server))
        async with talk_server(b"one\ntww three\n") as server:
            wrong = await asked.probe("bytes", at(server))
        async with talk_server(b"0123") as server:
            short = await asked.probe("long", at(server))
    assert (mixed["probe_success"], mixed["probe_failed_due_to_bytes"]) == (1, 0)
    assert (wrong["probe_success"], wrong["probe_failed_due_to_bytes"]) == (0, 1)
    assert (short["probe_success"], short["probe_failed_due_to_bytes"]) == (0, 0)


async def test_labels_of_two_steps_are_joined_and_no_panic() -> None:
    greeting = b'220 mail.example.vn "quoted" Postfix\n220 b ESMTP\n250 a "b"\\\n'
    async with talk_server(greeting) as server, endpoint(TALKS) as asked:
        found = await asked.probe("labels", at(server))
    assert found['probe_expect_info{host="b",more="a \\"b\\"\\\\",soft="ESMTP!"}'] == 1


async def test_a_prompt_is_found_when_fixed_and_only_then() -> None:
    async def prompt(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome\nlogin: ")
        await reader.read()

    async with byte_server(prompt) as server:
        async with endpoint(TALKS) as asked:
            assert (await asked.probe("prompt", at(server)))["probe_success"] == 0
        async with endpoint(TALKS, fixed=True) as asked:
            assert (await asked.probe("prompt", at(server)))["probe_success"] == 1


async def test_tls_inside_tls_and_text_ahead_of_tls_fail_the_probe(certificates: Certificates) -> None:
    modules = TALKS.replace("tls: true,", f"tls: true, tls_config: {{ca_file: {certificates.ca_file}}},")
    async with endpoint(modules) as asked:
        async with silent_tls(certificates) as server:
            assert "starttls inside TLS" in await asked.debug("plain_tls", at(server))
        async with talk_server(b"220 ready\r\n250 injected\r\n") as server:
            said = await asked.debug("injected", at(server))
    assert "The server said more before TLS began" in said
    assert "probe_success 0" in said


@contextlib.asynccontextmanager
async def silent_tls(certificates: Certificates, *, asks: bool = False) -> AsyncIterator[Address]:
    context = certificates.good.server_context()
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificates.ca_file)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.read()

    async with byte_server(handler, tls=context) as server:
        yield server


async def test_a_clients_certificate_is_shown_from_files_and_from_the_module_itself(certificates: Certificates) -> None:
    good = certificates.good
    banner = "query_response: [{expect: '^220'}]"
    cert, key = (file.read_text().replace("\n", "\\n") for file in (good.chain_file, good.key_file))
    modules = f"""
modules:
  files:
    prober: tcp
    timeout: 2s
    tcp: {{tls: true, {banner}, tls_config: {{ca_file: {certificates.ca_file}, cert_file: {good.chain_file},
           key_file: {good.key_file}}}}}
  inline:
    prober: tcp
    timeout: 2s
    tcp: {{tls: true, {banner}, tls_config: {{ca_file: {certificates.ca_file}, cert: "{cert}", key: "{key}"}}}}
  none: {{prober: tcp, timeout: 2s, tcp: {{tls: true, {banner}, tls_config: {{ca_file: {certificates.ca_file}}}}}}}
  old:
    prober: tcp
    timeout: 2s
    tcp: {{tls: true, {banner}, tls_config: {{insecure_skip_verify: true, max_version: TLS12}}}}
  absent: {{prober: tcp, timeout: 2s, tcp: {{tls: true, tls_config: {{ca_file: /nowhere/ca.pem}}}}}}
"""
    async with endpoint(modules) as asked:
        async with silent_tls(certificates, asks=True) as server:
            found = {name: await asked.probe(name, at(server)) for name in ("files", "inline", "none")}
        async with silent_tls(certificates) as server:
            old = await asked.probe("old", at(server))
            absent = await asked.debug("absent", at(server))
    assert {name: one["probe_success"] for name, one in found.items()} == {"files": 1, "inline": 1, "none": 0}
    assert old['probe_tls_version_info{version="TLS 1.2"}'] == 1
    assert "tls_config cannot be used" in absent


async def test_what_a_refused_certificate_says_is_told_when_fixed(certificates: Certificates) -> None:
    modules = f"""
modules:
  web: {{prober: http, timeout: 2s, http: {{tls_config: {{ca_file: {certificates.ca_file}}}}}}}
  any: {{prober: http, timeout: 2s, http: {{tls_config: {{insecure_skip_verify: true}}}}}}
"""
    expiry, chain = "probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_expiry_timestamp_seconds"
    async with web_server(web.Application(), certificates.expired.server_context()) as server:
        url = f"https://{at(server)}/"
        async with endpoint(modules) as asked:
            strict, unverified = await asked.probe("web", url), await asked.probe("any", url)
        async with endpoint(modules, fixed=True) as asked:
            fixed, unverified_fixed = await asked.probe("web", url), await asked.probe("any", url)
    assert expiry not in strict
    assert fixed[expiry] == certificates.expired_at.timestamp()
    assert unverified[chain] == -62135596800
    assert chain not in unverified_fixed


DNS = """
modules:
  a: {prober: dns, timeout: 200ms, dns: {query_name: tinh.example.vn, query_type: A,
      validate_answer_rrs: {fail_if_all_match_regexp: [192]}}}
  tls: {prober: dns, timeout: 1s, dns: {query_name: tinh.example.vn, query_type: A, transport_protocol: tcp,
      dns_over_tls: true, tls_config: {insecure_skip_verify: true}}}
  odd: {prober: dns, timeout: 1s, dns: {query_name: tinh.example.vn, query_type: NONSENSE}}
"""


def dns_answer(query: bytes) -> bytes:
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x0a"
    return query[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + query[12:] + record


async def test_the_inverted_rule_of_dns_is_turned_round_when_fixed() -> None:
    async with datagram_server(dns_answer) as server:
        async with endpoint(DNS) as asked:
            strict = await asked.probe("a", at(server))
            odd = await asked.probe("odd", at(server))
        async with endpoint(DNS, fixed=True) as asked:
            fixed = await asked.probe("a", at(server))
    assert (strict["probe_success"], fixed["probe_success"], odd["probe_success"]) == (1, 0, 0)
    assert "probe_failed_due_to_regex" not in strict
    assert fixed["probe_failed_due_to_regex"] == 1


async def test_dns_over_tls(certificates: Certificates) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = dns_answer(await reader.readexactly(size))
        writer.write(len(answer).to_bytes(2, "big") + answer)
        await reader.read()

    async with byte_server(handler, tls=certificates.good.server_context()) as server, endpoint(DNS) as asked:
        found = await asked.probe("tls", at(server))
    assert (found["probe_success"], found["probe_dns_answer_rrs"]) == (1, 1)


def test_records_are_written_with_tabs() -> None:
    query = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04tinh\x07example\x02vn\x00\x00\x01\x00\x01"
    assert record_texts(dns_answer(query)) == (["tinh.example.vn.\t300\tIN\tA\t192.0.2.10"], [], [])


PROXY = """
modules:
  proxied: {prober: http, timeout: 1s, http: {proxy_url: "http://can-bo:mat-khau@%s",
      proxy_connect_header: {X-Ask: [now]}, tls_config: {insecure_skip_verify: true}, enable_http2: false}}
"""


async def test_a_proxy_is_asked_for_pages_and_for_tunnels(certificates: Certificates) -> None:
    heard: list[bytes] = []

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="inside")

    app = web.Application()
    app.router.add_get("/page", page)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        heard.append(head)
        if not head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return
        host, port = head.split(b" ")[1].decode().split(":")
        inner_reader, inner_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n")
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    async with byte_server(proxy) as server, endpoint(PROXY % at(server)) as asked:
        plain = await asked.probe("proxied", "http://127.0.0.1:9/page?a=b")
        async with web_server(app, certificates.good.server_context()) as inside:
            tunnel = await asked.probe("proxied", f"https://{at(inside)}/page")
        with refused_port() as closed:
            refused = await asked.probe("proxied", f"https://{at(Address(*closed))}/page")
    assert (plain["probe_success"], tunnel["probe_success"], refused["probe_success"]) == (1, 1, 0)
    assert tunnel["probe_http_ssl"] == 1
    assert heard[0].startswith(b"GET http://127.0.0.1:9/page?a=b HTTP/1.1\r\n")
    assert all(b"Proxy-Authorization: Basic " + base64.b64encode(b"can-bo:mat-khau") in head for head in heard)
    assert b"X-Ask: now" in heard[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


HTTP = """
modules:
  host: {prober: http, timeout: 1s, http: {headers: {host: a.example.vn}}}
  web: {prober: http, timeout: 1s}
  many: {prober: http, timeout: 1s, http: {http_headers: {X-A: {values: [b, c], secrets: [d], files: [%s]}},
      basic_auth: {username_file: %s, password: p}}}
  file: {prober: http, timeout: 1s, http: {body_file: %s, method: PUT}}
  gone: {prober: http, timeout: 1s, http: {body_file: /nowhere/body}}
  small: {prober: http, timeout: 2s, http: {fail_if_body_not_matches_regexp: [never]}}
"""


@contextlib.asynccontextmanager
async def echoing() -> AsyncIterator[Address]:
    """Answer with what was asked, in headers that a module's rule could see; kept for the test in HEARD."""

    async def echo(request: web.Request) -> web.Response:
        HEARD.append((request.method, dict(request.headers), await request.text()))
        return web.Response(text="ok")

    app = web.Application()
    HEARD.clear()
    app.router.add_route("*", "/{tail:.*}", echo)
    async with web_server(app) as server:
        yield server


HEARD: list[tuple[str, dict[str, str], str]] = []


async def test_headers_logins_and_bodies_are_sent_as_the_module_says(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(" e \n")
    modules = HTTP % ((tmp_path / "x",) * 3)
    async with echoing() as server, endpoint(modules) as asked:
        url = f"http://{at(server)}/"
        for module in ("many", "file"):
            assert (await asked.probe(module, url))["probe_success"] == 1
        assert (await asked.probe("web", f"http://can-bo:m%E1%BA%ADt@{at(server)}/a b"))["probe_success"] == 1
        gone = await asked.debug("gone", url)
    (_, many, _), (method, _, body), (_, login, _) = HEARD
    assert many["X-A"] == "b, c, d, e"
    assert many["Authorization"] == "Basic ZTpw"  # e:p
    assert (method, body) == ("PUT", " e \n")
    assert login["Authorization"] == "Basic Y2FuLWJvOm3huq10"
    assert "/nowhere/body cannot be read" in gone


async def test_hostname_sets_the_host_and_contradicts_a_module_that_sets_another(tmp_path: Path) -> None:
    modules = HTTP % (("/x",) * 3)
    async with echoing() as server, endpoint(modules) as asked:
        url = f"http://{at(server)}/"
        assert (await asked.probe("web", url, hostname="b.example.vn"))["probe_success"] == 1
        assert (await asked.probe("host", url, hostname="a.example.vn"))["probe_success"] == 1
        status, text = await asked.get("/probe", None, module="host", target=url, hostname="b.example.vn")
    assert [headers["Host"] for _, headers, _ in HEARD] == ["b.example.vn", "a.example.vn"]
    assert status == 400
    assert text == (
        "host header defined both in module configuration (a.example.vn) "
        "and with URL-parameter 'hostname' (b.example.vn)\n"
    )


async def test_a_body_without_end_is_ended_by_the_deadline_and_kept_in_part() -> None:
    modules = HTTP % (("/x",) * 3)
    async with endless_line_server(b"HTTP/1.1 200 OK\r\n\r\n") as server, endpoint(modules) as asked:
        found = await asked.probe("web", f"http://{at(server)}/")
    assert (found["probe_success"], found["probe_http_status_code"]) == (0, 200)
    assert found["probe_http_uncompressed_body_length"] > 100_000


@pytest.mark.parametrize("hostname", ["a\r\nX: y", "a b", "a/b", "", "é"])
async def test_a_hostname_cannot_write_into_the_request(hostname: str) -> None:
    async with echoing() as server, endpoint(HTTP % (("/x",) * 3)) as asked:
        status, text = await asked.get("/probe", None, module="web", target=f"http://{at(server)}/", hostname=hostname)
    assert (status, len(HEARD)) == ((400, 0) if hostname else (200, 1))
    assert hostname == "" or text == "the parameter hostname is no host name\n"


@pytest.mark.parametrize("target", ["a\0b:1", "http://a\nb/", "/run/\0"])
async def test_a_target_that_is_no_text_is_refused(target: str) -> None:
    async with endpoint(HTTP % (("/x",) * 3)) as asked:
        assert (await asked.get("/probe", None, module="web", target=target))[0] == 403


@pytest.mark.parametrize("target", ["http://", "http://[::1", "http://a b/", "https://:443/", "http://h:99999/", "%zz"])
async def test_a_target_that_is_none_fails_and_breaks_nothing(target: str) -> None:
    async with endpoint(HTTP % (("/x",) * 3)) as asked:
        assert (await asked.probe("web", target))["probe_success"] == 0


GRPC = """
modules:
  silent: {prober: grpc, timeout: 100ms}
  icmp: {prober: icmp, timeout: 1s, icmp: {count: 3}}
"""


async def test_grpc_keeps_its_deadline_and_says_so() -> None:
    async with silent_server() as server, endpoint(GRPC) as asked:
        found = await asked.probe("silent", at(server))
    assert (found["probe_success"], found["probe_grpc_status_code"]) == (0, 4)
    assert found['probe_grpc_healthcheck_response{serving_status="SERVING"}'] == 0


async def test_several_echoes_have_the_names_of_synthetic_monitoring() -> None:
    async with endpoint(GRPC) as asked:
        found = await asked.probe("icmp", LOOPBACK)
    assert found["probe_success"] == 1
    assert (found["probe_icmp_packets_sent_count"], found["probe_icmp_packets_received_count"]) == (3, 3)
    least, most = found["probe_icmp_duration_rtt_min_seconds"], found["probe_icmp_duration_rtt_max_seconds"]
    assert 0 < least <= found['probe_icmp_duration_seconds{phase="rtt"}'] <= most
    assert found["probe_icmp_duration_rtt_stddev_seconds"] >= 0
