"""Chasing drops in one call: batches of flows and the policies in force in, findings out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from analyzer.aggregate import Aggregator
from analyzer.drops.documents import Documents
from analyzer.drops.findings import Finding, findings
from analyzer.drops.scene import Facts
from analyzer.drops.window import DropWindow
from analyzer.inventories import answered_names, from_edges, from_manifests, merged
from analyzer.model.document import Document
from analyzer.model.edge import Edge, EdgeTable, Endpoint
from analyzer.model.inventory import Inventory
from analyzer.model.labels import CLUSTER_KEY, Labels
from analyzer.settle import settle

if TYPE_CHECKING:
    from analyzer.sources.base import Batch

__all__ = ["chase", "facts_of", "pods_of"]


def chase(
    batches: Iterable[Batch],
    policies: Iterable[Document] | None = None,
    manifests: Iterable[Document] = (),
    texts: Mapping[str, str] | None = None,
) -> tuple[Finding, ...]:
    """Why what was dropped in `batches` was dropped, and what would help.

    `policies` are the documents in force; without them the record alone is told. `manifests` tell of Services, ports and silent
    pods. `texts` are the files of `policies` by path, which patches are made for.
    """
    window, aggregator = DropWindow(), Aggregator()
    for batch in batches:
        window.add(batch.records)
        aggregator.add(batch)
    table = aggregator.table
    edges = settle(table)
    seen = from_edges(edges, answered_names(table.answers))
    declared = [document.data for document in manifests]
    known = merged(seen, from_manifests(declared, seen.options.cluster_name)) if declared else seen
    documents = None if policies is None else Documents(policies, texts or {}, known.options)
    return findings(window.drops(), facts_of(table, edges, known, window), documents)


def facts_of(table: EdgeTable, edges: Iterable[Edge], known: Inventory, window: DropWindow | None) -> Facts:
    """What causes may look at. Without a `window`, as from a store, nobody knows when a name was looked up."""
    recorded = {edge.key: edge for edge in edges}
    pods = pods_of(table, known)
    if window is None:
        return Facts(known, recorded, pods)
    return Facts(known, recorded, pods, window.answers, window.asking)


def pods_of(table: EdgeTable, known: Inventory) -> dict[tuple[str, str], Endpoint]:
    """The labels of pods by namespace and name; what several clusters call alike is left out."""
    found: dict[tuple[str, str], set[Endpoint]] = {}
    for each in known.endpoints:
        cluster = each.labels.get(CLUSTER_KEY, "k8s") or ""
        found.setdefault((each.namespace, each.name), set()).add(Endpoint(each.labels, each.namespace, cluster))
    for cluster, namespace, pod, *labels in table.pods:
        found.setdefault((namespace, pod), set()).add(Endpoint(Labels.of(labels), namespace, cluster))
    return {name: next(iter(ends)) for name, ends in found.items() if len(ends) == 1}
