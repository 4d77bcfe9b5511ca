"""Lookups: which subjects may ask DNS for what, found by the rarest label that they need."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from analyzer.lint.written import Written
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.policy.model import DnsRule, Item, Rule, Section
from analyzer.policy.selector import LabelSelector, Requirement

__all__ = ["Lookup", "Lookups"]

Pair = tuple[str, str]


class Lookup(NamedTuple):
    """What subjects with these requirements may ask DNS for; the DNS proxy learns from what has `names`."""

    host: bool
    needs: tuple[Requirement, ...]
    names: tuple[DnsRule, ...]

    def selects(self, labels: Labels) -> bool:
        """Whether an endpoint with these labels is a subject."""
        return LabelSelector(self.needs).matches(labels)


class Lookups:
    """All lookups that some policies allow. With an inventory, its pods can tell what their selectors do not."""

    def __init__(
        self,
        policies: Sequence[Written],
        allows: Callable[[Item], bool],
        inventory: Inventory | None,
        *,
        named: bool = False,
    ) -> None:
        """`allows` tells the items that are about DNS; `named` leaves out what the DNS proxy does not learn from."""
        made = [each for each in _lookups(policies, allows) if each.names or not named]
        self._index = _Index((each.needs, each) for each in made)
        pods = [each.labels for each in inventory.endpoints] if inventory else []
        self._pods: dict[Pair, list[Labels]] = defaultdict(list)
        for labels in dict.fromkeys(pods):
            for label in labels:
                self._pods[label.key, label.value].append(labels)

    def of(self, rule: Rule) -> list[Lookup]:
        """What lets every subject of `rule` look up names, as it selects all that `rule` can select, or at least all pods that
        are known. Empty if some subject has nothing.

        Exceptions for labels that `rule` does not ask about are taken not to apply: a policy for all pods but those with an
        opt-out would otherwise count for nobody.
        """
        asked = rule.subject.requirements
        found = [
            each for each in self._index.near(_pairs(asked)) if each.host == rule.host and _covers(each.needs, asked)
        ]
        return found or self._met(rule.subject)

    def _met(self, subject: LabelSelector) -> list[Lookup]:
        rarest = min((self._pods.get(pair, []) for pair in _pairs(subject.requirements)), key=len, default=[])
        found: dict[Lookup, None] = {}
        for labels in filter(subject.matches, rarest):
            pairs = [(label.key, label.value) for label in labels]
            meeting = [each for each in self._index.near(pairs) if not each.host and each.selects(labels)]
            if not meeting:
                return []
            found.update(dict.fromkeys(meeting))
        return list(found)


def _lookups(policies: Sequence[Written], allows: Callable[[Item], bool]) -> list[Lookup]:
    found: dict[tuple[bool, tuple[Requirement, ...]], set[DnsRule]] = {}
    for written in policies:
        for rule in written.policy.rules:
            items = [each for each in rule.items if each.section is Section.EGRESS and allows(each)]
            if items:
                names = found.setdefault((rule.host, rule.subject.requirements), set())
                names.update(name for item in items if item.l7 for name in item.l7.dns)
    return [Lookup(host, needs, tuple(sorted(names))) for (host, needs), names in found.items()]


def _handles(requirements: Iterable[Requirement]) -> Iterator[list[Pair]]:
    """Per requirement that needs one of some values: these (key, value) pairs."""
    for each in requirements:
        if not each.operator.negated and not each.operator.exists:
            yield [(each.key, value) for value in each.values]


def _pairs(requirements: Iterable[Requirement]) -> list[Pair]:
    """A pair per requirement that surely is among its handles wherever it is implied."""
    return [handle[0] for handle in _handles(requirements) if handle]


class _Index:
    """Lookups by one of the pairs that their subjects must have."""

    def __init__(self, lookups: Iterable[tuple[Sequence[Requirement], Lookup]]) -> None:
        listed = [(list(_handles(needs)), each) for needs, each in lookups]
        counts = Counter(pair for handles, _ in listed for handle in handles for pair in handle)
        self._by_pair: dict[Pair, list[Lookup]] = defaultdict(list)
        self._others: list[Lookup] = []
        for handles, each in listed:
            if not handles:
                self._others.append(each)
                continue
            for pair in min(handles, key=lambda handle: sum(counts[pair] for pair in handle)):
                self._by_pair[pair].append(each)

    def near(self, pairs: Iterable[Pair]) -> list[Lookup]:
        """All that can select something with these pairs, and few others."""
        found = dict.fromkeys(self._others)
        for pair in pairs:
            found.update(dict.fromkeys(self._by_pair.get(pair, ())))
        return list(found)


def _covers(needs: Sequence[Requirement], asked: Sequence[Requirement]) -> bool:
    keys = {each.key for each in asked}
    return all(
        any(_implies(each, need) for each in asked) or (need.operator.negated and need.key not in keys)
        for need in needs
    )


def _implies(one: Requirement, other: Requirement) -> bool:
    """Whether labels that fulfil `one` surely fulfil `other`."""
    if one == other:
        return True
    if one.key != other.key or other.source not in (one.source, "any") or one.operator.negated:
        return False
    if other.operator.exists or one.operator.exists:
        return other.operator.exists and not other.operator.negated
    return not any((value in other.values) == other.operator.negated for value in one.values)
