"""Kubernetes NetworkPolicy as Cilium reads it (pkg/k8s/network_policy.go, `ParseNetworkPolicy`; docs/semantics.md 55-57)."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import Protocol
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.policy.checks import is_port_name, parse_protocol
from analyzer.policy.document import Node
from analyzer.policy.model import Item, PortSpec, Rule, Section
from analyzer.policy.parse_selectors import kubernetes_peer, label_selector
from analyzer.policy.selector import IN, CidrSelector, PeerSelector, networks

__all__ = ["parse_kubernetes"]

_TCP = (Protocol.TCP,)


def parse_kubernetes(node: Node, namespace: str, options: AgentOptions) -> Rule:
    """The one rule that a NetworkPolicy makes. Raises PolicyError for wrong types only: Cilium does not sanitise these."""
    spec = node.node("spec") or Node({}, "spec")
    selector = label_selector(spec.node("podSelector") or Node({}, "spec.podSelector"), source="k8s")
    types = [text for text, _ in spec.texts("policyTypes")]
    items: list[Item] = []
    isolated = {}
    for section, word, assumed in ((Section.INGRESS, "Ingress", not types), (Section.EGRESS, "Egress", False)):
        rules = list(spec.nodes(section))
        isolated[section] = bool(rules) or word in types or assumed
        for index, rule in enumerate(rules):
            items.extend(_items(rule, section, index, namespace, options))
    return Rule(
        0,
        selector.having("k8s", NAMESPACE_KEY, IN, namespace),
        tuple(items),
        isolated[Section.INGRESS],
        isolated[Section.EGRESS],
    )


def _items(rule: Node, section: Section, index: int, namespace: str, options: AgentOptions) -> Iterator[Item]:
    listed = list(rule.nodes("from" if section.is_ingress else "to"))
    peers = tuple(peer for node in listed if (peer := _peer(node, namespace, options)) is not None)
    ports = [_port(node) for node in rule.nodes("ports")]
    yield Item(section, index, peers if listed else None, tuple(p for p in ports if p) if ports else None)


def _peer(node: Node, namespace: str, options: AgentOptions) -> PeerSelector | None:
    pods, namespaces, block = node.node("podSelector"), node.node("namespaceSelector"), node.node("ipBlock")
    if pods is not None or namespaces is not None:
        return kubernetes_peer(
            pods.body if pods else None, namespaces.body if namespaces else None, node.path, namespace, options
        )
    if block is not None:
        found = networks((block.text("cidr"),))
        excepts = networks(tuple(text for text, _ in block.texts("except")))
        return CidrSelector(found[0], excepts) if found else None
    return None


def _port(node: Node) -> PortSpec | None:
    protocols = _protocols(node)
    port, end = node.get("port"), node.get("endPort")
    if port is None:
        return PortSpec(protocols)
    if isinstance(port, str):
        if port.isascii() and port.isdigit():
            port = int(port)
        elif is_port_name(port):
            return PortSpec(protocols, 0, end if isinstance(end, int) and 0 < end <= 65535 else 0, port.lower())
        else:
            return None
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise PolicyError("must be a port number or name", field=node.at("port"))
    if port == 0:
        return PortSpec(protocols)
    last = end if isinstance(end, int) and port < end <= 65535 else port
    return PortSpec(protocols, port, last)


def _protocols(node: Node) -> tuple[Protocol, ...]:
    try:
        return parse_protocol(node.text("protocol")) if node.has("protocol") else _TCP
    except ValueError as error:
        raise node.fail(str(error), "protocol") from None
