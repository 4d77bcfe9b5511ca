"""``drops``: why traffic was dropped, and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows
from analyzer.cli.policies import (
    Files,
    Policies,
    check_stdin,
    complain,
    fail_for,
    inventory_of,
    inventory_option,
    needed,
    policies_option,
    read_files,
    read_policies,
)

if TYPE_CHECKING:
    from analyzer.aggregate import Aggregator
    from analyzer.drops.documents import Documents
    from analyzer.drops.drop import Drops
    from analyzer.drops.findings import Finding
    from analyzer.drops.scene import Facts
    from analyzer.drops.window import DropWindow
    from analyzer.model.document import Document
    from analyzer.model.edge import Edge, EdgeTable
    from analyzer.model.inventory import Inventory
    from analyzer.report.drops import Extent

__all__ = ["command"]

FORMATS = ("table", "wide", "json", "markdown")
CLUSTER = "cluster"
GLANCE = 60
"""Drops that are looked into while flows come in."""
MAX_FILE = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Heard:
    """What SOURCES came to: drops of flows and of stores, and all edges, with the addresses that DNS responses gave for names."""

    drops: tuple[Drops, ...]
    window: DropWindow
    table: EdgeTable
    edges: tuple[Edge, ...]
    names: Mapping[str, tuple[str, ...]]
    stored: bool = False
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """Policies and manifests, as files."""

    policies: Files
    manifests: Files

    def known(self, heard: Heard) -> Inventory:
        """What they and the record tell of the cluster."""
        return inventory_of(heard.edges, heard.names, self.manifests, self.policies)

    def documents(self, known: Inventory) -> Documents | None:
        """The policies; None if none were given."""
        return written(self.policies, known) if self.policies.paths else None


@click.command("drops", cls=FlowCommand, short_help="Tell why traffic was dropped, and what would help.")
@policies_option
@inventory_option
@click.option(
    "--fail-on", type=click.Choice(("policy", "infra", "any")), default="policy", show_default=True, panel=OUTPUT,
    help="Which drops end with exit code 1: those by policies, those by the network, or all, what was audited included.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, panel=OUTPUT,
    help="Format, on standard output.",
)  # fmt: skip
@partial(reads_flows, tails=True)
def command(inputs: Inputs, policies: tuple[str, ...], inventory: tuple[str, ...], fail_on: str, output: str) -> None:
    """Turn the drops in SOURCES into a short list of causes, with the next step for each.

    With --policies, the policies in force, it tells which rule comes nearest and how it misses, and the smallest change that
    would let the traffic pass, as a patch that was tried out. What the network dropped never becomes a rule.

    Ends with 0 if there are no drops by policies, 1 if there are (see --fail-on), 2 and more after an error.
    """
    from analyzer.cli.output import finish, show
    from analyzer.drops.findings import findings
    from analyzer.report.coverage import coverage_section
    from analyzer.report.drops import drops_report
    from analyzer.report.model import Report

    check_stdin(inputs.sources, policies, inventory)
    cluster = inputs.cluster_options()
    given = Given(read_files(policies, "--policies", cluster), read_files(inventory, "--inventory", cluster))
    heard = listen(inputs, given)
    known = given.known(heard)
    taken = (
        needed(read_policies(given.policies, known.options), given.policies, "--policies") if policies else Policies()
    )
    problems = (*taken.problems, *given.manifests.problems)
    complain(problems)
    documents = given.documents(known)
    found = findings(heard.drops, facts(heard, known), documents)
    show(drops_report(found, extent(heard, known, documents), full=output in ("wide", "json")), output)
    if output in ("table", "wide"):
        show(Report("drops-coverage", "", (coverage_section(heard.table.coverage),)), err=True)
    fail_for(problems)
    finish(heard.interrupted, failing(found, fail_on))


def failing(found: Sequence[Finding], fail_on: str) -> bool:
    """Whether there is what the user wants to hear of by the exit code."""
    if fail_on == "any":
        return bool(found)
    return any(each.weight.value == fail_on and not each.audit for each in found)


def listen(inputs: Inputs, given: Given) -> Heard:
    """Read everything the user named, and show how it goes. Raises AnalyzerError."""
    from analyzer.aggregate import Aggregator
    from analyzer.cli.interrupt import Interruptible
    from analyzer.cli.reading import limited, opened, selection
    from analyzer.cli.stored import edge_filter, hours
    from analyzer.drops.stored import drops_of
    from analyzer.drops.window import DropWindow
    from analyzer.pipeline import batches
    from analyzer.settle import settle
    from analyzer.sources.base import nothing_read_before
    from analyzer.store import Store

    sources = opened(inputs)
    asked = [(where, hours(inputs), edge_filter(inputs)) for where in sources.stores]
    window, aggregator = DropWindow(), Aggregator()
    look = partial(glance, window, aggregator, given)
    with Interruptible(sources.close) as interruptible, shown(inputs, sources.names, look) as update:
        for batch in batches(*limited(sources.flows, selection(inputs), inputs), nothing_read_before):
            window.add(batch.records)
            aggregator.add(batch)
            update(aggregator.latest, window.events)
        stored: list[Edge] = []
        for where, (since, until), keep in asked:
            with Store.open(where, create=False) as store:
                kept = store.read(since=since, until=until)
            stored += filter(keep, settle(kept))
            aggregator.table.merge(kept)
    heard = so_far(window, aggregator.table, drops_of(stored))
    edges = tuple(filter(asked[0][2], heard.edges)) if asked else heard.edges
    return replace(heard, edges=edges, stored=bool(asked), interrupted=interruptible.interrupted)


def so_far(window: DropWindow, table: EdgeTable, stored: Sequence[Drops] = ()) -> Heard:
    """What was read until now."""
    from analyzer.inventories import answered_names
    from analyzer.settle import settle

    drops = sorted((*window.drops(), *stored), key=lambda each: (-each.drops, each.key))
    return Heard(tuple(drops), window, table, settle(table), answered_names(table.answers))


def glance(window: DropWindow, aggregator: Aggregator, given: Given) -> Sequence[Finding]:
    """The most frequent causes so far."""
    from analyzer.drops.findings import findings

    heard = so_far(window, aggregator.table)
    known = given.known(heard)
    return findings(heard.drops[:GLANCE], facts(heard, known), given.documents(known), fixes=False)


@contextmanager
def shown(
    inputs: Inputs, names: str, look: Callable[[], Sequence[Finding]]
) -> Iterator[Callable[[EdgeTable, int], None]]:
    """How reading goes: for what is followed the causes themselves, else its progress."""
    from analyzer.cli.progress import Progress

    if not inputs.follow:
        with Progress(f"Reading {names}") as progress:
            yield lambda table, _: progress.update(table.coverage, table)
        return
    from analyzer.cli.droplines import DropLines

    seen = sys.stderr.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    with DropLines(f"Drops of {names}", look, terminal=seen) as lines:
        yield lambda table, events: lines.update(table.coverage.records, events)


def facts(heard: Heard, known: Inventory) -> Facts:
    """What causes may look at."""
    from analyzer.drops.chase import facts_of

    return facts_of(heard.table, heard.edges, known, None if heard.stored else heard.window)


def written(files: Files, known: Inventory) -> Documents:
    """The policies with the texts of their files, which patches are made for."""
    from pathlib import Path

    from analyzer.drops.documents import Documents

    texts = {}
    for path in sorted({document.path for document in files.documents}):
        file = Path(path)
        try:
            if file.is_file() and file.stat().st_size <= MAX_FILE:
                texts[path] = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            # It was read a moment ago; without its text the patch is against the document as we would write it.
            continue
    # Patches are applied from here, as far as the files lie below.
    near = {path: os.path.relpath(path) if Path(path).resolve().is_relative_to(Path.cwd()) else path for path in texts}
    documents = (replace(each, header=(), path=near.get(each.path) or named(each)) for each in files.documents)
    return Documents(documents, {near[path]: text for path, text in texts.items()}, known.options)


def named(document: Document) -> str:
    """What a patch calls a document that stands in no file of its own, such as one of the cluster."""
    if document.line or document.path not in (CLUSTER, "-"):
        return document.path
    meta = document.data.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return "/".join(str(meta[key]) for key in ("namespace", "name") if meta.get(key)) + ".yaml"


def extent(heard: Heard, known: Inventory, documents: Documents | None) -> Extent:
    """What has to be said about the whole."""
    from analyzer.drops.stored import UNKNOWN_TO_A_STORE
    from analyzer.drops.unenforced import unenforced
    from analyzer.report.drops import Extent
    from analyzer.report.words import count

    notes = []
    if heard.stored:
        notes.append(UNKNOWN_TO_A_STORE)
    if heard.window.crowded:
        notes.append("There were so many connections at a time that retransmissions may count as drops of their own.")
    lost = heard.table.coverage.lost.total()
    if lost:
        notes.append(f"Lost before anybody recorded it: {count(lost, 'event')}. There may be more drops.")
    if documents is not None:
        silent = unenforced(heard.edges, documents, known, None if heard.stored else heard.window.verdicts)
        notes += [silent] if silent else []
    return Extent(tuple(notes), heard.window.left_over)
