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
from tests.sources.hubble import response

# Messages

TEXT = st.sampled_from(["", "a", "web-1", "shop", "A.Example.COM.", "é", "\x00", "k8s:app=web"])
PORT = st.integers(0, 65535)
COUNT = st.integers(0, 2**32 - 1)
BYTE = st.integers(0, 255)


def table(numbers: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([*numbers, *numbers.values(), 99])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def one_of(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A oneof: at most one of the fields."""
    return st.one_of(st.just({}), *(st.fixed_dictionaries({name: value}) for name, value in fields.items()))


ENDPOINT = some(
    ID=COUNT,
    identity=COUNT,
    cluster_name=TEXT,
    namespace=TEXT,
    pod_name=TEXT,
    labels=st.lists(TEXT, max_size=3),
    workloads=st.lists(some(kind=TEXT, name=TEXT), max_size=2),
)
PORTS = some(source_port=PORT, destination_port=PORT)
FLAGS = some(**{flag.name or "": st.booleans() for flag in TcpFlags})
ICMP = some(type=BYTE, code=BYTE)
LAYER4 = one_of(
    TCP=some(source_port=PORT, destination_port=PORT, flags=FLAGS),
    UDP=PORTS,
    SCTP=PORTS,
    ICMPv4=ICMP,
    ICMPv6=ICMP,
    VRRP=some(vrid=BYTE),
    IGMP=some(type=BYTE),
)
HTTP = some(code=COUNT, method=TEXT, url=st.sampled_from(["", "/a?b", "http://h/a", "http://h", "//h/a", "*"]))
DNS = some(
    query=TEXT,
    ips=st.lists(TEXT, max_size=2),
    rcode=COUNT,
    cnames=st.lists(TEXT, max_size=2),
    qtypes=st.lists(TEXT, max_size=2),
)
LAYER7 = st.builds(
    lambda head, record: {**head, **record},
    some(type=table(normal.L7_TYPES), latency_ns=COUNT),
    one_of(http=HTTP, dns=DNS, kafka=some(topic=TEXT)),
)
POLICIES = st.lists(some(name=TEXT, namespace=TEXT, kind=TEXT, labels=st.lists(TEXT, max_size=1)), max_size=2)
SERVICE = some(name=TEXT, namespace=TEXT)
TIME = st.sampled_from(["1970-01-01T00:00:00Z", "2026-09-01T00:00:00.100Z", "2026-09-01T00:00:00.123456789Z"])
FLOW = some(
    time=TIME,
    uuid=TEXT,
    verdict=table(normal.VERDICTS),
    drop_reason=COUNT,
    drop_reason_desc=table(normal.DROP_REASONS),
    IP=some(source=TEXT, destination=TEXT, source_xlated=TEXT),
    l4=LAYER4,
    source=ENDPOINT,
    destination=ENDPOINT,
    Type=table(normal.FLOW_TYPES),
    node_name=TEXT,
    source_names=st.lists(TEXT, max_size=3),
    destination_names=st.lists(TEXT, max_size=3),
    l7=LAYER7,
    reply=st.booleans(),
    is_reply=st.booleans(),
    event_type=some(type=st.integers(0, 200), sub_type=st.integers(0, 200)),
    source_service=SERVICE,
    destination_service=SERVICE,
    traffic_direction=table(normal.DIRECTIONS),
    policy_match_type=COUNT,
    trace_observation_point=table(normal.OBSERVATION_POINTS),
    trace_reason=table(normal.TRACE_REASONS),
    egress_allowed_by=POLICIES,
    ingress_allowed_by=POLICIES,
    egress_denied_by=POLICIES,
    ingress_denied_by=POLICIES,
    aggregate=some(ingress_flow_count=COUNT, egress_flow_count=COUNT, unknown_direction_flow_count=COUNT),
    Summary=TEXT,
)
RESPONSE = st.builds(lambda flow, envelope: response(flow, **envelope), FLOW, some(node_name=TEXT, time=TIME))

# The slow decoder


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
    return Flow(
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
