"""The pass that merges claims into rules: one per peer, ports sorted, within the limits of the CRD and the agent."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace

from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.l4 import L4
from analyzer.recommend.draft import (
    ANY_PORT,
    CidrPeer,
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    Peer,
    Purpose,
    RuleDraft,
    Span,
    SubjectKey,
)

__all__ = ["MAX_PORTS", "lists", "ports"]

MAX_PORTS = 40
"""Most ports in one toPorts list, and fields in one icmps list (the CRD's maxItems; the agent refuses the whole policy)."""

_ORDER = {EndpointPeer: 0, EntityPeer: 1, NamePeer: 2, CidrPeer: 3}
_DIRECTIONS = {Direction.INGRESS: 0, Direction.EGRESS: 1}
_PURPOSES = {Purpose.TRAFFIC: 0, Purpose.DNS: 1, Purpose.DNS_NAMES: 1}

_Place = tuple[SubjectKey, Direction, Purpose]
_Ports = L4 | Span
_BEYOND = 65536


def ports(draft: Draft) -> Draft:
    """Merge the claims per workload, direction and peer. Outside peers with the same ports share one rule; ICMP stands apart.

    A port that lies in a range gives way to that. A claim on every port makes a rule that says nothing of ports.
    """
    merged: dict[tuple[_Place, Peer], dict[_Ports, list[Edge]]] = defaultdict(lambda: defaultdict(list))
    for claim in draft.claims:
        place = (claim.subject, claim.direction, claim.purpose)
        merged[place, claim.peer][_written(claim, draft)].extend(claim.edges)
    grouped: dict[tuple[_Place, object, tuple[_Ports, ...]], list[tuple[Peer, list[Edge]]]] = defaultdict(list)
    for (place, peer), by_l4 in merged.items():
        for l4s in lists(by_l4):
            shared = type(peer) if isinstance(peer, NamePeer | CidrPeer) else peer
            edges = [edge for l4 in l4s or by_l4 for edge in by_l4[l4]]
            grouped[place, shared, l4s].append((peer, edges))
    rules = [_rule(place, l4s, group) for (place, _, l4s), group in grouped.items()]
    return replace(draft, rules=(*draft.rules, *sorted(rules, key=_rank)))


def _written(claim: Claim, draft: Draft) -> _Ports:
    """The range that the claim's port lies in, or the port."""
    if claim.purpose is not Purpose.TRAFFIC:
        return claim.l4
    spans = draft.ranges.get((claim.subject, claim.direction, claim.peer), ())
    at = bisect_right(spans, (claim.l4.protocol, claim.l4.port, _BEYOND))
    return spans[at - 1] if at and spans[at - 1].holds(claim.l4) else claim.l4


def lists(l4s: Collection[_Ports]) -> Iterator[tuple[_Ports, ...]]:
    """Lists of one kind, ports or ICMP types, none too long; an empty one for every port."""
    if ANY_PORT in l4s:
        yield ()
        return
    found = sorted(l4s)
    for icmp in (False, True):
        kind = [l4 for l4 in found if l4.protocol.is_icmp is icmp]
        for start in range(0, len(kind), MAX_PORTS):
            yield tuple(kind[start : start + MAX_PORTS])


def _rule(place: _Place, l4s: tuple[_Ports, ...], group: list[tuple[Peer, list[Edge]]]) -> RuleDraft:
    subject, direction, purpose = place
    evidence = {edge.key: edge for _, edges in group for edge in edges}
    edges = tuple(evidence[key] for key in sorted(evidence))
    return RuleDraft(subject, direction, tuple(sorted(peer for peer, _ in group)), l4s, edges, purpose)


def _rank(rule: RuleDraft) -> tuple[object, ...]:
    first = rule.peers[0]
    return (
        rule.subject,
        _DIRECTIONS[rule.direction],
        _PURPOSES[rule.purpose],
        _ORDER[type(first)],
        bool(rule.ports) and rule.ports[0].protocol.is_icmp,
        tuple(map(repr, rule.peers)),
        rule.ports,
    )
