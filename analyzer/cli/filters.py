"""Hubble's filter flags, and how they become FlowFilters: what `hubble observe --print-raw-filters` shows.

The rules are those of the hubble CLI (Cilium hubble/cmd/observe/flows_filter.go): the flags build two filters that are
alternatives, a left one for the source and a right one for the destination. ``--from-x`` and ``--to-x`` go into both, so they
must hold together; ``--x`` goes into the left one as a source and into the right one as a destination. If both come out
equal there is one filter. ``--not`` sends the next flag to the denylist instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analyzer.errors import UsageError

__all__ = ["PLAIN", "SHORT", "SIDED", "RawFilter", "flow_filters", "parse_raw", "rewrite_not"]

RawFilter = dict[str, Any]
"""A flow.FlowFilter in Hubble's JSON form: field name to the list of its values."""

# Flag -> the FlowFilter field behind `source_` and `destination_`; each gives --flag, --from-flag and --to-flag.
SIDED: Mapping[str, tuple[str, str]] = {
    "pod": ("pod", "pod name prefix, `namespace/prefix`, `namespace/` or `/prefix`"),
    "namespace": ("", "namespace"),
    "label": ("label", "label selector such as `app=x` or `reserved:world`"),
    "ip": ("ip", "IP address or CIDR"),
    "port": ("port", "port"),
    "fqdn": ("fqdn", "DNS name, with `*` as wildcard"),
    "service": ("service", "service, `namespace/name`"),
    "workload": ("workload", "workload, `name` or `Kind/name`"),
    "identity": ("identity", "numeric security identity, or a reserved one by its name"),
    "cluster": ("cluster_name", "cluster name"),
}
# Flag -> FlowFilter field and help.
PLAIN: Mapping[str, tuple[str, str]] = {
    "verdict": ("verdict", "Verdict: `FORWARDED`, `DROPPED`, `AUDIT`, `REDIRECTED`, `ERROR`, `TRACED`, `TRANSLATED`."),
    "protocol": ("protocol", "Protocol such as `tcp`, `udp`, `icmp`, `http`, `dns`."),
    "drop-reason-desc": ("drop_reason_desc", "Drop reason such as `POLICY_DENIED`."),
    "type": ("event_type", "Event type such as `drop`, `trace`, `trace:to-endpoint`, `policy-verdict`, `l7`."),
    "traffic-direction": ("traffic_direction", "`ingress` or `egress`, as the reporting endpoint sees it."),
    "node-name": ("node_name", "Node that reported the flow, `cluster/node`, with `*` as wildcard."),
    "http-method": ("http_method", "HTTP method."),
    "http-path": ("http_path", "Regular expression for the HTTP path."),
    "http-status": ("http_status_code", "HTTP status such as `404` or `5+`."),
    "tcp-flags": ("tcp_flags", "TCP flags, comma separated."),
    "ip-version": ("ip_version", "`v4` or `v6`."),
    "uuid": ("uuid", "The uuid of one flow."),
}
SHORT = {"namespace": "n", "label": "l", "type": "t", "all-namespaces": "A"}

# cilium/pkg/monitor/api: MessageTypeNames and TraceObservationPoints.
EVENT_TYPES = {
    "drop": 1, "debug": 2, "capture": 3, "trace": 4, "policy-verdict": 5, "recorder": 6, "trace-sock": 7, "l7": 129,
    "agent": 130,
}  # fmt: skip
TRACE_POINTS = {
    "to-endpoint": 0, "to-proxy": 1, "to-host": 2, "to-stack": 3, "to-overlay": 4, "from-endpoint": 5, "from-proxy": 6,
    "from-host": 7, "from-stack": 8, "from-overlay": 9, "from-network": 10, "to-network": 11, "from-crypto": 12,
    "to-crypto": 13,
}  # fmt: skip
RESERVED_IDENTITIES = {
    "host": 1, "world": 2, "unmanaged": 3, "health": 4, "init": 5, "remote-node": 6, "kube-apiserver": 7, "ingress": 8,
    "world-ipv4": 9, "world-ipv6": 10,
}  # fmt: skip
VERDICTS = ("FORWARDED", "DROPPED", "ERROR", "AUDIT", "REDIRECTED", "TRACED", "TRANSLATED")
IP_VERSIONS = {"4": "IPv4", "v4": "IPv4", "ipv4": "IPv4", "6": "IPv6", "v6": "IPv6", "ipv6": "IPv6"}

