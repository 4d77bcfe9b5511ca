"""The pass that leaves claims on one entity to another one that holds the same peers, so that each rule is needed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from analyzer.model.edge import Side
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity, entities
from analyzer.model.l4 import L4
from analyzer.model.perspective import seen_from
from analyzer.recommend.draft import ANY_PORT, Claim, Draft, EntityPeer, Purpose, SubjectKey

__all__ = ["overlaps"]

_SIDES = {Direction.INGRESS: Side.DESTINATION, Direction.EGRESS: Side.SOURCE}
_Place = tuple[SubjectKey, Direction]


def overlaps(draft: Draft) -> Draft:
    """Where a workload speaks with an entity on a port, other entities whose peers all belong to that one too add nothing there:
    an API server on a node is a remote node as well."""
    ports: dict[_Place, dict[Entity, set[L4]]] = defaultdict(lambda: defaultdict(set))
    for claim in draft.claims:
        if isinstance(claim.peer, EntityPeer) and claim.purpose is Purpose.TRAFFIC:
            ports[claim.subject, claim.direction][claim.peer.entity].add(claim.l4)
    return replace(draft, claims=tuple(_left_to(claim, ports, draft) for claim in draft.claims))


def _left_to(claim: Claim, ports: dict[_Place, dict[Entity, set[L4]]], draft: Draft) -> Claim:
    peer, place = claim.peer, (claim.subject, claim.direction)
    if not isinstance(peer, EntityPeer) or claim.purpose is not Purpose.TRAFFIC or len(ports[place]) == 1:
        return claim
    others = set(ports[place]) - {peer.entity}
    for edge in claim.edges:
        for far in seen_from(edge, _SIDES[claim.direction]):
            known = entities(far.labels)
            if peer.entity in known:
                others &= known
    for other in sorted(others):
        spans = draft.ranges.get((*place, EntityPeer(other)), ())
        if ports[place][other] & {claim.l4, ANY_PORT} or any(span.holds(claim.l4) for span in spans):
            return claim._replace(peer=EntityPeer(other))
    return claim
