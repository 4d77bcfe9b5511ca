"""Side: one direction of one subject, its entries as bits, so that a lookup is the intersection of those whose peers choose the far
end with those whose ports cover the traffic; and Selectors, which finds out once per identity which selectors choose it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from analyzer.model.identity import Entity
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels
from analyzer.policy.decision import SideDecision
from analyzer.policy.http import DnsQuery, HttpRequest
from analyzer.policy.model import PortSpec
from analyzer.policy.resolve import SubjectRules, handles
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    Match,
    Peer,
    PeerSelector,
    matches,
)
from analyzer.policy.verdict import Hit, verdict

__all__ = ["Bits", "Chosen", "Selectors", "Side"]

Declared = Callable[[], Mapping[str, L4] | None]
"""The named ports of the server, None if nobody knows them. Asked only where a rule names one."""


class Bits(NamedTuple):
    """Entries by their place, as the bits of a number: those that match for sure, and those that may."""

    sure: int
    unsure: int = 0


class Chosen(NamedTuple):
    """The numbers of the selectors that choose an identity, and of those that may."""

    sure: frozenset[int]
    unsure: frozenset[int]


class Selectors:
    """Every peer selector that looks at labels, once, by its number. Most are found by a label that they need, the others asked."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._numbers: dict[PeerSelector, int] = {}
        self._listed: list[PeerSelector] = []
        self._by_label: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._others: list[int] = []
        self.count = 0

    def number(self, selector: PeerSelector) -> int:
        """The number of a selector, given to it when it is first met."""
        found = self._numbers.get(selector)
        if found is None:
            found = self._numbers[selector] = len(self._listed)
            self._listed.append(selector)
            self.count += 1
            needed = handles(selector) if isinstance(selector, LabelSelector) else []
            if needed:
                for each in min(needed, key=len):
                    self._by_label[each].append(found)
            else:
                self._others.append(found)
        return found

    def is_addressed(self, selector: PeerSelector) -> bool:
        """Whether it looks at the address or the names of a peer. Such a one never chooses an identity inside the cluster."""
        return isinstance(selector, _ADDRESSED) or (
            isinstance(selector, EntitySelector) and selector.entity in _FAMILIES
        )

    def choosing(self, labels: Labels) -> Chosen:
        """The selectors among those met that choose an identity by its labels alone."""
        peer = Peer(labels)
        sure, unsure = set(), set()
        for number in self._candidates(labels):
            chosen = matches(self._listed[number], peer, self._inventory)
            if chosen:
                sure.add(number)
            elif chosen is None:
                unsure.add(number)
        return Chosen(frozenset(sure), frozenset(unsure))

    def chooses(self, selector: PeerSelector, peer: Peer) -> Match:
        """Whether a selector chooses a peer outside the cluster, by its address and names."""
        return matches(selector, peer, self._inventory)

    def _candidates(self, labels: Labels) -> Iterable[int]:
        found = set(self._others)
        for label in labels:
            found.update(self._by_label.get((label.key, label.value), ()))
        return found


_ADDRESSED = (CidrSelector, CidrGroupSelector, FqdnSelector)
_FAMILIES = (Entity.WORLD_IPV4, Entity.WORLD_IPV6)


