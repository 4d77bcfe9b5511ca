"""The pass that says what a careful reader should look at before enforcing: rules that are right and may still surprise."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network

from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4
from analyzer.recommend.cidrs import is_private
from analyzer.recommend.draft import ANY_PORT, CidrPeer, Draft, EntityPeer, Note, PolicyDraft, Span, Topic
from analyzer.recommend.system import is_system

__all__ = ["MANY_CLIENTS", "advice"]

MANY_CLIENTS = 8
"""From this many outside client addresses on, or any prefix of a crowd, the next client is likely to be a new one."""


def advice(draft: Draft) -> Draft:
    """Add notes on the policies; the policies stay as they are."""
    notes = [note for policy in draft.policies for look in _LOOKS for note in look(policy)]
    for namespace in sorted({key.namespace for key in draft.subjects}):
        if is_system(namespace, draft.options.system):
            notes.append(Note(Topic.SYSTEM, namespace, "left alone (see --system-namespaces)"))
    return replace(draft, notes=(*draft.notes, *notes))


def _left_alone(policy: PolicyDraft) -> Iterator[Note]:
    for direction in (Direction.INGRESS, Direction.EGRESS):
        if not policy.section(direction) and direction not in policy.complete | policy.unasked:
            text = f"{direction.name.lower()}: nothing to allow was seen, so it is left alone"
            yield Note(Topic.UNSEEN_DIRECTION, str(policy.subject.key), text)


def _clients(policy: PolicyDraft) -> Iterator[Note]:
    clients: dict[L4 | Span, set[str]] = defaultdict(set)
    for rule in policy.section(Direction.INGRESS):
        for l4 in rule.ports or (ANY_PORT,):
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
        for l4 in rule.ports or (ANY_PORT,)
    }
    if ports:
        text = (
            f"ingress: nodes use {', '.join(sorted(ports))}; outside clients of a NodePort or load balancer may be behind them "
            "(externalTrafficPolicy: Local would show them)"
        )
        yield Note(Topic.BEHIND_NODES, str(policy.subject.key), text)


def _world(policy: PolicyDraft) -> Iterator[Note]:
    for rule in policy.rules:
        if EntityPeer(Entity.WORLD) not in rule.peers:
            continue
        word = rule.direction.name.lower()
        ends = [edge.source if rule.direction is Direction.INGRESS else edge.destination for edge in rule.evidence]
        if any(end.address in ("", "unknown") for end in ends):
            yield Note(
                Topic.WIDE,
                str(policy.subject.key),
                f"{word}: an outside peer was seen without its address, so the rule says world",
            )
        if any(end.address.endswith("/0") for end in ends):
            text = f"{word}: so many outside addresses were seen that every address may be one, so the rule says world"
            yield Note(Topic.WIDE, str(policy.subject.key), text)


def _private(policy: PolicyDraft) -> Iterator[Note]:
    """Address rules never match pods, nodes or the API server, whatever their addresses are."""
    for direction in (Direction.INGRESS, Direction.EGRESS):
        found = {
            peer.cidr
            for rule in policy.section(direction)
            for peer in rule.peers
            if isinstance(peer, CidrPeer) and is_private(ip_network(peer.cidr))
        }
        if found:
            text = (
                f"{direction.name.lower()}: private addresses outside the cluster (machines of one's own network); should one "
                "be a pod, a node or a service of this cluster, the rule does not match it"
            )
            yield Note(Topic.PRIVATE, str(policy.subject.key), text)


def _through_ingress(policy: PolicyDraft) -> Iterator[Note]:
    if any(EntityPeer(Entity.INGRESS) in rule.peers for rule in policy.section(Direction.INGRESS)):
        text = (
            "ingress: clients come through Cilium's Ingress or Gateway API (reserved:ingress); who they are is for it to check, "
            "and its own egress and ingress need rules if policies select it"
        )
        yield Note(Topic.INGRESS, str(policy.subject.key), text)


def _nodes(policy: PolicyDraft) -> Iterator[Note]:
    peers = {peer for rule in policy.section(Direction.EGRESS) for peer in rule.peers}
    if peers & {EntityPeer(Entity.HOST), EntityPeer(Entity.REMOTE_NODE)}:
        text = (
            "egress: the peers are nodes; pods on the host network share their identity, so the rule allows all of them on "
            "these ports"
        )
        yield Note(Topic.NODES, str(policy.subject.key), text)


_LOOKS = (_left_alone, _clients, _behind_nodes, _world, _private, _through_ingress, _nodes)
