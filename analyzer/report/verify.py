"""The view of verifying: what a recommendation would break."""

from __future__ import annotations

from analyzer.model.workload import title
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count
from analyzer.verify import Check, Unsound

__all__ = ["check_section", "unsound_sections"]

EXAMPLES = 20
"""Breakages that are listed."""

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


def _ends(each: Unsound) -> tuple[str, str, str]:
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
