"""A Report for a terminal or a pipe: tables by rich, no control character of what was observed gets through."""

from __future__ import annotations

from io import StringIO

from rich.box import Box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from analyzer.report.model import Block, Cell, Column, Report, Section, Table, Tone, visible

__all__ = ["PIPE_WIDTH", "render"]

PIPE_WIDTH = 400
"""The width where nobody looks at the lines: no cell is folded before it."""

_STYLES = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.WARNING: "yellow", Tone.BAD: "red"}
# Columns as kubectl prints them: two spaces apart and a rule under the heading.
_BOX = Box("    \n    \n -- \n    \n    \n    \n    \n    \n")


def render(report: Report, *, width: int = PIPE_WIDTH, color: bool = False, wide: bool = False) -> str:
    """The report as text of at most `width` columns; `wide` shows the columns that are left out otherwise."""
    out = StringIO()
    console = Console(
        file=out, width=width, force_terminal=color, color_system="standard" if color else None,
        no_color=not color, highlight=False, markup=False, emoji=False, legacy_windows=False, _environ={},
    )  # fmt: skip
    if report.title:
        console.print(Text(visible(report.title), style="bold"))
    for index, section in enumerate(report.shown):
        if index or report.title:
            console.print()
        _section(console, section, wide)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _section(console: Console, section: Section, wide: bool) -> None:
    if section.title:
        console.print(Text(visible(section.title), style=f"bold {_STYLES[section.tone]}".strip()))
    for note in section.notes:
        console.print(Padding(Text(visible(note)), (0, 0, 0, 2 if section.title else 0)))
    for index, table in enumerate(table for table in section.tables if table.rows):
        if index:
            console.print()
        console.print(_table(table, wide))
    for index, block in enumerate(section.blocks):
        if index or section.notes or any(table.rows for table in section.tables):
            console.print()
        _block(console, block)


def _block(console: Console, block: Block) -> None:
    """A sentence, and under it lines that stay whole: they are there to be copied."""
    console.print(Padding(Text(visible(block.caption)), (0, 0, 0, 2)))
    for line in block.text.rstrip("\n").split("\n"):
        console.print(Text(f"    {visible(line)}", style="cyan"), soft_wrap=True)


def _table(table: Table, wide: bool) -> RichTable:
    shown = [index for index, column in enumerate(table.columns) if wide or not column.wide]
    made = RichTable(
        box=_BOX, show_edge=False, pad_edge=False, padding=(0, 1), header_style="bold", collapse_padding=True
    )
    for index in shown:
        column = table.columns[index]
        made.add_column(
            Text(column.title.upper()), justify="right" if column.number else "left", no_wrap=column.number,
            overflow="fold",
        )  # fmt: skip
    for row in table.rows:
        cells = [_cell(row.cells[index], table.columns[index]) for index in shown]
        made.add_row(*cells, style=_STYLES[row.tone])
    return made


def _cell(cell: Cell, column: Column) -> Text:
    if cell is None:
        return Text("-")
    if column.number and isinstance(cell, int):
        return Text(f"{cell:,}")
    return Text(visible(str(cell)))
