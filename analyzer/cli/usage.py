"""``usage``: which rules of the policies in force are used, and what they open that nobody was seen to need."""

from __future__ import annotations

import rich_click as click

from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows
from analyzer.cli.policies import (
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
from analyzer.errors import UsageError

__all__ = ["command"]

FORMATS = ("table", "wide", "json", "yaml", "markdown")
ROWS = 20
"""Rows per table in the short formats."""


@click.command("usage", cls=FlowCommand, short_help="Show which rules of policies are used.")
@policies_option
@inventory_option
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, panel=OUTPUT,
    help="Format, on standard output.",
)  # fmt: skip
@reads_flows
def command(inputs: Inputs, policies: tuple[str, ...], inventory: tuple[str, ...], output: str) -> None:
    """Show what the traffic in SOURCES says about the policies in --policies, which are taken to have been in force.

    Hits per rule and rules that were never used, policies that select nothing that was seen, rules that another rule makes idle,
    and what rules open beyond what was seen. It ends with 0: to remove a rule is for people to decide.
    """
    from analyzer.cli.output import finish, show
    from analyzer.cli.reading import find_edges
    from analyzer.report.usage import usage_report
    from analyzer.usage import usage

    if not policies:
        raise UsageError("which policies? name them with --policies", hint="files or folders; repeat it for more")
    check_stdin(inputs.sources, policies, inventory)
    cluster = inputs.cluster_options()
    files, manifests = read_files(policies, "--policies", cluster), read_files(inventory, "--inventory", cluster)
    found = find_edges(inputs)
    known = inventory_of(found.edges, found.names, manifests, files)
    taken = needed(read_policies(files, known.options), files, "--policies")
    problems = (*taken.problems, *manifests.problems)
    complain(problems)
    places = {str(ref): place for ref, place in taken.places.items()}
    used = usage(found.edges, taken.policies, known)
    notes = (
        []
        if manifests.documents
        else ["Only identities that were seen are known; with --inventory, silent pods count as well."]
    )
    show(usage_report(used, places, notes, limit=ROWS if output == "table" else None), output)
    fail_for(problems)
    finish(found.interrupted)
