"""Scene: one drop with everything that a cause may look at - the engine's answers, the rules that select its side, the record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from analyzer.drops.drop import Drops
from analyzer.drops.reasons import DropClass
from analyzer.model.edge import DAY, ActivityKey, Edge, EdgeKey, EdgeStats, Endpoint, Side, Status
from analyzer.model.flow import DropReason, EventKind, Verdict
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.model.workload import title
from analyzer.policy import (
    DnsQuery,
    HttpRequest,
    Origin,
    Policy,
    PolicyRef,
    PolicySet,
    SideDecision,
    Traffic,
    compile_policies,
)
from analyzer.policy.model import Action, Item, Rule
from analyzer.policy.resolve import RuleIndex
from analyzer.policy.selector import LabelSelector
from analyzer.simulate import Result, SideOutcome, Simulation, peer_of

__all__ = ["Facts", "Near", "Scene", "edge_of"]

Rules = list[tuple[PolicyRef, Rule]]
_OTHER = {Side.SOURCE: Side.DESTINATION, Side.DESTINATION: Side.SOURCE}
_STATUSES = {DropClass.DEFAULT_DENY: Status.DROPPED, DropClass.EXPLICIT_DENY: Status.DENIED}
_FORWARDED = frozenset({Verdict.FORWARDED, Verdict.REDIRECTED})


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known besides the drop itself. `pods` are the labels of pods known by name, by (namespace, pod). `answers` and
    `asking` are those of the window, None where the record cannot tell when a name was looked up. `recorded` are all edges."""

    inventory: Inventory = Inventory()
    recorded: Mapping[EdgeKey, Edge] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], Endpoint] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, int]] | None = None
    asking: Mapping[Endpoint, int] | None = None


class Near(NamedTuple):
    """An allow item of a rule that selects the side which dropped, and which half of it covers the drop."""

    ref: PolicyRef
    rule: Rule
    item: Item
    peer: bool
    port: bool

    @property
    def origin(self) -> Origin:
        return Origin(*self.ref, self.rule.spec, self.item.section.value, self.item.index)


