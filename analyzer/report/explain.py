"""The view of one question: may this end talk to that one, who says so on either side, and what was recorded of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.manifests import dump
from analyzer.model.edge import ActivityKey, Edge, Side
from analyzer.model.flow import EventKind, Verdict
from analyzer.model.l4 import L4
from analyzer.model.workload import title
from analyzer.policy.resolve import UNMANAGED
from analyzer.report.diff import short, suggestion
from analyzer.report.model import Block, Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count, moment
from analyzer.simulate import EdgeOutcome, Result, SideOutcome
from analyzer.suggest import Advice, Miss

__all__ = ["Answer", "explain_report"]

MAX_RECORDED = 50
NOT_ENFORCED = str(UNMANAGED)
_TONES = {Result.ALLOWED: Tone.GOOD, Result.DENIED: Tone.BAD, Result.UNDECIDED: Tone.WARNING}
_RULE_COLUMNS = (
    Column("rule", "Rule"),
    Column("effect", "What it does"),
    Column("place", "Written in"),
)
_RECORD_COLUMNS = (
    Column("source", "From"),
    Column("destination", "To"),
    Column("l4", "Port"),
    Column("status", "Status"),
    Column("events", "Events", number=True),
    Column("first", "First seen", wide=True),
    Column("last", "Last seen"),
)
_VERDICT_COLUMNS = (
    Column("side", "Reported by"),
    Column("kind", "As"),
    Column("verdict", "Verdict"),
    Column("events", "Events", number=True),
    Column("last", "Last seen"),
)
_REPORTERS: dict[int, str] = {Side.SOURCE: "the client's side", Side.DESTINATION: "the server's side"}
_EVENTS: dict[int, str] = {
    EventKind.DROP: "drop",
    EventKind.TRACE: "forwarding",
    EventKind.POLICY_VERDICT: "policy verdict",
    EventKind.L7: "L7 proxy",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What policies decide about one pair of identities; `advices` and `misses` by direction."""

    outcome: EdgeOutcome
    advices: Mapping[str, Advice]
    misses: Mapping[str, tuple[Miss, ...]]


def explain_report(
    ends: tuple[str, str], l4: L4 | None, answers: Sequence[Answer], recorded: Sequence[Edge], places: Mapping[str, str]
) -> Report:
    """`answers` is empty without policies; `places` are the files of policies, by the name that rules begin with."""
    asked = f"{ends[0]} -> {ends[1]}{f' {l4}' if l4 else ''}"
    result = _verdict(answers)
    sections: list[Section] = []
    for answer in answers:
        if len(answers) > 1:
            sections.append(Section("", (f"With {_labels(answer.outcome.edge)}:",)))
        sections += [
            _side("Egress", ends[0], answer.outcome.egress, answer, places),
            _side("Ingress", ends[1], answer.outcome.ingress, answer, places),
        ]
        if answer.outcome.refused_requests:
            refused = ", ".join(answer.outcome.refused_requests)
            sections.append(Section("Requests that the proxy would refuse", (f"Of those that were seen: {refused}.",)))
    sections += _recorded(recorded, seen=bool(answers))
    summary: dict[str, int | str | bool] = {"from": ends[0], "to": ends[1]}
    summary |= {"l4": str(l4)} if l4 else {}
    summary |= {"result": result} if result else {}
    heading = f"{asked}: {result}" if result else f"{asked}: {_seen(recorded)}"
    return Report("explain", heading, tuple(sections), summary)


def _verdict(answers: Sequence[Answer]) -> str:
    results = list(dict.fromkeys(answer.outcome.result for answer in answers))
    if not results:
        return ""
    if len(results) > 1:
        return "it depends on the identity"
    proxied = any(answer.outcome.egress.proxied or answer.outcome.ingress.proxied for answer in answers)
    return f"{results[0].value}{', through the L7 proxy' if proxied and results[0] is Result.ALLOWED else ''}"


def _seen(recorded: Sequence[Edge]) -> str:
    statuses = ", ".join(sorted({edge.status.value for edge in recorded}))
    return f"recorded as {statuses}" if recorded else "nothing was recorded"


def _labels(edge: Edge) -> str:
    parts = [", ".join(end.labels.strings()) for end in (edge.source, edge.destination)]
    return f"{parts[0]} -> {parts[1]}"


