"""The platform baseline, judged by the engine: it closes nothing, opens what it says and to nobody else, and spares the system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from analyzer.aggregate import aggregate
from analyzer.baseline import Baseline, Named, Topic, Wishes, baseline, broken_by_closing, closed_by, default_deny
from analyzer.demo import CLUSTER, Cluster, generated_cluster, records
from analyzer.diff import Change, compare
from analyzer.inventories import from_edges
from analyzer.manifests import dump
from analyzer.manifests import parse as load_text
from analyzer.model.edge import Edge, Endpoint, Side, Status
from analyzer.model.flow import Direction
from analyzer.model.inventory import Inventory
from analyzer.policy import Policy, parse, validate
from analyzer.recommend import L7, Options, Reason, Settings, SubjectKey, recommend
from analyzer.settle import settle
from analyzer.simulate import EdgeOutcome, Result, simulate
from analyzer.sources.decode import Decoder
from analyzer.verify import check_proposal
from tests.recommend.build import API_SERVER, CART, DNS, HOST, REDIS, REMOTE_NODE, edge, outside, pod, reserved

PROMETHEUS = pod("monitoring", app="prometheus")
GATEWAY = pod("ingress-nginx", app="controller")
BATCH, LEDGER = pod("batch", app="worker"), pod("ledger", app="db")
SILENT = pod("quiet", app="silent")
CLIENT = outside("203.0.113.9")

DNS_EDGES = [edge(CART, DNS, "53/UDP"), edge(BATCH, DNS, "53/UDP")]
WATCHING = [edge(PROMETHEUS, each, "9102/TCP") for each in (CART, BATCH, LEDGER)]


def made(edges: Sequence[Edge], wishes: Wishes | None = None, options: Options | None = None) -> Baseline:
    """The baseline of `edges`, every document valid."""
    inventory = from_edges(edges)
    found = baseline(edges, inventory, options or Options(), wishes, frozenset({Direction.INGRESS, Direction.EGRESS}))
    for document in (*found.platform, *found.closing):
        assert validate(document.data, inventory.options) == ()
    return found


def told(found: Baseline) -> list[tuple[Topic, str]]:
    """The cautions, but for the one on name resolution, which these edges do without."""
    return [(each.topic, each.where) for each in found.cautions if each.topic is not Topic.NO_RESOLVER]


def policies(found: Baseline) -> list[Policy]:
    """All of it in force: the platform policies and default deny in both directions."""
    return [parse(each.data, Inventory().options) for each in (*found.platform, *found.closing)]


def outcome(found: Baseline, asked: Edge, inventory: Inventory | None = None) -> EdgeOutcome:
    """What becomes of a connection with everything in force."""
    return simulate([asked], policies(found), inventory or from_edges([asked]))[asked.key]


def allowed(found: Baseline, source: Endpoint, destination: Endpoint, l4: str) -> bool:
    """Whether it passes with everything in force."""
    return outcome(found, edge(source, destination, l4)).result is Result.ALLOWED


def demo_edges(cluster: Cluster, seed: int = 1) -> tuple[Edge, ...]:
    """What the demo's cluster shows."""
    decode = Decoder().decode
    return settle(aggregate(decode(json.dumps(each).encode()) for each in records(cluster, seed)))


STORY = demo_edges(CLUSTER)


def test_platform_policies_close_nothing() -> None:
    inventory, found = from_edges(STORY), made(STORY)
    platform = list(found.policies(inventory))
    assert len(platform) == 5
    assert compare(simulate(STORY, [], inventory), simulate(STORY, platform, inventory)).empty


@pytest.mark.parametrize(
    "near",
    [DNS, pod("cilium", app="operator"), reserved("health"), reserved("ingress"), HOST, reserved("init")],
    ids=str,
)
def test_nothing_selects_the_system_or_what_is_no_pod(near: Endpoint) -> None:
    found = made([*STORY, edge(DNS, near, "1/TCP")])
    for asked in (edge(SILENT, near, "4444/TCP"), edge(near, SILENT, "4444/TCP")):
        whole = simulate([asked], policies(found), Inventory())[asked.key]
        side = whole.ingress if asked.destination == near else whole.egress
        assert side.selected_by == ()


