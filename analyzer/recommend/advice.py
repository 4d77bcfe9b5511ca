"""The pass that says what a careful reader should look at before enforcing: rules that are right and may still surprise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4
from analyzer.recommend.draft import CidrPeer, Draft, EntityPeer, Note, PolicyDraft, Topic

__all__ = ["MANY_CLIENTS", "advice"]

MANY_CLIENTS = 8
"""From this many outside client addresses on, or any prefix of a crowd, the next client is likely to be a new one."""


def advice(draft: Draft) -> Draft:
    """Add notes on the policies; the policies stay as they are."""
    notes = [note for policy in draft.policies for look in _LOOKS for note in look(policy)]
    return replace(draft, notes=(*draft.notes, *notes))


def _left_alone(policy: PolicyDraft) -> Iterator[Note]:
    for direction in (Direction.INGRESS, Direction.EGRESS):
        if not policy.section(direction):
            text = f"{direction.name.lower()}: nothing to allow was seen, so it is left alone"
            yield Note(Topic.UNSEEN_DIRECTION, str(policy.subject.key), text)


def _clients(policy: PolicyDraft) -> Iterator[Note]:
    clients: dict[L4, set[str]] = defaultdict(set)
    for rule in policy.section(Direction.INGRESS):
        for l4 in rule.ports:
            clients[l4].update(peer.cidr for peer in rule.peers if isinstance(peer, CidrPeer))
    for l4, cidrs in sorted(clients.items()):
        crowd = any(not cidr.endswith(("/32", "/128")) for cidr in cidrs)
        if crowd or len(cidrs) >= MANY_CLIENTS:
            text = f"ingress: {len(cidrs)} outside addresses or prefixes use {l4}; if it is public, allow the entity world instead"
            yield Note(Topic.MANY_CLIENTS, str(policy.subject.key), text)


def _behind_nodes(policy: PolicyDraft) -> Iterator[Note]:
    """A NodePort or load balancer with externalTrafficPolicy Cluster replaces the client's address by the node's."""
    ports = {
        str(l4)
        for rule in policy.section(Direction.INGRESS)
        if EntityPeer(Entity.REMOTE_NODE) in rule.peers
        for l4 in rule.ports
    }
    if ports:
        text = (
            f"ingress: nodes use {', '.join(sorted(ports))}; outside clients of a NodePort or load balancer may be behind them "
            "(externalTrafficPolicy: Local would show them)"
        )
        yield Note(Topic.BEHIND_NODES, str(policy.subject.key), text)


def _world(policy: PolicyDraft) -> Iterator[Note]:
    for rule in policy.rules:
        if EntityPeer(Entity.WORLD) in rule.peers:
            text = (
                f"{rule.direction.name.lower()}: an outside peer was seen without its address, so the rule says world"
            )
            yield Note(Topic.WIDE, str(policy.subject.key), text)


_LOOKS = (_left_alone, _clients, _behind_nodes, _world)
