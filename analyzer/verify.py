"""Verifying from above: does a recommendation allow what was seen and nothing idle, and does the engine agree with the cluster?"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from analyzer.diff import compare
from analyzer.errors import PolicyError
from analyzer.model.edge import Activity, ActivityKey, Edge, EdgeKey, Side, Status
from analyzer.model.flow import Direction, DropReason, EventKind, Verdict
from analyzer.model.identity import entities
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.perspective import home_cluster
from analyzer.policy import Origin, Policy, compile_policies, parse
from analyzer.policy.model import Section
from analyzer.policy.validate import Refusal, validate
from analyzer.policy.validate_schema import schema_refusals
from analyzer.recommend import PolicyDraft, Proposal, Purpose
from analyzer.settle import side_statuses
from analyzer.simulate import EdgeOutcome, Outcomes, Result, SideOutcome, Simulation

__all__ = [
    "Calibration", "Cause", "Check", "Disagreement", "Unsound", "calibrate", "check", "check_proposal", "recorded",
]  # fmt: skip

SIDES = (("egress", Side.SOURCE), ("ingress", Side.DESTINATION))
_NO_VERDICT = SideOutcome(Result.UNDECIDED, reason="no policy verdict was recorded on this side")
_ALLOWED = frozenset({Verdict.FORWARDED, Verdict.REDIRECTED})
_DENIED = frozenset({Verdict.DROPPED, Verdict.AUDIT})
_BY_POLICY = frozenset({0, DropReason.POLICY_DENIED, DropReason.POLICY_DENY})


# Calibration: the engine against the verdicts that the cluster recorded.


class _Recorded(NamedTuple):
    """How much of one side's traffic the cluster's policies let pass and denied. What policy audit mode let pass was denied."""

    allowed: int
    denied: int


def _recorded(edge: Edge, side: Side) -> _Recorded:
    """Policy verdicts, or where there are none of them, drops by policies: a denied packet is reported as both."""
    for kind in (EventKind.POLICY_VERDICT, EventKind.DROP):
        weights = Counter[bool]()
        for key, activity in edge.stats.activity.items():
            if key.side == side and key.kind == kind and _is_decision(key, activity):
                weights[key.verdict in _ALLOWED] += activity.weight
        if weights:
            return _Recorded(weights[True], weights[False])
    return _Recorded(0, 0)


def _is_decision(key: ActivityKey, activity: Activity) -> bool:
    if not activity.weight:
        return False
    return key.verdict in _ALLOWED or (key.verdict in _DENIED and key.reason in _BY_POLICY)


def recorded(edges: Iterable[Edge]) -> Outcomes:
    """The cluster's own decisions about the edges with policy verdicts; of both kinds, the more frequent counts."""
    found: dict[EdgeKey, EdgeOutcome] = {}
    for edge in edges:
        sides = [_side(edge, side) for _, side in SIDES]
        if any(side is not _NO_VERDICT for side in sides):
            found[edge.key] = EdgeOutcome(edge, sides[0], sides[1])
    return found


def _side(edge: Edge, side: Side) -> SideOutcome:
    weights = _recorded(edge, side)
    if not weights.allowed and not weights.denied:
        return _NO_VERDICT
    allowed = weights.allowed >= weights.denied
    named = _named(edge, side, "allowed_by" if allowed else "denied_by")
    return SideOutcome(Result.ALLOWED if allowed else Result.DENIED, named)


def _named(edge: Edge, side: Side, evidence: str) -> tuple[str, ...]:
    """The policies that Hubble names for a side, written as the engine writes them."""
    direction = "EGRESS" if side is Side.SOURCE else "INGRESS"
    found = getattr(edge.stats, evidence)
    return tuple(
        f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
        for at, kind, namespace, name in found
        if at == direction and kind and name
    )