def test_default_deny_closes_both_directions_for_all_others() -> None:
    found = made(STORY)
    assert [each.path for each in found.closing] == ["_default-deny/ingress.yaml", "_default-deny/egress.yaml"]
    whole = outcome(found, edge(SILENT, pod("quiet", app="other"), "4444/TCP"))
    assert (whole.egress.result, whole.ingress.result) == (Result.DENIED, Result.DENIED)


def test_closing_one_direction_leaves_the_other_open() -> None:
    found = baseline(STORY, from_edges(STORY), Options(), directions=frozenset({Direction.INGRESS}))
    whole = outcome(found, edge(SILENT, pod("quiet", app="other"), "4444/TCP"))
    assert (whole.egress.result, whole.ingress.result) == (Result.ALLOWED, Result.DENIED)


@pytest.mark.parametrize("l4", ["53/UDP", "53/TCP"])
def test_everybody_may_resolve_names_and_nothing_else_there(l4: str) -> None:
    found = made(DNS_EDGES)
    assert allowed(found, SILENT, DNS, l4)
    assert not allowed(found, SILENT, DNS, "9153/TCP")
    assert not allowed(found, SILENT, pod("kube-system", app="other"), l4)


def test_the_resolver_may_listen_on_another_port() -> None:
    found = made([edge(CART, pod("openshift-dns", dns="default"), "5353/UDP", queries=["a.example"])])
    assert allowed(found, SILENT, pod("openshift-dns", dns="default"), "5353/TCP")
    assert not allowed(found, SILENT, pod("openshift-dns", dns="default"), "53/UDP")


def test_a_cache_on_the_node_is_a_resolver() -> None:
    own = (Side.SOURCE,)
    found = made([edge(CART, HOST, "53/UDP", sides=own)])
    assert outcome(found, edge(SILENT, HOST, "53/UDP", sides=own)).egress.result is Result.ALLOWED
    assert outcome(found, edge(SILENT, HOST, "10250/TCP", sides=own)).egress.result is Result.DENIED
    assert outcome(found, edge(SILENT, REMOTE_NODE, "53/UDP")).egress.result is Result.DENIED


def test_a_resolver_outside_of_the_system_lets_everybody_in() -> None:
    own = pod("names", app="bind")
    found = made([edge(each, own, "53/UDP") for each in (CART, BATCH, LEDGER)])
    assert allowed(found, SILENT, own, "53/TCP")
    assert not allowed(found, SILENT, own, "8053/TCP")


def test_one_foreign_client_makes_no_resolver_for_all() -> None:
    assert made([edge(CART, pod("evil", app="dns"), "53/UDP")]).platform == ()


def test_monitoring_reaches_every_pod_on_every_port_and_nobody_else_does() -> None:
    found = made(WATCHING)
    assert allowed(found, PROMETHEUS, SILENT, "31337/TCP")
    assert allowed(found, PROMETHEUS, SILENT, "ICMP/8")
    assert not allowed(found, pod("monitoring", app="grafana"), SILENT, "9102/TCP")
    assert not allowed(found, SILENT, PROMETHEUS, "9090/TCP")


def test_a_dashboard_with_three_databases_is_no_monitoring() -> None:
    grafana = pod("monitoring", app="grafana")
    found = made([edge(grafana, each, f"{port}/TCP") for port, each in enumerate((CART, BATCH, LEDGER), 3000)])
    assert found.platform == ()
    assert told(found) == []


def test_a_name_alone_makes_no_monitoring() -> None:
    liar = pod("evil", app="prometheus")
    found = made([edge(liar, each, "9102/TCP") for each in (CART, BATCH, LEDGER)])
    assert found.platform == ()
    assert told(found) == [(Topic.LOOKALIKE, "evil/prometheus")]


def test_monitoring_can_be_named() -> None:
    watcher = pod("obs", app="agent")
    edges = [*WATCHING, *(edge(watcher, each, "9102/TCP") for each in (CART, BATCH, LEDGER))]
    found = made(edges, Wishes(monitoring=(Named.parse("obs/agent"),)))
    assert allowed(found, watcher, SILENT, "1/TCP")
    assert not allowed(found, PROMETHEUS, SILENT, "9102/TCP")


