"""Rules about a page as a page: unchanged since its approval, fresh, its link working."""

from __future__ import annotations

import asyncio
import gzip
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from probes import PROBES
from probes.approved_pages import Approval, ApprovedPages
from probes.base import Fault, Reading, Tools, measure, utc_now
from tests.probes.web_servers import Site, answer, page, settings_of, site

PORTAL = """<!doctype html><html><head><title>Cổng thông tin Lạng Sơn</title><script>var t="{nonce}"</script></head>
<body><h1>Chào mừng Lễ hội</h1><form><input type=hidden name=csrf value="{nonce}"></form>
<p>Uỷ ban nhân dân tỉnh<p><a href="/le-hoi">Trang Lễ hội</a> <a href=/tin?id=1>Tin tức</a>
<div id="counter">Lượt truy cập: {count}</div><img src="/anh.jpg" alt="Ảnh"></body></html>"""


def portal(nonce: str = "1", count: int = 5) -> str:
    return PORTAL.format(nonce=nonce, count=count)


@pytest.fixture
def pages(tmp_path: Path) -> ApprovedPages:
    return ApprovedPages(tmp_path / "content")


def approve(pages: ApprovedPages, text: str, url: str) -> None:
    pages.add("portal.web", Approval(utc_now(), "trực ca", "Tết", url, "", text))


async def look(
    pages: ApprovedPages, web: Site, *, check: str = "portal.web", more: dict[str, Any] | None = None, **content: Any
) -> Reading:
    tools = Tools()
    tools.put(pages)
    settings = settings_of("http", url=web.url(), content=content or {"watch": True}, **(more or {}))
    try:
        return await measure(PROBES["http"], settings, timeout_s=5, tools=tools, check=check)
    finally:
        tools.close()


WATCH: dict[str, Any] = {"watch": True, "ignore": ["#counter"]}


async def watched(pages: ApprovedPages, before: str, now: str | bytes, **content: Any) -> Reading:
    async with site(page(now) if isinstance(now, str) else now) as web:
        await asyncio.to_thread(approve, pages, unicodedata.normalize("NFC", before), web.url())
        return await look(pages, web, **(WATCH | content))


async def test_without_an_approval_the_page_is_good_with_a_warning_that_says_what_to_do(pages: ApprovedPages) -> None:
    async with site(page(portal())) as web:
        reading = await look(pages, web)
    assert reading.fault is None
    assert reading.warned
    assert "thongsuot approve" in reading.detail


async def test_an_approval_is_noticed_without_a_restart_and_so_is_the_next(pages: ApprovedPages) -> None:
    async with site(page(portal())) as web:
        assert (await look(pages, web, **WATCH)).warned
        await asyncio.to_thread(approve, pages, portal(), web.url())
        good = await look(pages, web, **WATCH)
        web.pages["/"] = page("<h1>HACKED</h1>")
        bad = await look(pages, web, **WATCH)
        await asyncio.to_thread(approve, pages, "<h1>HACKED</h1>", web.url())
        again = await look(pages, web, **WATCH)
    assert (good.fault, good.warned, good.detail) == (None, False, "")
    assert good.values["content_change_ratio"] == 0
    assert bad.fault is Fault.CONTENT
    assert "text changed by 100 %" in bad.detail
    assert bad.facts["text_added"] == "HACKED"
    assert bad.facts["text_removed"].startswith("Cổng thông tin Lạng Sơn / Chào mừng")
    assert again.fault is None


@pytest.mark.parametrize(
    "now",
    [
        portal("token-mới", 6),
        unicodedata.normalize("NFD", portal()),
        portal().replace("\n", " \r\n\t ").replace("Chào mừng", "Chào&#32;  mừng"),
        portal().replace("<body>", "<body><!-- máy chủ 3 -->"),
        portal().replace("Lạng Sơn", "L&#7841;ng S\u00adơn"),
    ],
    ids=["token and counter", "decomposed letters", "blanks", "comment", "entities and soft hyphens"],
)
async def test_what_no_reader_sees_is_no_change(pages: ApprovedPages, now: str) -> None:
    assert (await watched(pages, portal(), now)).fault is None


@pytest.mark.parametrize("charset", ["utf-8", "windows-1258", "utf-16"])
async def test_a_page_in_another_encoding_is_the_same_page(pages: ApprovedPages, charset: str) -> None:
    text = portal()
    if charset == "windows-1258":  # tones are letters of their own there
        text = "".join(
            unicodedata.normalize("NFC", base) + tone
            for base, tone in (_split(c) for c in unicodedata.normalize("NFC", text))
        )
    body = text.encode(charset)
    reading = await watched(pages, portal(), answer(body, f"Content-Type: text/html; charset={charset}"))
    assert reading.fault is None, reading


