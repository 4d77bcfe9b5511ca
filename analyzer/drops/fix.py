"""Fix: the smallest change of policies that would let a drop pass, replayed: does the drop go away, and what else changes?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, product

from analyzer.diff import Change, compare
from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.documents import Documents, Patch
from analyzer.drops.proxy import dns_query, http_request
from analyzer.drops.remedy import FIXABLE, by_hand
from analyzer.drops.scene import Scene
from analyzer.errors import PolicyError
from analyzer.model.edge import Edge, EdgeKey, EdgeStats, Endpoint, Side
from analyzer.model.identity import Entity, reserved
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.model.workload import title
from analyzer.policy import Outcome, Peer, Policy, PolicyRef, PolicySet, Traffic, compile_policies
from analyzer.policy.model import Item
from analyzer.policy.resolve import RuleIndex
from analyzer.policy.selector import FqdnSelector, matches
from analyzer.simulate import Result, Simulation, peer_of, simulate_with
from analyzer.suggest import Advice, Adviser
from analyzer.suggest.workloads import pod_workload

__all__ = ["Fix", "Fixer"]

MAX_EDGES = 8
"""Drops of one finding that a fix is made for; the report says when there are more."""
MAX_PAIRS = 20_000
"""Pairs of known workloads that are asked about, for what else a change would open."""
Named = tuple[str, Peer]
_OPEN = frozenset({Outcome.ALLOWED, Outcome.REDIRECTED})
_SIDES = (Side.SOURCE, Side.DESTINATION)
_NODES = (Entity.HOST, Entity.REMOTE_NODE, Entity.KUBE_APISERVER, Entity.INGRESS)
_WIDE = {
    "remote-node": "The entity remote-node is every other node, and every pod in their host network",
    "host": "The entity host is the node itself, and every pod in its host network",
    "world": "The entity world is every address outside the cluster",
}


@dataclass(frozen=True, slots=True)
class Fix:
    """`patches` are the change, `places` say in words where it is made. `confirmed` tells that the engine lets the drop pass
    afterwards, `assuming` what had to be taken for granted for it. `opens` are connections that pass afterwards and did not before,
    besides the drop itself, and `breaks` those that no longer do. Without patches, `obstacle` says why there is no fix."""

    patches: tuple[Patch, ...] = ()
    places: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    confirmed: bool = False
    assuming: str = ""
    opens: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    obstacle: str = ""


class Fixer:
    """Knows the documents in force, and the traffic that a change is replayed on."""

    def __init__(self, documents: Documents, inventory: Inventory, recorded: Iterable[Edge]) -> None:
        self._documents, self._inventory = documents, inventory
        self._before = compile_policies(documents.policies.values(), inventory)
        self._by_end: dict[Labels, list[Edge]] = {}
        for edge in recorded:
            for end in {edge.source, edge.destination}:
                if not end.address:
                    self._by_end.setdefault(peer_of(end, (), inventory).labels, []).append(edge)
        pods = [
            (f"{pod.namespace}/{pod_workload(pod)}", Endpoint(pod.labels, pod.namespace)) for pod in inventory.endpoints
        ]
        nodes = [(str(each), Endpoint(reserved(each))) for each in _NODES]
        self._ends = [(name, peer_of(end, (), inventory)) for name, end in (*pods, *nodes)]

    def fix(self, scenes: Sequence[Scene], cause: Cause) -> Fix | None:
        """The change for drops that have one cause; None if no rule helps against it."""
        if cause.kind not in FIXABLE:
            return None
        after, advices, mended, obstacles = self._documents, list[Advice](), list[Scene](), list[str]()
        for scene in scenes[:MAX_EDGES]:
            made, given, obstacle = self._mended(scene, cause, after)
            if obstacle:
                obstacles.append(obstacle)
                continue
            after, advices, mended = made, [*advices, *given], [*mended, scene]
        if not advices:
            return Fix(obstacle=obstacles[0] if obstacles else "no single rule would let it pass")
        fix = self._replayed(mended, cause, after, advices)
        return replace(fix, remarks=(*fix.remarks, *(f"For some of it, {each}" for each in dict.fromkeys(obstacles))))

    def _mended(self, scene: Scene, cause: Cause, documents: Documents) -> tuple[Documents, list[Advice], str]:
        """The documents with what one drop lacks, on both sides: half of it would help nothing. Else why there is no such rule."""
        given = []
        for advice in self._advices(scene, cause, documents):
            if advice.rule is None:
                return documents, [], f"{advice.section}: {advice.obstacle}"
            try:
                documents = documents.with_advice(advice)
            except PolicyError as error:
                return documents, [], f"the rule would be refused: {error.message}"
            given.append(advice)
        return documents, given, ""

    def _advices(self, scene: Scene, cause: Cause, documents: Documents) -> Iterator[Advice]:
        advice = by_hand(scene, cause, documents)
        if advice is not None or cause.kind in (CauseKind.L7_RULE, CauseKind.DNS_NAME, CauseKind.FQDN_WITHOUT_DNS):
            if advice is not None and not self._passes(scene, cause, documents):
                yield advice
            return
        edge = _named(scene, cause)
        for side in _SIDES:
            policies = documents.policies.values()
            # Both sides have to let it pass; what the first one dropped has never met the second.
            if (
                Simulation(compile_policies(policies, self._inventory), self._inventory).side(edge, side).result
                is Result.DENIED
            ):
                yield Adviser(policies, self._inventory).advise(edge, side)

    def _compiled(self, documents: Documents) -> PolicySet:
        return compile_policies(documents.policies.values(), self._inventory)

    def _passes(self, scene: Scene, cause: Cause, documents: Documents) -> bool:
        """Whether the engine lets the drop pass."""
        edge = _named(scene, cause)
        policies = self._compiled(documents)
        outcome = Simulation(policies, self._inventory).outcome(edge)
        if cause.kind is CauseKind.FQDN_WITHOUT_DNS:
            return outcome.result is Result.ALLOWED and _asks(documents, scene)
        http, dns = http_request(scene), dns_query(scene)
        if http is None and dns is None:
            return outcome.result is Result.ALLOWED
        source, destination = (
            peer_of(end, tuple(edge.stats.names), self._inventory) for end in (edge.source, edge.destination)
        )
        decision = policies.decide(Traffic(source, destination, edge.l4, http, dns))
        return outcome.result is Result.ALLOWED and all(each.l7 is not False for each in decision)

    def _replayed(self, scenes: Sequence[Scene], cause: Cause, documents: Documents, advices: list[Advice]) -> Fix:
        after = self._compiled(documents)
        added = [self._added(documents, ref) for ref in dict.fromkeys(each.policy for each in advices if each.policy)]
        own = {_arrow(scene.edge) for scene in scenes}
        opens, breaks = self._changes(after, added, {scene.edge.key for scene in scenes})
        more = self._others(after, added, scenes)
        assuming = ""
        if cause.kind is CauseKind.FQDN_WITHOUT_DNS:
            named = ", ".join(_named(scenes[0], cause).stats.names)
            assuming = f"{scenes[0].peer.address} is an address of {named}"
        return Fix(
            documents.patches(self._documents),
            tuple(dict.fromkeys(advice.place for advice in advices)),
            tuple(dict.fromkeys(chain.from_iterable(map(_remarks, advices)))),
            all(self._passes(scene, cause, documents) for scene in scenes),
            assuming,
            tuple(dict.fromkeys(each for each in (*opens, *more) if each not in own)),
            breaks,
        )

    def _added(self, documents: Documents, ref: PolicyRef) -> Policy:
        """What a policy says more than before, as if it said nothing else."""
        old = self._documents.policies.get(ref)
        before = {(rule.spec, item) for rule in old.rules for item in rule.items} if old is not None else set()
        rules = (
            replace(rule, items=tuple(item for item in rule.items if (rule.spec, item) not in before))
            for rule in documents.policies[ref].rules
        )
        return Policy(ref, tuple(rule for rule in rules if rule.items))

    def _changes(
        self, after: PolicySet, added: Sequence[Policy], own: set[EdgeKey]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Recorded connections that newly pass, besides the drops themselves, and those that no longer do."""
        near = [edges for labels, edges in self._by_end.items() if _selected(labels, added)]
        touched = list({edge.key: edge for edges in near for edge in edges}.values())
        diff = compare(
            simulate_with(self._before, touched, self._inventory), simulate_with(after, touched, self._inventory)
        )
        opened = [each.edge for each in diff.of(Change.NEWLY_ALLOWED) if each.edge.key not in own]
        return tuple(map(_arrow, opened)), tuple(_arrow(each.edge) for each in diff.of(Change.WOULD_BE_DROPPED))

    def _others(self, after: PolicySet, added: Sequence[Policy], scenes: Sequence[Scene]) -> tuple[str, ...]:
        """Known workloads that could newly connect, though nobody has seen them try."""
        own = {(scene.edge.source.labels, scene.edge.destination.labels) for scene in scenes}
        l4s = tuple(dict.fromkeys(scene.edge.l4 for scene in scenes))
        found: dict[str, None] = {}
        for (one, source), (other, destination) in islice(self._meant(added), MAX_PAIRS):
            if source is destination or (source.labels, destination.labels) in own:
                continue
            for l4 in l4s:
                asked = Traffic(source, destination, l4)
                if self._before.decide(asked).outcome is Outcome.DENIED and after.decide(asked).outcome in _OPEN:
                    found.setdefault(f"{one} -> {other} {l4}")
        return tuple(found)

    def _meant(self, added: Sequence[Policy]) -> Iterator[tuple[Named, Named]]:
        """Client and server, for all that the added rules are about."""
        for rule in (rule for policy in added for rule in policy.rules):
            subjects = [each for each in self._ends if rule.subject.matches(each[1].labels)]
            for item in rule.items:
                peers = [each for each in self._ends if self._chosen(item, each[1])]
                yield from product(peers, subjects) if item.section.is_ingress else product(subjects, peers)

    def _chosen(self, item: Item, peer: Peer) -> bool:
        return item.peers is None or any(matches(each, peer, self._inventory) is not False for each in item.peers)


