"""The view of a diff: what would be dropped and why, what is newly allowed, and the smallest changes that would help."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from analyzer.diff import Change, Diff, Finding
from analyzer.manifests import dump
from analyzer.model.edge import Edge, EdgeKey, Endpoint
from analyzer.model.workload import title
from analyzer.report.model import Block, Column, Report, Row, Section, Table, Tone, visible
from analyzer.report.words import count, moment, share
from analyzer.simulate import EdgeOutcome, SideOutcome
from analyzer.suggest import Advice

__all__ = ["Advices", "by_weight", "diff_report", "diff_title", "diff_values"]

Advices = Mapping[tuple[EdgeKey, str], Advice]
"""What would allow an edge in a direction (``egress``, ``ingress``) that denies it."""

_UNANSWERED = "Would be dropped, but nobody ever answered it (scans, or servers that were down)"
SHOWN = 10
"""Rows shown of what breaks nothing."""
MAX_ADVISED = 20
"""Edges for which changes are shown where the reader scrolls; machines get all of them."""

_COLUMNS = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("events", "Events", number=True),
    Column("why", "Why"),
    Column("first", "First seen", wide=True),
    Column("last", "Last seen", wide=True),
)
_VALUE_COLUMNS = (Column("change", "Change"), *_COLUMNS)
_BRIEF_COLUMNS = tuple(replace(column, wide=column.key == "why" or column.wide) for column in _COLUMNS)
"""Of what breaks nothing, the reason takes more room than it is worth."""
_SIDES = ("egress", "ingress")
_KINDS = re.compile(r"\b(CiliumNetworkPolicy|CiliumClusterwideNetworkPolicy|NetworkPolicy) (?=[a-z0-9])")
_SHORT = {"CiliumNetworkPolicy": "cnp", "CiliumClusterwideNetworkPolicy": "ccnp", "NetworkPolicy": "netpol"}
WIDTH = 88
"""Where comments in YAML are folded."""


def short(text: str) -> str:
    """`text` with policies named as kubectl's short names have it, for where room is scarce."""
    return _KINDS.sub(lambda match: f"{_SHORT[match[1]]} ", text)


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with the most events first."""
    return sorted(findings, key=lambda finding: (-finding.edge.weight, finding.edge.key))


def diff_title(diff: Diff) -> str:
    """``3 of 120 edges would be dropped (0.4 % of the events)``."""
    dropped = diff.dropped
    total = sum(finding.edge.weight for finding in diff.findings)
    if not diff.findings:
        return "No traffic to compare"
    if not dropped:
        return f"None of {count(len(diff.findings), 'edge')} would be dropped"
    part = share(sum(finding.edge.weight for finding in dropped), total)
    return f"{len(dropped):,} of {count(len(diff.findings), 'edge')} would be dropped ({part} of the events)"


def _counts(diff: Diff) -> dict[str, int | str | bool]:
    counts = diff.counts
    return {
        "edges": len(diff.findings),
        "events": sum(finding.edge.weight for finding in diff.findings),
        "would_be_dropped": len(diff.dropped),
        "would_be_dropped_events": sum(finding.edge.weight for finding in diff.dropped),
        "would_be_dropped_unanswered": len(diff.dropped_unanswered),
        "requests_refused": len(diff.refused_requests),
        "newly_allowed": counts[Change.NEWLY_ALLOWED],
        "still_denied": counts[Change.STILL_DENIED],
        "unchanged": counts[Change.UNCHANGED],
        "undecided": counts[Change.UNDECIDED],
        "clean": diff.clean,
    }


def diff_report(
    diff: Diff, advices: Advices, notes: Sequence[str] = (), more: Sequence[Section] = (), *, full: bool = False,
    unchanged: bool = False, limit: int | None = None,
) -> Report:  # fmt: skip
    """For people. `notes` say what was compared; `full` shortens nothing, and `unchanged` lists even what stays allowed;
    `limit` bounds the rows of each table."""
    fewer = limit if full else limit or SHOWN
    sections = [
        Section("", (_rest(diff), *notes)),
        _section("Would be dropped", diff.dropped, Tone.BAD, limit, full=full),
        _requests(diff, limit),
        _changes(diff.dropped, advices, limit if full else limit or MAX_ADVISED),
        _section("Newly allowed", diff.of(Change.NEWLY_ALLOWED), Tone.WARNING, limit, full=full),
        _section("Undecided", diff.of(Change.UNDECIDED), Tone.WARNING, limit, full=full, folded=True),
        _section(_UNANSWERED, diff.dropped_unanswered, Tone.PLAIN, fewer, full=full, folded=True),
        _section("Still denied", diff.of(Change.STILL_DENIED), Tone.PLAIN, fewer, full=full, folded=True),
    ]
    if unchanged:
        sections.append(_section("Unchanged", diff.of(Change.UNCHANGED), Tone.PLAIN, limit, full=full, folded=True))
    return Report("diff", diff_title(diff), (*sections, *more), _counts(diff))


def _rest(diff: Diff) -> str:
    counts = diff.counts
    parts = [
        f"{counts[change]:,} {change.value}"
        for change in (Change.NEWLY_ALLOWED, Change.STILL_DENIED, Change.UNDECIDED, Change.UNCHANGED)
        if counts[change] or change is Change.NEWLY_ALLOWED
    ]
    if diff.dropped_unanswered:
        parts.append(f"{len(diff.dropped_unanswered):,} would be dropped that nobody ever answered")
    if diff.refused_requests:
        parts.append(f"on {len(diff.refused_requests):,} the proxy would refuse requests that were seen")
    return f"Of the others: {', '.join(parts)}." if diff.findings else ""


def _section(
    words: str, found: Sequence[Finding], tone: Tone, limit: int | None, *, full: bool, folded: bool = False
) -> Section:
    rows = tuple(Row(_cells(finding, brief=not full), tone) for finding in by_weight(found)[:limit])
    left = len(found) - len(rows)
    notes = (
        (f"The {count(len(rows), 'edge')} with the most events; {left:,} more are shown by -o wide.",) if left else ()
    )
    key = "unanswered" if words == _UNANSWERED else words.lower().replace(" ", "_")
    heading = f"{words}: {count(len(found), 'edge')}"
    columns = _BRIEF_COLUMNS if tone is Tone.PLAIN and not full else _COLUMNS
    return Section(heading, notes, (Table(key, columns, rows),), tone, folded=folded)


def _cells(finding: Finding, *, brief: bool = False) -> tuple[str | int | None, ...]:
    edge = finding.edge
    first, last = (moment(time) if time else None for time in (edge.stats.first, edge.stats.last))
    reason = short(why(finding)) if brief else why(finding)
    return (*_ends(edge), edge.weight, reason, first, last)


def _ends(edge: Edge) -> tuple[str, str, str]:
    source = title(edge.source, edge.source_workloads)
    return source, title(edge.destination, edge.destination_workloads), str(edge.l4)


def why(finding: Finding) -> str:
    """The directions that deny it with what decides there; for what is not denied, what made it so."""
    if finding.change in (Change.WOULD_BE_DROPPED, Change.STILL_DENIED):
        return "; ".join(f"{direction}: {_decided(side)}" for direction, side in finding.denied)
    if finding.change is Change.NEWLY_ALLOWED:
        now = dict(zip(_SIDES, (finding.after.egress, finding.after.ingress), strict=True))
        parts = [
            f"{direction}: {_decided(side)}; now {', '.join(now[direction].rules) or 'nothing denies it'}"
            for direction, side in finding.denied
        ]
        return "; ".join(parts)
    return finding.reason if finding.change is Change.UNDECIDED else ", ".join(finding.after.rules)


def _decided(side: SideOutcome) -> str:
    by = ", ".join(side.rules)
    return f"{side.reason}: {by}" if by and by not in side.reason and not side.selected_by else side.reason


_REQUEST_COLUMNS = (*_COLUMNS[:4], Column("requests", "Requests that would be refused"))


def _requests(diff: Diff, limit: int | None) -> Section:
    found = by_weight(diff.refused_requests)
    rows = tuple(
        Row((*_ends(finding.edge), finding.edge.weight, ", ".join(_newly_refused(finding))), Tone.BAD)
        for finding in found[:limit]
    )
    heading = f"Would stay open, but the proxy would refuse requests: {count(len(found), 'edge')}"
    return Section(heading, (), (Table("requests_refused", _REQUEST_COLUMNS, rows),), Tone.BAD)


def _newly_refused(finding: Finding) -> list[str]:
    return sorted(set(finding.after.refused_requests) - set(finding.before.refused_requests))


def _changes(found: Sequence[Finding], advices: Advices, limit: int | None) -> Section:
    """One block per place that a rule belongs to, with all rules that belong there."""
    places: dict[str, list[tuple[Finding, Advice]]] = {}
    hopeless: list[str] = []
    for finding in by_weight(found)[:limit]:
        for direction, _ in finding.denied:
            advice = advices.get((finding.edge.key, direction))
            if advice is not None and advice.rule is not None:
                places.setdefault(advice.place, []).append((finding, advice))
            elif advice is not None:
                hopeless.append(f"{arrow(finding.edge)}, {direction}: {advice.obstacle}.")
    blocks = tuple(_block(place, each) for place, each in places.items())
    notes = tuple(dict.fromkeys(hopeless))
    if limit is not None and len(found) > limit:
        notes += (
            f"For the {limit} edges with the most events; -o wide has those of the other {len(found) - limit:,}.",
        )
    return Section("The smallest changes that would allow it", notes, (), Tone.PLAIN, blocks, folded=True)


def _block(place: str, found: Sequence[tuple[Finding, Advice]]) -> Block:
    """The rules of one place, after comments that say for which edges they are, and what is there already that almost does."""
    comments: dict[str, tuple[int, list[str]]] = {}
    rules: list[Any] = []
    for finding, advice in found:
        weight, words = comments.get(arrow(finding.edge), (0, []))
        words += [f"{miss.origin.section}[{miss.origin.rule}] {miss.words}" for miss in advice.misses[:1]]
        words += advice.remarks
        comments[arrow(finding.edge)] = weight + finding.edge.weight, words
        if advice.rule not in rules:
            rules.append(advice.rule)
    lines: list[str] = []
    for edge, (weight, words) in comments.items():
        lines.append(visible(f"# {edge}: {count(weight, 'event')}"))
        for each in dict.fromkeys(words):
            lines += textwrap.wrap(
                visible(each), WIDTH, initial_indent="#   ", subsequent_indent="#   ", break_on_hyphens=False
            )
    advice = found[0][1]
    snippet = advice.snippet()
    (snippet["spec"] if advice.new else snippet)[advice.section] = rules
    caption = f"Write {place}:" if advice.new else f"Add to {place}:"
    return Block(caption, "\n".join(lines) + "\n" + dump([snippet]))


def arrow(edge: Edge) -> str:
    """``shop/web -> shop/cart 8080/TCP``."""
    source, destination, l4 = _ends(edge)
    return f"{source} -> {destination} {l4}"


def diff_values(diff: Diff, advices: Advices, notes: Sequence[str] = (), more: Sequence[Section] = ()) -> Report:
    """For machines: every edge is one finding, whatever becomes of it."""
    order = list(Change)
    ordered = sorted(by_weight(diff.findings), key=lambda finding: order.index(finding.change))
    rows = tuple(Row((finding.change.value, *_cells(finding)), more=_more(finding, advices)) for finding in ordered)
    findings = Section("Findings", tuple(notes), (Table("findings", _VALUE_COLUMNS, rows),))
    return Report("diff", diff_title(diff), (findings, *more), _counts(diff))


def _more(finding: Finding, advices: Advices) -> dict[str, Any]:
    edge = finding.edge
    found: dict[str, Any] = {
        "cluster": edge.cluster,
        "status": edge.status.value,
        "source_identity": _identity(edge.source),
        "destination_identity": _identity(edge.destination),
        "before": _outcome(finding.before),
        "after": _outcome(finding.after),
    }
    if finding.denied:
        found["denied"] = [direction for direction, _ in finding.denied]
    refused = _newly_refused(finding)
    if refused:
        found["requests_refused"] = refused
    given = [advice for side in _SIDES if (advice := advices.get((edge.key, side))) is not None]
    if given:
        found["suggestions"] = [suggestion(each) for each in given]
    return found


def _identity(end: Endpoint) -> dict[str, Any]:
    found = {"labels": list(end.labels.strings()), "namespace": end.namespace, "address": end.address, "pod": end.name}
    return {key: value for key, value in found.items() if value}


def _outcome(outcome: EdgeOutcome) -> dict[str, Any]:
    return {
        "result": outcome.result.value,
        "egress": _side(outcome.egress),
        "ingress": _side(outcome.ingress),
    }


def _side(side: SideOutcome) -> dict[str, Any]:
    found: dict[str, Any] = {"result": side.result.value, "decided_by": list(side.rules), "reason": side.reason}
    found |= {"allowed_by": list(side.allowing), "selected_by": list(side.selected_by)}
    return {key: value for key, value in found.items() if value}


def suggestion(advice: Advice) -> dict[str, Any]:
    """An advice as plain values."""
    found: dict[str, Any] = {"section": advice.section}
    if advice.rule is not None and advice.policy is not None:
        kind, namespace, name = advice.policy
        found["policy"] = {"kind": kind, "namespace": namespace, "name": name, "new": advice.new, "spec": advice.spec}
        found |= {"rule": dict(advice.rule), "yaml": dump([advice.snippet()])}
    if advice.obstacle:
        found["obstacle"] = advice.obstacle
    if advice.remarks:
        found["notes"] = list(advice.remarks)
    if advice.misses:
        found["near_misses"] = [{"rule": str(miss.origin), "missing": miss.words} for miss in advice.misses]
    return found
