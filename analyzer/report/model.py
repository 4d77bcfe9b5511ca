"""Report: the only argument of every renderer - titles, notes and tables as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Cell", "Column", "Report", "Row", "Section", "Table", "Tone", "visible"]

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
    """One line of a table: a cell per column."""

    cells: tuple[Cell, ...]
    tone: Tone = Tone.PLAIN


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
class Section:
    """A heading, what to say under it in whole sentences, and tables. Sections without content are not shown."""

    title: str
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    tone: Tone = Tone.PLAIN

    @property
    def empty(self) -> bool:
        """Whether there is nothing under the heading."""
        return not self.notes and not any(table.rows for table in self.tables)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one command has to say. `kind` names the shape for machines, such as ``graph`` or ``recommendation``."""

    kind: str
    title: str
    sections: tuple[Section, ...] = ()

    @property
    def shown(self) -> tuple[Section, ...]:
        """The sections that have content."""
        return tuple(section for section in self.sections if not section.empty)


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