# Flags that say the same thing in two ways: at most one of each group.
_CONFLICTS = (
    *(
        group
        for side in ("from", "to")
        for group in (
            (f"{side}-fqdn", f"{side}-ip", "ip", "fqdn", f"{side}-namespace", "namespace"),
            (f"{side}-fqdn", f"{side}-ip", "ip", "fqdn", f"{side}-pod", "pod"),
            (f"{side}-pod", "namespace"),
            (f"{side}-service", "namespace"),
        )
    ),
    *(
        (name, f"{side}-{name}")
        for name in ("label", "service", "port", "identity", "workload")
        for side in ("from", "to")
    ),
)


def rewrite_not(args: Sequence[str], flags: Iterable[str]) -> list[str]:
    """``--not --verdict DROPPED`` as ``--not-verdict DROPPED``, so that the order of flags is settled before they are parsed.

    Raises UsageError when no filter flag follows ``--not``.
    """
    known, short = set(flags), {letter: name for name, letter in SHORT.items()}
    found: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return [*found, arg, *rest]
        if arg != "--not":
            found.append(arg)
            continue
        following = next(rest, "")
        name, equals, value = following.removeprefix("--").partition("=")
        if following.startswith("--") and name in known:
            found.append(f"--not-{name}{equals}{value}")
        elif following[:1] == "-" and short.get(following[1:2]) in known:
            found += [f"--not-{short[following[1]]}", *([following[2:]] if following[2:] else [])]
        else:
            raise UsageError("--not needs a filter flag right after it", hint="for example: --not --verdict DROPPED")
    return found


def flow_filters(given: Mapping[str, Sequence[str]]) -> list[RawFilter]:
    """The FlowFilters for flags and their values; none when no flag was given. Raises UsageError on values and combinations."""
    flags = {name: values for name, values in given.items() if values}
    _check_conflicts(flags)
    if not flags:
        return []
    left: RawFilter = {}
    right: RawFilter = {}
    for name, values in flags.items():
        _apply(left, right, name, values)
    for each in (left, right):
        _namespaces(each, "destination", flags.get("to-namespace", ()))
        _namespaces(each, "source", flags.get("from-namespace", ()))
    _namespaces(left, "source", flags.get("namespace", ()))
    _namespaces(right, "destination", flags.get("namespace", ()))
    return [left] if left == right else [left, right]


def _check_conflicts(flags: Mapping[str, Sequence[str]]) -> None:
    for group in _CONFLICTS:
        used = [name for name in group if name in flags]
        if len(used) > 1:
            raise UsageError(f"--{used[0]} and --{used[1]} cannot be combined")


def _apply(left: RawFilter, right: RawFilter, name: str, values: Sequence[str]) -> None:
    side, dash, bare = name.partition("-")
    if name in PLAIN:
        made = [_value(name, value) for value in values]
        targets = [(left, PLAIN[name][0]), (right, PLAIN[name][0])]
    elif dash and side in ("from", "to") and bare in SIDED:
        made = [_value(bare, value) for value in values]
        field = f"{'source' if side == 'from' else 'destination'}_{SIDED[bare][0]}"
        targets = [(left, field), (right, field)]
    else:
        made = [_value(name, value) for value in values]
        targets = [(left, f"source_{SIDED[name][0]}"), (right, f"destination_{SIDED[name][0]}")]
    if name.endswith("namespace"):
        return
    for target, field in targets:
        target.setdefault(field, []).extend(made)


