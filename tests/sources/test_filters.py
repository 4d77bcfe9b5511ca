"""Filters mean the same on files as on a server, and on both what Hubble's own mean."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import UsageError
from analyzer.model.flow import Flow
from analyzer.replay import ReplayServer
from analyzer.sources.decode import Decoder
from analyzer.sources.filter_fields import FIELDS
from analyzer.sources.filters import FlowFilter, Selection, parse_filters
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL
from tests.sources.hubble import START, at

Doc = dict[str, Any]

# A small world, so that filters hit

PODS: list[Doc] = [
    {"namespace": "shop", "pod_name": "web-1", "identity": 1000, "labels": ["k8s:app=web", "k8s:tier=front"]},
    {"namespace": "shop", "pod_name": "web-2", "identity": 1000, "labels": ["k8s:app=web"], "cluster_name": "east"},
    {"namespace": "shop", "pod_name": "cart-0", "identity": 1001, "labels": ["k8s:app=cart", "container:tier=back"]},
    {"namespace": "default", "pod_name": "web-9", "identity": 1002, "labels": ["k8s:app=web", "k8s:tier="]},
    {"namespace": "db", "identity": 1003, "labels": ["k8s:app=db"], "cluster_name": "west"},
    {"identity": 2, "labels": ["reserved:world", "cidr:192.0.2.7/32"]},
    {"identity": 1, "labels": ["reserved:host"]},
    {},
]
WORKLOADS: list[list[Doc]] = [
    [], [], [{"kind": "Deployment", "name": "web"}], [{"kind": "StatefulSet", "name": "cart"}, {"name": "web"}],
]  # fmt: skip
ADDRESSES = ["10.0.0.1", "10.0.1.9", "192.0.2.7", "2001:db8::7", ""]
SERVICES: list[Doc | None] = [None, {"namespace": "shop", "name": "web"}, {"namespace": "db", "name": "web-db"}, {}]
NAMES = [[], ["api.example.com"], ["www.example.com.", "Cdn.Example.net"]]
PORTS = [53, 80, 8080, 40_000]
LAYER4 = ["TCP", "TCP", "UDP", "SCTP", "ICMPv4", "ICMPv6", "VRRP", ""]
FLAGS: list[Doc] = [{}, {"SYN": True}, {"SYN": True, "ACK": True}, {"RST": True, "ACK": True}]
HTTP: list[Doc] = [
    {"method": "GET", "url": "http://cart:80/items/7?x=1"},
    {"method": "POST", "url": "http://cart/items", "code": 503},
    {"code": 404},
]
DNS: list[Doc] = [{"query": "api.example.com."}, {"query": "db.shop.svc.cluster.local.", "rcode": 3}]
REPLIES = [None, True, False]
VERDICTS = ["FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", 9]
NODES = ["node-1", "node-2", "east/node-1"]


def make(chance: random.Random, number: int) -> Doc:
    pick = chance.choice
    kind = pick(LAYER4)
    flow: Doc = {
        "time": at(number), "uuid": f"u{number}", "verdict": pick(VERDICTS), "node_name": pick(NODES),
        "IP": {"source": pick(ADDRESSES), "destination": pick(ADDRESSES)}, "is_reply": pick(REPLIES),
        "source": {**pick(PODS), "workloads": pick(WORKLOADS)},
        "destination": {**pick(PODS), "workloads": pick(WORKLOADS)},
        "source_service": pick(SERVICES), "destination_service": pick(SERVICES), "source_names": pick(NAMES),
        "destination_names": pick(NAMES), "traffic_direction": pick(["INGRESS", "EGRESS", None]),
        "event_type": pick([{"type": 4}, {"type": 4, "sub_type": 3}, {"type": 1, "sub_type": 133}, {"type": 129}]),
        "drop_reason_desc": pick([None, "POLICY_DENIED", "POLICY_DENY", 207]), "Type": "L3_L4",
    }  # fmt: skip
    if kind in ("TCP", "UDP", "SCTP"):
        flow["l4"] = {kind: {"source_port": pick(PORTS), "destination_port": pick(PORTS)}}
    elif kind:
        flow["l4"] = {kind: {"type": 8}}
    if kind == "TCP":
        flow["l4"]["TCP"]["flags"] = pick(FLAGS)
    if flow["event_type"]["type"] == 129:
        flow["l7"] = {"type": "REQUEST", **pick([{"http": pick(HTTP)}, {"dns": pick(DNS)}, {}])}
    return {key: value for key, value in flow.items() if value is not None}


CHANCE = random.Random(5)
RECORDED = [make(CHANCE, number) for number in range(150)]
LINES = [json.dumps({"flow": flow, "node_name": flow["node_name"], "time": flow["time"]}).encode() for flow in RECORDED]


def flows() -> list[Flow]:
    found = [Decoder().decode(line) for line in LINES]
    assert all(isinstance(flow, Flow) for flow in found)
    return found  # type: ignore[return-value]


FLOWS = flows()

# What Hubble's filters mean, written down field by field: the oracle


def labels_match(selector: str, labels: list[str]) -> bool:
    parsed = [(source, *rest.partition("=")[::2]) for source, _, rest in (label.partition(":") for label in labels)]

    def values(key: str) -> list[str]:
        source, colon, rest = key.partition(":")
        return [v for s, k, v in parsed if (k == key) or (colon and k == rest and source in (s, "any"))]

    def holds(part: str) -> bool:
        among = re.fullmatch(r"(\S+) (in|notin) \((.*)\)", part)
        if among:
            wanted = among[3].split(",")
            hit = [value in wanted for value in values(among[1])]
            return any(hit) if among[2] == "in" else (not hit or not all(hit))
        if "!=" in part:
            key, refused = part.split("!=")
            return not values(key) or any(value != refused for value in values(key))
        if "=" in part:
            key, asked = part.split("=")
            return asked in values(key)
        return not values(part[1:]) if part.startswith("!") else bool(values(part))

    return all(holds(part) for part in re.split(r",(?![^(]*\))", selector))


def prefixed(wanted: str, namespace: str, name: str) -> bool:
    space, slash, prefix = wanted.rpartition("/")
    space = space if slash else "default"
    return bool(namespace or name) and space in ("", namespace) and name.startswith(prefix)


def code_matches(wanted: str, code: int) -> bool:
    return bool(code) and (str(code).startswith(wanted[:-1]) if wanted.endswith("+") else str(code) == wanted)


def node_matches(wanted: str, node: str) -> bool:
    parts, name = wanted.split("/"), node if "/" in node else f"default/{node}"
    cluster, pattern = (parts[0] or "*", parts[1] or "*") if len(parts) == 2 else ("*", parts[0])
    return fnmatchcase(name, f"{cluster}/{pattern}")


def protocols(flow: Doc) -> set[str]:
    layer4 = {name.lower() for name in flow.get("l4", {})}
    return layer4 | ({"icmp"} if layer4 & {"icmpv4", "icmpv6"} else set()) | set(flow.get("l7", {})) - {"type"}


def same_name(pattern: str, name: str) -> bool:
    return fnmatchcase(name.lower().rstrip("."), pattern.lower().rstrip("."))


def inside(network: str, address: str) -> bool:
    return bool(address) and ip_address(address) in ip_network(network)


def drop_reason(value: Any) -> Any:
    return {"POLICY_DENIED": 133, "POLICY_DENY": 181}.get(value, value)


ORACLE: dict[str, Callable[[Any, Doc, Doc, str], bool]] = {
    "pod": lambda want, flow, end, side: prefixed(want, end.get("namespace", ""), end.get("pod_name", "")),
    "service": lambda want, flow, end, side: (
        bool(flow.get(f"{side}_service"))
        and prefixed(want, flow[f"{side}_service"]["namespace"], flow[f"{side}_service"]["name"])
    ),
    "label": lambda want, flow, end, side: labels_match(want, end.get("labels", [])),
    "ip": lambda want, flow, end, side: inside(want, flow["IP"][side]),
    "port": lambda want, flow, end, side: any(
        str(ports.get(f"{side}_port")) == want for ports in flow.get("l4", {}).values()
    ),
    "fqdn": lambda want, flow, end, side: any(same_name(want, name) for name in flow.get(f"{side}_names", [])),
    "workload": lambda want, flow, end, side: any(
        all(each.get(key, "") == value for key, value in want.items()) for each in end["workloads"]
    ),
    "identity": lambda want, flow, end, side: end.get("identity", 0) == want,
    "cluster_name": lambda want, flow, end, side: end.get("cluster_name") == want,
    "uuid": lambda want, flow, end, side: flow["uuid"] == want,
    "verdict": lambda want, flow, end, side: flow["verdict"] == want,
    "drop_reason_desc": lambda want, flow, end, side: drop_reason(flow.get("drop_reason_desc")) == drop_reason(want),
    "traffic_direction": lambda want, flow, end, side: flow.get("traffic_direction") == want,
    "event_type": lambda want, flow, end, side: (
        flow["event_type"]["type"] == want["type"]
        and (not want.get("match_sub_type") or flow["event_type"].get("sub_type", 0) == want.get("sub_type", 0))
    ),
    "protocol": lambda want, flow, end, side: want.lower() in protocols(flow),
    "http_status_code": lambda want, flow, end, side: code_matches(
        want, flow.get("l7", {}).get("http", {}).get("code", 0)
    ),
    "http_method": lambda want, flow, end, side: flow.get("l7", {}).get("http", {}).get("method") == want,
    "http_path": lambda want, flow, end, side: (
        "http" in flow.get("l7", {})
        and bool(re.search(want, re.sub(r"^\w+://[^/]*|\?.*", "", flow["l7"]["http"].get("url", ""))))
    ),
    "dns_query": lambda want, flow, end, side: (
        "dns" in flow.get("l7", {}) and bool(re.search(want, flow["l7"]["dns"]["query"]))
    ),
    "reply": lambda want, flow, end, side: (
        flow.get("is_reply", False if flow["verdict"] == "DROPPED" else None) is want
    ),
    "tcp_flags": lambda want, flow, end, side: (
        "TCP" in flow.get("l4", {}) and all(flow["l4"]["TCP"]["flags"].get(name) for name in want)
    ),
    "node_name": lambda want, flow, end, side: node_matches(want, flow["node_name"]),
    "ip_version": lambda want, flow, end, side: (
        want == ("IPv6" if ":" in flow["IP"]["source"] else "IPv4" if flow["IP"]["source"] else "IP_NOT_USED")
    ),
}


def hubble_matches(wanted: Doc, flow: Doc) -> bool:
    def field_matches(name: str, values: list[Any]) -> bool:
        side, _, rest = name.partition("_")
        key, side = (rest, side) if side in ("source", "destination") else (name, "source")
        return any(ORACLE[key](value, flow, flow[side], side) for value in values)

    return all(field_matches(name, values) for name, values in wanted.items())


# Filters

PREFIXES = ["shop/", "shop/web", "/web", "web", "db/", "default/", "nowhere/x", "/"]
SIDED: dict[str, list[Any]] = {
    "pod": PREFIXES,
    "service": ["shop/", "/web", "db/web-", "web"],
    "label": [
        "app=web", "k8s:app=web", "any:app=cart", "container:app=web", "tier", "!tier", "tier=", "app!=web", "app in (web,db)",
        "tier notin (front)", "k8s:tier,app=web", "reserved:world", "cidr:192.0.2.7/32", "app in (cart),tier",
    ],
    "ip": ["10.0.0.1", "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "::/0"],
    "port": ["53", "80", "8080", "1"],
    "fqdn": ["api.example.com", "*.example.com", "WWW.example.com.", "*", "cdn.*"],
    "workload": [{"name": "web"}, {"kind": "Deployment"}, {"kind": "StatefulSet", "name": "cart"}, {"kind": "Job"}],
    "identity": [2, 1000, 1001, 7],
    "cluster_name": ["east", "west", "north"],
}  # fmt: skip
PLAIN: dict[str, list[Any]] = {
    "uuid": ["u1", "u20", "u300"],
    "verdict": ["FORWARDED", "DROPPED", "AUDIT", "ERROR", 9],
    "drop_reason_desc": ["POLICY_DENIED", "POLICY_DENY", 207],
    "traffic_direction": ["INGRESS", "EGRESS"],
    "event_type": [{"type": 4}, {"type": 4, "match_sub_type": True}, {"type": 4, "match_sub_type": True, "sub_type": 3},
                   {"type": 1}, {"type": 129}],
    "protocol": ["tcp", "UDP", "icmp", "ICMPv6", "vrrp", "http", "dns", "sctp"],
    "http_status_code": ["404", "5+", "50+", "200"],
    "http_method": ["GET", "POST"],
    "http_path": ["^/items", "7$", "x"],
    "dns_query": ["example", r"\.com\.$", "com$", "^db"],
    "reply": [True, False],
    "tcp_flags": [{"SYN": True}, {"SYN": True, "ACK": True}, {"ACK": True}, {"FIN": True}],
    "node_name": ["node-1", "east/node-1", "east/", "*", "/node-*", "node-*", "default/node-2"],
    "ip_version": ["IPv4", "IPv6", "IP_NOT_USED"],
}  # fmt: skip
ALL: dict[str, list[Any]] = {
    **{f"{side}_{name}": values for name, values in SIDED.items() for side in ("source", "destination")},
    **PLAIN,
}


@st.composite
def filters(draw: st.DrawFn) -> Doc:
    names = draw(st.lists(st.sampled_from(sorted(ALL)), min_size=1, max_size=3, unique=True))
    made = {name: draw(st.lists(st.sampled_from(ALL[name]), min_size=1, max_size=2, unique_by=str)) for name in names}
    if any(name.startswith("http_") for name in made) and {"type": 129} not in made.get("event_type", []):
        made.pop("event_type", None)  # refused by Hubble
    return made


LISTS = st.lists(filters(), max_size=3)


def test_every_field_is_tried_here() -> None:
    assert set(ALL) == FIELDS


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_field_means_what_hubble_means_by_it(name: str) -> None:
    """Every value on every flow; and values that choose some flows and leave some."""
    chosen = 0
    for value in ALL[name]:
        wanted = {name: [value]}
        matches = [FlowFilter.from_json(wanted).matches(flow) for flow in FLOWS]
        assert matches == [hubble_matches(wanted, flow) for flow in RECORDED], value
        chosen += any(matches) and not all(matches)
    assert chosen


@settings(deadline=None, max_examples=200)
@given(filters())
def test_fields_are_joined_by_and_values_by_or(wanted: Doc) -> None:
    found = FlowFilter.from_json(wanted)
    assert [found.matches(flow) for flow in FLOWS] == [hubble_matches(wanted, flow) for flow in RECORDED]


@pytest.fixture(scope="module")
def ask() -> Iterator[Callable[[Doc], list[str]]]:
    """Ask a real server over the wire for the uuids of what a request chooses."""
    with ReplayServer(LINES) as server, grpc.insecure_channel(server.address) as channel:
        method = channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )

        def asked(request: Doc) -> list[str]:
            message = json_format.ParseDict(request, observer_pb2.GetFlowsRequest(), descriptor_pool=POOL)
            return [response.flow.uuid for response in method(message, timeout=20)]

        yield asked


@settings(deadline=None, max_examples=150)
@given(LISTS, LISTS, st.one_of(st.none(), st.integers(0, 150)), st.one_of(st.none(), st.integers(0, 150)))
def test_a_selection_is_what_a_server_sends_that_is_asked_for_it(
    ask: Callable[[Doc], list[str]], allow: list[Doc], deny: list[Doc], since: int | None, until: int | None
) -> None:
    first, last = (None if second is None else (START + second) * 10**9 for second in (since, until))
    selection = Selection(parse_filters(allow), parse_filters(deny), first, last)
    whitelist, blacklist = selection.pushdown()
    request: Doc = {"whitelist": whitelist, "blacklist": blacklist}
    request |= {"since": at(since)} if since is not None else {}
    request |= {"until": at(until)} if until is not None else {}
    here = [flow.uuid for flow in FLOWS if selection.keeps(flow)]
    assert here == ask(request)
    assert here == [
        flow["uuid"]
        for number, flow in enumerate(RECORDED)
        if (since is None or number >= since)
        and (until is None or number <= until)
        and (not allow or any(hubble_matches(each, flow) for each in allow))
        and not any(hubble_matches(each, flow) for each in deny)
    ]


@given(filters())
def test_a_filter_is_read_as_it_is_written(wanted: Doc) -> None:
    found = FlowFilter.from_json(wanted)
    assert FlowFilter.from_json(json.loads(json.dumps(found.to_json()))) == found
    camel = {re.sub(r"_(\w)", lambda letter: letter[1].upper(), name): values for name, values in wanted.items()}
    assert FlowFilter.from_json(camel) == found
    assert parse_filters(json.dumps(wanted) + "\n" + json.dumps(camel)) == (found, found)


def test_an_empty_filter_takes_everything() -> None:
    assert all(FlowFilter.from_json({"verdict": [], "source_pod": None}).matches(flow) for flow in FLOWS)


def test_selections_with_the_same_meaning_share_a_fingerprint_and_others_do_not() -> None:
    one = Selection(parse_filters([{"sourcePod": ["a/"]}]), since=5)
    assert one.fingerprint() == Selection(parse_filters([{"source_pod": ["a/"]}]), since=5).fingerprint()
    others = [Selection(), Selection(one.allow), Selection((), one.allow, 5), Selection(one.allow, (), None, 5)]
    assert len({each.fingerprint() for each in [one, *others]}) == 5
    assert Selection().fingerprint() == ""


@pytest.mark.parametrize(
    "wanted",
    [
        {"source_pod": [""]}, {"source_pod": [5]}, {"destination_service": [""]}, {"source_label": ["a b"]},
        {"source_label": [""]}, {"source_label": ["app>5"]}, {"source_ip": ["10.0.0"]}, {"source_ip": [5.5]},
        {"source_port": ["http"]}, {"source_port": ["-1"]}, {"source_port": ["70000"]}, {"source_port": [" 80"]},
        {"source_identity": ["world"]}, {"source_identity": [float("inf")]}, {"source_identity": [None]},
        {"source_workload": ["web"]}, {"verdict": ["MAYBE"]},
        {"event_type": ["trace"]}, {"event_type": [{"type": "x"}]}, {"protocol": ["quic"]}, {"reply": ["yes"]},
        {"http_status_code": ["abc"]}, {"http_path": ["("]}, {"dns_query": ["["]}, {"tcp_flags": [{"XYZ": True}]},
        {"tcp_flags": ["SYN"]}, {"node_name": [""]}, {"node_name": ["a/b/c"]}, {"node_name": ["node 1"]}, {"node_name": ["east/."]},
        {"source_fqdn": [""]}, {"source_fqdn": ["a..  "]}, {"source_fqdn": ["a/b"]}, {"source_fqdn": ["é.example"]},
        {"http_status_code": ["400+"]}, {"http_path": ["/"], "event_type": [{"type": 4}, {"type": 1}]},
        {"ip_version": ["IPv5"]}, {"http_url": ["x"]}, {"cel": ["true"]},
        {"source_": ["x"]}, {"pod": ["x"]}, [], 5,
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_with_its_field(wanted: Any) -> None:
    with pytest.raises(UsageError) as caught:
        FlowFilter.from_json(wanted)
    assert caught.value.message


@given(st.text(max_size=30))
def test_any_text_is_filters_or_refused(text: str) -> None:
    try:
        parse_filters(text)
    except UsageError as error:
        assert error.message  # noqa: PT017


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.just("1.2.3.4/99"))
VALUES = st.one_of(SCALARS, st.lists(st.one_of(SCALARS, st.dictionaries(st.text(max_size=4), SCALARS, max_size=2))))


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted(ALL)), VALUES, max_size=2))
def test_any_json_is_a_filter_or_refused(wanted: Doc) -> None:
    try:
        found = FlowFilter.from_json(wanted)
    except UsageError:
        return
    for flow in FLOWS[:20]:
        found.matches(flow)
