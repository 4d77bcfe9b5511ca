"""Near misses: allow rules that would have allowed an edge, but for its port, its peer, or the workload they are about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from analyzer.model.edge import Edge, Side
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.policy import Origin, Policy, PolicyRef, compile_policies
from analyzer.policy.model import Action, Item, Rule
from analyzer.policy.selector import LabelSelector, Requirement
from analyzer.policy.words import labels_in_words, peers_in_words, ports_in_words, requirement_in_words
from analyzer.simulate import Result, Simulation, peer_of

__all__ = ["Miss", "near_misses", "other_subjects"]


class Miss(NamedTuple):
    """A rule that almost allows it, and what is missing, in words."""

    origin: Origin
    words: str


class _Part(NamedTuple):
    """One item of a rule, and which half of it covers the edge."""

    ref: PolicyRef
    rule: Rule
    item: Item
    peer: bool
    port: bool


def near_misses(
    rules: Iterable[tuple[PolicyRef, Rule]], edge: Edge, side: Side, inventory: Inventory
) -> tuple[Miss, ...]:
    """The allow rules among `rules` (those that select this side) of which one half covers the edge, the nearest first."""
    found = []
    for part in _parts(rules, edge, side, inventory):
        if part.peer == part.port:
            continue
        labels = peer_of(edge.destination if side is Side.SOURCE else edge.source, (), inventory).labels
        distance, words = (0, _port_words(part)) if part.peer else _peer_words(part, edge, labels)
        found.append((distance, Miss(_origin(part), words)))
    return tuple(dict.fromkeys(miss for _, miss in sorted(found)))


def _parts(rules: Iterable[tuple[PolicyRef, Rule]], edge: Edge, side: Side, inventory: Inventory) -> Iterable[_Part]:
    ingress = side is Side.DESTINATION
    for ref, rule in rules:
        for item in rule.items:
            if item.section.is_ingress != ingress or item.section.action is not Action.ALLOW or item.peers == ():
                continue
            # The engine itself is asked about either half: with the other one left open.
            port = _allows(ref, rule, replace(item, peers=None), edge, side, inventory)
            peer = _allows(ref, rule, replace(item, ports=None, l7=None), edge, side, inventory)
            yield _Part(ref, rule, item, peer, port)


def _allows(ref: PolicyRef, rule: Rule, item: Item, edge: Edge, side: Side, inventory: Inventory) -> bool:
    only = Policy(ref, (replace(rule, items=(item,), deny_ingress=True, deny_egress=True),))
    simulation = Simulation(compile_policies([only], inventory), inventory)
    return simulation.side(edge, side).result is Result.ALLOWED


def _origin(part: _Part) -> Origin:
    return Origin(*part.ref, part.rule.spec, part.item.section.value, part.item.index)


def _port_words(part: _Part) -> str:
    return f"allows this peer, but only on {ports_in_words(part.item.ports)}"


def _peer_words(part: _Part, edge: Edge, labels: Labels) -> tuple[int, str]:
    """How far the closest of its peers is from the one asked about, and what it lacks."""
    word = "from" if part.item.section.is_ingress else "to"
    port = f"{edge.l4}" if part.item.ports is not None else "every port"
    best: tuple[int, str] | None = None
    for peer in part.item.peers or ():
        if isinstance(peer, LabelSelector):
            failing = [requirement for requirement in peer.requirements if not requirement.holds(labels)]
            if failing and len(failing) < len(peer.requirements):
                words = " and ".join(_lacking(requirement, labels) for requirement in failing)
                best = min(best or (99, ""), (len(failing), words))
    if best is None:
        return 100, f"allows {port}, but only {word} {peers_in_words(part.item.peers)}"
    return best[0], f"allows {port}, but not {word} this peer: {best[1]}"


def _lacking(requirement: Requirement, labels: Labels) -> str:
    source = "" if requirement.source == "any" else requirement.source
    value = labels.get(requirement.key, source)
    return f"it asks for {requirement_in_words(requirement)}, and the peer has {'none' if value is None else value}"


def other_subjects(
    rules: Iterable[tuple[PolicyRef, Rule]], selecting: Iterable[tuple[PolicyRef, Rule]], edge: Edge, side: Side,
    inventory: Inventory,
) -> tuple[Miss, ...]:  # fmt: skip
    """The allow rules that cover the edge but are about another workload, which differs in one label only."""
    labels = peer_of(edge.source if side is Side.SOURCE else edge.destination, (), inventory).labels
    known = {(ref, rule.spec) for ref, rule in selecting}
    found = []
    for ref, rule in rules:
        failing = [each for each in rule.subject.requirements if not each.holds(labels)]
        if (ref, rule.spec) in known or len(failing) != 1 or len(rule.subject.requirements) < 2:
            continue
        everyone = replace(rule, subject=LabelSelector())
        for part in _parts([(ref, everyone)], edge, side, inventory):
            if part.peer and part.port:
                words = f"would allow it, but is about {labels_in_words(rule.subject)}, not about this workload"
                found.append(Miss(_origin(part), words))
    return tuple(dict.fromkeys(found))
