"""The view of a platform baseline: the clusterwide policies, what to look at first, and what default deny would close."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from analyzer.baseline import PLATFORM, Baseline
from analyzer.diff import Finding
from analyzer.model.flow import Direction
from analyzer.model.workload import title
from analyzer.recommend import SubjectKey
from analyzer.report.model import Column, Row, Section, Table, Tone
from analyzer.report.words import count

__all__ = ["baseline_sections"]

_POLICIES = (Column("name", "Policy"), Column("text", "What it is for"), Column("path", "File", wide=True))
_CAUTIONS = (Column("topic", "What"), Column("where", "Where"), Column("text", "Detail"))
_CLOSED = (Column("workload", "Workload"), Column("directions", "Nothing seen for"))
_BROKEN = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("events", "Events", number=True),
    Column("reason", "Why"),
)
_SHOWN = 20
"""Rows of a table where room is short."""


def baseline_sections(found: Baseline, broken: Sequence[Finding], *, full: bool) -> tuple[Section, ...]:
    """What the baseline is, and what to look at; `broken` are the recorded connections that only default deny would drop.
    Unless `full`, long tables are cut."""
    if not found.platforms:
        return (Section("No platform baseline", ("No traffic of a workload was found that one could be based on.",)),)
    sections = (_policies(found), _cautions(found), _closing(found, broken))
    return sections if full else tuple(section.cut(_SHOWN) for section in sections)


def _policies(found: Baseline) -> Section:
    several = len(found.platforms) > 1
    rows = tuple(
        Row(
            (
                f"{_place(each.path)}{each.data['metadata']['name']}" if several else each.data["metadata"]["name"],
                _purpose(each.header),
                each.path,
            )
        )
        for each in (*found.platform, *found.closing)
    )
    notes = (
        f"Clusterwide; those in {PLATFORM} are applied first and close nothing. System namespaces are left alone: "
        f"{', '.join(found.system[:8])}{' and others' if len(found.system) > 8 else ''}.",
    )
    return Section(f"Platform baseline: {count(len(rows), 'policy')}", notes, (Table("baseline", _POLICIES, rows),))


def _place(path: str) -> str:
    """The folder of the cluster, where each has one."""
    return f"{path.split('/', 1)[0]}:"


def _purpose(header: Sequence[str]) -> str:
    return header[0].partition(": ")[2] if header else ""


def _cautions(found: Baseline) -> Section:
    rows = tuple(Row((each.topic.value, each.where, each.text), Tone.WARNING) for each in found.cautions)
    return Section("Look at these first", (), (Table("cautions", _CAUTIONS, rows),), Tone.WARNING)


def _closing(found: Baseline, broken: Sequence[Finding]) -> Section:
    ways: dict[SubjectKey, list[str]] = defaultdict(list)
    for direction in (Direction.INGRESS, Direction.EGRESS):
        for key in found.unseen.get(direction, ()):
            ways[key].append(direction.name.lower())
    several = len(found.platforms) > 1
    rows = tuple(
        Row((f"{key.cluster}:{key}" if several else str(key), " and ".join(each))) for key, each in sorted(ways.items())
    )
    dropped = tuple(_broken(finding) for finding in broken)
    told = (
        f"Of what was recorded it would drop {count(len(broken), 'connection')} that the policies above let pass."
        if broken
        else "Of what was recorded, it would drop nothing that the policies above let pass."
    )
    tables = (Table("would_drop", _BROKEN, dropped), Table("unseen", _CLOSED, rows))
    note = f"It closes directions in which nothing was seen, for {count(len(rows), 'workload')}; no policy of theirs opens these."
    return Section("What default deny would close", (told, *([note] if rows else ())), tables)


def _broken(finding: Finding) -> Row:
    edge = finding.edge
    source, destination = title(edge.source, edge.source_workloads), title(edge.destination, edge.destination_workloads)
    return Row((source, destination, str(edge.l4), edge.weight, finding.reason), Tone.BAD)
