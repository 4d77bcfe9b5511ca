"""Outcomes of edges: what a set of policies would decide about recorded traffic, and what the record says was decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from analyzer.model.address import INVALID, UNKNOWN, family
from analyzer.model.edge import Edge, EdgeKey, Endpoint, Side, Status
from analyzer.model.identity import WORLD, Entity, entities
from analyzer.model.inventory import Inventory
from analyzer.model.labels import CLUSTER_KEY, Label, Labels
from analyzer.model.perspective import policy_labels, seen_from
from analyzer.model.requests import requests
from analyzer.policy import (
    HttpRequest,
    Outcome,
    Partition,
    Peer,
    Policy,
    PolicySet,
    SideDecision,
    Traffic,
    compile_policies,
)
from analyzer.settle import side_statuses

__all__ = [
    "EdgeOutcome", "Outcomes", "Result", "SideOutcome", "Simulation", "observed", "peer_of", "simulate", "simulate_with",
]  # fmt: skip


class Result(StrEnum):
    """What becomes of an edge, or of one side of it. To the L7 proxy counts as allowed: it is requests that the proxy refuses."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class SideOutcome:
    """One side's result and why: `rules` name the deciding policy and rule (or the default that decided), `allowing` every
    rule that allows, `selected_by` the policies that put this side under enforcement."""

    result: Result
    rules: tuple[str, ...] = ()
    reason: str = ""
    allowing: tuple[str, ...] = ()
    selected_by: tuple[str, ...] = ()
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class EdgeOutcome:
    """What becomes of an edge. Both sides must allow it. `refused_requests` are HTTP requests seen on it that the L7 proxy would
    refuse, as ``METHOD path``."""

    edge: Edge
    egress: SideOutcome
    ingress: SideOutcome
    refused_requests: tuple[str, ...] = ()

    @property
    def result(self) -> Result:
        sides = (self.egress.result, self.ingress.result)
        for result in (Result.DENIED, Result.UNDECIDED):
            if result in sides:
                return result
        return Result.ALLOWED

    @property
    def rules(self) -> tuple[str, ...]:
        """What decided, on either side."""
        return tuple(dict.fromkeys((*self.egress.rules, *self.ingress.rules)))

    @property
    def reason(self) -> str:
        """Why the edge is not simply allowed, egress first."""
        if self.egress == self.ingress:
            return self.egress.reason if self.egress.result is not Result.ALLOWED else ""
        return "; ".join(
            f"{name}: {side.reason}"
            for name, side in (("egress", self.egress), ("ingress", self.ingress))
            if side.result is not Result.ALLOWED and side.reason
        )


Outcomes = Mapping[EdgeKey, EdgeOutcome]
"""One outcome per edge, in the canonical order of the edges."""


def peer_of(endpoint: Endpoint, names: Iterable[str], inventory: Inventory) -> Peer:
    """The engine's view of an edge's end: with the cluster where the record left it out, and in a dual-stack cluster the world as
    one of two entities, by address family."""
    labels, address = policy_labels(endpoint), endpoint.address.partition("/")[0]
    if endpoint.namespace and labels and not entities(labels) and labels.get(CLUSTER_KEY, "k8s") is None:
        home = endpoint.cluster or inventory.options.cluster_name
        labels = Labels.of([*labels, Label("k8s", CLUSTER_KEY, home)])
    if inventory.options.ipv6 and Entity.WORLD in entities(labels) and family(address):
        kept = (label for label in labels if label.key not in WORLD)
        labels = Labels.of([*kept, f"reserved:world-ipv{family(address)}"])
    return Peer(labels, ip=address if family(address) else "", names=tuple(names), namespace=endpoint.namespace)


def simulate(edges: Sequence[Edge], policies: Iterable[Policy], inventory: Inventory) -> Outcomes:
    """What `policies` would decide about every edge. See `simulate_with` for asking one compiled set again and again."""
    return simulate_with(compile_policies(policies, inventory), edges, inventory)


def simulate_with(compiled: PolicySet, edges: Sequence[Edge], inventory: Inventory) -> Outcomes:
    """As `simulate`, over policies that are already compiled with `inventory`."""
    simulation = Simulation(compiled, inventory, frozenset(edge.source for edge in edges if edge.stats.names))
    return {edge.key: simulation.outcome(edge) for edge in edges}