def test_the_internet_comes_in_by_the_gateway_only() -> None:
    edges = [edge(CLIENT, GATEWAY, "443/TCP"), edge(CLIENT, CART, "8080/TCP"), edge(GATEWAY, CART, "8080/TCP")]
    inventory, found = from_edges(edges), made(edges)
    assert told(found) == [(Topic.DIRECT, "shop/cart")]
    proposal = recommend(edges, inventory, found.options(Options(), inventory))
    whole = [*policies(found), *(parse(each, inventory.options) for each in proposal.documents())]
    results = {key.destination: each.result for key, each in simulate(edges[:2], whole, inventory).items()}
    assert results == {GATEWAY: Result.ALLOWED, CART: Result.DENIED}
    assert [(each.reason, each.edge.destination) for each in proposal.refused] == [(Reason.DIRECT_INTERNET, CART)]
    assert not allowed(found, CLIENT, GATEWAY, "8443/TCP")


@pytest.mark.parametrize(
    "crowd", [[f"169.254.1.{n}" for n in range(40)], ["127.0.0.0/8", "172.0.0.0/8"]], ids=("link", "cut")
)
def test_a_workload_that_is_no_gateway_never_lets_the_world_in(crowd: list[str]) -> None:
    edges = [edge(outside(each), CART, "8080/TCP") for each in ("203.0.113.9", *crowd)]
    inventory, found = from_edges(edges), made(edges)
    proposal = recommend(edges, inventory, found.options(Options(), inventory))
    whole = [*policies(found), *(parse(each, inventory.options) for each in proposal.documents())]
    other = edge(outside("198.51.100.66"), CART, "8080/TCP")
    assert simulate([other], whole, inventory)[other.key].result is Result.DENIED


def test_many_ports_of_a_resolver_are_split() -> None:
    own = pod("names", app="bind")
    clients = (CART, BATCH, LEDGER)
    edges = [edge(each, own, f"{port}/UDP", queries=["a.example"]) for each in clients for port in range(5300, 5330)]
    assert allowed(made(edges), SILENT, own, "5329/TCP")


def test_a_resolver_of_another_cluster_is_opened_by_nobody_here() -> None:
    own = pod("names", "west", app="bind")
    edges = [edge(each, own, "53/UDP") for each in (CART, BATCH, LEDGER)]
    assert {each.data["metadata"]["name"] for each in made(edges).platform} <= {"platform-dns"}


def test_direct_internet_can_be_allowed() -> None:
    edges = [edge(CLIENT, CART, "8080/TCP")]
    inventory, found = from_edges(edges), made(edges, Wishes(direct=True))
    proposal = recommend(edges, inventory, found.options(Options(), inventory))
    assert proposal.refused == ()
    assert "allowed, as was asked for" in found.cautions[0].text


def test_a_gateway_can_be_named() -> None:
    found = made([edge(CLIENT, CART, "8080/TCP")], Wishes(gateways=(Named("shop", "cart"), Named("shop", "typo"))))
    assert allowed(found, CLIENT, CART, "8080/TCP")
    assert told(found) == [(Topic.NOT_SEEN, "shop/typo")]


@pytest.mark.parametrize("address", ["10.0.9.9", "192.168.1.1", "169.254.9.9", "fd00::1"])
def test_ones_own_network_is_not_the_internet(address: str) -> None:
    edges = [edge(outside(address), CART, "8080/TCP")]
    inventory, found = from_edges(edges), made(edges)
    assert told(found) == []
    assert recommend(edges, inventory, found.options(Options(), inventory)).refused == ()


def test_probes_pass_where_localhost_is_not_always_allowed() -> None:
    own = (Side.DESTINATION,)
    edges = [edge(HOST, CART, "8080/TCP", sides=own)]
    inventory = from_edges(edges)
    strict = replace(inventory, options=replace(inventory.options, allow_localhost="policy"))
    found = made(edges)
    asked = edge(HOST, SILENT, "8080/TCP", sides=own)
    assert outcome(found, asked, strict).ingress.result is Result.ALLOWED
    assert simulate([asked], default_deny(found.system, strict), strict)[asked.key].ingress.result is Result.DENIED


