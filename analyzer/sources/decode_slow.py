"""The obvious JSON decoder: what a line of Hubble JSON means, without any haste. The fast one is held equal to it.

It is also the fast decoder's way out for every line that is not in the usual shape: lowerCamel keys, bare flows, numbers
written as strings, nulls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from analyzer.model.flow import (
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

__all__ = ["parse_time", "slow_decode", "unwrap"]

_CRI = re.compile(rb"\S+ (?:stdout|stderr) ([FP])(?::\S*)? ?(.*)", re.DOTALL)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DEPTH = 4
"""Wrappings inside wrappings that are followed."""
FLOW_KEYS = frozenset({"verdict", "IP", "l4", "source", "destination", "Type", "event_type", "eventType", "l7"})
"""A top-level object with one of these is a bare flow, as CLIs before 0.11 wrote them."""
_PORTS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
_ICMP = {"ICMPv4": Protocol.ICMP, "ICMPv6": Protocol.ICMPV6}
_PORTLESS = {"VRRP": Protocol.VRRP, "IGMP": Protocol.IGMP}


def slow_decode(line: bytes) -> Record:
    """The record in one line, whatever it is wrapped in. Never raises: what cannot be read is a `Skip`."""
    try:
        return _record(_unwrapped(line))
    except (ValueError, RecursionError, OverflowError):
        return Skip.MALFORMED


def unwrap(line: bytes) -> tuple[bytes, bool]:
    """A line without its container runtime (CRI) prefix, and whether it is complete (``P`` parts are not)."""
    if line[:1] == b"{":
        return line, True
    found = _CRI.fullmatch(line)
    return (found[2], found[1] == b"F") if found else (line, True)


def _unwrapped(line: bytes) -> dict[str, Any]:
    for _ in range(_DEPTH):
        body = json.loads(unwrap(line)[0].decode())  # of bytes, json.loads would take UTF-16 too
        if not isinstance(body, dict):
            break
        if "flow" in body or not isinstance(body.get("log"), str):
            return body
        line = body["log"].strip().encode()
    raise ValueError("no object of Hubble")


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in tail)


class _Message:
    """A JSON object read as a protobuf message: either spelling of a key, null as absent, numbers also as strings or floats."""

    def __init__(self, body: Any) -> None:
        if not isinstance(body, dict):
            raise ValueError("not an object")
        self._body: Mapping[str, Any] = body

    def get(self, name: str) -> Any:
        value = self._body.get(name)
        return self._body.get(_camel(name)) if value is None else value

    def text(self, name: str) -> str:
        value = self.get(name)
        return "" if value is None else _text(value)

    def texts(self, name: str) -> list[str]:
        return [_text(each) for each in self._list(name)]

    def number(self, name: str, limit: int = 2**64 - 1) -> int:
        value = self.get(name)
        return 0 if value is None else _number(value, limit)

    def enum(self, name: str, numbers: Mapping[str, int]) -> int:
        value = self.get(name)
        if isinstance(value, str):
            return numbers.get(value, 0)
        return 0 if value is None else _number(value, 2**31 - 1)

    def boolean(self, name: str) -> bool | None:
        value = self.get(name)
        if value is not None and not isinstance(value, bool):
            raise ValueError(f"{name} is not a boolean")
        return value

    def message(self, name: str) -> _Message | None:
        value = self.get(name)
        return None if value is None else _Message(value)

    def messages(self, name: str) -> list[_Message]:
        return [_Message(each) for each in self._list(name)]

    def _list(self, name: str) -> list[Any]:
        value = self.get(name)
        if value is not None and not isinstance(value, list):
            raise ValueError(f"{name} is not a list")
        return value or []


_NOTHING = _Message({})


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a string")
    value.encode()  # half a surrogate pair is no text
    return value


def _number(value: Any, limit: int) -> int:
    digits = isinstance(value, str) and value.isascii() and value.isdigit()
    if digits or (isinstance(value, float) and value.is_integer()):  # log shippers without integers write 8080.0
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= limit:
        raise ValueError("not a number in its range")
    return value


def parse_time(text: str) -> int:
    """RFC 3339 to nanoseconds since the epoch. Raises ValueError for other text and for times before 1970 or after 2262."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"not a time: {text!r}")
    day, clock, fraction, zone = found.groups()
    moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    time = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))
    if not 0 <= time <= normal.MAX_TIME:
        raise ValueError(f"time out of range: {text!r}")
    return time


def _time(message: _Message) -> int:
    text = message.text("time")
    return parse_time(text) if text else 0


def _record(body: dict[str, Any]) -> Record:
    envelope = _Message(body)
    flow = envelope.message("flow")
    if flow is not None:
        return _flow(flow, envelope)
    for name, decode in _OTHERS.items():
        found = envelope.message(name)
        if found is not None:
            return decode(found, envelope)
    return _flow(envelope, _NOTHING) if FLOW_KEYS & body.keys() else Skip.EMPTY


def _lost_events(lost: _Message, envelope: _Message) -> Record:
    source = lost.enum("source", normal.LOST_SOURCES)
    return LostEvents(envelope.text("node_name"), _time(envelope), source, lost.number("num_events_lost"))


def _node_status(status: _Message, envelope: _Message) -> Record:
    state = status.enum("state_change", normal.NODE_STATES)
    return NodeStatus(tuple(status.texts("node_names")), _time(envelope), state, status.text("message"))


_OTHERS: dict[str, Callable[[_Message, _Message], Record]] = {
    "lost_events": _lost_events,
    "node_status": _node_status,
    "agent_event": lambda message, envelope: Skip.AGENT_EVENT,
    "debug_event": lambda message, envelope: Skip.DEBUG_EVENT,
}


