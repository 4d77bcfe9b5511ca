"""The view of a proposal: the policies, what they do not allow and why, what the reader has to know, and what to do next."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from analyzer.model.edge import Coverage, Edge
from analyzer.model.flow import Direction
from analyzer.model.workload import title
from analyzer.recommend import PolicyDraft, Proposal, Reason, Refusal, Topic
from analyzer.report.coverage import coverage_section
from analyzer.report.model import Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count

__all__ = ["proposal_report", "proposal_summary"]

EXAMPLES = 3
"""Names given per line of a summary; the full report has all of them."""

_POLICY_COLUMNS = (
    Column("workload", "Workload"),
    Column("ingress", "Ingress rules", number=True),
    Column("egress", "Egress rules", number=True),
    Column("connections", "Connections", number=True),
    Column("refused", "Not allowed", number=True),
    Column("path", "File", wide=True),
)
_REFUSAL_COLUMNS = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("side", "Side"),
    Column("reason", "Reason"),
    Column("events", "Events", number=True),
)
_REASON_COLUMNS = (
    Column("reason", "Reason"),
    Column("connections", "Connections", number=True),
    Column("examples", "Such as"),
)
_NOTE_COLUMNS = (Column("topic", "What"), Column("where", "Where"), Column("text", "Why"))
_NOTE_SUMMARY_COLUMNS = (Column("text", "What"), Column("count", "Count", number=True), Column("where", "Where"))

# Traffic that the record says should not be there; leaving it out is no news.
_EXPECTED = frozenset({Reason.DROPPED, Reason.DENIED, Reason.INFRASTRUCTURE, Reason.UNANSWERED})


def proposal_report(proposal: Proposal, coverage: Coverage) -> Report:
    """Everything: every policy, every refusal, every note."""
    refusals = tuple(
        Row((*_ends(refusal.edge), _side(refusal), _why(refusal), refusal.edge.weight), _tone(refusal.reason))
        for refusal in proposal.refused
    )
    notes = tuple(Row((note.topic.value, note.where or None, note.text)) for note in proposal.notes)
    return Report(
        "recommendation",
        "Recommended policies",
        (
            _policies(proposal.policies),
            Section(
                f"Not allowed: {count(len(refusals), 'entry')}", (), (Table("refused", _REFUSAL_COLUMNS, refusals),)
            ),
            Section("Good to know", _host(proposal), (Table("notes", _NOTE_COLUMNS, notes),)),
            coverage_section(coverage),
        ),
    )


def proposal_summary(proposal: Proposal, coverage: Coverage, next_steps: Sequence[str] = ()) -> Report:
    """The same with refusals and notes counted by their reason."""
    return Report(
        "recommendation-summary",
        "",
        (
            coverage_section(coverage),
            _policies(proposal.policies),
            _refused(proposal.refused),
            _notes(proposal),
            Section("Next", tuple(next_steps)),
        ),
    )


def _policies(policies: Sequence[PolicyDraft]) -> Section:
    several = len({draft.subject.key.cluster for draft in policies}) > 1
    rows = tuple(
        Row(
            (_workload(draft, several), _rules(draft, Direction.INGRESS), _rules(draft, Direction.EGRESS),
             len({edge.key for rule in draft.rules for edge in rule.evidence}), draft.refused or None, draft.path),
            Tone.WARNING if draft.refused else Tone.PLAIN,
        )
        for draft in policies
    )  # fmt: skip
    notes = () if rows else ("Nothing to recommend: no accepted traffic of a workload was found.",)
    heading = f"Recommended: {count(len(rows), 'policy')}" if rows else "No policies"
    return Section(heading, notes, (Table("policies", _POLICY_COLUMNS, rows),))


def _workload(draft: PolicyDraft, several_clusters: bool) -> str:
    key = draft.subject.key
    return f"{key.cluster}:{key}" if several_clusters else str(key)


def _rules(draft: PolicyDraft, direction: Direction) -> int | None:
    """None, and not 0, for a direction that is left alone: 0 rules would mean that nothing is allowed."""
    return len(draft.section(direction)) or None


def _refused(refusals: Sequence[Refusal]) -> Section:
    groups: dict[Reason, list[Refusal]] = defaultdict(list)
    for refusal in refusals:
        groups[refusal.reason].append(refusal)
    rows = []
    for reason in Reason:
        found = groups.get(reason, [])
        if found:
            names = [" ".join(map(str, _arrow(refusal.edge))) for refusal in found]
            rows.append(Row((reason.value, len({each.edge.key for each in found}), _some(names)), _tone(reason)))
    edges = count(len({refusal.edge.key for refusal in refusals}), "connection")
    return Section(f"Seen and not allowed: {edges}", (), (Table("refused", _REASON_COLUMNS, tuple(rows)),))


def _notes(proposal: Proposal) -> Section:
    groups: dict[tuple[Topic, str], list[str]] = defaultdict(list)
    for note in proposal.notes:
        groups[note.topic, note.text].append(note.where)
    rows = tuple(Row((f"{topic.value}: {text}", len(where), _some(where))) for (topic, text), where in groups.items())
    return Section("Good to know", _host(proposal), (Table("notes", _NOTE_SUMMARY_COLUMNS, rows),))


def _host(proposal: Proposal) -> tuple[str, ...]:
    if not proposal.always_allowed:
        return ()
    edges = count(len(proposal.always_allowed), "connection")
    return (f"{edges} from a pod's own host (probes, for one) need no rule: Cilium always allows them.",)


def _some(names: Iterable[str]) -> str:
    found = Counter(name for name in names if name)
    shown = sorted(found)[:EXAMPLES]
    more = len(found) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def _ends(edge: Edge) -> tuple[str, str, str]:
    source = title(edge.source, edge.source_workloads)
    return source, title(edge.destination, edge.destination_workloads), str(edge.l4)


def _arrow(edge: Edge) -> tuple[str, ...]:
    source, destination, l4 = _ends(edge)
    return source, "->", destination, l4


def _side(refusal: Refusal) -> str:
    return "both" if refusal.direction is None else refusal.direction.name.lower()


def _why(refusal: Refusal) -> str:
    return f"{refusal.reason.value} ({refusal.detail})" if refusal.detail else refusal.reason.value


def _tone(reason: Reason) -> Tone:
    return Tone.PLAIN if reason in _EXPECTED else Tone.WARNING
