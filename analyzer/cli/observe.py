"""``observe``: flows into a store, from files once or from a server for weeks."""

from __future__ import annotations

import time

import rich_click as click

from analyzer.cli.options import DURATION, OUTPUT, FlowCommand, Inputs, reads_flows

__all__ = ["command"]


class Clock:
    """Due every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._last = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last < self._interval:
            return False
        self._last = now
        return True


@click.command("observe", cls=FlowCommand, short_help="Read flows into a store, once or for weeks.")
@click.option(
    "--store", "where", metavar="STORE", required=True, panel=OUTPUT,
    help="A file for SQLite, or postgresql://user@host/database. It is made if it does not exist.",
)  # fmt: skip
@click.option(
    "--flush-interval", type=DURATION, default="30s", show_default=True, metavar="DURATION", panel=OUTPUT,
    help="How often what was read is written down; a crash loses no more than that.",
)  # fmt: skip
@reads_flows
def command(inputs: Inputs, where: str, flush_interval: float) -> None:
    """Read the flows of SOURCES into a store: edges and when they were active, not the flows themselves.

    Reading the same content again adds nothing, so an interrupted run can simply be repeated. With --follow it goes on
    until Ctrl-C. Without a SOURCE, the flows of a Hubble server are read:

        hubble-analyzer observe --server localhost:4245 --follow --store flows.db
    """
    from analyzer.cli.interrupt import Interruptible
    from analyzer.cli.output import called, finish, show
    from analyzer.cli.progress import Progress, note
    from analyzer.cli.reading import fingerprint, opened, selection
    from analyzer.errors import UsageError
    from analyzer.pipeline import collect
    from analyzer.report.coverage import coverage_section
    from analyzer.report.model import Report
    from analyzer.store import Store

    sources, keep = opened(inputs), selection(inputs)
    if sources.stores:
        raise UsageError(f"{sources.stores[0]} is a store already", hint="name files or a server to read flows from")
    if inputs.sources and inputs.number:
        raise UsageError("--first and --last cannot be used on files here", hint="use --since and --until, or filters")
    with Store.open(where, create=True, selection=fingerprint(inputs)) as store:
        words = f"Observing {sources.names}"
        with Interruptible(sources.close) as interruptible, Progress(words, follow=inputs.follow) as progress:
            coverage = collect(sources.flows, store, keep, Clock(flush_interval), progress.update)
        edges = len(store.read())
    show(Report("observation", "", (coverage_section(coverage),)), err=True)
    if interruptible.interrupted:
        note("Interrupted: everything read until then is in the store.")
    note(f"{where} holds {edges:,} edges now. Next: {called()} graph {where}, {called()} recommend {where}")
    finish(interruptible.interrupted)
