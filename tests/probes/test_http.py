"""The HTTP probe against servers in the process: right, wrong, slow, rude and endless."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path as FilePath
from typing import Any

import pytest
from pydantic import ValidationError

from probes.base import Fault, Path
from tests.probes.web_servers import answer, page, probe, redirect, settings_of, site
from tests.servers import (
    Address,
    Certificates,
    byte_server,
    resetting_server,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"), "127.0.0.2")


def url_of(address: Address) -> str:
    return f"http://{address.host}:{address.port}/"


async def test_a_good_page_is_well_and_measured() -> None:
    body = page("<title>Thư điện tử</title>Đăng nhập", "Server: nginx", "Last-Modified: Sat, 06 Feb 2027 00:00:00 GMT")
    async with site(body) as web:
        reading = await probe("http", url=web.url(), expect={"status": [200], "body": "Đăng nhập"})

    assert reading.fault is None, reading.detail
    assert set(reading.phases) == {"resolve", "connect", "processing", "transfer"}
    assert reading.values == {
        "status_code": 200,
        "content_bytes": len("<title>Thư điện tử</title>Đăng nhập".encode()),
        "header_bytes": body.index(b"\r\n\r\n") + 4,
        "last_modified_timestamp_s": 1801872000,
    }
    assert reading.facts["final_url"] == web.url()
    assert reading.facts["address"] == "127.0.0.1"
    assert reading.facts["http_version"] == "1.1"
    assert reading.facts["server"] == "nginx"
    assert reading.facts["content_type"] == "text/html; charset=utf-8"
    assert reading.facts["body_title"] == "Thư điện tử"


async def test_the_request_is_complete_and_says_who_asks() -> None:
    async with site(page("")) as web:
        await probe("http", url=web.url("/?q=Tết"))

    request = web.requests[0]
    assert request.line == "GET /?q=T%E1%BA%BFt HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{web.address.port}"
    assert request.headers["user-agent"] == "thongsuot"
    assert request.headers["connection"] == "close"
    assert "authorization" not in request.headers


async def test_method_headers_and_body_are_sent_as_given() -> None:
    async with site(answer(status="201 Created")) as web:
        reading = await probe(
            "http",
            url=web.url(),
            method="POST",
            body='{"tên": "Tết"}',
            headers={"Content-Type": "application/json", "User-Agent": "đo", "Host": "portal.example.vn"},
            expect={"status": 201},
        )

    request = web.requests[0]
    assert reading.fault is None, reading.detail
    assert request.line == "POST / HTTP/1.1"
    assert request.body == '{"tên": "Tết"}'.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "đo"
    assert request.headers["host"] == "portal.example.vn"


async def test_head_reads_no_body() -> None:
    async with site(answer(length=False) + b"HTTP/1.1 garbage") as web:
        reading = await probe("http", url=web.url(), method="HEAD")

    assert reading.fault is None, reading.detail
    assert reading.values["content_bytes"] == 0


@pytest.mark.parametrize(
    ("sent", "rules", "fault", "says"),
    [
        (answer(status="503 Service Unavailable"), {}, Fault.CONTENT, "status 503, expected 2xx"),
        (answer(status="503 Service Unavailable"), {"status": [200]}, Fault.CONTENT, "status 503, expected 200"),
        (page("bảo trì"), {"body": "Đăng nhập"}, Fault.CONTENT, "text 'Đăng nhập' not found in the body"),
        (page("{}"), {"json": [{"path": "up"}]}, Fault.CONTENT, "JSON up is missing"),
        (
            answer(b"<html>", "Content-Encoding: gzip"),
            {"body": "x"},
            Fault.PROTOCOL,
            "not compressed as its headers say",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {}, Fault.PROTOCOL, "it begins with 'SSH-2.0-OpenSSH_9.2'"),
        (b"\x00" * 500, {}, Fault.PROTOCOL, "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", {}, Fault.PROTOCOL, "after 3 of 9 bytes"),
        (b"", {}, Fault.REFUSED, "the server closed the connection without an answer"),
    ],
)
async def test_a_wrong_answer_is_named(sent: bytes, rules: dict[str, Any], fault: Fault, says: str) -> None:
    async with site(sent) as web:
        reading = await probe("http", url=web.url(), expect=rules)

    assert reading.fault is fault
    assert says in reading.detail


async def test_a_body_judged_in_a_thread_is_judged_the_same() -> None:
    text = "đủ " * 60_000 + "Đăng nhập"
    async with site(page(text)) as web:
        good = await probe("http", url=web.url(), expect={"body": "Đăng nhập"})
        bad = await probe("http", url=web.url(), expect={"body": "Đăng xuất"})

    assert good.fault is None, good.detail
    assert bad.fault is Fault.CONTENT


async def test_ipv6_works() -> None:
    async with site(page(""), host="::1") as web:
        reading = await probe("http", url=web.url(), family="ip6")

    assert reading.fault is None, reading.detail
    assert reading.facts["address"] == "::1"
    assert web.requests[0].headers["host"] == f"[::1]:{web.address.port}"


async def test_a_check_leaves_by_its_path() -> None:
    async with site(page("")) as web:
        reading = await probe("http", url=web.url(), path=Path("vnpt", "VNPT", source="127.0.0.8"))

    assert reading.fault is None, reading.detail
    assert web.requests[0].peer == "127.0.0.8"


async def test_a_path_that_is_not_ours_is_our_own_fault() -> None:
    async with site(page("")) as web:
        reading = await probe("http", url=web.url(), path=Path("x", "x", source="192.0.2.200"))

    assert reading.fault is Fault.LOCAL


# Redirects.


async def test_redirects_are_followed_and_counted() -> None:
    pages = {"/": redirect("/a?session=1"), "/a?session=1": redirect("b", 307), "/b": page("Đăng nhập")}
    async with site(pages) as web:
        reading = await probe("http", url=web.url(), expect={"body": "Đăng nhập"})

    assert reading.fault is None, reading.detail
    assert reading.values["redirects_count"] == 2
    assert reading.facts["final_url"] == web.url("/b")
    assert [r.target for r in web.requests] == ["/", "/a?session=1", "/b"]


async def test_redirects_are_left_alone_when_told_so_or_expected() -> None:
    async with site(redirect("/a")) as web:
        alone = await probe("http", url=web.url(), follow_redirects=False)
        expected = await probe("http", url=web.url(), expect={"status": [302], "headers": {"Location": "/a"}})

    assert alone.detail == "status 302, expected 2xx"
    assert expected.fault is None, expected.detail
    assert len(web.requests) == 2


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (302, "POST", "GET"),
        (301, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "PUT", "PUT"),
        (303, "HEAD", "HEAD"),
    ],
)
async def test_the_method_after_a_redirect_is_a_browsers(status: int, method: str, then: str) -> None:
    body: dict[str, Any] = {} if method == "HEAD" else {"body": "x", "headers": {"Content-Type": "text/x"}}
    async with site({"/": redirect("/a", status), "/a": answer(length=then != "HEAD")}) as web:
        reading = await probe("http", url=web.url(), method=method, **body)

    assert reading.fault is None, reading.detail
    assert web.requests[1].line == f"{then} /a HTTP/1.1"
    assert web.requests[1].body == (b"x" if then in ("POST", "PUT") else b"")
    assert ("content-type" in web.requests[1].headers) is (then in ("POST", "PUT"))


@pytest.mark.parametrize(
    ("pages", "says"),
    [
        ({"/": redirect("/")}, "redirects go in a circle at"),
        ({"/": redirect("/a"), "/a": redirect("/")}, "redirects go in a circle at"),
        ({f"/{i or ''}": redirect(f"/{i + 1}") for i in range(20)}, "more than 10 redirects, the last to"),
        ({"/": redirect("ftp://example.vn/")}, "status 302 leads to no web address"),
        ({"/": redirect("http://[bad/")}, "status 302 leads to no web address"),
        ({"/": answer(status="302 Found")}, "status 302, expected 2xx"),
    ],
)
async def test_redirects_that_lead_nowhere_are_named(pages: dict[str, bytes], says: str) -> None:
    async with site(pages) as web:
        reading = await probe("http", url=web.url())

    assert reading.fault is Fault.CONTENT
    assert says in reading.detail
    assert len(web.requests) <= 11


async def test_a_portal_that_sets_a_cookie_and_sends_back_is_entered() -> None:
    entered: list[str] = []

    async def portal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        entered.append(request)
        inside = "Cookie: lang=vi; id=7" in request
        writer.write(page("Đăng nhập") if inside else redirect("/", 302, "Set-Cookie: id=7; Path=/"))

    async with byte_server(portal) as address:
        reading = await probe("http", url=url_of(address), headers={"Cookie": "lang=vi"}, expect={"body": "Đăng nhập"})

    assert reading.fault is None, reading.detail
    assert len(entered) == 2


async def test_secrets_are_not_sent_to_another_host(tmp_path: FilePath) -> None:
    token = tmp_path / "token"
    token.write_text("bi-mat\n")
    elsewhere = {"/": redirect("/same"), "/same": answer(status="404 X")}
    async with site(elsewhere, host="127.0.0.2") as other, site({}) as web:
        web.pages = {"/": redirect("/same"), "/same": redirect(other.url("/"), 302, "Set-Cookie: id=7")}
        reading = await probe(
            "http",
            url=web.url(),
            token_file=token,
            plaintext_login=True,
            headers={"Cookie": "a=b", "X-Api-Key": "k", "Host": "portal.example.vn", "Accept-Language": "vi"},
        )

    assert reading.detail == "status 404, expected 2xx"
    assert [r.headers.get("authorization") for r in web.requests] == ["Bearer bi-mat"] * 2
    assert [r.headers.get("host") for r in web.requests] == ["portal.example.vn"] * 2
    assert len(other.requests) == 2
    for request in other.requests:
        assert request.headers["accept-language"] == "vi"
        assert request.headers["host"] == f"127.0.0.2:{other.address.port}"
        assert not {"authorization", "x-api-key", "cookie"} & set(request.headers)


# TLS.


async def test_https_is_verified_and_its_certificate_read(certificates: Certificates) -> None:
    async with site(page("Đăng nhập"), tls=certificates.good.server_context()) as web:
        reading = await probe("http", url=web.url(host="localhost"), ca_file=certificates.ca_file)

    assert reading.fault is None, reading.detail
    assert set(reading.phases) == {"resolve", "connect", "tls", "processing", "transfer"}
    assert "tls_not_after_timestamp_s" in reading.values
    assert reading.facts["tls_version"] == "TLSv1.3"
    assert web.requests[0].headers["host"] == f"localhost:{web.address.port}"


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("expired", "certificate expired on"),
        ("unknown_ca", "issuer is not trusted"),
        ("wrong_name", "certificate is for khac.example.vn, not 127.0.0.1"),
    ],
)
async def test_a_bad_certificate_is_refused_and_read(certificates: Certificates, which: str, says: str) -> None:
    async with site(page(""), tls=getattr(certificates, which).server_context()) as web:
        refused = await probe("http", url=web.url(), ca_file=certificates.ca_file)
        taken = await probe("http", url=web.url(), verify=False)

    assert refused.fault is Fault.TLS
    assert refused.detail.startswith(says)
    assert "tls_not_after_timestamp_s" in refused.values
    assert taken.fault is None, taken.detail


async def test_plain_http_may_lead_into_tls_and_not_out_of_it(certificates: Certificates) -> None:
    tls = certificates.good.server_context()
    async with site({"/": page("in"), "/out": page("out")}, tls=tls) as inner, site({}) as outer:
        outer.pages = {"/": redirect(inner.url()), "/plain": page("plain")}
        inner.pages["/out"] = redirect(outer.url("/plain"))
        into = await probe("http", url=outer.url(), ca_file=certificates.ca_file)
        out = await probe("http", url=inner.url("/out"), ca_file=certificates.ca_file)
        allowed = await probe("http", url=inner.url("/out"), ca_file=certificates.ca_file, allow_downgrade=True)

    assert into.fault is None, into.detail
    assert out.fault is Fault.CONTENT
    assert out.detail.startswith("redirected out of TLS")
    assert allowed.fault is None, allowed.detail


async def test_another_name_for_tls_is_for_the_configured_host_alone(certificates: Certificates) -> None:
    good = certificates.good.server_context()
    async with (
        site(page(""), tls=good, host="127.0.0.2") as there,
        site(redirect(there.url()), tls=certificates.wrong_name.server_context()) as here,
    ):
        reading = await probe("http", url=here.url(), ca_file=certificates.ca_file, server_name="khac.example.vn")

    assert reading.fault is None, reading.detail
    assert reading.facts["final_url"] == there.url()


async def test_https_on_a_plain_port_says_so() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(answer(status="400 Bad Request"))

    async with byte_server(plain) as address:
        reading = await probe("http", url=f"https://{address.host}:{address.port}/")

    assert reading.fault is Fault.TLS
    assert reading.detail == "the server does not speak TLS on this port"


async def test_a_certificate_asked_of_us_is_a_matter_of_tls(certificates: Certificates) -> None:
    context = certificates.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.ca_file)
    async with site(page(""), tls=context) as web:
        reading = await probe("http", url=web.url(), ca_file=certificates.ca_file)

    assert (reading.fault, reading.detail) in (
        (Fault.TLS, "the server wants a certificate of its client"),
        (Fault.REFUSED, "the server reset the connection without an answer"),  # the alert was lost with the reset
        (Fault.REFUSED, "the server closed the connection without an answer"),
    )


async def test_what_an_earlier_certificate_said_is_not_told_of_a_later_one(certificates: Certificates) -> None:
    good = certificates.good.server_context()
    async with resetting_server() as dead, site(redirect(f"https://127.0.0.1:{dead.port}/"), tls=good) as web:
        reading = await probe("http", url=web.url(), ca_file=certificates.ca_file)

    assert reading.fault is Fault.TLS
    assert not [name for name in (*reading.values, *reading.facts) if name.startswith(("tls_", "certificate_"))]


# Logins.


async def test_a_basic_login_is_sent(tmp_path: FilePath) -> None:
    password = tmp_path / "password"
    password.write_text("mật khẩu\nsecond line")
    async with site(page("")) as web:
        reading = await probe("http", url=web.url(), username="trực", password_file=password, plaintext_login=True)

    assert reading.fault is None, reading.detail
    assert web.requests[0].headers["authorization"] == "Basic dHLhu7FjOm3huq10IGto4bqpdQ=="
    assert "mật khẩu" not in repr(reading)


async def test_a_token_from_the_environment_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_TOKEN", "abc.def")
    async with site(page("")) as web:
        await probe("http", url=web.url(), token_env="PORTAL_TOKEN", plaintext_login=True)

    assert web.requests[0].headers["authorization"] == "Bearer abc.def"


async def test_a_token_that_cannot_be_sent_is_our_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    for token in ("a b", "a\r\nX-Injected: y", "tên"):
        monkeypatch.setenv("PORTAL_TOKEN", token)
        async with site(page("")) as web:
            reading = await probe("http", url=web.url(), token_env="PORTAL_TOKEN", plaintext_login=True)

        assert reading.fault is Fault.LOCAL
        assert token not in reading.detail
        assert not web.requests


# Refusals, silence, floods.


GOOD: dict[str, Any] = {"url": "https://a.example.vn/"}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"url": "a.example.vn"}, "a URL begins with http:// or https://"),
        ({"url": "https://u:p@a.example.vn/"}, "no login in a URL"),
        ({"method": "get"}, "Input should be 'GET'"),
        ({"method": "TRACE"}, "Input should be 'GET'"),
        ({"body": "x"}, "GET sends no body"),
        ({"method": "HEAD", "expect": {"body": "x"}}, "HEAD has no body"),
        ({"headers": {"X": "a\r\nY: b"}}, "header X holds a line end"),
        ({"headers": {"X\r\nY": "a"}}, "is not a header name"),
        ({"headers": {"X:": "a"}}, "is not a header name"),
        ({"headers": {"": "a"}}, "is not a header name"),
        ({"headers": {"Authorization": "Basic x"}}, "Authorization is a secret"),
        ({"headers": {"Content-Length": "5"}}, "Content-Length is set by the probe"),
        ({"headers": {"A": "b", "a": "b"}}, "header a is given twice"),
        ({"headers": {"A": 5}}, "valid string"),
        ({"username": "u"}, "go together"),
        ({"username": "u:v", "password_env": "P"}, "no colon"),
        ({"username": "u", "password_env": "P", "token_env": "T"}, "or a token, not both"),
        ({"token_env": "T", "token_file": "/t"}, "token_file or token_env, not both"),
        ({"url": "http://a.example.vn/", "token_env": "T"}, "say plaintext_login: true"),
        ({"url": "http://a.example.vn/", "username": "u", "password_env": "P"}, "say plaintext_login: true"),
        ({"max_redirects": 21}, "less than or equal to 20"),
        ({"max_body_bytes": 0}, "greater than or equal to 1"),
        ({"expect": {"status": "ok"}}, "expected one like 200 or 2xx"),
        ({"expects": {}}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings_of("http", **{**GOOD, **wrong})

    assert says in str(caught.value)


def test_the_endpoint_is_the_host_of_the_address() -> None:
    assert settings_of("http", url="https://Mail.LangSon.gov.vn:8443/x").endpoint() == "mail.langson.gov.vn"


def test_the_schema_for_editors_shows_every_way_to_write_a_rule() -> None:
    schema = type(settings_of("http", **GOOD)).model_json_schema()

    rules = schema["$defs"]["Expect"]["properties"]
    assert {"status", "body", "body_absent", "headers", "json"} == set(rules)
    assert {"type": "string"} in rules["body"]["anyOf"]
    assert {"type": "integer"} in rules["status"]["anyOf"]
