"""The pass that keeps accepted edges which a policy can express at layer 4, and refuses the rest with the reason."""

from __future__ import annotations

from dataclasses import replace

from analyzer.model.edge import Edge, Status
from analyzer.recommend.draft import Draft, Reason, Refusal

__all__ = ["accepted"]

BY_STATUS = {
    Status.DROPPED: Reason.DROPPED,
    Status.DENIED: Reason.DENIED,
    Status.INFRASTRUCTURE: Reason.INFRASTRUCTURE,
    Status.UNANSWERED: Reason.UNANSWERED,
    Status.UNDIRECTED: Reason.UNDIRECTED,
}


def accepted(draft: Draft) -> Draft:
    """Refuse edges that are no accepted traffic, and those whose layer 4 no rule can hold."""
    kept: list[Edge] = []
    refused: list[Refusal] = []
    for edge in draft.edges:
        reason = BY_STATUS[edge.status] if not edge.accepted else _inexpressible(edge)
        if reason is None:
            kept.append(edge)
        else:
            refused.append(Refusal(edge, reason))
    return replace(draft, edges=tuple(kept), refused=(*draft.refused, *refused))


def _inexpressible(edge: Edge) -> Reason | None:
    protocol, port = edge.l4
    if edge.stats.uncertain and edge.stats.uncertain >= edge.weight:
        return Reason.UNCERTAIN_PORT
    if protocol.has_ports:
        return None if 0 < port <= 65535 else Reason.EVERY_PORT
    if not protocol.is_icmp or port > 255:
        return Reason.PROTOCOL
    return None if port else Reason.EVERY_ICMP_TYPE
