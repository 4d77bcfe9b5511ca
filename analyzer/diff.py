"""The one diff: compare two outcomes of the same edges - current against proposed, observed against simulated, before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from analyzer.model.edge import Edge, Status
from analyzer.simulate import EdgeOutcome, Outcomes, Result, SideOutcome

__all__ = ["Change", "Diff", "Finding", "compare"]


class Change(StrEnum):
    """What happens to an edge between two outcomes."""

    WOULD_BE_DROPPED = "would be dropped"
    NEWLY_ALLOWED = "newly allowed"
    STILL_DENIED = "still denied"
    UNCHANGED = "unchanged"
    UNDECIDED = "undecided"


_CHANGES = {
    (Result.ALLOWED, Result.DENIED): Change.WOULD_BE_DROPPED,
    (Result.DENIED, Result.ALLOWED): Change.NEWLY_ALLOWED,
    (Result.DENIED, Result.DENIED): Change.STILL_DENIED,
    (Result.ALLOWED, Result.ALLOWED): Change.UNCHANGED,
    (Result.UNDECIDED, Result.UNDECIDED): Change.UNDECIDED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One edge in both outcomes. `denied` names the directions that deny it afterwards (before, if it is newly allowed)."""

    change: Change
    before: EdgeOutcome
    after: EdgeOutcome

    @property
    def edge(self) -> Edge:
        return self.after.edge

    @property
    def denied(self) -> tuple[tuple[str, SideOutcome], ...]:
        outcome = self.before if self.change is Change.NEWLY_ALLOWED else self.after
        sides = (("egress", outcome.egress), ("ingress", outcome.ingress))
        return tuple(side for side in sides if side[1].result is Result.DENIED)

    @property
    def reason(self) -> str:
        """Why it is denied or undecided."""
        return self.before.reason if self.change is Change.NEWLY_ALLOWED else self.after.reason or self.before.reason


@dataclass(frozen=True, slots=True)
class Diff:
    """All findings in the canonical order of the edges; equal outcomes give findings too, so that nothing is left unsaid."""

    findings: tuple[Finding, ...]

    def of(self, change: Change) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.change is change)

    @property
    def counts(self) -> Counter[Change]:
        return Counter(finding.change for finding in self.findings)

    @property
    def refused_requests(self) -> tuple[Finding, ...]:
        """Edges that stay allowed while the L7 proxy would newly refuse requests seen on them."""
        return tuple(
            finding
            for finding in self.findings
            if finding.change is Change.UNCHANGED
            and set(finding.after.refused_requests) - set(finding.before.refused_requests)
        )

    @property
    def dropped(self) -> tuple[Finding, ...]:
        """What would be dropped and had worked."""
        return tuple(each for each in self.of(Change.WOULD_BE_DROPPED) if each.edge.status is not Status.UNANSWERED)

    @property
    def dropped_unanswered(self) -> tuple[Finding, ...]:
        """What would be dropped, but nobody ever answered it: scans, and servers that were down."""
        return tuple(each for each in self.of(Change.WOULD_BE_DROPPED) if each.edge.status is Status.UNANSWERED)

    @property
    def clean(self) -> bool:
        """Whether nothing that had worked would break, and nothing is newly allowed."""
        return not (self.dropped or self.of(Change.NEWLY_ALLOWED) or self.refused_requests)

    @property
    def empty(self) -> bool:
        """Whether nothing changes for sure: no edge is dropped or newly allowed, and no request newly refused."""
        changed = {Change.WOULD_BE_DROPPED, Change.NEWLY_ALLOWED} & set(self.counts)
        return not changed and not self.refused_requests


def compare(before: Outcomes, after: Outcomes) -> Diff:
    """Compare two outcomes edge by edge. Both must speak of the same edges.

    Laws: ``compare(a, a).empty``; `compare(b, a)` mirrors `compare(a, b)`.
    """
    if before.keys() != after.keys():
        raise ValueError("the two outcomes speak of different edges")
    return Diff(tuple(Finding(_change(before[key], after[key]), before[key], after[key]) for key in after))


def _change(before: EdgeOutcome, after: EdgeOutcome) -> Change:
    return _CHANGES.get((before.result, after.result), Change.UNDECIDED)
