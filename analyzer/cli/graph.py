"""``graph``: which service talks to which."""

from __future__ import annotations

import rich_click as click

from analyzer.cli.options import FlowCommand, Inputs, reads_flows

__all__ = ["command"]

FORMATS = ("table", "wide", "json", "markdown", "dot", "graphml", "mermaid")


@click.command("graph", cls=FlowCommand, short_help="Show which service talks to which.")
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, help="Format on stdout."
)
@reads_flows
def command(inputs: Inputs, output: str) -> None:
    """Show the service graph of the flows in SOURCES.

    A SOURCE is a file of Hubble's exporter or of `hubble observe -o json` (also gzip or zstd), a folder of such files,
    `-` for standard input, or a store written by `observe`. Without one, the flows of a Hubble server are read.
    """
