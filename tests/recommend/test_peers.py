"""Peers that addresses hide: services before translation, names from DNS answers, crowds, private and very many addresses."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.aggregate import aggregate
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Detail, Direction, DnsRecord
from analyzer.model.inventory import Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4
from analyzer.recommend import Options, Proposal, Reason, Topic, recommend
from analyzer.recommend.cidrs import WIDEST, is_private, prefixes
from analyzer.settle import settle
from tests import flows
from tests.recommend.build import CART, DNS, HOST, REDIS, REMOTE_NODE, edge, lookup, outside, pod, reserved


def section(made: Proposal, name: str, direction: str) -> list[dict[str, Any]]:
    found = [each["spec"] for each in made.documents() if each["metadata"]["name"] == name]
    return found[0].get(direction, []) if found else []


def texts(made: Proposal, topic: Topic) -> str:
    return "\n".join(note.text for note in made.notes if note.topic is topic)


def service(name: str, target: str, **changes: Any) -> ServiceInfo:
    values = {
        "selector": {"app": name},
        "cluster_ips": ("10.96.0.9",),
        "ports": ((L4.parse("80/TCP"), target),),
        **changes,
    }
    return ServiceInfo(name, changes.pop("namespace", "shop"), **{k: v for k, v in values.items() if k != "namespace"})


SILENT = InventoryEndpoint(
    "redis", "shop", REDIS.labels, ("10.0.0.9",), {"db": L4.parse("6379/TCP")}, "Deployment/redis"
)


@pytest.mark.parametrize("target", ["6379", "db"])
def test_a_cluster_ip_becomes_its_backends_on_the_target_port_on_both_sides(target: str) -> None:
    made = recommend(
        [edge(CART, outside("10.96.0.9"), "80/TCP")], Inventory((SILENT,), services=(service("redis", target),))
    )
    port = {"ports": [{"port": "6379", "protocol": "TCP"}]}
    (rule,) = section(made, "cart", "egress")
    assert rule["toEndpoints"][0]["matchLabels"]["app"] == "redis"
    assert rule["toPorts"] == [port]
    (rule,) = section(made, "redis", "ingress")
    assert rule["fromEndpoints"][0]["matchLabels"]["app"] == "cart"
    assert rule["toPorts"] == [port]
    (refusal,) = made.refused
    assert (refusal.reason, refusal.direction) == (Reason.INSIDE_ADDRESS, Direction.EGRESS)
    assert "shop/redis 6379/TCP" in refusal.detail


def test_the_api_servers_cluster_ip_is_the_entity_on_its_own_port() -> None:
    kubernetes = service("kubernetes", "6443", namespace="default", selector={}, ports=((L4.parse("443/TCP"), "6443"),))
    made = recommend([edge(CART, outside("10.96.0.9"), "443/TCP")], Inventory(services=(kubernetes,)))
    assert section(made, "cart", "egress") == [
        {"toEntities": ["kube-apiserver"], "toPorts": [{"ports": [{"port": "6443", "protocol": "TCP"}]}]}
    ]


def test_a_service_without_an_inventory_is_told_from_the_record_and_never_an_address_rule() -> None:
    seen = edge(CART, outside("10.96.0.9"), "80/TCP")
    seen.stats.services.add("shop/redis", 1)
    made = recommend([seen])
    assert made.documents() == ()
    assert "--inventory" in made.refused[0].detail
    answered = Inventory(names={"redis.shop.svc.cluster.local": ("10.96.0.9",)})
    made = recommend([edge(CART, outside("10.96.0.9"), "80/TCP"), lookup(CART)], answered)
    assert [each.reason for each in made.refused] == [Reason.INSIDE_ADDRESS]
    assert "shop/redis" in made.refused[0].detail


def test_a_service_named_for_the_server_says_nothing_about_the_client() -> None:
    seen = edge(outside("203.0.113.5"), CART, "8080/TCP")
    seen.stats.services.add("shop/cart", 1)
    assert section(recommend([seen]), "cart", "ingress")[0]["fromCIDR"] == ["203.0.113.5/32"]


def test_answers_name_addresses_for_the_workloads_that_asked() -> None:
    from analyzer.inventories import answered_names

    cart, resolver = flows.pod("cart"), flows.remote(flows.pod("kube-dns", "kube-system"))
    answer = Detail(dns=DnsRecord("api.example.com", ("198.51.100.7",)), l7_type=2)
    table = aggregate(
        [
            flows.udp(cart, resolver, 53, reply=True, kind=129, detail=answer),
            flows.tcp(cart, flows.WORLD, 443, destination_ip="198.51.100.7"),
            flows.tcp(flows.pod("other"), flows.WORLD, 443, destination_ip="198.51.100.7"),
        ]
    )
    names = answered_names(table.answers)
    assert names == {"api.example.com": ("198.51.100.7",)}
    made = recommend(settle(table), Inventory(names=names))
    assert section(made, "cart", "egress")[0]["toFQDNs"] == [{"matchName": "api.example.com"}]
    assert section(made, "other", "egress")[0]["toCIDR"] == ["198.51.100.7/32"]
    table.answers.overflow = True
    assert answered_names(table.answers) == {}


def clients(count: int, pattern: str = "203.0.{}.{}") -> list[Edge]:
    return [edge(outside(pattern.format(n // 100, n % 100 * 2)), CART, "8080/TCP") for n in range(count)]


def test_many_internet_clients_become_world_above_the_limit_and_stay_addresses_below() -> None:
    made = recommend(clients(32))
    assert len(section(made, "cart", "ingress")[0]["fromCIDR"]) == 32
    assert Topic.MANY_CLIENTS in {note.topic for note in made.notes}
    made = recommend(clients(33))
    assert section(made, "cart", "ingress") == [
        {"fromEntities": ["world"], "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}]}
    ]
    assert "33 outside clients are more than 32" in texts(made, Topic.CIDRS)
    assert len(recommend(clients(40), options=Options(max_cidrs=40)).policies[0].rules[0].peers) == 40


@pytest.mark.parametrize("address", ["0.0.0.0/0", "::/0"])
def test_a_crowd_truncated_to_everything_is_world(address: str) -> None:
    assert section(recommend([edge(outside(address), CART, "80/TCP")]), "cart", "ingress")[0]["fromEntities"] == [
        "world"
    ]
    made = recommend([edge(CART, outside(address), "80/TCP"), edge(CART, outside("203.0.113.9"), "80/TCP")])
    (rule,) = section(made, "cart", "egress")
    assert rule["toEntities"] == ["world"]
    assert "every address" in texts(made, Topic.WIDE)


def test_many_servers_are_aggregated_within_the_limit_and_what_that_adds_is_said() -> None:
    seen = [edge(CART, outside(f"198.51.{n % 2}.{n}"), "443/TCP") for n in range(40)]
    made = recommend(seen, options=Options(max_cidrs=4))
    (rule,) = section(made, "cart", "egress")
    found = [ip_network(each) for each in rule["toCIDR"]]
    assert 0 < len(found) <= 4
    assert all(any(ip_network(each.destination.address).subnet_of(net) for net in found) for each in seen)  # type: ignore[arg-type]
    added = sum(each.num_addresses for each in found) - 40
    assert f"{added} addresses that were not seen" in texts(made, Topic.CIDRS)


def test_private_clients_outside_the_cluster_are_prefixes_and_never_world() -> None:
    made = recommend(clients(60, "10.1.{}.{}"))
    (rule,) = section(made, "cart", "ingress")
    assert all(is_private(ip_network(each)) for each in rule["fromCIDR"])
    assert "own network" in texts(made, Topic.PRIVATE)


def test_an_address_inside_a_prefix_is_left_to_it() -> None:
    canary = pod("shop", app="cart", pod_template_hash="abc")
    made = recommend([edge(outside("203.0.113.0/24"), CART, "80/TCP"), edge(outside("203.0.113.9"), canary, "80/TCP")])
    (rule,) = section(made, "cart", "ingress")
    assert rule["fromCIDR"] == ["203.0.113.0/24"]
    assert len(made.policies[0].rules[0].evidence) == 2


NETWORKS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)).map(lambda each: ip_network(each, strict=False)),
        st.integers(0, 400).map(lambda n: ip_network((0x0A000000 + n * 7, 32))),
        st.tuples(st.integers(0, 2**128 - 1), st.integers(32, 128)).map(lambda each: ip_network(each, strict=False)),
    ),
    max_size=60,
)


@given(NETWORKS, st.integers(1, 10))
def test_prefixes_cover_all_stay_within_bounds_and_never_overlap(found: list[Any], limit: int) -> None:
    made = prefixes(found, limit)
    assert set(made) == set(found)
    for network, cover in made.items():
        assert network.subnet_of(cover)
        assert cover in found or cover.prefixlen >= WIDEST[cover.version]
    covers = sorted(set(made.values()), key=str)
    assert not any(a != b and a.version == b.version and a.subnet_of(b) for a in covers for b in covers)
    for version in (4, 6):
        own = {each for each in covers if each.version == version}
        if len({each for each in found if each.version == version}) <= limit:
            assert own <= set(found)
        elif len(own) > limit:
            widest = [each.supernet(new_prefix=WIDEST[version]) for each in own if each.prefixlen > WIDEST[version]]
            assert len(set(widest)) == len(widest)


@pytest.mark.parametrize(
    ("peer", "topic", "word"),
    [
        (REMOTE_NODE, Topic.BEHIND_NODES, "externalTrafficPolicy"),
        (reserved("ingress"), Topic.INGRESS, "Gateway"),
    ],
)
def test_clients_that_something_stands_for_are_explained(peer: Endpoint, topic: Topic, word: str) -> None:
    assert word in texts(recommend([edge(peer, CART, "8080/TCP")]), topic)


@pytest.mark.parametrize("peer", [REMOTE_NODE, HOST])
def test_node_peers_are_every_host_networked_pod(peer: Endpoint) -> None:
    assert "host network" in texts(recommend([edge(CART, peer, "9100/TCP")]), Topic.NODES)


def test_dns_is_not_disturbed_by_aggregation() -> None:
    far = [edge(CART, outside(f"198.51.100.{n}"), "443/TCP", names=[f"n{n}.example.com"]) for n in range(40)]
    made = recommend([edge(CART, DNS, "53/UDP"), *far], options=Options(zone_names=0, max_cidrs=1))
    assert len(section(made, "cart", "egress")[0]["toFQDNs"]) == 40
