"""PolicySet: policies compiled with an inventory, and the one question they answer - what becomes of this traffic?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analyzer.model.identity import Entity, entities
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels
from analyzer.policy.decision import Decision, Outcome, SideDecision, Traffic
from analyzer.policy.model import Origin, Policy, PolicyRef, Section
from analyzer.policy.resolve import UNMANAGED, RuleIndex, SubjectRules, entries_of, managed
from analyzer.policy.selector import Peer, PeerSelector, is_world
from analyzer.policy.sides import Chosen, Selectors, Side

__all__ = ["PolicySet", "compile_policies"]


def compile_policies(policies: Iterable[Policy], inventory: Inventory = Inventory()) -> PolicySet:
    """Compile policies for lookup. Of two of the same kind, namespace and name the later one counts (semantics 58)."""
    return PolicySet(policies, inventory)


class _Identity:
    """A label set met before: its number, what follows from the labels alone, and its two sides once they are needed."""

    __slots__ = ("chosen", "egress", "ingress", "labels", "managed", "met", "number", "outside", "told")

    def __init__(self, labels: Labels, number: int, *, managed: bool, outside: bool) -> None:
        self.labels, self.number, self.managed, self.outside = labels, number, managed, outside
        self.told = bool(labels) and not outside
        """Whether the labels tell which selectors choose it: not without labels, nor where the address counts."""
        self.egress: Side | None = None
        self.ingress: Side | None = None
        self.chosen = Chosen(frozenset(), frozenset())
        self.met = 0
        """How many selectors `chosen` speaks of."""


class PolicySet:
    """Compiled policies. Subjects and peers are resolved when they are first asked about, or all at once by `prepare`."""

    def __init__(self, policies: Iterable[Policy], inventory: Inventory) -> None:
        self.inventory = inventory
        self._index = RuleIndex(policies)
        self._selectors = Selectors(inventory)
        self._identities: dict[Labels, _Identity] = {}
        # By id, because hashing a label set costs more than the whole lookup; the labels kept here keep their ids their own.
        self._by_id: dict[int, _Identity] = {}
        self._kept: list[Labels] = []
        self._declared: dict[Labels, Mapping[str, L4] | None] | None = None

    def prepare(self, identities: Iterable[Labels]) -> None:
        """Resolve these identities now, both as subjects and as peers, so that decisions about them need no more of it."""
        found = [self._identity(labels) for labels in identities]
        for identity in found:
            self._sides(identity)
        for identity in found:
            self._chosen(identity)

    def decide(self, traffic: Traffic) -> Decision:
        """What both sides' agents make of a new connection, and of a request over it if there is one."""
        source, destination, l4, http, dns = traffic
        here = self._by_id.get(id(source[0])) or self._identity(source[0])
        there = self._by_id.get(id(destination[0])) or self._identity(destination[0])
        out, into = here.egress or self._sides(here)[0], there.ingress or self._sides(there)[1]
        if http is not None or dns is not None:
            return Decision(
                self._request(out, there, traffic, ingress=False), self._request(into, here, traffic, ingress=True)
            )
        number = l4[0] << 16 | l4[1]
        # As Decision(...) does it, without the call in between.
        return tuple.__new__(
            Decision,
            (
                out.fixed or self._connection(out, there, source, destination, l4, number, False),
                into.fixed or self._connection(into, here, destination, source, l4, number, True),
            ),
        )

    def _connection(
        self, side: Side, other: _Identity, own: Peer, far: Peer, l4: L4, number: int, ingress: bool
    ) -> SideDecision:
        if other.told:
            chosen = other.chosen if other.met == self._selectors.count else self._chosen(other)
            if not side.open and not chosen[1] and side.wanted.isdisjoint(chosen[0]):
                return side.nothing or side.none()
            bits = side.peers.get(other.number)
            if bits is None:
                bits = side.inside(other.number, chosen)
        else:
            if not other.labels and side.needs_labels:
                server = own if ingress else far
                found = side.decide(side.anybody(), l4, lambda: self._named_ports(server))
                return _UNKNOWN_IDENTITY if found.outcome is Outcome.UNDECIDED else found
            bits = side.peers.get((other.number, far[1], far[2]))
            if bits is None:
                bits = side.outside((other.number, far[1], far[2]), self._chosen(other), far, self._selectors)
        if side.named or type(bits) is not int:
            server = own if ingress else far
            return side.decide(bits, l4, lambda: self._named_ports(server))
        ports = side.ports.get(number)
        if ports is None:
            ports = side.covering(number)
        return side.answers.get(bits & ports) or side.answer(bits & ports)

    def _request(self, side: Side, other: _Identity, traffic: Traffic, *, ingress: bool) -> SideDecision:
        own, far = (traffic.destination, traffic.source) if ingress else (traffic.source, traffic.destination)
        if side.fixed is not None and (side.fixed.outcome is not Outcome.ALLOWED or not side.rules.entries):
            return side.fixed
        server = own if ingress else far
        if not other.labels and side.needs_labels:
            bits = side.anybody()
        elif other.told:
            bits = side.inside(other.number, self._chosen(other))
        else:
            bits = side.outside((other.number, far.ip, far.names), self._chosen(other), far, self._selectors)
        found = side.request(bits, traffic.l4, lambda: self._named_ports(server), traffic.http, traffic.dns)
        return _UNKNOWN_IDENTITY if found.outcome is Outcome.UNDECIDED and not other.labels else found

    def _identity(self, labels: Labels) -> _Identity:
        found = self._identities.get(labels)
        if found is None:
            options = self.inventory.options
            outside = is_world(labels) or (options.cidr_match_nodes and bool(entities(labels) & _NODES))
            own = bool(labels) and managed(labels, options)
            found = self._identities[labels] = _Identity(labels, len(self._identities), managed=own, outside=outside)
        self._by_id[id(labels)] = found
        self._kept.append(labels)
        return found

    def _chosen(self, identity: _Identity) -> Chosen:
        """The selectors that choose an identity, brought up to date with those met since."""
        if identity.met != self._selectors.count:
            identity.chosen = self._selectors.choosing(identity.labels)
            identity.met = self._selectors.count
        return identity.chosen

    def _sides(self, subject: _Identity) -> tuple[Side, Side]:
        """Egress and ingress."""
        if not subject.managed:
            subject.egress = subject.ingress = _NO_POLICY if subject.labels else _NO_LABELS
            return subject.egress, subject.ingress
        rules = self._index.selecting(subject.labels, host_labels=self.inventory.host_labels)
        options = self.inventory.options
        egress, ingress = (entries_of(rules, subject.labels, options, ingress=each) for each in (False, True))
        conflict = ingress.conflict or egress.conflict
        fixed = SideDecision(Outcome.UNDECIDED, reason=conflict) if conflict else None
        subject.egress, subject.ingress = (Side(each, self._selectors, fixed) for each in (egress, ingress))
        return subject.egress, subject.ingress

    def _named_ports(self, server: Peer) -> Mapping[str, L4] | None:
        """Only pods declare ports: a name never stands for one of an outside peer's or a node's (semantics 39)."""
        if server.named_ports is not None:
            return server.named_ports
        if self._declared is None:
            self._declared = {}
            for endpoint in self.inventory.endpoints:
                if endpoint.named_ports is not None:
                    lower = {name.lower(): port for name, port in endpoint.named_ports.items()}
                    self._declared[endpoint.labels] = {**(self._declared.get(endpoint.labels) or {}), **lower}
        declared = self._declared.get(server.labels)
        return {} if declared is None and entities(server.labels) else declared

    def selecting(self, labels: Labels, *, ingress: bool) -> tuple[PolicyRef, ...]:
        """The policies that select an identity and have something to say for the direction: items, or default deny alone."""
        found = self._index.selecting(labels, host_labels=self.inventory.host_labels)
        sections = (Section.INGRESS, Section.INGRESS_DENY) if ingress else (Section.EGRESS, Section.EGRESS_DENY)
        return tuple(
            dict.fromkeys(
                ref
                for ref, rule in found
                if (rule.deny_ingress if ingress else rule.deny_egress)
                or any(item.section in sections for item in rule.items)
            )
        )

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
_NOT_MANAGED = SideDecision(Outcome.ALLOWED, (UNMANAGED,), reason="not under policy here")
_UNKNOWN_IDENTITY = SideDecision(Outcome.UNDECIDED, reason="the labels of one side are unknown")
_NOTHING = SubjectRules((), enforced=False, enforced_by=())
_NO_POLICY = Side(_NOTHING, Selectors(Inventory()), _NOT_MANAGED)
_NO_LABELS = Side(_NOTHING, Selectors(Inventory()), _UNKNOWN_IDENTITY)
