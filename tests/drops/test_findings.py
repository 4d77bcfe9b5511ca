"""Findings: what belongs together is one, in order; what else a fix opens is told; record and engine may disagree."""

from __future__ import annotations

import pytest

from analyzer.aggregate import aggregate
from analyzer.drops.cause import CauseKind
from analyzer.drops.drop import Drops
from analyzer.drops.explain import causes
from analyzer.drops.findings import MAX_FIXED, findings
from analyzer.drops.reasons import DropClass, Weight
from analyzer.drops.scene import Facts, Scene
from analyzer.drops.stored import drops_of
from analyzer.drops.unenforced import unenforced
from analyzer.drops.window import DropWindow
from analyzer.inventories import from_edges
from analyzer.model.edge import Side
from analyzer.model.flow import Detail, EventKind, Flow, FlowEndpoint, HttpRecord, Verdict
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from analyzer.policy import compile_policies, parse
from analyzer.policy.resolve import RuleIndex
from analyzer.settle import settle
from tests.drops.build import cnp, documents_of, found, scenes
from tests.drops.test_causes import CART, FROM_WEB, PORTS, WEB, cart, into, out, web
from tests.flows import ACK, START, WORLD, drop, pod, remote, tcp

SECOND = 1_000_000_000


def test_addresses_outside_are_one_finding_and_its_fix_covers_several() -> None:
    flows = [out(WORLD, 443, destination_ip=f"203.0.113.{n}") for n in (7, 8, 9)]
    (finding,) = found(web("{}"), flows)
    assert (finding.number, len(finding.scenes)) == (3, 3)
    assert finding.fix is not None
    assert finding.fix.confirmed
    for n in (7, 8, 9):
        assert f"203.0.113.{n}/32" in finding.fix.patches[0].diff


def test_rollouts_of_a_workload_are_one_finding_with_one_rule() -> None:
    old, new = pod("web", pod_template_hash="aa"), pod("web", pod_template_hash="bb")
    flows = [drop(each, CART, 8080, source_ip=ip) for each, ip in ((old, "10.0.0.1"), (new, "10.0.0.2"))]
    (finding,) = found(cart("{}"), flows)
    assert finding.number == 2
    assert finding.fix is not None
    assert finding.fix.confirmed
    added = [line for line in finding.fix.patches[0].diff.splitlines() if line.startswith("+ ")]
    assert sum(line.count("fromEndpoints") for line in added) == 1


def test_a_scan_is_one_finding() -> None:
    flows = [into(WEB, port) for port in range(20, 30)]
    (finding,) = found(cart("{}"), flows)
    assert finding.number == 10


def test_few_ports_are_findings_of_their_own() -> None:
    assert len(found(cart("{}"), [into(WEB, 80), into(WEB, 81)])) == 2


def test_faults_of_a_node_are_one_finding_and_missing_backends_one_per_server() -> None:
    flows = [drop(pod(f"app-{n}"), pod(f"db-{n}"), 80, reason) for n in range(3) for reason in (155, 158)]
    listed = found(cart("{}"), flows)
    assert sorted((each.scene.drops.key.reason, each.number) for each in listed) == [
        (155, 3),
        (158, 1),
        (158, 1),
        (158, 1),
    ]


def test_policies_come_first_then_the_network_then_what_harms_nobody_then_audit() -> None:
    solicitation = drop(WEB, WORLD, 8, 139, protocol=Protocol.ICMP, client_port=0, tcp_flags=0, direction=2)
    flows = [solicitation.replace(time=START + n * 1000 * SECOND) for n in range(5)]
    flows += [drop(WEB, CART, 8080, 155, client_port=n) for n in range(40_000, 40_003)]
    flows += [into(WEB), into(WEB, 9090, verdict=Verdict.AUDIT, kind=EventKind.POLICY_VERDICT, drop_reason=0)]
    order = [(each.weight, each.audit) for each in found(cart("{}"), flows)]
    assert order == [(Weight.POLICY, False), (Weight.INFRA, False), (Weight.PASSING, False), (Weight.POLICY, True)]


def test_with_very_many_causes_the_rest_is_told_to_be_left_out() -> None:
    flows = [drop(pod(f"app-{n}"), CART, 8080) for n in range(MAX_FIXED + 2)]
    listed = found(cart("{}"), flows)
    assert len(listed) == MAX_FIXED + 2
    assert sum("most frequent causes" in each.step for each in listed) == 2


