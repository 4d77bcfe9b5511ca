"""The normal form of a record, shared by the JSON and the protobuf decoder: enumeration numbers, names, URLs, kinds, weights.

Both decoders must give the same `Flow` for the same record, so every rule about *values* lives here, and in the decoders only
how to get at them. The rules that have no function here:

- envelope: `node` and `time` are those of the flow; if the flow has none (1970 is one), those of the envelope;
- `drop_reason` is ``drop_reason_desc`` or else ``drop_reason``; an enumeration name that is not known here counts as 0;
- `is_reply` is the wrapper's value; if it is absent, the deprecated ``reply`` when that is true, else None;
- ICMP: type in `destination_port`, code in `source_port`; `protocol` is None if no protocol is set in ``l4``;
- a field that is present and of the wrong type, a negative number, a time above `MAX_TIME`, a port above `MAX_PORT` or an
  ICMP type or code above `MAX_ICMP` is `Skip.MALFORMED`;
- an envelope without any record, and a record of a kind that does not exist yet, is `Skip.EMPTY`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import TypeVar

from analyzer.model.flow import EMPTY_ENDPOINT, Detail, EventKind, FlowEndpoint, Verdict, Workload
from analyzer.model.labels import Label, Labels

__all__ = [
    "DIRECTIONS",
    "DROP_REASONS",
    "FLOW_TYPES",
    "L7_TYPES",
    "LOST_SOURCES",
    "MAX_ICMP",
    "MAX_PORT",
    "MAX_TIME",
    "NODE_STATES",
    "OBSERVATION_POINTS",
    "TRACE_REASONS",
    "VERDICTS",
    "Interned",
    "detail_or_none",
    "endpoint",
    "event_kind",
    "http_path",
    "name",
    "names",
    "service_name",
    "weight",
]

MAX_TIME = 2**63 - 1
"""The latest time, in nanoseconds since the epoch, that fits a database's integer (the year 2262); the earliest is 0."""
MAX_PORT = 65535
MAX_ICMP = 255

