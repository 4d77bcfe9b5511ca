"""Excess: what policies allow and nobody was ever seen to do, counted over all that is known to exist."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import islice
from typing import Any, NamedTuple

from analyzer.model.address import family
from analyzer.model.edge import EdgeKey
from analyzer.model.flow import Direction
from analyzer.model.identity import reserved
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.model.perspective import policy_labels
from analyzer.policy import Outcome, Peer, Policy, Traffic, compile_policies, parse
from analyzer.policy.model import Section
from analyzer.policy.resolve import RuleIndex
from analyzer.policy.selector import LabelSelector, PeerSelector, matches
from analyzer.recommend.draft import (
    CidrPeer,
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    RuleDraft,
    Span,
    SubjectKey,
)

__all__ = ["Excess", "Kind", "Universe", "universe"]

PREFIX = {4: 24, 6: 64}
"""Outside addresses without a name count as one peer per prefix of this length, by family."""
SAMPLES = 3
"""How many members stand for a zone or a prefix: the policy treats them alike, or was made for one of them."""

_CLOSING = (Direction.INGRESS, Direction.EGRESS)


class Kind(NamedTuple):
    """A peer of the universe: a workload, an entity, a zone of DNS names, or a prefix."""

    what: str
    name: str
    cluster: str = ""


class Excess(NamedTuple):
    """Of `universe` triples in the directions that are closed, `unseen` are allowed and were never seen. `open` counts the
    (workload, direction) pairs that are left alone: there everything is allowed."""

    unseen: int = 0
    universe: int = 0
    open: int = 0

    def plus(self, other: Excess) -> Excess:
        """Both together."""
        return Excess(self.unseen + other.unseen, self.universe + other.universe, self.open + other.open)

    @property
    def percent(self) -> float:
        return 100 * self.unseen / self.universe if self.universe else 0.0


@dataclass(frozen=True, slots=True)
class Universe:
    """Every (workload, peer, layer 4) that could be: `peers` with the identities that stand for each, `serving` the ports seen
    in use at each, and one for the unseen ports of every range among them, `other` a port that nobody was seen to use, `seen`
    what was seen per workload and direction."""

    subjects: Mapping[SubjectKey, Peer]
    peers: Mapping[Kind, tuple[Peer, ...]]
    serving: Mapping[Kind, tuple[L4, ...]]
    other: L4
    seen: Mapping[tuple[SubjectKey, Direction], frozenset[tuple[Kind, L4]]]
    inventory: Inventory

    def excess(self, documents: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[tuple[str, Direction], Excess]:
        """The excess per namespace and direction of policies, given as (cluster, document), by the engine's judgement.
        Raises PolicyError."""
        by_cluster: dict[str, list[Policy]] = defaultdict(list)
        for cluster, document in documents:
            by_cluster[cluster].append(parse(document, self._inventory(cluster).options))
        found: dict[tuple[str, Direction], Excess] = defaultdict(Excess)
        for cluster in sorted({key.cluster for key in self.subjects}):
            judge = _Judge(self, by_cluster[cluster], self._inventory(cluster))
            for key in self.subjects:
                if key.cluster == cluster:
                    for direction in _CLOSING:
                        place = key.namespace, direction
                        found[place] = found[place].plus(judge.excess(key, direction))
        return dict(found)

    def _inventory(self, cluster: str) -> Inventory:
        return replace(self.inventory, options=replace(self.inventory.options, cluster_name=cluster or "default"))


def universe(draft: Draft, namespaces: Iterable[str], rules: Iterable[RuleDraft] = ()) -> Universe:
    """The universe of the workloads of `namespaces`, from the claims of all workloads on traffic that was seen.

    Of every port range of `rules`, one port that nobody was seen to use belongs to it at the server.
    """
    chosen = set(namespaces)
    ipv6 = any(":" in end.address for edge in draft.edges for end in (edge.source, edge.destination))
    options = replace(draft.inventory.options, ipv6=draft.inventory.options.ipv6 or ipv6)
    peers: dict[Kind, dict[Peer, None]] = defaultdict(dict)
    for key, subject in draft.subjects.items():
        end = subject.identities[0]
        peers[_workload(key)] = {Peer(policy_labels(end), namespace=end.namespace): None}
    serving: dict[Kind, set[L4]] = defaultdict(set)
    seen: dict[tuple[SubjectKey, Direction], set[tuple[Kind, L4]]] = defaultdict(set)
    for claim in draft.claims:
        kind = _kind(claim)
        members = peers[kind]
        if len(members) < SAMPLES and kind.what != "workload":
            members.update(dict.fromkeys(_members(claim, dual=options.ipv6)))
        serving[_server(claim)].add(claim.l4)
        seen[claim.subject, claim.direction].add((kind, claim.l4))
    for server, spans in _ranges(draft.claims, rules).items():
        serving[server].update([unseen for span in spans for unseen in _unseen(span, serving[server])])
    used = {l4.port for l4s in serving.values() for l4 in l4s}
    free = next(port for port in range(1, 65536) if port not in used)
    return Universe(
        {key: next(iter(peers[_workload(key)])) for key in draft.subjects if key.namespace in chosen},
        {kind: tuple(members) for kind, members in sorted(peers.items())},
        {kind: tuple(sorted(l4s)) for kind, l4s in serving.items()},
        L4(Protocol.TCP, free),
        {place: frozenset(found) for place, found in seen.items()},
        Inventory(cidr_groups=draft.inventory.cidr_groups, options=options),
    )


def _ranges(claims: Iterable[Claim], rules: Iterable[RuleDraft]) -> dict[Kind, set[Span]]:
    """The ranges that rules have, by the servers whose ports made them."""
    wanted: dict[tuple[SubjectKey, Direction, EdgeKey], set[Span]] = defaultdict(set)
    for rule in rules:
        spans = [each for each in rule.ports if isinstance(each, Span)]
        for edge in rule.evidence if spans else ():
            wanted[rule.subject, rule.direction, edge.key].update(span for span in spans if span.holds(edge.l4))
    found: dict[Kind, set[Span]] = defaultdict(set)
    for claim in claims if wanted else ():
        for edge in claim.edges:
            found[_server(claim)] |= wanted.get((claim.subject, claim.direction, edge.key), set())
    return found


def _unseen(span: Span, seen: Container[L4]) -> Iterator[L4]:
    """The first port of a range that was not seen in use, if there is one."""
    ports = (L4(span.protocol, port) for port in range(span.port, span.last + 1))
    yield from islice((l4 for l4 in ports if l4 not in seen), 1)


def _server(claim: Claim) -> Kind:
    return _kind(claim) if claim.direction is Direction.EGRESS else _workload(claim.subject)


def _workload(key: SubjectKey) -> Kind:
    return Kind("workload", str(key), key.cluster)


def _kind(claim: Claim) -> Kind:
    match claim.peer:
        case EndpointPeer(subject=subject):
            return _workload(subject)
        case EntityPeer(entity=entity):
            return Kind("entity", entity.value)
        case NamePeer(name=name):
            rest = name.rstrip(".").partition(".")[2]
            return Kind("zone", rest if "." in rest else name)
        case CidrPeer(cidr=cidr):
            network = ip_network(cidr)
            length = min(network.prefixlen, PREFIX[network.version])
            return Kind("prefix", str(network.supernet(new_prefix=length)))


def _members(claim: Claim, *, dual: bool) -> Iterator[Peer]:
    """What stands for the outside peer, or the entity, of a claim."""
    match claim.peer:
        case EntityPeer(entity=entity):
            yield Peer(reserved(entity.value))
        case NamePeer(name=name):
            for edge in claim.edges:
                yield _outside(edge.destination.address.partition("/")[0], (name,), dual=dual)
        case CidrPeer(cidr=cidr):
            yield _outside(cidr.partition("/")[0], (), dual=dual)


def _outside(address: str, names: tuple[str, ...], *, dual: bool) -> Peer:
    number = family(address)
    world = f"reserved:world-ipv{number}" if dual and number else "reserved:world"
    return Peer(Labels.of([world]), ip=address if number else "", names=names)


class _Judge:
    """Asks the engine about all triples that some rule's peers could cover; under enforcement nothing else is allowed."""

    def __init__(self, world: Universe, policies: list[Policy], inventory: Inventory) -> None:
        self._world = world
        self._inventory = inventory
        self._index = RuleIndex(policies)
        self._engine = compile_policies(policies, inventory)
        self._covered: dict[PeerSelector, frozenset[Kind]] = {}
        self._by_label: dict[tuple[str, str], set[Kind]] = defaultdict(set)
        for kind, members in world.peers.items():
            for member in members:
                for label in member.labels:
                    self._by_label[label.key, label.value].add(kind)
        self._sizes = {kind: len(world.serving.get(kind, ())) + 1 for kind in world.peers}
        self._total = sum(self._sizes.values())

    def excess(self, key: SubjectKey, direction: Direction) -> Excess:
        """One direction of one workload."""
        world, subject = self._world, self._world.subjects[key]
        ingress = direction is Direction.INGRESS
        rules = [rule for _, rule in self._index.selecting(subject.labels)]
        if not any(rule.deny_ingress if ingress else rule.deny_egress for rule in rules):
            return Excess(open=1)
        own = world.serving.get(_workload(key), ())
        wanted = Section.INGRESS if ingress else Section.EGRESS
        candidates: set[Kind] = set()
        for rule in rules:
            for item in rule.items:
                if item.section is wanted:
                    candidates.update(*map(self._choose, item.peers) if item.peers is not None else (world.peers,))
        seen = world.seen.get((key, direction), frozenset())
        unseen = 0
        for kind in candidates:
            for l4 in (*(own if ingress else world.serving.get(kind, ())), world.other):
                if (kind, l4) not in seen and self._allows(subject, world.peers[kind], l4, ingress):
                    unseen += 1
        return Excess(unseen, (len(own) + 1) * len(world.peers) if ingress else self._total)

    def _choose(self, selector: PeerSelector) -> frozenset[Kind]:
        """The peers that a selector may choose."""
        found = self._covered.get(selector)
        if found is None:
            found = frozenset(
                kind
                for kind in self._candidates(selector)
                if any(matches(selector, member, self._inventory) is not False for member in self._world.peers[kind])
            )
            self._covered[selector] = found
        return found

    def _candidates(self, selector: PeerSelector) -> Iterable[Kind]:
        """Those that carry the rarest label which the selector asks for; all, where it asks for none."""
        if not isinstance(selector, LabelSelector):
            return self._world.peers
        asked = [
            [(each.key, value) for value in each.values]
            for each in selector.requirements
            if not each.operator.negated and not each.operator.exists
        ]
        found: list[set[Kind]] = [set[Kind]().union(*(self._by_label[pair] for pair in pairs)) for pairs in asked]
        return sorted(found, key=len)[0] if found else self._world.peers

    def _allows(self, subject: Peer, members: tuple[Peer, ...], l4: L4, ingress: bool) -> bool:
        for member in members:
            ends = (member, subject) if ingress else (subject, member)
            decision = self._engine.decide(Traffic(*ends, l4))
            side = decision.ingress if ingress else decision.egress
            if side.outcome in (Outcome.ALLOWED, Outcome.REDIRECTED):
                return True
        return False
