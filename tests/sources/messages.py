"""Hypothesis strategies for what goes over the wire: GetFlowsResponse messages of every shape, and their JSON form."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format
from hypothesis import strategies as st

from analyzer.model.flow import TcpFlags
from analyzer.sources import normal
from analyzer.sources.pb.pool import POOL
from tests.sources.hubble import response

__all__ = ["RESPONSE", "USUAL", "json_form"]

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
ENVELOPE = some(node_name=TEXT, time=TIME)
RESPONSE = st.builds(lambda flow, envelope: response(flow, **envelope), FLOW, ENVELOPE)

NAMED = st.sampled_from(["node-1", "east/node-1"])
WELL_KNOWN = st.integers(1, 65535)
USUAL = st.builds(
    lambda flow, usual, l4: response({**flow, **usual, **l4}, node_name=usual["node_name"], time=usual["time"]),
    FLOW,
    st.fixed_dictionaries(
        {
            "time": TIME,
            "node_name": NAMED,
            "event_type": st.fixed_dictionaries({"type": st.integers(1, 200)}, optional={"sub_type": BYTE}),
        }
    ),
    st.one_of(
        st.sampled_from([{"l4": {"ICMPv4": {"type": 8}}}, {"l4": {"ICMPv6": {"type": 3, "code": 4}}}]),
        st.fixed_dictionaries(
            {
                "l4": st.one_of(
                    *(
                        st.fixed_dictionaries(
                            {
                                name: st.fixed_dictionaries(
                                    {"source_port": WELL_KNOWN, "destination_port": WELL_KNOWN},
                                    optional={"flags": FLAGS} if name == "TCP" else {},
                                )
                            }
                        )
                        for name in ("TCP", "UDP", "SCTP")
                    )
                )
            }
        ),
    ),
)
"""Flows as agents write them: with a time, a node, an event type and ports that are not 0."""


def json_form(message: Any) -> dict[str, Any]:
    """The JSON form of a message, as Hubble writes it."""
    form: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=POOL)
    return form
