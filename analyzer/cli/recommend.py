"""``recommend``: least-privilege policies for the traffic that was seen."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.detail import Detail, details_policies
from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows
from analyzer.cli.platform import Platform, lays_platform, platform_steps
from analyzer.cli.selfcheck import checked, with_check
from analyzer.cli.shape import Shape, existing_policies, shaped, shapes_policies, write_changes
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.baseline import Baseline
    from analyzer.cli.reading import Found
    from analyzer.cluster import ClusterOptions
    from analyzer.model.inventory import Inventory
    from analyzer.recommend import Options
    from analyzer.recommend.prices import Budget
    from analyzer.report.model import Report

__all__ = ["command"]

FORMATS = ("yaml", "table", "wide", "json", "markdown")


@click.command("recommend", cls=FlowCommand, short_help="Write least-privilege policies that fit the traffic seen.")
@click.option(
    "--output-dir", "-d", type=click.Path(path_type=Path), metavar="DIR", panel=OUTPUT,
    help="Write one file per workload, and REPORT.md, into this folder.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), panel=OUTPUT,
    help="Format on standard output: the policies (yaml), or the full report.  [default: yaml, without --output-dir]",
)  # fmt: skip
@click.option(
    "--include-verdicts", multiple=True, type=click.Choice(("DROPPED",), case_sensitive=False), panel=OUTPUT,
    help="Also allow what was dropped because no rule allowed it.",
)  # fmt: skip
@click.option(
    "--only-namespace", multiple=True, metavar="NAMESPACE", panel=OUTPUT,
    help="Write policies for these namespaces only; all flows still count as evidence.",
)  # fmt: skip
@click.option(
    "--inventory", multiple=True, type=click.Path(), metavar="FILE", panel=OUTPUT,
    help="Manifests of the cluster (kubectl get pods,namespaces,services -A -o yaml), or the word cluster: "
    "selectors then also keep silent pods apart.",
)  # fmt: skip
@click.option(
    "--force", is_flag=True, panel=OUTPUT,
    help="Write the policies even if they fail the self-check: because they would drop traffic they were made to allow, say.",
)  # fmt: skip
@details_policies
@click.option(
    "--compare-granularity", is_flag=True, panel=OUTPUT,
    help="Write no policies, but what each level of --granularity costs and leaves open, and the coarsest that fits the budget.",
)  # fmt: skip
@click.option(
    "--max-excess", type=click.FloatRange(0, 100), metavar="PERCENT", default=5.0, show_default=True, panel=OUTPUT,
    help="For --compare-granularity: how much may be allowed that nobody was seen to do.",
)  # fmt: skip
@click.option(
    "--max-rules", type=click.IntRange(min=1), metavar="N", panel=OUTPUT,
    help="For --compare-granularity: how many rules a namespace may have.",
)  # fmt: skip
@lays_platform
@shapes_policies
@reads_flows
def command(
    inputs: Inputs,
    output_dir: Path | None,
    output: str | None,
    include_verdicts: tuple[str, ...],
    only_namespace: tuple[str, ...],
    inventory: tuple[str, ...],
    force: bool,
    compare_granularity: bool,
    max_excess: float,
    max_rules: int | None,
    shape: Shape,
    detail: Detail,
    platform: Platform,
) -> None:
    """Recommend CiliumNetworkPolicies that allow what SOURCES show, and nothing else.

    One policy per workload; a direction in which nothing was seen is left alone. Nothing is applied: read the policies,
    then apply them with kubectl or commit them.
    """
    from analyzer.cli.output import finish, show
    from analyzer.cli.progress import note
    from analyzer.cli.reading import find_edges
    from analyzer.manifests import dump
    from analyzer.recommend import Options, Settings, recommend
    from analyzer.recommend.prices import Budget
    from analyzer.report.proposal import proposal_report, proposal_summary

    options = detail.options(
        Options(
            Settings(l7=shape.l7),
            only=frozenset(only_namespace),
            zone_names=shape.zone_names,
            named_ports=shape.named_ports,
            max_cidrs=shape.max_cidrs,
            range_ports=shape.range_ports,
        )
    )
    platform.fits(options, filtered=bool(inputs.whitelist or inputs.blacklist))
    found = find_edges(inputs, frozenset(each.upper() for each in include_verdicts))
    known = inventory_of(found, inventory, inputs.cluster_options())
    options = replace(options, existing=existing_policies(shape, inputs.cluster_options(), known.options))
    there = [path for path in (*shape.existing, *([str(output_dir)] if output_dir else [])) if Path(path).exists()]
    options, baseline = platform.beside(options, found.edges, known, there)
    if compare_granularity:
        told = priced(found, known, options, Budget(max_excess, max_rules), full=output in ("wide", "json"))
        show(told, priced_as(output))
        finish(found.interrupted)
        return
    proposal, documents = shaped(recommend(found.edges, known, options), shape)
    if baseline is not None:
        documents = [*baseline.platform, *baseline.closing, *documents]
    check = checked(proposal, documents, found.edges, known, options.existing)
    if not check.passed and not force:
        note(
            "Nothing was written. This is a fault of the analyzer: please report it; --force writes the policies anyway."
        )
        finish(found.interrupted, findings=True)
    laid = platform.laid(baseline, proposal, found.edges, known, options.existing)
    full = with_check(laid.told(proposal_report(proposal, found.coverage), full=True), check)
    if output_dir is not None or shape.dry_run:
        write_changes(output_dir, shape, documents, full)
    form = output or ("" if output_dir or shape.dry_run else "yaml")
    if form == "yaml":
        sys.stdout.write(dump(documents))
    elif form:
        show(full, form)
    steps = next_steps(output_dir, kustomize=shape.kustomize, baseline=baseline)
    show(laid.told(proposal_summary(proposal, found.coverage, steps)), err=True)
    if found.interrupted:
        note("Interrupted: these policies fit only what was read until then.")
    finish(found.interrupted, findings=laid.breaks or not check.passed)


def priced(found: Found, known: Inventory, options: Options, budget: Budget, *, full: bool) -> Report:
    """What each level of detail costs in each namespace, and which one fits."""
    from analyzer.recommend.prices import choose, price_list
    from analyzer.report.granularity import granularity_report

    prices = price_list(found.edges, known, options)
    return granularity_report(prices, choose(prices, budget), budget, full=full)


def priced_as(output: str | None) -> str:
    """The format of a price list. Raises UsageError for the one that is of policies only."""
    if output == "yaml":
        raise UsageError("a price list is no policy: -o yaml does not fit", hint="use -o table, wide, json or markdown")
    return output or "table"


def inventory_of(found: Found, manifests: Sequence[str], cluster: ClusterOptions) -> Inventory:
    """What the edges and the manifests tell of the cluster. Raises ManifestError, SourceError."""
    from analyzer.cli.kubernetes import load_documents
    from analyzer.cluster import INVENTORY
    from analyzer.inventories import from_edges, from_manifests, merged

    known = from_edges(found.edges)
    if manifests:
        documents = [each.data for each in load_documents(manifests, cluster, INVENTORY)]
        known = merged(known, from_manifests(documents, known.options.cluster_name))
    return replace(known, names={**found.names, **known.names})


def next_steps(folder: Path | None, *, kustomize: bool = False, baseline: Baseline | None = None) -> list[str]:
    """What to do with the policies."""
    if folder is None:
        return ["hubble-analyzer recommend ... --output-dir policies   writes one file per workload, and a report."]
    way = "-k" if kustomize else "--recursive -f"
    if baseline is not None:
        return platform_steps(folder, baseline)
    return [
        f"Read {folder / 'REPORT.md'} and the policies: each file tells what it is based on.",
        f"kubectl apply --dry-run=server {way} {folder}   lets your cluster check them; nothing changes.",
        "Apply them where breaking something is cheap first, and watch: hubble observe --verdict DROPPED",
    ]
