"""Names of namespaces as labels: what a NetworkPolicy selects namespaces by, also where the record leaves it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from analyzer.model.edge import Edge, EdgeKey, Endpoint
from analyzer.model.identity import entities
from analyzer.model.inventory import Inventory
from analyzer.model.labels import NAMESPACE_LABEL_PREFIX, Label, Labels
from analyzer.verify.half_open import Refused
from analyzer.verify.result import Check

__all__ = ["Named"]

_KEY = f"{NAMESPACE_LABEL_PREFIX}kubernetes.io/metadata.name"


class Named:
    """Edges whose pods carry the label with their namespace's name, which Kubernetes gives every namespace.

    Captures may lack it: made by hand, masked, or with namespace labels left out of the reported ones.
    """

    def __init__(self) -> None:
        self._ends: dict[Endpoint, Endpoint] = {}
        self._as_seen: dict[EdgeKey, Edge] = {}

    def edges(self, edges: Iterable[Edge]) -> list[Edge]:
        """The edges with the label."""
        made = []
        for edge in edges:
            changed = replace(edge, key=self._key(edge.key))
            self._as_seen.setdefault(changed.key, edge)
            made.append(changed)
        return made

    def refused(self, refused: Refused) -> Refused:
        """Refusals of the edges with the label."""
        return {(self._key(key), direction): why for (key, direction), why in refused.items()}

    def inventory(self, inventory: Inventory) -> Inventory:
        """The inventory, whose pods carry the label too."""
        pods = (replace(pod, labels=_named(pod.labels, pod.namespace)) for pod in inventory.endpoints)
        return replace(inventory, endpoints=tuple(pods))

    def as_seen(self, check: Check) -> Check:
        """What was found about the edges with the label, about the edges as they were seen."""
        seen = self._as_seen
        return replace(
            check,
            unsound=tuple(each._replace(edge=seen[each.edge.key]) for each in check.unsound),
            undecided=tuple(each._replace(edge=seen[each.edge.key]) for each in check.undecided),
            half_open=tuple(each._replace(edge=seen[each.edge.key]) for each in check.half_open),
        )

    def _key(self, key: EdgeKey) -> EdgeKey:
        return key._replace(source=self._end(key.source), destination=self._end(key.destination))

    def _end(self, end: Endpoint) -> Endpoint:
        known = self._ends.get(end)
        if known is None:
            known = self._ends[end] = end._replace(labels=_named(end.labels, end.namespace))
        return known


def _named(labels: Labels, namespace: str) -> Labels:
    if not labels or not namespace or entities(labels) or any(label.key == _KEY for label in labels):
        return labels
    return Labels.of([*labels, Label("k8s", _KEY, namespace)])
