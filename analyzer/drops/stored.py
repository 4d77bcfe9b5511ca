"""Drops from edges, as a store keeps them: what was dropped by day, side and reason, without connections, pods and minutes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analyzer.drops.drop import DropKey, Drops
from analyzer.model.edge import Activity, ActivityKey, Edge, Side
from analyzer.model.flow import DropReason, EventKind, PolicyRef, Verdict

__all__ = ["UNKNOWN_TO_A_STORE", "drops_of"]

UNKNOWN_TO_A_STORE = (
    "A store keeps edges: which pods, which connections and which minute it was, whether a dropped packet was an answer, and which "
    "name was refused is not in it. Drops are counted as events there, retransmissions included. Read the flows for all of that."
)


def drops_of(edges: Iterable[Edge]) -> tuple[Drops, ...]:
    """What was dropped on `edges`, the most first."""
    found = [drops for edge in edges for drops in _of_edge(edge)]
    return tuple(sorted(found, key=lambda each: (-each.drops, each.key)))


def _of_edge(edge: Edge) -> Iterator[Drops]:
    cells: dict[DropKey, list[tuple[ActivityKey, Activity]]] = {}
    for key, activity in edge.stats.activity.items():
        if key.verdict in (Verdict.DROPPED, Verdict.AUDIT) and activity.weight:
            cells.setdefault(_key(edge, key), []).append((key, activity))
    for drop_key, mine in sorted(cells.items(), key=lambda item: item[0]):
        if drop_key.l7:
            yield from _requests(edge, drop_key, mine)
        else:
            yield _made(edge, drop_key, mine)


def _key(edge: Edge, cell: ActivityKey) -> DropKey:
    proxy, audit = cell.kind == EventKind.L7, cell.verdict == Verdict.AUDIT
    reason = 0 if proxy or audit else cell.reason
    if cell.kind == EventKind.POLICY_VERDICT and not reason and not audit:
        reason = DropReason.POLICY_DENY if edge.stats.denied_by else DropReason.POLICY_DENIED
    _, source, destination, l4, directed = edge.key
    return DropKey(edge.cluster, source, destination, l4, Side(cell.side), reason, audit, proxy, directed=directed)


def _made(edge: Edge, key: DropKey, cells: list[tuple[ActivityKey, Activity]]) -> Drops:
    found = Drops(
        key, exact=False, source_workloads=edge.source_workloads, destination_workloads=edge.destination_workloads
    )
    kinds: dict[int, int] = {}
    for cell, activity in cells:
        kinds[cell.kind] = kinds.get(cell.kind, 0) + activity.weight
    found.first = min(activity.first for _, activity in cells)
    found.last = max(activity.last for _, activity in cells)
    found.events = sum(kinds.values())
    # A policy's denial is told twice, as a verdict and as a drop.
    found.drops = max(kinds.values())
    _evidence(found, edge)
    return found


def _requests(edge: Edge, key: DropKey, cells: list[tuple[ActivityKey, Activity]]) -> Iterator[Drops]:
    """One per request that was refused, as far as they were kept."""
    refused = [
        (f"{method} {path}", host, weight)
        for (method, path, host, verdict), weight in sorted(edge.stats.http.items.items())
        if verdict == str(int(Verdict.DROPPED))
    ]
    if not refused:
        yield _made(edge, key, cells)
    for request, host, weight in refused:
        found = _made(edge, key._replace(request=request), cells)
        found.drops = found.events = weight
        found.host = host
        yield found


def _evidence(found: Drops, edge: Edge) -> None:
    stats = edge.stats
    for name in stats.names:
        found.names.add(name)
    for service in stats.services:
        found.services.add(service)
    for sample in stats.samples:
        found.samples.add(sample)
    found.stale = min(stats.conflicting, found.events)
    for _, kind, namespace, policy in stats.denied_by:
        if found.key.reason == DropReason.POLICY_DENY:
            found.denied_by.setdefault(PolicyRef(kind, namespace, policy))