VERDICTS: Mapping[str, int] = {
    "VERDICT_UNKNOWN": 0,
    "FORWARDED": 1,
    "DROPPED": 2,
    "ERROR": 3,
    "AUDIT": 4,
    "REDIRECTED": 5,
    "TRACED": 6,
    "TRANSLATED": 7,
}
DIRECTIONS: Mapping[str, int] = {"TRAFFIC_DIRECTION_UNKNOWN": 0, "INGRESS": 1, "EGRESS": 2}
FLOW_TYPES: Mapping[str, int] = {"UNKNOWN_TYPE": 0, "L3_L4": 1, "L7": 2, "SOCK": 3}
L7_TYPES: Mapping[str, int] = {"UNKNOWN_L7_TYPE": 0, "REQUEST": 1, "RESPONSE": 2, "SAMPLE": 3}
TRACE_REASONS: Mapping[str, int] = {
    "TRACE_REASON_UNKNOWN": 0,
    "NEW": 1,
    "ESTABLISHED": 2,
    "REPLY": 3,
    "RELATED": 4,
    "REOPENED": 5,
    "SRV6_ENCAP": 6,
    "SRV6_DECAP": 7,
    "ENCRYPT_OVERLAY": 8,
}
OBSERVATION_POINTS: Mapping[str, int] = {
    "UNKNOWN_POINT": 0,
    "TO_PROXY": 1,
    "TO_HOST": 2,
    "TO_STACK": 3,
    "TO_OVERLAY": 4,
    "FROM_ENDPOINT": 5,
    "FROM_PROXY": 6,
    "FROM_HOST": 7,
    "FROM_STACK": 8,
    "FROM_OVERLAY": 9,
    "FROM_NETWORK": 10,
    "TO_NETWORK": 11,
    "FROM_CRYPTO": 12,
    "TO_CRYPTO": 13,
    "TO_ENDPOINT": 101,
}
"""flow.TraceObservationPoint, in which TO_ENDPOINT is 101; `event_kind` turns it into the datapath's 0."""
LOST_SOURCES: Mapping[str, int] = {
    "UNKNOWN_LOST_EVENT_SOURCE": 0,
    "PERF_EVENT_RING_BUFFER": 1,
    "OBSERVER_EVENTS_QUEUE": 2,
    "HUBBLE_RING_BUFFER": 3,
}
NODE_STATES: Mapping[str, int] = {
    "UNKNOWN_NODE_STATE": 0,
    "NODE_CONNECTED": 1,
    "NODE_UNAVAILABLE": 2,
    "NODE_GONE": 3,
    "NODE_ERROR": 4,
}
DROP_REASONS: Mapping[str, int] = {
    "DROP_REASON_UNKNOWN": 0,
    "INVALID_SOURCE_MAC": 130,
    "INVALID_DESTINATION_MAC": 131,
    "INVALID_SOURCE_IP": 132,
    "POLICY_DENIED": 133,
    "INVALID_PACKET_DROPPED": 134,
    "CT_TRUNCATED_OR_INVALID_HEADER": 135,
    "CT_MISSING_TCP_ACK_FLAG": 136,
    "CT_UNKNOWN_L4_PROTOCOL": 137,
    "CT_CANNOT_CREATE_ENTRY_FROM_PACKET": 138,
    "UNSUPPORTED_L3_PROTOCOL": 139,
    "MISSED_TAIL_CALL": 140,
    "ERROR_WRITING_TO_PACKET": 141,
    "UNKNOWN_L4_PROTOCOL": 142,
    "UNKNOWN_ICMPV4_CODE": 143,
    "UNKNOWN_ICMPV4_TYPE": 144,
    "UNKNOWN_ICMPV6_CODE": 145,
    "UNKNOWN_ICMPV6_TYPE": 146,
    "ERROR_RETRIEVING_TUNNEL_KEY": 147,
    "ERROR_RETRIEVING_TUNNEL_OPTIONS": 148,
    "INVALID_GENEVE_OPTION": 149,
    "UNKNOWN_L3_TARGET_ADDRESS": 150,
    "STALE_OR_UNROUTABLE_IP": 151,
    "NO_MATCHING_LOCAL_CONTAINER_FOUND": 152,
    "ERROR_WHILE_CORRECTING_L3_CHECKSUM": 153,
    "ERROR_WHILE_CORRECTING_L4_CHECKSUM": 154,
    "CT_MAP_INSERTION_FAILED": 155,
    "INVALID_IPV6_EXTENSION_HEADER": 156,
    "IP_FRAGMENTATION_NOT_SUPPORTED": 157,
    "SERVICE_BACKEND_NOT_FOUND": 158,
    "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT": 160,
    "FAILED_TO_INSERT_INTO_PROXYMAP": 161,
    "REACHED_EDT_RATE_LIMITING_DROP_HORIZON": 162,
    "UNKNOWN_CONNECTION_TRACKING_STATE": 163,
    "LOCAL_HOST_IS_UNREACHABLE": 164,
    "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION": 165,
    "UNSUPPORTED_L2_PROTOCOL": 166,
    "NO_MAPPING_FOR_NAT_MASQUERADE": 167,
    "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE": 168,
    "FIB_LOOKUP_FAILED": 169,
    "ENCAPSULATION_TRAFFIC_IS_PROHIBITED": 170,
    "INVALID_IDENTITY": 171,
    "UNKNOWN_SENDER": 172,
    "NAT_NOT_NEEDED": 173,
    "IS_A_CLUSTERIP": 174,
    "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND": 175,
    "FORBIDDEN_ICMPV6_MESSAGE": 176,
    "DENIED_BY_LB_SRC_RANGE_CHECK": 177,
    "SOCKET_LOOKUP_FAILED": 178,
    "SOCKET_ASSIGN_FAILED": 179,
    "PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL": 180,
    "POLICY_DENY": 181,
    "VLAN_FILTERED": 182,
    "INVALID_VNI": 183,
    "INVALID_TC_BUFFER": 184,
    "NO_SID": 185,
    "MISSING_SRV6_STATE": 186,
    "NAT46": 187,
    "NAT64": 188,
    "AUTH_REQUIRED": 189,
    "CT_NO_MAP_FOUND": 190,
    "SNAT_NO_MAP_FOUND": 191,
    "INVALID_CLUSTER_ID": 192,
    "UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP": 193,
    "NO_EGRESS_GATEWAY": 194,
    "UNENCRYPTED_TRAFFIC": 195,
    "TTL_EXCEEDED": 196,
    "NO_NODE_ID": 197,
    "DROP_RATE_LIMITED": 198,
    "IGMP_HANDLED": 199,
    "IGMP_SUBSCRIBED": 200,
    "MULTICAST_HANDLED": 201,
    "DROP_HOST_NOT_READY": 202,
    "DROP_EP_NOT_READY": 203,
    "DROP_NO_EGRESS_IP": 204,
    "DROP_PUNT_PROXY": 205,
    "DROP_FRAG_NOT_FOUND_WORLD": 207,
}
"""flow.DropReason: shared with the datapath (bpf/lib/common.h)."""

