"""Renderers: same report, same bytes; every row in every format; nothing that was observed steers the reader's program."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from analyzer.report import json as json_format
from analyzer.report import markdown, terminal
from analyzer.report import yaml as yaml_format
from analyzer.report.model import Block, Column, Report, Row, Section, Table, Tone, visible

CELLS = st.one_of(st.none(), st.integers(0, 10**9), st.text(max_size=20))
ROWS = st.lists(st.builds(Row, st.tuples(CELLS, CELLS), st.sampled_from(Tone)), max_size=4).map(tuple)
TABLES = st.builds(Table, st.just("rows"), st.just((Column("a", "A"), Column("b", "B", number=True))), ROWS)
SECTIONS = st.builds(
    Section, st.text(max_size=20), st.lists(st.text(max_size=30), max_size=2).map(tuple), st.tuples(TABLES)
)
REPORTS = st.builds(Report, st.just("test"), st.text(max_size=20), st.lists(SECTIONS, max_size=3).map(tuple))


@given(REPORTS)
def test_no_control_character_reaches_a_terminal(report: Report) -> None:
    text = terminal.render(report)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert terminal.render(report) == text


@given(REPORTS)
def test_no_control_character_reaches_a_page(report: Report) -> None:
    text = markdown.render(report)
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert "<" not in text.replace("\\<", "")


@given(REPORTS)
def test_json_keeps_every_cell(report: Report) -> None:
    text = json_format.render(report)
    assert text.isascii()
    sections = json.loads(text)["sections"]
    for section, found in zip(report.shown, sections, strict=True):
        for table in section.tables:
            assert [tuple(row.values()) for row in found[table.key]] == [row.cells for row in table.rows]


@given(st.text())
def test_visible_text_is_printable_and_plain_text_stays(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(visible(text)) == visible(text)


def _report(cell: str, tone: Tone = Tone.PLAIN) -> Report:
    table = Table("t", (Column("name", "Name"), Column("more", "More", wide=True)), (Row((cell, "hidden"), tone),))
    return Report("test", "Title", (Section("Heading", ("A note.",), (table,)),))


def test_markup_of_rich_is_text() -> None:
    assert "[red]x[/red]" in terminal.render(_report("[red]x[/red]"), color=True)


def test_escape_sequences_are_shown() -> None:
    assert "\\x1b]0;owned\\x07" in terminal.render(_report("\x1b]0;owned\x07"))


def test_colour_only_when_wanted() -> None:
    assert "\x1b[31m" in terminal.render(_report("x", Tone.BAD), color=True)
    assert "\x1b" not in terminal.render(_report("x", Tone.BAD))


def test_wide_shows_all_columns() -> None:
    assert "hidden" not in terminal.render(_report("x"))
    assert "hidden" in terminal.render(_report("x"), wide=True)


def test_narrow_terminals_fold_and_lose_nothing() -> None:
    text = terminal.render(_report("abcdefghij" * 5), width=20)
    assert "".join(text.split()).count("abcdefghij") == 5


def test_a_table_border_cannot_be_drawn_from_a_cell() -> None:
    lines = [line for line in markdown.render(_report("a | b\n| c")).splitlines() if line.startswith("|")]
    assert len(lines) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)


def test_a_row_has_a_cell_per_column() -> None:
    with pytest.raises(ValueError, match="cells"):
        Table("t", (Column("a", "A"),), (Row(("x", "y")),))


@given(st.text(max_size=60), st.text(max_size=20))
def test_lines_to_be_copied_cannot_end_their_block(text: str, caption: str) -> None:
    report = Report("test", "", (Section("", blocks=(Block(caption, text),)), Section(text, ("x",), folded=True)))
    page = markdown.render(report)
    assert all(c.isprintable() for c in page.replace("\n", ""))
    lines = page.split("\n")
    fence = next(line for line in lines if line.endswith("`yaml"))[:-4]
    assert lines.count(fence) == 1
    (summary,) = [line for line in lines if line.startswith("<summary>")]
    assert summary.count("<") == 2
    assert all(c.isprintable() for c in terminal.render(report).replace("\n", ""))


def test_yaml_says_what_json_says() -> None:
    report = Report("test", "Title", _report("x").sections, {"edges": 3, "empty": False})
    assert yaml.safe_load(yaml_format.render(report)) == json.loads(json_format.render(report))
    row = Row(("a", "b"), more={"nested": [{"c": 1}]})
    table = Table("t", (Column("name", "Name"), Column("more", "More")), (row,))
    body = json.loads(json_format.render(Report("test", "", (Section("", tables=(table,)),))))
    assert body["sections"][0]["t"] == [{"name": "a", "more": "b", "nested": [{"c": 1}]}]
