"""PolicySet: policies compiled with an inventory, and the one question they answer - what becomes of this traffic?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analyzer.model.identity import Entity, entities
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels
from analyzer.policy.decision import Decision, Outcome, SideDecision, Traffic
from analyzer.policy.http import DnsQuery, HttpRequest, passes
from analyzer.policy.model import Action, L7Rules, Origin, Policy, PolicyRef, PortSpec, Section
from analyzer.policy.resolve import OPEN, UNMANAGED, PolicyEntry, RuleIndex, SubjectRules, entries_of, managed
from analyzer.policy.selector import Match, Peer, PeerSelector, is_world, matches

__all__ = ["PolicySet", "compile_policies"]


def compile_policies(policies: Iterable[Policy], inventory: Inventory = Inventory()) -> PolicySet:
    """Compile policies for lookup. Of two of the same kind, namespace and name the later one counts (semantics 58)."""
    return PolicySet(policies, inventory)


class _Identity(NamedTuple):
    """A label set met before: its number, and what follows from the labels alone."""

    labels: Labels
    number: int
    managed: bool
    outside: bool


class _Hit(NamedTuple):
    """An entry whose peers choose the far end; `sure` is False where that cannot be known."""

    entry: PolicyEntry
    sure: bool


class _Side:
    """One direction of one subject, with the answers given so far."""

    __slots__ = ("answers", "hits", "rules")

    def __init__(self, rules: SubjectRules) -> None:
        self.rules = rules
        self.hits: dict[object, tuple[_Hit, ...]] = {}
        self.answers: dict[object, SideDecision] = {}


class PolicySet:
    """Compiled policies. Subjects and peers are resolved when they are first asked about, and remembered by identity."""

    def __init__(self, policies: Iterable[Policy], inventory: Inventory) -> None:
        self.inventory = inventory
        self._index = RuleIndex(policies)
        self._known: dict[int, _Identity] = {}
        self._identities: dict[Labels, _Identity] = {}
        self._sides: dict[tuple[int, bool], _Side] = {}
        self._chosen: dict[PeerSelector, dict[int, Match]] = {}
        self._declared: dict[Labels, Mapping[str, L4] | None] | None = None

    def decide(self, traffic: Traffic) -> Decision:
        """What both sides' agents make of a new connection, and of a request over it if there is one."""
        source, destination, l4, http, dns = traffic
        here, there = self._identity(source.labels), self._identity(destination.labels)
        return Decision(
            self._decide(here, there, source, destination, l4, http, dns, ingress=False),
            self._decide(there, here, destination, source, l4, http, dns, ingress=True),
        )

    def _decide(
        self,
        subject: _Identity,
        other: _Identity,
        own: Peer,
        far: Peer,
        l4: L4,
        http: HttpRequest | None,
        dns: DnsQuery | None,
        *,
        ingress: bool,
    ) -> SideDecision:
        if not subject.managed:
            return _UNKNOWN_IDENTITY if not subject.labels else _UNMANAGED
        side = self._sides.get((subject.number, ingress)) or self._side(subject, ingress)
        where: object = (other.number, far.ip, far.names) if other.outside else other.number
        if http is not None or dns is not None:
            return self._lookup(side, other, where, own, far, l4, http, dns, ingress)
        ports = own.named_ports if ingress else far.named_ports
        key = (where, l4, None if ports is None else tuple(sorted(ports.items())))
        found = side.answers.get(key)
        if found is None:
            found = side.answers[key] = self._lookup(side, other, where, own, far, l4, None, None, ingress)
        return found

    def _identity(self, labels: Labels) -> _Identity:
        known = self._known.get(id(labels))
        if known is not None and known.labels is labels:
            return known
        found = self._identities.get(labels)
        if found is None:
            options = self.inventory.options
            outside = is_world(labels) or (options.cidr_match_nodes and bool(entities(labels) & _NODES))
            found = _Identity(labels, len(self._identities), bool(labels) and managed(labels, options), outside)
            self._identities[labels] = found
        # By id, because hashing a label set costs more than the whole lookup; holding on to it keeps its id its own.
        self._known[id(labels)] = known = found._replace(labels=labels)
        return known

    def _side(self, subject: _Identity, ingress: bool) -> _Side:
        rules = self._index.selecting(subject.labels, host_labels=self.inventory.host_labels)
        made = {each: entries_of(rules, subject.labels, self.inventory.options, ingress=each) for each in (True, False)}
        conflict = made[True].conflict or made[False].conflict
        for each, found in made.items():
            self._sides[subject.number, each] = _Side(found._replace(conflict=conflict))
        return self._sides[subject.number, ingress]

    def _hits(self, side: _Side, other: _Identity, where: object, far: Peer) -> tuple[_Hit, ...]:
        found = side.hits.get(where)
        if found is None:
            hits = []
            for entry in side.rules.entries:
                chosen = True if entry.peers is None else self._any(entry.peers, other, far)
                if chosen is not False:
                    hits.append(_Hit(entry, chosen is True))
            found = side.hits[where] = tuple(hits)
        return found

    def _any(self, peers: tuple[PeerSelector, ...], other: _Identity, far: Peer) -> Match:
        result: Match = False
        for selector in peers:
            if other.outside:
                one = matches(selector, far, self.inventory)
            else:
                memory = self._chosen.get(selector)
                if memory is None:
                    memory = self._chosen[selector] = {}
                if other.number in memory:
                    one = memory[other.number]
                else:
                    one = memory[other.number] = matches(selector, far, self.inventory)
            if one:
                return True
            if one is None:
                result = None
        return result

    def _lookup(
        self,
        side: _Side,
        other: _Identity,
        where: object,
        own: Peer,
        far: Peer,
        l4: L4,
        http: HttpRequest | None,
        dns: DnsQuery | None,
        ingress: bool,
    ) -> SideDecision:
        rules = side.rules
        if not other.labels and any(entry.peers is not None for entry in rules.entries):
            return _UNKNOWN_IDENTITY
        if rules.conflict:
            return SideDecision(Outcome.UNDECIDED, reason=rules.conflict)
        hits = []
        for entry, sure in self._hits(side, other, where, far):
            covered: Match = True if entry.ports is None else self._covers(entry.ports, l4, own if ingress else far)
            if covered is not False:
                hits.append(_Hit(entry, sure and covered is True))
        return _verdict(hits, rules, http, dns)

    def _covers(self, specs: Iterable[PortSpec], l4: L4, server: Peer) -> Match:
        result: Match = False
        for protocols, first, last, name in specs:
            if l4.protocol not in protocols:
                continue
            if not name:
                if first <= l4.port <= last:
                    return True
                continue
            declared = server.named_ports if server.named_ports is not None else self._named_ports(server.labels)
            if declared is None:
                # Only pods declare ports: a name never stands for one of an outside peer's or a node's (semantics 39).
                if not entities(server.labels):
                    result = None
                continue
            port = declared.get(name)
            if port is not None and port.protocol == l4.protocol and port.port <= l4.port <= max(last, port.port):
                return True
        return result

    def _named_ports(self, labels: Labels) -> Mapping[str, L4] | None:
        if self._declared is None:
            self._declared = {}
            for endpoint in self.inventory.endpoints:
                if endpoint.named_ports is not None:
                    lower = {name.lower(): port for name, port in endpoint.named_ports.items()}
                    self._declared[endpoint.labels] = {**(self._declared.get(endpoint.labels) or {}), **lower}
        return self._declared.get(labels)

    def selecting(self, labels: Labels, *, ingress: bool) -> tuple[PolicyRef, ...]:
        """The policies that select an identity and have items for the direction."""
        found = self._index.selecting(labels, host_labels=self.inventory.host_labels)
        sections = (Section.INGRESS, Section.INGRESS_DENY) if ingress else (Section.EGRESS, Section.EGRESS_DENY)
        return tuple(dict.fromkeys(ref for ref, rule in found if any(item.section in sections for item in rule.items)))

    def selectors(self) -> frozenset[PeerSelector]:
        """Every peer selector of every rule."""
        return frozenset(peer for _, rule in self._index.rules for item in rule.items for peer in item.peers or ())

    def rules(self) -> tuple[Origin, ...]:
        """Every item of every rule, in canonical order."""
        return tuple(
            dict.fromkeys(
                Origin(*ref, rule.spec, item.section.value, item.index)
                for ref, rule in self._index.rules
                for item in rule.items
            )
        )


