"""The document of a Kubernetes NetworkPolicy, from the one rule that Cilium makes of it."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import Protocol
from analyzer.model.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX
from analyzer.policy.checks import is_label_key
from analyzer.policy.model import Item, PortSpec, Rule, Section
from analyzer.policy.parse_selectors import in_cluster
from analyzer.policy.selector import EXISTS, IN, CidrSelector, LabelSelector, PeerSelector, Requirement
from analyzer.policy.unparse_selectors import in_own_namespace, protocol_word, written

__all__ = ["unparse_kubernetes"]

Doc = dict[str, Any]
_NO_PEER: Doc = {}
_NO_PORT: Doc = {"port": "-"}
"""What the API server would refuse, and Cilium reads as nothing chosen: only such documents have it."""


def unparse_kubernetes(rule: Rule, namespace: str, options: AgentOptions) -> Doc:
    """The ``spec``, with `policyTypes` always spelled out."""
    types = [word for word, on in (("Ingress", rule.deny_ingress), ("Egress", rule.deny_egress)) if on]
    found: Doc = {
        "podSelector": written(in_own_namespace(rule.subject, namespace), source="k8s"),
        "policyTypes": types or [""],
    }
    for section, items in groupby(rule.items, key=lambda item: item.section):
        found[section.value] = [_item(item, section, namespace, options) for item in items]
    return found


def _item(item: Item, section: Section, namespace: str, options: AgentOptions) -> Doc:
    found: Doc = {}
    if item.peers is not None:
        listed = [_peer(each, namespace, options) for each in item.peers]
        found["from" if section.is_ingress else "to"] = listed or [_NO_PEER]
    if item.ports is not None:
        found["ports"] = [_port(each) for each in item.ports] or [_NO_PORT]
    return found


def _peer(peer: PeerSelector, namespace: str, options: AgentOptions) -> Doc:
    if isinstance(peer, CidrSelector):
        block: Doc = {"cidr": str(peer.network)}
        return {"ipBlock": {**block, "except": [str(each) for each in peer.excepts]} if peer.excepts else block}
    assert isinstance(peer, LabelSelector)
    pods = _outside_cluster(peer, options)
    if pods[-1:] == (Requirement("k8s", NAMESPACE_KEY, IN, (namespace,)),):
        return {"podSelector": written(LabelSelector(pods[:-1]), source="k8s")}
    if pods[-1:] == (Requirement("k8s", NAMESPACE_KEY, EXISTS),):
        pods, spaces = pods[:-1], LabelSelector()
    else:
        pods, spaces = _of_namespaces(pods)
    found = {"namespaceSelector": written(spaces, source="k8s")}
    return {**found, "podSelector": written(LabelSelector(pods), source="k8s")} if pods else found


def _outside_cluster(peer: LabelSelector, options: AgentOptions) -> tuple[Requirement, ...]:
    """The requirements without the cluster's, as far as parsing adds it again."""
    shorter = LabelSelector(peer.requirements[:-1])
    return shorter.requirements if in_cluster(shorter, options) == peer else peer.requirements


def _of_namespaces(requirements: tuple[Requirement, ...]) -> tuple[tuple[Requirement, ...], LabelSelector]:
    """The requirements on pods, and those at the end that a namespaceSelector became."""
    start = len(requirements)
    while start and _namespace_key(requirements[start - 1]):
        start -= 1
    moved = tuple(each._replace(key=_namespace_key(each)) for each in requirements[start:])
    return requirements[:start], LabelSelector(moved)


def _namespace_key(requirement: Requirement) -> str:
    key = requirement.key.removeprefix(NAMESPACE_LABEL_PREFIX)
    return key if key != requirement.key and is_label_key(key) else ""


def _port(spec: PortSpec) -> Doc:
    found: Doc = {} if spec.protocols == (Protocol.TCP,) else {"protocol": protocol_word(spec.protocols)}
    if spec.name:
        return {**found, "port": spec.name, **({"endPort": spec.last} if spec.last else {})}
    if not spec.first:
        return found
    return {**found, "port": spec.first, **({"endPort": spec.last} if spec.last != spec.first else {})}
