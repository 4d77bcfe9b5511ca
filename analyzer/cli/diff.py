"""``diff``: what breaks, and what opens, if these policies were in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows
from analyzer.cli.policies import (
    Policies,
    check_stdin,
    complain,
    current_option,
    fail_for,
    inventory_of,
    inventory_option,
    needed,
    policies_option,
    read_files,
    read_policies,
)
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.diff import Diff
    from analyzer.model.edge import Edge
    from analyzer.model.inventory import Inventory
    from analyzer.report.diff import Advices
    from analyzer.report.model import Report, Section
    from analyzer.simulate import Outcomes

__all__ = ["command"]

FORMATS = ("table", "wide", "json", "yaml", "markdown")
MAX_COMMENT = 60_000
"""Characters: a comment on GitHub holds 65,536, on GitLab a million."""
ROWS = (None, 200, 50, 10)
"""Rows per table that are tried until a comment is short enough."""


@click.command("diff", cls=FlowCommand, short_help="Show what breaks if policies were applied.")
@policies_option
@current_option
@inventory_option
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, panel=OUTPUT,
    help="Format, on standard output. markdown fits into a comment on a pull request.",
)  # fmt: skip
@reads_flows
def command(
    inputs: Inputs, policies: tuple[str, ...], current: tuple[str, ...], inventory: tuple[str, ...], output: str
) -> None:
    """Show what would be dropped, and what newly allowed, if the policies in --policies were in force.

    Every connection in SOURCES is decided as Cilium would decide it, and compared with what was recorded, or with what the
    policies in --current decide. Both are taken as a whole: a policy that only --current has counts as removed.

    Ends with 0 if nothing breaks and nothing opens, 1 if something does, 2 and more after an error - as `kubectl diff` does.
    """
    from analyzer.cli.output import finish, show
    from analyzer.cli.reading import find_edges
    from analyzer.diff import compare
    from analyzer.report.coverage import coverage_section
    from analyzer.report.model import Report
    from analyzer.simulate import observed, simulate

    if not policies:
        raise UsageError("which policies? name them with --policies", hint="files or folders; repeat it for more")
    check_stdin(inputs.sources, policies, current, inventory)
    named = ((policies, "--policies"), (current, "--current"), (inventory, "--inventory"))
    wanted, today, manifests = (read_files(paths, flag, inputs.cluster_options()) for paths, flag in named)
    found = find_edges(inputs)
    known = inventory_of(found.edges, found.names, manifests, wanted, today)
    proposed, before = needed(read_policies(wanted, known.options), wanted, "--policies"), None
    if current:
        before = read_policies(today, known.options)
    outcomes = simulate(found.edges, before.policies, known) if before else observed(found.edges)
    diff = compare(outcomes, simulate(found.edges, proposed.policies, known))
    problems = (*proposed.problems, *(before.problems if before else ()), *manifests.problems)
    complain(problems)
    notes = (*compared(proposed, before), *clusters(found.edges, known))
    more = [*trusted(found.edges, outcomes, before), *refused_section(problems)]
    report = render(diff, advise(diff, proposed, known), notes, more, output)
    show(report, output)
    if output != "markdown":
        show(Report("diff-coverage", "", (coverage_section(found.coverage),)), "table", err=True)
    fail_for(problems)
    finish(found.interrupted, not diff.clean)


def advise(diff: Diff, proposed: Policies, known: Inventory) -> Advices:
    """What would allow each side that denies something afterwards."""
    from analyzer.diff import Change
    from analyzer.model.edge import Side
    from analyzer.suggest import Adviser

    adviser = Adviser(proposed.policies, known)
    return {
        (finding.edge.key, direction): adviser.advise(finding.edge, sides[direction])
        for sides in ({"egress": Side.SOURCE, "ingress": Side.DESTINATION},)
        for finding in diff.findings
        if finding.change in (Change.WOULD_BE_DROPPED, Change.STILL_DENIED)
        for direction, _ in finding.denied
    }


def trusted(edges: Sequence[Edge], outcomes: Outcomes, before: Policies | None) -> list[Section]:
    """How often the engine, asked about today's policies, says what the cluster did."""
    from analyzer.calibrate import calibrate
    from analyzer.report.calibrate import calibration_section

    return [] if before is None else [calibration_section(calibrate(edges, outcomes, before.policies))]


def compared(proposed: Policies, before: Policies | None) -> list[str]:
    """What was compared with what, and what counts as removed."""
    from analyzer.report.words import count

    new = f"what {count(len(proposed.policies), 'policy')} would decide"
    if before is None:
        return [f"Compared: what was recorded, and {new}."]
    found = [f"Compared: what {count(len(before.policies), 'policy')} of today decide, and {new}."]
    removed = sorted({policy.ref for policy in before.policies} - {policy.ref for policy in proposed.policies})
    if removed:
        listed = ", ".join(map(str, removed[:5])) + (f" and {len(removed) - 5} more" if len(removed) > 5 else "")
        found.append(f"Only --current has {listed}: taken as removed.")
    return found


def clusters(edges: Sequence[Edge], known: Inventory) -> list[str]:
    """A sentence if other clusters were observed, too: one set of policies belongs to one cluster."""
    from analyzer.model.identity import is_outside
    from analyzer.model.perspective import home_cluster

    pods = ((edge, end) for edge in edges for end in (edge.source, edge.destination) if end.namespace)
    homes = {home_cluster(edge, end) for edge, end in pods if not is_outside(end.labels)}
    others = sorted(homes - {known.options.cluster_name})
    if not others:
        return []
    return [
        f"The policies were taken as those of cluster {known.options.cluster_name}; the record is also about "
        f"{', '.join(others)}: choose one with --cluster."
    ]


def refused_section(problems: Sequence[str]) -> list[Section]:
    """The documents that took no part."""
    from analyzer.report.model import Section, Tone

    return [
        Section("Not taken: what Cilium refuses, or nobody can read", tuple(dict.fromkeys(problems)), tone=Tone.BAD)
    ]


def render(diff: Diff, advices: Advices, notes: Sequence[str], more: Sequence[Section], form: str) -> Report:
    """The report for a format; a comment gets as many rows as fit."""
    from analyzer.report import markdown
    from analyzer.report.diff import diff_report, diff_values

    if form in ("json", "yaml"):
        return diff_values(diff, advices, notes, more)
    if form != "markdown":
        return diff_report(diff, advices, notes, more, full=form == "wide", unchanged=form == "wide")
    for rows in ROWS:
        report = diff_report(diff, advices, notes, more, full=rows is None, limit=rows)
        if len(markdown.render(report)) <= MAX_COMMENT:
            break
    return report
