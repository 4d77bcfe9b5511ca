"""Drops while they happen: on a terminal a table that is redrawn, elsewhere a line per cause when it is first seen."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from analyzer.drops.findings import Finding
from analyzer.report import terminal
from analyzer.report.drops import drops_table, in_a_line
from analyzer.report.model import visible
from analyzer.report.words import count

__all__ = ["DropLines"]

TERMINAL_INTERVAL, PLAIN_INTERVAL = 1.0, 2.0
ROWS = 15

Look = Callable[[], Sequence[Finding]]


class DropLines:
    """Shows what `look` finds, now and then. Use it as a context manager; it leaves the screen as it was.

    Looking costs more than reading: no more than a tenth of the time goes into it.
    """

    def __init__(self, what: str, look: Look, *, terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._look, self._clock = visible(what), look, clock
        self._interval = TERMINAL_INTERVAL if terminal else PLAIN_INTERVAL
        self._next = clock()
        self._told: set[tuple[object, ...]] = set()
        self._live = (
            Live(console=Console(stderr=True, highlight=False), auto_refresh=False, transient=True)
            if terminal
            else None
        )

    def __enter__(self) -> DropLines:
        if self._live is not None:
            self._live.start()
        else:
            sys.stderr.write(f"{self._what}. Ctrl-C ends it, and sums up.\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, records: int, dropped: int) -> None:
        """Look again, if it is time to."""
        began = self._clock()
        if began < self._next:
            return
        found = self._look()
        if self._live is not None:
            self._live.update(Text.from_ansi(self._table(found, records, dropped)), refresh=True)
        else:
            self._lines(found)
        now = self._clock()
        self._next = now + max(self._interval, 10 * (now - began))

    def _table(self, found: Sequence[Finding], records: int, dropped: int) -> str:
        width, height = shutil.get_terminal_size()
        rows = max(3, min(ROWS, height - 6))
        head = f"{self._what}: {count(records, 'record')}, {count(dropped, 'dropped packet')}. Ctrl-C ends it, and sums up."
        return terminal.render(drops_table(found[:rows], head, len(found) - rows), width=width, color=True)

    def _lines(self, found: Sequence[Finding]) -> None:
        for each in found:
            # A cause may become clearer as more is known; what was told once is not told again for that.
            key = (each.scene.client_and_server, str(each.scene.edge.l4), each.kind, each.audit, each.scene.section)
            if key not in self._told:
                self._told.add(key)
                sys.stderr.write(f"{visible(in_a_line(each))}\n")
        sys.stderr.flush()
