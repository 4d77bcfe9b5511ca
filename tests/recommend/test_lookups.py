"""Name resolution narrowed to what was asked for: seen names and search lists pass, others do not, samples narrow nothing."""

from __future__ import annotations

import pytest

from analyzer.model.edge import Edge
from analyzer.model.l4 import L4
from analyzer.policy import DnsQuery, Peer, Traffic, compile_policies, parse
from analyzer.recommend import L7, Options, Proposal, Settings, Topic, recommend
from tests.recommend.build import CART, DNS, REDIS, edge, lookup, outside
from tests.recommend.test_laws import validator

ON = Options(Settings(l7=frozenset({L7.DNS})))


def asking(*names: str) -> Edge:
    return edge(CART, DNS, "53/UDP", queries=names)


def passes(made: Proposal, name: str) -> bool | None:
    compiled = compile_policies(map(parse, made.documents()))
    return compiled.decide(
        Traffic(Peer(CART.labels), Peer(DNS.labels), L4.parse("53/UDP"), dns=DnsQuery(name))
    ).egress.l7


def notes(made: Proposal) -> str:
    return "\n".join(note.text for note in made.notes if note.topic is Topic.LAYER7)


def test_without_the_option_every_name_may_be_asked_for() -> None:
    made = recommend([asking("api.example.com")])
    assert passes(made, "evil.example.net") is True
    assert notes(made) == ""


@pytest.mark.parametrize("named", [True, False])
def test_seen_names_and_their_search_lists_pass_and_others_do_not(named: bool) -> None:
    far = edge(CART, outside("198.51.100.7"), "443/TCP", names=["cdn.example.org"] if named else [])
    made = recommend([asking("api.example.com", "redis.shop.svc.cluster.local"), far], options=ON)
    for document in made.documents():
        validator().validate(document)
    search = ("", ".shop.svc.cluster.local", ".svc.cluster.local", ".cluster.local")
    for name in ("api.example.com", "redis.shop.svc", "redis.shop", "redis", "cdn.example.org", "a.b.c.d.e"):
        for domain in search:
            inside = bool(domain) or name == "api.example.com" or (name == "cdn.example.org" and named)
            assert passes(made, f"{name}{domain}") is inside, f"{name}{domain}"
    for name in ("evil.example.net", "secret.api.example.com", "example.com", "cluster.local.example.net"):
        assert passes(made, name) is False
    assert "search" in notes(made)
    assert "proxy" in notes(made)


def test_the_clusters_own_domain_is_seen() -> None:
    made = recommend([asking("redis.shop.svc.k8s.example.com", "api.example.net")], options=ON)
    assert passes(made, "cart.shop.svc.k8s.example.com") is True
    assert passes(made, "redis.shop.svc.cluster.local") is False


def test_many_names_of_one_zone_are_one_pattern() -> None:
    made = recommend([asking(*(f"n{n}.db.example.com" for n in range(5)))], options=ON)
    assert passes(made, "n9.db.example.com") is True
    assert passes(made, "example.com") is False


def test_a_sample_and_unseen_requests_narrow_nothing_and_say_so() -> None:
    sample = recommend([asking(*(f"n{n}.zone{n}.example.com" for n in range(80)))], options=ON)
    assert passes(sample, "evil.example.net") is True
    assert "than are kept" in notes(sample)
    unseen = recommend([lookup(CART), edge(CART, REDIS, "6379/TCP")], options=ON)
    assert passes(unseen, "evil.example.net") is not False
    assert "--visibility" in notes(unseen)
