"""Reading HTML: broken, hostile and endless pages in time that grows with their length alone."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.base import ProbeError
from probes.http_url import parse_url
from probes.page_watch import Lens, compare, snapshot
from probes.web_forms import find_form
from probes.web_markup import DEPTH_LIMIT, parse_selector, read_markup

SIZE = 1 << 16
HERE = parse_url("http://a.vn/")


def lines(html: str, *ignored: str) -> tuple[str, ...]:
    return snapshot(html, HERE, Lens(tuple(map(parse_selector, ignored)))).lines


@pytest.mark.parametrize(
    "part",
    [
        "<b>", "<", "<a ", "<!--", "<!-->", "<a b='", "<a b=", "</p>", "<div>", "<b><p></b>", "&", "&#", "<script>",
        " =", "<a x", "<li><ul>", "<!", "</", "<a b=c ", "<select><option>", "<textarea>", "a", "\0", "<p>ữ",
        "<title></title>",
    ],
)  # fmt: skip
def test_no_page_takes_longer_than_it_is_long(part: str) -> None:
    def took_s(size: int) -> float:
        page = "<a " + part * (size // len(part)) if part.endswith(" ") else part * (size // len(part))
        began = time.process_time()
        try:
            snapshot(page, HERE, Lens((parse_selector("div p"),)))
        except ProbeError as exc:
            assert "200000" in exc.detail  # noqa: PT017  either is well, in time
        return time.process_time() - began

    # Eight times the length: eight times the time, and not sixty-four; small times are noise.
    assert took_s(SIZE) < 20 * max(took_s(SIZE // 8), 0.02)


@given(st.text(alphabet="<>/=\"' !-abdpscriptle&#;\x00\u0301ữ", max_size=300))
def test_any_text_is_a_page_and_equal_to_itself(html: str) -> None:
    seen = snapshot(html, HERE, Lens())
    assert compare(seen, snapshot(html, HERE, Lens())).ratio == 0
    assert len(read_markup(html).elements) <= len(html)


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>a<p>b", ("a", "b")),
        ("<b>a</b>b<br>c", ("ab", "c")),
        ("<script>x</script>a<style>y</style>", ("a",)),
        ("<script><!-- </scripty></script >a", ("a",)),
        ("a<script>never ended <p>b", ("a",)),
        ("<title>A &amp; B</title>", ("A & B",)),
        ("<textarea><b></textarea>c", ("<b>", "c")),
        ("1 < 2 <3", ("1 < 2 <3",)),
        ("<p title='>'>a", ("a",)),
        ("<img alt='Ảnh'>", ("Ảnh",)),
        ("a<!-- b -->c<!-->d", ("acd",)),
        ("<a href=x", ()),
        ("<div style='display:none'>cá cược</div>", ("cá cược",)),
    ],
)
def test_lines_are_what_a_reader_would_see_or_a_style_sheet_hides(html: str, expected: tuple[str, ...]) -> None:
    assert lines(html) == expected


@pytest.mark.parametrize(
    ("html", "selector", "left"),
    [
        ("<div id=c>1<p>2</div>3", "#c", ("3",)),
        ("<ul><li class='a date'>1<li>2</ul>", ".date", ("2",)),
        ("<div><p>1</p></div><p>2</p>", "div p", ("2",)),
        ("<p data-x=1>1</p><p>2</p>", "p[data-x]", ("2",)),
        ("<p data-x=1>1</p><p data-x=2>2</p>", '[data-x="1"]', ("2",)),
        ("<p id=n-77>1</p><p>2</p>", "[id^=n-]", ("2",)),
        ("<table><tr><td class=d>1<td>2</table>", "td.d", ("2",)),
    ],
)
def test_selectors_leave_out_elements_with_all_in_them(html: str, selector: str, left: tuple[str, ...]) -> None:
    assert lines(html, selector) == left


@pytest.mark.parametrize("text", ["", " ", "#", ".", "a>b", "[x", "a[b=c", "1", "a:hover", "[=x]", "a,b", "a]"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a selector"):
        parse_selector(text)


def test_what_lies_too_deep_is_still_seen() -> None:
    assert lines("<div>" * 3 * DEPTH_LIMIT + "<p>sâu") == ("sâu",)


@pytest.mark.parametrize("around", ["{}", "<select name=s><option>{}</select>"])
def test_a_form_with_much_text_is_read_in_no_time(around: str) -> None:
    text = ("a" * 15 + "<br>") * 90_000
    markup = read_markup(f"<form>{around.format(text)}<input type=password name=p></form>")
    began = time.process_time()
    form = find_form(markup, selector=None, form_id="", name="", action="")
    assert time.process_time() - began < 0.4  # put together piece by piece it would be some seconds
    assert "p" in form.names
