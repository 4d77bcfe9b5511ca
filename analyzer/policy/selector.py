"""Selectors: what chooses identities - by labels, entity, CIDR, DNS name - and whether a peer is one of the chosen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from socket import AF_INET, inet_pton
from typing import NamedTuple

from analyzer.model.identity import WORLD, Entity, entities
from analyzer.model.inventory import Inventory, ServiceInfo
from analyzer.model.l4 import L4
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, Labels

__all__ = [
    "CidrGroupSelector",
    "CidrSelector",
    "EntitySelector",
    "FqdnSelector",
    "LabelSelector",
    "Match",
    "Operator",
    "Peer",
    "PeerSelector",
    "Requirement",
    "ServiceSelector",
    "UnknownSelector",
    "fqdn_pattern",
    "matches",
]

Network = IPv4Network | IPv6Network
Match = bool | None
"""Whether a selector chooses a peer; None when that cannot be known here."""


class Peer(NamedTuple):
    """One end of the engine's question.

    `labels` is the identity, `ip` its address (needed outside the cluster only), `names` the DNS names known for it.
    `named_ports` are the pod's declared ports, None if unknown (the inventory is asked then).
    """

    labels: Labels
    ip: str = ""
    names: tuple[str, ...] = ()
    namespace: str = ""
    named_ports: Mapping[str, L4] | None = None


class Operator(NamedTuple):
    """How a requirement treats the values of a key: `negated` ones also hold where the key is missing; `exists` ignores values."""

    name: str
    negated: bool
    exists: bool


IN, NOT_IN = Operator("In", False, False), Operator("NotIn", True, False)
EXISTS, DOES_NOT_EXIST = Operator("Exists", False, True), Operator("DoesNotExist", True, True)
OPERATORS = {each.name: each for each in (IN, NOT_IN, EXISTS, DOES_NOT_EXIST)}


class Requirement(NamedTuple):
    """One condition on labels. `source` is ``any`` for keys without a prefix."""

    source: str
    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Labels) -> bool:
        """semantics 16, 23: a missing key fulfils NotIn and DoesNotExist only."""
        for label in labels:
            if label.key == self.key and self.source in ("any", label.source):
                return (self.operator.exists or label.value in self.values) != self.operator.negated
        return self.operator.negated


def split_key(key: str) -> tuple[str, str]:
    """A selector's key as (source, key): ``k8s:app`` -> (k8s, app), ``app`` -> (any, app) (pkg/labels, `GetCiliumKeyFrom`)."""
    source, colon, rest = key.partition(":")
    return (source, rest) if colon and source else ("any", key)


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold. The empty selector chooses every identity; scoping is done by who makes it."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Labels) -> bool:
        return _matches_labels(self, labels)

    def having(self, source: str, key: str, operator: Operator, *values: str) -> LabelSelector:
        """The selector with one requirement more."""
        return LabelSelector((*self.requirements, Requirement(source, key, operator, values)))


@lru_cache(maxsize=1 << 20)
def _matches_labels(selector: LabelSelector, labels: Labels) -> bool:
    return all(requirement.holds(labels) for requirement in selector.requirements)


@dataclass(frozen=True, slots=True)
class EntitySelector:
    """An entity of a `fromEntities`/`toEntities` list."""

    entity: Entity


@dataclass(frozen=True, slots=True)
class CidrSelector:
    """Addresses in `network` and in none of `excepts`, of peers outside the cluster only (semantics 31-35)."""

    network: Network
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class CidrGroupSelector:
    """The prefixes of CIDR groups: the one named `ref`, or those whose labels `selector` chooses."""

    ref: str = ""
    selector: LabelSelector | None = None
    excepts: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class FqdnSelector:
    """Addresses that the DNS proxy learned for a name or pattern; the empty one chooses nothing."""

    name: str = ""
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class NodeSelector:
    """Nodes by their labels (`fromNodes`/`toNodes`)."""

    selector: LabelSelector


