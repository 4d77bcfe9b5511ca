"""Usage: hits per rule, what nothing needs, what is shadowed, and what is open beyond what was seen."""

from __future__ import annotations

from typing import Any

from analyzer.model.edge import Side, Status
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.labels import Labels
from analyzer.policy import Policy, parse
from analyzer.policy.model import Action
from analyzer.usage import RuleUse, Usage, usage
from tests.policy.build import Doc, cnp, ports
from tests.recommend.build import CART, HOST, REDIS, edge, outside, pod

WEB, BOT = pod("shop", app="web"), pod("shop", app="bot")
EDGES = [
    edge(WEB, CART, "8080/TCP"),
    edge(CART, REDIS, "6379/TCP"),
    edge(CART, outside("192.0.2.7"), "443/TCP", names=["api.example.com"]),
    edge(BOT, CART, "8080/TCP", status=Status.UNANSWERED),
    edge(HOST, CART, "8080/TCP", sides=(Side.DESTINATION,)),
]


def label(app: str) -> Doc:
    return {"matchLabels": {"app": app}}


def ingress(app: str, *texts: str) -> Doc:
    return {"fromEndpoints": [label(app)], "toPorts": [ports(*texts)]}


def found(*documents: Doc, edges: Any = EDGES, inventory: Inventory = Inventory()) -> Usage:
    return usage(edges, map(parsed, documents), inventory)


def parsed(document: Doc) -> Policy:
    return parse(document)


def shop(name: str, app: str = "cart", **sections: Any) -> Doc:
    return cnp(name, "shop", app, **sections)


def only(used: Usage) -> RuleUse:
    (rule,) = used.rules
    return rule


def test_hits_are_counted_per_rule_and_alone() -> None:
    policy = shop(
        "cart", ingress=[ingress("web", "8080/TCP"), {"toPorts": [ports("8080/TCP")]}, ingress("web", "9090/TCP")]
    )
    rules = found(policy).rules
    assert [(each.origin.rule, each.edges, each.alone) for each in rules] == [(0, 1, 0), (1, 2, 0), (2, 0, 0)]
    assert [each.meaning for each in rules][:2] == [
        "from app=web and namespace=shop on 8080/TCP",
        "from any peer on 8080/TCP",
    ]
    alone = only(found(shop("cart", ingress=[ingress("web", "8080/TCP")])))
    assert (alone.edges, alone.weight, alone.alone) == (1, 2, 1)
    assert alone.first == alone.last > 0


def test_what_nobody_answered_is_an_attempt() -> None:
    rule = only(found(shop("cart", ingress=[ingress("bot", "8080/TCP")])))
    assert (rule.edges, rule.attempts, rule.used) == (0, 1, False)


def test_denies_are_hit_by_what_they_deny() -> None:
    used = found(shop("cart", ingressDeny=[{"fromEndpoints": [label("web")]}, {"fromEndpoints": [label("x")]}]))
    assert [(each.action, each.edges, each.alone) for each in used.rules] == [(Action.DENY, 1, 1), (Action.DENY, 0, 0)]
    assert used.unexplained == 1, (
        "web to cart worked, though these policies deny it; the host may, and the bot was not answered"
    )
    both = found(shop("cart", ingressDeny=[{"fromEndpoints": [label("web")]}, {"fromEntities": ["cluster"]}]))
    assert [(each.edges, each.alone) for each in both.rules] == [(1, 0), (3, 2)]


def test_never_used_and_selecting_nothing() -> None:
    silent = InventoryEndpoint("batch", "shop", Labels.of([*pod("shop", app="batch").labels]))
    used = found(
        shop("batch", "batch", ingress=[ingress("web", "80/TCP")]),
        shop("gone", "gone", ingress=[ingress("web", "80/TCP")]),
        shop("cart", ingress=[ingress("web", "8080/TCP")]),
        inventory=Inventory(endpoints=(silent,)),
    )
    assert [each.origin.name for each in used.unused] == ["batch", "gone"]
    assert [(each.ref.name, each.seen, each.known) for each in used.policies] == [
        ("batch", 0, 1),
        ("cart", 1, 1),
        ("gone", 0, 0),
    ]
    assert [each.ref.name for each in used.selecting_nothing] == ["batch", "gone"]


def test_shadowed_rules_name_the_rule_that_covers_them() -> None:
    used = found(shop("cart", ingress=[ingress("web", "8080/TCP")]), shop("wide", ingress=[{"fromEndpoints": [{}]}]))
    (shadowed,) = used.shadowed
    assert shadowed.origin.name == "cart"
    assert shadowed.shadow is not None
    assert shadowed.shadow.by.name == "wide"


def test_access_beyond_what_was_seen() -> None:
    rule = only(found(shop("cart", ingress=[{"fromEndpoints": [{}], "toPorts": [ports("0/TCP")]}])))
    assert rule.excess is not None
    excess = rule.excess
    assert (excess.subjects, excess.peers, excess.pairs, excess.used, excess.unused) == (1, 4, 4, 1, 3)
    assert excess.idle == ("shop/bot", "shop/cart", "shop/redis")
    assert (excess.ports, excess.used_ports, excess.outside) == ("every port of TCP", ("8080/TCP",), False)


def test_access_outside() -> None:
    for peers, opens in (
        ({"toCIDR": ["192.0.2.0/24"]}, True),
        ({"toFQDNs": [{"matchName": "api.example.com"}]}, True),
        ({"toEntities": ["world"]}, True),
        ({"toPorts": [ports("443/TCP")]}, True),
        ({"toEntities": ["cluster"]}, False),
    ):
        rule = only(found(shop("cart", egress=[peers])))
        assert rule.excess is not None
        assert rule.excess.outside is opens
        assert rule.excess.addresses == (1 if opens else 0)


def test_a_rule_that_chooses_nothing_opens_nothing() -> None:
    assert only(found(shop("cart", ingress=[{}]))).excess is None


def test_the_widest_first() -> None:
    used = found(
        shop("a", ingress=[ingress("web", "8080/TCP")]),
        shop("b", "", ingress=[{"fromEndpoints": [{}]}]),
        shop("c", ingress=[{"fromEndpoints": [{}]}]),
    )
    assert [each.origin.name for each in used.excessive] == ["b", "c"], "a is used to the full"


def test_the_order_of_edges_and_policies_is_irrelevant() -> None:
    documents = [shop("a", ingress=[ingress("web", "8080/TCP")]), shop("b", "", egress=[{"toEntities": ["all"]}])]
    assert found(*documents) == found(*reversed(documents), edges=EDGES[::-1])


def test_nothing_at_all() -> None:
    assert usage([], [], Inventory()) == Usage((), (), 0, 0, 0, 0, 0)