class Cause(StrEnum):
    """Why the engine and the cluster may disagree about a verdict."""

    CHANGED = "the cluster decided both ways: its policies, or their peers, changed meanwhile"
    OTHER_POLICY = "the cluster names a policy that is not among those given"
    NOT_SELECTED = "the cluster denied it, and none of the policies given asks for that"
    UNSURE_RECORD = "the record is unsure of the identity or the port"
    UNEXPLAINED = "no reason was found"


class Disagreement(NamedTuple):
    """One side of an edge on which the cluster decided something else than the engine, `weight` times."""

    edge: Edge
    direction: str
    cluster: Result
    engine: SideOutcome
    weight: int
    cause: Cause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How often the engine says what the cluster did. Weights are verdicts as recorded; `undecided` by the engine's reason.

    `named` are verdicts that came with the names of policies, `named_alike` those where the engine lets the same ones decide.
    """

    agreed: int = 0
    undecided: Counter[str] = field(default_factory=Counter)
    disagreements: tuple[Disagreement, ...] = ()
    named: int = 0
    named_alike: int = 0

    @property
    def disagreed(self) -> int:
        return sum(each.weight for each in self.disagreements)

    @property
    def verdicts(self) -> int:
        """All recorded verdicts, those that the engine cannot decide included."""
        return self.agreed + self.disagreed + self.undecided.total()


def calibrate(edges: Sequence[Edge], simulated: Outcomes, policies: Iterable[Policy]) -> Calibration:
    """Compare what the cluster recorded with what the engine made of the policies that were in force then."""
    known = {str(policy.ref) for policy in policies}
    cluster = recorded(edges)
    diff = compare(cluster, {key: simulated[key] for key in cluster})
    agreed, named, alike = 0, 0, 0
    undecided = Counter[str]()
    found: list[Disagreement] = []
    for finding in diff.findings:
        for direction, side in SIDES:
            before, after = getattr(finding.before, direction), getattr(finding.after, direction)
            if before is _NO_VERDICT:
                continue
            weights = _recorded(finding.edge, side)
            if after.result is Result.UNDECIDED:
                undecided[after.reason] += sum(weights)
                continue
            same, other = weights if after.result is Result.ALLOWED else weights[::-1]
            agreed += same
            if same and before.rules and after.result is before.result:
                named += same
                alike += same if _decided_alike(before, after) else 0
            if other:
                found.append(_disagreement(finding.edge, direction, side, after, other, known, changed=bool(same)))
    return Calibration(agreed, undecided, tuple(sorted(found, key=_heaviest)), named, alike)


def _heaviest(each: Disagreement) -> tuple[int, EdgeKey, str]:
    return -each.weight, each.edge.key, each.direction


def _decided_alike(cluster: SideOutcome, engine: SideOutcome) -> bool:
    mine = engine.allowing if engine.result is Result.ALLOWED else engine.rules
    return all(any(rule == name or rule.startswith(f"{name} ") for rule in mine) for name in cluster.rules)


def _disagreement(
    edge: Edge, direction: str, side: Side, engine: SideOutcome, weight: int, known: set[str], *, changed: bool
) -> Disagreement:
    allowed = engine.result is not Result.ALLOWED
    cluster = Result.ALLOWED if allowed else Result.DENIED
    foreign = [name for name in _named(edge, side, "allowed_by" if allowed else "denied_by") if name not in known]
    cause, detail = Cause.UNEXPLAINED, engine.reason
    later = side_statuses(edge.stats).get(side)
    if changed or (not allowed and later in (Status.FORWARDED, Status.AUDITED)):
        cause = Cause.CHANGED
    elif foreign:
        cause, detail = Cause.OTHER_POLICY, ", ".join(foreign)
    elif edge.stats.conflicting or edge.stats.uncertain:
        cause = Cause.UNSURE_RECORD
    elif not allowed and not engine.selected_by:
        cause = Cause.NOT_SELECTED
    return Disagreement(edge, direction, cluster, engine, weight, cause, detail)


# Check: a recommendation, judged by the engine.


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
