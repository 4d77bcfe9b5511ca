"""Outcomes of edges: what a set of policies would decide about recorded traffic, and what the record says was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_network

from analyzer.model.address import family
from analyzer.model.edge import Edge, EdgeKey, Endpoint, Side, Status
from analyzer.model.flow import Verdict
from analyzer.model.identity import WORLD, Entity, entities
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.model.perspective import policy_labels, seen_from
from analyzer.policy import (
    HttpRequest,
    Outcome,
    Peer,
    Policy,
    PolicySet,
    SideDecision,
    Traffic,
    compile_policies,
)

__all__ = ["EdgeOutcome", "Outcomes", "Result", "SideOutcome", "observed", "peer_of", "simulate", "simulate_with"]


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
    def reason(self) -> str:
        """Why the edge is not simply allowed, egress first."""
        return "; ".join(
            f"{name}: {side.reason}"
            for name, side in (("egress", self.egress), ("ingress", self.ingress))
            if side.result is not Result.ALLOWED and side.reason
        )


Outcomes = Mapping[EdgeKey, EdgeOutcome]
"""One outcome per edge, in the canonical order of the edges."""


def peer_of(endpoint: Endpoint, names: Iterable[str], inventory: Inventory) -> Peer:
    """The engine's view of an edge's end. In a dual-stack cluster the world is one of two entities, by address family."""
    labels, address = policy_labels(endpoint), endpoint.address.partition("/")[0]
    if inventory.options.ipv6 and Entity.WORLD in entities(labels) and family(address):
        kept = (label for label in labels if label.key not in WORLD)
        labels = Labels.of([*kept, f"reserved:world-ipv{family(address)}"])
    return Peer(labels, ip=address if family(address) else "", names=tuple(names), namespace=endpoint.namespace)


def simulate(edges: Sequence[Edge], policies: Iterable[Policy], inventory: Inventory) -> Outcomes:
    """What `policies` would decide about every edge. See `simulate_with` for asking one compiled set again and again."""
    return simulate_with(compile_policies(policies, inventory), edges, inventory)


def simulate_with(compiled: PolicySet, edges: Sequence[Edge], inventory: Inventory) -> Outcomes:
    """As `simulate`, over policies that are already compiled with `inventory`."""
    return {edge.key: _decide(compiled, edge, inventory) for edge in edges}


def _decide(compiled: PolicySet, edge: Edge, inventory: Inventory) -> EdgeOutcome:
    if edge.status is Status.UNDIRECTED:
        unknown = SideOutcome(Result.UNDECIDED, reason="nobody can tell which side is the client")
        return EdgeOutcome(edge, unknown, unknown)
    if not (edge.source.labels or edge.source.address) or not (edge.destination.labels or edge.destination.address):
        unknown = SideOutcome(Result.UNDECIDED, reason="the labels of one side are unknown (masked out of the record)")
        return EdgeOutcome(edge, unknown, unknown)
    egress = _side(compiled, edge, Side.SOURCE, inventory)
    ingress = _side(compiled, edge, Side.DESTINATION, inventory)
    refused = _refused_requests(compiled, edge, inventory) if egress.proxied or ingress.proxied else ()
    return EdgeOutcome(edge, egress, ingress, refused)


def _side(compiled: PolicySet, edge: Edge, side: Side, inventory: Inventory) -> SideOutcome:
    """One side's outcome, against the far end as that side's agent names it; of several names the worst outcome counts."""
    near = edge.source if side is Side.SOURCE else edge.destination
    found = []
    for far in seen_from(edge, side):
        answers = []
        for one in _peers(near, edge, inventory):
            for other in _peers(far, edge, inventory):
                source, destination = (one, other) if side is Side.SOURCE else (other, one)
                decision = compiled.decide(Traffic(source, destination, edge.l4))
                answers.append(decision.egress if side is Side.SOURCE else decision.ingress)
        found.append(_one_side(answers))
    return min(found, key=lambda outcome: _WORST_FIRST.index(outcome.result))


_WORST_FIRST = (Result.DENIED, Result.UNDECIDED, Result.ALLOWED)


def _peers(end: Endpoint, edge: Edge, inventory: Inventory) -> list[Peer]:
    """The peers an end stands for: one, unless its addresses were truncated to a prefix. Then the ends of the prefix must
    agree, with and without the DNS names, which belong to some of its addresses only."""
    names = edge.stats.names if end.address else ()
    if "/" not in end.address:
        return [peer_of(end, names, inventory)]
    found = []
    for address in _bounds(end.address):
        for known in {(), tuple(names)}:
            found.append(peer_of(end._replace(address=address), known, inventory))
    return found


@lru_cache(maxsize=4096)
def _bounds(prefix: str) -> tuple[str, str]:
    network = ip_network(prefix)
    return str(network.network_address), str(network.broadcast_address)


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
        reason = "the addresses were truncated to a prefix, and rules differ inside it"
        return SideOutcome(Result.UNDECIDED, reason=reason)
    return SideOutcome(
        results.pop(),
        tuple(map(str, first.deciding)),
        first.reason,
        tuple(map(str, first.allowing)),
        tuple(map(str, first.selected_by)),
        first.outcome is Outcome.REDIRECTED,
    )


def _refused_requests(compiled: PolicySet, edge: Edge, inventory: Inventory) -> tuple[str, ...]:
    source, destination = (_peers(end, edge, inventory)[0] for end in (edge.source, edge.destination))
    refused = set()
    for method, path, host, verdict in edge.stats.http:
        if int(verdict) == Verdict.DROPPED:
            continue
        answer = compiled.decide(Traffic(source, destination, edge.l4, http=HttpRequest(method, path, host)))
        if False in (answer.egress.l7, answer.ingress.l7):
            refused.add(f"{method} {path}")
    return tuple(sorted(refused))


def observed(edges: Sequence[Edge]) -> Outcomes:
    """What the record says was decided. Traffic that was forwarded was allowed, even if nobody answered it; faults of the network
    and edges without a direction are undecided."""
    return {edge.key: _observed(edge) for edge in edges}


_OBSERVED = {
    Status.FORWARDED: (Result.ALLOWED, ""),
    Status.AUDITED: (Result.ALLOWED, "policy audit mode let it pass"),
    Status.UNANSWERED: (Result.ALLOWED, "forwarded, but nobody answered"),
    Status.INFRASTRUCTURE: (Result.UNDECIDED, "dropped by the network, not by a policy"),
    Status.UNDIRECTED: (Result.UNDECIDED, "nobody can tell which side is the client"),
}


def _observed(edge: Edge) -> EdgeOutcome:
    if edge.status not in (Status.DROPPED, Status.DENIED):
        side = SideOutcome(_OBSERVED[edge.status][0], reason=_OBSERVED[edge.status][1])
        return EdgeOutcome(edge, side, side)
    denying = {
        key.side for key in edge.stats.activity if key.verdict == Verdict.DROPPED and key.reason in _POLICY_REASONS
    }
    sides = []
    for side_number, direction in ((Side.SOURCE, "EGRESS"), (Side.DESTINATION, "INGRESS")):
        denied = side_number in denying or (Side.UNKNOWN in denying and len(denying) == 1)
        named = tuple(
            f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
            for at, kind, namespace, name in edge.stats.denied_by
            if at == direction
        )
        reason = "explicitly denied" if edge.status is Status.DENIED else "no rule allowed it (default deny)"
        sides.append(SideOutcome(Result.DENIED, named, reason) if denied else SideOutcome(Result.ALLOWED))
    return EdgeOutcome(edge, sides[0], sides[1])


_POLICY_REASONS = frozenset({0, 133, 181, 189})
