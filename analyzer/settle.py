"""Settling: the pure step from an edge table to edges as people read them - completed, directed where possible, judged."""

from __future__ import annotations

from collections import defaultdict

from analyzer.model.bounded import Bounded
from analyzer.model.edge import Activity, ActivityKey, Edge, EdgeKey, EdgeStats, EdgeTable, Endpoint, Side, Status
from analyzer.model.flow import DropReason, EventKind, Verdict, Workload
from analyzer.model.identity import Entity, entities
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels

__all__ = ["POLICY_DROPS", "settle", "side_statuses", "status"]

POLICY_DROPS = frozenset({DropReason.POLICY_DENIED, DropReason.POLICY_DENY, DropReason.AUTH_REQUIRED})
"""Drops by a network policy. Every other reason is infrastructure and says nothing about what should be allowed."""
_FORWARDED = frozenset({Verdict.FORWARDED, Verdict.REDIRECTED})


def settle(table: EdgeTable, include_verdicts: frozenset[str] = frozenset()) -> tuple[Edge, ...]:
    """All edges of `table` in canonical order.

    Pods known only by name get the labels that their own node reported; edges of unknown direction join the edge of known
    direction that they fit; every edge gets its `Status`. `include_verdicts` widens what is accepted: with ``"DROPPED"`` also
    default-deny drops count as traffic (an explicit deny and infrastructure drops never do).
    """
    kept = _directed(_completed(table))
    return tuple(
        Edge(
            key,
            stats,
            status(key, stats, include_verdicts),
            _workloads(table, key.source),
            _workloads(table, key.destination),
        )
        for key, stats in sorted(kept.items(), key=lambda item: item[0])
    )


def _workloads(table: EdgeTable, endpoint: Endpoint) -> tuple[Workload, ...]:
    return tuple(Workload(kind, name) for kind, name in table.workloads.get(endpoint, ()))


def _completed(table: EdgeTable) -> dict[EdgeKey, EdgeStats]:
    """Edges with every nameable end replaced by its full endpoint. Only ambiguous pods stay as they are."""
    full = _labels_of_pods(table)
    edges: dict[EdgeKey, EdgeStats] = {}
    for key, stats in table.edges.items():
        source, destination = (full.get(end, end) for end in (key.source, key.destination))
        _merge_into(edges, key._replace(source=source, destination=destination), stats)
    return edges


def _labels_of_pods(table: EdgeTable) -> dict[Endpoint, Endpoint]:
    wanted = {end for key in table.edges for end in (key.source, key.destination) if end.name and not end.labels}
    if not wanted:
        return {}
    known: dict[tuple[str, str], set[Endpoint]] = defaultdict(set)
    for cluster, namespace, pod, *labels in table.pods:
        known[namespace, pod].add(Endpoint(Labels.of(labels), namespace, cluster))
    found = {}
    for end in wanted:
        candidates = known.get((end.namespace, end.name), set())
        same_cluster = {each for each in candidates if not end.cluster or each.cluster in ("", end.cluster)}
        if len(same_cluster) == 1:
            found[end] = next(iter(same_cluster))
    return found


def _merge_into(edges: dict[EdgeKey, EdgeStats], key: EdgeKey, stats: EdgeStats) -> None:
    """Merge without touching `stats`, which belongs to the table."""
    if key in edges:
        merged = EdgeStats()
        merged.merge(edges[key])
        merged.merge(stats)
        edges[key] = merged
    else:
        edges[key] = stats


def _directed(edges: dict[EdgeKey, EdgeStats]) -> dict[EdgeKey, EdgeStats]:
    """Give edges of unknown direction their direction where all their port pairs agree on one."""
    settled = {key: stats for key, stats in edges.items() if key.directed}
    for key, stats in sorted((item for item in edges.items() if not item[0].directed), key=lambda item: item[0]):
        answers = {_direction(key, pair, settled) for pair in stats.pairs}
        target = answers.pop() if len(answers) == 1 and not stats.pairs.overflow else None
        if target is None:
            settled[key] = stats
            continue
        turned = EdgeStats()
        turned.merge(stats)
        turned.pairs = Bounded(stats.pairs.limit)
        turned.guessed += turned.weight
        if target.source != key.source:
            turned.activity = {_other_side(cell): activity for cell, activity in turned.activity.items()}
        _merge_into(settled, target, turned)
    return settled


