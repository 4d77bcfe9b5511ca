"""Fields: the rule that names one peer and one port, as Cilium's policies and as Kubernetes' own write it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from analyzer.model.address import INVALID, UNKNOWN
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.identity import WORLD, Entity, entities, primary_entity
from analyzer.model.l4 import ICMP_FAMILY, L4
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY
from analyzer.recommend.draft import Selection
from analyzer.suggest.workloads import Workloads

__all__ = ["Need", "NotExpressible", "cilium_item", "kubernetes_item", "selector"]

LEARNS = "Cilium learns the addresses of a name only from lookups through a DNS rule (rules.dns) of the same workload"
EVERY_ICMP = "ICMP type 0 in a policy means all types"
WHOLE_PEER = "policies have no word for {}: this opens every port and protocol of the peer"
EVERY_PORT = "port 0 in a policy means every port"


class NotExpressible(Exception):
    """Why this dialect has no rule for it."""


class Need(NamedTuple):
    """What one side of an edge lacks: a rule for all of `fars`, as that side's agent names the far end. `namespace` is the
    policy's, empty for clusterwide ones."""

    edge: Edge
    ingress: bool
    fars: tuple[Endpoint, ...]
    cluster: str
    namespace: str


def selector(selection: Selection, scope: dict[str, str] | None = None) -> dict[str, Any]:
    """A label selector with what it is scoped to."""
    found: dict[str, Any] = {}
    labels = {**(scope or {}), **dict(selection.labels)}
    if labels:
        found["matchLabels"] = labels
    if selection.absent:
        found["matchExpressions"] = [{"key": key, "operator": "DoesNotExist"} for key in selection.absent]
    return found


def cilium_item(need: Need, workloads: Workloads) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An item of `ingress` or `egress`, and what to know about it. Raises NotExpressible."""
    word = "from" if need.ingress else "to"
    kinds: dict[str, list[Any]] = {}
    remarks: list[str] = []
    for far in need.fars:
        kind, values = _cilium_peers(far, need, workloads)
        kinds.setdefault(kind, []).extend(value for value in values if value not in kinds.get(kind, ()))
    if len(kinds) != 1:
        raise NotExpressible("its agents know the peer under names that no single rule can hold")
    ((kind, values),) = kinds.items()
    if kind == "FQDNs":
        remarks.append(LEARNS)
    ports, remark = _cilium_ports(need.edge.l4)
    return {f"{word}{kind}": values, **ports}, (*remarks, *remark)


def _cilium_peers(far: Endpoint, need: Need, workloads: Workloads) -> tuple[str, list[Any]]:
    entity = primary_entity(far.labels)
    if entity is not None and entity is not Entity.WORLD:
        return "Entities", [entity.value]
    if entity is Entity.WORLD or (far.address and not far.labels):
        return _outside(far, need)
    selection = workloads.selection(far) if far.labels else None
    if selection is None:
        raise NotExpressible("the peer has no label that outlives a rollout, so no rule can name it")
    scope = {}
    if far.namespace != need.namespace:
        scope[f"k8s:{NAMESPACE_KEY}"] = far.namespace
    cluster = far.labels.get(CLUSTER_KEY, "k8s") or need.cluster
    if cluster != need.cluster:
        scope[f"k8s:{CLUSTER_KEY}"] = cluster
    return "Endpoints", [selector(selection, scope)]


def _outside(far: Endpoint, need: Need) -> tuple[str, list[Any]]:
    stats = need.edge.stats
    names = sorted(stats.names) if not need.ingress and not stats.names.overflow else []
    if names and not ("/" in far.address and stats.unnamed):
        # All names of one address are allowed with any of them.
        return "FQDNs", [{"matchName": name} for name in (names if "/" in far.address else names[:1])]
    if far.address in ("", UNKNOWN, INVALID):
        return "Entities", [Entity.WORLD.value]
    return "CIDR", [_prefix(far.address)]


def _prefix(address: str) -> str:
    return address if "/" in address else f"{address}/{128 if ':' in address else 32}"


def _cilium_ports(l4: L4) -> tuple[dict[str, Any], tuple[str, ...]]:
    if l4.protocol.is_icmp:
        fields = [{"family": ICMP_FAMILY[l4.protocol], "type": l4.port}]
        return {"icmps": [{"fields": fields}]}, () if l4.port else (EVERY_ICMP,)
    if not l4.protocol.has_ports:
        return {}, (WHOLE_PEER.format(l4.protocol),)
    ports = [{"port": str(l4.port), "protocol": str(l4.protocol)}]
    return {"toPorts": [{"ports": ports}]}, () if l4.port else (EVERY_PORT,)


def kubernetes_item(need: Need, workloads: Workloads) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A rule of a NetworkPolicy, and what to know about it. Raises NotExpressible."""
    l4 = need.edge.l4
    if not l4.protocol.has_ports or not l4.port:
        raise NotExpressible(f"a NetworkPolicy has no word for {l4}")
    peers = _unique(_kubernetes_peer(far, need, workloads) for far in need.fars)
    ports = [{"port": l4.port, "protocol": str(l4.protocol)}]
    return {"from" if need.ingress else "to": peers, "ports": ports}, ()


def _kubernetes_peer(far: Endpoint, need: Need, workloads: Workloads) -> dict[str, Any]:
    entity = primary_entity(far.labels)
    if entity is not None:
        if not entities(far.labels) & WORLD or far.address in ("", UNKNOWN, INVALID):
            raise NotExpressible(f"a NetworkPolicy has no word for {entity}")
        return {"ipBlock": {"cidr": _prefix(far.address)}}
    selection = workloads.selection(far) if far.labels else None
    if selection is None or (far.labels.get(CLUSTER_KEY, "k8s") or need.cluster) != need.cluster:
        raise NotExpressible("a NetworkPolicy has no word for this peer")
    peer: dict[str, Any] = {"podSelector": selector(selection)}
    if far.namespace != need.namespace:
        peer["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": far.namespace}}
    return peer


def _unique(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for each in found:
        if each not in kept:
            kept.append(each)
    return kept
