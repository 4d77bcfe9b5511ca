"""The view of verifying: what a recommendation would break, what stays open on one side only, and what the check came to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from analyzer.model.edge import Edge
from analyzer.model.workload import title
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count
from analyzer.simulate import SideOutcome
from analyzer.verify import Check, HalfOpen

__all__ = ["check_sections"]

EXAMPLES = 20
"""Lines of a table on a terminal."""
HALVES = 5
"""Connections open on one side on a terminal: each takes several lines, and the full report has them all."""
MOST = 1000
"""Lines of a table in the full report."""

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
_HALF_OPEN = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("open", "Open"),
    Column("by", "By"),
    Column("closed", "Closed"),
    Column("why", "Why"),
    Column("events", "Events", number=True, wide=True),
)
_OTHER = {"egress": "ingress", "ingress": "egress"}


def check_sections(check: Check, *, full: bool = False) -> tuple[Section, ...]:
    """What the check of a proposal came to: what is wrong with it, if anything is, and connections that are open on one side."""
    most = MOST if full else EXAMPLES
    told = () if check.passed else _faults(check, most)
    return (*told, _summary(check), _half_open(check, MOST if full else HALVES, full=full))


def _summary(check: Check) -> Section:
    verdict = "each allowed or listed with its reason" if check.passed else "and these policies fail"
    notes = [f"Checked by the policy engine: {count(check.edges, 'accepted edge')}, {verdict}."]
    if check.undecided:
        notes.append(
            f"It cannot tell for {count(len(check.undecided), 'side')} of them: {check.undecided[0].outcome.reason}."
        )
    for rules, what in (
        (check.idle, "nothing that another rule does not allow too"),
        (check.beside, "nothing that existing policies do not allow too"),
    ):
        if rules:
            listed = ", ".join(map(str, rules[:3])) + (f" and {len(rules) - 3:,} more" if len(rules) > 3 else "")
            notes.append(f"{count(len(rules), 'rule')} {'allows' if len(rules) == 1 else 'allow'} {what}: {listed}.")
    return Section("Self-check", tuple(notes), more={"check": _figures(check)})


def _figures(check: Check) -> dict[str, Any]:
    return {
        "passed": check.passed,
        "edges": check.edges,
        "unsound": len(check.unsound),
        "undecided": len(check.undecided),
        "idle": len(check.idle),
        "beside_existing": len(check.beside),
        "invalid": len(check.invalid),
        "half_open": len([each for each in check.half_open if each.sure]),
        "perhaps_half_open": len([each for each in check.half_open if not each.sure]),
    }


def _faults(check: Check, most: int) -> tuple[Section, ...]:
    unsound = [
        Row((*_ends(each.edge), each.direction, ", ".join(each.requests) or each.outcome.reason), Tone.BAD)
        for each in check.unsound
    ]
    refused = [Row((name, each.field, each.refused_by, each.message), Tone.BAD) for name, each in check.invalid]
    heading = f"These policies would drop traffic they were made to allow: {count(len(unsound), 'connection')}"
    return (
        _listed(heading, Table("unsound", _UNSOUND, tuple(unsound)), most, Tone.BAD),
        _listed("These policies would be refused", Table("refused", _INVALID, tuple(refused)), most, Tone.BAD),
    )


def _half_open(check: Check, most: int, *, full: bool) -> Section:
    """Edges that are sure to be half-open; those that may be are counted, and listed in the full report."""
    sure = [each for each in check.half_open if each.sure]
    perhaps = check.half_open[len(sure) :]
    notes = []
    if sure:
        notes.append("A connection needs both sides; these are allowed on one of them, and so will not work.")
    if perhaps:
        notes.append(
            f"The engine cannot tell whether {count(len(perhaps), 'more connection')} would be open on one side."
        )
    section = Section(f"Open on one side only: {count(len(sure), 'connection')}", tuple(notes), tone=Tone.WARNING)
    tables = [Table("half_open", _HALF_OPEN, tuple(map(_row, sure)))]
    if full and perhaps:
        tables.append(Table("perhaps_half_open", _HALF_OPEN, tuple(map(_row, perhaps))))
    return replace(section, tables=tuple(tables)).cut(most)


def _row(each: HalfOpen) -> Row:
    by = ", ".join(each.open.rules) if each.open.selected_by else "nothing closes it"
    why = each.why or _why(each.closed)
    cells = (*_ends(each.edge), each.direction, by, _OTHER[each.direction], why, each.edge.weight)
    return Row(cells, Tone.WARNING)


def _why(closed: SideOutcome) -> str:
    return closed.reason or ", ".join(closed.rules)


def _listed(heading: str, table: Table, most: int, tone: Tone) -> Section:
    return Section(heading, (), (table,), tone).cut(most)


def _ends(edge: Edge) -> tuple[str, str, str]:
    source = title(edge.source, edge.source_workloads)
    return source, title(edge.destination, edge.destination_workloads), str(edge.l4)
