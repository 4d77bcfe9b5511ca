"""Verifying what is written: NetworkPolicies are asked themselves, their losses excuse exactly the edges they are about."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inventories import from_edges, merged
from analyzer.manifests import Document
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.policy import parse
from analyzer.recommend import LEVELS, Options, Proposal, Settings, at, recommend
from analyzer.recommend.knp import network_policies
from analyzer.simulate import Result, simulate
from analyzer.verify import Check, check_proposal
from tests.recommend.build import API_SERVER, CART, REDIS, edge, lookup, outside, pod
from tests.recommend.test_laws import INVENTORY
from tests.recommend.test_shapes import OPTIONS, rich

BATCH = pod("batch", app="report")
NAMED = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
UNKNOWN = edge(CART, outside("203.0.113.0/24"), "443/TCP", names=["b.example.com"])
SEEN = [
    lookup(CART), NAMED, edge(CART, REDIS, "6379/TCP"), edge(BATCH, REDIS, "6379/TCP"), edge(CART, API_SERVER, "6443/TCP"),
    edge(REDIS, CART, "ICMP/8"),
]  # fmt: skip


def converted(seen: Sequence[Edge], options: Options | None = None) -> tuple[Proposal, list[Document]]:
    proposal = recommend(seen, options=options)
    return proposal, [replace(each, data=copy.deepcopy(each.data)) for each in network_policies(proposal)[0]]


def checked(seen: Sequence[Edge], proposal: Proposal, documents: Sequence[Document]) -> Check:
    return check_proposal(proposal, seen, from_edges(seen), (), documents)


def spec(documents: Sequence[Document], name: str) -> dict[str, Any]:
    (found,) = (each.data["spec"] for each in documents if each.data["metadata"]["name"] == name)
    assert isinstance(found, dict)
    return found


@settings(max_examples=60, deadline=None)
@given(rich(), OPTIONS, st.sampled_from(LEVELS), st.sampled_from(["default", "always"]))
def test_network_policies_allow_what_was_accepted_or_say_what_they_lose(
    found: list[Edge], options: Options, level: Any, enforcement: str
) -> None:
    known = merged(from_edges(found), INVENTORY)
    known = replace(known, options=replace(known.options, ipv6=True, enforcement=enforcement))
    proposal = recommend(found, known, replace(options, default=at(options.default, level)))
    made = check_proposal(proposal, found, known, (), network_policies(proposal)[0])
    assert (made.unsound, made.invalid) == ((), ())


def test_what_a_conversion_forgets_is_unsound_and_about_the_edge_that_was_seen() -> None:
    proposal, documents = converted(SEEN)
    made = checked(SEEN, proposal, documents)
    assert (made.passed, made.minimal, made.edges) == (True, True, len(SEEN))
    spec(documents, "redis")["ingress"] = [
        rule for rule in spec(documents, "redis")["ingress"] if "namespaceSelector" not in str(rule)
    ]
    (unsound,) = checked(SEEN, proposal, documents).unsound
    assert (unsound.edge, unsound.direction) == (SEEN[3], "ingress")


def test_a_loss_excuses_the_edges_it_is_about_and_no_other() -> None:
    proposal, documents = converted([*SEEN, UNKNOWN])
    assert checked([*SEEN, UNKNOWN], proposal, documents).passed
    egress = spec(documents, "cart")["egress"]
    egress[:] = [rule for rule in egress if "ipBlock" not in str(rule)]
    assert [each.edge for each in checked(SEEN, proposal, documents).unsound] == [NAMED]
    assert [each.edge for each in checked([*SEEN, UNKNOWN], proposal, documents).unsound] == [NAMED, UNKNOWN]


def test_names_without_any_address_are_excused() -> None:
    nowhere = edge(CART, outside("unknown"), "443/TCP", names=["c.example.com"])
    seen = [lookup(CART), nowhere]
    proposal, documents = converted(seen)
    policies = [parse(each.data) for each in documents]
    assert simulate(seen, policies, from_edges(seen))[nowhere.key].egress.result is Result.DENIED
    assert checked(seen, proposal, documents).passed


def test_a_loss_on_one_side_is_half_open() -> None:
    seen = [edge(CART, REDIS, "ICMP/8")]
    only = Settings(directions=frozenset({Direction.INGRESS}))
    proposal, documents = converted(seen, Options(only))
    made = checked(seen, proposal, documents)
    (half,) = made.half_open
    assert made.passed
    assert (half.edge, half.direction) == (seen[0], "egress")
    assert "no NetworkPolicy can say it" in half.why
    assert check_proposal(proposal, seen, from_edges(seen)).half_open == ()


def test_every_document_that_is_written_has_to_be_valid() -> None:
    proposal, documents = converted(SEEN)
    spec(documents, "redis")["ingress"][0]["ports"][0]["port"] = 70000
    made = checked(SEEN, proposal, documents)
    assert not made.passed
    assert {name for name, _ in made.invalid} == {"shop/redis"}
    other = Document({**proposal.documents()[0], "metadata": {"name": "UPPER", "namespace": "shop"}}, "other.yaml")
    made = checked(SEEN, proposal, [*proposal.manifests(), other])
    assert {name for name, _ in made.invalid} == {"shop/UPPER"}
