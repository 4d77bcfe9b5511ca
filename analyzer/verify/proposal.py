"""Checking a recommendation: each cluster's policies in that cluster, with what the proposal itself says of refusals and losses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

from analyzer.manifests import Document
from analyzer.model.edge import Edge, EdgeKey, Endpoint, Side
from analyzer.model.flow import Direction
from analyzer.model.identity import entities, reserved
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.model.perspective import home_cluster
from analyzer.policy import Origin, Policy
from analyzer.recommend import PolicyDraft, Proposal, Purpose, Reason
from analyzer.recommend.draft import EndpointPeer, EntityPeer, RuleDraft, Subject, SubjectKey
from analyzer.verify.check import SIDES, check_ends, validated
from analyzer.verify.half_open import Halves, Refused
from analyzer.verify.losses import lost
from analyzer.verify.namespaces import Named
from analyzer.verify.result import Check

__all__ = ["check_proposal"]

CILIUM = "CiliumNetworkPolicy"
_DIRECTIONS = {Side.SOURCE: Direction.EGRESS, Side.DESTINATION: Direction.INGRESS}
_SECTIONS = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}


def check_proposal(
    proposal: Proposal,
    edges: Sequence[Edge],
    inventory: Inventory,
    existing: Sequence[Policy] = (),
    written: Sequence[Document] | None = None,
) -> Check:
    """`check` for a recommendation, each cluster's policies in that cluster; what the proposal refuses is taken at its word.

    `written` are the documents as they are to be written, in whatever dialect; without them, they are those of the proposal.
    They are found by their paths; other documents among them are asked for their validity only. What a NetworkPolicy loses is
    excused like a refusal, and that each rule is needed is judged of the CiliumNetworkPolicies that it stands for.
    """
    refused = _refused(proposal)
    if written is None:
        return _checked(proposal, proposal.manifests(), edges, inventory, existing, refused)
    drafts = {draft.path: draft for draft in proposal.policies}
    ours = [document for document in written if document.path in drafts]
    translated = len(ours) < len(drafts) or any(document.data["kind"] != CILIUM for document in ours)
    found = _checked(proposal, proposal.manifests() if translated else ours, edges, inventory, existing, refused)
    if translated:
        all_lost, named = {**lost(proposal.policies, ours), **refused}, Named()
        seen = named.edges(edges)
        made = _checked(proposal, ours, seen, named.inventory(inventory), existing, named.refused(all_lost), named)
        found = replace(named.as_seen(made), idle=found.idle, beside=found.beside)
    others = [document.data for document in written if document.path not in drafts]
    return found + Check(invalid=validated(others, inventory)[1])


def _checked(
    proposal: Proposal,
    documents: Sequence[Document],
    edges: Sequence[Edge],
    inventory: Inventory,
    existing: Sequence[Policy],
    refused: Refused,
    named: Named | None = None,
) -> Check:
    drafts = {draft.path: draft for draft in proposal.policies}
    clusters: dict[str, list[Document]] = defaultdict(list)
    if existing:
        clusters[inventory.options.cluster_name] = []
    for document in documents:
        clusters[drafts[document.path].subject.key.cluster].append(document)
    whole, halves = Check(), Halves(refused)
    instead = list(_instead(proposal))
    if named is not None:
        instead = list(zip(named.edges(edge for edge, _ in instead), (way for _, way in instead), strict=True))
    for cluster, own in sorted(clusters.items()):
        local = replace(inventory, options=replace(inventory.options, cluster_name=cluster))
        platform = frozenset(origin for each in own for origin in _platform(drafts[each.path]))
        seen = [edge for edge in edges if cluster in _homes(edge)]
        data = [document.data for document in own]
        whole += check_ends(seen, data, local, halves, refused, platform, existing, instead)
    return whole + Check(half_open=halves.found())


def _refused(proposal: Proposal) -> Refused:
    """What the proposal says it does not allow, with its reasons; of several for one side, the first."""
    found: dict[tuple[EdgeKey, str], str] = {}
    for each in proposal.refused:
        for direction, side in SIDES:
            if each.direction is None or each.direction is _DIRECTIONS[side]:
                why = f"{each.reason.value} ({each.detail})" if each.detail else each.reason.value
                found.setdefault((each.edge.key, direction), why)
    return found


def _homes(edge: Edge) -> set[str]:
    return {home_cluster(edge, end) for end in (edge.source, edge.destination) if not entities(end.labels)}


def _platform(draft: PolicyDraft) -> Iterable[Origin]:
    """Name resolution, and whatever else has no evidence of its own."""
    for direction, section in _SECTIONS.items():
        for index, rule in enumerate(draft.section(direction)):
            if rule.purpose is not Purpose.TRAFFIC or not rule.evidence:
                yield Origin(CILIUM, draft.subject.key.namespace, draft.name, 0, section, index)


def _instead(proposal: Proposal) -> Iterator[tuple[Edge, str]]:
    """For edges to services' addresses, which no policy ever sees: the connections to backends that the rules allow instead."""
    translated = {
        each.edge.key
        for each in proposal.refused
        if each.reason is Reason.INSIDE_ADDRESS and each.direction is Direction.EGRESS
    }
    if not translated:
        return
    subjects = {subject.key: subject for subject in proposal.subjects}
    for draft in proposal.policies:
        for rule in draft.rules:
            for edge in rule.evidence:
                if edge.key in translated:
                    yield from ((made, _SECTIONS[rule.direction]) for made in _backends(edge, rule, subjects))


def _backends(edge: Edge, rule: RuleDraft, subjects: Mapping[SubjectKey, Subject]) -> Iterator[Edge]:
    if rule.direction is Direction.INGRESS:
        servers = [*subjects[rule.subject].identities]
    else:
        servers = [end for peer in rule.peers for end in _ends(peer, subjects)]
    ports = [port if isinstance(port, L4) else L4(port.protocol, port.port) for port in rule.ports] or [edge.l4]
    for server, l4 in product(servers, ports):
        yield replace(edge, key=edge.key._replace(destination=server, l4=l4))


def _ends(peer: object, subjects: Mapping[SubjectKey, Subject]) -> Sequence[Endpoint]:
    match peer:
        case EntityPeer(entity=entity):
            return [Endpoint(reserved(entity.value))]
        case EndpointPeer(subject=key) if key.name:
            return subjects[key].identities
        case EndpointPeer(subject=key):
            return [end for other, each in subjects.items() if other[:2] == key[:2] for end in each.identities]
    return []