@dataclass(frozen=True, slots=True)
class ServiceSelector:
    """The endpoints of Services: of the one named, or of those whose labels `labels` chooses (in all namespaces if `namespace` is
    empty). With a selector these are pods by label; without one, addresses that only the cluster knows."""

    name: str
    namespace: str
    labels: LabelSelector | None = None


@dataclass(frozen=True, slots=True)
class UnknownSelector:
    """A kind of peer that cannot be resolved here; `reason` says why, and the decision stays undecided where it matters."""

    reason: str


PeerSelector = (
    LabelSelector
    | EntitySelector
    | CidrSelector
    | CidrGroupSelector
    | FqdnSelector
    | NodeSelector
    | ServiceSelector
    | UnknownSelector
)


@lru_cache(maxsize=65536)
def fqdn_pattern(selector: FqdnSelector) -> re.Pattern[str] | None:
    """The names a selector stands for (semantics 52; pkg/fqdn/matchpattern). None for the empty selector."""
    if selector.name:
        return re.compile(re.escape(selector.name.lower().rstrip(".")))
    pattern = selector.pattern.lower().rstrip(".")
    if not pattern:
        return None
    if pattern == "*":
        return re.compile(r"[-a-z0-9_]+(\.[-a-z0-9_]+)*|")
    if pattern.startswith("**."):
        return re.compile(r"[-a-z0-9_]+(\.[-a-z0-9_]+)*" + _star(pattern[2:]))
    return re.compile(_star(pattern))


def _star(text: str) -> str:
    return "".join(r"[-a-z0-9_]*" if c == "*" else re.escape(c) for c in text)


def is_world(labels: Labels) -> bool:
    return bool(entities(labels) & WORLD)


def matches(selector: PeerSelector, peer: Peer, inventory: Inventory) -> Match:
    """Whether `selector` chooses `peer`."""
    match selector:
        case LabelSelector():
            return _matches_labels(selector, peer.labels)
        case EntitySelector(entity):
            return _matches_entity(entity, peer, inventory)
        case CidrSelector(network, excepts):
            return _matches_cidr(network, excepts, peer, inventory)
        case CidrGroupSelector():
            return _matches_groups(selector, peer, inventory)
        case FqdnSelector():
            return _matches_fqdn(selector, peer, inventory)
        case NodeSelector(labels):
            return _is_local_node(peer.labels, inventory) and labels.matches(peer.labels)
        case ServiceSelector():
            return _matches_service(selector, peer, inventory)
        case UnknownSelector():
            return None


def _is_local_node(labels: Labels, inventory: Inventory) -> bool:
    """Remote nodes of this cluster; the local host is none of them (semantics 62)."""
    options = inventory.options
    local = options.any_cluster or labels.get(CLUSTER_KEY, "k8s") in (None, options.cluster_name)
    return local and Entity.REMOTE_NODE in entities(labels)


def _matches_entity(entity: Entity, peer: Peer, inventory: Inventory) -> bool:
    own = entities(peer.labels)
    options = inventory.options
    if entity is Entity.ALL:
        return True
    if entity is Entity.WORLD:
        return bool(own & WORLD)
    if entity in (Entity.WORLD_IPV4, Entity.WORLD_IPV6):
        return options.ipv6 and (entity in own or (Entity.WORLD in own and _family_world(peer) is entity))
    if entity in (Entity.CLUSTER, Entity.CLUSTER_MESH):
        if own:
            return Entity.KUBE_APISERVER in own or not own & WORLD
        if peer.labels.get(NAMESPACE_KEY, "k8s") is None:
            return False
        local = peer.labels.get(CLUSTER_KEY, "k8s") in (None, options.cluster_name)
        return local or entity is Entity.CLUSTER_MESH
    return entity in own


def _family_world(peer: Peer) -> Entity | None:
    if not peer.ip:
        return None
    return Entity.WORLD_IPV6 if ":" in peer.ip else Entity.WORLD_IPV4


@lru_cache(maxsize=1 << 18)
def _number(address: str) -> tuple[int, int]:
    """An address as (version, number)."""
    try:
        return 4, int.from_bytes(inet_pton(AF_INET, address))
    except OSError:
        found = ip_address(address)
    return found.version, int(found)


