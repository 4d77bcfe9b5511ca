"""Calibrating: how far the engine can be trusted, by the verdicts that the cluster recorded under the same policies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from analyzer.diff import compare
from analyzer.model.edge import Activity, ActivityKey, Edge, EdgeKey, Side, Status
from analyzer.model.flow import DropReason, EventKind, Verdict
from analyzer.policy import Policy
from analyzer.settle import side_statuses
from analyzer.simulate import EdgeOutcome, Outcomes, Result, SideOutcome

__all__ = ["Calibration", "Cause", "Disagreement", "calibrate", "recorded"]

_SIDES = (("egress", Side.SOURCE), ("ingress", Side.DESTINATION))
_NO_VERDICT = SideOutcome(Result.UNDECIDED, reason="no policy verdict was recorded on this side")
_ALLOWED = frozenset({Verdict.FORWARDED, Verdict.REDIRECTED})
_DENIED = frozenset({Verdict.DROPPED, Verdict.AUDIT})
_BY_POLICY = frozenset({0, DropReason.POLICY_DENIED, DropReason.POLICY_DENY})


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
        sides = [_side(edge, side) for _, side in _SIDES]
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
        for direction, side in _SIDES:
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