def _flow(flow: _Message, envelope: _Message) -> Flow:
    ip = flow.message("IP") or _NOTHING
    verdict = flow.enum("verdict", normal.VERDICTS)
    drop_reason = flow.enum("drop_reason_desc", normal.DROP_REASONS) or flow.number("drop_reason", 2**32 - 1)
    match_type = flow.number("policy_match_type", 2**32 - 1)
    kind, sub_type = _event_type(flow.message("event_type") or _NOTHING)
    if not kind:
        point = flow.enum("trace_observation_point", normal.OBSERVATION_POINTS)
        kind, sub_type = normal.event_kind(
            flow.enum("Type", normal.FLOW_TYPES), point, match_type, verdict, drop_reason
        )
    protocol, source_port, destination_port, flags = _layer4(flow.message("l4") or _NOTHING)
    reply = flow.boolean("is_reply")
    aggregate = flow.message("aggregate")
    form = Form(
        node=flow.text("node_name") or envelope.text("node_name"),
        source=decode_endpoint(flow.get("source")),
        destination=decode_endpoint(flow.get("destination")),
        protocol=protocol,
        tcp_flags=flags,
        verdict=verdict,
        kind=kind,
        sub_type=sub_type,
        drop_reason=drop_reason,
        direction=flow.enum("traffic_direction", normal.DIRECTIONS),
        is_reply=reply if reply is not None else flow.boolean("reply") or None,
        trace_reason=flow.enum("trace_reason", normal.TRACE_REASONS),
        weight=1 if aggregate is None else _weight(aggregate),
        aggregated=aggregate is not None,
        detail=_detail(flow, ip, match_type),
    )
    time = _time(flow if flow.text("time") else envelope)
    addresses = ip.text("source"), ip.text("destination")
    return Flow(time, flow.text("uuid"), *addresses, source_port, destination_port, form)


def _event_type(event: _Message) -> tuple[int, int]:
    return event.number("type", 2**31 - 1), event.number("sub_type", 2**31 - 1)


def _weight(aggregate: _Message) -> int:
    names = ("ingress_flow_count", "egress_flow_count", "unknown_direction_flow_count")
    return normal.weight(*(aggregate.number(name, 2**32 - 1) for name in names))


def decode_endpoint(body: Any) -> FlowEndpoint:
    """An endpoint's JSON object, or None where it is absent."""
    end = _NOTHING if body is None else _Message(body)
    return normal.endpoint(
        end.texts("labels"),
        end.text("namespace"),
        end.text("cluster_name"),
        end.text("pod_name"),
        [(each.text("kind"), each.text("name")) for each in end.messages("workloads")],
        end.number("ID", 2**32 - 1),
        end.number("identity", 2**32 - 1),
    )


def _layer4(l4: _Message) -> tuple[Protocol | None, int, int, int]:
    for name, protocol in _PORTS.items():
        ports = l4.message(name)
        if ports is not None:
            source, destination = (ports.number(each, normal.MAX_PORT) for each in ("source_port", "destination_port"))
            flags = decode_flags(ports.get("flags")) if protocol is Protocol.TCP else 0
            return protocol, source, destination, flags
    for name, protocol in _ICMP.items():
        icmp = l4.message(name)
        if icmp is not None:
            kind, code = (icmp.number(each, normal.MAX_ICMP) for each in ("type", "code"))
            return protocol, code, kind, 0
    for name, protocol in _PORTLESS.items():
        if l4.message(name) is not None:
            return protocol, 0, 0, 0
    return None, 0, 0, 0


def decode_flags(body: Any) -> int:
    """TCP flags' JSON object, or None where it is absent."""
    flags = _NOTHING if body is None else _Message(body)
    return sum(int(flag) for flag in TcpFlags if flags.boolean(flag.name or ""))


def _detail(flow: _Message, ip: _Message, match_type: int) -> Detail | None:
    l7 = flow.message("l7") or _NOTHING
    http, dns = l7.message("http"), l7.message("dns")
    source, destination = (flow.message(name) or _NOTHING for name in ("source_service", "destination_service"))
    return normal.detail_or_none(
        Detail(
            normal.names(flow.texts("source_names")),
            normal.names(flow.texts("destination_names")),
            normal.service_name(source.text("namespace"), source.text("name")),
            normal.service_name(destination.text("namespace"), destination.text("name")),
            None if http is None else _http(http),
            None if dns is None else _dns(dns),
            l7.enum("type", normal.L7_TYPES),
            _policies(flow, "egress_allowed_by"),
            _policies(flow, "ingress_allowed_by"),
            _policies(flow, "egress_denied_by"),
            _policies(flow, "ingress_denied_by"),
            match_type,
            ip.text("source_xlated"),
        )
    )


def _http(http: _Message) -> HttpRecord:
    host, path = normal.http_path(http.text("url"))
    return HttpRecord(http.text("method"), path, host, http.number("code", 2**32 - 1))


def _dns(dns: _Message) -> DnsRecord:
    return DnsRecord(
        normal.name(dns.text("query")),
        tuple(dns.texts("ips")),
        dns.number("rcode", 2**32 - 1),
        normal.names(dns.texts("cnames")),
        tuple(dns.texts("qtypes")),
    )


def _policies(flow: _Message, name: str) -> tuple[PolicyRef, ...]:
    return tuple(
        PolicyRef(each.text("kind"), each.text("namespace"), each.text("name")) for each in flow.messages(name)
    )