def _split(letter: str) -> tuple[str, str]:
    parts = unicodedata.normalize("NFD", letter)
    tones = [p for p in parts if p in "\u0300\u0301\u0303\u0309\u0323"]
    return "".join(p for p in parts if p not in tones), "".join(tones)


async def test_a_compressed_page_is_compared_unpacked(pages: ApprovedPages) -> None:
    body = gzip.compress(portal().encode())
    good = await watched(pages, portal(), answer(body, "Content-Encoding: gzip"))
    assert good.fault is None


@pytest.mark.parametrize(
    ("put", "host"),
    [
        ('<a href="https://evil.example/bet" style="display:none">x</a>', "evil.example"),
        ("<script src=//evil.example/x.js></script>", "evil.example"),
        ('<script>location="https:\\/\\/evil.example\\/"</script>', "evil.example"),
        ("<meta http-equiv=refresh content='0;url=http://evil.example/'>", "evil.example"),
        ("<iframe src=http://evil.example/></iframe>", "evil.example"),
        ("<base href=http://evil.example/>", "evil.example"),
        ("<form action=http://evil.example/></form>", "evil.example"),
        ("<a href='http://cờ-bạc.vn/'>x</a>", "xn--c-bc-0zs9170c.vn"),
        ("<a href='http://192.0.2.66/'>x</a>", "192.0.2.66"),
    ],
)
async def test_a_new_host_is_told_whatever_the_tolerance(pages: ApprovedPages, put: str, host: str) -> None:
    reading = await watched(pages, portal(), portal().replace("<h1>", put + "<h1>"), tolerance=0.9)
    assert reading.fault is Fault.CONTENT
    expected = host if not host.startswith("xn--") else "cờ-bạc.vn".encode("idna").decode()
    assert reading.facts["new_hosts"] == expected
    assert f"new links or scripts of {expected}" in reading.detail


async def test_hosts_that_are_allowed_may_come(pages: ApprovedPages) -> None:
    now = portal().replace("<h1>", "<a href=https://chinhphu.gov.vn/>Chính phủ</a><h1>")
    assert (await watched(pages, portal(), now, tolerance=0.5, hosts=["*.gov.vn"])).fault is None
    assert (await watched(pages, portal(), now, tolerance=0.5)).fault is Fault.CONTENT


async def test_the_tolerance_is_a_share_of_the_text(pages: ApprovedPages) -> None:
    now = portal().replace("Chào mừng Lễ hội", "Chào mừng Tết đến")
    assert (await watched(pages, portal(), now)).fault is Fault.CONTENT
    reading = await watched(pages, portal(), now, tolerance=0.5)
    assert reading.fault is None
    assert 0.1 < reading.values["content_change_ratio"] < 0.5


async def test_a_pattern_takes_out_what_changes_in_lines_and_links(pages: ApprovedPages) -> None:
    now = portal(count=99).replace("id=1", "id=1&sid=abc")
    rules = [{"regex": "truy cập: \\d+"}, {"regex": "&sid=\\w+"}]
    assert (await watched(pages, portal(), now, ignore=rules)).fault is None


async def test_other_rules_need_no_new_approval(pages: ApprovedPages) -> None:
    assert (await watched(pages, portal(), portal(count=6), ignore=[])).fault is Fault.CONTENT
    assert (await watched(pages, portal(), portal(count=6), ignore=["div"])).fault is None


@pytest.mark.parametrize("now", ["", "   ", "<", "<a href='", "\0", "<script>document.write(1)"])
async def test_an_empty_or_broken_page_is_a_change(pages: ApprovedPages, now: str) -> None:
    reading = await watched(pages, portal(), now, tolerance=0.5)
    assert reading.fault is Fault.CONTENT
    assert "100 %" in reading.detail


async def test_a_page_longer_than_is_read_is_never_good(pages: ApprovedPages) -> None:
    async with site(page(portal() + "x" * 5000)) as web:
        reading = await look(pages, web, more={"max_body_bytes": 4096}, **WATCH)
    assert reading.fault is Fault.CONTENT
    assert "longer than max_body_bytes (4096)" in reading.detail


