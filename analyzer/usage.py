"""Usage: what recorded traffic says about policies - hits per rule, rules and policies that nothing needs, access never used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analyzer.model.edge import Edge, Endpoint, Side, Status
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, spans
from analyzer.model.labels import Labels
from analyzer.model.perspective import policy_labels
from analyzer.model.workload import title
from analyzer.policy import Origin, Policy, PolicyRef, compile_policies
from analyzer.policy.cover import Shadow, items_of, shadows
from analyzer.policy.model import Action, Item, Rule, Section
from analyzer.policy.resolve import RuleIndex
from analyzer.policy.selector import Peer
from analyzer.policy.sides import Selectors
from analyzer.policy.words import peers_in_words, ports_in_words
from analyzer.simulate import EdgeOutcome, Result, SideOutcome, Simulation

__all__ = ["Excess", "PolicyUse", "RuleUse", "Usage", "usage"]

USED = (Status.FORWARDED, Status.AUDITED)
"""Traffic that worked. What nobody answered, or was dropped, is only an attempt."""


@dataclass(frozen=True, slots=True)
class Excess:
    """What an allow rule opens beyond what was seen to use it, among the identities that are known.

    `pairs` are subjects times peers, `used` those that traffic used; `idle` are peers that nobody was seen to need, by title.
    `ports` and `used_ports` are in words. `outside`: the rule also opens addresses outside, of which `addresses` were seen.
    """

    subjects: int
    peers: int
    pairs: int
    used: int
    idle: tuple[str, ...]
    ports: str
    used_ports: tuple[str, ...]
    outside: bool
    addresses: int

    @property
    def unused(self) -> int:
        return self.pairs - self.used


@dataclass(frozen=True, slots=True)
class RuleUse:
    """One rule and what was seen of it; `meaning` is the rule in words.

    `edges` is traffic that worked and that it allows, or any that it denies; `alone` is the part of it that no other rule
    speaks for; `attempts` is traffic that it allows and that never worked. `first` and `last` are in nanoseconds, as edges are.
    """

    origin: Origin
    action: Action
    meaning: str
    edges: int = 0
    weight: int = 0
    alone: int = 0
    attempts: int = 0
    first: int = 0
    last: int = 0
    shadow: Shadow | None = None
    excess: Excess | None = None

    @property
    def used(self) -> bool:
        return self.edges > 0


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """A policy, and how many identities it selects: of those that were seen, and of all that are known."""

    ref: PolicyRef
    seen: int
    known: int


@dataclass(frozen=True, slots=True)
class Usage:
    """`rules` and `policies` in canonical order. `unexplained` are edges that worked although the policies would deny them:
    these are not all policies, or they changed meanwhile. `undecided` are those that the engine cannot decide."""

    rules: tuple[RuleUse, ...]
    policies: tuple[PolicyUse, ...]
    edges: int
    first: int
    last: int
    unexplained: int
    undecided: int

    @property
    def unused(self) -> tuple[RuleUse, ...]:
        return tuple(each for each in self.rules if not each.used)

    @property
    def shadowed(self) -> tuple[RuleUse, ...]:
        return tuple(each for each in self.rules if each.shadow is not None)

    @property
    def excessive(self) -> tuple[RuleUse, ...]:
        """Rules that open more than was used, the widest first."""
        found = [each for each in self.rules if each.excess is not None and (each.excess.unused or each.excess.outside)]
        return tuple(sorted(found, key=lambda each: (-each.excess.unused if each.excess else 0, each.origin)))

    @property
    def selecting_nothing(self) -> tuple[PolicyUse, ...]:
        return tuple(each for each in self.policies if not each.seen)


@dataclass(slots=True)
class _Tally:
    """What is counted about one rule while edges go by."""

    edges: int = 0
    weight: int = 0
    alone: int = 0
    attempts: int = 0
    first: int = 0
    last: int = 0
    pairs: set[tuple[Endpoint, Endpoint]] = field(default_factory=set)
    l4s: set[L4] = field(default_factory=set)

    def add(self, edge: Edge, pair: tuple[Endpoint, Endpoint], *, alone: bool) -> None:
        first, last = edge.stats.first, edge.stats.last
        self.first = min(self.first, first) if self.edges else first
        self.last = max(self.last, last)
        self.edges += 1
        self.weight += edge.weight
        self.alone += alone
        self.pairs.add(pair)
        self.l4s.add(edge.l4)


class _Known(NamedTuple):
    """An identity that is known, with what it is called; `seen` if traffic showed it."""

    labels: Labels
    title: str
    seen: bool


def usage(edges: Sequence[Edge], policies: Iterable[Policy], inventory: Inventory) -> Usage:
    """What `edges` show of `policies`, which are taken to be in force while they were recorded."""
    kept = {policy.ref: policy for policy in policies}
    rules = [each for _, policy in sorted(kept.items()) for each in items_of(policy)]
    tallies = {str(origin): _Tally() for origin, _, _ in rules}
    resolving = frozenset(edge.source for edge in edges if edge.stats.names)
    simulation = Simulation(compile_policies(kept.values(), inventory), inventory, resolving)
    results = [_count(simulation.outcome(edge), tallies) for edge in edges]
    known = _known(edges, inventory)
    reach = _Reach(kept.values(), known, inventory)
    covered = shadows(kept.values(), inventory.options)
    return Usage(
        tuple(_rule_use(each, tallies[str(each[0])], covered, reach) for each in rules),
        tuple(PolicyUse(ref, *reach.selected(ref)) for ref in sorted(kept)),
        len(edges),
        min((edge.stats.first for edge in edges), default=0),
        max((edge.stats.last for edge in edges), default=0),
        sum(edge.status in USED and result is Result.DENIED for edge, result in zip(edges, results, strict=True)),
        results.count(Result.UNDECIDED),
    )


def _count(outcome: EdgeOutcome, tallies: Mapping[str, _Tally]) -> Result:
    edge = outcome.edge
    sides = ((Side.SOURCE, outcome.egress), (Side.DESTINATION, outcome.ingress))
    for at, side in sides:
        ends = edge.source, edge.destination
        pair = ends if at is Side.SOURCE else ends[::-1]
        for name in side.rules if side.result is Result.DENIED else ():
            if name in tallies:
                tallies[name].add(edge, pair, alone=len(side.rules) == 1)
        for name in side.allowing if side.result is Result.ALLOWED else ():
            if name in tallies:
                _allowed(tallies[name], edge, pair, side)
    return outcome.result


def _allowed(tally: _Tally, edge: Edge, pair: tuple[Endpoint, Endpoint], side: SideOutcome) -> None:
    if edge.status in USED:
        tally.add(edge, pair, alone=len(side.allowing) == 1)
    else:
        tally.attempts += 1


def _known(edges: Iterable[Edge], inventory: Inventory) -> tuple[_Known, ...]:
    """Every identity inside the cluster: of the edges, then of the inventory."""
    found: dict[Labels, _Known] = {}
    for edge in edges:
        for end, workloads in (
            (edge.source, edge.source_workloads),
            (edge.destination, edge.destination_workloads),
        ):
            labels = policy_labels(end)
            if labels and not end.address and labels not in found:
                found[labels] = _Known(labels, title(end, workloads), seen=True)
    for each in inventory.endpoints:
        if each.labels not in found:
            found[each.labels] = _Known(each.labels, f"{each.namespace}/{each.name}", seen=False)
    return tuple(sorted(found.values()))


class _Reach:
    """Whom rules select, and whom they speak of, among the identities that are known."""

    def __init__(self, policies: Iterable[Policy], known: Sequence[_Known], inventory: Inventory) -> None:
        self._known = known
        self._selectors = Selectors(inventory)
        self._chosen: dict[int, list[_Known]] = defaultdict(list)
        self._subjects: dict[tuple[PolicyRef, int], list[_Known]] = defaultdict(list)
        self._selected: dict[PolicyRef, set[_Known]] = defaultdict(set)
        index = RuleIndex(policies)
        for _, rule in index.rules:
            for item in rule.items:
                for selector in item.peers or ():
                    self._selectors.number(selector)
        for each in known:
            for ref, rule in index.selecting(each.labels, host_labels=inventory.host_labels):
                self._subjects[ref, rule.spec].append(each)
                self._selected[ref].add(each)
            for number in self._selectors.choosing(each.labels).sure:
                self._chosen[number].append(each)

    def selected(self, ref: PolicyRef) -> tuple[int, int]:
        """How many identities a policy selects: seen ones, and all."""
        found = self._selected[ref]
        return sum(each.seen for each in found), len(found)

    def subjects(self, origin: Origin) -> Sequence[_Known]:
        return self._subjects[origin.policy, origin.spec]

    def peers(self, items: Iterable[Item]) -> tuple[_Known, ...]:
        """The known identities that the items choose."""
        found: set[_Known] = set()
        for item in items:
            if item.peers is None:
                return tuple(self._known)
            for selector in item.peers:
                found.update(self._chosen.get(self._selectors.number(selector), ()))
        return tuple(sorted(found))

    def outside(self, items: Iterable[Item]) -> bool:
        """Whether the items open anything outside the cluster."""
        return any(
            item.peers is None
            or any(self._selectors.is_addressed(each) or self._selectors.chooses(each, _WORLD) for each in item.peers)
            for item in items
        )


_WORLD = Peer(Labels.of(["reserved:world"]))


def _rule_use(
    listed: tuple[Origin, Rule, tuple[Item, ...]], tally: _Tally, covered: Mapping[Origin, Shadow], reach: _Reach
) -> RuleUse:
    origin, _, items = listed
    action = Section(origin.section).action
    return RuleUse(
        origin, action, _meaning(origin, items), tally.edges, tally.weight, tally.alone, tally.attempts, tally.first, tally.last,
        covered.get(origin), _excess(origin, items, tally, reach) if action is Action.ALLOW else None,
    )  # fmt: skip


def _meaning(origin: Origin, items: Sequence[Item]) -> str:
    """``from app=web on 8080/TCP``."""
    word = "from" if Section(origin.section).is_ingress else "to"
    return "; ".join(
        dict.fromkeys(f"{word} {peers_in_words(item.peers)} on {ports_in_words(item.ports)}" for item in items)
    )


def _excess(origin: Origin, items: Sequence[Item], tally: _Tally, reach: _Reach) -> Excess | None:
    open_items = [item for item in items if item.peers != () and item.ports != ()]
    if not open_items:
        return None
    subjects, peers = reach.subjects(origin), reach.peers(open_items)
    pairs = {(policy_labels(near), policy_labels(far)) for near, far in tally.pairs if not far.address}
    needed = {far for _, far in pairs}
    return Excess(
        len(subjects),
        len(peers),
        len(subjects) * len(peers),
        len(pairs),
        tuple(dict.fromkeys(each.title for each in peers if each.labels not in needed)),
        "; ".join(dict.fromkeys(ports_in_words(item.ports) for item in open_items)),
        spans(tally.l4s),
        reach.outside(open_items),
        len({far.address for _, far in tally.pairs if far.address}),
    )
