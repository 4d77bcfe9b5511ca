"""The pass that lets the internet in through gateways only, where that is asked for."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.recommend.cidrs import is_own
from analyzer.recommend.draft import CidrPeer, Claim, Draft, EntityPeer, Peer, Reason, Refusal

__all__ = ["internet", "is_internet"]


def internet(draft: Draft) -> Draft:
    """Refuse what comes from the internet to workloads that are no gateways; without a list of these, nothing."""
    gateways = draft.options.gateways
    if gateways is None:
        return draft
    kept: list[Claim] = []
    refused: list[Refusal] = []
    for claim in draft.claims:
        direct = claim.direction is Direction.INGRESS and claim.subject not in gateways and is_internet(claim.peer)
        if direct:
            refused.extend(Refusal(edge, Reason.DIRECT_INTERNET, Direction.INGRESS) for edge in claim.edges)
        else:
            kept.append(claim)
    return replace(draft, claims=tuple(kept), refused=(*draft.refused, *refused))


def is_internet(peer: Peer) -> bool:
    """Whether `peer` is outside of the cluster and of one's own network: any address that is neither private nor link-local."""
    if isinstance(peer, CidrPeer):
        return not is_own(ip_network(peer.cidr))
    return peer == EntityPeer(Entity.WORLD)