class Simulation:
    """Asks compiled policies about edges, which know less than packets do: an edge's address may be a prefix, or unknown, and its
    names may be missing. What rules then differ about is undecided.

    `resolving` are the clients whose lookups were visible, so that an address without a name is one that they did not look up.
    """

    def __init__(self, compiled: PolicySet, inventory: Inventory, resolving: frozenset[Endpoint] = frozenset()) -> None:
        self.inventory = inventory
        self._compiled = compiled
        self._resolving = resolving
        self._inside: dict[int, tuple[Endpoint, Peer]] = {}
        self._told: dict[int, tuple[SideDecision, SideOutcome]] = {}
        self._partition = Partition(compiled.selectors(), inventory)

    def outcome(self, edge: Edge) -> EdgeOutcome:
        """What would become of `edge`."""
        unknown = _UNKNOWN.get(_what_is_missing(edge))
        if edge.cluster != self.inventory.options.cluster_name:
            words = f"it was seen in cluster {edge.cluster}; the policies are those of {self.inventory.options.cluster_name}"
            unknown = SideOutcome(Result.UNDECIDED, reason=words)
        if unknown is not None:
            return EdgeOutcome(edge, unknown, unknown)
        egress, ingress = self._both(edge)
        refused = self._refused_requests(edge) if egress.proxied or ingress.proxied else ()
        return EdgeOutcome(edge, egress, ingress, refused)

    def _both(self, edge: Edge) -> tuple[SideOutcome, SideOutcome]:
        if any(end.address or _HOST in end.labels for end in (edge.source, edge.destination)):
            return self.side(edge, Side.SOURCE), self.side(edge, Side.DESTINATION)
        # Nothing is unsure about two pods: one question answers for both sides.
        decision = self._compiled.decide(Traffic(self._pod(edge.source), self._pod(edge.destination), edge.l4))
        return self._tell(decision.egress), self._tell(decision.ingress)

    def _pod(self, end: Endpoint) -> Peer:
        # By id, because hashing a label set costs more than the whole question; holding on to it keeps its id its own.
        known = self._inside.get(id(end))
        if known is None or known[0] is not end:
            known = self._inside[id(end)] = end, peer_of(end, (), self.inventory)
        return known[1]

    def _tell(self, answer: SideDecision) -> SideOutcome:
        known = self._told.get(id(answer))
        if known is None or known[0] is not answer:
            known = self._told[id(answer)] = answer, _one_side([answer])
        return known[1]

    def side(self, edge: Edge, side: Side) -> SideOutcome:
        """One side's outcome, against the far end as that side's agent names it; of several names the worst outcome counts."""
        near = edge.source if side is Side.SOURCE else edge.destination
        found = []
        for far in seen_from(edge, side):
            answers: list[SideDecision] = []
            for answer in self._answers(near, far, edge, side):
                answers.append(answer)
                if _RESULTS[answer.outcome] is not _RESULTS[answers[0].outcome]:
                    break
            found.append(self._perhaps_by_name(_one_side(answers), near, far, edge, side))
        return min(found, key=lambda outcome: _WORST_FIRST.index(outcome.result))

    def answers(self, edge: Edge, side: Side) -> Iterator[SideDecision]:
        """The engine's answers about every part of the edge that rules could tell apart."""
        near = edge.source if side is Side.SOURCE else edge.destination
        for far in seen_from(edge, side):
            yield from self._answers(near, far, edge, side)

    def _answers(self, near: Endpoint, far: Endpoint, edge: Edge, side: Side) -> Iterator[SideDecision]:
        for one, other in product(self.peers(near, edge), self.peers(far, edge)):
            yield self._ask(one, other, edge, side)

    def _ask(self, near: Peer, far: Peer, edge: Edge, side: Side) -> SideDecision:
        ends = (near, far) if side is Side.SOURCE else (far, near)
        decision = self._compiled.decide(Traffic(*ends, edge.l4))
        return decision.egress if side is Side.SOURCE else decision.ingress

    def peers(self, end: Endpoint, edge: Edge) -> tuple[Peer, ...]:
        """The peers an end stands for: one, unless its address is a prefix or unknown. Then every part of it that a rule could tell
        apart stands for itself, with each of the DNS names, and without one if some of the traffic had none."""
        if not end.address:
            return (self._pod(end),)
        names = tuple(edge.stats.names)
        if "/" not in end.address and end.address not in (UNKNOWN, INVALID):
            return (peer_of(end, names, self.inventory),)
        known: list[tuple[str, ...]] = [(name,) for name in names]
        if edge.stats.unnamed or edge.stats.names.overflow or not names:
            known.append(())
        places = _EVERYWHERE if "/" not in end.address else (end.address,)
        return tuple(
            peer_of(end._replace(address=address), each, self.inventory)
            for prefix in places
            for address in self._partition.samples(prefix)
            for each in known
        )

    def _perhaps_by_name(
        self, found: SideOutcome, near: Endpoint, far: Endpoint, edge: Edge, side: Side
    ) -> SideOutcome:
        """Whether an address without a name is allowed by name cannot be told where lookups were not visible."""
        if (
            found.result is not Result.DENIED
            or side is not Side.SOURCE
            or not (far.address and self._partition.names)
            or edge.stats.names
            or near in self._resolving
            or any(far.address in addresses for addresses in self.inventory.names.values())
        ):
            return found
        named = [
            self._ask(one, other._replace(names=self._partition.names), edge, side)
            for one, other in product(self.peers(near, edge), self.peers(far, edge))
        ]
        rules = tuple(dict.fromkeys(str(origin) for answer in named for origin in answer.allowing))
        if not rules or all(answer.outcome is Outcome.DENIED for answer in named):
            return found
        what = "an unknown address" if far.address in (UNKNOWN, INVALID) else far.address
        reason = f"no DNS name was recorded for {what}, which {rules[0]} may allow by its name"
        return SideOutcome(Result.UNDECIDED, reason=reason, selected_by=found.selected_by)

    def _refused_requests(self, edge: Edge) -> tuple[str, ...]:
        source, destination = (self.peers(end, edge)[0] for end in (edge.source, edge.destination))
        refused = set()
        for request in requests(edge.stats)[0]:
            answer = self._compiled.decide(Traffic(source, destination, edge.l4, http=HttpRequest(*request)))
            if False in (answer.egress.l7, answer.ingress.l7):
                refused.add(f"{request.method} {request.path}")
        return tuple(sorted(refused))


