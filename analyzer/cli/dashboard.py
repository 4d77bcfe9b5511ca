"""What goes on while a stream is followed, on a terminal: rates, edges, services, drops, losses, nodes and coverage."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analyzer.cli.tally import Tally
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.model.flow import OUT_OF_SIGHT
from analyzer.report.coverage import SKIP_WORDS
from analyzer.report.model import visible
from analyzer.report.words import count

__all__ = ["Dashboard", "sparkline"]

_INTERVAL = 0.5
_BARS = "▁▂▃▄▅▆▇█"
_TOP, _WIDE = 8, 100
_STATES = {2: "unavailable", 3: "gone", 4: "in error", OUT_OF_SIGHT: "out of sight for a while"}
_TROUBLES = 3


def sparkline(values: Iterable[float], width: int) -> str:
    """The latest values as bars; nothing is the lowest bar, and anything is more than that."""
    latest = list(values)[-width:] if width > 0 else []
    most = max(latest, default=0)
    steps = len(_BARS) - 1
    return "".join(_BARS[0 if value <= 0 else max(1, round(value / most * steps))] for value in latest)


class Dashboard:
    """Redraws itself while flows are read. Use it as a context manager; it leaves the screen as it was.

    `due_in` tells in how many seconds what was read is written down next.
    """

    def __init__(
        self,
        what: str,
        where: str,
        console: Console,
        due_in: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._where = visible(what), visible(where)
        self._console = console
        self._due_in = due_in
        self._clock = clock
        self._started = clock()
        self._tally = Tally(self._started)
        self._next = self._started
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Dashboard:
        self._live.start()
        self.draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, coverage: Coverage, table: EdgeTable, settle: Callable[[], None]) -> None:
        """Take in what was read, and redraw if it is time to. `settle` makes the numbers in `table` exact."""
        now = self._clock()
        if now >= self._next or table is not self._tally.table:
            self._tally.update(coverage, table, now, settle)
        if now >= self._next:
            self._next = now + _INTERVAL
            self.draw()

    def draw(self) -> None:
        """Redraw."""
        self._live.update(self.view(), refresh=True)

    def view(self) -> RenderableType:
        """All of it, for a console of the given size."""
        width, height = self._console.size
        rows = max(3, min(_TOP, height - 14))
        parts: list[RenderableType] = [self._head(), Text(""), self._numbers(width)]
        tables = [self._services(rows)]
        if self._tally.drops:
            tables.append(self._drops(rows))
        if width >= _WIDE and len(tables) > 1:
            grid = Table.grid(padding=(0, 3), expand=True)
            for _ in tables:
                grid.add_column(ratio=1)
            grid.add_row(*tables)
            tables = [grid]
        parts += [Text(""), *tables]
        troubles = self._troubles()
        if troubles:
            parts += [Text(""), *troubles]
        return Group(*parts)

    def _head(self) -> Text:
        elapsed = _duration(self._clock() - self._started)
        text = Text(f"{self._what} for {elapsed}", style="bold", no_wrap=True, overflow="ellipsis")
        text.append(
            f" into {self._where}, next written in {_duration(max(0, self._due_in()))}. Ctrl-C ends it.", "not bold"
        )
        return text

    def _numbers(self, width: int) -> Table:
        tally, coverage = self._tally, self._tally.coverage
        bars = min(60, width - 60)
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(style="dim", no_wrap=True, min_width=13)
        grid.add_column(justify="right", no_wrap=True, min_width=12)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        grid.add_row(
            "records", f"{coverage.records:,}", Text(f"{tally.rate:>7,.0f}/s    {sparkline(tally.rates, bars)}")
        )
        grid.add_row(
            "connections", f"{tally.connections:,}", Text(f"{tally.new[-1]:>7,} new/min {sparkline(tally.new, bars)}")
        )
        grid.add_row("dropped", _marked(tally.dropped, "red"), Text("events that a policy or the network refused"))
        grid.add_row("lost", _marked(coverage.lost.total(), "yellow"), Text("events that nobody recorded"))
        grid.add_row("nodes", f"{len(_nodes(coverage)):,}", Text(_states(coverage)))
        grid.add_row("part of edges", _share(coverage), Text(_skips(coverage)))
        return grid

    def _services(self, rows: int) -> Table:
        return _top("Busiest services", "Events", self._tally.services, rows)

    def _drops(self, rows: int) -> Table:
        return _top("Dropped most", "Events", self._tally.drops, rows)

    def _troubles(self) -> Sequence[Text]:
        missing = Counter[str]()
        for (node, state), times in self._tally.coverage.statuses.items():
            if state in _STATES:
                missing[f"{visible(node)} was {_STATES[state]}"] += times
        shown = [
            Text(f"{text} ({times}x)" if times > 1 else text, style="yellow", no_wrap=True, overflow="ellipsis")
            for text, times in sorted(missing.items(), key=lambda item: (-item[1], item[0]))[:_TROUBLES]
        ]
        more = len(missing) - len(shown)
        return [*shown, Text(f"and {more} more", style="yellow")] if more > 0 else shown


def _top(title: str, number: str, counter: Counter[str], rows: int) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True, header_style="dim")
    table.add_column(title, no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(number, justify="right", no_wrap=True)
    for name, weight in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:rows]:
        table.add_row(Text(name), f"{weight:,}")
    if len(counter) > rows:
        table.add_row(Text(f"and {len(counter) - rows:,} more", style="dim"), "")
    return table


def _marked(number: int, style: str) -> Text:
    return Text(f"{number:,}", style=style if number else "")


def _nodes(coverage: Coverage) -> set[str]:
    return {node for node, _ in coverage.nodes if node}


def _states(coverage: Coverage) -> str:
    bad = {node for node, state in coverage.statuses if state in _STATES}
    return f"{count(len(bad), 'node')} with gaps" if bad else "none with gaps"


def _share(coverage: Coverage) -> str:
    return f"{coverage.edge_records / coverage.records:.1%}" if coverage.records else "-"


def _skips(coverage: Coverage) -> str:
    most = sorted(coverage.skipped.items(), key=lambda item: (-item[1], item[0]))[:2]
    told = "; ".join(f"{number:,} {SKIP_WORDS.get(reason, 'skipped').partition(':')[0]}" for reason, number in most)
    return f"not: {told}" if told else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