async def test_a_damaged_approval_is_a_warning_and_the_last_whole_one_counts(
    pages: ApprovedPages, tmp_path: Path
) -> None:
    file = tmp_path / "content" / "portal.web.jsonl"
    async with site(page(portal())) as web:
        await asyncio.to_thread(approve, pages, portal(), web.url())

        def append(data: bytes) -> None:
            with file.open("ab") as opened:
                opened.write(data)

        await asyncio.to_thread(append, b'{"version": 1, "at": "20')
        assert not (await look(pages, web, **WATCH)).warned
        await asyncio.to_thread(approve, pages, portal(), web.url())
        assert not (await look(pages, web, **WATCH)).warned
        await asyncio.to_thread(file.write_bytes, b"rubbish\n")
        reading = await look(pages, web, **WATCH)
    assert reading.fault is None
    assert reading.warned
    assert "cannot be read" in reading.detail


async def test_an_old_page_and_one_without_a_date_are_told(pages: ApprovedPages) -> None:
    async with site(page("x", "Last-Modified: Sat, 06 Feb 2016 00:00:00 GMT")) as web:
        old = await look(pages, web, last_modified_max="2d")
        web.pages["/"] = page("x")
        none = await look(pages, web, last_modified_max="2d")
        web.pages["/"] = page("x", "Last-Modified: Sat, 06 Feb 2066 00:00:00 GMT")
        future = await look(pages, web, last_modified_max="2d")
    assert old.fault is none.fault is future.fault is Fault.CONTENT
    assert "expected at most 48.0 h" in old.detail
    assert "no Last-Modified" in none.detail
    assert "in the future" in future.detail


async def test_a_named_link_must_be_there_and_work(pages: ApprovedPages) -> None:
    async with site({"/": page(portal()), "/le-hoi": page("Khai mạc")}) as web:
        good = await look(pages, web, link={"text": "Lễ  hội", "expect": {"body": "Khai mạc"}})
        by_href = await look(pages, web, link={"href": "/le-hoi"})
        missing = await look(pages, web, link={"text": "Lịch thi đấu"})
        dead = await look(pages, web, link={"text": "Tin tức"})
        wrong = await look(pages, web, link={"text": "Lễ hội", "expect": {"body": "Bế mạc"}})
    assert (good.fault, by_href.fault) == (None, None), good
    assert good.values["link_status_code"] == 200
    assert good.facts["final_url"] == web.url()
    assert (missing.fault, missing.detail) == (Fault.CONTENT, "no link with text 'Lịch thi đấu' on the page")
    assert (dead.fault, dead.detail) == (Fault.CONTENT, "link with text 'Tin tức': status 404, expected 2xx")
    assert "'Bế mạc' not found" in wrong.detail


async def test_a_login_goes_with_the_link_on_its_own_origin_only(pages: ApprovedPages, tmp_path: Path) -> None:
    (tmp_path / "p").write_text("bí mật")
    login = {"username": "a", "password_file": str(tmp_path / "p"), "plaintext_login": True}
    async with site({"/x": page("x")}) as other, site({"/in": page("x")}) as web:
        web.pages["/"] = page(f"<a href={other.url('/x')}>ngoài</a><a href=/in>trong</a>")
        for text in ("ngoài", "trong"):
            assert (await look(pages, web, more=login, link={"text": text})).fault is None
    assert "authorization" not in other.requests[0].headers
    assert "authorization" in web.requests[-1].headers


@pytest.mark.parametrize(
    "content",
    [
        {"ignore": "#a"}, {"tolerance": 0.1}, {"watch": True, "tolerance": 1}, {"watch": True, "ignore": "a > b"},
        {"watch": True, "ignore": {"regex": "(?=x)"}}, {"link": {}}, {"watch": True, "hosts": ["http://a"]},
        {"watch": True, "ignore": {"css": "a", "regex": "b"}}, {"watch": True, "ignore": {"regex": "[0-9]*"}},
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of("http", url="http://a.vn/", content=content)


@pytest.mark.parametrize("laid", ["link", "hard link", "folder"])
def test_no_approval_is_written_through_a_link(tmp_path: Path, laid: str) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "portal.web.jsonl").write_text("theirs")
    folder = tmp_path / "content"
    if laid == "folder":
        folder.symlink_to(other)
    else:
        folder.mkdir()
        lay = Path.symlink_to if laid == "link" else Path.hardlink_to
        lay(folder / "portal.web.jsonl", other / "portal.web.jsonl")
    with pytest.raises(OSError, match=r"symbolic links|one name|directory"):
        approve(ApprovedPages(folder), "x", "http://a.vn/")
    assert (other / "portal.web.jsonl").read_text() == "theirs"


def test_an_approval_is_for_its_owner_and_group_alone(pages: ApprovedPages, tmp_path: Path) -> None:
    approve(pages, "x", "http://a.vn/")
    file = next((tmp_path / "content").iterdir())
    assert (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o137) == (0o750, 0)
