"""EdgeKey, EdgeStats, EdgeTable and their merge: THE reducer, with `Activity` and `Coverage`; and Edge, an edge as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer.model.activity import DAY, HOUR, Activity, ActivityKey, Side
from analyzer.model.address import LEVELS, family, known_address, level_of, truncate
from analyzer.model.bounded import Bounded, BoundedSet, Samples
from analyzer.model.coverage import Coverage
from analyzer.model.flow import Workload
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels

__all__ = [
    "CROWD",
    "DAY",
    "HOUR",
    "Activity",
    "ActivityKey",
    "Coverage",
    "Edge",
    "EdgeKey",
    "EdgeStats",
    "EdgeTable",
    "Endpoint",
    "Group",
    "GroupKey",
    "Side",
    "Status",
]

CROWD = 256
"""Outside addresses kept apart per (inside endpoint, direction, layer 4) before they are truncated to prefixes."""
MAX_NAMES, MAX_HTTP, MAX_SAMPLES, MAX_POLICIES, MAX_SERVICES, MAX_PAIRS = 64, 256, 4, 32, 8, 64
_EVIDENCE_LIMITS = {
    "names": MAX_NAMES,
    "queries": MAX_NAMES,
    "http": MAX_HTTP,
    "samples": MAX_SAMPLES,
    "allowed_by": MAX_POLICIES,
    "denied_by": MAX_POLICIES,
    "services": MAX_SERVICES,
    "pairs": MAX_PAIRS,
}
MAX_PODS, MAX_WORKLOADS, MAX_ANSWERS, MAX_SERVICE_ADDRESSES = 65536, 8, 65536, 16384


class Endpoint(NamedTuple):
    """One end of an edge: an identity, and the address only where the identity says nothing (outside the cluster).

    `namespace` is kept beside the labels because label filters can remove it from them. `name` is the pod's name, only when the
    labels are missing. `address` is an IP, or a prefix such as ``198.51.100.0/24`` when the addresses became too many.
    """

    labels: Labels
    namespace: str = ""
    cluster: str = ""
    name: str = ""
    address: str = ""


class EdgeKey(NamedTuple):
    """One connection is one edge: client to server, as seen by the cluster `cluster`.

    `directed` is False while nobody knows which side is the client: then the smaller endpoint is the source, `l4` has no port,
    both ports are evidence (`EdgeStats.pairs`), and `analyzer.settle` decides when the edges are read.
    """

    cluster: str
    source: Endpoint
    destination: Endpoint
    l4: L4
    directed: bool = True


class EdgeStats:
    """Everything that is known about an edge besides its key. Mutable while a table is built, read-only afterwards.

    Weights: `answered` of packets that prove an answer (a reply that is no reset, or a request past the handshake), `resets` of
    resets sent by the server, `guessed` of events whose direction was inferred from the port numbers, `uncertain` of aggregated
    records whose ports may not be their own, `conflicting` of events where one side had a pod's name but a world identity,
    `unnamed` of events without a DNS name for an outside peer.
    Evidence: `names` (DNS names of the outside peer), `queries` (DNS names asked over this edge), `http` (method, path, host,
    verdict), `samples` (event uuids), `allowed_by`/`denied_by` (direction, kind, namespace, name), `services`
    (namespace/name), `pairs` (source port, destination port; only while the direction is unknown).
    """

    __slots__ = (
        "activity", "allowed_by", "answered", "conflicting", "denied_by", "guessed", "http", "names",
        "pairs", "queries", "resets", "samples", "services", "uncertain", "unnamed",
    )  # fmt: skip
    WEIGHTS = ("answered", "resets", "guessed", "uncertain", "conflicting", "unnamed")
    EVIDENCE = ("names", "queries", "http", "samples", "allowed_by", "denied_by", "services", "pairs")

    if TYPE_CHECKING:
        names: Bounded[str]
        queries: Bounded[str]
        http: Bounded[tuple[str, ...]]
        samples: Samples
        allowed_by: Bounded[tuple[str, ...]]
        denied_by: Bounded[tuple[str, ...]]
        services: Bounded[str]
        pairs: Bounded[tuple[str, ...]]

    def __init__(self) -> None:
        self.activity: dict[ActivityKey, Activity] = {}
        self.answered = self.resets = self.guessed = self.uncertain = self.conflicting = self.unnamed = 0

    def __getattr__(self, name: str) -> Any:
        # Reached only while an evidence slot is empty: most edges never need most of them.
        limit = _EVIDENCE_LIMITS.get(name)
        if limit is None:
            raise AttributeError(name)
        made: Bounded[Any] = Samples(limit) if name == "samples" else Bounded(limit)
        setattr(self, name, made)
        return made

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        # Asking every slot, as pickling does by itself, would make all the evidence that is not there.
        there = {name: getattr(self, name) for name in ("activity", *self.WEIGHTS)}
        return None, {**there, **dict(self.evidence())}

    def evidence(self) -> Iterator[tuple[str, Bounded[Any]]]:
        """The evidence that is there, by name, without making the rest."""
        for name in self.EVIDENCE:
            try:
                found = object.__getattribute__(self, name)
            except AttributeError:
                continue
            if found:
                yield name, found

    def cell(self, key: ActivityKey) -> Activity:
        """The activity of one day, side, kind, verdict and reason, made if it is new."""
        found = self.activity.get(key)
        if found is None:
            found = self.activity[key] = Activity()
        return found

    def merge(self, other: EdgeStats) -> None:
        for key, activity in other.activity.items():
            self.cell(key).merge(activity)
        for name in self.WEIGHTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, theirs in other.evidence():
            getattr(self, name).merge(theirs)

    @property
    def weight(self) -> int:
        """Events in all; both ends' reports of one packet count twice."""
        return sum(activity.weight for activity in self.activity.values())

    @property
    def first(self) -> int:
        return min((activity.first for activity in self.activity.values()), default=0)

    @property
    def last(self) -> int:
        return max((activity.last for activity in self.activity.values()), default=0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EdgeStats):
            return NotImplemented
        plain = ("activity", *self.WEIGHTS)
        same = all(getattr(self, name) == getattr(other, name) for name in plain)
        return same and dict(self.evidence()) == dict(other.evidence())

    __hash__ = None  # type: ignore[assignment]


