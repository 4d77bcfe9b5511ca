"""parse: a policy document of any dialect to a Policy, or a PolicyError where the agent would refuse it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from analyzer.errors import PolicyError
from analyzer.model.identity import Entity
from analyzer.model.inventory import AgentOptions
from analyzer.policy.checks import parse_network
from analyzer.policy.document import Node
from analyzer.policy.kubernetes import parse_kubernetes
from analyzer.policy.model import Action, Item, Policy, PolicyRef, Rule, Section
from analyzer.policy.parse_ports import icmp_rules, names_of, port_rules
from analyzer.policy.parse_selectors import Scope, label_selector, scoped, subject_selector
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    NodeSelector,
    PeerSelector,
    Requirement,
    ServiceSelector,
    UnknownSelector,
    networks,
)

__all__ = ["KINDS", "parse"]

CNP, CCNP, KNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"
KINDS = (CNP, CCNP, KNP)
_ENTITIES = {entity.value: entity for entity in Entity}


def parse(document: Mapping[str, Any], options: AgentOptions = AgentOptions()) -> Policy:
    """Read a CiliumNetworkPolicy, a CiliumClusterwideNetworkPolicy or a Kubernetes NetworkPolicy.

    Raises PolicyError where the agent refuses the object (docs/semantics.md, part 11): one bad rule refuses all of it.
    Fields that nobody knows are passed over, as the API server prunes them.
    """
    try:
        return _parse(Node(document), options)
    except RecursionError:
        raise PolicyError("nested too deeply") from None


def _parse(node: Node, options: AgentOptions) -> Policy:
    kind = node.text("kind")
    if kind not in KINDS:
        raise node.fail(f"must be one of {', '.join(KINDS)}", "kind")
    meta = node.node("metadata") or Node({}, "metadata")
    namespace = "" if kind == CCNP else meta.text("namespace") or "default"
    ref = PolicyRef(kind, namespace, meta.text("name"))
    if kind == KNP:
        return Policy(ref, (parse_kubernetes(node, namespace, options),))
    if not ref.name:
        raise meta.fail("a policy must have a name", "name")
    specs = [(0, spec) for spec in [node.node("spec")] if spec is not None]
    specs += [(number + 1, spec) for number, spec in enumerate(node.nodes("specs"))]
    if not specs:
        raise node.fail("neither spec nor specs", "spec")
    return Policy(ref, tuple(_rule(spec, number, namespace, options) for number, spec in specs))


def _rule(spec: Node, number: int, namespace: str, options: AgentOptions) -> Rule:
    host = spec.has("nodeSelector")
    if host == spec.has("endpointSelector"):
        raise spec.fail(f"{'both' if host else 'neither'} of endpointSelector and nodeSelector")
    if host and namespace:
        raise spec.fail("a CiliumNetworkPolicy cannot select nodes", "nodeSelector")
    written = spec.node("nodeSelector" if host else "endpointSelector")
    assert written is not None
    selector = label_selector(written)
    scope = Scope(namespace, options, init_subject=_names_init(selector))
    listed = {section: list(spec.nodes(section)) for section in Section}
    if not any(listed.values()):
        raise spec.fail("no item in any of ingress, ingressDeny, egress, egressDeny")
    items = tuple(
        item
        for section, nodes in listed.items()
        for index, node in enumerate(nodes)
        for item in _items(node, section, index, scope, host)
    )
    wanted = spec.node("enableDefaultDeny") or Node({}, spec.at("enableDefaultDeny"))
    has = {side: bool(listed[Section(side)] or listed[Section(f"{side}Deny")]) for side in ("ingress", "egress")}
    deny = {side: has[side] if (asked := wanted.boolean(side)) is None else asked and has[side] for side in has}
    subject = selector if host or not namespace else subject_selector(written, namespace)
    return Rule(number, subject, items, deny["ingress"], deny["egress"], host)


def _names_init(selector: LabelSelector) -> bool:
    return any(each.source == "reserved" and each.key == Entity.INIT for each in selector.requirements)


def _items(node: Node, section: Section, index: int, scope: Scope, host: bool) -> Iterator[Item]:
    ingress, deny = section.is_ingress, section.action is Action.DENY
    peers = _peers(node, ingress=ingress, deny=deny, scope=scope)
    icmps = icmp_rules(node)
    ports = port_rules(node, scope.options, ingress=ingress, deny=deny, host=host)
    if icmps is not None:
        ports = [(icmps, None)]
    # Without peers and without ports an item chooses nothing: it only turns on default deny (semantics 3, 27).
    empty = peers is None and ports == [(None, None)]
    for specs, l7 in ports:
        yield Item(section, index, () if empty else peers, specs, l7)


def _peers(item: Node, *, ingress: bool, deny: bool, scope: Scope) -> tuple[PeerSelector, ...] | None:
    prefix = "from" if ingress else "to"
    found: dict[str, tuple[PeerSelector, ...]] = {}
    for name, read in _PEERS.items():
        field = f"{prefix}{name}"
        if (name in _NOT_IN_DENY and deny) or (ingress and name in _EGRESS_ONLY):
            continue
        if item.list(field) is None:
            continue
        made = tuple(read(item, field, scope))
        # semantics 28: an empty list of these counts as absent, of the others as nothing chosen.
        if made or name not in _EMPTY_IS_ABSENT:
            found[field] = made
    if item.list(f"{prefix}Requires"):
        raise item.fail(f"{prefix}Requires is gone since Cilium 1.19", f"{prefix}Requires")
    filled = [field for field, made in found.items() if made]
    if len(filled) > 1:
        raise item.fail(f"{filled[0]} and {filled[1]} cannot be combined in one rule")
    if not found:
        return None
    return () if len(found) > len(filled) else found[filled[0]]


def _endpoints(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for node in item.nodes(field):
        yield scoped(label_selector(node), scope)


def _entities(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for text, path in item.texts(field):
        if text not in _ENTITIES:
            raise PolicyError(f"unsupported entity {text[:80]!r}", field=path)
        yield EntitySelector(_ENTITIES[text])


def _cidrs(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for text, path in item.texts(field):
        yield CidrSelector(_network(text, path))


def _network(text: str, path: str) -> IPv4Network | IPv6Network:
    try:
        return parse_network(text)
    except ValueError as error:
        raise PolicyError(str(error), field=path) from None


def _cidr_sets(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for node in item.nodes(field):
        cidr, ref = node.text("cidr"), node.text("cidrGroupRef")
        labels = node.node("cidrGroupSelector")
        if sum((bool(cidr), bool(ref), labels is not None)) != 1:
            raise node.fail("exactly one of cidr, cidrGroupRef and cidrGroupSelector must be set")
        if not cidr:
            # Beside a group the agent does not look at them (semantics 67); what it cannot read makes no hole.
            selector = None if labels is None else _group_selector(labels)
            yield CidrGroupSelector(ref, selector, networks(tuple(text for text, _ in node.texts("except"))))
            continue
        excepts = tuple(_network(text, path) for text, path in node.texts("except"))
        network = _network(cidr, node.at("cidr"))
        for each in excepts:
            if each.version != network.version or not each.subnet_of(network):  # type: ignore[arg-type]
                raise node.fail(f"{network} does not contain {each}", "except")
        yield CidrSelector(network, excepts)


def _group_selector(node: Node) -> LabelSelector:
    return LabelSelector(
        tuple(
            Requirement("cidrgroup" if each.source == "any" else each.source, each.key, each.operator, each.values)
            for each in label_selector(node).requirements
        )
    )


def _fqdns(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for node in item.nodes(field):
        yield FqdnSelector(*names_of(node))


def _services(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for node in item.nodes(field):
        named, chosen = node.node("k8sService"), node.node("k8sServiceSelector")
        if named is not None:
            yield ServiceSelector(named.text("serviceName"), named.text("namespace") or scope.namespace)
        elif chosen is not None:
            selector = label_selector(chosen.node("selector") or Node({}, chosen.path), source="k8s")
            yield ServiceSelector("", chosen.text("namespace"), selector)


def _nodes(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    if item.list(field) and not scope.options.node_selector_labels:
        raise item.fail("nodes cannot be selected by label: the agent's node labels are off", field)
    for node in item.nodes(field):
        yield NodeSelector(label_selector(node))


def _groups(item: Node, field: str, scope: Scope) -> Iterator[PeerSelector]:
    for _ in item.nodes(field):
        yield UnknownSelector("cloud provider groups are resolved by the Cilium operator only")


_PEERS: dict[str, Callable[[Node, str, Scope], Iterator[PeerSelector]]] = {
    "Endpoints": _endpoints,
    "Entities": _entities,
    "CIDR": _cidrs,
    "CIDRSet": _cidr_sets,
    "FQDNs": _fqdns,
    "Services": _services,
    "Nodes": _nodes,
    "Groups": _groups,
}
_EGRESS_ONLY = frozenset({"FQDNs", "Services"})
_NOT_IN_DENY = frozenset({"FQDNs"})
_EMPTY_IS_ABSENT = frozenset({"FQDNs", "Services", "Groups"})
