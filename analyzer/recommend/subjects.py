"""The pass that finds the workloads: which identities belong together, and which labels select exactly them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from analyzer.model.bounded import stable_hash
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Workload
from analyzer.model.identity import is_outside
from analyzer.model.labels import CLUSTER_KEY
from analyzer.model.perspective import home_cluster
from analyzer.model.workload import workload_name
from analyzer.recommend.draft import Draft, Note, Selection, Subject, SubjectKey, Topic
from analyzer.recommend.selection import Universe, is_stable, is_value
from analyzer.recommend.system import is_namespace

__all__ = ["subjects"]

Identities = Mapping[Endpoint, frozenset[str]]


def subjects(draft: Draft) -> Draft:
    """Find all workloads among the ends of all edges and the inventory's pods, per cluster and namespace.

    Silent pods count: a selector has to tell a workload from them too.
    """
    found: dict[SubjectKey, Subject] = {}
    homes: dict[tuple[str, Endpoint], SubjectKey] = {}
    notes: list[Note] = []
    for (cluster, namespace), identities in sorted(_identities(draft).items()):
        for subject in _of_namespace(cluster, namespace, identities):
            found[subject.key] = subject
            homes.update(((cluster, endpoint), subject.key) for endpoint in subject.identities)
            notes.extend(_notes(subject))
        if any(end.labels and not end.labels.namespace for end in identities):
            notes.append(Note(Topic.LABEL_FILTER, namespace, _NO_NAMESPACE_LABEL))
    return replace(draft, subjects=MappingProxyType(found), homes=MappingProxyType(homes), notes=(*draft.notes, *notes))


_NO_NAMESPACE_LABEL = (
    "its pods were seen without the label io.kubernetes.pod.namespace; if Cilium's label filter removes it, no namespaced policy "
    "can select them"
)


def _notes(subject: Subject) -> Iterable[Note]:
    if subject.obstacle:
        yield Note(Topic.UNSELECTABLE, str(subject.key), subject.obstacle)
    if len(subject.workloads) > 1:
        names = ", ".join(subject.workloads)
        yield Note(
            Topic.JOINED,
            str(subject.key),
            f"no stable label tells these workloads apart: {names}; they share one policy",
        )


def _identities(draft: Draft) -> dict[tuple[str, str], dict[Endpoint, frozenset[str]]]:
    """The pods of every (cluster, namespace), with the workload names they were seen under."""
    found: dict[tuple[str, str], dict[Endpoint, set[Workload]]] = defaultdict(lambda: defaultdict(set))
    seen = [*draft.edges, *(refusal.edge for refusal in draft.refused)]
    for edge in seen:
        ends = ((edge.source, edge.source_workloads), (edge.destination, edge.destination_workloads))
        for end, workloads in ends:
            if _is_pod(end):
                found[home_cluster(edge, end), end.namespace][end].update(workloads)
    default = _only_cluster(seen, draft.inventory.options.cluster_name)
    for pod in draft.inventory.endpoints:
        end = Endpoint(pod.labels, pod.namespace, pod.labels.get(CLUSTER_KEY, "k8s") or "")
        kind, slash, name = pod.workload.partition("/")
        if _is_pod(end):
            found[end.cluster or default, end.namespace][end].update([Workload(kind, name)] if slash else [])
    return {
        place: {end: _names(end, workloads) for end, workloads in sorted(ends.items())}
        for place, ends in sorted(found.items())
    }


def _is_pod(end: Endpoint) -> bool:
    return bool(end.labels and end.namespace) and not (end.address or end.labels.reserved() or is_outside(end.labels))


def _names(end: Endpoint, workloads: Iterable[Workload]) -> frozenset[str]:
    """The workload's names; a pod's own name is none, so that labels name pods that nothing owns."""
    owners = [each for each in workloads if each.kind != "Pod"]
    return frozenset(workload_name(end, (each,)) for each in owners) or frozenset({workload_name(end)})


def _only_cluster(edges: Iterable[Edge], fallback: str) -> str:
    clusters = {edge.cluster for edge in edges}
    return clusters.pop() if len(clusters) == 1 else fallback


def _of_namespace(cluster: str, namespace: str, identities: Identities) -> list[Subject]:
    """The subjects of one namespace. Workloads that share an identity, or that no selection tells apart, become one."""
    ends = list(identities)
    universe = Universe([frozenset((label.key, label.value) for label in end.labels) for end in ends])
    groups = _by_name(ends, identities, universe)
    selections: dict[int, Selection | None] = {}
    pending = sorted(groups.roots(), reverse=True)
    while pending:
        root = groups.find(pending.pop())
        selections[root], mixed = universe.select(groups.members(root))
        for other in mixed:
            groups.join(root, other)
        if mixed:
            pending.append(root)
    taken: set[str] = set()
    found: list[Subject] = []
    for root in groups.roots():
        members = [ends[index] for index in groups.members(root)]
        names = tuple(sorted({name for end in members for name in identities[end]}))
        key = SubjectKey(cluster, namespace, _unique(names[0], members, taken))
        obstacle = _obstacle(key, members, selections[root])
        found.append(Subject(key, tuple(members), names, selections[root] or Selection(), obstacle))
    return found


def _by_name(ends: Sequence[Endpoint], identities: Identities, universe: Universe) -> _Groups:
    """Identities that share a workload's name belong together, if they have a label in common that can select them."""
    together, apart = _Groups(len(ends)), _Groups(len(ends))
    first: dict[str, int] = {}
    for index, end in enumerate(ends):
        for name in identities[end]:
            together.join(first.setdefault(name, index), index)
    for root in together.roots():
        members = together.members(root)
        if universe.select(members)[0] is not None:
            for index in members:
                apart.join(root, index)
    return apart


def _unique(name: str, members: Sequence[Endpoint], taken: set[str]) -> str:
    """`name`, or with a stable hash of the labels behind it when another workload has it."""
    while name in taken:
        name = f"{name}-{stable_hash(members[0].labels.strings()).hex()[:8]}"
    taken.add(name)
    return name


def _obstacle(key: SubjectKey, members: Sequence[Endpoint], selection: Selection | None) -> str:
    if not is_namespace(key.namespace):
        return "its namespace has a name that Kubernetes does not allow"
    if not is_value(key.cluster):
        return "its cluster has a name that no selector may hold"
    if selection is not None:
        return ""
    if any(is_stable(label.key) for end in members for label in end.labels):
        return "the labels of its pods that outlive a rollout have values that no selector may hold"
    return "its pods carry no label that outlives a rollout"


class _Groups:
    """Disjoint sets of the numbers below `size`; a set goes by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))
        self._members = [[index] for index in range(size)]

    def find(self, index: int) -> int:
        while self._parent[index] != index:
            index = self._parent[index]
        return index

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        if low != high:
            self._parent[high] = low
            self._members[low].extend(self._members[high])
            self._members[high] = []

    def roots(self) -> list[int]:
        return [index for index, parent in enumerate(self._parent) if index == parent]

    def members(self, root: int) -> list[int]:
        return sorted(self._members[root])
