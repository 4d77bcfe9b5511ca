"""Entities that hold each other: whoever speaks with remote nodes and the API server on one of them needs one rule."""

from __future__ import annotations

import pytest

from analyzer.inventories import from_edges
from analyzer.model.edge import Edge
from analyzer.recommend import Level, Options, Settings, at, recommend
from analyzer.verify import check_proposal
from tests.recommend.build import API_SERVER, CART, REMOTE_NODE, edge, reserved

ELSEWHERE = reserved("kube-apiserver", address="")


def rules(seen: list[Edge], options: Options | None = None) -> list[tuple[str, tuple[int, ...], int]]:
    made = recommend(seen, options=options)
    assert check_proposal(made, seen, from_edges(seen)).passed
    return [
        (str(rule.peers[0][0]), tuple(port.port for port in rule.ports), len(rule.evidence))
        for each in made.policies
        for rule in each.rules
    ]


@pytest.mark.parametrize("outwards", [True, False])
def test_the_api_server_on_a_node_is_a_remote_node_on_the_same_port(outwards: bool) -> None:
    pairs = [(API_SERVER, "9100/TCP"), (REMOTE_NODE, "9100/TCP"), (API_SERVER, "6443/TCP")]
    seen = [edge(*((CART, far) if outwards else (far, CART)), l4) for far, l4 in pairs]
    assert rules(seen) == [("kube-apiserver", (6443,), 1), ("remote-node", (9100,), 2)]
    every = Options(at(Settings(), Level.parse("workload/any")))
    assert rules(seen, every) == [("remote-node", (), 3)]


def test_an_api_server_elsewhere_keeps_its_rule() -> None:
    seen = [edge(CART, ELSEWHERE, "9100/TCP"), edge(CART, REMOTE_NODE, "9100/TCP")]
    assert [name for name, _, _ in rules(seen)] == ["kube-apiserver", "remote-node"]


def test_a_range_of_remote_nodes_holds_the_api_server_too() -> None:
    seen = [edge(CART, REMOTE_NODE, f"{port}/TCP") for port in range(30000, 30020) if port != 30007]
    assert len(rules([*seen, edge(CART, API_SERVER, "30007/TCP")])) == 1