def _namespaces(target: RawFilter, side: str, namespaces: Sequence[str]) -> None:
    """Qualify the pods and services of a filter by namespaces, or choose whole namespaces. ``""`` is every namespace."""
    if not namespaces:
        return
    pods, services = f"{side}_pod", f"{side}_service"
    if not target.get(pods) and not target.get(services):
        target[pods] = [""]
    for field in (pods, services):
        for name in target.get(field, ()):
            namespace, slash, _ = name.partition("/")
            if slash and namespace and any(each != namespace for each in namespaces):
                raise UsageError(f"{name} does not lie in namespace {', '.join(namespaces)}")
        if field in target:
            target[field] = [
                qualified
                for name in target[field]
                for qualified in ([name] if "/" in name else [f"{each}/{name}" for each in namespaces])
            ]


def _value(flag: str, text: str) -> Any:
    """One value of a flag as the FlowFilter field holds it. Raises UsageError."""
    if not text and flag != "namespace":
        raise UsageError(f"--{flag} needs a value")
    reader = _READERS.get(flag)
    return reader(text) if reader else text


def _verdict(text: str) -> str:
    if text.upper() not in VERDICTS:
        raise UsageError(f"--verdict {text}: no such verdict", hint=f"one of {', '.join(VERDICTS)}")
    return text.upper()


def _port(text: str) -> str:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise UsageError(f"--port {text}: not a port", hint="a number from 0 to 65535")
    return str(int(text))


def _event_type(text: str) -> dict[str, object]:
    kind, colon, sub = text.partition(":")
    names = TRACE_POINTS if kind == "trace" else {}
    number = EVENT_TYPES.get(kind, int(kind) if kind.isdecimal() else -1)
    sub_number = names.get(sub, int(sub) if sub.isdecimal() else -1)
    if number < 0 or (colon and sub_number < 0):
        hint = f"one of {', '.join(EVENT_TYPES)}; trace may be narrowed, such as trace:to-endpoint"
        raise UsageError(f"--type {text}: no such event type", hint=hint)
    return {"type": number, **({"match_sub_type": True, "sub_type": sub_number} if colon else {})}


def _identity(text: str) -> int:
    number = RESERVED_IDENTITIES.get(text, int(text) if text.isascii() and text.isdecimal() else -1)
    if not 0 <= number < 2**32:
        raise UsageError(f"--identity {text}: not an identity", hint=f"a number, or {', '.join(RESERVED_IDENTITIES)}")
    return number


def _workload(text: str) -> dict[str, str]:
    kind, slash, name = text.partition("/")
    return {"kind": kind, "name": name} if slash else {"name": text}


def _direction(text: str) -> str:
    if text.upper() not in ("INGRESS", "EGRESS"):
        raise UsageError(f"--traffic-direction {text}: neither ingress nor egress")
    return text.upper()


def _ip_version(text: str) -> str:
    if text.lower() not in IP_VERSIONS:
        raise UsageError(f"--ip-version {text}: neither v4 nor v6")
    return IP_VERSIONS[text.lower()]


def _tcp_flags(text: str) -> dict[str, bool]:
    names = [name.strip().upper() for name in text.split(",")]
    known = ("SYN", "FIN", "RST", "PSH", "ACK", "URG", "ECE", "CWR", "NS")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--tcp-flags {text}: unknown flag {unknown[0]}", hint=f"some of {', '.join(known)}")
    return dict.fromkeys(names, True)


_READERS: Mapping[str, Any] = {
    "verdict": _verdict,
    "port": _port,
    "type": _event_type,
    "identity": _identity,
    "workload": _workload,
    "traffic-direction": _direction,
    "ip-version": _ip_version,
    "tcp-flags": _tcp_flags,
}


def parse_raw(texts: Iterable[str], flag: str) -> list[RawFilter]:
    """--allowlist/--denylist: FlowFilters as JSON, several objects in one string or several strings. Raises UsageError."""
    decoder = json.JSONDecoder()
    found: list[RawFilter] = []
    for text in texts:
        rest = text.strip()
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                raise UsageError(
                    f"{flag}: not JSON: {rest[:80]}", hint='for example: {"source_pod":["shop/"]}'
                ) from None
            if not isinstance(value, dict):
                raise UsageError(f"{flag}: a FlowFilter is a JSON object, not {rest[:80]}")
            found.append(value)
            rest = rest[end:].lstrip(" \t\r\n,")
    return found