def _contains(network: Network, excepts: tuple[Network, ...], address: str) -> bool:
    version, number = _number(address)
    return _covers(network, version, number) and not any(_covers(each, version, number) for each in excepts)


def _covers(network: Network, version: int, number: int) -> bool:
    # The same as asking ipaddress, which makes an object for every question.
    return network.version == version and number & int(network.netmask) == int(network.network_address)


def _matches_cidr(network: Network, excepts: tuple[Network, ...], peer: Peer, inventory: Inventory) -> bool:
    own, options = entities(peer.labels), inventory.options
    node = options.cidr_match_nodes and bool(own & {Entity.REMOTE_NODE, Entity.HOST})
    if not (own & WORLD or node):
        return False
    if network.version == 6 and not options.ipv6:
        return False
    if peer.ip:
        return _contains(network, excepts, peer.ip)
    # The world as such: only a prefix that covers everything of its family.
    if network.prefixlen or any(each.version == network.version and not each.prefixlen for each in excepts):
        return False
    if Entity.WORLD in own:
        return network.version == 4 or not options.ipv4
    return (Entity.WORLD_IPV6 if network.version == 6 else Entity.WORLD_IPV4) in own


def _matches_groups(selector: CidrGroupSelector, peer: Peer, inventory: Inventory) -> Match:
    """A group that is missing among others chooses nothing; without any group here nobody knows what it holds (semantics 60)."""
    if not inventory.cidr_groups:
        return None if _matches_cidr(_EVERYTHING[":" in peer.ip], selector.excepts, peer, inventory) else False
    for group in inventory.cidr_groups:
        labels = Labels.of(f"cidrgroup:{key}={value}" for key, value in group.labels.items())
        chosen = group.name == selector.ref if selector.selector is None else selector.selector.matches(labels)
        if chosen and any(
            _matches_cidr(network, selector.excepts, peer, inventory) for network in networks(group.cidrs)
        ):
            return True
    return False


_EVERYTHING = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))


def _matches_service(selector: ServiceSelector, peer: Peer, inventory: Inventory) -> Match:
    """A Service with a selector stands for these pods in its namespace, one without for addresses that only the cluster knows
    (semantics 61; pkg/policy/k8s/service.go). Where no Service is chosen, the inventory may just not hold it."""
    chosen = [service for service in inventory.services if _is_chosen(service, selector)]
    if any(_serves(service, peer.labels) for service in chosen):
        return True
    addresses = any(not service.selector for service in chosen) and is_world(peer.labels)
    return None if addresses or not chosen else False


def _is_chosen(service: ServiceInfo, selector: ServiceSelector) -> bool:
    if selector.namespace not in ("", service.namespace):
        return False
    if selector.labels is None:
        return service.name == selector.name
    return selector.labels.matches(Labels.of(f"k8s:{key}={value}" for key, value in service.labels.items()))


def _serves(service: ServiceInfo, labels: Labels) -> bool:
    wanted = {NAMESPACE_KEY: service.namespace, **service.selector}
    return bool(service.selector) and all(labels.get(key, "k8s") == value for key, value in wanted.items())


@lru_cache(maxsize=1024)
def networks(cidrs: tuple[str, ...]) -> tuple[Network, ...]:
    found = []
    for cidr in cidrs:
        try:
            found.append(ip_network(cidr, strict=False))
        except ValueError:
            continue
    return tuple(found)


def _matches_fqdn(selector: FqdnSelector, peer: Peer, inventory: Inventory) -> bool:
    """Learned addresses only, and never those of pods (semantics 51-53)."""
    pattern = fqdn_pattern(selector)
    if pattern is None or not is_world(peer.labels):
        return False
    if any(pattern.fullmatch(name.lower().rstrip(".")) for name in peer.names):
        return True
    return bool(peer.ip) and any(
        peer.ip in addresses and pattern.fullmatch(name.lower().rstrip("."))
        for name, addresses in inventory.names.items()
    )
