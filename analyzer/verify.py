"""Verifying from above: does a recommendation allow what was seen, on both sides, and nothing idle, and is it valid?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from analyzer.errors import PolicyError
from analyzer.model.edge import Edge, EdgeKey, Side
from analyzer.model.flow import Direction
from analyzer.model.identity import entities
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.perspective import home_cluster
from analyzer.policy import Origin, Policy, compile_policies, parse
from analyzer.policy.model import Section
from analyzer.policy.validate import Refusal, validate
from analyzer.policy.validate_schema import schema_refusals
from analyzer.recommend import PolicyDraft, Proposal, Purpose
from analyzer.simulate import Result, SideOutcome, Simulation

__all__ = ["Check", "Unsound", "check", "check_proposal"]

SIDES = (("egress", Side.SOURCE), ("ingress", Side.DESTINATION))


class Unsound(NamedTuple):
    """One side of an accepted edge that a proposal would break; `requests` are those the proxy would refuse."""

    edge: Edge
    direction: str
    outcome: SideOutcome
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """What the engine says about a proposal: accepted edges it would break, those it is not sure about, rules that nothing needs,
    and documents that the agent would refuse. `edges` is how many were asked about."""

    edges: int = 0
    unsound: tuple[Unsound, ...] = ()
    undecided: tuple[Unsound, ...] = ()
    idle: tuple[Origin, ...] = ()
    invalid: tuple[tuple[str, Refusal], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing that was accepted would be dropped."""
        return not self.unsound

    @property
    def passed(self) -> bool:
        """Whether it may be written: nothing that was accepted would be dropped, and no document refused."""
        return self.sound and not self.invalid

    @property
    def minimal(self) -> bool:
        """Whether each rule is the only one that allows something."""
        return not self.idle


Refused = frozenset[tuple[EdgeKey, str]]
"""Sides of edges that a proposal says it does not allow."""


def check(
    edges: Sequence[Edge],
    documents: Iterable[Mapping[str, Any]],
    inventory: Inventory,
    refused: Refused = frozenset(),
    platform: frozenset[Origin] | None = None,
    existing: Sequence[Policy] = (),
) -> Check:
    """Whether `documents` are sound and minimal for the accepted ones among `edges`, as the cluster of `inventory` would see it.

    `platform` are rules that need no evidence; without them, these are the rules on port 53 alone. `existing` policies are in
    force too, and are not judged. Documents that the schema or the agent would refuse take no part, and are named.
    """
    policies, invalid = _valid(documents, inventory)
    compiled = compile_policies([*existing, *policies], inventory)
    simulation = Simulation(compiled, inventory, frozenset(edge.source for edge in edges if edge.stats.names))
    bare = Simulation(compile_policies([], inventory), inventory)
    apart = _resolving(policies) if platform is None else platform
    unsound, undecided, needed = list[Unsound](), list[Unsound](), set[Origin]()
    accepted = [edge for edge in edges if edge.accepted]
    for edge in accepted:
        for direction, side in SIDES:
            near = edge.source if side is Side.SOURCE else edge.destination
            if (edge.key, direction) in refused or home_cluster(edge, near) != inventory.options.cluster_name:
                continue
            outcome = simulation.side(edge, side)
            # What no policy at all would let pass (an endpoint that still starts) is not broken by these.
            if outcome.result is not Result.ALLOWED and bare.side(edge, side).result is Result.ALLOWED:
                (unsound if outcome.result is Result.DENIED else undecided).append(Unsound(edge, direction, outcome))
            needed.update(answer.allowing[0] for answer in simulation.answers(edge, side) if len(answer.allowing) == 1)
        unsound.extend(_requests(simulation, edge))
    judged = {policy.ref for policy in policies}
    idle = tuple(o for o in compiled.rules() if o.policy in judged and o not in needed and o not in apart)
    return Check(len(accepted), tuple(unsound), tuple(undecided), idle, invalid)


def _valid(
    documents: Iterable[Mapping[str, Any]], inventory: Inventory
) -> tuple[list[Policy], tuple[tuple[str, Refusal], ...]]:
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


def _requests(simulation: Simulation, edge: Edge) -> list[Unsound]:
    outcome = simulation.outcome(edge) if edge.stats.http else None
    if outcome is None or not outcome.refused_requests:
        return []
    proxied = "egress" if outcome.egress.proxied else "ingress"
    return [Unsound(edge, proxied, getattr(outcome, proxied), outcome.refused_requests)]


_DNS_PORTS = frozenset({L4(Protocol.UDP, 53), L4(Protocol.TCP, 53)})


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


def check_proposal(
    proposal: Proposal, edges: Sequence[Edge], inventory: Inventory, existing: Sequence[Policy] = ()
) -> Check:
    """`check` for a recommendation, each cluster's policies in that cluster; what the proposal refuses is taken at its word."""
    refused = frozenset(
        (each.edge.key, direction)
        for each in proposal.refused
        for direction, side in SIDES
        if each.direction is None or each.direction is _DIRECTIONS[side]
    )
    clusters: dict[str, list[tuple[PolicyDraft, dict[str, Any]]]] = defaultdict(list)
    for made in zip(proposal.policies, proposal.documents(), strict=True):
        clusters[made[0].subject.key.cluster].append(made)
    whole = Check()
    for cluster, drafts in sorted(clusters.items()):
        local = replace(inventory, options=replace(inventory.options, cluster_name=cluster))
        platform = frozenset(origin for draft, _ in drafts for origin in _platform(draft))
        own = [edge for edge in edges if cluster in _homes(edge)]
        found = check(own, [document for _, document in drafts], local, refused, platform, existing)
        whole = Check(
            whole.edges + found.edges,
            whole.unsound + found.unsound,
            whole.undecided + found.undecided,
            whole.idle + found.idle,
            whole.invalid + found.invalid,
        )
    return whole


_DIRECTIONS = {Side.SOURCE: Direction.EGRESS, Side.DESTINATION: Direction.INGRESS}


def _homes(edge: Edge) -> set[str]:
    return {home_cluster(edge, end) for end in (edge.source, edge.destination) if not entities(end.labels)}


def _platform(draft: PolicyDraft) -> Iterable[Origin]:
    """Name resolution, and whatever else has no evidence of its own."""
    for direction, section in ((Direction.INGRESS, "ingress"), (Direction.EGRESS, "egress")):
        for index, rule in enumerate(draft.section(direction)):
            if rule.purpose is not Purpose.TRAFFIC or not rule.evidence:
                yield Origin("CiliumNetworkPolicy", draft.subject.key.namespace, draft.name, 0, section, index)
