"""A Report as Markdown: for pull requests and wikis; whatever was observed stays text."""

from __future__ import annotations

import re
from html import escape

from analyzer.report.model import Block, Cell, Report, Section, Table, visible

__all__ = ["render"]

_FENCE = re.compile(r"`+")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~!@&$^])")


def render(report: Report) -> str:
    """Headings, paragraphs and pipe tables, ending in a newline."""
    parts = [f"# {_text(report.title)}"] if report.title else []
    for section in report.shown:
        parts.extend(_section(section))
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [_text(note) for note in section.notes]
    parts.extend(_table(table) for table in section.tables if table.rows)
    for block in section.blocks:
        parts.extend((_text(block.caption), _fenced(block)))
    if section.folded:
        # HTML, so that GitHub and GitLab fold it; the blank lines let Markdown begin again inside.
        return [f"<details>\n<summary>{_html(section.title)}</summary>", *parts, "</details>"]
    return [f"## {_text(section.title)}", *parts] if section.title else parts


def _html(text: str) -> str:
    return escape(visible(text)).replace("@", "&#64;")


def _fenced(block: Block) -> str:
    """The lines as they are, between fences longer than any inside."""
    lines = [visible(line) for line in block.text.rstrip("\n").split("\n")]
    longest = max((len(run) for line in lines for run in _FENCE.findall(line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{block.language}", *lines, fence])


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