_HOST = Label("reserved", Entity.HOST.value)
_WORST_FIRST = (Result.DENIED, Result.UNDECIDED, Result.ALLOWED)
_EVERYWHERE = ("0.0.0.0/0", "::/0")
_UNDIRECTED = "nobody can tell which side is the client"
_UNKNOWN = {
    "direction": SideOutcome(Result.UNDECIDED, reason=_UNDIRECTED),
    "labels": SideOutcome(Result.UNDECIDED, reason="the labels of one side are unknown (masked out of the record)"),
    "identity": SideOutcome(Result.UNDECIDED, reason="an address of the cluster was seen without its pod's identity"),
}


def _what_is_missing(edge: Edge) -> str:
    if edge.status is Status.UNDIRECTED:
        return "direction"
    if not all(end.labels or end.address for end in (edge.source, edge.destination)):
        return "labels"
    return "identity" if edge.stats.conflicting >= edge.weight > 0 else ""


_RESULTS = {
    Outcome.ALLOWED: Result.ALLOWED,
    Outcome.REDIRECTED: Result.ALLOWED,
    Outcome.DENIED: Result.DENIED,
    Outcome.UNDECIDED: Result.UNDECIDED,
}


def _one_side(answers: Sequence[SideDecision]) -> SideOutcome:
    results = {_RESULTS[answer.outcome] for answer in answers}
    first = answers[0]
    if len(results) > 1:
        reason = "its address is known as a prefix only, or not at all, and the rules differ inside it"
        return SideOutcome(Result.UNDECIDED, reason=reason)
    return SideOutcome(
        results.pop(),
        tuple(map(str, first.deciding)),
        first.reason,
        tuple(map(str, first.allowing)),
        tuple(map(str, first.selected_by)),
        first.outcome is Outcome.REDIRECTED,
    )


def observed(edges: Sequence[Edge]) -> Outcomes:
    """What the record says was decided. Traffic that was forwarded was allowed, even if nobody answered it; faults of the network
    and edges without a direction are undecided."""
    return {edge.key: _observed(edge) for edge in edges}


_OBSERVED = {
    Status.FORWARDED: (Result.ALLOWED, ""),
    Status.AUDITED: (Result.ALLOWED, "policy audit mode let it pass"),
    Status.UNANSWERED: (Result.ALLOWED, "forwarded, but nobody answered"),
    Status.INFRASTRUCTURE: (Result.UNDECIDED, "dropped by the network, not by a policy"),
    Status.UNDIRECTED: (Result.UNDECIDED, _UNDIRECTED),
}
_DENIED = {
    Status.DROPPED: "no rule allowed it (default deny)",
    Status.DENIED: "an explicit deny rule matched",
}
_SIDES = ((Side.SOURCE, "EGRESS"), (Side.DESTINATION, "INGRESS"))


def _observed(edge: Edge) -> EdgeOutcome:
    denying = {side: each for side, each in side_statuses(edge.stats).items() if each in _DENIED}
    if edge.status is Status.UNDIRECTED or not denying:
        result, reason = _OBSERVED.get(edge.status, (Result.ALLOWED, ""))
        side = SideOutcome(result, reason=reason)
        return EdgeOutcome(edge, side, side)
    # Where no side is known to deny it, either may have been the one.
    untold = denying.get(Side.UNKNOWN) if len(denying) == 1 else None
    sides = []
    for number, direction in _SIDES:
        status = denying.get(number, untold)
        named = tuple(
            f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            for at, kind, namespace, name in edge.stats.denied_by
            if at == direction
        )
        sides.append(SideOutcome(Result.DENIED, named, _DENIED[status]) if status else SideOutcome(Result.ALLOWED))
    return EdgeOutcome(edge, sides[0], sides[1])
