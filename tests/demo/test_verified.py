"""Recommendations for whole clusters pass their own check: sound, minimal, valid, at every level of detail and in both dialects."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import pytest

from analyzer.demo import CLUSTER, generated_cluster
from analyzer.inventories import from_edges
from analyzer.model.edge import Edge
from analyzer.model.inventory import Inventory
from analyzer.recommend import L7, LEVELS, Level, Options, Settings, at, recommend
from analyzer.recommend.knp import network_policies
from analyzer.settle import settle
from analyzer.verify import Check, check_proposal
from tests.demo.test_truth import table_of

CLUSTERS = {"story": (CLUSTER, 1), **{f"generated-{n}": (generated_cluster(n, 20), n) for n in (1, 2, 3, 4)}}


@lru_cache
def seen(name: str) -> tuple[Sequence[Edge], Inventory]:
    edges = settle(table_of(*CLUSTERS[name]))
    return edges, from_edges(edges)


def flawless(made: Check) -> None:
    assert made.edges > 50
    assert (made.unsound, made.undecided, made.invalid, made.idle, made.beside) == ((), (), (), (), ())


@pytest.mark.parametrize("l7", [frozenset[L7](), frozenset(L7)], ids=["l4", "l7"])
@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("name", CLUSTERS)
def test_each_level_of_detail_is_sound_and_minimal(name: str, level: Level, l7: frozenset[L7]) -> None:
    edges, known = seen(name)
    options = Options(at(Settings(l7=l7), level), system=frozenset())
    flawless(check_proposal(recommend(edges, known, options), edges, known))


@pytest.mark.parametrize("name", CLUSTERS)
def test_network_policies_too(name: str) -> None:
    edges, known = seen(name)
    proposal = recommend(edges, known)
    flawless(check_proposal(proposal, edges, known, (), network_policies(proposal)[0]))


def test_a_cluster_of_500_workloads() -> None:
    edges = settle(table_of(generated_cluster(1, 500), 1))
    known = from_edges(edges)
    made = check_proposal(recommend(edges, known), edges, known)
    assert made.edges > 2000
    flawless(made)
