from __future__ import annotations

import pytest

from exporters.blackbox import decoded, timeout_of
from tests.exporters.blackbox_endpoint import endpoint
from tests.servers import LOOPBACK, Address, refused_port, silent_server, talk_server

TCP = """
modules:
  tcp: {prober: tcp, timeout: 1s}
  slow: {prober: tcp, timeout: 50ms, tcp: {query_response: [{expect: x}]}}
"""


async def test_the_order_of_the_checks_and_their_texts() -> None:
    async with endpoint(TCP, allow=()) as asked:
        header = {"X-Prometheus-Scrape-Timeout-Seconds": "soon"}
        assert await asked.get() == (400, 'Unknown module "http_2xx"\n')
        assert await asked.get(module="no", headers=header) == (400, 'Unknown module "no"\n')
        unreadable = (
            'Failed to parse timeout from Prometheus header: strconv.ParseFloat: parsing "soon": invalid syntax\n'
        )
        assert await asked.get(module="tcp", headers=header) == (500, unreadable)
        assert await asked.get(module="tcp") == (400, "Target parameter is missing\n")
        assert (await asked.get(module="tcp", target="127.0.0.1:1"))[0] == 403
        assert asked.probing.unknown_modules == 2


async def test_a_failed_probe_is_an_answer_of_its_own() -> None:
    with refused_port() as closed:
        async with endpoint(TCP) as asked:
            found = await asked.probe("tcp", f"{closed.host}:{closed.port}")
    assert (found["probe_success"], found["probe_ip_protocol"]) == (0, 4)
    assert found["probe_ip_addr_hash"] == 3668918509
    assert "probe_failed_due_to_regex" not in found


async def test_a_target_is_decoded_twice() -> None:
    async with talk_server(b"") as server, endpoint(TCP) as asked:
        found = await asked.probe("tcp", f"127.0.0.1%3A{server.port}")
    assert found["probe_success"] == 1
    assert (decoded("a%3Ab+c"), decoded("100%"), decoded("%zz%41")) == ("a:b c", "100%", "%zz%41")


async def test_the_modules_timeout_ends_a_probe_and_is_shown() -> None:
    async with silent_server() as server, endpoint(TCP) as asked:
        found = await asked.probe("slow", f"{server.host}:{server.port}")
    assert (found["probe_success"], found["probe_timeout_seconds"]) == (0, 0.05)
    assert found["probe_failed_due_to_regex"] == 0
    assert 0.05 <= found["probe_duration_seconds"] < 1


@pytest.mark.parametrize(
    ("header", "module_s", "wanted"),
    [
        ("", 0.0, 119.5),
        ("", 5.0, 5.0),
        ("10", 0.0, 9.5),
        ("10", 15.0, 9.5),
        ("10", 9.5, 9.5),
        ("10.0", 3.0, 3.0),
        ("0", 0.0, 119.5),
        ("0.3", 7.0, 7.0),  # less than the offset: the module's own
        ("0.3", 0.0, 0.0),
        ("1e2", 0.0, 99.5),
        ("1e9", 0.0, 3599.5),
    ],
)
def test_a_probe_may_take_what_prometheus_waits_less_the_offset(header: str, module_s: float, wanted: float) -> None:
    assert timeout_of(header, module_s, 0.5) == wanted


@pytest.mark.parametrize("header", ["x", "5s", "nan", "inf", "1,5"])
def test_a_header_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match=r"parsing|finite"):
        timeout_of(header, 0.0, 0.5)


SECRETS = """
modules:
  http:
    prober: http
    http:
      basic_auth: {username: can-bo, password: mat-khau-1}
      headers: {X-Tinh: lang-son}
      http_headers: {X-Key: {secrets: [mat-khau-2]}}
      proxy_url: http://user:mat-khau-3@127.0.0.1:1
      tls_config: {cert: "c", key: mat-khau-4}
  token: {prober: http, http: {authorization: {credentials: mat-khau-5}}}
  bearer: {prober: http, http: {bearer_token: mat-khau-6}}
  dead: {prober: http, timeout: 1s, http: {basic_auth: {username: can-bo, password: mat-khau-1}}}
"""


async def test_secrets_are_hidden_in_the_configuration_and_in_debug() -> None:
    with refused_port() as closed:
        async with endpoint(SECRETS) as asked:
            status, config = await asked.get("/config")
            said = await asked.debug("dead", f"http://{closed.host}:{closed.port}/")
    assert status == 200
    assert "mat-khau" not in config + said
    assert config.count("<secret>") == 7
    assert "username: can-bo" in config
    assert "X-Tinh: lang-son" in config
    assert "prober: http\n" in said
    assert "password: <secret>" in said


async def test_debug_shows_the_way_the_figures_and_the_module() -> None:
    async with talk_server(b"220 mail ESMTP\r\n") as server, endpoint(TCP) as asked:
        said = await asked.debug("tcp", f"{server.host}:{server.port}")
    assert said.startswith("Logs for the probe:\nts=")
    assert 'msg="Resolved target address" ip=127.0.0.1' in said.replace(f"target={LOOPBACK} ", "")
    assert "\n\n\n\nMetrics that would have been returned:\nprobe_dns_lookup_time_seconds" in said
    assert said.endswith("Module configuration:\nprober: tcp\ntimeout: 1s\n")


def target(server: Address) -> str:
    return f"{server.host}:{server.port}"


async def test_only_hosts_of_checks_and_of_the_list_may_be_probed() -> None:
    async with talk_server(b"") as server:
        async with endpoint(TCP, allow=("192.0.2.0/24", "*.gov.vn")) as asked:
            status, text = await asked.get(module="tcp", target=target(server))
            assert status == 403
            assert text.startswith('Target "127.0.0.1" is not allowed')
        async with endpoint(TCP, allow=("127.0.0.0/8",)) as asked:
            assert (await asked.probe("tcp", target(server)))["probe_success"] == 1
        async with endpoint(TCP, allow=(), hosts=(LOOPBACK,)) as asked:
            assert (await asked.probe("tcp", target(server)))["probe_success"] == 1


async def test_a_module_that_asks_for_more_than_is_done_is_refused_and_not_guessed() -> None:
    modules = "modules: {h3: {prober: http, http: {enable_http3: true}}}"
    async with endpoint(modules) as asked:
        status, text = await asked.get(module="h3", target="127.0.0.1")
    assert status == 501
    assert text.startswith('Module "h3" asks for what this program does not do: http.enable_http3: HTTP/3')


async def test_what_the_original_says_of_itself_is_said_too() -> None:
    async with endpoint(TCP) as asked:
        await asked.get(module="no")
        text = asked.probing.metrics().decode()
        failed = asked.probing.metrics(reloaded_well=False).decode()
    assert "blackbox_module_unknown_total 1\n" in text
    assert "blackbox_exporter_config_last_reload_successful 1\n" in text
    assert "blackbox_exporter_config_last_reload_successful 0\n" in failed
