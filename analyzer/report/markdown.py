"""A Report as Markdown: for pull requests and wikis; whatever was observed stays text."""

from __future__ import annotations

import re

from analyzer.report.model import Cell, Report, Section, Table, visible

__all__ = ["render"]

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!@&$^])")


def render(report: Report) -> str:
    """Headings, paragraphs and pipe tables, ending in a newline."""
    parts = [f"# {_text(report.title)}"]
    for section in report.shown:
        parts.extend(_section(section))
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {_text(section.title)}"]
    parts.extend(_text(note) for note in section.notes)
    parts.extend(_table(table) for table in section.tables if table.rows)
    return parts


def _table(table: Table) -> str:
    lines = [
        [_text(column.title) for column in table.columns],
        ["---:" if column.number else "---" for column in table.columns],
        *([_cell(cell) for cell in row.cells] for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(cell: Cell) -> str:
    return "" if cell is None else _text(str(cell))


def _text(text: str) -> str:
    """Escaped so that no Markdown, HTML, mention or table border comes out of what somebody called a pod."""
    return _SPECIAL.sub(r"\\\1", visible(text)).replace("://", ":\\/\\/")