class GroupKey(NamedTuple):
    """A crowd: the outside peers of one inside endpoint on one layer 4, in one direction and one address family."""

    cluster: str
    inside: Endpoint
    peer: Endpoint
    """The outside peers without their addresses."""
    outgoing: bool
    l4: L4
    directed: bool
    family: int


class Group:
    """A crowd: the addresses of a crowd, at the prefix `level` they were truncated to."""

    __slots__ = ("addresses", "level")

    def __init__(self) -> None:
        self.level = 0
        self.addresses: set[str] = set()


class EdgeTable:
    """Edges, what completes them, and their coverage. `merge` is commutative, associative and has the empty table as its unit.

    Side tables, for the pure step that completes edges when they are read: `workloads` per endpoint, `pods` as
    (cluster, namespace, pod, labels...), `answers` as (observing cluster, address, name) from DNS
    responses, `service_addresses` as (cluster, address, layer 4, namespace/name) seen before service translation.
    """

    __slots__ = ("_groups", "answers", "coverage", "edges", "pods", "service_addresses", "workloads")

    def __init__(self) -> None:
        self.edges: dict[EdgeKey, EdgeStats] = {}
        self.coverage = Coverage()
        self.workloads: dict[Endpoint, BoundedSet[tuple[str, ...]]] = {}
        self.pods: Bounded[tuple[str, ...]] = BoundedSet(MAX_PODS)
        self.answers: Bounded[tuple[str, ...]] = Bounded(MAX_ANSWERS)
        self.service_addresses: Bounded[tuple[str, ...]] = Bounded(MAX_SERVICE_ADDRESSES)
        self._groups: dict[GroupKey, Group] = {}

    def __len__(self) -> int:
        return len(self.edges)

    def crowd(self, key: EdgeKey) -> Group:
        """The crowd of the outside peer in `key`, made if it is new; its `level` grows as addresses become too many."""
        group_key = _group_of(key)
        if group_key is None:
            raise ValueError("an edge without an outside address belongs to no crowd")
        return self._groups.setdefault(group_key, Group())

    def stats(self, key: EdgeKey) -> EdgeStats:
        """The stats of the edge that `key` belongs to, made if it is new. Crowds are truncated here, and only here."""
        found = self.edges.get(key)
        if found is not None:
            return found
        group_key = _group_of(key)
        if group_key is not None:
            return self._grouped(group_key, key)
        found = self.edges[key] = EdgeStats()
        return found

    def give(self, key: EdgeKey, stats: EdgeStats) -> None:
        """Merge `stats` into the edge of `key` and own them from now on: who gives them must not use them again."""
        if _outside(key).address or key in self.edges:
            self.stats(key).merge(stats)
        else:
            self.edges[key] = stats

    def _grouped(self, group_key: GroupKey, key: EdgeKey) -> EdgeStats:
        group = self._groups.setdefault(group_key, Group())
        address = known_address(_outside(key).address)
        level = max(group.level, level_of(address))
        if level > group.level:
            self._truncate(group_key, group, level)
        address = truncate(address, group.level)
        if address not in group.addresses:
            group.addresses.add(address)
            while len(group.addresses) > CROWD and group.level < len(LEVELS[group_key.family]) - 1:
                self._truncate(group_key, group, group.level + 1)
            address = truncate(address, group.level)
        return self.edges.setdefault(_edge_of(group_key, address), EdgeStats())

    def _truncate(self, group_key: GroupKey, group: Group, level: int) -> None:
        for address in sorted(group.addresses):
            key = _edge_of(group_key, address)
            stats = self.edges.pop(key, None)
            if stats is not None:
                wider = self.edges.setdefault(_edge_of(group_key, truncate(address, level)), EdgeStats())
                wider.merge(stats)
        group.addresses = {truncate(address, level) for address in group.addresses}
        group.level = level

    def merge(self, other: EdgeTable) -> None:
        """Add everything that `other` holds; `other` is left as it was."""
        for key, stats in other.edges.items():
            self.stats(key).merge(stats)
        self._merge_sides(other)

    def absorb(self, other: EdgeTable) -> None:
        """As `merge`, but faster: `other` must not be used any more."""
        for key, stats in other.edges.items():
            self.give(key, stats)
        self._merge_sides(other)

    def _merge_sides(self, other: EdgeTable) -> None:
        for endpoint, workloads in other.workloads.items():
            self.add_workloads(endpoint, workloads)
        self.pods.merge(other.pods)
        self.answers.merge(other.answers)
        self.service_addresses.merge(other.service_addresses)
        self.coverage.merge(other.coverage)

    def add_workloads(self, endpoint: Endpoint, workloads: Bounded[tuple[str, ...]]) -> None:
        """Remember which workloads an endpoint was seen to belong to."""
        kept = self.workloads.get(endpoint)
        if kept is None:
            kept = self.workloads[endpoint] = BoundedSet(MAX_WORKLOADS)
        kept.merge(workloads)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EdgeTable):
            return NotImplemented
        names = ("edges", "coverage", "workloads", "pods", "answers", "service_addresses")
        return all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment]


