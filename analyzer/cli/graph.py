"""``graph``: which service talks to which."""

from __future__ import annotations

import sys

import rich_click as click

from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows

__all__ = ["command"]

REPORTS = ("table", "wide", "json", "markdown")
DRAWINGS = ("dot", "graphml", "mermaid")


@click.command("graph", cls=FlowCommand, short_help="Show which service talks to which.")
@click.option(
    "-o", "--output", type=click.Choice((*REPORTS, *DRAWINGS)), default="table", show_default=True, panel=OUTPUT,
    help="Format, on standard output.",
)  # fmt: skip
@reads_flows
def command(inputs: Inputs, output: str) -> None:
    """Show the service graph of the flows in SOURCES.

    A SOURCE is a file of Hubble's exporter or of `hubble observe -o jsonpb` (also gzip or zstd), a folder of such files,
    `-` for standard input, or a store that `observe` wrote. Without one, the flows of a Hubble server are read.
    """
    from analyzer import graph
    from analyzer.cli.output import finish, show
    from analyzer.cli.reading import find_edges
    from analyzer.report.model import Report
    from analyzer.report.services import graph_report

    found = find_edges(inputs)
    services = graph.service_graph(found.edges)
    report = graph_report(services, found.coverage)
    if output == "json":
        sys.stdout.write(graph.to_json(services))
    elif output in DRAWINGS:
        sys.stdout.write(getattr(graph, f"to_{output}")(services))
    else:
        show(report if output == "markdown" else Report(report.kind, "", report.sections[:1]), output)
    if output != "markdown":
        show(Report(report.kind, "", report.sections[1:]), "table", err=True)
    finish(found.interrupted)
