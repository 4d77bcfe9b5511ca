"""The view of the price list: per namespace, what each level of detail costs, what it leaves open, and which one to take."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.model.flow import Direction
from analyzer.recommend.prices import Budget, Choice, Price, percent
from analyzer.report.model import Column, Report, Row, Section, Table, Tone
from analyzer.report.words import count

__all__ = ["granularity_report"]

_COLUMNS = (
    Column("directions", "Directions", wide=True),
    Column("level", "Level"),
    Column("policies", "Policies", number=True),
    Column("rules", "Rules", number=True),
    Column("lines", "YAML lines", number=True),
    Column("excess", "Excess", number=True),
    Column("unseen", "Allowed, never seen", number=True),
    Column("universe", "Of", number=True, wide=True),
    Column("open", "Directions left open", number=True, wide=True),
    Column("broke", "Would have broken", number=True, wide=True),
    Column("choice", ""),
)
_CHOICES = (Column("namespace", "Namespace"), Column("level", "Coarsest level that fits"), Column("why", "Why"))


def granularity_report(
    prices: Sequence[Price], choices: Sequence[Choice], budget: Budget, *, full: bool = False
) -> Report:
    """The choice for every namespace first, then its prices for both directions; `full` also tells each direction alone."""
    both = max((price.directions for price in prices), key=len, default=frozenset[Direction]())
    chosen = {(choice.namespace, choice.directions): choice for choice in choices}
    shown = [choice for choice in choices if full or choice.directions == both]
    rows = tuple(
        Row(
            (_place(choice, full), str(choice.level or "none"), choice.why),
            Tone.PLAIN if choice.level else Tone.WARNING,
        )
        for choice in shown
    )
    sections = [
        Section("", (_budget(budget), *_EXPLAINED)),
        Section("What to take", (), (Table("choices", _CHOICES, rows),)),
    ]
    for namespace in sorted({price.namespace for price in prices}):
        own = [price for price in prices if price.namespace == namespace and (full or price.directions == both)]
        table = Table("prices", _COLUMNS, tuple(_row(price, chosen) for price in own))
        sections.append(Section(namespace, (), (table,), more={"namespace": namespace}))
    names = {price.namespace for price in prices}
    return Report("granularity", f"Levels of detail for {count(len(names), 'namespace')}", tuple(sections))


_EXPLAINED = (
    "Excess: of all that could be - every workload, every known peer, every port seen in use at the server and one more - the "
    "share that a level allows although nobody was ever seen to do it. Directions that are left alone are open, and not in it.",
)


def _budget(budget: Budget) -> str:
    parts = [] if budget.excess is None else [f"at most {budget.excess:g} % excess (--max-excess)"]
    parts += [] if budget.rules is None else [f"at most {budget.rules} rules in a namespace (--max-rules)"]
    return f"Budget: {' and '.join(parts) or 'none'}."


def _place(choice: Choice, full: bool) -> str:
    return f"{choice.namespace} ({_directions(choice.directions)})" if full else choice.namespace


def _directions(directions: frozenset[Direction]) -> str:
    return "both" if len(directions) == 2 else "".join(each.name.lower() for each in directions)


def _row(price: Price, chosen: dict[tuple[str, frozenset[Direction]], Choice]) -> Row:
    choice = chosen.get((price.namespace, price.directions))
    taken = choice is not None and choice.level == price.level
    cells = (
        _directions(price.directions), str(price.level), price.policies, price.rules, price.lines,
        percent(price.excess.percent), price.excess.unseen, price.excess.universe, price.excess.open, price.broke,
        "<- fits" if taken else "",
    )  # fmt: skip
    return Row(cells, Tone.GOOD if taken else Tone.PLAIN)
