"""The view of a lint: every finding with its place, who refuses it and the next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from analyzer.lint import Finding, Linted, Severity
from analyzer.report.model import Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count

__all__ = ["lint_report"]

_COLUMNS = (
    Column("severity", "Severity"),
    Column("path", "File"),
    Column("document", "Document", wide=True),
    Column("line", "Line"),
    Column("policy", "Policy"),
    Column("field", "Field"),
    Column("rule", "Rule"),
    Column("refused_by", "Refused by"),
    Column("message", "What"),
    Column("hint", "Next step"),
)
_TONES = {Severity.ERROR: Tone.BAD, Severity.WARNING: Tone.WARNING}


def lint_report(linted: Linted, unreadable: Sequence[str] = (), beside: Sequence[str] = ()) -> Report:
    """All findings; what could not be read, and what was passed over: files `beside` the policies cannot be read and name none."""
    rows = tuple(_row(each) for each in linted.findings)
    counts = Counter(each.severity for each in linted.findings)
    found = ", ".join(count(counts[each], each.value) for each in Severity if counts[each])
    heading = f"{count(linted.policies, 'policy')}: {found or 'nothing to report'}"
    return Report(
        "lint",
        "",
        (
            Section(heading, _notes(linted, beside), (Table("findings", _COLUMNS, rows),)),
            Section("Not read", tuple(unreadable), (), Tone.BAD),
        ),
    )


def _row(each: Finding) -> Row:
    cells = (
        each.severity.value, each.path, each.document, each.line or None, each.policy, each.field or None, each.rule,
        each.refused_by or None, each.message, each.hint,
    )  # fmt: skip
    return Row(cells, _TONES[each.severity])


def _notes(linted: Linted, beside: Sequence[str]) -> tuple[str, ...]:
    found = [] if linted.policies else ["There is no policy in there."]
    if linted.others:
        found.append(f"Passed over, as they are no policies: {_others(linted.others)}.")
    if beside:
        those = f"{count(len(beside), 'file')}, {'such as ' if len(beside) > 1 else ''}{beside[0]}"
        found.append(f"Passed over, as no policy is named in there and it cannot be read: {those}.")
    return tuple(found or ([] if linted.findings else ["No findings."]))


def _others(others: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in sorted(others.items()))
