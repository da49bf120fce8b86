"""Rows of a table in Word are copies of one: the same as if each was made by itself."""

from __future__ import annotations

import docx as word
from hypothesis import given, settings
from hypothesis import strategies as st

from exporters.report.document import Column, Table
from exporters.report.docx import _add_row, _add_rows

COLUMNS = (Column("Tên", 0.5), Column("Giá trị", 0.25, right=True), Column("Ghi chú", 0.25))
TEXTS = st.sampled_from(["Cổng thông tin", "99,98%", "–", "", " lùi vào", "hai\ndòng", "có\ttab", "a b  c", "x\u00a0y"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=6))
def test_a_copied_row_is_what_a_row_of_its_own_would_be(rows: list[tuple[str, ...]]) -> None:
    block = Table("Bảng", COLUMNS, tuple(rows))
    copied, single = (word.Document().add_table(rows=1, cols=len(COLUMNS)) for _ in range(2))
    _add_rows(copied, block)
    for values in rows:
        _add_row(single, block, values)
    assert copied._tbl.xml == single._tbl.xml