def _side(name: str, end: str, side: SideOutcome, answer: Answer, places: Mapping[str, str]) -> Section:
    direction = name.lower()
    rules = _rules(side, places)
    notes = [_sentence(side.reason)] if side.reason else []
    if side.result is Result.ALLOWED and not side.selected_by and not side.reason:
        notes.append(f"No policy asks for default deny here: {direction} is open, apart from deny rules.")
    notes += [f"Almost: {short(str(miss.origin))} {miss.words}." for miss in answer.misses.get(direction, ())]
    advice = answer.advices.get(direction)
    blocks: tuple[Block, ...] = ()
    if advice is not None and advice.rule is not None:
        caption = f"The smallest change that would allow it: {'write' if advice.new else 'add to'} {advice.place}:"
        comments = "".join(f"# {remark}\n" for remark in advice.remarks)
        blocks = (Block(caption, comments + dump([advice.snippet()])),)
    elif advice is not None:
        notes.append(_sentence(advice.obstacle))
    return Section(
        f"{name} of {end}: {side.result.value}",
        tuple(notes),
        (Table("rules", _RULE_COLUMNS, tuple(rules)),),
        _TONES[side.result],
        blocks,
        more=_more(direction, side, answer),
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{short(words[1:])}."


def _more(direction: str, side: SideOutcome, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "side": direction,
        "result": side.result.value,
        "reason": side.reason,
        "proxied": side.proxied,
    }
    found["near_misses"] = [
        {"rule": str(each.origin), "missing": each.words} for each in answer.misses.get(direction, ())
    ]
    if direction in answer.advices:
        found["suggestion"] = suggestion(answer.advices[direction])
    return found


def _rules(side: SideOutcome, places: Mapping[str, str]) -> Iterable[Row]:
    """Every rule that made the decision, those that decide it first."""
    decided = "denies, and decides" if side.result is Result.DENIED else "allows, and decides"
    if side.proxied:
        decided = "sends it to the L7 proxy"
    effects: dict[str, str] = dict.fromkeys(side.rules, decided)
    for rule in side.allowing:
        effects.setdefault(rule, "allows" if side.result is not Result.DENIED else "allows, and is outranked")
    for policy in side.selected_by:
        effects.setdefault(policy, "turns default deny on here")
    if side.rules == (NOT_ENFORCED,):
        return
    for rule, effect in effects.items():
        yield Row((short(rule), effect, _place(rule, places)), more={"rule": rule})


def _place(rule: str, places: Mapping[str, str]) -> str | None:
    # A rule is named as its policy is, with the section behind it.
    return next((where for policy, where in places.items() if rule == policy or rule.startswith(f"{policy} ")), None)


def _recorded(recorded: Sequence[Edge], *, seen: bool) -> list[Section]:
    if not recorded:
        return [Section("What was recorded", ("No traffic between them was found in the record.",) if not seen else ())]
    ordered = sorted(recorded, key=lambda edge: (-edge.weight, edge.key))
    rows = tuple(
        Row((title(edge.source, edge.source_workloads), title(edge.destination, edge.destination_workloads), str(edge.l4),
             edge.status.value, edge.weight, moment(edge.stats.first), moment(edge.stats.last)))
        for edge in ordered[:MAX_RECORDED]
    )  # fmt: skip
    table = Table("recorded", _RECORD_COLUMNS, rows)
    notes = [*_policies(ordered), *_names(ordered)]
    if len(ordered) > MAX_RECORDED:
        notes.append(f"{count(len(ordered) - MAX_RECORDED, 'edge')} with fewer events are left out.")
    return [
        Section("What was recorded", tuple(notes), (table,)),
        Section("Who reported it", (), (_verdicts(ordered),)),
    ]


def _policies(edges: Sequence[Edge]) -> Iterable[str]:
    for word, attribute in (("allowed", "allowed_by"), ("denied", "denied_by")):
        found = sorted({each for edge in edges for each in getattr(edge.stats, attribute)})
        named = [
            f"{kind} {f'{namespace}/' if namespace else ''}{name} ({at.lower()})" for at, kind, namespace, name in found
        ]
        if named:
            yield f"The cluster says it was {word} by {', '.join(named)}."


def _names(edges: Sequence[Edge]) -> Iterable[str]:
    names = sorted({name for edge in edges for name in edge.stats.names})
    if names:
        yield f"DNS names: {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}."


def _verdicts(edges: Sequence[Edge]) -> Table:
    """What either side reported, day by day together."""
    found: dict[tuple[int, int, int, int], list[int]] = {}
    for edge in edges:
        for key, activity in edge.stats.activity.items():
            cell = found.setdefault((key.side, key.kind, key.verdict, key.reason), [0, 0])
            cell[0] += activity.weight
            cell[1] = max(cell[1], activity.last)
    rows = tuple(
        Row((_REPORTERS.get(side, "either side"), _EVENTS.get(kind, f"event {kind}"),
             _verdict_words(ActivityKey(0, side, kind, verdict, reason)), weight, moment(last)))
        for (side, kind, verdict, reason), (weight, last) in sorted(found.items())
    )  # fmt: skip
    return Table("verdicts", _VERDICT_COLUMNS, rows)


def _verdict_words(key: ActivityKey) -> str:
    words = Verdict(key.verdict).name.lower() if key.verdict in Verdict._value2member_map_ else str(key.verdict)
    return f"{words} (reason {key.reason})" if key.reason else words