def test_both_sides_are_mended_where_both_deny() -> None:
    text = web("{}") + "---\n" + cart("{}")
    (finding,) = found(text, [out(CART, 8080)])
    assert finding.fix is not None
    assert finding.fix.confirmed
    assert finding.fix.places == (
        "CiliumNetworkPolicy shop/web, section egress",
        "CiliumNetworkPolicy shop/cart, section ingress",
    )


def test_a_workload_without_a_policy_of_its_own_gets_one() -> None:
    everybody = cart("{}").replace("{matchLabels: {app: cart}}", "{}")
    (finding,) = found(everybody, [into(WEB), tcp(pod("other"), pod("third"), 80, tcp_flags=ACK)])
    assert finding.fix is not None
    (patch,) = finding.fix.patches
    assert patch.new
    assert finding.fix.confirmed
    assert finding.fix.opens == ()


def test_what_a_wide_policy_would_open_is_told() -> None:
    """Only a clusterwide policy speaks of the health endpoint: whatever it lets pass, it lets pass to all that it selects."""
    wide = cart("{}").replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy").replace(", namespace: shop", "")
    wide = wide.replace("{matchLabels: {app: cart}}", "{}")
    health = FlowEndpoint(Labels.of(["reserved:health"]), endpoint_id=4)
    others = Inventory(endpoints=(InventoryEndpoint("db", "shop", pod("db").labels),))
    listed = found(wide, [drop(WEB, health, 8080)], others)
    fix = listed[0].fix
    assert fix is not None
    assert fix.confirmed
    assert "shop/web -> shop/db 8080/TCP" in fix.opens


def test_recorded_traffic_that_a_fix_opens_too_is_told() -> None:
    text = cart(f"{{fromEntities: [host], {PORTS}}}")
    api = FlowEndpoint(Labels.of(["reserved:kube-apiserver", "reserved:remote-node"]), identity=7)
    node = FlowEndpoint(Labels.of(["reserved:remote-node"]), identity=6)
    listed = found(text, [into(node, client_port=n) for n in (40_000, 40_001)] + [into(api)])
    fix = listed[0].fix
    assert fix is not None
    assert "kube-apiserver -> shop/cart 8080/TCP" in fix.opens


def test_an_explicit_deny_that_the_record_calls_a_default_deny_is_told_and_gets_no_rule() -> None:
    (finding,) = found(cart(f"{{}}]\ningressDeny: [{{{FROM_WEB}}}"), [into(WEB)])
    assert finding.causes[0].kind is CauseKind.EXPLICIT_DENY
    assert finding.fix is None
    assert "by the policies given a deny rule matches" in finding.disagreement


def test_a_deny_that_the_policies_do_not_have_is_told() -> None:
    (finding,) = found(cart("{}"), [into(WEB, drop_reason=181)])
    assert "no rule matches (default deny)" in finding.disagreement
    assert finding.fix is None


def test_what_passed_afterwards_says_that_something_was_changed() -> None:
    text = cart(f"{{{FROM_WEB}}}")
    (finding,) = found(text, [into(WEB), tcp(remote(WEB), CART, 8080, time=START + 5)])
    assert finding.causes[0].kind is CauseKind.CHANGED
    assert "let pass after the last drop" in finding.disagreement
    assert "allowed by" not in finding.disagreement


def test_a_policy_that_was_not_given_is_missed() -> None:
    (finding,) = found(web("{}"), [into(WEB)])
    assert finding.causes[0].kind is CauseKind.CHANGED
    assert "none of the policies given selects shop/cart for ingress" in finding.disagreement


def test_where_the_record_does_not_name_the_side_the_engine_does() -> None:
    text = cart(f"{{fromEndpoints: [{{matchLabels: {{app: other}}}}], {PORTS}}}")
    (scene,) = scenes(
        text, [into(WEB, direction=0, source_ip="10.0.0.1").replace(source=remote(WEB), destination=remote(CART))]
    )
    assert scene.drops.key.side is Side.UNKNOWN
    assert (scene.side, scene.section) == (Side.DESTINATION, "ingress")