T = TypeVar("T")
_TO_ENDPOINT = OBSERVATION_POINTS["TO_ENDPOINT"]
_NO_DETAIL = Detail()
_LABEL_LENGTH = 512
"""Longer labels are parsed each time: Kubernetes allows no label above 63 + 253 + 64 characters."""


def name(text: str) -> str:
    """A DNS name in lower case without its trailing dot."""
    return text.lower().removesuffix(".")


def names(texts: Collection[str]) -> tuple[str, ...]:
    """DNS names as `name` writes them, each once, empty ones left out, otherwise in their order."""
    return tuple(dict.fromkeys(filter(None, map(name, texts)))) if texts else ()


def http_path(url: str) -> tuple[str, str]:
    """Split the URL of a request into host (with its port, lower case) and path.

    Scheme, user, query and fragment are dropped: they identify nothing a policy can match, and may hold secrets. The path of
    a URL that has a host but no path is ``/``. A URL without a host (``/x``, ``*``) gives the host ``""``.
    """
    rest = url.partition("#")[0].partition("?")[0]
    scheme, separator, remainder = rest.partition("://")
    if separator and "/" not in scheme:
        rest = remainder
    elif rest.startswith("//"):
        rest = rest[2:]
    else:
        return "", rest
    authority, _, path = rest.partition("/")
    return authority.rpartition("@")[2].lower(), "/" + path


def service_name(namespace: str, service: str) -> str:
    """``namespace/name`` of a service, the name alone if it has no namespace, ``""`` without a name."""
    return f"{namespace}/{service}" if namespace and service else service


def event_kind(
    flow_type: int, observation_point: int, policy_match_type: int, verdict: int, drop_reason: int
) -> tuple[int, int]:
    """`Flow.kind` and `Flow.sub_type` of a record whose ``event_type`` is missing, masked, or of type 0.

    `observation_point` is flow.TraceObservationPoint's number. Follows from what only one kind of event sets
    (`pkg/hubble/parser/threefour/parser.go`, `parser/seven/parser.go`, `parser/sock/parser.go`).
    """
    if flow_type == FLOW_TYPES["L7"]:
        return EventKind.L7, 0
    if flow_type == FLOW_TYPES["SOCK"]:
        return EventKind.TRACE_SOCK, 0
    if observation_point:
        return EventKind.TRACE, 0 if observation_point == _TO_ENDPOINT else observation_point
    if policy_match_type:
        return EventKind.POLICY_VERDICT, 0
    if drop_reason and verdict == Verdict.DROPPED:
        return EventKind.DROP, drop_reason
    return EventKind.UNKNOWN, 0


def weight(ingress: int, egress: int, unknown_direction: int) -> int:
    """How many events an exporter's aggregated record stands for: the sum of flow.Aggregate's counters, at least 1."""
    return max(ingress + egress + unknown_direction, 1)


def detail_or_none(detail: Detail) -> Detail | None:
    """None for a detail that says nothing, as of a service without a name."""
    return None if detail == _NO_DETAIL else detail


@lru_cache(maxsize=1 << 14)
def _cached_label(text: str) -> Label:
    return Label.parse(text)


def _label(text: str) -> Label:
    return _cached_label(text) if len(text) <= _LABEL_LENGTH else Label.parse(text)


def endpoint(
    labels: Iterable[str],
    namespace: str,
    cluster: str,
    pod: str,
    workloads: Iterable[tuple[str, str]],
    endpoint_id: int,
    identity: int,
) -> FlowEndpoint:
    """A `FlowEndpoint` of the values on the wire; `workloads` are (kind, name). An empty one is `EMPTY_ENDPOINT` itself."""
    made = FlowEndpoint(
        Labels.of(map(_label, labels)),
        namespace,
        cluster,
        pod,
        tuple(Workload(kind, workload) for kind, workload in workloads),
        endpoint_id,
        identity,
    )
    return EMPTY_ENDPOINT if made == EMPTY_ENDPOINT else made


class Interned(dict[bytes, T]):
    """A bounded cache of what bytes decode to: ``cache[raw]`` decodes `raw` unless it was seen before.

    It starts over when it is full: a lookup that must keep an order costs more than a pod's second decoding. Keys above
    `longest` bytes are not kept, so that hostile records cannot fill the memory.
    """

    __slots__ = ("_decode", "_entries", "_longest")

    def __init__(self, decode: Callable[[bytes], T], *, entries: int = 1 << 14, longest: int = 1 << 13) -> None:
        super().__init__()
        self._decode = decode
        self._entries = entries
        self._longest = longest

    def __missing__(self, raw: bytes) -> T:
        value = self._decode(raw)
        if len(raw) <= self._longest:
            if len(self) >= self._entries:
                self.clear()
            self[raw] = value
        return value
