"""Evidence in words: what a policy is based on, in short and rule by rule, as comments or as an annotation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum

from analyzer.manifests import Document
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.workload import title
from analyzer.recommend.draft import PolicyDraft, RuleDraft, Span

__all__ = ["ANNOTATION", "MARK", "MAX_LINES", "Evidence", "counted", "details", "evidenced", "marked", "summary"]

MARK = "hubble-analyzer: "
"""Begins the comment above a document, whose other lines are indented: what is written anew is told from people's comments."""
ANNOTATION = "hubble-analyzer/evidence"
MAX_LINES = 100
"""Connections listed per policy; annotations may hold 256 KiB in all."""
MAX_RANGES = 5
"""Port ranges listed per direction of a policy."""
MAX_TEXT = 400

_SECTIONS = ((Direction.INGRESS, "ingress"), (Direction.EGRESS, "egress"))


class Evidence(StrEnum):
    """How much of it is written into the documents."""

    NONE = "none"
    SUMMARY = "summary"
    FULL = "full"


def marked(lines: Sequence[str]) -> tuple[str, ...]:
    """Comment lines that a later run recognises as its own."""
    return tuple(f"{'  ' if at else MARK}{line}" for at, line in enumerate(lines))


def evidenced(
    documents: Iterable[Document], drafts: Iterable[PolicyDraft], how_much: Evidence, *, annotate: bool = False
) -> list[Document]:
    """The documents with as much evidence as wanted, above them or as an annotation."""
    by_path = {draft.path: draft for draft in drafts}
    found = []
    for document in documents:
        lines = [line.removeprefix(MARK).removeprefix("  ") for line in document.header]
        draft = by_path.get(document.path)
        if how_much is Evidence.FULL and draft is not None:
            lines.extend(details(draft))
        if how_much is Evidence.NONE:
            lines = []
        header = marked(lines)
        data = document.data
        if annotate and lines:
            metadata = dict(data.get("metadata") or {})
            text = "\n".join(_visible(line) for line in lines)
            metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: text}
            data, header = {**data, "metadata": metadata}, ()
        found.append(replace(document, data=data, header=header))
    return found


def _visible(text: str) -> str:
    """Visible ASCII only, as comments have it."""
    return text.encode("unicode_escape").decode("ascii")


def summary(draft: PolicyDraft) -> tuple[str, ...]:
    """Whom a policy is for, on how much it is based, and what it leaves alone or cannot allow."""
    key = draft.subject.key
    edges = {edge.key: edge for rule in draft.rules for edge in rule.evidence}
    lines = [_short(f"{key.namespace}/{', '.join(draft.subject.workloads)} in cluster {key.cluster or 'default'}")]
    lines.append(_amount(list(edges.values())))
    for direction, section in _SECTIONS:
        rules = draft.section(direction)
        if rules:
            own = {edge.key for rule in rules for edge in rule.evidence}
            lines.append(f"{section}: {counted(len(rules), 'rule')} from {counted(len(own), 'connection')}")
            lines.extend(f"{section}: {line}" for line in _ranges(rules))
        elif direction in draft.complete:
            lines.append(f"{section}: nothing is missing, existing policies allow all that was seen")
        elif direction in draft.unasked:
            lines.append(f"{section}: left alone, as was asked for")
        else:
            lines.append(f"{section}: left alone, nothing to allow was seen")
    if draft.refused:
        lines.append(f"NOT allowed: {counted(draft.refused, 'accepted connection')} that no rule can hold")
    return tuple(lines)


def _ranges(rules: Iterable[RuleDraft]) -> Iterator[str]:
    """How much of each range was seen in use by the peers of its rule."""
    found = [(rule, span) for rule in rules for span in rule.ports if isinstance(span, Span)]
    for rule, span in found[:MAX_RANGES]:
        seen = {edge.l4 for edge in rule.evidence if span.holds(edge.l4)}
        yield f"{span}: {len(seen)} of {span.last - span.port + 1} ports were seen"
    if len(found) > MAX_RANGES:
        yield f"{counted(len(found) - MAX_RANGES, 'range')} more"


def details(draft: PolicyDraft) -> list[str]:
    """Every connection that caused a rule, with when and how often it was seen, its names, and a record to look up."""
    lines: list[str] = []
    for direction, section in _SECTIONS:
        for number, rule in enumerate(draft.section(direction)):
            lines.extend(_short(line) for line in _of_rule(f"{section}[{number}]", rule))
    more = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], f"and {more} more, see the report"] if more > 0 else lines


def _of_rule(where: str, rule: RuleDraft) -> Iterator[str]:
    if not rule.evidence:
        yield f"{where}: not seen used; {rule.purpose.value}"
    for edge in rule.evidence:
        source = title(edge.source, edge.source_workloads)
        destination = title(edge.destination, edge.destination_workloads)
        names = ", ".join(list(edge.stats.names)[:3])
        sample = next(iter(edge.stats.samples), "")
        yield "; ".join(
            filter(
                None,
                (
                    f"{where}: {source} -> {destination} {edge.l4}",
                    _amount([edge]).partition(", ")[2],
                    names and f"names {names}",
                    sample and f"such as {sample}",
                ),
            )
        )


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _amount(edges: Sequence[Edge]) -> str:
    weight = sum(edge.weight for edge in edges)
    times = [time for edge in edges for time in (edge.stats.first, edge.stats.last) if time > 0]
    days = sorted({_day(min(times)), _day(max(times))}) if times else []
    seen = f", seen {' to '.join(days)}" if days else ""
    return f"evidence: {counted(len(edges), 'connection')}, {counted(weight, 'event')}{seen}"


def _day(time: int) -> str:
    try:
        return datetime.fromtimestamp(time // 10**9, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "unknown"


def counted(number: int, noun: str) -> str:
    """``1 rule``, ``2 rules``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
