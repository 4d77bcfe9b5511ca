"""Perspective: a process has one identity to its own agent and another to the rest; which one an end of an edge is judged by."""

from __future__ import annotations

from analyzer.model.edge import Edge, Endpoint, Side
from analyzer.model.identity import Entity
from analyzer.model.labels import NAMESPACE_KEY, Label, Labels

__all__ = ["home_cluster", "policy_labels", "seen_from"]

_HOST = Label("reserved", Entity.HOST.value)
_REMOTE_NODE = Label("reserved", Entity.REMOTE_NODE.value)


def seen_from(edge: Edge, side: Side) -> tuple[Endpoint, ...]:
    """The far end of `edge` as the agent at `side` (SOURCE or DESTINATION) names it; policies there speak of nothing else.

    A host is `host` only to its own agent. What only the host's side reported about a peer of it, is to the peer's agent a
    `remote-node`: was it local, the peer's agent would be the same one and would have reported it as the peer. Both are given
    when both ends reported. An unknown side is taken at its word.
    """
    far = edge.destination if side is Side.SOURCE else edge.source
    if _HOST not in far.labels:
        return (far,)
    sides = {key.side for key in edge.stats.activity}
    remote = far._replace(labels=Labels.of([x for x in far.labels if x != _HOST] + [_REMOTE_NODE]))
    other = Side.DESTINATION if side is Side.SOURCE else Side.SOURCE
    if other not in sides:
        return (far,)
    return (far, remote) if sides - {other} else (remote,)


def home_cluster(edge: Edge, endpoint: Endpoint) -> str:
    """The cluster a pod runs in: the one it names, or the one that observed the edge."""
    return endpoint.cluster or edge.cluster


def policy_labels(endpoint: Endpoint) -> Labels:
    """The labels that selectors are matched against: those reported, with the namespace where the record left it out."""
    if not endpoint.namespace or not endpoint.labels or endpoint.labels.namespace:
        return endpoint.labels
    return Labels.of([*endpoint.labels, Label("k8s", NAMESPACE_KEY, endpoint.namespace)])
