"""The view of calibrating: how often the engine says what the cluster did, and where it does not."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.calibrate import Calibration, Disagreement
from analyzer.model.workload import title
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count, share

__all__ = ["calibration_section"]

EXAMPLES = 20
"""Disagreements that are listed; machines get the figures of all."""

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


def _ends(each: Disagreement) -> tuple[str, str, str]:
    edge = each.edge
    source = title(edge.source, edge.source_workloads)
    return source, title(edge.destination, edge.destination_workloads), str(edge.l4)
