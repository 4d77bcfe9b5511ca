"""``explain``: may this talk to that, and which rules say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from analyzer.cli.options import OUTPUT, FlowCommand, Inputs, reads_flows
from analyzer.cli.policies import (
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
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.cli.reading import Found
    from analyzer.model.edge import Edge
    from analyzer.model.inventory import Inventory
    from analyzer.model.l4 import L4
    from analyzer.report.explain import Answer
    from analyzer.suggest import End

__all__ = ["command"]

FORMATS = ("table", "json", "yaml", "markdown")
MAX_PAIRS = 16
"""Pairs of identities that are asked about, where a workload has several."""
QUESTION = "The question"


class Question(FlowCommand):
    """Here ``--port`` belongs to the question; it is no filter of flows, as it is elsewhere."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params = [each for each in self.params if "--port" not in each.opts or each.name == "asked_port"]

    def invoke(self, ctx: click.Context) -> Any:
        ctx.params.setdefault("filter_port", ())
        return super().invoke(ctx)


@click.command("explain", cls=Question, short_help="Tell whether one end may talk to another, and why.")
@click.option("--from", "source", required=True, metavar="WHO", panel=QUESTION, help="The client.")
@click.option("--to", "destination", required=True, metavar="WHO", panel=QUESTION, help="The server.")
@click.option(
    "--port", "asked_port", metavar="PORT", panel=QUESTION,
    help="8080/TCP, 53/UDP, ICMP/8; TCP if only a number is given. May be left out if one port only was recorded.",
)  # fmt: skip
@policies_option
@inventory_option
@click.option(
    "-o", "--output", type=click.Choice(FORMATS), default="table", show_default=True, panel=OUTPUT,
    help="Format, on standard output.",
)  # fmt: skip
@reads_flows
def command(
    inputs: Inputs, source: str, destination: str, asked_port: str | None, policies: tuple[str, ...],
    inventory: tuple[str, ...], output: str,
) -> None:  # fmt: skip
    """Tell what the policies decide about traffic between two ends, with all rules that make it so, and what was recorded.

    WHO is a workload (shop/cart), labels (k8s:app=cart,ns=shop), an entity (world, host, kube-apiserver, ...), an IP address
    or prefix, or a DNS name. Without --policies, only what SOURCES recorded is told; with them, SOURCES may be left out.
    """
    from analyzer.cli.output import finish, show
    from analyzer.report.explain import explain_report
    from analyzer.suggest import Ends

    check_stdin(inputs.sources, policies, inventory)
    cluster = inputs.cluster_options()
    files, manifests = read_files(policies, "--policies", cluster), read_files(inventory, "--inventory", cluster)
    found = record(inputs, bool(policies))
    known = inventory_of(found.edges, found.names, manifests, files)
    taken = needed(read_policies(files, known.options), files, "--policies") if policies else Policies()
    problems = (*taken.problems, *manifests.problems)
    complain(problems)
    ends = Ends(found.edges, known)
    client, server = ends.find(source, "--from"), ends.find(destination, "--to")
    between = [
        edge
        for edge in found.edges
        if client.holds(edge.source, edge.stats.names) and server.holds(edge.destination, edge.stats.names)
    ]
    l4 = port(asked_port, between, needed=bool(policies))
    recorded = [edge for edge in between if l4 is None or edge.l4 == l4]
    answers = list(answered(client, server, l4, recorded, taken, known)) if policies and l4 is not None else []
    places = {str(ref): place for ref, place in taken.places.items()}
    show(explain_report((client.title, server.title), l4, answers, recorded, places), output)
    fail_for(problems)
    finish(found.interrupted)


def record(inputs: Inputs, policies: bool) -> Found:
    """What SOURCES hold. A server is asked only if it is named, or if there is nothing else to answer from."""
    from analyzer.cli.reading import Found, find_edges
    from analyzer.model.edge import Coverage

    context = click.get_current_context(silent=True)
    default = context is None or context.get_parameter_source("server") in (None, ParameterSource.DEFAULT)
    if policies and not inputs.sources and default:
        return Found((), Coverage())
    return find_edges(inputs)


def port(text: str | None, between: Sequence[Edge], *, needed: bool) -> L4 | None:
    """The layer 4 asked about; the recorded one, if it is the only one. Raises UsageError."""
    from analyzer.model.l4 import L4

    if text is not None:
        try:
            return L4.parse(f"{text}/TCP" if text.isascii() and text.isdigit() else text)
        except ValueError as error:
            raise UsageError(f"--port {text}: {error}", hint="write 8080/TCP, 53/UDP or ICMP/8") from None
    recorded = sorted({edge.l4 for edge in between})
    if len(recorded) == 1:
        return recorded[0]
    if not needed:
        return None
    if recorded:
        listed = ", ".join(map(str, recorded[:12])) + (", ..." if len(recorded) > 12 else "")
        raise UsageError(f"which port? --port may be any of {listed}", hint="or another one, such as 8080/TCP")
    raise UsageError("which port? name it with --port", hint="such as 8080/TCP, 53/UDP or ICMP/8")


def answered(
    client: End, server: End, l4: L4, recorded: Sequence[Edge], taken: Policies, known: Inventory
) -> Iterator[Answer]:
    """What the policies decide, once per pair of identities about which they differ."""
    from analyzer.model.edge import Edge, EdgeKey, EdgeStats, Side, Status
    from analyzer.policy import compile_policies
    from analyzer.report.explain import Answer
    from analyzer.simulate import Result, Simulation
    from analyzer.suggest import Adviser

    simulation = Simulation(compile_policies(taken.policies, known), known)
    adviser = Adviser(taken.policies, known)
    seen = set()
    for number, (one, other) in enumerate(product(client.endpoints, server.endpoints)):
        if number >= MAX_PAIRS:
            return
        stats = EdgeStats()
        for name in filter(None, (client.dns, server.dns)):
            stats.names.add(name)
        for edge in recorded:
            if edge.source == one and edge.destination == other:
                stats.merge(edge.stats)
        asked = Edge(EdgeKey(known.options.cluster_name, one, other, l4), stats, Status.FORWARDED)
        outcome = simulation.outcome(asked)
        if (outcome.egress, outcome.ingress) in seen:
            continue
        seen.add((outcome.egress, outcome.ingress))
        sides = (("egress", Side.SOURCE, outcome.egress), ("ingress", Side.DESTINATION, outcome.ingress))
        denied = [(name, side) for name, side, each in sides if each.result is Result.DENIED]
        advices = {name: adviser.advise(asked, side) for name, side in denied}
        yield Answer(outcome, advices, {name: adviser.misses(asked, side) for name, side in denied})
