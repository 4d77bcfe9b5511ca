"""Rules on HTTP requests: what was seen passes, what was refused does not, and nothing is looser than the evidence."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.edge import ActivityKey, Edge, Endpoint, Side, Status
from analyzer.model.flow import Direction, EventKind, Verdict
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.policy import HttpRequest, Peer, Traffic, compile_policies, parse
from analyzer.recommend import L7, Options, Proposal, Reason, Settings, Topic, recommend
from analyzer.recommend.paths import escaped, is_path, templates
from analyzer.verify import check_proposal
from tests.recommend.build import CART, HOST, REDIS, START, edge, lookup, outside, pod
from tests.recommend.test_laws import validator

WEB = pod("shop", app="web")
ON = Options(Settings(l7=frozenset({L7.HTTP})))
PASSED, REFUSED, FAILED = Verdict.FORWARDED, Verdict.DROPPED, Verdict.ERROR
UUIDS = [f"{n:08x}-1111-4222-8333-{n:012x}" for n in range(1, 4)]
Seen = tuple[str, str, Verdict]


def requests(
    *seen: Seen | tuple[str, str, Verdict, str],
    to: Endpoint = CART,
    source: Endpoint = WEB,
    side: Side = Side.DESTINATION,
) -> Edge:
    """An edge whose proxy at `side` logged requests."""
    found = edge(source, to, "8080/TCP")
    found.stats.cell(ActivityKey(20_697, side, EventKind.L7, Verdict.FORWARDED, 0)).add(START, 1)
    for method, path, verdict, *host in seen:
        found.stats.http.add((method, path, host[0] if host else "cart.shop", str(int(verdict))), 1)
    return found


def passes(made: Proposal, method: str, path: str, host: str = "cart.shop", source: Endpoint = WEB) -> bool | None:
    """What the engine says of one request to the cart: the ingress side."""
    compiled = compile_policies(map(parse, made.documents()))
    traffic = Traffic(
        Peer(source.labels), Peer(CART.labels), L4.parse("8080/TCP"), http=HttpRequest(method, path, host)
    )
    answer = compiled.decide(traffic).ingress
    return answer.l7


def section(made: Proposal, name: str, direction: str) -> list[dict[str, Any]]:
    (found,) = [each["spec"] for each in made.documents() if each["metadata"]["name"] == name]
    return found.get(direction, [])  # type: ignore[no-any-return]


def notes(made: Proposal) -> str:
    return "\n".join(note.text for note in made.notes if note.topic is Topic.LAYER7)


def test_only_on_request_and_only_where_the_proxy_saw_them() -> None:
    seen = requests(("GET", "/items", PASSED))
    assert "rules" not in section(recommend([seen]), "cart", "ingress")[0]["toPorts"][0]
    made = recommend([seen], options=ON)
    (rule,) = section(made, "cart", "ingress")
    assert rule["toPorts"] == [
        {
            "ports": [{"port": "8080", "protocol": "TCP"}],
            "rules": {"http": [{"method": "GET", "path": r"/items(\?.*)?"}]},
        }
    ]
    assert "rules" not in section(made, "web", "egress")[0]["toPorts"][0]
    at_client = recommend([requests(("GET", "/items", PASSED), side=Side.SOURCE)], options=ON)
    assert "rules" in section(at_client, "web", "egress")[0]["toPorts"][0]
    assert "rules" not in section(at_client, "cart", "ingress")[0]["toPorts"][0]
    assert "proxy" in notes(made)
    assert notes(recommend([seen])) == ""


def test_the_namespace_decides() -> None:
    seen = [requests(("GET", "/items", PASSED))]
    made = recommend(seen, options=Options(namespaces={"shop": Settings(l7=frozenset({L7.HTTP}))}))
    assert "rules" in section(made, "cart", "ingress")[0]["toPorts"][0]
    made = recommend(seen, options=Options(namespaces={"other": Settings(l7=frozenset({L7.HTTP}))}))
    assert "rules" not in section(made, "cart", "ingress")[0]["toPorts"][0]


def test_a_query_passes_since_the_record_lacks_it_and_a_longer_path_does_not() -> None:
    made = recommend([requests(("GET", "/items", PASSED))], options=ON)
    assert passes(made, "GET", "/items") is True
    assert passes(made, "GET", "/items?page=2&q=/x") is True
    for method, path in (
        ("POST", "/items"),
        ("GET", "/items/1"),
        ("GET", "/item"),
        ("GE", "/items"),
        ("GET", "/itemsx"),
    ):
        assert passes(made, method, path) is False


def test_ids_uuids_and_hashes_become_patterns_where_several_were_seen() -> None:
    sha = ["a1" * 20, "b2" * 20]
    assert templates(["/o/1", "/o/22", "/o/3"]) == (r"/o/[0-9]+(\?.*)?",)
    assert templates([f"/u/{each}" for each in UUIDS]) == (
        r"/u/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(\?.*)?",
    )
    assert templates([f"/blob/{each}" for each in sha]) == (r"/blob/[0-9a-f]{40}(\?.*)?",)


@pytest.mark.parametrize(
    "paths",
    [
        ["/o/1", "/o/2"],
        ["/v1/x", "/v2/x", "/v3/x"],
        ["/deadbeefdeadbeef", "/cafebabecafebabf"][:1],
        ["/o/1", "/p/2", "/q/3"],
        ["/a.b", "/a+b", "/a(b)", "/a[b]", "/a|b", "/a^b$", "/{x}", "/a*"],
        [f"/u/{UUIDS[0]}"],
        ["/facade/decade", "/effaced/decaded"],
    ],
)
def test_what_is_no_id_or_was_seen_too_rarely_stays_literal(paths: list[str]) -> None:
    assert set(templates(paths)) == {escaped(path) + r"(\?.*)?" for path in paths}


def test_the_place_that_varies_is_found() -> None:
    paths = [f"/users/7/orders/{n}" for n in (5, 6, 7, 8)] + ["/users/8/orders/5"]
    assert templates(paths) == (r"/users/7/orders/[0-9]+(\?.*)?", r"/users/8/orders/5(\?.*)?")


def test_a_refused_request_is_not_added_nor_covered_by_a_pattern() -> None:
    made = recommend(
        [
            requests(
                *(("GET", f"/o/{n}", PASSED) for n in (1, 2, 3)), ("GET", "/o/666", REFUSED), ("PUT", "/o/1", REFUSED)
            )
        ],
        options=ON,
    )
    assert [passes(made, "GET", f"/o/{n}") for n in (1, 2, 3, 666)] == [True, True, True, False]
    assert passes(made, "PUT", "/o/1") is False


def test_a_403_of_the_server_itself_is_no_refusal() -> None:
    made = recommend([requests(("GET", "/me", PASSED), ("GET", "/me", REFUSED))], options=ON)
    assert passes(made, "GET", "/me") is True
    behind_another = requests(("GET", "/me", PASSED), ("GET", "/x", PASSED))
    behind_another.stats.http.add(("GET", "/me", "cart.shop", str(int(REFUSED))), 2)
    assert passes(recommend([behind_another], options=ON), "GET", "/me") is False


def test_the_host_counts_where_it_made_the_difference() -> None:
    seen = requests(("GET", "/a", PASSED, "cart.shop"), ("GET", "/a", REFUSED, "evil.shop"), ("GET", "/b", PASSED))
    made = recommend([seen], options=ON)
    assert passes(made, "GET", "/a") is True
    assert passes(made, "GET", "/a", "evil.shop") is False
    assert passes(made, "GET", "/b", "other") is True


def test_a_port_of_which_all_requests_were_refused_is_not_allowed() -> None:
    made = recommend([requests(("GET", "/a", REFUSED)), edge(WEB, CART, "9090/TCP")], options=ON)
    (rule,) = section(made, "cart", "ingress")
    assert [each["port"] for each in rule["toPorts"][0]["ports"]] == ["9090"]
    assert [(each.reason, each.direction) for each in made.refused] == [(Reason.REQUESTS_REFUSED, Direction.INGRESS)]


def test_a_sample_makes_no_rule_and_says_so() -> None:
    seen = requests(*(("GET", f"/page-{n}", PASSED) for n in range(300)))
    assert seen.stats.http.overflow
    made = recommend([seen], options=ON)
    assert "rules" not in section(made, "cart", "ingress")[0]["toPorts"][0]
    assert "sample" in notes(made)
    assert "8080/TCP" in notes(made)


@pytest.mark.parametrize(
    "bad", [("GET", ""), ("", "/a"), ("GET", "/a\nb"), ("GET", "/ä"), ("G(", "/a"), ("GET", "/" * 2000)]
)
def test_requests_that_no_rule_can_hold_leave_the_port_at_layer_4(bad: tuple[str, str]) -> None:
    made = recommend([requests(("GET", "/a", PASSED), (*bad, PASSED))], options=ON)
    assert "rules" not in section(made, "cart", "ingress")[0]["toPorts"][0]
    assert "layer 4" in notes(made)


def test_traffic_without_requests_beside_traffic_with_them_leaves_the_port_at_layer_4() -> None:
    canary = pod("shop", app="web", pod_template_hash="abc")
    made = recommend([requests(("GET", "/a", PASSED)), edge(canary, CART, "8080/TCP")], options=ON)
    assert "rules" not in section(made, "cart", "ingress")[0]["toPorts"][0]
    assert "part of the traffic" in notes(made)


def test_other_ports_of_the_same_peer_stay_plain_and_in_one_rule() -> None:
    made = recommend(
        [requests(("GET", "/a", PASSED)), edge(WEB, CART, "9090/TCP"), edge(WEB, CART, "7000/UDP")], options=ON
    )
    rules = section(made, "cart", "ingress")
    assert [[port["port"] for port in rule["toPorts"][0]["ports"]] for rule in rules] == [["9090", "7000"], ["8080"]]
    for policy in made.policies:
        for rule in policy.rules:
            assert {each.l4 for each in rule.evidence} == set(rule.ports)


def test_no_http_rule_on_a_port_with_dns_rules() -> None:
    """The agent cannot compute the policy of a pod with both on one port."""
    found = edge(outside("203.0.113.5"), CART, "53/TCP")
    found.stats.cell(ActivityKey(20_697, Side.DESTINATION, EventKind.L7, Verdict.FORWARDED, 0)).add(START, 1)
    found.stats.http.add(("GET", "/a", "", "1"), 1)
    assert "rules" in section(recommend([found], options=ON), "cart", "ingress")[0]["toPorts"][0]
    named = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
    made = recommend([lookup(CART), named, found], options=ON)
    assert "rules" not in section(made, "cart", "ingress")[0]["toPorts"][0]
    assert "DNS rules" in notes(made)


def test_errors_of_the_server_are_requests_too() -> None:
    assert passes(recommend([requests(("GET", "/a", FAILED))], options=ON), "GET", "/a") is True


def test_is_path() -> None:
    assert is_path("/")
    assert is_path("/a%20b/~x")
    assert not any(map(is_path, ["", "a", "*", "/a b", "/a\x00", "/é", "/a?b", "/" + "a" * 1024]))


SEGMENT = st.one_of(
    st.sampled_from(["api", "v1", "a.b", "x+y", "(", "[", "*", "$", "^", "|", "\\", "{2}", "%2e", "..", "", *UUIDS]),
    st.integers(0, 30).map(str),
    st.sampled_from(["a1" * 20, "b2" * 20, "A1" * 8, "c3" * 8]),
)
PATHS = st.lists(SEGMENT, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@settings(max_examples=150, deadline=None)
@given(st.lists(PATHS, min_size=1, max_size=12), st.lists(PATHS, max_size=6))
def test_every_path_is_matched_and_no_refused_one(paths: list[str], others: list[str]) -> None:
    refused = set(others) - set(paths)
    found = [re.compile(each) for each in templates(paths, refused)]
    assert all(any(each.fullmatch(path) for each in found) for path in paths)
    assert not any(each.fullmatch(path) for each in found for path in refused)
    assert templates(reversed(paths), refused) == templates(paths, refused)
    for path in {path for path in paths if not any(map(str.isdigit, path))}:
        assert escaped(path) + r"(\?.*)?" in {each.pattern for each in found}


REQUEST = st.tuples(
    st.sampled_from(["GET", "POST"]), PATHS, st.sampled_from([PASSED, REFUSED]), st.sampled_from(["a", "b"])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUEST, min_size=1, max_size=10, unique_by=lambda each: (each[0], each[1], each[3])))
def test_the_engine_lets_pass_exactly_what_was_let_pass(seen: list[tuple[str, str, Verdict, str]]) -> None:
    made = recommend([requests(*seen)], options=ON)
    for document in made.documents():
        validator().validate(document)
    if any(verdict is PASSED for _, _, verdict, _ in seen):
        for method, path, verdict, host in seen:
            assert passes(made, method, path, host) is (verdict is PASSED), (method, path, host)
    else:
        assert {each.reason for each in made.refused} == {Reason.REQUESTS_REFUSED}


def test_hosts_and_dropped_edges_do_not_disturb() -> None:
    dropped = edge(REDIS, CART, "8080/TCP", status=Status.DROPPED)
    made = recommend([requests(("GET", "/a", PASSED)), dropped, edge(HOST, CART, "8080/TCP")], options=ON)
    assert passes(made, "GET", "/a") is True


def test_the_proposal_passes_its_own_check_also_where_requests_were_refused() -> None:
    seen = requests(("GET", "/a", PASSED), ("GET", "/b", PASSED))
    seen.stats.http.add(("GET", "/b", "cart.shop", str(int(REFUSED))), 2)
    other = requests(("GET", "/b", PASSED), source=pod("shop", app="web", pod_template_hash="x"))
    for found in ([seen], [seen, other]):
        made = recommend(found, options=ON)
        assert check_proposal(made, found, Inventory()).sound
        assert passes(made, "GET", "/b") is (len(found) == 2)
