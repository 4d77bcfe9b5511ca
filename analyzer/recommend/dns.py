"""The pass that adds name resolution: whoever gets an egress section must still reach the resolver."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4, Protocol
from analyzer.recommend.draft import (
    CidrPeer,
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    Note,
    Peer,
    Purpose,
    SubjectKey,
    Topic,
)

__all__ = ["SYSTEM_NAMESPACES", "Resolver", "dns", "resolvers"]

DNS_PORTS = frozenset({53, 5353})
"""Ports that resolvers listen on; OpenShift's listens on 5353. Another port counts once a DNS query was seen on it, unless it
is ephemeral: then a response was taken for a query."""
EPHEMERAL = 32768
DNS_PROTOCOLS = (Protocol.UDP, Protocol.TCP)
SYSTEM_NAMESPACES = frozenset({"kube-system", "openshift-dns"})
"""A resolver here serves everybody; elsewhere it does once another namespace was seen using it."""


class Resolver(NamedTuple):
    """What answers DNS for the workloads of `cluster`."""

    cluster: str
    peer: Peer
    port: int


def dns(draft: Draft) -> Draft:
    """Turn the claims on resolvers into name resolution, over UDP and TCP, for every workload with egress claims.

    With names among its peers it goes through the DNS proxy, since toFQDNs knows no addresses without; where no resolver was
    seen, the names give way to their addresses.
    """
    users, shared = resolvers(draft)
    claims: list[Claim] = []
    notes: list[Note] = []
    queries: dict[SubjectKey, list[Claim]] = defaultdict(list)
    egress: dict[SubjectKey, bool] = {}
    for claim in draft.claims:
        if claim.direction is Direction.EGRESS:
            egress[claim.subject] = egress.get(claim.subject, False) or isinstance(claim.peer, NamePeer)
        resolver = _port(claim)
        if resolver in users and (claim.subject in users[resolver] or resolver in shared):
            queries[claim.subject].append(claim)
        else:
            claims.append(claim)
    resolving = {resolver.peer.subject for resolver in users if isinstance(resolver.peer, EndpointPeer)}
    without: set[SubjectKey] = set()
    for key, with_names in sorted(egress.items()):
        found = list(_lookups(key, queries[key], [r for r in shared if r.cluster == key.cluster], names=with_names))
        claims.extend(found)
        if found:
            continue
        without.add(key)
        if key not in resolving:
            notes.append(Note(Topic.NO_RESOLVER, str(key), _WITHOUT_NAMES if with_names else _WITHOUT))
    claims = [_by_address(claim) if claim.subject in without else claim for claim in claims]
    claims = [*_answering(draft, claims)]
    return replace(draft, claims=tuple(claims), notes=(*draft.notes, *notes))


_WITHOUT = (
    "egress: no DNS traffic was seen, so the policy allows none; add the resolver before enforcing if names are used"
)
_WITHOUT_NAMES = (
    "egress: no DNS traffic was seen, which toFQDNs needs, so outside peers are allowed by their present addresses"
)


def _port(claim: Claim) -> Resolver | None:
    """The resolver that an egress claim is about, should it be one."""
    if claim.direction is not Direction.EGRESS or claim.l4.protocol not in DNS_PROTOCOLS:
        return None
    return Resolver(claim.subject.cluster, claim.peer, claim.l4.port)


def _answers(claim: Claim) -> bool:
    if claim.l4.port in DNS_PORTS:
        return any(edge.stats.answered or edge.stats.queries for edge in claim.edges)
    return claim.l4.port < EPHEMERAL and any(edge.stats.queries for edge in claim.edges)


def resolvers(draft: Draft) -> tuple[dict[Resolver, set[SubjectKey]], list[Resolver]]:
    """All resolvers with who uses them, and those that serve everybody."""
    users: dict[Resolver, set[SubjectKey]] = defaultdict(set)
    for claim in draft.claims:
        resolver = _port(claim)
        if resolver is not None and _answers(claim) and not isinstance(claim.peer, NamePeer):
            users[resolver].add(claim.subject)
    shared = [resolver for resolver, clients in users.items() if _is_shared(resolver.peer, clients)]
    return users, sorted(shared, key=repr)


def _is_shared(peer: Peer, clients: set[SubjectKey]) -> bool:
    match peer:
        case EndpointPeer(subject=subject):
            return subject.namespace in SYSTEM_NAMESPACES or any(
                each.namespace != subject.namespace for each in clients
            )
        case EntityPeer(entity=entity):
            return entity is not Entity.WORLD
        case NamePeer() | CidrPeer():
            return False


def _lookups(key: SubjectKey, own: list[Claim], shared: list[Resolver], *, names: bool) -> Iterator[Claim]:
    """The name resolution of one workload: its own resolvers with their evidence, and the shared ones. Not to itself."""
    purpose = Purpose.DNS_NAMES if names else Purpose.DNS
    for claim in own:
        for protocol in DNS_PROTOCOLS:
            edges = claim.edges if protocol is claim.l4.protocol else ()
            yield claim._replace(l4=L4(protocol, claim.l4.port), edges=edges, purpose=purpose)
    for resolver in shared:
        if isinstance(resolver.peer, EndpointPeer) and resolver.peer.subject == key:
            continue
        for protocol in DNS_PROTOCOLS:
            yield Claim(key, Direction.EGRESS, resolver.peer, L4(protocol, resolver.port), (), purpose)


def _by_address(claim: Claim) -> Claim:
    if isinstance(claim.peer, NamePeer) and claim.fallback is not None:
        return claim._replace(peer=claim.fallback, fallback=None)
    return claim


def _answering(draft: Draft, claims: list[Claim]) -> Iterator[Claim]:
    """All claims, and the other half: a resolver whose ingress is to be enforced lets in all who were just allowed to ask it."""
    guarded = {claim.subject for claim in claims if claim.direction is Direction.INGRESS}
    halves: set[Claim] = set()
    for claim in claims:
        peer = claim.peer
        if claim.purpose is Purpose.TRAFFIC or not isinstance(peer, EndpointPeer) or peer.subject not in guarded:
            continue
        if peer.subject.cluster == claim.subject.cluster:
            client = EndpointPeer(claim.subject, draft.subjects[claim.subject].selection, peer.cluster)
            halves.add(Claim(peer.subject, Direction.INGRESS, client, claim.l4, (), Purpose.DNS))
    yield from sorted(halves, key=repr)
    for claim in claims:
        half = claim._replace(edges=(), purpose=Purpose.DNS)
        yield claim._replace(purpose=Purpose.DNS) if half in halves else claim
