"""The fast protobuf decoder is held to a slow and obvious one that reads the whole message field by field."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.flow import Detail, DnsRecord, Flow, FlowEndpoint, HttpRecord, PolicyRef, TcpFlags, Workload
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from analyzer.sources import normal
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.pb.observer import observer_pb2
from tests.flows import flow_of
from tests.sources.messages import RESPONSE


def slowly(message: Any) -> Flow:
    flow = message.flow
    l4 = layer4(flow.l4)
    reply: bool | None = flow.is_reply.value if flow.HasField("is_reply") else None
    drop_reason = flow.drop_reason_desc if flow.drop_reason_desc else flow.drop_reason
    kind, sub_type = flow.event_type.type, flow.event_type.sub_type
    if kind == 0:
        kind, sub_type = normal.event_kind(
            flow.Type, flow.trace_observation_point, flow.policy_match_type, flow.verdict, drop_reason
        )
    counters = flow.aggregate
    total = counters.ingress_flow_count + counters.egress_flow_count + counters.unknown_direction_flow_count
    return flow_of(
        time=(flow if flow.HasField("time") else message).time.ToNanoseconds(),
        node=flow.node_name or message.node_name,
        source=endpoint(flow.source),
        destination=endpoint(flow.destination),
        source_ip=flow.IP.source,
        destination_ip=flow.IP.destination,
        protocol=l4[0],
        source_port=l4[1],
        destination_port=l4[2],
        tcp_flags=l4[3],
        verdict=flow.verdict,
        kind=kind,
        sub_type=sub_type,
        drop_reason=drop_reason,
        direction=flow.traffic_direction,
        is_reply=True if reply is None and flow.reply else reply,
        trace_reason=flow.trace_reason,
        uuid=flow.uuid,
        weight=total or 1,
        aggregated=flow.HasField("aggregate"),
        detail=None if detail(flow) == Detail() else detail(flow),
    )


def layer4(l4: Any) -> tuple[Protocol | None, int, int, int]:
    if l4.HasField("TCP"):
        flags = sum(flag for flag in TcpFlags if getattr(l4.TCP.flags, flag.name or ""))
        return Protocol.TCP, l4.TCP.source_port, l4.TCP.destination_port, flags
    for name, protocol in (("UDP", Protocol.UDP), ("SCTP", Protocol.SCTP)):
        if l4.HasField(name):
            return protocol, getattr(l4, name).source_port, getattr(l4, name).destination_port, 0
    for name, protocol in (("ICMPv4", Protocol.ICMP), ("ICMPv6", Protocol.ICMPV6)):
        if l4.HasField(name):
            return protocol, getattr(l4, name).code, getattr(l4, name).type, 0
    if l4.HasField("VRRP"):
        return Protocol.VRRP, 0, 0, 0
    return Protocol.IGMP if l4.HasField("IGMP") else None, 0, 0, 0


def endpoint(message: Any) -> FlowEndpoint:
    return FlowEndpoint(
        labels=Labels.of(message.labels),
        namespace=message.namespace,
        cluster=message.cluster_name,
        pod=message.pod_name,
        workloads=tuple(Workload(kind=x.kind, name=x.name) for x in message.workloads),
        endpoint_id=message.ID,
        identity=message.identity,
    )


def detail(flow: Any) -> Detail:
    http = dns = None
    if flow.l7.HasField("http"):
        host, path = normal.http_path(flow.l7.http.url)
        http = HttpRecord(method=flow.l7.http.method, path=path, host=host, code=flow.l7.http.code)
    if flow.l7.HasField("dns"):
        found = flow.l7.dns
        dns = DnsRecord(
            query=normal.name(found.query),
            ips=tuple(found.ips),
            rcode=found.rcode,
            cnames=normal.names(found.cnames),
            qtypes=tuple(found.qtypes),
        )
    return Detail(
        source_names=normal.names(flow.source_names),
        destination_names=normal.names(flow.destination_names),
        source_service=normal.service_name(flow.source_service.namespace, flow.source_service.name),
        destination_service=normal.service_name(flow.destination_service.namespace, flow.destination_service.name),
        http=http,
        dns=dns,
        l7_type=flow.l7.type,
        egress_allowed_by=policies(flow.egress_allowed_by),
        ingress_allowed_by=policies(flow.ingress_allowed_by),
        egress_denied_by=policies(flow.egress_denied_by),
        ingress_denied_by=policies(flow.ingress_denied_by),
        policy_match_type=flow.policy_match_type,
        source_xlated=flow.IP.source_xlated,
    )


def policies(messages: Any) -> tuple[PolicyRef, ...]:
    return tuple(PolicyRef(kind=x.kind, namespace=x.namespace, name=x.name) for x in messages)


@settings(deadline=None, max_examples=400)
@given(RESPONSE)
def test_the_fast_decoder_gives_what_the_slow_one_gives(message: Any) -> None:
    assert Decoder().decode(message.SerializeToString()) == slowly(message)


@settings(deadline=None, max_examples=50)
@given(st.lists(RESPONSE, max_size=10))
def test_what_was_decoded_before_changes_nothing(messages: list[Any]) -> None:
    decoder = Decoder()
    for message in messages:
        data = observer_pb2.GetFlowsResponse.SerializeToString(message)
        assert decoder.decode(data) == Decoder().decode(data)
