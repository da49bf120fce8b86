"""The demo province's web sites: the portal with its festival page, public services, the e-office, the data centre.

A site can be put in trouble: it then answers every request late, and with an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final

from aiohttp import web

from probes.base import utc_now

PROVINCE: Final = "tỉnh Sông Xuân"


@dataclass(frozen=True, slots=True)
class Trouble:
    """How a site misbehaves."""

    status: int | None = 503  # None: every page as usual, only late
    delay_s: float = 1.5  # before every answer


@dataclass(frozen=True, slots=True)
class Page:
    """What is served at one path."""

    title: str
    body: str  # HTML

    def html(self) -> str:
        """Return the whole document."""
        return (
            '<!doctype html><html lang="vi"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title></head><body><h1>{escape(self.title)}</h1>{self.body}"
            f"<footer><p>Trang mẫu của {PROVINCE}, do chương trình chạy thử dựng trên máy này.</p></footer>"
            "</body></html>"
        )


class Site:
    """One web site: pages by path, and `/health` for machines."""

    def __init__(self, name: str, pages: Mapping[str, Page]) -> None:
        """Args: name: for the health report. pages: by absolute path."""
        self.name = name
        self.trouble: Trouble | None = None
        self._pages = pages

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if (trouble := self.trouble) is not None:
            await asyncio.sleep(trouble.delay_s)
        if trouble is not None and trouble.status is not None:
            page = Page("Hệ thống đang quá tải", "<p>Xin vui lòng thử lại sau ít phút.</p>")
            return web.Response(
                status=trouble.status, text=page.html(), content_type="text/html", headers={"Retry-After": "30"}
            )
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Phương thức không được hỗ trợ.", headers={"Allow": "GET, HEAD"})
        if request.path == "/health":
            health = {"status": "ok", "service": self.name, "time": utc_now().isoformat(timespec="seconds")}
            return web.Response(text=json.dumps(health, ensure_ascii=False), content_type="application/json")
        found = self._pages.get(request.path)
        if found is None:
            missing = Page("Không tìm thấy trang", '<p><a href="/">Về trang chủ</a></p>')
            return web.Response(status=404, text=missing.html(), content_type="text/html")
        return web.Response(text=found.html(), content_type="text/html", headers={"Cache-Control": "no-cache"})


def portal() -> Site:
    """Return the province's portal with the festival page."""
    return Site(
        "cong-thong-tin",
        {
            "/": Page(
                f"Cổng thông tin điện tử {PROVINCE}",
                '<ul><li><a href="/le-hoi">Lễ hội xuân</a></li><li><a href="/tin-tuc">Tin tức</a></li>'
                '<li><a href="/lien-he">Liên hệ</a></li></ul>',
            ),
            "/le-hoi": Page(
                "Lễ hội xuân", "<p>Chương trình đêm Giao thừa, lịch bắn pháo hoa và các điểm trông giữ xe.</p>"
            ),
            "/tin-tuc": Page("Tin tức", "<p>Bảo đảm thông tin liên lạc phục vụ nhân dân đón Tết.</p>"),
            "/lien-he": Page("Liên hệ", "<p>Bộ phận trực 24/24 của Sở Thông tin và Truyền thông.</p>"),
        },
    )


def public_services() -> Site:
    """Return the online public services."""
    return Site(
        "dich-vu-cong",
        {
            "/": Page(
                "Dịch vụ công trực tuyến",
                '<ul><li><a href="/nop-ho-so">Nộp hồ sơ</a></li><li><a href="/tra-cuu">Tra cứu hồ sơ</a></li></ul>',
            ),
            "/nop-ho-so": Page("Nộp hồ sơ trực tuyến", "<p>Chọn thủ tục cần thực hiện.</p>"),
            "/tra-cuu": Page(
                "Tra cứu hồ sơ",
                '<form><label>Mã hồ sơ <input name="ma" autocomplete="off"></label> <button>Tra cứu</button></form>',
            ),
        },
    )


def office() -> Site:
    """Return the e-office with its login page."""
    login = Page(
        "Văn phòng điện tử: Đăng nhập",
        '<form><p><label>Tên đăng nhập <input name="ten" autocomplete="username"></label></p>'
        '<p><label>Mật khẩu <input name="mat-khau" type="password" autocomplete="current-password"></label></p>'
        "<p><button>Đăng nhập</button></p></form>",
    )
    return Site("van-phong-dien-tu", {"/": login, "/dang-nhap": login})


def data_centre() -> Site:
    """Return the data centre's own status page."""
    return Site(
        "trung-tam-du-lieu",
        {"/": Page("Trung tâm tích hợp dữ liệu", "<p>Nguồn điện, làm mát và lưu trữ hoạt động bình thường.</p>")},
    )


def conference() -> Site:
    """Return the web page of the video conference system."""
    return Site(
        "truyen-hinh-truc-tuyen",
        {"/": Page("Truyền hình trực tuyến", "<p>Phòng họp số 1: sẵn sàng. Phòng họp số 2: sẵn sàng.</p>")},
    )
