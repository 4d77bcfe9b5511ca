"""The views of verifying: what a recommendation would break, and how often the engine says what the cluster did."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.model.workload import title
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count, share
from analyzer.verify import Calibration, Check, Disagreement, Unsound

__all__ = ["calibration_section", "check_section", "unsound_sections"]

EXAMPLES = 20
"""Disagreements and breakages that are listed; machines get the figures of all."""

_CAUSES = (
    Column("cause", "Why they may disagree"),
    Column("edges", "Edges", number=True),
    Column("verdicts", "Verdicts", number=True),
)
_DISAGREEMENTS = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("side", "Side"),
    Column("cluster", "Cluster"),
    Column("engine", "Engine"),
    Column("verdicts", "Verdicts", number=True),
    Column("detail", "Detail", wide=True),
)
_INVALID = (
    Column("policy", "Policy"),
    Column("field", "Field"),
    Column("refused_by", "Refused by"),
    Column("message", "Why"),
)
_UNSOUND = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("side", "Side"),
    Column("why", "Why"),
)


def calibration_section(calibration: Calibration) -> Section:
    """How often the engine agrees with the verdicts that were recorded while the same policies were in force."""
    heading = "How far the engine can be trusted here"
    if not calibration.verdicts:
        return Section(
            heading, ("No policy verdicts were recorded, so nothing can be compared with what the cluster did.",)
        )
    decided = calibration.agreed + calibration.disagreed
    part = share(calibration.agreed, decided)
    notes = [
        f"The engine agrees with the cluster on {part} of the recorded verdicts ({calibration.agreed:,} of {decided:,})"
        + (": disagreements below." if calibration.disagreements else ".")
    ]
    if calibration.named:
        part = share(calibration.named_alike, calibration.named)
        notes.append(
            f"Where Hubble names the policies that decided, the engine has the same decide for {part} of them."
        )
    for reason, number in sorted(calibration.undecided.items(), key=lambda item: (-item[1], item[0]))[:3]:
        notes.append(f"Undecided: {count(number, 'verdict')}: {reason}.")
    tables = (_causes(calibration.disagreements), _listed(calibration.disagreements))
    more = {
        "verdicts": calibration.verdicts,
        "agreed": calibration.agreed,
        "disagreed": calibration.disagreed,
        "undecided": calibration.undecided.total(),
        "named": calibration.named,
        "named_alike": calibration.named_alike,
    }
    tone = Tone.WARNING if calibration.disagreements else Tone.GOOD
    return Section(
        heading, tuple(notes), tables, tone, folded=not calibration.disagreements, more={"calibration": more}
    )


def _causes(found: Sequence[Disagreement]) -> Table:
    causes = dict.fromkeys(each.cause for each in found)
    rows = tuple(
        Row(
            (cause.value, len([x for x in found if x.cause is cause]), sum(x.weight for x in found if x.cause is cause))
        )
        for cause in causes
    )
    return Table("causes", _CAUSES, rows)


def _listed(found: Sequence[Disagreement]) -> Table:
    rows = tuple(
        Row(
            (
                *_ends(each),
                each.direction,
                each.cluster.value,
                each.engine.result.value,
                each.weight,
                each.detail or None,
            )
        )
        for each in found[:EXAMPLES]
    )
    return Table("disagreements", _DISAGREEMENTS, rows)


def _ends(each: Disagreement | Unsound) -> tuple[str, str, str]:
    edge = each.edge
    source = title(edge.source, edge.source_workloads)
    return source, title(edge.destination, edge.destination_workloads), str(edge.l4)


def unsound_sections(check: Check) -> tuple[Section, ...]:
    """Accepted traffic that a proposal would drop, and documents that would be refused."""
    rows = tuple(
        Row((*_ends(each), each.direction, ", ".join(each.requests) or each.outcome.reason), Tone.BAD)
        for each in check.unsound[:EXAMPLES]
    )
    heading = f"These policies would drop traffic they were made to allow: {count(len(check.unsound), 'connection')}"
    refused = tuple(Row((name, each.field, each.refused_by, each.message), Tone.BAD) for name, each in check.invalid)
    return (
        Section(heading, (), (Table("unsound", _UNSOUND, rows),), Tone.BAD),
        Section("These policies would be refused", (), (Table("refused", _INVALID, refused[:EXAMPLES]),), Tone.BAD),
    )


def check_section(check: Check) -> Section:
    """What the check of a proposal came to."""
    notes = [
        f"Checked by the policy engine: {count(check.edges, 'accepted edge')}, each allowed or listed with its reason."
    ]
    if check.undecided:
        notes.append(
            f"It cannot tell for {count(len(check.undecided), 'side')} of them: {check.undecided[0].outcome.reason}."
        )
    if check.idle:
        listed = ", ".join(map(str, check.idle[:3])) + (", ..." if len(check.idle) > 3 else "")
        notes.append(f"{count(len(check.idle), 'rule')} allow nothing that another rule does not allow too: {listed}.")
    return Section("Self-check", tuple(notes))
