"""Beside existing policies: what they allow is not proposed again, what they deny is refused, and together all is allowed."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inventories import from_edges
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.policy import parse
from analyzer.recommend import Level, Options, Proposal, Reason, Settings, Topic, at, recommend
from analyzer.simulate import Result, simulate
from analyzer.verify import check_proposal
from tests.recommend.build import CART, DNS, REDIS, edge, lookup, outside, pod
from tests.recommend.test_laws import INVENTORY, PODS, edges

WEB = pod("shop", app="web")


def policy(name: str, subject: str, **sections: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": subject}}, **sections},
    }


def to_port(port: int, protocol: str = "TCP", **rules: Any) -> list[dict[str, Any]]:
    item: dict[str, Any] = {"ports": [{"port": str(port), "protocol": protocol}]}
    return [item | ({"rules": rules} if rules else {})]


def beside(seen: list[Edge], *existing: dict[str, Any], inventory: Inventory | None = None) -> Proposal:
    return recommend(seen, inventory, Options(existing=tuple(map(parse, existing))))


def sections(made: Proposal) -> dict[str, set[str]]:
    return {each["metadata"]["name"]: set(each["spec"]) - {"endpointSelector"} for each in made.documents()}


WEB_TO_CART = policy(
    "people", "cart", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": to_port(8080)}]
)


def test_what_is_allowed_already_is_not_proposed_and_the_rest_is() -> None:
    seen = [edge(WEB, CART, "8080/TCP"), edge(REDIS, CART, "9090/TCP")]
    made = beside(seen, WEB_TO_CART)
    (cart,) = [each["spec"] for each in made.documents() if each["metadata"]["name"] == "cart"]
    assert [rule["toPorts"][0]["ports"][0]["port"] for rule in cart["ingress"]] == ["9090"]
    (note,) = [note for note in made.notes if note.topic is Topic.EXISTING]
    assert note.where == "shop/cart"
    assert "part of what was seen is allowed by CiliumNetworkPolicy shop/people" in note.text


def test_nothing_missing_makes_no_policy_and_says_so() -> None:
    made = beside([edge(WEB, CART, "8080/TCP")], WEB_TO_CART)
    assert sections(made) == {"web": {"egress"}}
    assert [note.text for note in made.notes if note.where == "shop/cart"] == [
        "ingress: all that was seen is allowed by CiliumNetworkPolicy shop/people and not proposed again"
    ]
    both = beside([edge(WEB, CART, "8080/TCP"), edge(CART, REDIS, "6379/TCP")], WEB_TO_CART)
    assert sections(both)["cart"] == {"egress"}
    (text,) = ["\n".join(each.header) for each in both.manifests() if each.path == "shop/cart.yaml"]
    assert "ingress: nothing is missing" in text


def test_one_policy_may_allow_one_pod_and_another_the_rest() -> None:
    canary = pod("shop", app="cart", track="canary")
    seen = [edge(CART, REDIS, "6379/TCP"), edge(canary, REDIS, "6379/TCP")]
    for track, expected in (("stable", True), ("canary", True)):
        rule = policy(
            "people",
            "redis",
            ingress=[{"fromEndpoints": [{"matchLabels": {"app": "cart", "track": track}}], "toPorts": to_port(6379)}],
        )
        assert ("redis" in sections(beside(seen, rule))) is (track == "stable" or expected)
    all_of_them = policy(
        "people", "redis", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "cart"}}], "toPorts": to_port(6379)}]
    )
    assert "redis" not in sections(beside(seen, all_of_them))


def test_policies_that_close_nothing_leave_it_to_the_proposal() -> None:
    allow_dns = policy(
        "dns",
        "cart",
        enableDefaultDeny={"egress": False},
        egress=[{"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}]}],
    )
    alone = beside([lookup(CART)], allow_dns)
    assert sections(alone)["cart"] == {"egress"}
    more = beside([lookup(CART), edge(CART, REDIS, "6379/TCP")], allow_dns)
    (cart,) = [each["spec"] for each in more.documents() if each["metadata"]["name"] == "cart"]
    assert [rule["toPorts"][0]["ports"][0]["port"] for rule in cart["egress"]] == ["6379"]


def test_what_a_policy_denies_is_refused_with_its_name() -> None:
    deny = policy("no", "cart", ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}])
    made = beside([edge(WEB, CART, "8080/TCP")], deny)
    assert "cart" not in sections(made)
    (refusal,) = made.refused
    assert (refusal.reason, refusal.direction) == (Reason.DENIED, Direction.INGRESS)
    assert refusal.detail == "CiliumNetworkPolicy shop/no ingressDeny[0]"


def test_names_need_the_dns_proxy_and_requests_have_to_pass() -> None:
    far = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
    resolver = [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}]
    plain = policy("dns", "cart", egress=[{"toEndpoints": resolver, "toPorts": to_port(53, "ANY")}])
    proxied = policy(
        "dns", "cart", egress=[{"toEndpoints": resolver, "toPorts": to_port(53, "ANY", dns=[{"matchPattern": "*"}])}]
    )
    narrow = policy(
        "dns", "cart", egress=[{"toEndpoints": resolver, "toPorts": to_port(53, "ANY", dns=[{"matchName": "x.org"}])}]
    )
    for existing, again in ((plain, True), (proxied, False), (narrow, True)):
        made = beside([lookup(CART), far], existing)
        (cart,) = [each["spec"] for each in made.documents() if each["metadata"]["name"] == "cart"]
        assert any("rules" in rule["toPorts"][0] for rule in cart["egress"]) is again
        assert any("toFQDNs" in rule for rule in cart["egress"])
    seen = edge(WEB, CART, "8080/TCP")
    seen.stats.http.add(("GET", "/items", "", "1"), 1)
    for path, missing in (("/items", False), ("/other", True)):
        web = [{"matchLabels": {"app": "web"}}]
        rule = policy(
            "people", "cart", ingress=[{"fromEndpoints": web, "toPorts": to_port(8080, http=[{"path": path}])}]
        )
        assert ("cart" in sections(beside([seen], rule))) is missing


def test_without_existing_policies_nothing_changes() -> None:
    seen = [edge(WEB, CART, "8080/TCP"), lookup(CART)]
    assert recommend(seen) == recommend(seen, options=Options(existing=()))


@settings(max_examples=50, deadline=None)
@given(edges(), edges(), st.booleans())
def test_existing_and_proposed_policies_together_allow_all_that_was_accepted(
    found: list[Edge], before: list[Edge], coarse: bool
) -> None:
    """The policies of another record stand for existing ones; some are opened to all ports."""
    existing = list(recommend(before, INVENTORY).documents())
    for each in existing[: 2 if coarse else 0]:
        for section in ("ingress", "egress"):
            for rule in each["spec"].get(section, []):
                rule.pop("toPorts", None)
                rule.pop("icmps", None)
        each["metadata"]["name"] += "-people"
    home = [each for each in found if "west" not in (each.source.cluster, each.destination.cluster)]
    inventory = Inventory(INVENTORY.endpoints, options=AgentOptions(ipv6=True))
    policies = [parse(each) for each in existing if each["metadata"]["namespace"] != "west"]
    made = recommend(home, inventory, Options(existing=tuple(policies)))
    applied = [*policies, *(parse({**each, "metadata": {**each["metadata"], "name": f"{each['metadata']['name']}-new"}})
                            for each in made.documents())]  # fmt: skip
    outcomes = simulate(home, applied, inventory)
    refused = {(each.edge.key, each.direction) for each in made.refused}
    for each in home:
        egress, ingress = outcomes[each.key].egress, outcomes[each.key].ingress
        for direction, near, side in (
            (Direction.EGRESS, each.source, egress),
            (Direction.INGRESS, each.destination, ingress),
        ):
            if near in PODS and each.accepted and not {(each.key, None), (each.key, direction)} & refused:
                assert side.result is not Result.DENIED, (direction, each.key, side)


def test_the_resolver_that_is_allowed_already_is_not_proposed_again() -> None:
    resolver = [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}]
    existing = policy("dns", "cart", egress=[{"toEndpoints": resolver, "toPorts": to_port(53, "ANY")}])
    made = beside([edge(CART, DNS, "53/UDP"), edge(CART, REDIS, "6379/TCP")], existing)
    (cart,) = [each["spec"] for each in made.documents() if each["metadata"]["name"] == "cart"]
    assert len(cart["egress"]) == 1


CLOSED = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumClusterwideNetworkPolicy",
    "metadata": {"name": "deny-all"},
    "spec": {"endpointSelector": {}, "ingress": [{}]},
}


def test_what_existing_policies_close_where_none_is_asked_for_is_refused_and_nothing_else_is() -> None:
    seen = [edge(CART, DNS, "53/UDP"), edge(CART, REDIS, "6379/TCP")]
    made = beside(seen, CLOSED)
    assert [(each.edge.destination, each.direction, each.reason) for each in made.refused] == [
        (DNS, Direction.INGRESS, Reason.CLOSED)
    ]
    assert (
        "kube-system/kube-dns is left alone, and CiliumClusterwideNetworkPolicy deny-all closes it"
        in made.refused[0].detail
    )
    assert check_proposal(made, seen, from_edges(seen), (parse(CLOSED),)).passed


def test_a_direction_that_was_left_out_counts_as_left_alone() -> None:
    seen = [edge(CART, REDIS, "6379/TCP")]
    only = Settings(directions=frozenset({Direction.EGRESS}))
    made = recommend(seen, None, Options(only, existing=(parse(CLOSED),)))
    assert [(each.direction, each.reason) for each in made.refused] == [(Direction.INGRESS, Reason.CLOSED)]
    assert recommend(seen, None, Options(only)).refused == ()


def test_what_is_allowed_port_by_port_is_not_proposed_again_on_every_port() -> None:
    seen = [edge(CART, REDIS, "6379/TCP"), edge(WEB, REDIS, "6379/TCP")]
    existing = parse(recommend(seen).documents()[1])
    more = [*seen, edge(CART, REDIS, "22/TCP")]
    made = recommend(more, None, Options(at(Settings(), Level.parse("workload/any")), existing=(existing,)))
    assert existing.ref.name == "redis"
    (rule,) = next(each for each in made.policies if each.subject.key.name == "redis").rules
    assert (rule.evidence, rule.ports) == ((more[2],), ())


def test_a_service_that_existing_policies_allow_still_hands_out_ports_to_a_namespace() -> None:
    data = [edge(CART, REDIS, f"{port}/TCP") for port in range(40000, 40064, 6)]
    existing = parse(
        policy("redis", "redis", ingress=[{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "21"}]}]}])
    )
    options = Options(at(Settings(), Level.parse("namespace/port")), existing=(existing,))
    made = recommend([edge(CART, REDIS, "21/TCP"), *data], None, options)
    (rule,) = next(each for each in made.policies if each.subject.key.name == "redis").rules
    assert [str(port) for port in rule.ports] == ["40000-40060/TCP"]