def test_who_talks_to_the_api_server_or_to_cloud_metadata_is_told() -> None:
    edges = [
        edge(CART, API_SERVER, "6443/TCP"),
        edge(DNS, API_SERVER, "6443/TCP"),
        edge(REDIS, outside("169.254.169.254"), "80/TCP", status=Status.DROPPED),
    ]
    assert told(made([*edges, *WATCHING])) == [
        (Topic.MONITORING, "monitoring/prometheus"),
        (Topic.METADATA, "shop/redis"),
        (Topic.API_SERVER, "shop/cart"),
    ]


def test_unseen_directions_are_listed_and_what_closing_breaks_is_found() -> None:
    edges = [edge(CART, REDIS, "6379/TCP"), edge(CART, pod("kube-system", app="x"), "1/TCP")]
    inventory, found = from_edges(edges), made(edges)
    cart, redis = (SubjectKey("default", "shop", name) for name in ("cart", "redis"))
    assert dict(found.unseen) == {Direction.INGRESS: (cart,), Direction.EGRESS: (redis,)}
    assert "shop/cart" in found.closing[0].header[2]
    proposal = recommend(edges[:1], inventory)
    in_force = [parse(each, inventory.options) for each in proposal.documents()]
    assert closed_by(edges[:1], in_force, default_deny(found.system, inventory), inventory) == ()
    dropped = closed_by(edges[:1], in_force[1:], default_deny(found.system, inventory), inventory)
    assert [each.change for each in dropped] == [Change.WOULD_BE_DROPPED]


def test_each_cluster_has_its_own_baseline() -> None:
    east, west = (pod("shop", name, app="cart") for name in ("east", "west"))
    servers = {name: pod("kube-system", name, k8s_app="kube-dns") for name in ("east", "west")}
    edges = [
        edge(east, servers["east"], "53/UDP", cluster="east"),
        edge(west, servers["west"], "53/UDP", cluster="west"),
    ]
    found = made(edges)
    assert [each.path for each in found.platform] == ["east/_platform/dns.yaml", "west/_platform/dns.yaml"]
    inventory = from_edges(edges)
    options = found.options(Options(), inventory)
    assert broken_by_closing(found, recommend(edges, inventory, options), edges, inventory) == ()
    # Without its own resolver, what the other cluster allows does not help.
    bare = replace(found, platforms={"east": found.platforms["east"], "west": ()})
    dropped = broken_by_closing(bare, recommend([], inventory), edges, inventory)
    assert [each.edge.source.cluster for each in dropped] == ["west"]


def test_names_are_unique() -> None:
    doors = [pod("a-b", app="c"), pod("a", app="b-c")]
    wishes = Wishes(gateways=(Named("a-b"), Named("a")))
    found = made([edge(CLIENT, each, "443/TCP") for each in doors], wishes)
    assert len({each.data["metadata"]["name"] for each in found.platform}) == 2


def test_the_list_of_system_namespaces_is_short_where_all_namespaces_are_known() -> None:
    inventory = replace(
        from_edges(STORY), namespaces={name: {} for name in ("kube-public", "kube-node-lease", "gke-x")}
    )
    assert baseline(STORY, inventory, Options()).system == (
        "cilium-secrets", "gke-x", "kube-node-lease", "kube-public", "kube-system",
    )  # fmt: skip
    assert {"gke-managed-system", "openshift-dns", "rook-ceph"} < set(made(STORY).system)


@pytest.mark.parametrize(
    "cluster", [CLUSTER, generated_cluster(2, 30), generated_cluster(3, 30)], ids=("story", "2", "3")
)
def test_recommendations_beside_it_stay_sound_until_all_is_closed(cluster: Cluster) -> None:
    edges = demo_edges(cluster)
    inventory, found = from_edges(edges), made(edges)
    options = found.options(Options(), inventory)
    alone, beside = recommend(edges, inventory), recommend(edges, inventory, options)
    check = check_proposal(beside, edges, inventory, options.existing)
    assert (check.unsound, check.invalid) == ((), ())
    rules = [sum(len(draft.rules) for draft in each.policies) for each in (alone, beside)]
    assert rules[1] < rules[0]
    in_force = [*options.existing, *(parse(each, inventory.options) for each in beside.documents())]
    assert closed_by(edges, in_force, default_deny(found.system, inventory), inventory) == ()


