"""Report: the only argument of every renderer - titles, notes and tables as plain frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any

__all__ = ["Block", "Cell", "Column", "Report", "Row", "Section", "Table", "Tone", "as_data", "visible"]

Cell = str | int | None
"""Text, a count, or nothing. Text is what was observed, unescaped: every renderer escapes for its own format."""


class Tone(StrEnum):
    """How a row or a note is meant; renderers without colour ignore it, so it never carries meaning of its own."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Column:
    """`key` names the column for machines, `title` for people. `wide` columns are left out where room is short."""

    key: str
    title: str
    number: bool = False
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a cell per column. `more` is for machines only: values of JSON by name, beside those of the columns."""

    cells: tuple[Cell, ...]
    tone: Tone = Tone.PLAIN
    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order they are to be shown. `key` names the table for machines."""

    key: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.key}: a row has not as many cells as there are columns")


@dataclass(frozen=True, slots=True)
class Block:
    """Lines to be copied as they are, such as YAML, with a sentence above them."""

    caption: str
    text: str
    language: str = "yaml"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, what to say under it in whole sentences, tables, and blocks. Sections without content are not shown; `folded`
    ones are opened by the reader where the format can do that. `more` is for machines only."""

    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    tone: Tone = Tone.PLAIN
    blocks: tuple[Block, ...] = ()
    folded: bool = False
    more: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def cut(self, most: int) -> Section:
        """The section with at most `most` rows of each table, and a note on what is left out."""
        left = sum(max(0, len(table.rows) - most) for table in self.tables)
        if not left:
            return self
        tables = tuple(replace(table, rows=table.rows[:most]) for table in self.tables)
        return replace(
            self, tables=tables, notes=(*self.notes, f"The first {most:,} are listed, and {left:,} more are not.")
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing under the heading."""
        return not self.notes and not self.blocks and not any(table.rows for table in self.tables)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one command has to say. `kind` names the shape for machines, such as ``graph`` or ``recommendation``;
    `summary` holds the figures of the title for them."""

    kind: str
    title: str
    sections: tuple[Section, ...] = ()
    summary: Mapping[str, int | str | bool] = field(default_factory=lambda: MappingProxyType({}))

    def before_last(self, sections: Iterable[Section]) -> Report:
        """The report with `sections` before its last one, which says what to do next or what all of it is based on."""
        return replace(self, sections=(*self.sections[:-1], *sections, *self.sections[-1:]))

    @property
    def shown(self) -> tuple[Section, ...]:
        """The sections that have content."""
        return tuple(section for section in self.sections if not section.empty)


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain values for machines: every table with its machine names, under a ``schema``."""
    found: dict[str, Any] = {"schema": f"hubble-analyzer/{report.kind}/v1", "title": report.title}
    if report.summary:
        found["summary"] = dict(report.summary)
    found["sections"] = [_section_data(section) for section in report.shown]
    return found


def _section_data(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {"title": section.title, **section.more}
    if section.notes:
        found["notes"] = list(section.notes)
    for table in section.tables:
        keys = [column.key for column in table.columns]
        found[table.key] = [dict(zip(keys, row.cells, strict=True)) | dict(row.more) for row in table.rows]
    if section.blocks:
        found["blocks"] = [{"caption": each.caption, each.language: each.text} for each in section.blocks]
    return found


def visible(text: str) -> str:
    r"""`text` with everything that could steer a terminal or hide in a page made visible as ``\x1b``, ``\u202e``.

    That is all that Unicode does not call printable: control characters, direction overrides, line separators, surrogates.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escaped(ord(c)) for c in text)


def _escaped(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
