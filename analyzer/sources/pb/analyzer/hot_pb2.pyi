from analyzer.sources.pb.flow import flow_pb2 as _flow_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Response(_message.Message):
    __slots__ = ("flow", "node_status", "lost_events", "agent_event", "debug_event", "node_name", "time")
    FLOW_FIELD_NUMBER: _ClassVar[int]
    NODE_STATUS_FIELD_NUMBER: _ClassVar[int]
    LOST_EVENTS_FIELD_NUMBER: _ClassVar[int]
    AGENT_EVENT_FIELD_NUMBER: _ClassVar[int]
    DEBUG_EVENT_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    flow: Flow
    node_status: bytes
    lost_events: bytes
    agent_event: bytes
    debug_event: bytes
    node_name: str
    time: Time
    def __init__(self, flow: _Optional[_Union[Flow, _Mapping]] = ..., node_status: _Optional[bytes] = ..., lost_events: _Optional[bytes] = ..., agent_event: _Optional[bytes] = ..., debug_event: _Optional[bytes] = ..., node_name: _Optional[str] = ..., time: _Optional[_Union[Time, _Mapping]] = ...) -> None: ...

class Time(_message.Message):
    __slots__ = ("seconds", "nanos")
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    seconds: int
    nanos: int
    def __init__(self, seconds: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class Flow(_message.Message):
    __slots__ = ("time", "uuid", "verdict", "IP", "l4", "source", "destination", "node_name", "event_type", "traffic_direction", "trace_reason", "is_reply", "drop_reason", "drop_reason_desc", "l7", "Type", "trace_observation_point", "reply", "source_names", "destination_names", "source_service", "destination_service", "policy_match_type", "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by", "aggregate")
    TIME_FIELD_NUMBER: _ClassVar[int]
    UUID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    IP_FIELD_NUMBER: _ClassVar[int]
    L4_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    NODE_NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    TRACE_REASON_FIELD_NUMBER: _ClassVar[int]
    IS_REPLY_FIELD_NUMBER: _ClassVar[int]
    DROP_REASON_FIELD_NUMBER: _ClassVar[int]
    DROP_REASON_DESC_FIELD_NUMBER: _ClassVar[int]
    L7_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TRACE_OBSERVATION_POINT_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NAMES_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAMES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_SERVICE_FIELD_NUMBER: _ClassVar[int]
    POLICY_MATCH_TYPE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_ALLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ALLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    EGRESS_DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    INGRESS_DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    time: Time
    uuid: str
    verdict: int
    IP: IP
    l4: Layer4
    source: bytes
    destination: bytes
    node_name: str
    event_type: bytes
    traffic_direction: int
    trace_reason: int
    is_reply: bytes
    drop_reason: int
    drop_reason_desc: int
    l7: bytes
    Type: int
    trace_observation_point: int
    reply: bool
    source_names: bytes
    destination_names: bytes
    source_service: bytes
    destination_service: bytes
    policy_match_type: int
    egress_allowed_by: bytes
    ingress_allowed_by: bytes
    egress_denied_by: bytes
    ingress_denied_by: bytes
    aggregate: bytes
    def __init__(self, time: _Optional[_Union[Time, _Mapping]] = ..., uuid: _Optional[str] = ..., verdict: _Optional[int] = ..., IP: _Optional[_Union[IP, _Mapping]] = ..., l4: _Optional[_Union[Layer4, _Mapping]] = ..., source: _Optional[bytes] = ..., destination: _Optional[bytes] = ..., node_name: _Optional[str] = ..., event_type: _Optional[bytes] = ..., traffic_direction: _Optional[int] = ..., trace_reason: _Optional[int] = ..., is_reply: _Optional[bytes] = ..., drop_reason: _Optional[int] = ..., drop_reason_desc: _Optional[int] = ..., l7: _Optional[bytes] = ..., Type: _Optional[int] = ..., trace_observation_point: _Optional[int] = ..., reply: _Optional[bool] = ..., source_names: _Optional[bytes] = ..., destination_names: _Optional[bytes] = ..., source_service: _Optional[bytes] = ..., destination_service: _Optional[bytes] = ..., policy_match_type: _Optional[int] = ..., egress_allowed_by: _Optional[bytes] = ..., ingress_allowed_by: _Optional[bytes] = ..., egress_denied_by: _Optional[bytes] = ..., ingress_denied_by: _Optional[bytes] = ..., aggregate: _Optional[bytes] = ...) -> None: ...

class IP(_message.Message):
    __slots__ = ("source", "destination", "source_xlated")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_XLATED_FIELD_NUMBER: _ClassVar[int]
    source: str
    destination: str
    source_xlated: str
    def __init__(self, source: _Optional[str] = ..., destination: _Optional[str] = ..., source_xlated: _Optional[str] = ...) -> None: ...

class Layer4(_message.Message):
    __slots__ = ("TCP", "UDP", "ICMPv4", "ICMPv6", "SCTP", "VRRP", "IGMP")
    TCP_FIELD_NUMBER: _ClassVar[int]
    UDP_FIELD_NUMBER: _ClassVar[int]
    ICMPV4_FIELD_NUMBER: _ClassVar[int]
    ICMPV6_FIELD_NUMBER: _ClassVar[int]
    SCTP_FIELD_NUMBER: _ClassVar[int]
    VRRP_FIELD_NUMBER: _ClassVar[int]
    IGMP_FIELD_NUMBER: _ClassVar[int]
    TCP: TCP
    UDP: Ports
    ICMPv4: ICMP
    ICMPv6: ICMP
    SCTP: Ports
    VRRP: bytes
    IGMP: bytes
    def __init__(self, TCP: _Optional[_Union[TCP, _Mapping]] = ..., UDP: _Optional[_Union[Ports, _Mapping]] = ..., ICMPv4: _Optional[_Union[ICMP, _Mapping]] = ..., ICMPv6: _Optional[_Union[ICMP, _Mapping]] = ..., SCTP: _Optional[_Union[Ports, _Mapping]] = ..., VRRP: _Optional[bytes] = ..., IGMP: _Optional[bytes] = ...) -> None: ...

class TCP(_message.Message):
    __slots__ = ("source_port", "destination_port", "flags")
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_PORT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    source_port: int
    destination_port: int
    flags: bytes
    def __init__(self, source_port: _Optional[int] = ..., destination_port: _Optional[int] = ..., flags: _Optional[bytes] = ...) -> None: ...

class Ports(_message.Message):
    __slots__ = ("source_port", "destination_port")
    SOURCE_PORT_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_PORT_FIELD_NUMBER: _ClassVar[int]
    source_port: int
    destination_port: int
    def __init__(self, source_port: _Optional[int] = ..., destination_port: _Optional[int] = ...) -> None: ...

class ICMP(_message.Message):
    __slots__ = ("type", "code")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    type: int
    code: int
    def __init__(self, type: _Optional[int] = ..., code: _Optional[int] = ...) -> None: ...

class RareResponse(_message.Message):
    __slots__ = ("flow",)
    FLOW_FIELD_NUMBER: _ClassVar[int]
    flow: Rare
    def __init__(self, flow: _Optional[_Union[Rare, _Mapping]] = ...) -> None: ...

class Rare(_message.Message):
    __slots__ = ("source_names", "destination_names", "source_service", "destination_service", "policy_match_type", "egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by", "aggregate")
    SOURCE_NAMES_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_NAMES_FIELD_NUMBER: _ClassVar[int]
    SOURCE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_SERVICE_FIELD_NUMBER: _ClassVar[int]
    POLICY_MATCH_TYPE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_ALLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    INGRESS_ALLOWED_BY_FIELD_NUMBER: _ClassVar[int]
    EGRESS_DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    INGRESS_DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    source_names: _containers.RepeatedScalarFieldContainer[str]
    destination_names: _containers.RepeatedScalarFieldContainer[str]
    source_service: _flow_pb2.Service
    destination_service: _flow_pb2.Service
    policy_match_type: int
    egress_allowed_by: _containers.RepeatedCompositeFieldContainer[_flow_pb2.Policy]
    ingress_allowed_by: _containers.RepeatedCompositeFieldContainer[_flow_pb2.Policy]
    egress_denied_by: _containers.RepeatedCompositeFieldContainer[_flow_pb2.Policy]
    ingress_denied_by: _containers.RepeatedCompositeFieldContainer[_flow_pb2.Policy]
    aggregate: _flow_pb2.Aggregate
    def __init__(self, source_names: _Optional[_Iterable[str]] = ..., destination_names: _Optional[_Iterable[str]] = ..., source_service: _Optional[_Union[_flow_pb2.Service, _Mapping]] = ..., destination_service: _Optional[_Union[_flow_pb2.Service, _Mapping]] = ..., policy_match_type: _Optional[int] = ..., egress_allowed_by: _Optional[_Iterable[_Union[_flow_pb2.Policy, _Mapping]]] = ..., ingress_allowed_by: _Optional[_Iterable[_Union[_flow_pb2.Policy, _Mapping]]] = ..., egress_denied_by: _Optional[_Iterable[_Union[_flow_pb2.Policy, _Mapping]]] = ..., ingress_denied_by: _Optional[_Iterable[_Union[_flow_pb2.Policy, _Mapping]]] = ..., aggregate: _Optional[_Union[_flow_pb2.Aggregate, _Mapping]] = ...) -> None: ...
