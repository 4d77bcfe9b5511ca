"""GetFlowsResponse bytes to records: the decoder of everything that speaks gRPC.

It parses the lazy messages of protos/analyzer/hot.proto: endpoints, flags and event types stay bytes and are looked up in
bounded caches, and what only some flows carry is read a second time, only for those. What values mean is in `normal`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BoolValue

from analyzer.model.flow import (
    EMPTY_ENDPOINT,
    Detail,
    DnsRecord,
    Flow,
    FlowEndpoint,
    Form,
    HttpRecord,
    LostEvents,
    NodeStatus,
    PolicyRef,
    Skip,
    TcpFlags,
)
from analyzer.model.l4 import Protocol
from analyzer.sources import normal
from analyzer.sources.base import Record
from analyzer.sources.pb.analyzer import hot_pb2
from analyzer.sources.pb.flow import flow_pb2
from analyzer.sources.pb.relay import relay_pb2

__all__ = ["Decoder"]

_FLAGS = tuple((flag.name or "", int(flag)) for flag in TcpFlags)
_PORTS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
_ICMP = {"ICMPv4": Protocol.ICMP, "ICMPv6": Protocol.ICMPV6}
_PORTLESS = {"VRRP": Protocol.VRRP, "IGMP": Protocol.IGMP}
_SECOND = 1_000_000_000
_PLAIN = (1, False, None)
_NO_NAMES, _NO_LAYER7, _NO_POLICIES = Detail()[:4], Detail()[4:7], Detail()[7:12]
_NO_LAYER4 = (None, 0, 0, 0)


class _OutOfRangeError(ValueError):
    """A number that no packet and no clock can have."""


class Decoder:
    """Decodes messages of one stream or of many; its caches are bounded. Not to be shared between threads."""

    __slots__ = ("_booleans", "_endpoints", "_event_types", "_flags")

    def __init__(self) -> None:
        self._endpoints = normal.Interned(_endpoint)
        self._event_types = normal.Interned(_event_type)
        self._flags = normal.Interned(_tcp_flags)
        self._booleans = normal.Interned(_boolean)
        self._endpoints[b""] = EMPTY_ENDPOINT

    def decode(self, data: bytes) -> Record:
        """The record in one GetFlowsResponse (or ExportEvent). Never raises: what cannot be read is a `Skip`."""
        try:
            message = hot_pb2.Response.FromString(data)
            if message.HasField("flow"):
                return self._flow(message, data)
            return _other(message)
        except (DecodeError, _OutOfRangeError):
            return Skip.MALFORMED

    def _flow(self, message: Any, data: bytes) -> Flow:
        flow = message.flow
        verdict = flow.verdict
        drop_reason = flow.drop_reason_desc or flow.drop_reason
        kind, sub_type = self._event_types[flow.event_type]
        ip = flow.IP
        weight, aggregated, detail = _detail(flow, data, ip.source_xlated)
        if not kind:
            match_type = detail.policy_match_type if detail else 0
            kind, sub_type = normal.event_kind(
                flow.Type, flow.trace_observation_point, match_type, verdict, drop_reason
            )
        direction, trace_reason = flow.traffic_direction, flow.trace_reason
        if (verdict | drop_reason | kind | sub_type | direction | trace_reason) < 0:
            raise _OutOfRangeError
        protocol, source_port, destination_port, tcp_flags = self._layer4(flow.l4)
        reply = flow.is_reply
        endpoints = self._endpoints
        # tuple.__new__ spares the keyword machinery of NamedTuple: a fifth of the decoder's time.
        values = (
            flow.node_name or message.node_name,
            endpoints[flow.source],
            endpoints[flow.destination],
            protocol,
            tcp_flags,
            verdict,
            kind,
            sub_type,
            drop_reason,
            direction,
            self._booleans[reply] if reply or flow.HasField("is_reply") else flow.reply or None,
            trace_reason,
            weight,
            aggregated,
            detail,
        )
        # A stream of many nodes has more forms than could be kept.
        form = tuple.__new__(Form, values)
        time = _time(flow.time) or (0 if flow.HasField("time") else _time(message.time))
        return tuple.__new__(Flow, (time, flow.uuid, ip.source, ip.destination, source_port, destination_port, form))

    def _layer4(self, l4: Any) -> tuple[Protocol | None, int, int, int]:
        """Protocol, source port, destination port and TCP flags."""
        chosen = l4.WhichOneof("protocol")
        if chosen == "TCP":
            tcp = l4.TCP
            return Protocol.TCP, _port(tcp.source_port), _port(tcp.destination_port), self._flags[tcp.flags]
        if chosen in _PORTS:
            ports = getattr(l4, chosen)
            return _PORTS[chosen], _port(ports.source_port), _port(ports.destination_port), 0
        if chosen in _ICMP:
            icmp = getattr(l4, chosen)
            if icmp.type > normal.MAX_ICMP or icmp.code > normal.MAX_ICMP:
                raise _OutOfRangeError
            return _ICMP[chosen], icmp.code, icmp.type, 0
        return _NO_LAYER4 if chosen is None else (_PORTLESS[chosen], 0, 0, 0)


def _port(number: int) -> int:
    if number > normal.MAX_PORT:
        raise _OutOfRangeError
    return number


def _time(stamp: Any) -> int:
    time: int = stamp.seconds * _SECOND + stamp.nanos
    if not 0 <= time <= normal.MAX_TIME:
        raise _OutOfRangeError
    return time


def _endpoint(raw: bytes) -> FlowEndpoint:
    message = flow_pb2.Endpoint.FromString(raw)
    return normal.endpoint(
        message.labels,
        message.namespace,
        message.cluster_name,
        message.pod_name,
        ((workload.kind, workload.name) for workload in message.workloads),
        message.ID,
        message.identity,
    )


def _event_type(raw: bytes) -> tuple[int, int]:
    message = flow_pb2.CiliumEventType.FromString(raw)
    return message.type, message.sub_type


def _tcp_flags(raw: bytes) -> int:
    message = flow_pb2.TCPFlags.FromString(raw)
    return sum(bit for flag, bit in _FLAGS if getattr(message, flag))


def _boolean(raw: bytes) -> bool:
    return bool(BoolValue.FromString(raw).value)


def _detail(flow: Any, data: bytes, xlated: str) -> tuple[int, bool, Detail | None]:
    """Weight, whether it is an aggregate, and the detail of a flow, of which most flows have none."""
    named, judged, l7 = flow.HasField("named"), flow.HasField("judged"), flow.l7
    if not (named or judged or l7 or xlated):
        return _PLAIN
    rare = hot_pb2.RareResponse.FromString(data).flow if named or judged else None
    names = _names(rare) if named else _NO_NAMES
    records = _layer7(l7) if l7 else _NO_LAYER7
    policies = _policies(rare) if judged else _NO_POLICIES
    weight, aggregated = _weight(rare) if judged else (1, False)
    detail: Detail = tuple.__new__(Detail, (*names, *records, *policies, xlated))
    return weight, aggregated, normal.detail_or_none(detail)


def _names(flow: Any) -> tuple[object, ...]:
    """The first fields of `Detail`, up to the services."""
    source, destination = flow.source_service, flow.destination_service
    return (
        normal.names(flow.source_names),
        normal.names(flow.destination_names),
        normal.service_name(source.namespace, source.name),
        normal.service_name(destination.namespace, destination.name),
    )


def _layer7(raw: bytes) -> tuple[object, ...]:
    """The fields of `Detail` about layer 7: the HTTP record, the DNS record, the type."""
    l7 = flow_pb2.Layer7.FromString(raw)
    record = l7.WhichOneof("record")
    return _http(l7.http) if record == "http" else None, _dns(l7.dns) if record == "dns" else None, l7.type


def _policies(flow: Any) -> tuple[object, ...]:
    """The fields of `Detail` about policies, up to the match type."""
    return (
        _refs(flow.egress_allowed_by),
        _refs(flow.ingress_allowed_by),
        _refs(flow.egress_denied_by),
        _refs(flow.ingress_denied_by),
        flow.policy_match_type,
    )


def _refs(messages: Collection[Any]) -> tuple[PolicyRef, ...]:
    return tuple([PolicyRef(x.kind, x.namespace, x.name) for x in messages]) if messages else ()


def _weight(flow: Any) -> tuple[int, bool]:
    counters = flow.aggregate
    weight = normal.weight(
        counters.ingress_flow_count, counters.egress_flow_count, counters.unknown_direction_flow_count
    )
    return weight, flow.HasField("aggregate")


def _http(message: Any) -> HttpRecord:
    host, path = normal.http_path(message.url)
    return HttpRecord(message.method, path, host, message.code)


def _dns(message: Any) -> DnsRecord:
    return DnsRecord(
        normal.name(message.query),
        tuple(message.ips),
        message.rcode,
        normal.names(message.cnames),
        tuple(message.qtypes),
    )


def _lost_events(message: Any) -> LostEvents:
    lost = flow_pb2.LostEvent.FromString(message.lost_events)
    return LostEvents(message.node_name, _time(message.time), lost.source, lost.num_events_lost)


def _node_status(message: Any) -> NodeStatus:
    status = relay_pb2.NodeStatusEvent.FromString(message.node_status)
    return NodeStatus(tuple(status.node_names), _time(message.time), status.state_change, status.message)


_OTHERS: dict[str | None, Callable[[Any], Record]] = {
    "lost_events": _lost_events,
    "node_status": _node_status,
    "agent_event": lambda message: Skip.AGENT_EVENT,
    "debug_event": lambda message: Skip.DEBUG_EVENT,
    None: lambda message: Skip.EMPTY,
}


def _other(message: Any) -> Record:
    return _OTHERS[message.WhichOneof("response_types")](message)
