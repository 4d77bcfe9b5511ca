"""The view of usage: which rules are used, which nothing needs, and what they open beyond what was seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analyzer.policy.model import Action
from analyzer.report.diff import short
from analyzer.report.model import Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count, moment
from analyzer.usage import PolicyUse, RuleUse, Usage

__all__ = ["usage_report"]

MOST = 5
"""Idle peers named in a table; machines get all of them."""
_RULE = (Column("rule", "Rule"), Column("meaning", "What it says"))
_PLACE = Column("place", "Written in", wide=True)
_HIT_COLUMNS = (
    *_RULE,
    Column("action", "Action", wide=True),
    Column("edges", "Edges", number=True),
    Column("alone", "Only by it", number=True),
    Column("events", "Events", number=True),
    Column("first", "First used", wide=True),
    Column("last", "Last used"),
    _PLACE,
)
_UNUSED_COLUMNS = (*_RULE, Column("action", "Action"), Column("attempts", "Attempts", number=True), _PLACE)
_SHADOW_COLUMNS = (*_RULE, Column("by", "Covered by"), Column("effect", "So that it"), _PLACE)
_POLICY_COLUMNS = (
    Column("policy", "Policy"),
    Column("known", "Silent pods it selects", number=True),
    Column("place", "Written in", wide=True),
)
_EXCESS_COLUMNS = (
    *_RULE,
    Column("pairs", "Opens", number=True),
    Column("used", "Used", number=True),
    Column("idle", "Peers never seen"),
    Column("used_ports", "Ports used"),
    Column("addresses", "Outside addresses used", wide=True),
    _PLACE,
)
Places = Mapping[str, str]


def usage_report(used: Usage, places: Places, notes: Sequence[str] = (), *, limit: int | None = None) -> Report:
    """`places` are the files of policies by their name; at most `limit` rows per table."""
    allowing = [each for each in used.rules if each.used]
    idle = [each for each in used.unused if each.shadow is None or not each.shadow.denied]
    sections = (
        Section("", (*_window(used), *notes)),
        _section("Rules by use", "hits", _HIT_COLUMNS, [_hit(each, places) for each in _by_use(allowing)], limit=limit),
        _section(
            "Never used in this window", "unused", _UNUSED_COLUMNS, [_unused(each, places) for each in idle], limit=limit,
            notes=("Attempts are traffic that nobody answered, or that was dropped.",), tone=Tone.WARNING,
        ),
        _section(
            "Shadowed by another rule", "shadowed", _SHADOW_COLUMNS, [_shadowed(each, places) for each in used.shadowed],
            limit=limit, tone=Tone.WARNING,
        ),
        _section(
            "Policies that select nothing that was seen", "selecting_nothing", _POLICY_COLUMNS,
            [_policy(each, places) for each in used.selecting_nothing], limit=limit, tone=Tone.WARNING,
        ),
        _section(
            "Open beyond what was seen", "excess", _EXCESS_COLUMNS, [_excess(each, places) for each in used.excessive],
            limit=limit, notes=("Pairs of identities that are known; a short record shows few of those that are needed.",),
        ),
    )  # fmt: skip
    return Report("usage", _title(used), sections, _summary(used))


def _title(used: Usage) -> str:
    rules = f"{count(len(used.rules), 'rule')} of {count(len(used.policies), 'policy')}"
    unused = len(used.unused)
    return f"{rules}: {len(used.rules) - unused:,} used, {unused:,} never used"


def _summary(used: Usage) -> dict[str, int | str | bool]:
    return {
        "rules": len(used.rules),
        "policies": len(used.policies),
        "edges": used.edges,
        "unused": len(used.unused),
        "shadowed": len(used.shadowed),
        "selecting_nothing": len(used.selecting_nothing),
        "excessive": len(used.excessive),
        "unexplained": used.unexplained,
        "undecided": used.undecided,
    }


def _window(used: Usage) -> Iterable[str]:
    if not used.edges:
        yield "No traffic was found in the record: nothing can be said about use."
        return
    yield f"{count(used.edges, 'edge')} from {moment(used.first)} to {moment(used.last)}."
    if used.unexplained:
        yield (
            f"{count(used.unexplained, 'edge')} worked although these policies deny them: they are not all that was in force, "
            "or they changed meanwhile; `hubble-analyzer diff` names them."
        )
    if used.undecided:
        yield f"{count(used.undecided, 'edge')} could not be decided; an inventory helps (--inventory)."


def _section(
    title: str, key: str, columns: tuple[Column, ...], rows: Sequence[Row], *, limit: int | None,
    notes: tuple[str, ...] = (), tone: Tone = Tone.PLAIN,
) -> Section:  # fmt: skip
    if not rows:
        return Section(title)
    if limit is not None and len(rows) > limit:
        notes = (*notes, f"{count(len(rows) - limit, 'row')} more; -o wide has them all.")
    return Section(f"{title}: {len(rows):,}", notes, (Table(key, columns, tuple(rows[:limit])),), tone)


def _by_use(rules: Iterable[RuleUse]) -> list[RuleUse]:
    return sorted(rules, key=lambda each: (-each.edges, -each.weight, each.origin))


def _named(each: RuleUse) -> tuple[str, str]:
    return short(str(each.origin)), each.meaning


def _row(each: RuleUse, places: Places, *cells: str | int | None, more: Mapping[str, Any] | None = None) -> Row:
    """A row that begins with the rule and ends with the file it is written in."""
    name, meaning = _named(each)
    return Row(
        (name, meaning, *cells, places.get(str(each.origin.policy))), more={"origin": str(each.origin), **(more or {})}
    )


def _hit(each: RuleUse, places: Places) -> Row:
    return _row(
        each, places, each.action.value, each.edges, each.alone, each.weight, moment(each.first), moment(each.last)
    )


def _unused(each: RuleUse, places: Places) -> Row:
    return _row(each, places, each.action.value, each.attempts)


def _shadowed(each: RuleUse, places: Places) -> Row:
    shadow = each.shadow
    assert shadow is not None
    if shadow.denied:
        effect = "allows nothing: the other denies it all"
    elif shadow.unfiltered:
        effect = "filters nothing: the other lets every request pass"
    else:
        effect = f"{'denies' if each.action is Action.DENY else 'allows'} nothing more"
    return _row(each, places, short(str(shadow.by)), effect, more={"covered_by": str(shadow.by)})


def _policy(each: PolicyUse, places: Places) -> Row:
    return Row((str(each.ref), each.known, places.get(str(each.ref))))


def _excess(each: RuleUse, places: Places) -> Row:
    excess = each.excess
    assert excess is not None
    named = ", ".join(excess.idle[:MOST]) + (f" and {len(excess.idle) - MOST} more" if len(excess.idle) > MOST else "")
    addresses = excess.addresses if excess.outside else None
    more = {
        "subjects": excess.subjects,
        "peers": excess.peers,
        "idle_peers": list(excess.idle),
        "ports": excess.ports,
        "outside": excess.outside,
    }
    used_ports = ", ".join(excess.used_ports) or None
    return _row(each, places, excess.pairs, excess.used, named or None, used_ports, addresses, more=more)
