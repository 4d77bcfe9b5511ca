"""Narration on stderr while something long goes on: one line that is rewritten on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import rich_click as click

from analyzer.cli.tally import Known
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.report.model import visible

__all__ = ["Progress", "note", "unheard"]

QUIET = 2.0
"""Seconds before the first word: whatever is quicker needs none."""
TERMINAL_INTERVAL, PLAIN_INTERVAL, FOLLOW_INTERVAL = 0.5, 10.0, 60.0


def note(text: str) -> None:
    """A sentence for people, on stderr."""
    # Not by click, which goes past whoever has taken the place of stderr, such as the dashboard.
    with unheard():
        sys.stderr.write("\n".join(visible(line) for line in text.split("\n")) + "\n")
        sys.stderr.flush()


def unheard() -> suppress:
    """What is said in this context may go unheard: a full disk under a log, or a reader that left, must not end reading."""
    return suppress(OSError, ValueError, AttributeError)  # the last two when it is closed, or not there at all


class Progress:
    """How reading goes: records, rate, connections, lost events, what was skipped. Use it as a context manager.

    `follow` is for streams without an end: then the first words come at once.
    """

    def __init__(self, what: str, *, follow: bool = False) -> None:
        self._what = what
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._started = time.monotonic()
        self._next = self._started + (0 if follow else QUIET)
        self._interval = TERMINAL_INTERVAL if self._terminal else FOLLOW_INTERVAL if follow else PLAIN_INTERVAL
        self._shown = 0
        self._last = (self._started, 0)
        self._known = Known()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wipe()

    def update(self, coverage: Coverage, table: EdgeTable, settle: Callable[[], None] | None = None) -> None:
        """Say how far it is, if it is time to. Which connections there are needs no settling."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._interval
        self._known.add(table)
        then, before = self._last
        rate = (coverage.records - before) / (now - then) if now > then else 0.0
        self._last = (now, coverage.records)
        line = visible(f"{self._what}: {self._words(coverage, self._known.total, rate)}")
        if not self._terminal:
            with unheard():
                click.echo(line, err=True)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        with unheard():
            click.echo("\r" + line.ljust(self._shown), nl=False, err=True)
        self._shown = len(line)

    @staticmethod
    def _words(coverage: Coverage, connections: int, rate: float) -> str:
        parts = [f"{coverage.records:,} records", f"{rate:,.0f}/s", f"{connections:,} connections"]
        if coverage.lost:
            parts.append(f"{coverage.lost.total():,} lost")
        if coverage.skipped:
            most = ", ".join(
                f"{reason.name.lower().replace('_', ' ')} {number:,}"
                for reason, number in sorted(coverage.skipped.items(), key=lambda item: (-item[1], item[0]))[:3]
            )
            parts.append(f"{coverage.skipped.total():,} skipped ({most})")
        return ", ".join(parts)

    def _wipe(self) -> None:
        if self._shown:
            with unheard():
                click.echo("\r" + " " * self._shown + "\r", nl=False, err=True)
            self._shown = 0
