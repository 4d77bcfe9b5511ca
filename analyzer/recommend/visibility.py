"""The pass that finds workloads whose DNS names or HTTP requests nobody could see, and writes the policies that would show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network

from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.recommend.cidrs import is_private
from analyzer.recommend.draft import (
    L7,
    CidrPeer,
    Draft,
    EndpointPeer,
    EntityPeer,
    HttpMatch,
    Note,
    Peer,
    PolicyDraft,
    Purpose,
    RuleDraft,
    Selection,
    Span,
    SubjectKey,
    Topic,
)
from analyzer.recommend.policies import safe_name

__all__ = ["HTTP_PORTS", "visibility"]

HTTP_PORTS = frozenset({80, 3000, 5000, 8000, 8008, 8080, 8081, 8088, 8888, 9090})
"""Ports that usually carry plain HTTP, beside those a pod declares with a name that begins with ``http``."""
_EVERY_REQUEST = (HttpMatch("", ""),)

_NAMES = (
    "egress: it speaks with {} outside addresses, and none of its DNS lookups was seen, so rules say addresses; "
    "--visibility writes the policy that shows names"
)
_REQUESTS = (
    "ingress: no HTTP request was seen on {}; --visibility writes the policy that shows them, for ports that speak plain HTTP "
    "(the proxy breaks anything else)"
)


def visibility(draft: Draft) -> Draft:
    """Note what nobody could see, and draft one more policy for each such workload: name resolution through the DNS proxy and,
    where layer 7 was asked for, HTTP through Envoy. They let nobody in or out who is not in the recommendation, and all may
    ask for and request everything."""
    found: list[PolicyDraft] = []
    notes: list[Note] = []
    declared = _declared(draft)
    for policy in draft.policies:
        key, l7 = policy.subject.key, draft.options.settings(policy.subject.key.namespace).l7
        rules: list[RuleDraft] = []
        addresses = _nameless(policy)
        if addresses or (L7.DNS in l7 and _unasked(policy)):
            rules.extend(_lookups(policy))
        if addresses:
            notes.append(Note(Topic.BLIND, str(key), _NAMES.format(len(addresses))))
        unseen = list(_unseen(policy, declared)) if L7.HTTP in l7 else []
        if unseen:
            rules.extend(unseen)
            listed = ", ".join(map(str, sorted({l4 for rule in unseen for l4 in rule.ports})))
            notes.append(Note(Topic.BLIND, str(key), _REQUESTS.format(listed)))
        if rules:
            name = safe_name(f"{policy.name}-visibility")
            folder = policy.path.rpartition("/")[0]
            found.append(PolicyDraft(policy.subject, name, f"visibility/{folder}/{name}.yaml", tuple(rules)))
    return replace(draft, visibility=tuple(found), notes=(*draft.notes, *notes))


def _nameless(policy: PolicyDraft) -> set[str]:
    """The outside addresses of a workload none of whose lookups, nor any name, was seen."""
    egress = policy.section(Direction.EGRESS)
    edges = [edge for rule in egress for edge in rule.evidence]
    if any(edge.stats.queries or edge.stats.names for edge in edges):
        return set()
    return {
        edge.destination.address for rule in egress for edge in rule.evidence if _is_public(edge) and _by_address(rule)
    }


def _by_address(rule: RuleDraft) -> bool:
    return rule.purpose is Purpose.TRAFFIC and any(
        isinstance(peer, CidrPeer) or peer == EntityPeer(Entity.WORLD) for peer in rule.peers
    )


def _is_public(edge: Edge) -> bool:
    try:
        return not is_private(ip_network(edge.destination.address))
    except ValueError:
        return False


def _lookups(policy: PolicyDraft) -> Iterator[RuleDraft]:
    """Name resolution through the proxy, at the resolvers the workload uses, or else at the usual one."""
    rules = [rule for rule in policy.section(Direction.EGRESS) if rule.purpose is not Purpose.TRAFFIC]
    for rule in rules:
        yield replace(rule, purpose=Purpose.DNS_NAMES, lookups=())
    if not rules:
        ports = (L4(Protocol.TCP, 53), L4(Protocol.UDP, 53))
        peer = _usual_resolver(policy.subject.key.cluster)
        yield RuleDraft(policy.subject.key, Direction.EGRESS, (peer,), ports, (), Purpose.DNS_NAMES)


def _usual_resolver(cluster: str) -> Peer:
    """What distributions label kube-dns and CoreDNS with."""
    return EndpointPeer(SubjectKey(cluster, "kube-system", "kube-dns"), Selection((("k8s-app", "kube-dns"),)))


def _unasked(policy: PolicyDraft) -> bool:
    """Whether it resolves names, and the proxy saw none of its requests."""
    rules = [rule for rule in policy.section(Direction.EGRESS) if rule.purpose is not Purpose.TRAFFIC]
    return bool(rules) and not any(edge.stats.queries for rule in rules for edge in rule.evidence)


def _declared(draft: Draft) -> dict[tuple[str, Labels], set[L4]]:
    """The ports of pods that are declared to carry plain HTTP."""
    found: dict[tuple[str, Labels], set[L4]] = defaultdict(set)
    for endpoint in draft.inventory.endpoints:
        for name, port in (endpoint.named_ports or {}).items():
            if name.startswith("http") and not name.startswith("https"):
                found[endpoint.namespace, endpoint.labels].add(port)
    return found


def _unseen(policy: PolicyDraft, declared: Mapping[tuple[str, Labels], set[L4]]) -> Iterator[RuleDraft]:
    """The workload's own ingress rules, for ports that speak HTTP as far as one can tell and of which no request was seen."""
    namespace = policy.subject.key.namespace
    own = {port for end in policy.subject.identities for port in declared.get((namespace, end.labels), ())}
    for rule in policy.section(Direction.INGRESS):
        if rule.purpose is not Purpose.TRAFFIC or rule.http or any(edge.stats.http for edge in rule.evidence):
            continue
        used = sorted(_single(rule))
        ports = tuple(l4 for l4 in used if l4 in own or (l4.protocol is Protocol.TCP and l4.port in HTTP_PORTS))
        if ports:
            yield replace(rule, ports=ports, http=_EVERY_REQUEST)


def _single(rule: RuleDraft) -> set[L4]:
    """The ports of a rule one by one; of a range, which no rule on requests can have, those that were seen."""
    spans = [each for each in rule.ports if isinstance(each, Span)]
    seen = {edge.l4 for edge in rule.evidence if any(span.holds(edge.l4) for span in spans)}
    return seen.union(each for each in rule.ports if isinstance(each, L4))
