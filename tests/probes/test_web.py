"""Journeys through a small e-office in the process: login, a page, logout, and all that goes wrong on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from pydantic import ValidationError

from probes.base import Fault
from tests.probes.web_servers import Request, Site, answer, page, probe, redirect, settings_of, site
from tests.servers import byte_server

LOGIN = """<form id=search action=/tim><input name=q></form>
<form id="f" action="/vao" method="post"><input type=hidden name=csrf value="a&amp;b={token}">
<input name=user><input type="password" name=password><select name=unit><option value=1>Sở<option value=2 selected>Phòng
</select><input type=checkbox name=keep checked><input type=checkbox name=no>
<button name=go value=1>Vào</button></form>"""


class Office(Site):
    """An e-office with a session, a token in its form that changes, and a log of who is in."""

    token = 0
    sessions: set[str] = set()  # noqa: RUF012  set anew for each office
    broken = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(head[0], headers, body, ""))
        writer.write(self.answer_to(self.requests[-1]))
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    def answer_to(self, request: Request) -> bytes:
        inside = request.headers.get("cookie", "") in {f"sid={sid}" for sid in self.sessions}
        match request.line.split()[:2]:
            case ["GET", "/"]:
                self.token += 1
                return page(LOGIN.replace("{token}", str(self.token)))
            case ["POST", "/vao"]:
                fields = {k: v[0] for k, v in parse_qs(request.body.decode()).items()}
                good = {"user": "cán bộ", "password": "mật & khẩu", "csrf": f"a&b={self.token}", "unit": "2"}
                if fields != good | {"keep": "on", "go": "1"}:
                    return answer(b"Sai", status="403 Forbidden")
                self.sessions.add("s1")
                return redirect("/nha", 302, "Set-Cookie: sid=s1; Path=/; HttpOnly")
            case ["GET", "/nha"] if inside:
                return page("Xin chào <a class='btn out' href='/ra?k=1&amp;z=2'>Thoát</a>")
            case ["GET", "/van-ban"] if inside and not self.broken:
                return page("Văn bản đến")
            case ["GET", "/ra?k=1&z=2"] if inside:
                self.sessions.clear()
                return redirect("/", 302, "Set-Cookie: sid=; Max-Age=0; Path=/")
        return answer(b"", status="403 Forbidden")


@contextlib.asynccontextmanager
async def office() -> AsyncIterator[Office]:
    here = Office()
    here.sessions = set()
    async with byte_server(here.serve) as here.address:
        yield here


JOURNEY: list[dict[str, Any]] = [
    {"name": "trang đăng nhập", "get": "/"},
    {
        "name": "login",
        "form": {"fields": {"user": "{username}", "password": "{password}"}},
        "expect": {"body": "Xin chào", "final_url": "/nha"},
        "extract": {"out": {"css": "a.out", "attribute": "href"}},
    },
    {"get": "/van-ban", "expect": {"body": "Văn bản đến"}},
    {"name": "logout", "get": "{out}", "always": True},
]


@pytest.fixture
def login(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "mk").write_text("mật & khẩu\n")
    return {"username": "cán bộ", "password_file": str(tmp_path / "mk"), "plaintext_login": True}


async def test_an_officer_logs_in_reads_and_logs_out(login: dict[str, Any]) -> None:
    async with office() as web:
        reading = await probe("web", url=web.url(), steps=JOURNEY, **login)
        assert web.sessions == set()
    assert reading.fault is None, reading.detail
    assert reading.values["steps_count"] == 4
    assert reading.values["failed_step_count"] == 0
    assert reading.values["cookies_count"] == 0
    assert reading.values["redirects_count"] == 2
    assert 0 < reading.values["slowest_step_s"] <= reading.duration_s
    assert reading.facts["steps"].startswith("1 (trang đăng nhập) 0.")
    assert set(reading.phases) == {"resolve", "connect", "processing", "transfer"}
    posted = next(r for r in web.requests if r.line.startswith("POST"))
    assert posted.headers["origin"] == web.url().rstrip("/")
    assert posted.headers["referer"] == web.url()


async def test_a_wrong_password_names_the_step(login: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mk").write_text("khác")
    async with office() as web:
        reading = await probe("web", url=web.url(), steps=JOURNEY, **login)
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "step 2 (login): status 403, expected 2xx")
    assert reading.values["failed_step_count"] == 2
    assert reading.facts["failed_step"] == "step 2 (login)"
    assert "khác" not in str(reading)


async def test_the_logout_runs_after_a_failure_too(login: dict[str, Any]) -> None:
    async with office() as web:
        web.broken = True
        reading = await probe("web", url=web.url(), steps=JOURNEY, **login)
        assert web.sessions == set()
    assert (reading.fault, reading.detail) == (Fault.CONTENT, "step 3 (/van-ban): status 403, expected 2xx")


async def test_a_silent_step_is_named_and_leaves_time_to_log_out() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        if asked[-1] == b"/ra":
            writer.write(answer())
            await writer.drain()
        else:
            await reader.read()

    async with byte_server(serve) as where:
        steps = [{"name": "mở", "get": "/"}, {"get": "/ra", "always": True}]
        reading = await probe("web", url=f"http://{where.host}:{where.port}/", steps=steps, timeout_s=0.3)
    assert reading.fault is Fault.TIMEOUT
    assert reading.detail.startswith("step 1 (mở): no answer within 0.2 s in phase processing")
    assert asked == [b"/", b"/ra"]


async def test_a_form_that_leads_elsewhere_gets_no_password(login: dict[str, Any]) -> None:
    async with site({"/vao": page("")}) as evil, site(b"") as web:
        web.pages["/"] = page(LOGIN.replace("/vao", evil.url("/vao")))
        reading = await probe("web", url=web.url(), steps=JOURNEY, **login)
    assert evil.requests == []
    assert reading.fault is Fault.CONTENT
    assert "the password would be sent to" in reading.detail


async def test_a_redirect_that_keeps_the_body_sends_it_to_no_other_host(login: dict[str, Any]) -> None:
    async with site({"/vao": page("")}) as evil, site(b"") as web:
        web.pages = {"/": page(LOGIN), "/vao": redirect(evil.url("/vao"), 307)}
        reading = await probe("web", url=web.url(), steps=JOURNEY, **login)
    assert evil.requests == []
    assert "would send what was posted on to" in reading.detail


async def test_a_login_host_may_be_told(login: dict[str, Any]) -> None:
    async with site({"/vao": page("Xin chào")}) as sso, site(b"") as web:
        web.pages["/"] = page(LOGIN.replace("/vao", sso.url("/vao")))
        steps = [JOURNEY[0], {"form": JOURNEY[1]["form"]}]
        reading = await probe("web", url=web.url(), steps=steps, login_hosts=[sso.url()], **login)
    assert reading.fault is None, reading.detail
    assert len(sso.requests) == 1


async def test_values_are_taken_by_every_way_and_put_where_they_belong() -> None:
    pages = {
        "/": page('{"a": [{"b": "x y&z"}]}', "Set-Cookie: k=v1; Path=/", "X-Token: t0"),
        "/h?m=x%20y%26z&c=v1&t=t0": page("<b id=n>Số  <i>12</i></b> token='q\"1'"),
        "/b": page("xong"),
    }
    steps = [
        {"get": "/", "extract": {"m": {"json": "a[0].b"}, "c": {"cookie": "k"}, "t": {"header": "X-Token"}}},
        {"get": "/h?m={m}&c={c}&t={t}", "extract": {"n": {"css": "#n"}, "q": "token='([^']+)'"}},
        {"post": "/b", "headers": {"Content-Type": "application/json", "Authorization": "Bearer {t}"},
         "body": '{"n": "{n}", "q": "{q}"}', "expect": {"body": "xong"}},
    ]  # fmt: skip
    async with site(pages) as web:
        reading = await probe("web", url=web.url(), steps=steps)
    assert reading.fault is None, reading.detail
    assert web.requests[2].body.decode() == '{"n": "S\\u1ed1 12", "q": "q\\"1"}'
    assert web.requests[2].headers["authorization"] == "Bearer t0"


@pytest.mark.parametrize(
    ("answer_", "extract", "why"),
    [
        ("", {"x": "a(b)"}, "step 1 (/): nothing found for {x}"),
        ("a", {"x": {"json": "a"}}, "nothing found for {x}"),
        ("<p>", {"x": {"css": "a"}}, "nothing found for {x}"),
        ("a" * 9000, {"x": "a+"}, "longer than 8000 characters"),
        ("a\x00\r\nb", {"x": "(?s).+"}, "line end or another control character"),
    ],
)
async def test_what_is_not_found_or_cannot_be_used_is_told(answer_: str, extract: dict[str, Any], why: str) -> None:
    async with site(page(answer_)) as web:
        steps = [{"get": "/", "extract": extract}, {"get": "/", "headers": {"X": "{x}"}}]
        reading = await probe("web", url=web.url(), steps=steps)
    assert reading.fault is Fault.CONTENT
    assert why in reading.detail


@pytest.mark.parametrize(
    ("html", "form", "why"),
    [
        ("<p>", {}, "no such form on the page, which has none"),
        ("<form id=a></form>", {"id": "b"}, "no such form on the page, which has 1: a"),
        ("<form><input name=u></form>", {"fields": {"w": "1"}}, "the form has no field 'w'; it has: u"),
        ("<form method=post enctype=multipart/form-data></form>", {}, "multipart/form-data"),
        ("<form action='ftp://x/'></form>", {}, "leads to no web address"),
        ("<b>" * 200_001, {}, "more than 200000 tags"),
    ],
)
async def test_a_form_that_is_not_as_expected_is_told(html: str, form: dict[str, Any], why: str) -> None:
    async with site(page(html)) as web:
        reading = await probe("web", url=web.url(), steps=[{"get": "/"}, {"name": "f", "form": form}])
    assert reading.fault is Fault.CONTENT
    assert reading.detail.startswith("step 2 (f): ")
    assert why in reading.detail


async def test_redirects_without_end_end() -> None:
    async with site({"/": redirect("/")}) as web:
        reading = await probe("web", url=web.url(), steps=[{"get": "/"}])
    assert reading.detail.startswith("step 1 (/): more than 10 redirects")
    assert len(web.requests) == 11


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"steps": []}, "at least 1"),
        ({"steps": [{"get": "/", "post": "/"}]}, "one of get, post, form"),
        ({"steps": [{"get": "/{x}"}]}, "which no step before it extracts"),
        ({"steps": [{"form": {}}]}, "no page before it"),
        ({"steps": [{"get": "/?p={password}"}], "username": "a", "password_env": "P"}, "into an address"),
        ({"steps": [{"get": "/"}], "username": "a", "password_env": "P"}, "no step uses {password}"),
        (
            {"steps": [{"post": "/", "fields": {"p": "{password}"}}], "username": "a", "password_env": "P"},
            "without TLS",
        ),
        ({"steps": [{"get": "/", "extract": {"password": "a"}}]}, "cannot name a value"),
        ({"steps": [{"get": "/", "headers": {"Cookie": "a"}}]}, "not a header"),
        ({"steps": [{"get": "http://["}]}, "step 1 leads to no web address"),
        ({"steps": [{"get": "/"}, {"post": "ftp://a.vn/"}]}, "step 2 leads to no web address"),
        ({"steps": [{"get": "http://u:p@a.vn/"}]}, "no login in a URL"),
    ],
)
def test_journeys_that_make_no_sense_are_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings_of("web", **({"url": "http://a.vn/"} | settings))


@pytest.mark.parametrize("echo", ["mat-khau-123", "mat%2Dkhau%2D123", "xx-khau-12"])
async def test_a_site_that_sends_the_password_back_does_not_get_it_shown(
    echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("P", "mat-khau-123")
    pages = {"/vao": redirect(f"/sai/{echo}"), f"/sai/{echo}": page(f"<title>{echo}</title>")}
    step: dict[str, Any] = {"name": "vào", "post": "/vao", "fields": {"p": "{password}"}, "expect": {"body": "chào"}}
    async with site(pages) as web:
        reading = await probe("web", url=web.url(), steps=[step], username="a", password_env="P", plaintext_login=True)
    assert reading.fault is Fault.CONTENT
    assert reading.detail == "step 1 (vào): (text withheld: it repeats the login)"
    assert reading.facts["final_url"] == "(text withheld: it repeats the login)"
    assert reading.facts["failed_step"] == "step 1 (vào)"
