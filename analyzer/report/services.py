"""The view of a service graph: who talks to whom, on which port, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.model.edge import Coverage, Status
from analyzer.report.coverage import coverage_section
from analyzer.report.model import Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count, moment

if TYPE_CHECKING:
    import networkx as nx

    from analyzer.graph import Service

__all__ = ["graph_report", "graph_section"]

_COLUMNS = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("status", "Status"),
    Column("weight", "Events", number=True),
    Column("first", "First seen", wide=True),
    Column("last", "Last seen", wide=True),
    Column("edges", "Edges", number=True, wide=True),
    Column("names", "DNS names", wide=True),
)
_TONES = {
    Status.FORWARDED: Tone.PLAIN,
    Status.AUDITED: Tone.WARNING,
    Status.UNANSWERED: Tone.WARNING,
    Status.UNDIRECTED: Tone.WARNING,
    Status.DROPPED: Tone.BAD,
    Status.DENIED: Tone.BAD,
    Status.INFRASTRUCTURE: Tone.BAD,
}
_SEVERITY = list(Tone)


def graph_section(graph: nx.MultiDiGraph[Service]) -> Section:
    """One row per (client service, server service, layer 4)."""
    several = len({service.cluster for service in graph.nodes}) > 1

    def name(service: Service) -> str:
        return f"{service.cluster}:{service}" if several else str(service)

    rows = tuple(
        Row(
            (name(source), name(destination), l4, ", ".join(data["statuses"]), data["weight"], moment(data["first"]),
             moment(data["last"]), data["edges"], ", ".join(data["names"]) or None),
            max((_TONES.get(Status(status), Tone.PLAIN) for status in data["statuses"]), key=_SEVERITY.index),
        )
        for source, destination, l4, data in sorted(graph.edges(keys=True, data=True), key=lambda edge: edge[:3])
    )  # fmt: skip
    services = count(graph.number_of_nodes(), "service")
    notes = () if rows else ("No traffic between services was found.",)
    return Section(
        f"Service graph: {services}, {count(len(rows), 'connection')}", notes, (Table("edges", _COLUMNS, rows),)
    )


def graph_report(graph: nx.MultiDiGraph[Service], coverage: Coverage) -> Report:
    """The service graph and what it was made from."""
    return Report("graph-report", "", (graph_section(graph), coverage_section(coverage)))