def _outside(key: EdgeKey) -> Endpoint:
    return key.source if key.source.address else key.destination


def _group_of(key: EdgeKey) -> GroupKey | None:
    outside, inside = (key.source, key.destination) if key.source.address else (key.destination, key.source)
    if not outside.address:
        return None
    peer, outgoing = outside._replace(address=""), not key.source.address
    return GroupKey(key.cluster, inside, peer, outgoing, key.l4, key.directed, family(outside.address))


def _edge_of(group: GroupKey, address: str) -> EdgeKey:
    outside = group.peer._replace(address=address)
    ends = (group.inside, outside) if group.outgoing else (outside, group.inside)
    return EdgeKey(group.cluster, *ends, group.l4, group.directed)


class Status(StrEnum):
    """What the record says about an edge, seen as a candidate for an allow rule."""

    FORWARDED = "forwarded"
    AUDITED = "audited"
    """Forwarded only because policy audit mode is on: enforcement would drop it today."""
    DROPPED = "dropped"
    """Denied because no rule allows it (default deny), and not allowed later."""
    DENIED = "denied"
    """An explicit deny rule matched: no allow can help."""
    INFRASTRUCTURE = "infrastructure"
    """Only dropped, and not by a policy: a fault of the network, never a rule."""
    UNANSWERED = "unanswered"
    """TCP that nobody answered, or only by a reset: a scan, or a server that is down."""
    UNDIRECTED = "direction unknown"
    """Nobody can tell which side is the client."""


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge as it is read: settled, with the workloads of both ends completed.

    `source_workloads`/`destination_workloads` are ``Kind/name`` as Hubble reported them, sorted; empty when unknown.
    `stats` is shared and must not be changed.
    """

    key: EdgeKey
    stats: EdgeStats
    status: Status
    source_workloads: tuple[Workload, ...] = ()
    destination_workloads: tuple[Workload, ...] = ()

    @property
    def cluster(self) -> str:
        return self.key.cluster

    @property
    def source(self) -> Endpoint:
        return self.key.source

    @property
    def destination(self) -> Endpoint:
        return self.key.destination

    @property
    def l4(self) -> L4:
        return self.key.l4

    @property
    def weight(self) -> int:
        return self.stats.weight

    @property
    def accepted(self) -> bool:
        """Whether the edge is traffic that a recommendation has to allow."""
        return self.status in (Status.FORWARDED, Status.AUDITED)
