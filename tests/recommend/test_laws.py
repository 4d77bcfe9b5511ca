"""The laws of a recommendation: sound, minimal, monotone, deterministic, and accepted by the CRD."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.manifests import dump, parse
from analyzer.model.edge import Edge, Endpoint, Side, Status
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.l4 import L4
from analyzer.model.perspective import seen_from
from analyzer.recommend import Proposal, Purpose, Refusal, recommend
from tests.recommend.build import API_SERVER, DNS, HOST, REMOTE_NODE, allows, edge, enforced, outside, pod, reserved

PODS = [
    DNS,
    pod("shop", app="cart"),
    pod("shop", app="cart", track="canary"),
    pod("shop", app="api", version="1"),
    pod("shop", app="api", version="2"),
    pod("shop", app="api", tier="admin"),
    pod("batch", app="cart"),
    pod("batch", pod_template_hash="6d4b75cb6d"),
    pod("shop", "west", app="cart"),
]
OTHERS = [
    HOST,
    REMOTE_NODE,
    API_SERVER,
    reserved("ingress"),
    reserved("init"),
    outside("198.51.100.7"),
    outside("198.51.100.8"),
    outside("203.0.113.0/24"),
    outside("2001:db8::1"),
    outside("unknown"),
]
L4S = ["53/UDP", "53/TCP", "80/TCP", "443/TCP", "9999/SCTP", "ICMP/8", "ICMPv6/128", "0/TCP"]
NAMES = {"198.51.100.7": ["api.example.com"], "198.51.100.8": ["a.example.com", "b.example.com"]}
INVENTORY = Inventory(
    endpoints=tuple(InventoryEndpoint(f"pod-{n}", each.namespace, each.labels) for n, each in enumerate(PODS))
)
SCHEMAS = Path(__file__).resolve().parents[2] / ".." / "shared" / "crds"


@lru_cache
def validator() -> Any:
    path = SCHEMAS / "ciliumnetworkpolicy_v2.json"
    if not path.exists():
        pytest.skip("the CRD schemas are not here")
    return jsonschema.Draft202012Validator(json.loads(path.read_text()))


@st.composite
def edges(draw: st.DrawFn) -> list[Edge]:
    found = {}
    for _ in range(draw(st.integers(1, 14))):
        source = draw(st.sampled_from(PODS + OTHERS))
        destination = draw(st.sampled_from(PODS if source in OTHERS else PODS + OTHERS))
        made = edge(
            source,
            destination,
            draw(st.sampled_from(L4S)),
            status=draw(st.sampled_from([Status.FORWARDED] * 4 + [Status.AUDITED, Status.DROPPED, Status.UNANSWERED])),
            sides=draw(st.sampled_from([[Side.SOURCE], [Side.DESTINATION], [Side.SOURCE, Side.DESTINATION], [Side.UNKNOWN]])),
            names=NAMES.get(destination.address, ()) if draw(st.booleans()) else (),
            answered=draw(st.integers(0, 1)),
        )  # fmt: skip
        found.setdefault(made.key, made)
    return list(found.values())


def documents(proposal: Proposal, subject: Endpoint) -> list[dict[str, Any]]:
    """The policies that would be applied in the cluster of `subject`."""
    made = zip(proposal.policies, proposal.documents(), strict=True)
    return [document for policy, document in made if policy.subject.key.cluster == subject.cluster]


SIDES = (("egress", Side.SOURCE), ("ingress", Side.DESTINATION))


def near(each: Edge, side: Side) -> Endpoint:
    return each.source if side is Side.SOURCE else each.destination


def resolver_seen(proposal: Proposal, subject: Endpoint) -> bool:
    return any(
        rule.purpose is Purpose.DNS_NAMES and subject in policy.subject.identities
        for policy in proposal.policies
        for rule in policy.rules
    )


def names(proposal: Proposal, each: Edge) -> list[str]:
    return list(each.stats.names) if resolver_seen(proposal, each.source) else []


@settings(max_examples=150, deadline=None)
@given(edges())
def test_sound_each_accepted_edge_is_allowed_or_refused_with_its_reason(found: list[Edge]) -> None:
    made = recommend(found, INVENTORY)
    refused = {(r.edge.key, r.direction and r.direction.name.lower()) for r in made.refused}
    for each in found:
        for section, side in SIDES:
            if not each.accepted:
                assert (each.key, None) in refused
                continue
            if near(each, side) not in PODS or (each.key, None) in refused or (each.key, section) in refused:
                continue
            for far in seen_from(each, side):
                assert allows(
                    documents(made, near(each, side)), near(each, side), section, far, each.l4, names(made, each)
                ), (section, each)


@settings(max_examples=100, deadline=None)
@given(edges())
def test_minimal_each_traffic_rule_is_the_only_one_that_allows_one_of_its_edges(found: list[Edge]) -> None:
    made = recommend(found, INVENTORY)
    for policy in made.policies:
        for rule in policy.rules:
            if rule.purpose is Purpose.TRAFFIC:
                assert rule.evidence
                others = [(each.peers, each.ports) for each in policy.section(rule.direction) if each is not rule]
                assert not any(set(rule.peers) & set(p) and set(rule.ports) & set(l4s) for p, l4s in others)


@settings(max_examples=60, deadline=None)
@given(edges())
def test_nothing_that_was_not_seen_is_allowed(found: list[Edge]) -> None:
    """Name resolution and names apart, an allowed (subject, far end, layer 4) was an accepted edge of that workload."""
    made = recommend(found, INVENTORY)
    homes = {end: subject.key for subject in made.subjects for end in subject.identities}
    seen = {
        (homes[near(each, side)], homes.get(far, far), each.l4, section)
        for each in found
        if each.accepted
        for section, side in SIDES
        if near(each, side) in homes
        for far in seen_from(each, side)
    }
    for subject in PODS:
        applied = documents(made, subject)
        for section in ("ingress", "egress"):
            if not enforced(applied, subject, section):
                continue
            for far in [*PODS, REMOTE_NODE, API_SERVER, reserved("ingress"), reserved("init")]:
                # The API server is a remote node too: a rule for those covers it.
                causes = {homes.get(far, far), *([REMOTE_NODE] if far == API_SERVER else [])}
                for l4 in map(L4.parse, ("80/TCP", "443/TCP", "80/UDP", "9999/SCTP", "ICMP/8", "ICMPv6/128")):
                    if allows(applied, subject, section, far, l4):
                        assert {(homes[subject], cause, l4, section) for cause in causes} & seen, (subject, far, l4)


@settings(max_examples=80, deadline=None)
@given(edges(), st.data())
def test_monotone_more_accepted_edges_remove_nothing(found: list[Edge], data: st.DataObject) -> None:
    accepted = [each for each in found if each.accepted]
    fewer = [each for each in accepted if data.draw(st.booleans())]
    small, large = recommend(fewer, INVENTORY), recommend(accepted, INVENTORY)
    for subject in PODS:
        before, after = documents(small, subject), documents(large, subject)
        for section in ("ingress", "egress"):
            if not (enforced(before, subject, section) and enforced(after, subject, section)):
                continue
            for far in PODS + OTHERS:
                for l4 in map(L4.parse, L4S):
                    known = NAMES.get(far.address, []) if section == "egress" else []
                    if allows(before, subject, section, far, l4, known):
                        assert allows(after, subject, section, far, l4, known), (subject, section, far, l4)


@settings(max_examples=60, deadline=None)
@given(edges(), st.randoms())
def test_same_bytes_in_any_order(found: list[Edge], rng: random.Random) -> None:
    made = recommend(found, INVENTORY)
    shuffled = list(found)
    rng.shuffle(shuffled)
    again = recommend(shuffled, INVENTORY)
    assert dump(made.manifests()) == dump(again.manifests())
    assert made.notes == again.notes
    assert list(map(_text, made.refused)) == list(map(_text, again.refused))


def _text(refusal: Refusal) -> tuple[object, ...]:
    return refusal.edge.key, refusal.reason, refusal.direction, refusal.detail


@settings(max_examples=80, deadline=None)
@given(edges())
def test_every_document_passes_the_crd_and_survives_a_round_trip(found: list[Edge]) -> None:
    made = recommend(found, INVENTORY)
    text = dump(made.manifests())
    assert [each.data for each in parse(text)] == list(made.documents())
    for document in made.documents():
        validator().validate(document)
