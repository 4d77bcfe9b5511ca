"""The fast JSON decoder: lines as exporters write them, straight into typed structs; everything else goes the slow way.

Endpoints and TCP flags stay raw bytes and are looked up in bounded caches: the same pod repeats its bytes exactly. Most lines are
not decoded at all, since they were met before but for their time, uuid and ports (`known`).
What values mean is in `normal`; what lines mean is in `decode_slow`, which this one equals on every line, but for lines that nobody
writes: of names in two spellings in one line, it may see only one.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import msgspec

from analyzer.model.flow import (
    EMPTY_ENDPOINT,
    Detail,
    DnsRecord,
    EventKind,
    Flow,
    HttpRecord,
    KeptForm,
    PolicyRef,
)
from analyzer.model.l4 import Protocol
from analyzer.sources import normal
from analyzer.sources.base import Record
from analyzer.sources.decode_slow import decode_endpoint, decode_flags, parse_time, slow_decode
from analyzer.sources.forms import Forms
from analyzer.sources.known import KnownLines, compiled_lines

__all__ = ["Decoder"]

MAX_NAMES = 16
"""Names and policies in a line that is known from then on: their memory adds up."""

_NONE = msgspec.Raw()


class _Wire(msgspec.Struct, gc=False):
    """Wire structs hold what the exporter writes under its own names; a value of another shape sends the line the slow way."""


class _Ports(_Wire):
    source_port: int = 0
    destination_port: int = 0
    flags: msgspec.Raw = _NONE


class _Icmp(_Wire):
    type: int = 0
    code: int = 0


class _Layer4(_Wire):
    TCP: _Ports | None = None
    UDP: _Ports | None = None
    SCTP: _Ports | None = None
    ICMPv4: _Icmp | None = None
    ICMPv6: _Icmp | None = None


class _Ip(_Wire):
    source: str = ""
    destination: str = ""
    source_xlated: str = ""


class _EventType(_Wire):
    type: int = 0
    sub_type: int = 0


class _Service(_Wire):
    name: str = ""
    namespace: str = ""


class _Policy(_Wire):
    kind: str = ""
    namespace: str = ""
    name: str = ""


class _Http(_Wire):
    method: str = ""
    url: str = ""
    code: int = 0


class _Dns(_Wire):
    query: str = ""
    ips: list[str] = []
    rcode: int = 0
    cnames: list[str] = []
    qtypes: list[str] = []


class _Layer7(_Wire):
    type: str = ""
    http: _Http | None = None
    dns: _Dns | None = None


class _Aggregate(_Wire):
    ingress_flow_count: int = 0
    egress_flow_count: int = 0
    unknown_direction_flow_count: int = 0


class _Flow(_Wire):
    time: str = ""
    uuid: str = ""
    verdict: str = ""
    drop_reason: int = 0
    IP: _Ip | None = None
    l4: _Layer4 | None = None
    source: msgspec.Raw = _NONE
    destination: msgspec.Raw = _NONE
    node_name: str = ""
    source_names: list[str] | None = None
    destination_names: list[str] | None = None
    l7: _Layer7 | None = None
    reply: bool = False
    event_type: _EventType | None = None
    source_service: _Service | None = None
    destination_service: _Service | None = None
    traffic_direction: str = ""
    policy_match_type: int = 0
    trace_reason: str = ""
    drop_reason_desc: str = ""
    is_reply: bool | None = None
    egress_allowed_by: list[_Policy] | None = None
    ingress_allowed_by: list[_Policy] | None = None
    egress_denied_by: list[_Policy] | None = None
    ingress_denied_by: list[_Policy] | None = None
    aggregate: _Aggregate | None = None


class _Line(_Wire):
    flow: _Flow | None = None


_NO_IP = _Ip()


class _OddError(ValueError):
    """A line for the slow decoder."""


_FAILURES = (msgspec.MsgspecError, ValueError, KeyError, RecursionError)


class Decoder:
    """Decodes lines of one source or of many; its caches are bounded. Not to be shared between threads."""

    __slots__ = ("_endpoints", "_flags", "_forms", "_known", "_lines", "_seconds")

    def __init__(self, known: KnownLines | None = None) -> None:
        """`known` is for the lines met before; by default the one in C, if there is one."""
        self._known, self._forms = known or compiled_lines(), Forms()
        self._endpoints = normal.Interned(lambda raw: decode_endpoint(_loads(raw)))
        self._flags = normal.Interned(lambda raw: decode_flags(_loads(raw)))
        self._lines = msgspec.json.Decoder(_Line)
        self._seconds: dict[str, int] = {}
        self._endpoints[b""] = EMPTY_ENDPOINT
        self._flags[b""] = 0

    def decode(self, line: bytes) -> Record:
        """The record in one line without its line end. Never raises: what cannot be read is a `Skip`."""
        try:
            if not line.isascii():
                line.decode()  # what the typed decoder passes over it does not check
        except UnicodeDecodeError:
            return slow_decode(line)
        try:
            return self._flow(self._lines.decode(line).flow, line, 0, len(line))
        except _FAILURES:
            return slow_decode(line)

    def decode_block(self, data: bytes) -> list[Record] | None:
        """What `decode` makes of each line in `data`, but faster, or None where lines have to be looked at one by one."""
        if self._known is None:
            return self._decode_lines(data)
        records, places = self._known.read(data)
        if not places:
            return records  # type: ignore[return-value]  # no place, no None
        lines = [data[start:end] for start, end in zip(places[::2], places[1::2], strict=True)]
        found = self._decode_lines(data if len(lines) == len(records) else b"\n".join([*lines, b""]))
        if found is None:
            if not all(line.startswith(b"{") for line in lines):
                return None
            found = list(map(self.decode, lines))
        fresh = map(self._met, lines, found)
        return [record or next(fresh) for record in records]

    def _met(self, line: bytes, record: Record) -> Record:
        """The record of a line that was not known, and is from now on. Lines of layer 7 differ in too much to be met again."""
        if record.__class__ is not Flow or record.form.kind == EventKind.L7:
            return record
        form = record.form
        flow: Flow = record
        if form.__class__ is not KeptForm:
            if form.detail is not None and sum(map(len, filter(_is_tuple, form.detail))) > MAX_NAMES:
                return record
            flow = _new(Flow, (*record[:-1], _new(KeptForm, form)))
        return flow if self._known and self._known.keep(line, flow) else record

    def _decode_lines(self, data: bytes) -> list[Record] | None:
        """As `decode_block`, for lines that are not known.

        Every line must begin with a brace, end with one, and have a line end after it: values that are as many as such
        lines are one per line, since no value has a line end between two braces.
        """
        if not data.isascii():
            return None
        ends, start, find = [], 0, data.find
        while (end := find(b"\n", start)) >= 0:
            if data[start] != 123 or data[end - 1] != 125:
                return None
            ends.append(end)
            start = end + 1
        if start != len(data):
            return None
        try:
            lines = self._lines.decode_lines(data)
        except _FAILURES:
            return None
        if len(lines) != len(ends):
            return None
        start, records, made = 0, list[Record](), self._flow
        for line, end in zip(lines, ends, strict=True):
            try:
                records.append(made(line.flow, data, start, end))
            except _FAILURES:
                records.append(slow_decode(data[start:end]))
            start = end + 1
        return records

    def _flow(self, flow: _Flow | None, data: bytes, start: int, end: int) -> Flow:
        """The flow of the line in `data` from `start` to `end`. Raises one of `_FAILURES` if that is for the slow decoder."""
        # Without these it is another kind of record, or spelled differently (nodeName, eventType).
        if flow is None or flow.event_type is None or not flow.node_name or not flow.time:
            raise _OddError
        ip = flow.IP or _NO_IP
        event = flow.event_type
        kind, sub_type, is_reply = event.type, event.sub_type, flow.is_reply
        if kind <= 0 or sub_type < 0 or (is_reply is None and data.find(b'"isReply"', start, end) >= 0):
            raise _OddError
        time = flow.time
        second, fraction = self._seconds.get(time[:19]), time[20:29]
        if second is not None and time[19:20] == "." and time[29:] == "Z" and fraction.isdecimal() and time.isascii():
            nanoseconds = second + int(fraction)
        else:
            nanoseconds = self._time(time)
        l4, flags = flow.l4, 0
        protocol: Protocol | None
        if l4 is None:
            protocol, source_port, destination_port = None, 0, 0
        elif (ports := l4.TCP or l4.UDP) is not None:
            source_port, destination_port = ports.source_port, ports.destination_port
            if not (0 < source_port < 65536 and 0 < destination_port < 65536):
                _check_ports(ports, data, start, end)
            if l4.TCP is None:
                protocol = _UDP
            else:
                protocol, flags = _TCP, self._flags[_bytes((ports.flags,))]
        else:
            protocol, source_port, destination_port = _rare_layer4(l4, data, start, end)
        endpoints, reason = self._endpoints, flow.drop_reason_desc or flow.drop_reason
        # tuple.__new__ spares the keyword machinery of NamedTuple: a fifth of the decoder's time.
        values = (
            flow.node_name,
            endpoints[_bytes((flow.source,))],
            endpoints[_bytes((flow.destination,))],
            protocol,
            flags,
            _VERDICT(flow.verdict, 0),
            kind,
            sub_type,
            _drop_reason(flow) if reason else 0,
            _DIRECTION(flow.traffic_direction, 0),
            is_reply if is_reply is not None else flow.reply or None,
            _TRACE_REASON(flow.trace_reason, 0),
            *(_PLAIN if flow.aggregate is None else _weight(flow.aggregate)),
            _detail(flow, ip),
        )
        form = self._forms.of(values, end - start)
        made: Flow = _new(
            Flow, (nanoseconds, flow.uuid, ip.source, ip.destination, source_port, destination_port, form)
        )
        return made

    def _time(self, text: str) -> int:
        """Nanoseconds since the epoch; whole seconds are remembered, but for the last one there is, which has no end."""
        time = parse_time(text)
        if text.endswith(("Z", "z")) and time < normal.MAX_TIME - 1_000_000_000:
            if len(self._seconds) > 4096:
                self._seconds.clear()
            self._seconds[text[:19]] = time - time % 1_000_000_000
        return time


_TCP, _UDP = Protocol.TCP, Protocol.UDP
_VERDICT, _DIRECTION, _TRACE_REASON = normal.VERDICTS.get, normal.DIRECTIONS.get, normal.TRACE_REASONS.get
_PLAIN = (1, False)
_new: Any = tuple.__new__
_bytes: Any = b"".join
"""Of a `msgspec.Raw` in a tuple: its bytes, in half the time that `bytes` takes."""


def _is_tuple(value: object) -> TypeGuard[tuple[object, ...]]:
    return value.__class__ is tuple


def _check_ports(ports: _Ports, data: bytes, start: int, end: int) -> None:
    """A port that is missing is 0, unless it is there under its other name, which may even be escaped."""
    source, destination = ports.source_port, ports.destination_port
    possible = 0 <= source <= normal.MAX_PORT and 0 <= destination <= normal.MAX_PORT
    if not possible:
        raise _OddError
    if not (source and destination) and any(data.find(sign, start, end) >= 0 for sign in (b'Port"', b"\\u")):
        raise _OddError


def _rare_layer4(l4: _Layer4, data: bytes, start: int, end: int) -> tuple[Protocol, int, int]:
    if l4.SCTP is not None:
        _check_ports(l4.SCTP, data, start, end)
        return Protocol.SCTP, l4.SCTP.source_port, l4.SCTP.destination_port
    for icmp, protocol in ((l4.ICMPv4, Protocol.ICMP), (l4.ICMPv6, Protocol.ICMPV6)):
        if icmp is not None:
            if not (0 <= icmp.type <= normal.MAX_ICMP and 0 <= icmp.code <= normal.MAX_ICMP):
                raise _OddError
            return protocol, icmp.code, icmp.type
    raise _OddError


def _drop_reason(flow: _Flow) -> int:
    return normal.DROP_REASONS.get(flow.drop_reason_desc, 0) or _unsigned(flow.drop_reason)


def _loads(raw: bytes) -> Any:
    return msgspec.json.decode(raw) if raw else None


def _unsigned(number: int) -> int:
    if not 0 <= number < 2**32:
        raise _OddError
    return number


def _weight(counters: _Aggregate) -> tuple[int, bool]:
    values = (counters.ingress_flow_count, counters.egress_flow_count, counters.unknown_direction_flow_count)
    return normal.weight(*map(_unsigned, values)), True


def _detail(flow: _Flow, ip: _Ip) -> Detail | None:
    if not (
        flow.l7 is not None
        or flow.destination_names is not None
        or flow.policy_match_type
        or ip.source_xlated
        or flow.source_names is not None
        or flow.destination_service is not None
        or flow.source_service is not None
        or flow.egress_allowed_by is not None
        or flow.ingress_allowed_by is not None
        or flow.egress_denied_by is not None
        or flow.ingress_denied_by is not None
    ):
        return None
    return normal.detail_or_none(_full_detail(flow, ip))


def _full_detail(flow: _Flow, ip: _Ip) -> Detail:
    l7, source, destination = flow.l7, flow.source_service, flow.destination_service
    http, dns = (l7.http, l7.dns) if l7 is not None else (None, None)
    return Detail(
        normal.names(flow.source_names or ()),
        normal.names(flow.destination_names or ()),
        "" if source is None else normal.service_name(source.namespace, source.name),
        "" if destination is None else normal.service_name(destination.namespace, destination.name),
        None if http is None else _http(http),
        None if dns is None else _dns(dns),
        0 if l7 is None else normal.L7_TYPES.get(l7.type, 0),
        _policies(flow.egress_allowed_by),
        _policies(flow.ingress_allowed_by),
        _policies(flow.egress_denied_by),
        _policies(flow.ingress_denied_by),
        _unsigned(flow.policy_match_type),
        ip.source_xlated,
    )


def _http(http: _Http) -> HttpRecord:
    host, path = normal.http_path(http.url)
    return HttpRecord(http.method, path, host, _unsigned(http.code))


def _dns(dns: _Dns) -> DnsRecord:
    return DnsRecord(
        normal.name(dns.query), tuple(dns.ips), _unsigned(dns.rcode), normal.names(dns.cnames), tuple(dns.qtypes)
    )


def _policies(policies: list[_Policy] | None) -> tuple[PolicyRef, ...]:
    return tuple([PolicyRef(each.kind, each.namespace, each.name) for each in policies]) if policies else ()