class Side:
    """What decides one direction of a subject. Where nothing is unsure, bits are a plain number: most of them, and faster."""

    __slots__ = (
        "_addressed",
        "_every",
        "_exact",
        "_items",
        "_ranges",
        "answers",
        "fixed",
        "named",
        "needs_labels",
        "nothing",
        "open",
        "peers",
        "ports",
        "rules",
        "wanted",
    )  # fmt: skip

    def __init__(self, rules: SubjectRules, selectors: Selectors, fixed: SideDecision | None) -> None:
        self.rules = rules
        self.fixed = fixed
        """The answer to everything, where there is but one: no rule, or rules that the agent cannot compute."""
        self.peers: dict[object, int | Bits] = {}
        """By the far end: the entries whose peers choose it."""
        self.ports: dict[int, int] = {}
        """By protocol and port: the entries whose ports cover it, unless `named`."""
        self.answers: dict[int | Bits, SideDecision] = {}
        """By the entries that cover the traffic."""
        self.needs_labels = any(entry.peers is not None for entry in rules.entries)
        self.named = any(spec.name for entry in rules.entries for spec in entry.ports or ())
        """Whether a rule names a port, so that what it covers depends on who serves it."""
        self.nothing: SideDecision | None = None
        """The answer where no entry covers the traffic, once it is known."""
        self.open, self._items, self._addressed = _by_selector(rules, selectors)
        self.wanted = frozenset(self._items)
        """The numbers of all selectors, but for those that look at addresses."""
        self._every, self._exact, self._ranges = _by_port(rules)
        if fixed is None and len(rules.entries) == 1:
            self.fixed = verdict([Hit(rules.entries[0], True)], rules, None, None)

    def inside(self, key: object, chosen: Chosen) -> int | Bits:
        """The entries that choose an identity of the cluster; remembered under `key`."""
        sure, unsure = self.open, 0
        for number in self.wanted & chosen[0]:
            sure |= self._items[number]
        if chosen[1]:
            for number in self.wanted & chosen[1]:
                unsure |= self._items[number]
        found = self.peers[key] = Bits(sure, unsure & ~sure) if unsure & ~sure else sure
        return found

    def anybody(self) -> int | Bits:
        """The entries that choose a peer of whom nothing is known: those for everybody for sure, the others perhaps."""
        every = 0
        for place, entry in enumerate(self.rules.entries):
            every |= bool(entry.peers) << place
        return Bits(self.open, every & ~self.open)

    def outside(self, key: object, chosen: Chosen, peer: Peer, selectors: Selectors) -> int | Bits:
        """The entries that choose a peer outside the cluster, some of them by its address and names; remembered under `key`."""
        by_labels = self.inside(key, chosen)
        sure, unsure = by_labels if isinstance(by_labels, Bits) else (by_labels, 0)
        for selector, bits in self._addressed:
            by_address = selectors.chooses(selector, peer)
            if by_address:
                sure |= bits
            elif by_address is None:
                unsure |= bits
        found = self.peers[key] = Bits(sure, unsure & ~sure) if unsure & ~sure else sure
        return found

    def none(self) -> SideDecision:
        """The answer where no entry covers the traffic; remembered."""
        self.nothing = self.answer(0)
        return self.nothing

    def covering(self, number: int) -> int:
        """The entries whose ports cover `number`, the protocol above 16 bits of port; remembered."""
        found = self._every | self._exact.get(number, 0)
        for first, last, bits in self._ranges:
            if first <= number <= last:
                found |= bits
        self.ports[number] = found
        return found

    def decide(self, peers: int | Bits, l4: L4, declared: Declared) -> SideDecision:
        """The answer for a new connection where something is unsure, or a port has a name."""
        return self.answer(_both(peers, self._resolved(l4, declared)))

    def answer(self, key: int | Bits) -> SideDecision:
        """The answer where these entries cover the traffic; remembered."""
        found = self.answers.get(key)
        if found is None:
            found = self.answers[key] = verdict(self._hits(key), self.rules, None, None)
        return found

    def request(
        self, peers: int | Bits, l4: L4, declared: Declared, http: HttpRequest | None, dns: DnsQuery | None
    ) -> SideDecision:
        """The answer for a request over a connection."""
        return verdict(self._hits(_both(peers, self._resolved(l4, declared))), self.rules, http, dns)

    def _hits(self, key: int | Bits) -> list[Hit]:
        sure, unsure = (key, 0) if isinstance(key, int) else key
        both = sure | unsure
        return [
            Hit(entry, bool(sure >> place & 1)) for place, entry in enumerate(self.rules.entries) if both >> place & 1
        ]

    def _resolved(self, l4: L4, declared: Declared) -> Bits:
        sure = unsure = 0
        for place, entry in enumerate(self.rules.entries):
            covered: Match = True if entry.ports is None else _covers(entry.ports, l4, declared)
            if covered:
                sure |= 1 << place
            elif covered is None:
                unsure |= 1 << place
        return Bits(sure, unsure)


def _by_selector(
    rules: SubjectRules, selectors: Selectors
) -> tuple[int, dict[int, int], tuple[tuple[PeerSelector, int], ...]]:
    """The entries without a constraint on peers, those of each selector, and those of each that looks at addresses. The default is
    in none of them: it needs no match."""
    everybody, items, addressed = 0, defaultdict[int, int](int), defaultdict[PeerSelector, int](int)
    for place, entry in enumerate(rules.entries):
        if entry.peers is None and not entry.default:
            everybody |= 1 << place
        for selector in entry.peers or ():
            if selectors.is_addressed(selector):
                addressed[selector] |= 1 << place
            else:
                items[selectors.number(selector)] |= 1 << place
    return everybody, dict(items), tuple(addressed.items())


def _by_port(rules: SubjectRules) -> tuple[int, dict[int, int], tuple[tuple[int, int, int], ...]]:
    """The entries without a constraint on ports, those of each port, and those of each range of them."""
    every, exact, ranges = 0, defaultdict[int, int](int), defaultdict[tuple[int, int], int](int)
    for place, entry in enumerate(rules.entries):
        if entry.ports is None:
            every |= 1 << place
        for protocols, first, last, name in entry.ports or ():
            for protocol in () if name else protocols:
                if first == last:
                    exact[protocol << 16 | first] |= 1 << place
                else:
                    ranges[protocol << 16 | first, protocol << 16 | last] |= 1 << place
    return every, dict(exact), tuple((*ends, bits) for ends, bits in ranges.items())


def _both(peers: int | Bits, ports: Bits) -> int | Bits:
    sure, unsure = (peers, 0) if isinstance(peers, int) else peers
    both = sure & ports.sure
    rest = (sure | unsure) & (ports.sure | ports.unsure) & ~both
    return Bits(both, rest) if rest else both


def _covers(specs: Iterable[PortSpec], l4: L4, declared: Declared) -> Match:
    result: Match = False
    for protocols, first, last, name in specs:
        if l4.protocol not in protocols:
            continue
        if not name:
            if first <= l4.port <= last:
                return True
            continue
        known = declared()
        if known is None:
            result = None
            continue
        port = known.get(name)
        if port is not None and port.protocol == l4.protocol and port.port <= l4.port <= max(last, port.port):
            return True
    return result
