"""What recommenders get wrong, one test for each: replies, scopes, entities, addresses, ports, DNS, directions, verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.aggregate import aggregate
from analyzer.model.edge import Edge, Endpoint, Side, Status
from analyzer.model.flow import Detail, Direction
from analyzer.model.identity import Entity
from analyzer.model.inventory import AgentOptions, Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import NAMESPACE_KEY, Labels
from analyzer.recommend import Options, Proposal, Purpose, Reason, Settings, Topic, recommend
from analyzer.recommend.accepted import BY_STATUS
from analyzer.recommend.advice import MANY_CLIENTS
from analyzer.recommend.draft import EntityPeer
from analyzer.settle import settle
from tests import flows
from tests.recommend.build import (
    API_SERVER,
    CART,
    DNS,
    HOST,
    REDIS,
    REMOTE_NODE,
    allows,
    edge,
    enforced,
    lookup,
    outside,
    pod,
    reserved,
)

NAMESPACE = f"k8s:{NAMESPACE_KEY}"


def spec(proposal: Proposal, name: str) -> dict[str, Any]:
    found = [each["spec"] for each in proposal.documents() if each["metadata"]["name"] == name]
    assert len(found) == 1, [each["metadata"]["name"] for each in proposal.documents()]
    return found[0]  # type: ignore[no-any-return]


def reasons(proposal: Proposal) -> list[tuple[Reason, Direction | None]]:
    return [(refusal.reason, refusal.direction) for refusal in proposal.refused]


def topics(proposal: Proposal, where: str) -> set[Topic]:
    return {note.topic for note in proposal.notes if note.where == where}


def test_replies_and_ephemeral_ports_make_no_rules() -> None:
    cart, redis = flows.pod("cart"), flows.pod("redis")
    seen = [flows.tcp(cart, redis, 6379), flows.tcp(cart, redis, 6379, reply=True)]
    documents = recommend(settle(aggregate(seen))).documents()
    ports = [p["port"] for d in documents for s in ("ingress", "egress") for r in d["spec"].get(s, []) for t in r["toPorts"] for p in t["ports"]]  # fmt: skip  # noqa: E501
    assert ports == ["6379", "6379"]


def test_each_side_gets_its_own_rule_with_the_peers_namespace() -> None:
    batch = pod("batch", app="report")
    made = recommend([edge(batch, REDIS, "6379/TCP")])
    assert spec(made, "redis")["ingress"] == [
        {
            "fromEndpoints": [{"matchLabels": {NAMESPACE: "batch", "app": "report"}}],
            "toPorts": [{"ports": [{"port": "6379", "protocol": "TCP"}]}],
        }
    ]
    assert spec(made, "report")["egress"][0]["toEndpoints"] == [{"matchLabels": {NAMESPACE: "shop", "app": "redis"}}]


def test_a_direction_without_evidence_is_left_alone() -> None:
    made = recommend([edge(CART, REDIS, "6379/TCP")])
    assert set(spec(made, "redis")) == {"endpointSelector", "ingress"}
    assert set(spec(made, "cart")) == {"endpointSelector", "egress"}
    assert topics(made, "shop/redis") == {Topic.UNSEEN_DIRECTION}
    assert "egress: left alone" in "\n".join(made.manifests()[1].header)


def test_only_accepted_edges_make_rules_and_the_rest_says_why() -> None:
    for status in Status:
        made = recommend([edge(CART, REDIS, "6379/TCP", status=status)])
        if status in (Status.FORWARDED, Status.AUDITED):
            assert len(made.documents()) == 2
            assert made.refused == ()
        else:
            assert made.documents() == ()
            assert reasons(made) == [(BY_STATUS[status], None)]


def test_same_names_in_two_namespaces_stay_apart() -> None:
    other = pod("batch", app="redis")
    made = recommend([edge(CART, REDIS, "6379/TCP"), edge(CART, other, "6380/TCP")])
    cart = spec(made, "cart")["egress"]
    assert [(rule["toEndpoints"][0]["matchLabels"][NAMESPACE], rule["toPorts"][0]["ports"][0]["port"]) for rule in cart] == [
        ("batch", "6380"),
        ("shop", "6379"),
    ]  # fmt: skip
    assert sorted(each.path for each in made.manifests()) == ["batch/redis.yaml", "shop/cart.yaml", "shop/redis.yaml"]


@pytest.mark.parametrize(
    ("peer", "entity"),
    [
        (API_SERVER, "kube-apiserver"),
        (reserved("kube-apiserver", "host"), "kube-apiserver"),
        (reserved("kube-apiserver", "world", address="198.51.100.1"), "kube-apiserver"),
        (REMOTE_NODE, "remote-node"),
        (HOST, "host"),
        (reserved("ingress"), "ingress"),
        (reserved("health"), "health"),
        (reserved("unmanaged"), "unmanaged"),
        (reserved("world-ipv4"), "world"),
        (reserved("world-ipv6"), "world"),
    ],
)
def test_reserved_identities_are_entities_and_never_addresses(peer: Endpoint, entity: str) -> None:
    (rule,) = spec(recommend([edge(CART, peer, "6443/TCP", sides=[Side.SOURCE])]), "cart")["egress"]
    assert rule == {"toEntities": [entity], "toPorts": [{"ports": [{"port": "6443", "protocol": "TCP"}]}]}


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (reserved("init"), Reason.STARTING),
        (reserved("aggregate-cluster"), Reason.UNKNOWN_RESERVED),
        (Endpoint(Labels(), "shop", name="ghost-0"), Reason.NO_IDENTITY),
        (Endpoint(Labels(), address="10.0.0.9"), Reason.NO_IDENTITY),
        (outside("not an address"), Reason.BAD_ADDRESS),
        (outside("fe80::1%eth0"), Reason.BAD_ADDRESS),
    ],
)
def test_peers_that_no_rule_can_name_are_refused(peer: Endpoint, reason: Reason) -> None:
    made = recommend([edge(CART, peer, "80/TCP")])
    assert made.documents() == ()
    assert reasons(made) == [(reason, Direction.EGRESS)]


def test_edges_without_a_pod_are_refused() -> None:
    made = recommend([edge(REMOTE_NODE, API_SERVER, "6443/TCP")])
    assert reasons(made) == [(Reason.NO_SUBJECT, None)]


def test_the_local_host_is_always_allowed_unless_the_agent_says_otherwise() -> None:
    probe = edge(HOST, CART, "8080/TCP", sides=[Side.DESTINATION])
    made = recommend([probe])
    assert made.documents() == ()
    assert made.always_allowed == (probe,)
    strict = recommend([probe], Inventory(options=AgentOptions(allow_localhost="policy")))
    assert spec(strict, "cart")["ingress"][0]["fromEntities"] == ["host"]


def test_a_host_seen_by_itself_only_is_a_remote_node_to_the_pod() -> None:
    into = recommend([edge(HOST, CART, "8080/TCP", sides=[Side.SOURCE])])
    assert spec(into, "cart")["ingress"][0]["fromEntities"] == ["remote-node"]
    out = recommend([edge(CART, HOST, "9100/TCP", sides=[Side.DESTINATION])])
    assert spec(out, "cart")["egress"][0]["toEntities"] == ["remote-node"]
    server = recommend([edge(CART, reserved("host", "kube-apiserver"), "6443/TCP", sides=[Side.DESTINATION])])
    assert spec(server, "cart")["egress"][0]["toEntities"] == ["kube-apiserver"]


def test_outside_names_on_the_applications_port_and_addresses_only_without_names() -> None:
    made = recommend(
        [
            lookup(CART),
            edge(
                CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com", "api.example.com.cdn.example.net"]
            ),
            edge(CART, outside("198.51.100.8"), "443/TCP"),
            edge(CART, outside("2001:db8::5"), "443/TCP"),
            edge(CART, outside("203.0.113.0/24"), "8443/TCP"),
            edge(outside("192.0.2.0/24"), CART, "8080/TCP", names=["client.example.org"]),
        ]
    )
    cart = spec(made, "cart")
    assert cart["egress"] == [
        {
            "toFQDNs": [{"matchName": "api.example.com"}, {"matchName": "api.example.com.cdn.example.net"}],
            "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
        },
        {
            "toCIDR": ["198.51.100.8/32", "2001:db8::5/128"],
            "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
        },
        {"toCIDR": ["203.0.113.0/24"], "toPorts": [{"ports": [{"port": "8443", "protocol": "TCP"}]}]},
        {
            "toEndpoints": [{"matchLabels": {NAMESPACE: "kube-system", "k8s-app": "kube-dns"}}],
            "toPorts": [
                {
                    "ports": [{"port": "53", "protocol": "TCP"}, {"port": "53", "protocol": "UDP"}],
                    "rules": {"dns": [{"matchPattern": "*"}]},
                }
            ],
        },
    ]
    assert cart["ingress"][0]["fromCIDR"] == ["192.0.2.0/24"]


def test_names_learnt_from_the_workloads_own_queries() -> None:
    inventory = Inventory(names={"api.example.com": ("198.51.100.7",), "other.example.com": ("198.51.100.7",)})
    seen = [edge(CART, DNS, "53/UDP", queries=["api.example.com"]), edge(CART, outside("198.51.100.7"), "443/TCP")]
    assert spec(recommend(seen, inventory), "cart")["egress"][0]["toFQDNs"] == [{"matchName": "api.example.com"}]


def test_a_prefix_is_allowed_beside_its_names_when_some_of_it_had_none() -> None:
    crowd = edge(CART, outside("198.51.100.0/24"), "443/TCP", names=["cdn.example.net"], unnamed=1)
    rules = spec(recommend([lookup(CART), crowd]), "cart")["egress"]
    assert rules[0]["toFQDNs"] == [{"matchName": "cdn.example.net"}]
    assert rules[1]["toCIDR"] == ["198.51.100.0/24"]


def test_bad_and_overflowing_names_give_way_to_addresses() -> None:
    for name in ("*.example.com", "a b.example.com", "x" * 256, "", "-\n", "evil\x00.example.com"):
        made = recommend([lookup(CART), edge(CART, outside("198.51.100.7"), "443/TCP", names=[name])])
        assert spec(made, "cart")["egress"][0]["toCIDR"] == ["198.51.100.7/32"], name
    many = edge(CART, outside("198.51.100.7"), "443/TCP", names=[f"n{n}.example.com" for n in range(65)])
    assert spec(recommend([lookup(CART), many]), "cart")["egress"][0]["toCIDR"] == ["198.51.100.7/32"]


def test_addresses_inside_the_cluster_never_become_address_rules() -> None:
    inventory = Inventory(
        endpoints=(InventoryEndpoint("redis", "shop", REDIS.labels, ips=("10.0.0.9",)),),
        services=(ServiceInfo("redis", "shop", cluster_ips=("10.96.0.9",)),),
    )
    for address in ("10.0.0.9", "10.96.0.9"):
        made = recommend([edge(CART, outside(address), "80/TCP")], inventory)
        assert reasons(made) == [(Reason.INSIDE_ADDRESS, Direction.EGRESS)]
    stale = edge(CART, outside("10.0.0.10"), "80/TCP", conflicting=2)
    assert reasons(recommend([stale])) == [(Reason.INSIDE_ADDRESS, Direction.EGRESS)]


def test_an_outside_peer_without_address_is_world_and_says_so() -> None:
    made = recommend([edge(CART, outside("unknown"), "443/TCP")])
    assert spec(made, "cart")["egress"][0]["toEntities"] == ["world"]
    assert Topic.WIDE in topics(made, "shop/cart")


@pytest.mark.parametrize(
    ("l4", "reason"),
    [
        (L4.parse("0/TCP"), Reason.EVERY_PORT),
        (L4.parse("0/SCTP"), Reason.EVERY_PORT),
        (L4.parse("ICMP/0"), Reason.EVERY_ICMP_TYPE),
        (L4.parse("ICMPv6/0"), Reason.EVERY_ICMP_TYPE),
        (L4.parse("VRRP"), Reason.PROTOCOL),
        (L4.parse("GRE"), Reason.PROTOCOL),
        (L4.parse("ANY"), Reason.PROTOCOL),
    ],
)
def test_layer_4_that_would_open_more_than_was_seen_is_refused(l4: L4, reason: Reason) -> None:
    made = recommend([edge(CART, REDIS, str(l4))])
    assert made.documents() == ()
    assert reasons(made) == [(reason, None)]


def test_icmp_and_sctp_are_written_as_what_they_are() -> None:
    made = recommend([edge(CART, REDIS, "ICMP/8"), edge(CART, REDIS, "ICMPv6/128"), edge(CART, REDIS, "3868/SCTP")])
    rules = spec(made, "redis")["ingress"]
    assert rules[0]["toPorts"] == [{"ports": [{"port": "3868", "protocol": "SCTP"}]}]
    assert rules[1]["icmps"] == [{"fields": [{"family": "IPv4", "type": 8}, {"family": "IPv6", "type": 128}]}]
    assert "toPorts" not in rules[1]


def test_more_than_forty_ports_are_split() -> None:
    seen = [edge(CART, REDIS, f"{port}/TCP") for port in range(7000, 7100)]
    rules = spec(recommend(seen, options=Options(range_ports=0)), "redis")["ingress"]
    assert [len(rule["toPorts"][0]["ports"]) for rule in rules] == [40, 40, 20]
    assert {port["port"] for rule in rules for port in rule["toPorts"][0]["ports"]} == set(map(str, range(7000, 7100)))


def test_ports_are_not_multiplied_with_protocols_or_peers() -> None:
    batch = pod("batch", app="report")
    seen = [edge(CART, REDIS, "6380/TCP"), edge(CART, REDIS, "8125/UDP"), edge(batch, REDIS, "6379/TCP")]
    made = recommend(seen)
    rules = {
        r["fromEndpoints"][0]["matchLabels"]["app"]: r["toPorts"][0]["ports"] for r in spec(made, "redis")["ingress"]
    }
    assert rules["report"] == [{"port": "6379", "protocol": "TCP"}]
    assert {"port": "8125", "protocol": "UDP"} in rules["cart"]
    assert {"port": "8125", "protocol": "TCP"} not in rules["cart"]


def test_aggregated_records_whose_port_may_not_be_theirs_make_no_rule() -> None:
    assert reasons(recommend([edge(CART, REDIS, "6379/TCP", uncertain=2)])) == [(Reason.UNCERTAIN_PORT, None)]
    assert len(recommend([edge(CART, REDIS, "6379/TCP", uncertain=1)]).documents()) == 2


def test_everyone_with_an_egress_section_reaches_the_resolver_and_nobody_else_gets_one() -> None:
    api = pod("shop", app="api")
    everywhere = Options(system=frozenset())
    made = recommend([lookup(CART), edge(CART, REDIS, "6379/TCP"), edge(api, REDIS, "6379/TCP")], options=everywhere)
    for workload in (CART, api):
        for l4 in ("53/UDP", "53/TCP"):
            assert allows(made.documents(), workload, "egress", DNS, L4.parse(l4))
            assert allows(made.documents(), DNS, "ingress", workload, L4.parse(l4))
    assert not enforced(made.documents(), REDIS, "egress")
    assert "rules" not in str(spec(made, "api"))
    unused = [r for p in made.policies for r in p.rules if r.purpose is Purpose.DNS and not r.evidence]
    assert {str(rule.subject) for rule in unused} == {"shop/api", "kube-system/kube-dns"}


def test_resolvers_are_found_where_the_flows_show_them() -> None:
    openshift = pod("openshift-dns", dns="default")
    made = recommend([edge(CART, openshift, "5353/UDP"), edge(REDIS, CART, "80/TCP")])
    assert allows(made.documents(), REDIS, "egress", openshift, L4.parse("5353/TCP"))
    local = recommend([edge(CART, HOST, "53/UDP", sides=[Side.SOURCE]), edge(REDIS, CART, "80/TCP")])
    assert allows(local.documents(), REDIS, "egress", HOST, L4.parse("53/UDP"))
    odd = pod("infra", app="dns")
    asked = recommend([edge(CART, odd, "1053/UDP", queries=["a.example.com"]), edge(REDIS, CART, "80/TCP")])
    assert allows(asked.documents(), REDIS, "egress", odd, L4.parse("1053/TCP"))


def test_a_response_taken_for_a_query_makes_no_resolver_of_the_client() -> None:
    backwards = edge(DNS, CART, "42270/UDP", queries=["a.example.com"])
    made = recommend([backwards, edge(REDIS, CART, "80/TCP")])
    assert not allows(made.documents(), REDIS, "egress", CART, L4.parse("42270/UDP"))


def test_what_is_no_shared_resolver_is_not_opened_to_everyone() -> None:
    private, google = pod("shop", app="pdns"), outside("8.8.8.8")
    seen = [
        lookup(CART, private),
        lookup(CART, google),
        edge(REDIS, CART, "80/TCP"),
        edge(CART, DNS, "53/UDP", answered=0),
    ]
    made = recommend(seen)
    assert allows(made.documents(), CART, "egress", private, L4.parse("53/TCP"))
    assert allows(made.documents(), CART, "egress", google, L4.parse("53/UDP"))
    for other in (private, google, DNS):
        assert not allows(made.documents(), REDIS, "egress", other, L4.parse("53/UDP"))
    assert Topic.NO_RESOLVER in topics(made, "shop/redis")


def test_names_without_any_resolver_fall_back_to_addresses() -> None:
    made = recommend([edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])])
    assert spec(made, "cart")["egress"][0]["toCIDR"] == ["198.51.100.7/32"]
    assert Topic.NO_RESOLVER in topics(made, "shop/cart")


def test_remote_cluster_peers_name_their_cluster_and_unobserved_clusters_get_no_policies() -> None:
    far = pod("shop", "west", app="redis")
    made = recommend([edge(CART, far, "6379/TCP", sides=[Side.SOURCE])])
    (document,) = made.documents()
    assert document["spec"]["egress"][0]["toEndpoints"] == [
        {"matchLabels": {NAMESPACE: "shop", "k8s:io.cilium.k8s.policy.cluster": "west", "app": "redis"}}
    ]
    assert reasons(made) == [(Reason.CLUSTER_ALIEN, Direction.INGRESS)]
    both = recommend([edge(CART, far, "6379/TCP", sides=[Side.SOURCE]), edge(CART, far, "6379/TCP", cluster="west")])
    assert [each.path for each in both.manifests()] == ["default/shop/cart.yaml", "west/shop/redis.yaml"]


def test_public_ports_and_hidden_clients_are_pointed_out() -> None:
    few = [edge(outside(f"203.0.113.{n}"), CART, "8080/TCP") for n in range(MANY_CLIENTS - 1)]
    assert Topic.MANY_CLIENTS not in topics(recommend(few), "shop/cart")
    assert Topic.MANY_CLIENTS in topics(recommend([*few, edge(outside("192.0.2.1"), CART, "8080/TCP")]), "shop/cart")
    assert Topic.MANY_CLIENTS in topics(recommend([edge(outside("192.0.2.0/24"), CART, "8080/TCP")]), "shop/cart")
    assert Topic.BEHIND_NODES in topics(recommend([edge(REMOTE_NODE, CART, "8080/TCP")]), "shop/cart")
    assert Topic.BEHIND_NODES not in topics(recommend([edge(CART, REMOTE_NODE, "8080/TCP")]), "shop/cart")


def test_settings_per_namespace() -> None:
    seen = [edge(CART, REDIS, "6379/TCP"), edge(CART, pod("batch", app="report"), "80/TCP")]
    ingress = Settings(directions=frozenset({Direction.INGRESS}))
    made = recommend(seen, options=Options(namespaces={"shop": ingress}, only=frozenset({"shop"})))
    assert [each["metadata"]["name"] for each in made.documents()] == ["redis"]
    named = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
    unnamed = recommend([lookup(CART), named], options=Options(Settings(names=False)))
    assert spec(unnamed, "cart")["egress"][0]["toCIDR"] == ["198.51.100.7/32"]


def test_every_rule_names_the_edges_that_caused_it() -> None:
    seen: list[Edge] = [lookup(CART), edge(CART, REDIS, "6379/TCP"), edge(CART, outside("198.51.100.7"), "443/TCP")]
    made = recommend(seen)
    cart = next(policy for policy in made.policies if policy.name == "cart")
    assert [[each.key for each in rule.evidence] for rule in cart.rules] == [
        [seen[1].key],
        [seen[2].key],
        [seen[0].key],
    ]


def test_real_flows_through_the_whole_front() -> None:
    cart = flows.pod("cart")
    name = Detail(destination_names=("api.example.com",))
    resolver = flows.pod("kube-dns", "kube-system")
    seen = [
        flows.udp(cart, flows.remote(resolver), 53),
        flows.udp(cart, flows.remote(resolver), 53, reply=True),
        flows.tcp(cart, flows.WORLD, 443, destination_ip="198.51.100.7", detail=name),
        flows.tcp(flows.HOST, cart, 8080),
        flows.drop(cart, flows.API_SERVER, 6443),
    ]
    made = recommend(settle(aggregate(seen)))
    rules = spec(made, "cart")["egress"]
    assert [sorted(rule)[0] for rule in rules] == ["toFQDNs", "toEndpoints"]
    assert "ingress" not in spec(made, "cart")
    assert len(made.always_allowed) == 1
    assert reasons(made) == [(Reason.DROPPED, None)]


def test_a_resolver_outside_is_no_traffic_with_the_world() -> None:
    own = outside("198.51.100.7")
    made = recommend([lookup(CART, own), lookup(CART, DNS), edge(CART, outside("unknown"), "53/TCP", answered=0)])
    (cart,) = [each for each in made.policies if each.subject.key.name == "cart"]
    world = [rule for rule in cart.rules if EntityPeer(Entity.WORLD) in rule.peers]
    assert [(rule.purpose, rule.ports) for rule in world] == [(Purpose.TRAFFIC, (L4(Protocol.TCP, 53),))]


def test_a_resolver_without_an_address_serves_nobody_else() -> None:
    made = recommend([lookup(CART, outside("unknown")), edge(REDIS, CART, "80/TCP")])
    (redis,) = [each for each in made.policies if each.subject.key.name == "redis"]
    assert not any(EntityPeer(Entity.WORLD) in rule.peers for rule in redis.rules)
