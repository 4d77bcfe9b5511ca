"""The service graph: edges folded to services in networkx; the only importer of networkx."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Workload
from analyzer.model.identity import primary_entity
from analyzer.model.l4 import L4, spans
from analyzer.model.workload import title, workload_name

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["Service", "service_graph", "service_of", "to_dot", "to_graphml", "to_json", "to_mermaid"]

MANY_ADDRESSES = 8
"""Unnamed outside addresses of one service and port drawn apart; more of them become one ``world``."""


class Service(NamedTuple):
    """A vertex of the service graph: a workload in its namespace, an entity, or an outside name or address.

    `kind` is ``workload``, ``entity``, ``name`` or ``address``. Different workloads that share their labels stay apart here;
    policies cannot tell them apart.
    """

    cluster: str
    namespace: str
    name: str
    kind: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def service_of(edge: Edge, endpoint: Endpoint, workloads: tuple[Workload, ...]) -> Service:
    """The service an end of an edge belongs to."""
    cluster = endpoint.cluster or edge.cluster
    if endpoint.address:
        if edge.stats.names:
            return Service(edge.cluster, "", " | ".join(list(edge.stats.names)[:3]), "name")
        return Service(edge.cluster, "", title(endpoint), "address")
    if primary_entity(endpoint.labels) is not None:
        return Service(edge.cluster, "", title(endpoint), "entity")
    return Service(cluster, endpoint.namespace, workload_name(endpoint, workloads), "workload")


def service_graph(edges: Iterable[Edge]) -> nx.MultiDiGraph[Service]:
    """A directed multigraph from client to server: one edge per (services, layer 4), keyed by the layer 4 as text.

    Vertex attribute: `kind`. Edge attributes: `weight` (events), `statuses` (sorted status texts), `accepted` (whether all of
    it is), `first` and `last` (ns since the epoch), `edges` (how many edges of the record were folded), `names` (DNS names).
    """
    import networkx as nx

    listed = sorted(edges, key=lambda edge: edge.key)
    crowded = _crowded(listed)
    graph: nx.MultiDiGraph[Service] = nx.MultiDiGraph()
    for edge in listed:
        ends = [
            _drawn(edge, service_of(edge, end, workloads), crowded)
            for end, workloads in ((edge.source, edge.source_workloads), (edge.destination, edge.destination_workloads))
        ]
        for end in ends:
            graph.add_node(end, kind=end.kind)
        _fold(graph, ends[0], ends[1], edge)
    return graph


def _crowded(edges: Sequence[Edge]) -> set[tuple[object, ...]]:
    """The (inside service, direction, layer 4) whose unnamed outside addresses are too many to draw."""
    addresses: dict[tuple[object, ...], set[str]] = {}
    for edge in edges:
        for key, address in _outside(edge):
            addresses.setdefault(key, set()).add(address)
    return {key for key, found in addresses.items() if len(found) > MANY_ADDRESSES}


def _outside(edge: Edge) -> list[tuple[tuple[object, ...], str]]:
    found: list[tuple[tuple[object, ...], str]] = []
    if not edge.stats.names:
        if edge.source.address:
            inside = service_of(edge, edge.destination, edge.destination_workloads)
            found.append(((inside, "from", edge.l4), edge.source.address))
        if edge.destination.address:
            inside = service_of(edge, edge.source, edge.source_workloads)
            found.append(((inside, "to", edge.l4), edge.destination.address))
    return found


def _drawn(edge: Edge, service: Service, crowded: set[tuple[object, ...]]) -> Service:
    if service.kind == "address" and any(key in crowded for key, _ in _outside(edge)):
        return Service(service.cluster, "", "world", "entity")
    return service


def _fold(graph: nx.MultiDiGraph[Service], source: Service, destination: Service, edge: Edge) -> None:
    label, stats = str(edge.l4), edge.stats
    if not graph.has_edge(source, destination, label):
        graph.add_edge(
            source, destination, label, weight=0, statuses=[], accepted=True, first=stats.first, last=stats.last,
            edges=0, names=[],
        )  # fmt: skip
    data = graph.edges[source, destination, label]
    data["weight"] += edge.weight
    data["statuses"] = sorted({*data["statuses"], str(edge.status)})
    data["accepted"] = data["accepted"] and edge.accepted
    data["first"] = min(data["first"], stats.first)
    data["last"] = max(data["last"], stats.last)
    data["edges"] += 1
    data["names"] = sorted({*data["names"], *stats.names})


def _rows(graph: nx.MultiDiGraph[Service]) -> list[tuple[Service, Service, str, dict[str, Any]]]:
    return sorted(graph.edges(keys=True, data=True), key=lambda row: row[:3])


def to_json(graph: nx.MultiDiGraph[Service]) -> str:
    """Nodes and edges as one JSON object with a ``schema`` field, sorted, two-space indented."""
    nodes = [{**node._asdict(), "id": str(node)} for node in sorted(graph.nodes)]
    edges = [
        {"source": str(source), "destination": str(destination), "l4": l4, "source_cluster": source.cluster,
         "destination_cluster": destination.cluster, **data}
        for source, destination, l4, data in _rows(graph)
    ]  # fmt: skip
    body = {"schema": "hubble-analyzer/graph/v1", "services": nodes, "edges": edges}
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=True) + "\n"


def to_graphml(graph: nx.MultiDiGraph[Service]) -> str:
    """GraphML, for Gephi, yEd and the like."""
    import networkx as nx

    plain: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for node in sorted(graph.nodes):
        attributes = {key: _xml_text(value) for key, value in node._asdict().items()}
        plain.add_node(_xml_text(f"{node.cluster}:{node}"), **attributes)
    for source, destination, l4, data in _rows(graph):
        flat = {key: _xml_text(",".join(value)) if isinstance(value, list) else value for key, value in data.items()}
        start, end = (_xml_text(f"{service.cluster}:{service}") for service in (source, destination))
        plain.add_edge(start, end, l4, l4=l4, **flat)
    return "\n".join(nx.generate_graphml(plain)) + "\n"


def _xml_text(text: str) -> str:
    """XML 1.0 has no way to write most control characters."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def to_dot(graph: nx.MultiDiGraph[Service]) -> str:
    """Graphviz. Namespaces are clusters; what is not accepted is drawn red and dashed."""
    ids = {node: f"n{index}" for index, node in enumerate(sorted(graph.nodes))}
    lines = ["digraph services {", "  rankdir=LR;", "  node [shape=box, fontname=sans];"]
    for number, group in enumerate(sorted({(node.cluster, node.namespace) for node in ids})):
        members = [node for node in ids if (node.cluster, node.namespace) == group]
        indent = "    " if group[1] else "  "
        if group[1]:
            lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(group[1])};"]
        lines += [f"{indent}{ids[node]} [label={_quoted(node.name)}];" for node in members]
        if group[1]:
            lines.append("  }")
    for source, destination, l4, data in _rows(graph):
        style = "" if data["accepted"] else ", color=red, style=dashed"
        lines.append(f"  {ids[source]} -> {ids[destination]} [label={_quoted(l4)}{style}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return json.dumps(_xml_text(text), ensure_ascii=False)


def to_mermaid(graph: nx.MultiDiGraph[Service]) -> str:
    """A Mermaid flowchart, as Markdown pages of GitHub and GitLab draw it."""
    ids = {node: f"n{index}" for index, node in enumerate(sorted(graph.nodes))}
    lines = ["flowchart LR"]
    for node, name in ids.items():
        lines.append(f'  {name}["{_mermaid_text(str(node))}"]')
    merged: dict[tuple[Service, Service, bool], list[str]] = {}
    for source, destination, l4, data in _rows(graph):
        merged.setdefault((source, destination, bool(data["accepted"])), []).append(l4)
    for (source, destination, accepted), l4s in sorted(merged.items()):
        arrow = "-->" if accepted else "-.->"
        lines.append(
            f'  {ids[source]} {arrow}|"{_mermaid_text(", ".join(spans(map(L4.parse, l4s))))}"| {ids[destination]}'
        )
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    return "".join(c if c.isalnum() or c in " ./-_:,|" else f"#{ord(c)};" for c in text)
