"""Cover: which rules make another one idle, told from the rules alone - whatever it speaks of, the other speaks of too.

What is found is certain; what is not found may still be so, since selectors that are written differently are not compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from analyzer.model.identity import Entity
from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import Protocol
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY
from analyzer.policy.model import Action, Item, Origin, Policy, PortSpec, Rule, Section
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    PeerSelector,
    Requirement,
    fqdn_pattern,
)

__all__ = ["Shadow", "items_of", "shadows"]


class Shadow(NamedTuple):
    """`by` covers all that a rule covers. `denied`: it denies what the rule allows. `unfiltered`: the rule has L7 rules and `by`
    has none, so that every request passes."""

    by: Origin
    denied: bool = False
    unfiltered: bool = False


class _Listed(NamedTuple):
    place: int
    origin: Origin
    rule: Rule
    items: tuple[Item, ...]


def items_of(policy: Policy) -> Iterator[tuple[Origin, Rule, tuple[Item, ...]]]:
    """Every rule of a policy by its origin, with the items that it became."""
    for rule in policy.rules:
        found: dict[tuple[Section, int], list[Item]] = defaultdict(list)
        for item in rule.items:
            found[item.section, item.index].append(item)
        for (section, index), items in found.items():
            yield Origin(*policy.ref, rule.spec, section.value, index), rule, tuple(items)


def shadows(policies: Iterable[Policy], options: AgentOptions = AgentOptions()) -> Mapping[Origin, Shadow]:
    """The rules that do nothing beside another one. Of two that say the same, the later one in canonical order is named."""
    kept = {policy.ref: policy for policy in policies}
    everything = [each for _, policy in sorted(kept.items()) for each in items_of(policy)]
    listed = [_Listed(place, *each) for place, each in enumerate(everything)]
    index = _Index(listed)
    found = {}
    for one in listed:
        if all(item.peers == () or item.ports == () for item in one.items):
            continue
        best = min(
            (shadow for other in index.wider(one) if (shadow := _shadow(one, other, options)) is not None),
            key=lambda shadow: (not shadow.denied, shadow.unfiltered, shadow.by),
            default=None,
        )
        if best is not None:
            found[one.origin] = best
    return found


class _Index:
    """Rules by the rarest requirement on their subject: a rule with a wider subject has no requirement that the other lacks."""

    def __init__(self, listed: Iterable[_Listed]) -> None:
        all_of_them = list(listed)
        counts: dict[Requirement, int] = defaultdict(int)
        for each in all_of_them:
            for requirement in each.rule.subject.requirements:
                counts[requirement] += 1
        self._by: dict[Requirement | None, list[_Listed]] = defaultdict(list)
        for each in all_of_them:
            self._by[min(each.rule.subject.requirements, key=lambda x: counts[x], default=None)].append(each)

    def wider(self, one: _Listed) -> Iterator[_Listed]:
        """The other rules for all that `one` is for, in the same direction."""
        own = set(one.rule.subject.requirements)
        for requirement in (None, *one.rule.subject.requirements):
            for other in self._by.get(requirement, ()):
                if (
                    other.place != one.place
                    and other.rule.host == one.rule.host
                    and other.items[0].section.is_ingress == one.items[0].section.is_ingress
                    and own.issuperset(other.rule.subject.requirements)
                ):
                    yield other


def _shadow(one: _Listed, other: _Listed, options: AgentOptions) -> Shadow | None:
    denies, denied = (each.items[0].section.action is Action.DENY for each in (one, other))
    if denies and not denied:
        return None
    if not all(_covered(item, other.items, options) for item in one.items):
        return None
    unfiltered = not denied and any(item.l7 for item in one.items) and not any(item.l7 for item in other.items)
    twins = denied == denies and other.rule.subject == one.rule.subject and not unfiltered
    if twins and other.place > one.place and all(_covered(item, one.items, options) for item in other.items):
        return None
    return Shadow(other.origin, denied and not denies, unfiltered)


def _covered(item: Item, others: Iterable[Item], options: AgentOptions) -> bool:
    """Whether each peer with each port of `item` is in one of the others."""
    wider = [each for each in others if each.l7 is None or each.l7 == item.l7]
    peers: Iterable[PeerSelector | None] = (None,) if item.peers is None else item.peers
    ports: Iterable[tuple[Protocol, PortSpec] | None] = (
        (None,) if item.ports is None else [(protocol, spec) for spec in item.ports for protocol in spec.protocols]
    )
    return all(
        any(_has_peer(each, peer, options) and _has_port(each, port) for each in wider)
        for peer in peers
        for port in ports
    )


def _has_port(item: Item, port: tuple[Protocol, PortSpec] | None) -> bool:
    if item.ports is None:
        return True
    if port is None:
        return False
    protocol, spec = port
    for each in item.ports:
        if protocol not in each.protocols or each.name not in ("", spec.name):
            continue
        if spec.name and (each.name or (each.first, each.last) == _EVERY_PORT):
            if not each.name or each.last >= spec.last:
                return True
        elif not spec.name and each.first <= spec.first and spec.last <= each.last:
            return True
    return False


_EVERY_PORT = (0, 65535)


def _has_peer(item: Item, peer: PeerSelector | None, options: AgentOptions) -> bool:
    if item.peers is None or EntitySelector(Entity.ALL) in item.peers:
        return True
    return peer is not None and any(each == peer or _wider(each, peer, options) for each in item.peers)


def _wider(wide: PeerSelector, narrow: PeerSelector, options: AgentOptions) -> bool:
    match wide, narrow:
        case LabelSelector(few), LabelSelector(many):
            return set(few) <= set(many)
        case EntitySelector(entity), _:
            return _in_entity(entity, narrow, options)
        case CidrSelector(network, holes), CidrSelector(inner, inner_holes):
            return (
                network.version == inner.version
                and inner.subnet_of(network)  # type: ignore[arg-type]
                and all(
                    hole.version != inner.version
                    or not hole.overlaps(inner)
                    or any(hole.version == each.version and hole.subnet_of(each) for each in inner_holes)  # type: ignore[arg-type]
                    for hole in holes
                )
            )
        case FqdnSelector(), FqdnSelector(name, _) if name:
            pattern = fqdn_pattern(wide)
            return pattern is not None and bool(pattern.fullmatch(name))
        case _:
            return False


def _in_entity(entity: Entity, narrow: PeerSelector, options: AgentOptions) -> bool:
    """Whether all that `narrow` chooses is part of the entity."""
    match narrow:
        case CidrSelector() | CidrGroupSelector():
            return entity is Entity.WORLD and not options.cidr_match_nodes
        case FqdnSelector():
            return entity is Entity.WORLD
        case EntitySelector(inner):
            return inner in _PARTS.get(entity, ())
        case LabelSelector(requirements):
            have = {each.key for each in requirements if each.source == "k8s" and not each.operator.negated}
            if entity is Entity.CLUSTER_MESH:
                return NAMESPACE_KEY in have
            here = any(
                each.source == "k8s" and each.key == CLUSTER_KEY and each.values == (options.cluster_name,)
                for each in requirements
                if not each.operator.negated
            )
            return entity is Entity.CLUSTER and NAMESPACE_KEY in have and here
        case _:
            return False


_CLUSTER = (
    Entity.HOST, Entity.REMOTE_NODE, Entity.KUBE_APISERVER, Entity.HEALTH, Entity.INIT, Entity.INGRESS, Entity.UNMANAGED,
)  # fmt: skip
_PARTS = {
    Entity.WORLD: (Entity.WORLD_IPV4, Entity.WORLD_IPV6),
    Entity.CLUSTER: _CLUSTER,
    Entity.CLUSTER_MESH: (*_CLUSTER, Entity.CLUSTER),
}