def edge_of(drops: Drops, facts: Facts) -> Edge:
    """The drop as an edge that the engine can be asked about; pods known only by name get the labels that others reported."""
    key = drops.key
    source, destination = (_completed(end, facts) for end in (key.source, key.destination))
    stats = EdgeStats()
    kind = EventKind.L7 if key.l7 else EventKind.POLICY_VERDICT if key.audit else EventKind.DROP
    verdict = Verdict.AUDIT if key.audit else Verdict.DROPPED
    stats.cell(ActivityKey(drops.last // DAY, key.side, kind, verdict, key.reason)).add(drops.last, drops.events)
    for name in drops.names:
        stats.names.add(name)
    status = Status.AUDITED if key.audit else _STATUSES.get(drops.kind, Status.INFRASTRUCTURE)
    status = status if key.directed else Status.UNDIRECTED
    made = EdgeKey(key.cluster, source, destination, key.l4)
    return Edge(made, stats, status, drops.source_workloads, drops.destination_workloads)


def _completed(end: Endpoint, facts: Facts) -> Endpoint:
    return facts.pods.get((end.namespace, end.name), end) if end.name and not end.labels else end


class Scene:
    """`decision` is the engine's answer about the side that dropped, `other_decision` about the other end; both are None without
    policies."""

    def __init__(self, drops: Drops, facts: Facts, policies: PolicySet | None, index: RuleIndex | None) -> None:
        self.drops, self.facts, self.inventory = drops, facts, facts.inventory
        self.edge = edge_of(drops, facts)
        self._policies, self._index = policies, index
        self._simulation = (
            None if policies is None else Simulation(policies, facts.inventory, frozenset(facts.asking or ()))
        )
        self.side = self._told_side()

    def _told_side(self) -> Side:
        """The side that dropped; where the record does not say, the one that the engine says denies it."""
        told = self.drops.key.side
        if told is not Side.UNKNOWN:
            return told
        if self._simulation is not None:
            for side in (Side.SOURCE, Side.DESTINATION):
                if self._simulation.side(self.edge, side).result is Result.DENIED:
                    return side
        return Side.UNKNOWN

    @property
    def audit(self) -> bool:
        return self.drops.key.audit

    @property
    def section(self) -> str:
        return "egress" if self.side is Side.SOURCE else "ingress"

    @property
    def subject(self) -> Endpoint:
        """The end that dropped."""
        return self.edge.source if self.side is Side.SOURCE else self.edge.destination

    @property
    def peer(self) -> Endpoint:
        return self.edge.destination if self.side is Side.SOURCE else self.edge.source

    @cached_property
    def client_and_server(self) -> tuple[str, str]:
        """What both ends are called."""
        edge = self.edge
        return title(edge.source, edge.source_workloads), title(edge.destination, edge.destination_workloads)

    @property
    def titles(self) -> tuple[str, str]:
        """What the subject and the peer are called."""
        client, server = self.client_and_server
        return (client, server) if self.side is Side.SOURCE else (server, client)

    @cached_property
    def labels(self) -> Labels:
        """The peer's labels, as selectors are matched against them."""
        return peer_of(self.peer, (), self.inventory).labels

    @cached_property
    def subject_labels(self) -> Labels:
        """The labels of the side that dropped."""
        return peer_of(self.subject, (), self.inventory).labels

    @cached_property
    def decision(self) -> SideOutcome | None:
        return self.ask(self.edge)

    @cached_property
    def other_decision(self) -> SideOutcome | None:
        if self._simulation is None or self.side is Side.UNKNOWN:
            return None
        return self._simulation.side(self.edge, _OTHER[self.side])

    def ask(self, edge: Edge) -> SideOutcome | None:
        """The engine's answer of this side about another edge, such as this one with something changed."""
        if self._simulation is None or self.side is Side.UNKNOWN:
            return None
        return self._simulation.side(edge, self.side)

    def ask_proxy(self, http: HttpRequest | None = None, dns: DnsQuery | None = None) -> SideDecision | None:
        """The engine's answer about a request over the connection."""
        if self._policies is None or self.side is Side.UNKNOWN:
            return None
        names = tuple(self.edge.stats.names)
        source, destination = (peer_of(end, names, self.inventory) for end in (self.edge.source, self.edge.destination))
        decision = self._policies.decide(Traffic(source, destination, self.edge.l4, http, dns))
        return decision.egress if self.side is Side.SOURCE else decision.ingress

    @cached_property
    def selecting(self) -> Rules:
        """The rules whose subject is the side that dropped."""
        if self._index is None or self.side is Side.UNKNOWN:
            return []
        return self._index.selecting(self.subject_labels, host_labels=self.inventory.host_labels)

    @property
    def all_rules(self) -> Rules:
        return [] if self._index is None else self._index.rules

    @cached_property
    def near(self) -> tuple[Near, ...]:
        """Every allow item of this direction that selects the side, and how far it covers the drop."""
        return tuple(self.parts(self.selecting))

    def parts(self, rules: Iterable[tuple[PolicyRef, Rule]]) -> Iterator[Near]:
        """The halves of allow items, by the engine: each with the other half left open."""
        ingress = self.side is Side.DESTINATION
        for ref, rule in rules:
            for item in rule.items:
                if item.section.is_ingress != ingress or item.section.action is not Action.ALLOW or item.peers == ():
                    continue
                peer = item.peers is None or self.lets_pass(ref, rule, replace(item, ports=None, l7=None), self.edge)
                port = item.ports is None or self.lets_pass(ref, rule, replace(item, peers=None, l7=None), self.edge)
                yield Near(ref, rule, item, peer, port)

    @staticmethod
    def for_everybody(rule: Rule) -> Rule:
        """`rule`, whoever it is about."""
        return replace(rule, subject=LabelSelector())

    def lets_pass(self, ref: PolicyRef, rule: Rule, item: Item, edge: Edge) -> bool:
        """Whether `item` alone would let `edge` pass on this side."""
        only = Policy(ref, (replace(rule, items=(item,), deny_ingress=True, deny_egress=True),))
        simulation = Simulation(compile_policies([only], self.inventory), self.inventory)
        return simulation.side(edge, self.side).result is Result.ALLOWED

    def with_peer(self, peer: Endpoint) -> Edge:
        """The edge with another peer."""
        key = self.edge.key
        changed = key._replace(destination=peer) if self.side is Side.SOURCE else key._replace(source=peer)
        return replace(self.edge, key=changed)

    def last_forwarded(self) -> int:
        """When this side was last recorded to let such traffic pass; 0 for never."""
        found = self.facts.recorded.get(self.edge.key)
        if found is None:
            return 0
        times = [
            activity.last
            for key, activity in found.stats.activity.items()
            if key.verdict in _FORWARDED and key.kind != EventKind.L7 and key.side in (self.side, Side.UNKNOWN)
        ]
        return max(times, default=0)

    @property
    def by_default(self) -> bool:
        """Whether the record says that no rule let it pass."""
        key = self.drops.key
        return key.audit or (not key.l7 and key.reason == DropReason.POLICY_DENIED)