def _direction(key: EdgeKey, pair: tuple[str, ...], known: dict[EdgeKey, EdgeStats]) -> EdgeKey | None:
    """The directed edge that a port pair belongs to: one that is known, else the one whose server port is privileged."""
    source_port, destination_port = map(int, pair)
    forward = EdgeKey(key.cluster, key.source, key.destination, L4(key.l4.protocol, destination_port))
    backward = EdgeKey(key.cluster, key.destination, key.source, L4(key.l4.protocol, source_port))
    if (forward in known) != (backward in known):
        return forward if forward in known else backward
    if (source_port < 1024) != (destination_port < 1024):
        return backward if source_port < 1024 else forward
    return None


def _other_side(key: ActivityKey) -> ActivityKey:
    swapped = {Side.SOURCE: Side.DESTINATION, Side.DESTINATION: Side.SOURCE}
    return key._replace(side=swapped.get(Side(key.side), Side.UNKNOWN))


def status(key: EdgeKey, stats: EdgeStats, include_verdicts: frozenset[str] = frozenset()) -> Status:
    """What the record says about an edge. Per side that saw it, a later policy drop outweighs AUDIT, which outweighs forwarded."""
    if not key.directed:
        return Status.UNDIRECTED
    found = set(side_statuses(stats).values())
    if Status.DENIED in found:
        return Status.DENIED
    dropped = Status.DROPPED in found
    if dropped and Verdict.DROPPED.name not in include_verdicts:
        return Status.DROPPED
    if not dropped and found == {Status.INFRASTRUCTURE}:
        return Status.INFRASTRUCTURE
    if key.l4.protocol is Protocol.TCP and not stats.answered and not dropped:
        return Status.UNANSWERED
    return Status.AUDITED if Status.AUDITED in found else Status.FORWARDED


def side_statuses(stats: EdgeStats) -> dict[int, Status]:
    """What each `Side` that reported something says about an edge, as far as one side can tell."""
    sides: dict[int, list[tuple[ActivityKey, Activity]]] = defaultdict(list)
    for key, activity in stats.activity.items():
        # The proxy refuses requests, not connections: what it dropped says nothing about the edge.
        if not (key.kind == EventKind.L7 and key.verdict in (Verdict.DROPPED, Verdict.ERROR)):
            sides[key.side].append((key, activity))
    return {side: _side_status(cells) for side, cells in sorted(sides.items())}


def _side_status(cells: list[tuple[ActivityKey, Activity]]) -> Status:
    last: dict[Status, int] = {}
    for key, activity in cells:
        kind = _cell_status(key)
        last[kind] = max(last.get(kind, -1), activity.last)
    allowed = max(last.get(Status.FORWARDED, -1), last.get(Status.AUDITED, -1))
    for drop in (Status.DENIED, Status.DROPPED):
        if last.get(drop, -1) > allowed:
            return drop
    if allowed < 0:
        return Status.INFRASTRUCTURE
    return Status.AUDITED if Status.AUDITED in last else Status.FORWARDED


def _cell_status(key: ActivityKey) -> Status:
    if key.verdict == Verdict.AUDIT:
        return Status.AUDITED
    if key.verdict in _FORWARDED or key.kind == EventKind.L7:
        return Status.FORWARDED
    if key.reason == DropReason.POLICY_DENY:
        return Status.DENIED
    # A denied policy verdict whose reason was masked away is still a denial.
    if key.reason in POLICY_DROPS or (key.kind == EventKind.POLICY_VERDICT and not key.reason):
        return Status.DROPPED
    return Status.INFRASTRUCTURE


def is_local_host(endpoint: Endpoint) -> bool:
    """Whether this end is the host a pod runs on: its traffic to the pod, such as probes, is always allowed."""
    return Entity.HOST in entities(endpoint.labels)
