"""Workloads: which pods belong together, which labels select exactly them, and whom else a policy's selector reaches."""

from __future__ import annotations

from collections import defaultdict

from analyzer.model.edge import Endpoint
from analyzer.model.flow import Workload
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, Labels
from analyzer.model.workload import workload_name
from analyzer.policy.selector import LabelSelector
from analyzer.recommend.draft import Selection
from analyzer.recommend.selection import Universe

__all__ = ["Workloads", "pod_workload"]

Place = tuple[str, str]


class Workloads:
    """The pods of an inventory, by cluster and namespace."""

    def __init__(self, inventory: Inventory) -> None:
        self._home = inventory.options.cluster_name
        self._pods: dict[Place, list[tuple[str, Labels]]] = defaultdict(list)
        for each in inventory.endpoints:
            place = each.labels.get(CLUSTER_KEY, "k8s") or self._home, each.namespace
            self._pods[place].append((pod_workload(each), each.labels))
        self._chosen: dict[LabelSelector, list[tuple[str, str]]] = {}
        self._universes: dict[Place, Universe] = {}
        self._selections: dict[tuple[Place, Labels], Selection | None] = {}

    def selection(self, end: Endpoint) -> Selection | None:
        """The labels that select the workload of this pod, and no other if that can be; None if it has no label to go by."""
        place = end.labels.get(CLUSTER_KEY, "k8s") or self._home, end.namespace
        if (place, end.labels) not in self._selections:
            self._selections[place, end.labels] = self._select(place, end.labels)
        return self._selections[place, end.labels]

    def _select(self, place: Place, labels: Labels) -> Selection | None:
        pods = self._pods[place]
        if all(each != labels for _, each in pods):
            pods.append(("", labels))
            self._universes.pop(place, None)
        universe = self._universes.get(place)
        if universe is None:
            pairs = [frozenset((label.key, label.value) for label in each) for _, each in pods]
            universe = self._universes[place] = Universe(pairs)
        names = {name for name, each in pods if each == labels}
        like = [index for index, (name, _) in enumerate(pods) if name in names]
        alone = [index for index, (_, each) in enumerate(pods) if each == labels]
        for members in (like, alone):
            found, others = universe.select(members)
            if found is not None and (not others or members is alone):
                return found
        return None

    def reached(self, selector: LabelSelector, end: Endpoint) -> tuple[str, ...]:
        """The other workloads that `selector` chooses, as ``namespace/name``."""
        if selector not in self._chosen:
            only = _namespaces(selector)
            self._chosen[selector] = sorted(
                {
                    (namespace, name)
                    for (_, namespace), pods in self._pods.items()
                    if only is None or namespace in only
                    for name, labels in pods
                    if name and selector.matches(labels)
                }
            )
        own = {(end.namespace, name) for name in self._names(end)}
        return tuple(
            f"{namespace}/{name}" for namespace, name in self._chosen[selector] if (namespace, name) not in own
        )

    def _names(self, end: Endpoint) -> set[str]:
        place = end.labels.get(CLUSTER_KEY, "k8s") or self._home, end.namespace
        return {name for name, labels in self._pods.get(place, ()) if labels == end.labels} | {workload_name(end)}


def _namespaces(selector: LabelSelector) -> frozenset[str] | None:
    """The namespaces that a selector is bound to; None if it is bound to none."""
    for each in selector.requirements:
        if each.key == NAMESPACE_KEY and not each.operator.negated and not each.operator.exists:
            return frozenset(each.values)
    return None


def pod_workload(pod: InventoryEndpoint) -> str:
    """What a pod's workload is called, as `workload_name` would call it in traffic."""
    kind, slash, name = pod.workload.partition("/")
    owner = (Workload(kind, name),) if slash and kind != "Pod" else ()
    return workload_name(Endpoint(pod.labels, pod.namespace), owner)
