"""Many names of one zone become a pattern; where strangers can have names, they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.l4 import L4
from analyzer.policy import Outcome, Peer, Traffic, compile_policies, parse
from analyzer.recommend import Options, Proposal, Topic, recommend
from analyzer.recommend.zones import generalised, is_shared
from tests.recommend.build import CART, edge, lookup, outside
from tests.recommend.test_laws import validator


def made(*names: str, threshold: int = 5, resolver: bool = True) -> Proposal:
    seen = [edge(CART, outside(f"198.51.100.{n}"), "443/TCP", names=[name]) for n, name in enumerate(names)]
    return recommend([*seen, *([lookup(CART)] if resolver else [])], options=Options(zone_names=threshold))


def peers(proposal: Proposal) -> list[dict[str, str]]:
    (cart,) = [each for each in proposal.documents() if each["metadata"]["name"] == "cart"]
    return [peer for rule in cart["spec"]["egress"] for peer in rule.get("toFQDNs", [])]


SHARDS = [f"shard-{n}.db.example.com" for n in range(5)]


def test_from_the_threshold_on_a_pattern_says_it_and_the_evidence_stays() -> None:
    assert peers(made(*SHARDS[:4])) == [{"matchName": name} for name in SHARDS[:4]]
    proposal = made(*SHARDS, "api.example.com")
    assert peers(proposal) == [{"matchPattern": "*.db.example.com"}, {"matchName": "api.example.com"}]
    (rule,) = [rule for policy in proposal.policies for rule in policy.rules if "443/TCP" in map(str, rule.ports)]
    assert {name for each in rule.evidence for name in each.stats.names} == {*SHARDS, "api.example.com"}
    assert [note.text for note in proposal.notes if note.topic is Topic.ZONE] == [
        "egress: *.db.example.com stands for 5 names that were seen, such as shard-0.db.example.com, "
        "shard-1.db.example.com, shard-2.db.example.com"
    ]
    for document in proposal.documents():
        validator().validate(document)


def test_the_engine_lets_all_seen_names_pass_and_not_the_zone_itself_or_deeper() -> None:
    compiled = compile_policies(map(parse, made(*SHARDS).documents()))
    for name in [*SHARDS, "db.example.com", "a.b.db.example.com", "other.example.com"]:
        far = Peer(outside("203.0.113.1").labels, ip="203.0.113.1", names=(name,))
        answer = compiled.decide(Traffic(Peer(CART.labels), far, L4.parse("443/TCP"))).egress.outcome
        assert (answer is Outcome.ALLOWED) is (name in SHARDS), name


def test_0_means_never() -> None:
    assert peers(made(*SHARDS, threshold=0)) == [{"matchName": name} for name in SHARDS]


def test_without_a_resolver_the_addresses_stay() -> None:
    (cart,) = made(*SHARDS, resolver=False).documents()
    assert cart["spec"]["egress"][0]["toCIDR"] == [f"198.51.100.{n}/32" for n in range(5)]


@pytest.mark.parametrize(
    "zone", ["com", "co.uk", "com.au", "s3.eu-west-1.amazonaws.com", "github.io", "cloudfront.net"]
)
def test_no_pattern_where_strangers_can_have_names(zone: str) -> None:
    assert is_shared(zone)
    names = [f"n{n}.{zone}" for n in range(9)]
    proposal = made(*names)
    assert peers(proposal) == [{"matchName": name} for name in names]
    if "." in zone:
        assert any("strangers" in note.text for note in proposal.notes)


@pytest.mark.parametrize("zone", ["example.com", "example.co.uk", "svc.example.io", "corp.de"])
def test_ones_own_zone(zone: str) -> None:
    assert not is_shared(zone)


LABEL = st.sampled_from("abcdef")


@given(st.sets(st.lists(LABEL, min_size=1, max_size=4).map(".".join), max_size=30), st.integers(0, 4))
def test_a_pattern_stands_for_enough_names_and_differs_from_them_in_the_first_label_only(
    names: set[str], threshold: int
) -> None:
    found = generalised(names, threshold)
    assert set(found) <= names
    for name, pattern in found.items():
        assert name.split(".")[1:] == pattern.split(".")[1:]
        assert list(found.values()).count(pattern) >= threshold > 0
