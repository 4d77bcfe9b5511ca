"""Checking documents with the engine: what they would break of the traffic that was seen, and which rules it does not need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import Any

from analyzer.errors import PolicyError
from analyzer.model.edge import Edge, Side
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.perspective import home_cluster
from analyzer.policy import Origin, Policy, SideDecision, Traffic, compile_policies, parse
from analyzer.policy.model import Section
from analyzer.policy.validate import Refusal, validate
from analyzer.policy.validate_schema import schema_refusals
from analyzer.simulate import Result, SideOutcome, Simulation, peer_of
from analyzer.verify.half_open import Halves, Refused
from analyzer.verify.result import Check, Unsound

__all__ = ["SIDES", "check", "check_ends", "validated"]

SIDES = (("egress", Side.SOURCE), ("ingress", Side.DESTINATION))
_NOTHING: Refused = MappingProxyType({})
_DNS_PORTS = frozenset({L4(Protocol.UDP, 53), L4(Protocol.TCP, 53)})


def check(
    edges: Sequence[Edge],
    documents: Iterable[Mapping[str, Any]],
    inventory: Inventory,
    refused: Refused = _NOTHING,
    platform: frozenset[Origin] | None = None,
    existing: Sequence[Policy] = (),
) -> Check:
    """Whether `documents` are sound and minimal for the accepted ones among `edges`, as the cluster of `inventory` would see it.

    `platform` are rules that need no evidence; without them, these are the rules on port 53 alone. `existing` policies are in
    force too, and are not judged. Documents that the schema or the agent would refuse take no part, and are named.
    """
    halves = Halves(refused)
    made = check_ends(edges, documents, inventory, halves, refused, platform, existing)
    return made + Check(half_open=halves.found())


def check_ends(
    edges: Sequence[Edge],
    documents: Iterable[Mapping[str, Any]],
    inventory: Inventory,
    halves: Halves,
    refused: Refused = _NOTHING,
    platform: frozenset[Origin] | None = None,
    existing: Sequence[Policy] = (),
    instead: Sequence[tuple[Edge, str]] = (),
) -> Check:
    """As `check`, for the ends in the inventory's cluster alone, which `halves` gets to put together. `instead` are edges that
    stand for others, to be judged in one direction."""
    policies, invalid = validated(documents, inventory)
    accepted = [edge for edge in edges if edge.accepted]
    judge = _Judge(policies, inventory, edges, existing, _resolving(policies) if platform is None else platform)
    for edge in accepted:
        for direction, side in SIDES:
            judge.end(edge, direction, side, halves, judged=(edge.key, direction) not in refused)
        judge.requests(edge)
    for edge, direction in instead:
        judge.end(edge, direction, dict(SIDES)[direction], None)
    idle, beside = judge.superfluous()
    return Check(len(accepted), tuple(judge.unsound), tuple(judge.undecided), idle, invalid, (), beside)


class _Judge:
    """Documents in force beside existing policies, asked about one end after the other."""

    def __init__(
        self,
        policies: Sequence[Policy],
        inventory: Inventory,
        edges: Sequence[Edge],
        existing: Sequence[Policy],
        platform: frozenset[Origin],
    ) -> None:
        self.unsound: list[Unsound] = []
        self.undecided: list[Unsound] = []
        self._compiled = compile_policies([*existing, *policies], inventory)
        resolving = frozenset(edge.source for edge in edges if edge.stats.names)
        self._simulation = Simulation(self._compiled, inventory, resolving)
        self._always = inventory.options.enforcement == "always"
        options = replace(inventory.options, enforcement="default") if self._always else inventory.options
        open_to_all = replace(inventory, options=options)
        self._bare = Simulation(compile_policies([], open_to_all), open_to_all)
        # The record's own names only: what other traffic was called may let an address pass, but nobody should rely on that.
        self._unnamed = replace(inventory, names={})
        self._by_name = compile_policies([*existing, *policies], self._unnamed)
        self._one_by_one = Simulation(self._by_name, self._unnamed, resolving)
        self._names = _names_of(inventory)
        self._cluster = inventory.options.cluster_name
        self._own = own = {policy.ref for policy in policies}
        self._judged = {o for o in self._compiled.rules() if o.policy in own and o not in platform}
        self._needed: set[Origin] = set()
        self._alone: set[Origin] = set()

    def end(self, edge: Edge, direction: str, side: Side, halves: Halves | None, *, judged: bool = True) -> None:
        """Judge one end, should it live in this cluster; one that is refused counts for its other half only."""
        if home_cluster(edge, edge.source if side is Side.SOURCE else edge.destination) != self._cluster:
            return
        outcome = self._simulation.side(edge, side)
        broken = outcome.result is not Result.ALLOWED
        if broken and self._in_any_case(edge, side, outcome):
            broken, halves = False, None
        if halves is not None:
            halves.add(edge, direction, outcome)
        if not judged:
            return
        if broken:
            listed = self.unsound if outcome.result is Result.DENIED else self.undecided
            listed.append(Unsound(edge, direction, outcome))
        for answer in self._simulation.answers(edge, side):
            self._count(answer, edge)
        if side is Side.SOURCE and edge.destination.address:
            for answer in self._by_record(edge):
                self._count(answer, edge)

    def _by_record(self, edge: Edge) -> Iterator[SideDecision]:
        """The answers about traffic to an outside peer under each of its names, wherever they lead next, and without a name.

        A name's addresses do not stay, so that no rule on one of today's stands in for the rule on the name.
        """
        names = tuple(edge.stats.names)
        if "/" in edge.destination.address or not names:
            yield from self._one_by_one.answers(edge, Side.SOURCE)
        names = names or self._names.get(edge.destination.address, ())
        for near, name in product(self._one_by_one.peers(edge.source, edge), names):
            far = peer_of(edge.destination, (name,), self._unnamed)._replace(ip="")
            yield self._by_name.decide(Traffic(near, far, edge.l4)).egress

    def _count(self, answer: SideDecision, edge: Edge) -> None:
        """Note the rule that alone allows something, among those judged and among all.

        Of requests, existing rules on layer 7 may let some pass and the judged rule the others, so that it counts. So it does where
        existing policies do not close the direction: whoever closes it has to let in what they let in.
        """
        own = [origin for origin in answer.allowing if origin in self._judged]
        if len(own) == 1:
            self._needed.add(own[0])
            others = any(origin.kind and origin.policy not in self._own for origin in answer.allowing)
            closed = any(policy not in self._own for policy in answer.selected_by)
            if edge.stats.http or not (others and closed):
                self._alone.add(own[0])

    def _in_any_case(self, edge: Edge, side: Side, outcome: SideOutcome) -> bool:
        """Whether it is not these policies that break it: without any, an endpoint that still starts is closed too, and where all
        are under enforcement, one that no policy selects."""
        if self._always and outcome.result is Result.DENIED and not outcome.selected_by:
            return True
        return self._bare.side(edge, side).result is not Result.ALLOWED

    def requests(self, edge: Edge) -> None:
        """Judge the requests that were seen on an edge."""
        outcome = self._simulation.outcome(edge) if edge.stats.http else None
        if outcome is not None and outcome.refused_requests:
            proxied = "egress" if outcome.egress.proxied else "ingress"
            self.unsound.append(Unsound(edge, proxied, getattr(outcome, proxied), outcome.refused_requests))

    def superfluous(self) -> tuple[tuple[Origin, ...], tuple[Origin, ...]]:
        """Rules that are never the only one among those judged, and those that are so but for existing policies."""
        rules = [origin for origin in self._compiled.rules() if origin in self._judged]
        idle = tuple(origin for origin in rules if origin not in self._needed)
        beside = self._needed - self._alone
        return idle, tuple(origin for origin in rules if origin in beside)


def validated(
    documents: Iterable[Mapping[str, Any]], inventory: Inventory
) -> tuple[list[Policy], tuple[tuple[str, Refusal], ...]]:
    """The documents that the schema and the agent take, and by name what they refuse of the others."""
    policies, invalid = list[Policy](), list[tuple[str, Refusal]]()
    for document in documents:
        try:
            policy = parse(document, inventory.options)
            refusals = tuple(schema_refusals(document))
        except PolicyError:
            # Asked piece by piece only now: it tells more than the first refusal, and takes as long as parsing again.
            refusals = validate(document, inventory.options)
        if refusals:
            meta = document.get("metadata") or {}
            invalid += [(f"{meta.get('namespace', '')}/{meta.get('name', '')}", each) for each in refusals]
        else:
            policies.append(policy)
    return policies, tuple(invalid)


def _names_of(inventory: Inventory) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for name, addresses in inventory.names.items():
        for address in addresses:
            found[address] = (*found.get(address, ()), name)
    return found


def _resolving(policies: Iterable[Policy]) -> frozenset[Origin]:
    """The egress rules that are about port 53 and nothing else."""
    found = set()
    for policy in policies:
        for rule in policy.rules:
            for item in rule.items:
                ports = item.ports or ()
                named = {
                    L4(protocol, spec.first) for spec in ports for protocol in spec.protocols if spec.first == spec.last
                }
                if item.section is Section.EGRESS and ports and named <= _DNS_PORTS and named:
                    found.add(Origin(*policy.ref, rule.spec, item.section.value, item.index))
    return frozenset(found)
