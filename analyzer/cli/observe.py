"""``observe``: flows into a store, from files once or from a server for weeks."""

from __future__ import annotations

import os
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.options import DURATION, OUTPUT, FlowCommand, Inputs, reads_flows

if TYPE_CHECKING:
    from analyzer.cli.dashboard import Dashboard
    from analyzer.cli.progress import Progress
    from analyzer.cli.reading import Opened
    from analyzer.errors import StoreUnavailable
    from analyzer.model.edge import Coverage
    from analyzer.store import Store

__all__ = ["command"]


class Clock:
    """Due every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = time.monotonic()

    def __call__(self) -> bool:
        if self.left() > 0:
            return False
        self._last = time.monotonic()
        return True

    def left(self) -> float:
        """Seconds until it is due."""
        return self._last + self._interval - time.monotonic()


@click.command("observe", cls=FlowCommand, short_help="Read flows into a store, once or for weeks.")
@click.option(
    "--store", "where", metavar="STORE", required=True, panel=OUTPUT,
    help="A file for SQLite, or postgresql://user@host/database. It is made if it does not exist.",
)  # fmt: skip
@click.option(
    "--flush-interval", type=DURATION, default="30s", show_default=True, metavar="DURATION", panel=OUTPUT,
    help="How often what was read is written down; a crash loses no more than that.",
)  # fmt: skip
@click.option(
    "--max-duration", type=DURATION, metavar="DURATION", panel=OUTPUT,
    help="End by itself after this time, such as 1h30m.  [default: when everything is read, or by Ctrl-C]",
)  # fmt: skip
@partial(reads_flows, tails=True)
def command(inputs: Inputs, where: str, flush_interval: float, max_duration: float | None) -> None:
    """Read the flows of SOURCES into a store: edges and when they were active, not the flows themselves.

    Reading the same content again adds nothing, so an interrupted run can simply be repeated. With --follow it goes on
    until Ctrl-C: it connects again to a server that went away, and follows files across their rotation. Without a SOURCE,
    the flows of a Hubble server are read:

        hubble-analyzer observe --server localhost:4245 --follow --store flows.db
        hubble-analyzer observe --follow /var/run/cilium/hubble/events.log --store flows.db
    """
    from analyzer.cli.output import called, finish, show
    from analyzer.cli.progress import note
    from analyzer.cli.reading import fingerprint, opened
    from analyzer.errors import UsageError
    from analyzer.report.coverage import coverage_section
    from analyzer.report.model import Report
    from analyzer.store import Store

    sources = opened(inputs)
    if sources.stores:
        raise UsageError(f"{sources.stores[0]} is a store already", hint="name files or a server to read flows from")
    if inputs.sources and inputs.number:
        raise UsageError("--first and --last cannot be used on files here", hint="use --since and --until, or filters")
    with Store.open(where, create=True, selection=fingerprint(inputs)) as store:
        coverage, interrupted = _collected(inputs, sources, store, where, Clock(flush_interval), max_duration)
        edges = len(store.read())
    show(Report("observation", "", (coverage_section(coverage),)), err=True)
    if interrupted:
        note("Interrupted: everything read until then is in the store.")
    note(f"{where} holds {edges:,} edges now. Next: {called()} graph {where}, {called()} recommend {where}")
    finish(interrupted)


def _collected(
    inputs: Inputs, sources: Opened, store: Store, where: str, clock: Clock, max_duration: float | None
) -> tuple[Coverage, bool]:
    """Read until the end, a signal or the time is up. Returns what was read, and whether it was a signal."""
    from analyzer.cli.interrupt import Interruptible
    from analyzer.cli.reading import selection
    from analyzer.pipeline import collect

    timer = threading.Timer(max_duration or 0, sources.close)
    timer.daemon = True
    with Interruptible(sources.close) as interruptible, _shown(inputs, sources, where, clock) as shown:
        if max_duration is not None:
            timer.start()
        try:
            trouble = _tell_trouble if inputs.follow else None
            coverage = collect(sources.flows, store, selection(inputs), clock, shown.update, trouble)
        finally:
            timer.cancel()
    return coverage, interruptible.interrupted


def _shown(inputs: Inputs, sources: Opened, where: str, clock: Clock) -> Dashboard | Progress:
    """How reading goes: on a terminal a dashboard, for what is followed; else lines."""
    from analyzer.cli.progress import Progress

    words = f"Observing {sources.names}"
    if not inputs.follow or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return Progress(words, follow=inputs.follow)
    from rich.console import Console

    from analyzer.cli.dashboard import Dashboard

    return Dashboard(words, where.rpartition("@")[2], Console(stderr=True, highlight=False), clock.left)


def _tell_trouble(error: StoreUnavailable) -> None:
    from analyzer.cli.progress import note

    note(f"{error.message}; what was read is kept, and written down later")
