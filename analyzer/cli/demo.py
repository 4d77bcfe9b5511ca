"""``demo``: everything the tool does, on a simulated cluster, through the real server, client, store and recommendation."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from analyzer.model.edge import Edge, EdgeTable
    from analyzer.recommend import Proposal
    from analyzer.report.model import Report

__all__ = ["command"]

FOLDER = Path("hubble-demo")
EXAMPLE_LINES = 60
STEPS = 6
SHOWN = "shop"
"""The namespace that the screen shows; the files have them all."""
BROKEN = 4
"""Rows per table of what would break."""


@click.command("demo", short_help="See all of it work; needs no cluster and no network.")
@click.option(
    "--output-dir", "-d", type=click.Path(path_type=Path), default=FOLDER, show_default=True, metavar="DIR",
    help="Where the store and the policies go.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Another number, other traffic.")
def command(output_dir: Path, seed: int) -> None:
    """Simulate a small cluster, serve its traffic over Hubble's own API on this machine, read it back as from your cluster,
    and recommend policies for it. Nothing leaves this machine.
    """
    from analyzer.cli.files import save_proposal
    from analyzer.cli.output import called, show
    from analyzer.graph import service_graph
    from analyzer.pipeline import recommend, settle
    from analyzer.report.coverage import coverage_section
    from analyzer.report.model import Report
    from analyzer.report.proposal import proposal_report, proposal_summary
    from analyzer.report.services import graph_section

    store, policies = output_dir / "flows.db", output_dir / "policies"
    click.echo("Demo: from Hubble's flow logs to least-privilege network policies. Needs no cluster and no network.\n")
    table = _observed(seed, store)
    show(Report("observation", "", (coverage_section(table.coverage),)), narration=True)
    edges = settle(table)
    _step(
        3, f"Who talks to whom in the namespace {SHOWN}, and what became of it", f"{called()} graph {store} -n {SHOWN}"
    )
    shown = [edge for edge in edges if SHOWN in (edge.source.namespace, edge.destination.namespace)]
    show(Report("graph", "", (graph_section(service_graph(shown)),)), narration=True)
    _step(4, "Policies that allow this traffic and nothing else", f"{called()} recommend {store} -d {policies}")
    proposal = recommend(edges)
    save_proposal(policies, proposal.manifests(), proposal_report(proposal, table.coverage))
    show(Report("summary", "", proposal_summary(proposal, table.coverage).sections[1:]), narration=True)
    _example(proposal, policies)
    _step(5, "What would break if they were applied", f"{called()} diff {store} --policies {policies}")
    show(_judged(edges, proposal), narration=True)
    _step(
        6, "A deployment that breaks: since its last rollout, shop/frontend calls shop/db, and nobody allowed that",
        f"{called()} drops {store} -n {SHOWN} --policies {policies}",
    )  # fmt: skip
    show(_dropped(shown, policies), narration=True)
    _next(store, policies, called())


def _judged(edges: Sequence[Edge], proposal: Proposal) -> Report:
    """What the policy engine says the proposal would do to the traffic it was made from."""
    from analyzer.diff import compare
    from analyzer.inventories import from_edges
    from analyzer.policy import parse
    from analyzer.report.diff import diff_report
    from analyzer.simulate import observed, simulate

    known = from_edges(edges)
    policies = [parse(document, known.options) for document in proposal.documents()]
    return diff_report(compare(observed(edges), simulate(edges, policies, known)), {}, limit=BROKEN)


def _dropped(edges: Sequence[Edge], policies: Path) -> Report:
    """The drop that troubles a deployment most, its cause and the change that mends it, tried by the engine."""
    from analyzer.drops.documents import Documents
    from analyzer.drops.findings import findings
    from analyzer.drops.reasons import Weight
    from analyzer.drops.scene import Facts
    from analyzer.drops.stored import drops_of
    from analyzer.inventories import from_edges
    from analyzer.manifests import load
    from analyzer.report.drops import Extent, drops_report

    known = from_edges(edges)
    written = list(load([str(policies)]))
    texts = {each.path: Path(each.path).read_text(encoding="utf-8") for each in written}
    facts = Facts(known, {edge.key: edge for edge in edges})
    found = findings(drops_of(edges), facts, Documents(written, texts, known.options))
    return drops_report([each for each in found if each.weight is Weight.POLICY and not each.audit][:1], Extent())


def _observed(seed: int, where: Path) -> EdgeTable:
    """The simulated traffic: served by the real server, read by the real client, kept in the real store."""
    from analyzer.cli.files import make_folder
    from analyzer.cli.output import called
    from analyzer.pipeline import collect
    from analyzer.replay import Recording, ReplayServer
    from analyzer.report.words import count
    from analyzer.sources.relay import RelaySource
    from analyzer.sources.server import ServerOptions
    from analyzer.store import Store

    recording = Recording(_traffic(seed))
    _step(
        1,
        f"{count(len(recording), 'flow')} of a simulated cluster with {count(len(recording.nodes), 'node')}",
    )
    make_folder(where.parent)
    for old in (where, where.with_name(f"{where.name}-wal"), where.with_name(f"{where.name}-shm")):
        old.unlink(missing_ok=True)
    with ReplayServer(recording) as server, Store.open(str(where), create=True) as store:
        _step(
            2, f"Served over Hubble's own API at {server.address}, and read from there into {where}",
            f"{called()} observe --server localhost:4245 --follow --store flows.db",
        )  # fmt: skip
        started = time.monotonic()
        coverage = collect([RelaySource(ServerOptions(server.address))], store)
        seconds = time.monotonic() - started
        click.echo(f"  {coverage.records:,} records in {seconds:.1f} s\n")
        return store.read()


def _traffic(seed: int) -> Iterable[Any]:
    import json

    from analyzer.demo import CLUSTER, records

    return (json.dumps(record) for record in records(CLUSTER, seed))


def _step(number: int, title: str, instead: str = "") -> None:
    click.echo(click.style(f"\n[{number}/{STEPS}] {title}", bold=True))
    if instead:
        click.echo(
            f"      the same for your own cluster: {instead}" if number == 2 else f"      the same by hand: {instead}"
        )
    click.echo()


def _example(proposal: Proposal, folder: Path) -> None:
    """The policy with the most kinds of rules, as far as a screen goes."""
    if not proposal.policies:
        return
    chosen = max(proposal.policies, key=lambda policy: (len(policy.rules) <= 6, len(policy.rules), policy.path))
    path = folder / chosen.path
    lines = path.read_text(encoding="utf-8").splitlines()
    click.echo(click.style(f"\nOne of them, {path}:\n", bold=True))
    click.echo("\n".join(f"  {line}" for line in lines[:EXAMPLE_LINES]))
    if len(lines) > EXAMPLE_LINES:
        click.echo(f"  ... and {len(lines) - EXAMPLE_LINES} more lines")


def _next(store: Path, policies: Path, name: str) -> None:
    click.echo(click.style("\nWhat to type next\n", bold=True))
    for words, line in (
        ("Read what was recommended, refused and why", f"less {policies}/REPORT.md"),
        ("Draw the graph", f"{name} graph {store} -o mermaid"),
        ("Find out why something was dropped, and what would mend it", f"{name} drops {store} -p {policies}"),
        (
            "Ask why one may not talk to another",
            f"{name} explain {store} -p {policies} --from shop/frontend --to shop/db",
        ),
        (
            "Collect your own cluster's traffic for some days, through a port-forward; Ctrl-C ends it",
            f"{name} observe -P --follow --store flows.db",
        ),
        ("Get its policies as files; nothing is applied", f"{name} recommend flows.db -d policies"),
        (
            "See what they would break, and let that gate your pull requests",
            f"{name} diff flows.db -p policies -o markdown",
        ),
    ):
        click.echo(f"  {words}:\n    {line}")
