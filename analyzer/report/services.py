"""The view of a service graph: who talks to whom, on which port, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from analyzer.model.edge import Coverage, Status
from analyzer.model.l4 import L4, spans
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


SCAN = 5
"""From so many ports on, connections of two services that all failed alike are one row."""


def graph_section(graph: nx.MultiDiGraph[Service]) -> Section:
    """One row per (client service, server service, layer 4); failures on many ports, such as a scan's, share a row."""
    several = len({service.cluster for service in graph.nodes}) > 1

    def name(service: Service) -> str:
        return f"{service.cluster}:{service}" if several else str(service)

    rows = tuple(
        Row(
            (name(source), name(destination), ", ".join(spans(map(L4.parse, l4s))), ", ".join(data["statuses"]),
             data["weight"], moment(data["first"]), moment(data["last"]), data["edges"], ", ".join(data["names"]) or None),
            max((_TONES.get(Status(status), Tone.PLAIN) for status in data["statuses"]), key=_SEVERITY.index),
        )
        for source, destination, l4s, data in _folded(graph)
    )  # fmt: skip
    services, connections = count(graph.number_of_nodes(), "service"), count(graph.number_of_edges(), "connection")
    notes = () if rows else ("No traffic between services was found.",)
    return Section(f"Service graph: {services}, {connections}", notes, (Table("edges", _COLUMNS, rows),))


def _folded(graph: nx.MultiDiGraph[Service]) -> Iterator[tuple[Service, Service, list[str], dict[str, Any]]]:
    """The graph's edges in order, those that failed alike on many ports together."""
    groups: dict[tuple[Service, Service, tuple[str, ...]], list[tuple[str, dict[str, Any]]]] = {}
    listed = sorted(graph.edges(keys=True, data=True), key=lambda edge: (edge[0], edge[1], L4.parse(edge[2])))
    for source, destination, l4, data in listed:
        if not data["accepted"]:
            groups.setdefault((source, destination, tuple(data["statuses"])), []).append((l4, data))
    for source, destination, l4, data in listed:
        members = groups.get((source, destination, tuple(data["statuses"])), []) if not data["accepted"] else []
        if len(members) < SCAN:
            yield source, destination, [l4], data
        elif members[0][0] == l4:
            yield source, destination, [each for each, _ in members], _together([each for _, each in members])


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        **parts[0],
        "weight": sum(part["weight"] for part in parts),
        "edges": sum(part["edges"] for part in parts),
        "first": min(part["first"] for part in parts),
        "last": max(part["last"] for part in parts),
        "names": sorted({name for part in parts for name in part["names"]}),
    }


def graph_report(graph: nx.MultiDiGraph[Service], coverage: Coverage) -> Report:
    """The service graph and what it was made from."""
    return Report("graph-report", "", (graph_section(graph), coverage_section(coverage)))
