"""The view of drops: a short list of causes, and for each the evidence, the next step and the patch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.drops.cause import CauseKind
from analyzer.drops.drop import MINUTE, Drops
from analyzer.drops.findings import MAX_EXAMINED, Finding
from analyzer.drops.fix import MAX_EDGES, Fix
from analyzer.drops.reasons import DropClass, Weight
from analyzer.model.edge import Side
from analyzer.model.workload import title
from analyzer.report.diff import short
from analyzer.report.model import Block, Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count, moment

__all__ = ["SHOWN", "Extent", "drops_report", "drops_table", "in_a_line"]

SHOWN = 20
"""Findings that are told at length where the reader scrolls; machines and `wide` get all of them."""
TALKERS = 3
_COLUMNS = (
    Column("number", "#", number=True),
    Column("class", "Class"),
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("side", "Dropped at", wide=True),
    Column("drops", "Drops", number=True),
    Column("events", "Events", number=True, wide=True),
    Column("first", "First seen", wide=True),
    Column("last", "Last seen", wide=True),
    Column("cause", "Cause"),
)
_SHORT = {DropClass.INFRASTRUCTURE: "network", DropClass.LB_SOURCE_RANGE: "LB range"}
"""What a narrow terminal would fold."""
_TONES = {Weight.POLICY: Tone.BAD, Weight.INFRA: Tone.WARNING, Weight.PASSING: Tone.PLAIN}


@dataclass(frozen=True, slots=True)
class Extent:
    """What the findings are about, and what they cannot tell: whole sentences. `left_over` are events that found no room."""

    notes: tuple[str, ...] = ()
    left_over: Counter[DropClass] | None = None


def drops_report(found: Sequence[Finding], extent: Extent, *, full: bool = False) -> Report:
    """`full` tells all findings at length."""
    real = [each for each in found if not each.audit]
    audited = [each for each in found if each.audit]
    listed = list(enumerate((*real, *audited), 1))
    table = Table("drops", _COLUMNS, tuple(_row(number, each) for number, each in listed))
    sections = [Section("", _notes(found, extent), (table,))]
    told = listed if full else listed[:SHOWN]
    sections += [_section(number, each) for number, each in told]
    if len(listed) > len(told):
        more = f"{count(len(listed) - len(told), 'cause')} with fewer drops: -o wide tells all of them at length."
        sections.append(Section("", (more,)))
    return Report("drops", _heading(real, audited), tuple(sections), _summary(real, audited))


def drops_table(found: Sequence[Finding], heading: str, left: int) -> Report:
    """The table alone, with what stands above it, and how many causes there are beside those."""
    notes = (f"And {count(left, 'cause')} with fewer drops.",) if left > 0 else ()
    rows = tuple(_row(number, each) for number, each in enumerate(found, 1))
    return Report("drops", heading, (Section("", notes, (Table("drops", _COLUMNS, rows),)),))


def in_a_line(each: Finding) -> str:
    """``default deny: shop/web -> shop/cart 8080/TCP, ingress: ...``, with the cause that is believed most."""
    source, destination, l4 = _ends(each)
    place = f", {_place(each)}" if _place(each) else ""
    cause = f": {short(each.causes[0].words)}" if each.causes else ""
    return f"{_class(each)}: {source} -> {destination} {l4 or ''}".rstrip() + place + cause


def _heading(real: Sequence[Finding], audited: Sequence[Finding]) -> str:
    parts = []
    if real:
        causes = count(len(real), "cause")
        parts.append(f"{count(sum(each.number for each in real), 'drop')} of {causes}")
    if audited:
        number = sum(each.number for each in audited)
        parts.append(
            f"{count(number, 'connection')} that enforcement would have dropped, of {count(len(audited), 'cause')}"
        )
    everything = (*real, *audited)
    if not everything:
        return "No drops"
    first, last = min(each.first for each in everything), max(each.last for each in everything)
    return f"{', and '.join(parts)}, {_span(first, last)}"


def _span(first: int, last: int) -> str:
    if not last:
        return "at times that the record leaves out"
    one, other = moment(first), moment(last)
    return one if one == other else f"{one} to {other[11:] if one[:10] == other[:10] else other}"


def _summary(real: Sequence[Finding], audited: Sequence[Finding]) -> dict[str, int | str | bool]:
    weights = Counter[Weight]()
    for each in real:
        weights[each.weight] += each.number
    found: dict[str, int | str | bool] = {f"{weight.value}_drops": weights[weight] for weight in Weight}
    found |= {"drops": sum(weights.values()), "causes": len(real), "audited": sum(each.number for each in audited)}
    return found


def _notes(found: Sequence[Finding], extent: Extent) -> tuple[str, ...]:
    notes = list(extent.notes)
    if extent.left_over:
        many = ", ".join(f"{number:,} {kind}" for kind, number in sorted(extent.left_over.items()))
        notes.append(f"There were too many different drops to keep apart; left out are events of {many}.")
    if sum(len(each.scenes) for each in found) > MAX_EXAMINED:
        notes.append(
            f"The causes of the {MAX_EXAMINED} most frequent drops were looked into; the others are listed without."
        )
    return tuple(notes)


def _row(number: int, each: Finding) -> Row:
    source, destination, l4 = _ends(each)
    cause = str(each.causes[0].kind) if each.causes else None
    if each.weight is not Weight.POLICY:
        cause = each.scene.drops.key.row.name
    cells = (
        number, _class(each, short=True), source, destination, l4, _place(each), each.number, each.events, _moment(each.first),
        _moment(each.last), cause,
    )  # fmt: skip
    return Row(cells, _TONES[each.weight], _more(each))


def _class(each: Finding, *, short: bool = False) -> str:
    kind = _SHORT.get(each.kind, each.kind) if short else each.kind
    return f"audit: {kind}" if each.audit else str(kind)


def _place(each: Finding) -> str | None:
    return None if each.scene.side is Side.UNKNOWN else each.scene.section


def _moment(time: int) -> str | None:
    return moment(time) if time else None


def _ends(each: Finding) -> tuple[str, str, str | None]:
    """Both ends and the port; the most frequent where there are several."""
    edge = each.scene.edge
    sources = _several([title(scene.edge.source, scene.edge.source_workloads) for scene in each.scenes])
    others = _several([title(scene.edge.destination, scene.edge.destination_workloads) for scene in each.scenes])
    l4s = _several([str(scene.edge.l4) for scene in each.scenes])
    return sources, others, l4s if edge.l4.protocol else None


def _several(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    return different[0] if len(different) == 1 else f"{different[0]} and {len(different) - 1} more"


def _section(number: int, each: Finding) -> Section:
    source, destination, l4 = _ends(each)
    what = f"{source} -> {destination}{f' {l4}' if l4 else ''}"
    place = f", {each.scene.section} of {each.scene.titles[0]}" if each.scene.side else ""
    verb = "would have been dropped" if each.audit else "dropped"
    heading = f"{number}. {what}: {count(each.number, 'connection')} {verb} ({each.kind}{place})"
    notes = [*_causes(each), *_seen(each), f"Next: {short(each.step)}", *_fix_notes(each)]
    blocks = tuple(
        Block(f"{'A new file' if patch.new else 'Change'} {patch.path}:", patch.diff, "diff")
        for patch in (each.fix.patches if each.fix else ())
    )
    return Section(heading, tuple(notes), (), _TONES[each.weight], blocks)


def _causes(each: Finding) -> Iterable[str]:
    if each.causes:
        first, *others = each.causes
        if first.kind is CauseKind.CHANGED and each.disagreement:
            yield f"Cause: {short(each.disagreement)}"
        else:
            yield f"Cause: {' '.join(map(_sentence, (first.words, *first.evidence)))}"
            yield from filter(None, (short(each.disagreement),))
        for other in others:
            yield f"Also: {_sentence(other.words)}"
    row = each.scene.drops.key.row
    yield f"What people see: {row.symptom}."


def _sentence(words: str) -> str:
    return short(f"{words}.") if words[:1].isupper() else short(f"{words[:1].upper()}{words[1:]}.")


def _seen(each: Finding) -> Iterable[str]:
    drops = each.all_drops
    exact = all(one.exact for one in drops)
    number = count(each.number, "connection") if exact else f"at most {count(each.number, 'connection')}"
    minutes = _minutes(drops)
    busiest = ""
    if len(minutes) > 1:
        minute, most = max(minutes.items(), key=lambda item: (item[1], -item[0]))
        busiest = "" if most == 1 else f", most at {moment(minute * MINUTE)[11:]} ({most:,})"
    when = f" {_span(each.first, each.last)}{busiest}" if each.last else ""
    yield f"Seen: {number} in {count(each.events, 'event')},{when or ' at no known time'}."
    clients, servers = (_talkers(drops, each) for each in ("clients", "servers"))
    if clients and servers:
        yield f"From {clients}; to {servers}."


def _minutes(drops: Iterable[Drops]) -> Counter[int]:
    found = Counter[int]()
    for each in drops:
        found.update(each.minutes)
    return found


def _talkers(drops: Sequence[Drops], name: str) -> str:
    total, more = Counter[str](), False
    for each in drops:
        talkers = getattr(each, name)
        total.update(talkers.counts)
        more = more or talkers.overflow
    top = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{who} ({number:,})" for who, number in top[:TALKERS]]
    if len(top) > TALKERS:
        parts.append(f"{'more than ' if more else ''}{len(top) - TALKERS} more")
    return ", ".join(parts)


def _fix_notes(each: Finding) -> Iterable[str]:
    fix = each.fix
    if fix is None or not fix.patches:
        return
    if fix.confirmed:
        assuming = f", if {fix.assuming}" if fix.assuming else ""
        yield f"Replayed: the policy engine lets it pass with this change{assuming}. {_changes(fix)}"
    else:
        yield f"Replayed: the policy engine cannot confirm that this change is enough. {_changes(fix)}"
    yield from (_sentence(remark) for remark in fix.remarks)
    if len(each.scenes) > MAX_EDGES:
        yield f"It is made for {MAX_EDGES} of {len(each.scenes)} addresses, ports or requests, the most frequent."


def _changes(fix: Fix) -> str:
    parts = []
    if fix.opens:
        shown = ", ".join(fix.opens[:4]) + (f" and {len(fix.opens) - 4} more" if len(fix.opens) > 4 else "")
        parts.append(f"It also opens {shown}.")
    if fix.breaks:
        parts.append(f"It breaks {', '.join(fix.breaks[:4])}.")
    return " ".join(parts) or "Nothing else that is known changes."


def _more(each: Finding) -> dict[str, Any]:
    """For machines."""
    row = each.scene.drops.key.row
    found: dict[str, Any] = {
        "class": each.kind.value,
        "weight": each.weight.value,
        "audit": each.audit,
        "reason": row.number,
        "reason_name": row.name,
        "meaning": row.meaning,
        "symptom": row.symptom,
        "exact": all(drops.exact for drops in each.all_drops),
        "causes": [
            {
                "kind": cause.kind.value,
                "words": cause.words,
                "evidence": list(cause.evidence),
                "rule": str(cause.rule or ""),
            }
            for cause in each.causes
        ],
        "next": each.step,
        "clients": dict(each.scene.drops.clients.top(10)),
        "servers": dict(each.scene.drops.servers.top(10)),
        "ports": [str(scene.edge.l4) for scene in each.scenes],
        "requests": sorted({drops.key.request for drops in each.all_drops} - {""}),
        "denied_by": sorted({"/".join(filter(None, ref)) for drops in each.all_drops for ref in drops.denied_by}),
        "samples": sorted({sample for drops in each.all_drops for sample in drops.samples}),
        "by_minute": {moment(minute * MINUTE): number for minute, number in sorted(_minutes(each.all_drops).items())},
    }
    if each.disagreement:
        found["disagreement"] = each.disagreement
    if each.fix is not None:
        found["fix"] = _fix(each.fix)
    return found


def _fix(fix: Fix) -> dict[str, Any]:
    if not fix.patches:
        return {"obstacle": fix.obstacle}
    return {
        "places": list(fix.places),
        "confirmed": fix.confirmed,
        "assuming": fix.assuming,
        "also_opens": list(fix.opens),
        "breaks": list(fix.breaks),
        "notes": list(fix.remarks),
        "patches": [{"path": each.path, "new": each.new, "diff": each.diff} for each in fix.patches],
    }
