"""The price list: per namespace and level of detail, what there is to maintain against what is open beyond what was seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from analyzer.manifests import dump
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.inventory import Inventory
from analyzer.recommend.draft import Draft, Options, PolicyDraft
from analyzer.recommend.excess import Excess, Universe, universe
from analyzer.recommend.granularity import LEVELS, Level, at
from analyzer.recommend.passes import PASSES
from analyzer.recommend.peers import peers
from analyzer.recommend.render import policy
from analyzer.recommend.subjects import subjects

__all__ = ["DIRECTIONS", "Backtest", "Budget", "Choice", "Price", "choose", "price_list"]

Backtest = Callable[[str, Level, frozenset[Direction]], int | None]
"""How often the policies of a namespace at a level, in these directions, would have broken something; None if unknown."""

INGRESS, EGRESS = frozenset({Direction.INGRESS}), frozenset({Direction.EGRESS})
DIRECTIONS = (INGRESS, EGRESS, INGRESS | EGRESS)
"""Ingress, egress, and both."""

_SECTIONS = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}
_FROM_SUBJECTS_ON = PASSES.index(subjects) + 1


@dataclass(frozen=True, slots=True)
class Price:
    """What one level costs in one namespace: `policies`, `rules` and `lines` of YAML to maintain, and the `excess`. `broke` is
    how often it would have broken something, None where nobody looked."""

    namespace: str
    level: Level
    directions: frozenset[Direction]
    policies: int
    rules: int
    lines: int
    excess: Excess
    broke: int | None = None


class Budget(NamedTuple):
    """What a level may cost in a namespace: excess in percent, and rules to maintain. None is no limit."""

    excess: float | None = 5.0
    rules: int | None = None

    def objections(self, price: Price) -> list[str]:
        """Why `price` is too high; empty if it is not."""
        found = []
        if self.excess is not None and price.excess.percent > self.excess:
            found.append(f"{percent(price.excess.percent)} excess is more than {self.excess:g} %")
        if self.rules is not None and price.rules > self.rules:
            found.append(f"{price.rules} rules are more than {self.rules}")
        return found


class Choice(NamedTuple):
    """The coarsest level of a namespace within the budget, None if there is none, and why."""

    namespace: str
    directions: frozenset[Direction]
    level: Level | None
    why: str


def price_list(
    edges: Sequence[Edge],
    inventory: Inventory | None = None,
    options: Options | None = None,
    backtest: Backtest | None = None,
) -> tuple[Price, ...]:
    """The price of every level, for ingress, egress and both, in every namespace that `options` write policies for.

    By namespace, then directions, then level, the coarsest first.
    """
    chosen = options or Options()
    draft = Draft(
        tuple(sorted(edges, key=lambda edge: edge.key)), inventory or Inventory(), replace(chosen, existing=())
    )
    for each in PASSES[:_FROM_SUBJECTS_ON]:
        draft = each(draft)
    namespaces = sorted({key.namespace for key in draft.subjects if chosen.settings(key.namespace).directions})
    drafted = {level: _drafted(draft, level, namespaces) for level in LEVELS}
    rules = [rule for policies in drafted.values() for made in policies for rule in made.rules]
    world = universe(peers(replace(draft, options=Options(system=frozenset()))), namespaces, rules)
    found = {level: _prices(policies, level, namespaces, world) for level, policies in drafted.items()}
    return tuple(
        replace(price, broke=backtest(namespace, level, directions)) if backtest else price
        for namespace in namespaces
        for directions in DIRECTIONS
        if directions <= chosen.settings(namespace).directions
        for level in LEVELS
        for price in (found[level][namespace, directions],)
    )


def _drafted(draft: Draft, level: Level, namespaces: Sequence[str]) -> tuple[PolicyDraft, ...]:
    """The policies of one level."""
    options = draft.options
    settings = {name: at(options.settings(name), level) for name in namespaces}
    draft = replace(draft, options=replace(options, default=at(options.default, level), namespaces=settings))
    for each in PASSES[_FROM_SUBJECTS_ON:]:
        draft = each(draft)
    return draft.policies


def _prices(
    policies: Sequence[PolicyDraft], level: Level, namespaces: Sequence[str], world: Universe
) -> dict[tuple[str, frozenset[Direction]], Price]:
    """What every namespace costs at one level."""
    excess = world.excess((made.subject.key.cluster, policy(made)) for made in policies)
    by_namespace: dict[str, list[PolicyDraft]] = defaultdict(list)
    for made in policies:
        by_namespace[made.subject.key.namespace].append(made)
    return {
        (name, directions): _price(name, level, directions, by_namespace[name], excess)
        for name in namespaces
        for directions in DIRECTIONS
    }


def _price(
    namespace: str,
    level: Level,
    directions: frozenset[Direction],
    drafts: Iterable[PolicyDraft],
    excess: dict[tuple[str, Direction], Excess],
) -> Price:
    policies = rules = lines = 0
    for each in drafts:
        own = [rule for rule in each.rules if rule.direction in directions]
        if own:
            policies += 1
            rules += len(own)
            lines += _lines(each, directions)
    total = Excess()
    for direction in directions:
        total = total.plus(excess.get((namespace, direction), Excess()))
    return Price(namespace, level, directions, policies, rules, lines, total)


def _lines(draft: PolicyDraft, directions: frozenset[Direction]) -> int:
    """Lines of YAML of one policy, comments apart, with the sections of `directions` only."""
    document = policy(draft)
    for direction, section in _SECTIONS.items():
        if direction not in directions:
            document["spec"].pop(section, None)
    return dump([document]).count("\n")


def choose(prices: Iterable[Price], budget: Budget) -> tuple[Choice, ...]:
    """The coarsest level within `budget` for every namespace and directions of a price list, in its order."""
    groups: dict[tuple[str, frozenset[Direction]], list[Price]] = defaultdict(list)
    for price in prices:
        groups[price.namespace, price.directions].append(price)
    return tuple(_choose(group, budget) for group in groups.values())


def _choose(group: Sequence[Price], budget: Budget) -> Choice:
    place = group[0].namespace, group[0].directions
    if not any(price.policies for price in group):
        return Choice(*place, None, "nothing was seen that a policy could allow")
    refused: list[str] = []
    for price in group:
        objections = budget.objections(price)
        if not objections:
            rules = "1 rule" if price.rules == 1 else f"{price.rules} rules"
            policies = "1 policy" if price.policies == 1 else f"{price.policies} policies"
            kept = f"{percent(price.excess.percent)} excess with {rules} in {policies}"
            coarser = f"; coarser ones do not fit ({'; '.join(refused)})" if refused else "; it is the coarsest level"
            return Choice(*place, price.level, f"{kept}{coarser}")
        refused.append(f"{price.level}: {' and '.join(objections)}")
    return Choice(*place, None, f"no level fits ({'; '.join(refused)})")


def percent(share: float) -> str:
    """A share for people: never rounded to nothing."""
    return f"{share:.1f} %" if share >= 0.05 or not share else "< 0.1 %"