def _selected(labels: Labels, policies: Iterable[Policy]) -> bool:
    return any(rule.subject.matches(labels) for policy in policies for rule in policy.rules)


def _asks(documents: Documents, scene: Scene) -> bool:
    """Whether lookups of the client go through the DNS proxy."""
    return any(
        item.l7 is not None and bool(item.l7.dns) and not item.section.is_ingress
        for _, rule in RuleIndex(documents.policies.values()).selecting(scene.subject_labels)
        for item in rule.items
    )


def _named(scene: Scene, cause: Cause) -> Edge:
    """The edge of a scene with every name that its address is known by; where lookups are missing, one that the rule names."""
    edge = scene.edge
    address = scene.peer.address
    names = set((scene.facts.answers or {}).get(address, ())) if address else set()
    if cause.kind is CauseKind.FQDN_WITHOUT_DNS:
        names = {
            (each.name or each.pattern).replace("**", "*").replace("*", "x")
            for near in scene.near
            if near.origin == cause.rule
            for each in near.item.peers or ()
            if isinstance(each, FqdnSelector)
        }
        names = set(sorted(names)[:1])
    if not names:
        return edge
    stats = EdgeStats()
    stats.merge(edge.stats)
    for name in sorted(names):
        stats.names.add(name)
    return replace(edge, stats=stats)


def _remarks(advice: Advice) -> Iterator[str]:
    yield from advice.remarks
    for key, values in (advice.rule or {}).items():
        if key.endswith("Entities"):
            yield from (_WIDE[each] for each in values if each in _WIDE)


def _arrow(edge: Edge) -> str:
    source, destination = title(edge.source, edge.source_workloads), title(edge.destination, edge.destination_workloads)
    return f"{source} -> {destination} {edge.l4}"
