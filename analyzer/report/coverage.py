"""The view of a Coverage: what was read, what became edges, what did not and why, and what nobody saw."""

from __future__ import annotations

from collections import Counter

from analyzer.model.edge import Coverage
from analyzer.model.flow import OUT_OF_SIGHT, Skip
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count, moment

__all__ = ["SKIP_WORDS", "coverage_section"]

SKIP_WORDS: dict[int, str] = {
    Skip.MALFORMED: "no record of Hubble: broken JSON, wrong encoding, or something else",
    Skip.TOO_LONG: "line too long",
    Skip.EMPTY: "message without a flow",
    Skip.LOST_EVENTS: "notice of lost events",
    Skip.NODE_STATUS: "status of a node",
    Skip.AGENT_EVENT: "agent event",
    Skip.DEBUG_EVENT: "debug event",
    Skip.FILTERED: "excluded by your filters",
    Skip.DUPLICATE: "read before",
    Skip.SOCKET: "socket-level event, not traffic on the wire",
    Skip.CAPTURE: "debug capture, or no verdict",
    Skip.ICMP_ERROR: "ICMP error, or related to a known connection",
    Skip.NEIGHBOUR_DISCOVERY: "IPv6 neighbour discovery, which no policy can express",
    Skip.NO_L4: "no layer 4: ARP, fragments, unknown protocols",
    Skip.NO_ENDPOINT: "neither end has an identity",
    Skip.OUTSIDE_ONLY: "both ends are outside the cluster",
    Skip.SERVICE_ADDRESS: "before service translation; counted with its backend",
}

# flow.LostEventSource.
_LOST_IN = {1: "the kernel's ring buffer", 2: "the observer's queue", 3: "Hubble's ring buffer"}
# relay.NodeState; connected nodes are no news.
_STATES = {2: "unavailable", 3: "gone", 4: "in error", OUT_OF_SIGHT: "out of sight for a while"}


def coverage_section(coverage: Coverage) -> Section:
    """Records read = edge records + every skip reason. Lost events and missing nodes are warned of."""
    rows = [Row(("edge_records", "part of an edge", coverage.edge_records))]
    rows += [
        Row((_skip_name(reason), _skip_words(reason), number), _tone(reason))
        for reason, number in sorted(coverage.skipped.items())
        if number
    ]
    rows.append(Row(("records", "records read", coverage.records)))
    columns = (
        Column("reason", "Name", wide=True),
        Column("meaning", "Records"),
        Column("records", "Count", number=True),
    )
    notes = (*_span(coverage), *_lost(coverage), *_nodes(coverage))
    bad = bool(coverage.lost) or any(state in _STATES for _, state in coverage.statuses)
    return Section(
        "What was read", notes, (Table("coverage", columns, tuple(rows)),), Tone.WARNING if bad else Tone.PLAIN
    )


def _skip_words(reason: int) -> str:
    return SKIP_WORDS.get(reason, f"skipped for reason {int(reason)}")


def _skip_name(reason: int) -> str:
    return reason.name.lower() if isinstance(reason, Skip) else str(int(reason))


def _tone(reason: int) -> Tone:
    return Tone.WARNING if reason in (Skip.MALFORMED, Skip.TOO_LONG) else Tone.PLAIN


def _span(coverage: Coverage) -> tuple[str, ...]:
    active = [activity for activity in coverage.nodes.values() if activity.weight and activity.last]
    if not active:
        return ()
    nodes = {node for node, _ in coverage.nodes}
    first, last = min(each.first for each in active), max(each.last for each in active)
    return (f"From {moment(first)} to {moment(last)} UTC, reported by {count(len(nodes), 'node')}.",)


def _lost(coverage: Coverage) -> tuple[str, ...]:
    by_place: Counter[str] = Counter()
    for (_, source), lost in coverage.lost.items():
        by_place[_LOST_IN.get(source, "an unknown place")] += lost
    return tuple(
        f"{count(lost, 'event')} got lost in {place}: traffic may be missing here."
        for place, lost in sorted(by_place.items())
    )


def _nodes(coverage: Coverage) -> tuple[str, ...]:
    missing = sorted({(node, state) for node, state in coverage.statuses if state in _STATES})
    return tuple(f"Node {node} was {_STATES[state]}: its traffic may be missing here." for node, state in missing)
