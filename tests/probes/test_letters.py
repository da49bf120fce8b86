"""Text of strangers: composed and resolved as the library does it, and in time that grows with its length alone."""

from __future__ import annotations

import html
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.http_body import Page
from probes.http_url import parse_url
from probes.letters import MARKS_LIMIT, composed, overloaded, unescaped
from probes.page_watch import Lens, snapshot

MARKS = "\u0302\u0323"  # in the wrong order, so that each has to be moved
FLOOD = "e" + MARKS * 300_000  # the library alone would take half an hour
HERE = parse_url("http://a.vn/")


@given(st.text())
def test_text_of_people_is_composed_as_the_library_does_it(text: str) -> None:
    if not overloaded(text):
        assert composed(text) == unicodedata.normalize("NFC", text)


def test_a_letter_may_have_as_many_marks_as_the_standard_allows() -> None:
    assert composed("e\u0323\u0302") == "ệ"
    assert not overloaded("e" + "\u0302" * MARKS_LIMIT)
    assert overloaded("e" + "\u0302" * (MARKS_LIMIT + 1))


def test_a_flood_of_marks_costs_no_more_than_its_length() -> None:
    began = time.thread_time()
    assert len(composed(FLOOD)) > 600_000
    assert Page(FLOOD).holds("Thông báo") is False
    assert snapshot(f"<p>{FLOOD}</p>", HERE, Lens()).lines
    assert time.thread_time() - began < 3.0


@pytest.mark.parametrize("name", ["e" + MARKS * 30_000, "e" + MARKS * 2_000])
def test_an_address_with_a_flood_of_marks_is_none(name: str) -> None:
    began = time.thread_time()
    for read in (parse_url, HERE.join):
        with pytest.raises(ValueError, match="a URL has"):
            read(f"http://{name}.vn/")
    assert time.thread_time() - began < 0.1


@given(st.text(alphabet="&#0123456789xaf;lt"))
def test_character_references_are_resolved_as_the_library_does_it(text: str) -> None:
    assert unescaped(text) == html.unescape(text)


@pytest.mark.parametrize(("number", "is_"), [("9" * 5000, "\ufffd"), ("0" * 5000 + "65", "A"), ("0" * 5000, "\ufffd")])
def test_a_reference_of_any_length_is_resolved(number: str, is_: str) -> None:
    assert unescaped(f"&#{number};") == is_
    assert snapshot(f"<p title='&#{number};'>&#{number};!</p>", HERE, Lens()).lines == (f"{is_}!",)
    assert Page(f"<title>&#{number};</title>").title