_NODES = frozenset({Entity.HOST, Entity.REMOTE_NODE})
_UNMANAGED = SideDecision(Outcome.ALLOWED, (UNMANAGED,), reason="not under policy here")
_UNKNOWN_IDENTITY = SideDecision(Outcome.UNDECIDED, reason="the labels of one side are unknown")
_NOT_KNOWN = "a rule's peers or named port cannot be resolved with what is known: {}"


def _verdict(hits: list[_Hit], rules: SubjectRules, http: HttpRequest | None, dns: DnsQuery | None) -> SideDecision:
    """Deny beats everything that is sure; of what allows, L7 rules redirect; a default decides only alone."""
    denies = [hit for hit in hits if hit.entry.action is Action.DENY and not hit.entry.default]
    allows = [hit for hit in hits if hit.entry.action is Action.ALLOW and not hit.entry.default]
    allowing = tuple(dict.fromkeys(hit.entry.origin for hit in allows if hit.sure))
    by = rules.enforced_by
    certain = next((hit.entry.origin for hit in denies if hit.sure), None)
    if certain is not None:
        return SideDecision(Outcome.DENIED, (certain,), allowing, by, f"denied by {certain}")
    default = rules.entries[-1]
    unsure = [hit for hit in (*denies, *allows) if not hit.sure]
    closed = default.action is Action.DENY and not allows
    if closed:
        return SideDecision(Outcome.DENIED, (default.origin,), (), by, _closed(rules))
    l7 = [hit.entry for hit in allows if hit.entry.l7 is not None and hit.sure]
    unsure_matters = [
        hit
        for hit in unsure
        if hit.entry.action is Action.DENY or hit.entry.l7 is not None or (rules.enforced and not allowing)
    ]
    if unsure_matters:
        origins = ", ".join(dict.fromkeys(str(hit.entry.origin) for hit in unsure_matters))
        return SideDecision(Outcome.UNDECIDED, (), allowing, by, _NOT_KNOWN.format(origins))
    if l7:
        deciding = tuple(dict.fromkeys(entry.origin for entry in l7))
        passed = _proxied([hit.entry.l7 for hit in allows], rules, http, dns)
        return SideDecision(Outcome.REDIRECTED, deciding, allowing, by, "through the L7 proxy", passed)
    deciding = (allowing[0],) if allowing else (default.origin,)
    passed = True if http is not None or dns is not None else None
    return SideDecision(Outcome.ALLOWED, deciding, allowing or (default.origin,), by, "", passed)


def _proxied(
    found: list[L7Rules | None], rules: SubjectRules, http: HttpRequest | None, dns: DnsQuery | None
) -> bool | None:
    """The proxy takes the rules together: one plain or open rule lets every request pass (semantics 45, 47)."""
    if http is None and dns is None:
        return None
    if any(each is None or each is OPEN for each in found):
        return True
    answers = [passes(each, http, dns) for each in found if each is not None]
    return True if True in answers else None if None in answers else False


def _closed(rules: SubjectRules) -> str:
    if not rules.enforced_by:
        return "default deny: every endpoint is under enforcement, and no rule matches"
    listed = ", ".join(map(str, rules.enforced_by[:3])) + (" and others" if len(rules.enforced_by) > 3 else "")
    return f"default deny: selected by {listed}, no rule matches"
