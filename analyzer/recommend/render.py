"""Policy drafts as Kubernetes documents: CiliumNetworkPolicy values with their evidence in a comment."""

from __future__ import annotations

from typing import Any

from analyzer.manifests import Document
from analyzer.model.flow import Direction
from analyzer.model.l4 import ICMP_FAMILY, L4
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY
from analyzer.recommend.draft import (
    CidrPeer,
    EndpointPeer,
    EntityPeer,
    HttpMatch,
    NamePeer,
    Peer,
    PolicyDraft,
    Purpose,
    RuleDraft,
    Selection,
    Span,
)
from analyzer.recommend.evidence import marked, summary

__all__ = ["MANAGED_BY", "manifest", "policy", "rule_value", "selector", "visibility_manifest"]

MANAGED_BY = {"app.kubernetes.io/managed-by": "hubble-analyzer"}

_SECTIONS = ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to"))
_FIELDS = {EndpointPeer: "Endpoints", EntityPeer: "Entities", CidrPeer: "CIDR", NamePeer: "FQDNs"}


def policy(draft: PolicyDraft) -> dict[str, Any]:
    """The CiliumNetworkPolicy as plain values. A direction without rules has no section: it stays as it is."""
    spec: dict[str, Any] = {"endpointSelector": selector(draft.subject.selection)}
    for direction, section, word in _SECTIONS:
        rules = draft.section(direction)
        if rules:
            spec[section] = [rule_value(rule, word) for rule in rules]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": draft.name, "namespace": draft.subject.key.namespace, "labels": dict(MANAGED_BY)},
        "spec": spec,
    }


def manifest(draft: PolicyDraft) -> Document:
    """The policy as a document, with its path and a summary of its evidence."""
    return Document(policy(draft), draft.path, header=marked(summary(draft)))


def visibility_manifest(draft: PolicyDraft) -> Document:
    """The policy that shows names and requests, as a document. It closes no direction, whatever else is applied."""
    made = policy(draft)
    made["spec"] = {"enableDefaultDeny": {"ingress": False, "egress": False}, **made["spec"]}
    return Document(made, draft.path, header=marked(_VISIBILITY))


_VISIBILITY = (
    "Shows DNS names, and HTTP requests where that was asked for, by way of the L7 proxy; it denies nothing.",
    "Apply it for as long as flows are recorded, and take it away afterwards.",
)


def rule_value(rule: RuleDraft, word: str) -> dict[str, Any]:
    """One item of a section; `word` is ``from`` or ``to``."""
    found: dict[str, Any] = {word + _FIELDS[type(rule.peers[0])]: [_peer(peer) for peer in rule.peers]}
    if not rule.ports:
        return found
    if rule.ports[0].protocol.is_icmp:
        found["icmps"] = [{"fields": [{"family": ICMP_FAMILY[l4.protocol], "type": l4.port} for l4 in rule.ports]}]
        return found
    names: dict[L4 | Span, str] = dict(rule.names)
    ports: dict[str, Any] = {"ports": [_port(l4, names.get(l4)) for l4 in rule.ports]}
    if rule.http:
        ports["rules"] = {"http": [_request(each) for each in rule.http]}
    elif rule.purpose is Purpose.DNS_NAMES:
        ports["rules"] = {"dns": [_name(each) for each in rule.lookups or ("*",)]}
    found["toPorts"] = [ports]
    return found


def _port(l4: L4 | Span, name: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"port": name or str(l4.port), "protocol": str(l4.protocol)}
    return {**found, "endPort": l4.last} if isinstance(l4, Span) else found


def _peer(peer: Peer) -> Any:
    match peer:
        case EndpointPeer(subject=subject, selection=selection, cluster=cluster):
            scope = {f"k8s:{NAMESPACE_KEY}": subject.namespace}
            if cluster:
                scope[f"k8s:{CLUSTER_KEY}"] = cluster
            return selector(selection, scope)
        case EntityPeer(entity=entity):
            return entity.value
        case NamePeer(name=name):
            return _name(name)
        case CidrPeer(cidr=cidr):
            return cidr


def _name(name: str) -> dict[str, str]:
    return {"matchPattern" if "*" in name else "matchName": name}


def _request(match: HttpMatch) -> dict[str, str]:
    return {key: value for key, value in match._asdict().items() if value}


def selector(selection: Selection, scope: dict[str, str] | None = None) -> dict[str, Any]:
    """The selection as a selector; `scope` are labels that are asked for besides."""
    found: dict[str, Any] = {"matchLabels": {**(scope or {}), **dict(selection.labels)}}
    if selection.absent:
        found["matchExpressions"] = [{"key": key, "operator": "DoesNotExist"} for key in selection.absent]
    return found