def test_pods_known_by_name_get_their_labels_from_others() -> None:
    bare = FlowEndpoint(namespace="shop", pod=WEB.pod)
    window = DropWindow()
    window.add([into(bare)])
    facts = Facts(pods={("shop", WEB.pod): scenes(None, [into(WEB)])[0].edge.source})
    scene = Scene(window.drops()[0], facts, None, None)
    assert scene.edge.source.labels == WEB.labels


def stored(flows: list[Flow]) -> tuple[Drops, ...]:
    return drops_of(settle(aggregate(flows)))


def test_from_edges_a_denial_that_is_told_twice_counts_once() -> None:
    flows = [into(WEB, client_port=n) for n in range(40_000, 40_003)]
    flows += [each.replace(kind=EventKind.POLICY_VERDICT, sub_type=0) for each in flows]
    (drops,) = stored(flows)
    assert (drops.drops, drops.events, drops.exact) == (3, 6, False)
    assert drops.kind is DropClass.DEFAULT_DENY
    assert drops.key.side is Side.DESTINATION


def test_from_edges_classes_and_requests_are_known() -> None:
    refusal = Detail(http=HttpRecord("POST", "/a"), l7_type=1)
    flows = [
        into(WEB, drop_reason=181),
        into(WEB, drop_reason=155),
        into(WEB, verdict=Verdict.AUDIT, kind=EventKind.POLICY_VERDICT, drop_reason=0),
        tcp(WEB, CART, 8080, kind=EventKind.L7, verdict=Verdict.DROPPED, direction=1, detail=refusal),
    ]
    got = {(each.kind, each.key.audit, each.key.request) for each in stored(flows)}
    assert got == {
        (DropClass.EXPLICIT_DENY, False, ""),
        (DropClass.INFRASTRUCTURE, False, ""),
        (DropClass.DEFAULT_DENY, True, ""),
        (DropClass.L7, False, "POST /a"),
    }


@pytest.mark.parametrize("flows", [[into(WEB)], [out(CART, 8080)], [out(WORLD, 443, destination_ip="203.0.113.9")]])
def test_from_edges_the_same_cause_and_fix_come_out(flows: list[Flow]) -> None:
    text = (
        web("{toFQDNs: [{matchName: a.example}]}")
        + "---\n"
        + cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: '80'}}]}}]}}")
    )
    edges = settle(aggregate(flows))
    facts = Facts(from_edges(edges), {edge.key: edge for edge in edges})
    (kept,) = findings(drops_of(edges), facts, documents_of(text, facts.inventory))
    (live,) = found(text, flows)
    assert kept.causes[0].kind is live.causes[0].kind
    assert kept.causes[0].rule == live.causes[0].rule
    assert (kept.fix is None) == (live.fix is None)
    if kept.fix is not None and live.fix is not None:
        assert kept.fix.patches == live.fix.patches


def test_policies_that_are_not_enforced_are_told_unless_there_is_nothing_to_tell() -> None:
    flows = [tcp(remote(WEB), CART, 8080), tcp(remote(WEB), CART, 8080, reply=True)]
    edges = settle(aggregate(flows))
    known = from_edges(edges)
    assert "not one AUDIT verdict" in unenforced(edges, documents_of(cart("{}"), known), known, {})
    assert "Besides what was audited" in unenforced(
        edges, documents_of(cart("{}"), known), known, {int(Verdict.AUDIT): 1}
    )
    assert unenforced(edges, documents_of(cart(f"{{{FROM_WEB}}}"), known), known, {}) == ""


def test_engine_and_scene_agree_for_whatever_is_denied_and_allowed() -> None:
    """The evidence is asked of the engine, never guessed: a cause about a rule names one that is there."""
    text = (
        cart(f"{{{FROM_WEB}, toPorts: [{{ports: [{{port: '80'}}]}}]}}") + "---\n" + cnp("more", "cart", "ingress: [{}]")
    )
    (scene,) = scenes(text, [into(WEB)])
    policies = [parse(each.data) for each in documents_of(text, scene.inventory).documents()]
    rules = set(compile_policies(policies, scene.inventory).rules())
    assert RuleIndex(policies).rules
    for cause in causes(scene):
        assert cause.rule is None or cause.rule in rules
