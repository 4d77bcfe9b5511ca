"""What each field of a flow filter means: a predicate on flows for every field that Hubble's filters have and a Flow carries.

The semantics are those of Cilium pkg/hubble/filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import ip_address, ip_network
from typing import Any

from analyzer.errors import UsageError
from analyzer.model.flow import EMPTY_ENDPOINT, Detail, Flow, FlowEndpoint, TcpFlags, Verdict
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels
from analyzer.sources import normal
from analyzer.sources.label_selector import parse_selector

__all__ = ["FIELDS", "Predicate", "predicate"]

Predicate = Callable[[Flow], bool]
_NO_DETAIL = Detail()
_PORT = re.compile(r"[0-9]{1,5}")


def predicate(name: str, values: Sequence[Any]) -> Predicate:
    """Whether any of `values` is what a flow has in the field `name`. Raises UsageError for fields and values that are none."""
    side, _, rest = name.partition("_")
    sided = side in _SIDES and rest in _SIDED
    make = partial(_sided, _SIDED[rest], _SIDES[side]) if sided else _PLAIN.get(name)
    if make is None:
        raise UsageError(
            f"flows cannot be filtered by {name} here", hint=f"possible fields: {', '.join(sorted(FIELDS))}"
        )
    try:
        return make(values)
    except KeyError as error:
        raise UsageError(f"filter {name}: unknown value {error}") from None
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(f"filter {name}: {error}") from None


def _sided(make: Callable[[Sequence[Any], _Side], Predicate], side: _Side, values: Sequence[Any]) -> Predicate:
    return make(values, side)


@dataclass(frozen=True, slots=True)
class _Side:
    """How to get at one side of a flow."""

    end: Callable[[Flow], FlowEndpoint]
    ip: Callable[[Flow], str]
    port: Callable[[Flow], int]
    names: Callable[[Detail], tuple[str, ...]]
    service: Callable[[Detail], str]


_SIDES = {
    "source": _Side(
        lambda flow: flow.source,
        lambda flow: flow.source_ip,
        lambda flow: flow.source_port,
        lambda detail: detail.source_names,
        lambda detail: detail.source_service,
    ),
    "destination": _Side(
        lambda flow: flow.destination,
        lambda flow: flow.destination_ip,
        lambda flow: flow.destination_port,
        lambda detail: detail.destination_names,
        lambda detail: detail.destination_service,
    ),
}


def _namespaced(text: Any) -> tuple[str, str]:
    """``ns/prefix``, ``ns/`` or ``/prefix``; without a slash the namespace is ``default`` (ParseNamespaceName)."""
    if not isinstance(text, str) or not text:
        raise UsageError("a pod or service filter must not be empty", hint="write namespace/ for a whole namespace")
    namespace, slash, name = text.rpartition("/")
    return (namespace, name) if slash else ("default", text)


def _pods(values: Sequence[Any], side: _Side) -> Predicate:
    wanted = [_namespaced(each) for each in values]

    def matches(flow: Flow) -> bool:
        end = side.end(flow)
        if not (end.namespace or end.pod):
            return False
        return any((not ns or end.namespace == ns) and end.pod.startswith(name) for ns, name in wanted)

    return matches


def _services(values: Sequence[Any], side: _Side) -> Predicate:
    wanted = [_namespaced(each) for each in values]

    def matches(flow: Flow) -> bool:
        service = side.service(flow.detail) if flow.detail else ""
        namespace, _, name = service.rpartition("/")
        return bool(service) and any((not ns or namespace == ns) and name.startswith(prefix) for ns, prefix in wanted)

    return matches


def _labels(values: Sequence[Any], side: _Side) -> Predicate:
    selectors = [parse_selector(str(each)) for each in values]

    @lru_cache(maxsize=4096)
    def selected(labels: Labels) -> bool:
        return any(selector.matches(labels) for selector in selectors)

    return lambda flow: selected(side.end(flow).labels)


def _ips(values: Sequence[Any], side: _Side) -> Predicate:
    networks = [ip_network(str(each), strict=False) for each in values]

    @lru_cache(maxsize=65536)
    def inside(address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in networks if network.version == found.version)

    return lambda flow: inside(side.ip(flow))


def _ports(values: Sequence[Any], side: _Side) -> Predicate:
    texts = [str(each) for each in values]
    wrong = [text for text in texts if not _PORT.fullmatch(text) or int(text) > normal.MAX_PORT]
    if wrong:
        raise ValueError(f"not a port: {wrong[0]!r}")
    wanted = frozenset(map(int, texts))
    return lambda flow: flow.protocol is not None and flow.protocol.has_ports and side.port(flow) in wanted


def _fqdns(values: Sequence[Any], side: _Side) -> Predicate:
    patterns = [re.compile(_pattern(str(each))) for each in values]
    return lambda flow: (
        flow.detail is not None
        and any(pattern.fullmatch(name) for name in side.names(flow.detail) for pattern in patterns)
    )


_NAME = "[-0-9_a-z]+(?:[.][-0-9_a-z]+)*"


def _pattern(text: str) -> str:
    """A name with ``*`` as a regular expression (Cilium pkg/hubble/filters/patterns.go, `appendFQDNPatternRegexp`): ``*`` stands
    for any number of letters, digits, dots and dashes. Raises ValueError."""
    name = text.strip().removesuffix(".").lower()
    if not re.fullmatch("[-.*0-9_a-z]+", name, re.ASCII) or name.endswith("."):
        raise ValueError(f"{text[:80]!r} is no name, nor a pattern of names such as *.example.com")
    return name.replace(".", "[.]").replace("*", "[-.0-9a-z]*")


def _workloads(values: Sequence[Any], side: _Side) -> Predicate:
    wanted = [(str(each.get("kind", "")), str(each.get("name", ""))) for each in values]
    return lambda flow: any(
        (not kind or workload.kind == kind) and (not name or workload.name == name)
        for workload in side.end(flow).workloads
        for kind, name in wanted
    )


def _identities(values: Sequence[Any], side: _Side) -> Predicate:
    wanted = frozenset(map(int, values))
    return lambda flow: side.end(flow).identity in wanted


def _clusters(values: Sequence[Any], side: _Side) -> Predicate:
    wanted = frozenset(map(str, values))
    return lambda flow: side.end(flow) != EMPTY_ENDPOINT and side.end(flow).cluster in wanted


_SIDED: Mapping[str, Callable[[Sequence[Any], _Side], Predicate]] = {
    "pod": _pods,
    "service": _services,
    "label": _labels,
    "ip": _ips,
    "port": _ports,
    "fqdn": _fqdns,
    "workload": _workloads,
    "identity": _identities,
    "cluster_name": _clusters,
}


def _enum(values: Sequence[Any], numbers: Mapping[str, int]) -> frozenset[int]:
    unknown = [each for each in values if not isinstance(each, int) and each not in numbers]
    if unknown:
        raise ValueError(f"unknown value {unknown[0]!r} (known: {', '.join(numbers)})")
    return frozenset(each if isinstance(each, int) else numbers[each] for each in values)


def _verdicts(values: Sequence[Any]) -> Predicate:
    wanted = _enum(values, normal.VERDICTS)
    return lambda flow: flow.verdict in wanted


def _drop_reasons(values: Sequence[Any]) -> Predicate:
    wanted = _enum(values, normal.DROP_REASONS)
    return lambda flow: flow.drop_reason in wanted


def _directions(values: Sequence[Any]) -> Predicate:
    wanted = _enum(values, normal.DIRECTIONS)
    return lambda flow: flow.direction in wanted


def _event_types(values: Sequence[Any]) -> Predicate:
    wanted = [
        (int(each.get("type", 0)), bool(each.get("match_sub_type")), int(each.get("sub_type", 0))) for each in values
    ]
    return lambda flow: any(
        flow.kind == kind and (not exact or flow.sub_type == sub_type) for kind, exact, sub_type in wanted
    )


_L7_PROTOCOLS: Mapping[str, Predicate] = {
    "http": lambda flow: flow.detail is not None and flow.detail.http is not None,
    "dns": lambda flow: flow.detail is not None and flow.detail.dns is not None,
}
_PROTOCOLS = {
    "icmp": (Protocol.ICMP, Protocol.ICMPV6),
    "icmpv4": (Protocol.ICMP,),
    "icmpv6": (Protocol.ICMPV6,),
    "tcp": (Protocol.TCP,),
    "udp": (Protocol.UDP,),
    "sctp": (Protocol.SCTP,),
    "vrrp": (Protocol.VRRP,),
    "igmp": (Protocol.IGMP,),
}


def _protocols(values: Sequence[Any]) -> Predicate:
    names = [str(each).lower() for each in values]
    unknown = [name for name in names if name not in _PROTOCOLS and name not in _L7_PROTOCOLS]
    if unknown:
        raise ValueError(f"unknown protocol {unknown[0]!r} (known: {', '.join([*_PROTOCOLS, *_L7_PROTOCOLS])})")
    wanted = frozenset(protocol for name in names for protocol in _PROTOCOLS.get(name, ()))
    layer7 = [_L7_PROTOCOLS[name] for name in names if name in _L7_PROTOCOLS]
    return lambda flow: flow.protocol in wanted or any(predicate(flow) for predicate in layer7)


def _status_codes(values: Sequence[Any]) -> Predicate:
    texts = [str(each) for each in values]
    if not all(re.fullmatch(r"[1-5][0-9]?\+|[1-5][0-9]{2}", text, re.ASCII) for text in texts):
        raise ValueError("write a status code such as 404, or a prefix such as 5+ or 40+")
    patterns = [re.compile(text[:-1] + r"\d*" if text[-1] == "+" else text) for text in texts]

    def matches(flow: Flow) -> bool:
        http = flow.detail.http if flow.detail else None
        return bool(http and http.code) and any(each.fullmatch(str(http.code)) for each in patterns if http)

    return matches


def _regexes(values: Sequence[Any], text_of: Callable[[Detail], str | None]) -> Predicate:
    try:
        patterns = [re.compile(str(each)) for each in values]
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None

    def matches(flow: Flow) -> bool:
        text = text_of(flow.detail or _NO_DETAIL)
        return text is not None and any(pattern.search(text[:4096]) for pattern in patterns)

    return matches


def _http_methods(values: Sequence[Any]) -> Predicate:
    wanted = frozenset(str(each).upper() for each in values)
    return lambda flow: bool(flow.detail and flow.detail.http and flow.detail.http.method.upper() in wanted)


def _replies(values: Sequence[Any]) -> Predicate:
    """A drop does not say whether it is a reply; Hubble takes it for none (pkg/hubble/filters/reply.go)."""
    if not all(isinstance(each, bool) for each in values):
        raise ValueError("write true or false")
    return lambda flow: (
        flow.is_reply in values if flow.is_reply is not None else flow.verdict == Verdict.DROPPED and False in values
    )


def _tcp_flags(values: Sequence[Any]) -> Predicate:
    wanted = [sum(int(TcpFlags[name]) for name, on in each.items() if on) for each in values]
    return lambda flow: flow.protocol is Protocol.TCP and any(flow.tcp_flags & mask == mask for mask in wanted)


def _nodes(values: Sequence[Any]) -> Predicate:
    """``node`` of any cluster, ``cluster/node``, ``cluster/`` (all its nodes), with ``*``; a node that is reported without a
    cluster is in ``default`` (Cilium pkg/hubble/filters/patterns.go, `appendNodeNamePatternRegexp`)."""
    patterns = []
    for each in map(str, values):
        cluster, _, node = each.rpartition("/")
        if not each or "/" in cluster:
            raise ValueError(f"{each[:80]!r} is neither a node nor cluster/node")
        patterns.append("/".join(_pattern(part) if part else _NAME for part in (cluster, node)))
    found = re.compile("|".join(patterns))

    @lru_cache(maxsize=4096)
    def wanted(name: str) -> bool:
        return bool(name) and found.fullmatch(name if "/" in name else f"default/{name}") is not None

    return lambda flow: wanted(flow.node)


def _ip_versions(values: Sequence[Any]) -> Predicate:
    wanted = _enum(values, {"IP_NOT_USED": 0, "IPv4": 1, "IPv6": 2})
    return lambda flow: (0 if not flow.source_ip else 2 if ":" in flow.source_ip else 1) in wanted


def _uuids(values: Sequence[Any]) -> Predicate:
    wanted = frozenset(map(str, values))
    return lambda flow: flow.uuid in wanted


_PLAIN: Mapping[str, Callable[[Sequence[Any]], Predicate]] = {
    "uuid": _uuids,
    "verdict": _verdicts,
    "drop_reason_desc": _drop_reasons,
    "traffic_direction": _directions,
    "event_type": _event_types,
    "protocol": _protocols,
    "http_status_code": _status_codes,
    "http_method": _http_methods,
    "http_path": lambda values: _regexes(values, lambda detail: detail.http.path if detail.http else None),
    # Hubble's names end with a dot, and its patterns may say so.
    "dns_query": lambda values: _regexes(values, lambda detail: f"{detail.dns.query}." if detail.dns else None),
    "reply": _replies,
    "tcp_flags": _tcp_flags,
    "node_name": _nodes,
    "ip_version": _ip_versions,
}

FIELDS = frozenset(_PLAIN) | {f"{side}_{name}" for side in _SIDES for name in _SIDED}
"""The fields that can be filtered by; a Flow does not carry what the others need."""
