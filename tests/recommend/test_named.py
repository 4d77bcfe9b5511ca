"""Ports by name: only where every pod of the server declares this port under this name, and the engine agrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from analyzer.model.edge import Edge, Endpoint
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.l4 import L4
from analyzer.policy import validate
from analyzer.recommend import Options, recommend
from analyzer.recommend.knp import network_policies
from analyzer.verify import check_proposal
from tests.recommend.build import CART, REDIS, edge, pod


def declared(end: Endpoint, **ports: str) -> InventoryEndpoint:
    """A pod with its named ports; ``_`` is a dash."""
    known = {name.replace("_", "-"): L4.parse(l4) for name, l4 in ports.items()}
    return InventoryEndpoint("pod", end.namespace, end.labels, named_ports=known)


def ports(edges: list[Edge], *pods: InventoryEndpoint, by_name: bool = True) -> dict[str, list[str]]:
    """The ports of the rules, by section, of a recommendation that the engine found sound and valid."""
    inventory = Inventory(endpoints=pods)
    made = recommend(edges, inventory, Options(named_ports=by_name))
    check = check_proposal(made, edges, inventory)
    assert (check.unsound, check.undecided, check.invalid) == ((), (), ())
    found: dict[str, list[str]] = {}
    for document in made.documents():
        assert validate(document) == ()
        spec: Mapping[str, Any] = document["spec"]
        for section in ("ingress", "egress"):
            for item in spec.get(section, ()):
                found.setdefault(section, []).extend(p["port"] for each in item["toPorts"] for p in each["ports"])
    return found


SEEN = [edge(CART, REDIS, "6379/TCP")]


def test_both_sides_say_the_name_that_the_server_declares() -> None:
    server = declared(REDIS, redis="6379/TCP", metrics="9121/TCP")
    assert ports(SEEN, server) == {"ingress": ["redis"], "egress": ["redis"]}
    assert ports(SEEN, server, by_name=False) == {"ingress": ["6379"], "egress": ["6379"]}


@pytest.mark.parametrize(
    "pods",
    [
        (),
        (declared(REDIS),),
        (declared(REDIS, redis="6380/TCP"),),
        (declared(REDIS, redis="6379/UDP"),),
        (declared(REDIS, redis="6379/TCP"), declared(REDIS)),
        (declared(REDIS, redis="6379/TCP"), declared(REDIS, redis="6380/TCP")),
        (declared(CART, redis="6379/TCP"),),
        (declared(REDIS, **{"much-too-long-for-a-name": "6379/TCP"}),),
        (declared(REDIS, **{"6379": "6379/TCP"}),),
    ],
    ids=(
        "unknown",
        "none",
        "other port",
        "other protocol",
        "one without",
        "two minds",
        "the client's",
        "long",
        "digits",
    ),
)
def test_the_number_stays_where_not_all_pods_agree(pods: tuple[InventoryEndpoint, ...]) -> None:
    assert set(ports(SEEN, *pods)["egress"]) == {"6379"}


def test_every_rollout_has_to_agree() -> None:
    old, new = (pod("shop", app="db", pod_template_hash=each) for each in ("a", "b"))
    seen = [edge(CART, each, "5432/TCP", workloads=((), ("db",))) for each in (old, new)]
    both = [declared(each, postgres="5432/TCP") for each in (old, new)]
    assert set(ports(seen, *both)["egress"]) == {"postgres"}
    assert set(ports(seen, both[0], declared(new, postgres="5433/TCP"))["egress"]) == {"5432"}


def test_of_two_names_the_first_is_taken() -> None:
    assert set(ports(SEEN, declared(REDIS, zulu="6379/TCP", alpha="6379/TCP"))["egress"]) == {"alpha"}


def test_a_network_policy_says_names_too() -> None:
    made = recommend(SEEN, Inventory(endpoints=(declared(REDIS, redis="6379/TCP"),)), Options(named_ports=True))
    documents, losses = network_policies(made)
    assert losses == ()
    written = {str(each.data["spec"]) for each in documents}
    assert all("'port': 'redis'" in each for each in written)