def test_hostile_names_cost_no_policy() -> None:
    hostile = "x\n---\nkind: Evil\x1b[31m"
    far = [edge(PROMETHEUS, pod(name, app="a"), "9102/TCP") for name in ("kube-\nevil", f"kube-{'x' * 90}")]
    named = [
        edge(CLIENT, pod("ingress-nginx", app=hostile), "443/TCP", workloads=((), (hostile,))),
        edge(CLIENT, pod("ingress-nginx", team="a"), "443/TCP", workloads=((), (hostile + "y",))),
    ]
    found = made([*WATCHING, *DNS_EDGES, *far, *named])
    assert not [name for name in found.system if "evil" in name or len(name) > 63]
    text = dump([*found.platform, *found.closing])
    assert "\x1b" not in text
    assert {each.data["kind"] for each in load_text(text)} == {"CiliumClusterwideNetworkPolicy"}
    assert len(list(load_text(text))) == len(found.platform) + len(found.closing)


@pytest.mark.parametrize("text", ["", "/cart", "a/b/c"])
def test_what_names_no_workload_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        Named.parse(text)


def test_what_existing_policies_close_and_the_baseline_opens_is_told() -> None:
    def closing(name: str, end: Endpoint, **peers: object) -> Policy:
        subject = {"matchLabels": {"app": {label.key: label.value for label in end.labels}["app"]}}
        return parse(
            {
                "apiVersion": "cilium.io/v2",
                "kind": "CiliumNetworkPolicy",
                "metadata": {"name": name, "namespace": end.namespace},
                "spec": {"endpointSelector": subject, "ingress": [peers]},
            }
        )

    edges = [edge(CLIENT, GATEWAY, "443/TCP"), *WATCHING]
    office = closing("office", GATEWAY, fromCIDR=["203.0.113.0/24"])
    ledger = closing("own", LEDGER, fromEndpoints=[{}])
    found = made(edges, options=Options(existing=(office, ledger)))
    opens = [each for each in found.cautions if each.topic is Topic.OPENS]
    assert {(each.where, each.text) for each in opens} == {
        ("ingress-nginx/controller", "all of the internet, which CiliumNetworkPolicy ingress-nginx/office closes now"),
        (
            "ingress-nginx/controller",
            "every port to monitoring, which CiliumNetworkPolicy ingress-nginx/office closes now",
        ),
        ("ledger/db", "every port to monitoring, which CiliumNetworkPolicy ledger/own closes now"),
    }
    open_to_all = closing("open", GATEWAY, fromEntities=["all"])
    assert not [
        each for each in made(edges, options=Options(existing=(open_to_all,))).cautions if each.topic is Topic.OPENS
    ]


def test_lookups_that_are_narrowed_are_not_opened_for_everybody() -> None:
    narrow = Options(Settings(l7=frozenset({L7.DNS})))
    assert made(DNS_EDGES, options=narrow).platform == ()
    assert [each.topic for each in made(DNS_EDGES, options=narrow).cautions] == [Topic.NO_RESOLVER]
    assert made(DNS_EDGES).cautions == ()


def test_what_comes_through_nodes_is_told() -> None:
    assert told(made([edge(REMOTE_NODE, CART, "8080/TCP"), edge(REMOTE_NODE, DNS, "53/UDP")])) == [
        (Topic.NODES, "shop/cart")
    ]


def test_what_is_refused_opens_no_direction() -> None:
    edges = [edge(CLIENT, CART, "8080/TCP")]
    assert made(edges).unseen[Direction.INGRESS] == (SubjectKey("default", "shop", "cart"),)
    assert made(edges, Wishes(direct=True)).unseen[Direction.INGRESS] == ()
