"""The protobuf decoder: what each field of a message means, and that nothing it is sent can break it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.flow import (
    EMPTY_ENDPOINT,
    Detail,
    DnsRecord,
    Flow,
    FlowEndpoint,
    HttpRecord,
    LostEvents,
    NodeStatus,
    PolicyRef,
    Skip,
    TcpFlags,
    Workload,
)
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from analyzer.sources import normal
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.pb.flow import flow_pb2
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.relay import relay_pb2
from tests.flows import flow_of
from tests.sources.hubble import START, at, response, some_flow


def decode(flow: dict[str, Any] | None = None, **envelope: Any) -> Any:
    return Decoder().decode(response(flow, **envelope).SerializeToString())


def test_every_field_of_a_common_flow_arrives() -> None:
    flow = decode(
        some_flow(
            1,
            trace_reason="NEW",
            source={
                "ID": 7,
                "identity": 1000,
                "cluster_name": "east",
                "namespace": "shop",
                "labels": ["k8s:b=2", "k8s:app=web"],
                "pod_name": "web-1",
                "workloads": [{"kind": "Deployment", "name": "web"}],
            },
        )
    )
    assert flow == flow_of(
        time=(START + 1) * 10**9,
        node="node-1",
        source=FlowEndpoint(
            Labels.of(["k8s:app=web", "k8s:b=2"]), "shop", "east", "web-1", (Workload("Deployment", "web"),), 7, 1000
        ),
        destination=FlowEndpoint(Labels.of(["k8s:app=db"]), "db", "", "db-0", (), 0, 2000),
        source_ip="10.0.0.1",
        destination_ip="10.0.0.2",
        protocol=Protocol.TCP,
        source_port=40001,
        destination_port=8080,
        tcp_flags=TcpFlags.SYN,
        verdict=1,
        kind=4,
        sub_type=0,
        drop_reason=0,
        direction=1,
        is_reply=False,
        trace_reason=1,
        uuid="u1",
    )


def test_an_endpoint_that_repeats_is_the_same_object() -> None:
    decoder = Decoder()
    first, second = (decoder.decode(response(some_flow(second)).SerializeToString()) for second in (1, 2))
    assert isinstance(first, Flow)
    assert isinstance(second, Flow)
    assert first.source is second.source
    assert first.source is not first.destination


@pytest.mark.parametrize("masked", [{}, {"source": {}, "destination": {}}])
def test_a_masked_flow_has_empty_endpoints_and_no_layer_4(masked: dict[str, Any]) -> None:
    flow = decode(masked)
    assert flow.source is EMPTY_ENDPOINT
    assert flow.destination is EMPTY_ENDPOINT
    assert flow.protocol is None
    assert flow.is_reply is None
    assert (flow.time, flow.kind, flow.weight, flow.aggregated, flow.detail) == (0, 0, 1, False, None)


@pytest.mark.parametrize(
    ("l4", "expected"),
    [
        ({"UDP": {"source_port": 5353, "destination_port": 53}}, (Protocol.UDP, 5353, 53, 0)),
        ({"SCTP": {"source_port": 1, "destination_port": 2}}, (Protocol.SCTP, 1, 2, 0)),
        ({"ICMPv4": {"type": 8, "code": 3}}, (Protocol.ICMP, 3, 8, 0)),
        ({"ICMPv6": {"type": 128}}, (Protocol.ICMPV6, 0, 128, 0)),
        ({"ICMPv4": {}}, (Protocol.ICMP, 0, 0, 0)),
        ({"VRRP": {"vrid": 3}}, (Protocol.VRRP, 0, 0, 0)),
        ({"IGMP": {}}, (Protocol.IGMP, 0, 0, 0)),
        ({"TCP": {"flags": {"SYN": True, "ACK": True, "NS": True}}}, (Protocol.TCP, 0, 0, 0x112)),
        ({}, (None, 0, 0, 0)),
    ],
)
def test_layer_4(l4: dict[str, Any], expected: tuple[object, ...]) -> None:
    flow = decode({"l4": l4})
    assert (flow.protocol, flow.source_port, flow.destination_port, flow.tcp_flags) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_reply": True}, True),
        ({"is_reply": False}, False),
        ({"is_reply": False, "reply": True}, False),
        ({"reply": True}, True),
        ({}, None),
    ],
)
def test_is_reply_folds_in_the_deprecated_field(fields: dict[str, Any], expected: bool | None) -> None:
    assert decode(fields).is_reply is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"event_type": {"type": 5}}, (5, 0)),
        ({"event_type": {"type": 4, "sub_type": 11}, "trace_observation_point": "TO_ENDPOINT"}, (4, 11)),
        ({"event_type": {"type": 1, "sub_type": 133}}, (1, 133)),
        ({"event_type": {}, "trace_observation_point": "TO_ENDPOINT"}, (4, 0)),
        ({"trace_observation_point": "TO_OVERLAY"}, (4, 4)),
        ({"Type": "L7", "trace_observation_point": "TO_OVERLAY"}, (129, 0)),
        ({"Type": "SOCK"}, (7, 0)),
        ({"policy_match_type": 2, "verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED"}, (5, 0)),
        ({"verdict": "DROPPED", "drop_reason_desc": "POLICY_DENIED"}, (1, 133)),
        ({"verdict": "AUDIT", "drop_reason_desc": "POLICY_DENIED"}, (0, 0)),
    ],
)
def test_kind_is_told_or_derived(fields: dict[str, Any], expected: tuple[int, int]) -> None:
    flow = decode(fields)
    assert (flow.kind, flow.sub_type) == expected


def test_the_drop_reason_is_the_new_field_or_the_old() -> None:
    assert decode({"drop_reason": 133}).drop_reason == 133
    assert decode({"drop_reason": 133, "drop_reason_desc": "POLICY_DENY"}).drop_reason == 181
    assert decode({"drop_reason_desc": 250}).drop_reason == 250


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"destination_names": ["Example.COM.", "example.com", "."]}, Detail(destination_names=("example.com",))),
        ({"source_names": ["a.b"]}, Detail(source_names=("a.b",))),
        ({"source_service": {"name": "api", "namespace": "shop"}}, Detail(source_service="shop/api")),
        ({"destination_service": {"name": "api"}}, Detail(destination_service="api")),
        ({"destination_service": {}}, None),
        ({"policy_match_type": 4}, Detail(policy_match_type=4)),
        ({"IP": {"source": "10.0.0.1", "source_xlated": "192.168.0.1"}}, Detail(source_xlated="192.168.0.1")),
        (
            {"l7": {"type": "RESPONSE", "http": {"code": 200, "method": "GET", "url": "http://U:p@Shop:80/a/b?c=d#e"}}},
            Detail(http=HttpRecord("GET", "/a/b", "shop:80", 200), l7_type=2),
        ),
        (
            {"l7": {"type": "REQUEST", "dns": {"query": "API.shop.", "ips": ["1.2.3.4"], "qtypes": ["A"], "rcode": 3}}},
            Detail(dns=DnsRecord("api.shop", ("1.2.3.4",), 3, (), ("A",)), l7_type=1),
        ),
        ({"l7": {"kafka": {"topic": "t"}, "type": "REQUEST"}}, Detail(l7_type=1)),
        ({"l7": {"kafka": {"topic": "t"}}}, None),
        (
            {"egress_denied_by": [{"name": "n", "namespace": "s", "kind": "CiliumNetworkPolicy", "revision": "3"}]},
            Detail(egress_denied_by=(PolicyRef("CiliumNetworkPolicy", "s", "n"),)),
        ),
        (
            {"ingress_allowed_by": [{"name": "a"}, {"name": "b"}], "source_names": ["x"]},
            Detail(source_names=("x",), ingress_allowed_by=(PolicyRef("", "", "a"), PolicyRef("", "", "b"))),
        ),
    ],
)
def test_detail(fields: dict[str, Any], expected: Detail | None) -> None:
    assert decode(fields).detail == expected


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ({"ingress_flow_count": 3, "egress_flow_count": 4, "unknown_direction_flow_count": 5}, (12, True)),
        ({}, (1, True)),
        (None, (1, False)),
    ],
)
def test_an_aggregated_record_weighs_what_it_stands_for(
    aggregate: dict[str, int] | None, expected: tuple[int, bool]
) -> None:
    flow = decode({"aggregate": aggregate} if aggregate is not None else {})
    assert (flow.weight, flow.aggregated, flow.detail) == (*expected, None)


def test_node_and_time_come_from_the_envelope_when_the_flow_lacks_them() -> None:
    flow = decode({"verdict": "FORWARDED"}, node_name="east/n1", time=at(5))
    assert (flow.node, flow.time) == ("east/n1", (START + 5) * 10**9)


def test_records_that_are_no_flows() -> None:
    assert decode(
        lost_events={"source": "HUBBLE_RING_BUFFER", "num_events_lost": "7", "cpu": 0}, node_name="n", time=at(0)
    ) == LostEvents("n", START * 10**9, 3, 7)
    assert decode(
        node_status={"state_change": "NODE_ERROR", "node_names": ["a", "b"], "message": "gone"}, time=at(0)
    ) == NodeStatus(("a", "b"), START * 10**9, 4, "gone")
    assert decode() is Skip.EMPTY
    agent_event = observer_pb2.ExportEvent(agent_event=flow_pb2.AgentEvent(type=2))
    assert Decoder().decode(agent_event.SerializeToString()) is Skip.AGENT_EVENT
    debug_event = observer_pb2.ExportEvent(debug_event=flow_pb2.DebugEvent(message="x"))
    assert Decoder().decode(debug_event.SerializeToString()) is Skip.DEBUG_EVENT


@pytest.mark.parametrize(
    "flow",
    [
        flow_pb2.Flow(l4=flow_pb2.Layer4(TCP=flow_pb2.TCP(destination_port=65536))),
        flow_pb2.Flow(l4=flow_pb2.Layer4(UDP=flow_pb2.UDP(source_port=2**32 - 1))),
        flow_pb2.Flow(l4=flow_pb2.Layer4(ICMPv4=flow_pb2.ICMPv4(type=256))),
        flow_pb2.Flow(event_type=flow_pb2.CiliumEventType(type=-1)),
        flow_pb2.Flow(verdict=-1),
        flow_pb2.Flow(time={"seconds": -1}),
        flow_pb2.Flow(time={"seconds": 2**62}),
    ],
)
def test_impossible_numbers_are_malformed(flow: Any) -> None:
    assert Decoder().decode(observer_pb2.GetFlowsResponse(flow=flow).SerializeToString()) is Skip.MALFORMED


def _nested(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


@pytest.mark.parametrize("field", [8, 9, 19, 26], ids=["source", "destination", "event_type", "is_reply"])
def test_a_field_that_is_no_message_is_malformed(field: int) -> None:
    key = bytes([field << 3 & 0x7F | 2 | 0x80, field >> 4]) if field > 15 else bytes([field << 3 | 2])
    assert Decoder().decode(_nested(1, key + b"\x02\xff\xff")) is Skip.MALFORMED


def test_a_label_that_is_not_utf_8_is_malformed() -> None:
    endpoint = b"\x22\x02\xff\xfe"
    assert Decoder().decode(_nested(1, _nested(8, endpoint))) is Skip.MALFORMED


def test_fields_and_numbers_of_newer_agents_are_let_through() -> None:
    flow = decode({**some_flow(1), "verdict": 42, "trace_reason": 99, "traffic_direction": 7})
    assert (flow.verdict, flow.trace_reason, flow.direction) == (42, 99, 7)
    unknown = b"\xf8\xff\x3f\x05"  # Field 131071, a number.
    flow_bytes = response(some_flow(1)).flow.SerializeToString() + unknown
    assert isinstance(Decoder().decode(b"\x0a" + _length(flow_bytes) + flow_bytes), Flow)


def _length(payload: bytes) -> bytes:
    count = len(payload)
    return bytes([count & 0x7F | 0x80, count >> 7])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    Decoder().decode(data)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_damage_to_a_message_raises(data: st.DataObject) -> None:
    message = bytearray(response(some_flow(1), node_name="n", time=at(1)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    Decoder().decode(bytes(message))


def test_the_cache_of_endpoints_is_bounded_and_forgetting_changes_nothing() -> None:
    decoded: list[bytes] = []
    cache = normal.Interned(lambda raw: decoded.append(raw) or len(raw), entries=3, longest=4)  # type: ignore[func-returns-value]
    assert [cache[key] for key in (b"a", b"bb", b"a", b"ccc", b"dddd", b"a", b"12345", b"12345")] == [
        1,
        2,
        1,
        3,
        4,
        1,
        5,
        5,
    ]
    assert len(cache) <= 3
    assert decoded.count(b"12345") == 2


@pytest.mark.parametrize(
    ("table", "enumeration"),
    [
        (normal.VERDICTS, flow_pb2.Verdict),
        (normal.DIRECTIONS, flow_pb2.TrafficDirection),
        (normal.DROP_REASONS, flow_pb2.DropReason),
        (normal.TRACE_REASONS, flow_pb2.TraceReason),
        (normal.OBSERVATION_POINTS, flow_pb2.TraceObservationPoint),
        (normal.FLOW_TYPES, flow_pb2.FlowType),
        (normal.L7_TYPES, flow_pb2.L7FlowType),
        (normal.LOST_SOURCES, flow_pb2.LostEventSource),
        (normal.NODE_STATES, relay_pb2.NodeState),
    ],
)
def test_the_number_tables_are_those_of_the_protos(table: Mapping[str, int], enumeration: Any) -> None:
    assert dict(table) == dict(enumeration.items())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://shop.example/a?token=1", ("shop.example", "/a")),
        ("http://shop.example", ("shop.example", "/")),
        ("http://shop.example?x=/y", ("shop.example", "/")),
        ("//Shop/a", ("shop", "/a")),
        ("/a/b?c#d", ("", "/a/b")),
        ("/redirect?to=http://x/y", ("", "/redirect")),
        ("/a/http://x/y", ("", "/a/http://x/y")),
        ("https://user:secret@h:443/p@q", ("h:443", "/p@q")),
        ("*", ("", "*")),
        ("", ("", "")),
        ("http://[::1/x", ("[::1", "/x")),
    ],
)
def test_http_path(url: str, expected: tuple[str, str]) -> None:
    assert normal.http_path(url) == expected


def test_our_messages_do_not_clash_with_other_protos_of_the_same_name() -> None:
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
other = descriptor_pb2.FileDescriptorProto(name="flow/flow.proto", package="flow")
other.message_type.add(name="Flow")
descriptor_pool.Default().Add(other)
from analyzer.sources.pb.observer import observer_pb2
assert observer_pb2.GetFlowsResponse().flow.DESCRIPTOR.fields_by_name["verdict"]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
