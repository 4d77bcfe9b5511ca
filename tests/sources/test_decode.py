"""The JSON decoders: fast and slow and protobuf's give the same, every shape Hubble's JSON was met in, and nothing breaks them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analyzer.aggregate import aggregate
from analyzer.model.flow import (
    EMPTY_ENDPOINT,
    Detail,
    DnsRecord,
    Flow,
    HttpRecord,
    LostEvents,
    NodeStatus,
    Skip,
    TcpFlags,
)
from analyzer.model.l4 import Protocol
from analyzer.sources import decode, decode_pb
from analyzer.sources.base import Record
from analyzer.sources.decode_slow import slow_decode
from tests.flows import flow_of
from tests.sources.hubble import START, at, response, some_flow
from tests.sources.messages import RESPONSE, USUAL, json_form

NANO = 1_000_000_000


def compact(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def both(line: bytes) -> Record:
    """The record in a line, on which both JSON decoders agree."""
    fast, slow = decode.Decoder().decode(line), slow_decode(line)
    assert fast == slow
    assert type(fast) is type(slow)
    return fast


def decoded(**fields: Any) -> Any:
    """What an exporter's line about `some_flow` with these fields becomes. A field that is None is left out."""
    flow = {key: value for key, value in some_flow(1, **fields).items() if value is not None}
    return both(compact({"flow": flow, "node_name": "node-1", "time": at(1)}))


PLAIN = decoded()


# All decoders agree


@settings(deadline=None, max_examples=300)
@given(st.one_of(RESPONSE, USUAL))
def test_both_wire_formats_give_the_same_record(message: Any) -> None:
    expected = decode_pb.Decoder().decode(message.SerializeToString())
    assert both(compact(json_form(message))) == expected


@settings(deadline=None, max_examples=150)
@given(USUAL)
def test_the_usual_line_takes_the_fast_way(message: Any) -> None:
    """Else the properties here would compare the slow decoder with itself."""

    def never(line: bytes) -> Record:
        raise AssertionError(f"the slow way was taken for {line!r}")

    form = json_form(message)
    numbers = [form["flow"].get(name) for name in ("verdict", "traffic_direction", "trace_reason", "drop_reason_desc")]
    layer7 = form["flow"].get("l7", {})
    if any(isinstance(number, int) for number in [*numbers, layer7.get("type")]):
        return  # Newer than our tables, and rare.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode, "slow_decode", never)
        assert isinstance(decode.Decoder().decode(compact(form)), Flow)


def camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def respelled(value: Any, respell: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {respell(key): respelled(each, respell) for key, each in value.items()}
    return [respelled(each, respell) for each in value] if isinstance(value, list) else value


def reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in sorted(value, reverse=True)}
    return [reordered(each) for each in value] if isinstance(value, list) else value


def with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        absent = dict.fromkeys(("source_names", "egress_allowed_by", "Summary", "pod_name", "code", "aggregate"))
        return {**absent, **{key: with_nulls(each) for key, each in value.items()}}
    return [with_nulls(each) for each in value] if isinstance(value, list) else value


def numbers_as(convert: Callable[[int], Any]) -> Callable[[Any], Any]:
    def converted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: converted(each) for key, each in value.items()}
        if isinstance(value, list):
            return [converted(each) for each in value]
        return convert(value) if isinstance(value, int) and not isinstance(value, bool) else value

    return converted


def without_enumerations(form: dict[str, Any]) -> dict[str, Any]:
    """Numbers of enumerations are never written as strings: those would be names."""
    flow = dict(form["flow"])
    for name in ("verdict", "traffic_direction", "trace_reason", "drop_reason_desc", "Type", "trace_observation_point"):
        if isinstance(flow.get(name), int):
            del flow[name]
    if isinstance(flow.get("l7", {}).get("type"), int):
        del flow["l7"]
    return {**form, "flow": flow}


SAME: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "lowerCamel": lambda form: compact(respelled(form, camel)),
    "any order": lambda form: compact(reordered(form)),
    "nulls": lambda form: compact(with_nulls(form)),
    "spaces": lambda form: json.dumps(form, indent=None, separators=(" , ", " : ")).encode() + b" \r",
    "escapes": lambda form: json.dumps(form, ensure_ascii=True).replace("/", "\\/").encode(),
    "numbers as strings": lambda form: compact(numbers_as(str)(without_enumerations(form))),
    "whole floats": lambda form: compact(numbers_as(float)(without_enumerations(form))),
    "newer fields": lambda form: compact({**form, "new": [{"a": None}], "flow": {**form["flow"], "ext_error": -5}}),
    "CRI": lambda form: b"2026-09-01T00:00:00.5+02:00 stderr F " + compact(form),
    "fluent-bit": lambda form: compact({"log": compact(form).decode() + "\n", "kubernetes": {"pod_name": "cilium"}}),
    "fluent-bit with CRI": lambda form: compact({"log": "2026-09-01T00:00:00Z stdout F " + compact(form).decode()}),
    "CRI with fluent-bit": lambda form: b"2026-09-01T00:00:00Z stdout F " + compact({"log": compact(form).decode()}),
}


@pytest.mark.parametrize("shape", SAME)
@settings(deadline=None, max_examples=40)
@given(st.one_of(RESPONSE, USUAL))
def test_how_a_line_is_written_changes_nothing(shape: str, message: Any) -> None:
    form = without_enumerations(json_form(message))
    assert both(SAME[shape](form)) == both(compact(form))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(RESPONSE, USUAL), max_size=8))
def test_what_was_decoded_before_changes_nothing(messages: list[Any]) -> None:
    decoder = decode.Decoder()
    for line in [compact(json_form(message)) for message in messages * 2]:
        assert decoder.decode(line) == decode.Decoder().decode(line)


ODD_LINES = [
    b"{}", b"{}{}", b'{"flow":', b'{"flow":{}', b"}", b'{"x":1}}', b"", b" ", b"{}\r", b'\xff{"flow":{}}', b"[{}]", b"null",
    b'{"agent_event":{}}', b'{"flow":{"verdict":5,"source":{}}}', '{"flow":{"uuid":"é"}}'.encode(), b'{"flow":{"uuid":5}}',
    b"2026-09-01T00:00:00Z stdout F {}",
]  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(USUAL, USUAL, st.sampled_from(ODD_LINES)), max_size=6), st.sampled_from([b"\n", b""]))
def test_a_block_of_lines_is_its_lines_one_by_one(made: list[Any], end: bytes) -> None:
    lines = [each if isinstance(each, bytes) else compact(json_form(each)) for each in made]
    decoder = decode.Decoder()
    for _ in range(2):
        data = b"\n".join(lines) + end
        expected = [slow_decode(line) for line in data.removesuffix(b"\n").split(b"\n")] if data else []
        records = decoder.decode_block(data)
        assert records is None or records == expected


def test_a_block_of_usual_lines_is_decoded_at_once_also_with_other_records_in_it() -> None:
    flow = compact({"flow": some_flow(1), "node_name": "node-1", "time": at(1)}) + b"\n"
    found = decode.Decoder().decode_block(flow + b'{"agent_event":{}}\n' + flow)
    assert found == [PLAIN, Skip.AGENT_EVENT, PLAIN]


# The shapes of Hubble's JSON, by name


def test_every_field_of_a_line_arrives() -> None:
    assert flow_of(
        time=(START + 1) * NANO, node="node-1", source=PLAIN.source, destination=PLAIN.destination,
        source_ip="10.0.0.1", destination_ip="10.0.0.2", protocol=Protocol.TCP, source_port=40001, destination_port=8080,
        tcp_flags=TcpFlags.SYN, verdict=1, kind=4, sub_type=0, drop_reason=0, direction=1, is_reply=False,
        trace_reason=0, uuid="u1",
    ) == PLAIN  # fmt: skip
    assert PLAIN.source.labels.strings() == ("k8s:app=web",)
    assert (PLAIN.source.namespace, PLAIN.source.pod, PLAIN.source.identity) == ("shop", "web-1", 1000)


def test_a_bare_flow_of_an_old_cli() -> None:
    assert both(compact(some_flow(1))) == PLAIN


def test_an_envelope_without_node_and_time() -> None:
    assert both(compact({"flow": some_flow(1)})) == PLAIN


def test_a_masked_flow_takes_node_and_time_from_its_envelope() -> None:
    flow = some_flow(1)
    del flow["node_name"], flow["time"]
    assert both(compact({"flow": flow, "node_name": "node-1", "time": at(1)})) == PLAIN
    masked = both(compact({"flow": flow}))
    assert isinstance(masked, Flow)
    assert (masked.node, masked.time) == ("", 0)


def test_the_flows_own_node_and_time_win() -> None:
    assert both(compact({"flow": some_flow(1), "node_name": "relay", "time": at(9)})) == PLAIN


def test_zero_values_are_left_out_or_written() -> None:
    assert decoded(l4={"UDP": {"destination_port": 53}}).source_port == 0
    assert decoded(l4={"UDP": {"source_port": 0, "destination_port": 53}}).source_port == 0
    assert decoded(verdict=None).verdict == 0
    assert decoded(verdict="VERDICT_UNKNOWN").verdict == 0
    assert decoded(event_type={"type": 4, "sub_type": 0}) == PLAIN


@pytest.mark.parametrize(
    ("l4", "expected"),
    [
        ({"ICMPv4": {}}, (Protocol.ICMP, 0, 0)),
        ({"ICMPv4": {"type": 8}}, (Protocol.ICMP, 0, 8)),
        ({"ICMPv6": {"type": 1, "code": 4}}, (Protocol.ICMPV6, 4, 1)),
        ({"SCTP": {"source_port": 5, "destination_port": 6}}, (Protocol.SCTP, 5, 6)),
        ({"VRRP": {"type": 1}}, (Protocol.VRRP, 0, 0)),
        ({"IGMP": {}}, (Protocol.IGMP, 0, 0)),
        ({"TCP": {}}, (Protocol.TCP, 0, 0)),
        ({"QUICKER": {}}, (None, 0, 0)),
        ({}, (None, 0, 0)),
        (None, (None, 0, 0)),
    ],
)
def test_layer_4_also_when_set_but_empty(l4: Any, expected: tuple[Any, int, int]) -> None:
    flow = decoded(l4=l4)
    assert (flow.protocol, flow.source_port, flow.destination_port) == expected


def test_a_masked_endpoint_and_no_flags_are_empty_messages() -> None:
    flow = decoded(source={}, l4={"TCP": {"source_port": 40001, "destination_port": 8080, "flags": {}}})
    assert flow == PLAIN.replace(source=EMPTY_ENDPOINT, tcp_flags=0)


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("verdict", "verdict", "AUDIT", 4),
        ("verdict", "verdict", 4, 4),
        ("verdict", "verdict", 99, 99),
        ("verdict", "verdict", "A_NEWER_ONE", 0),
        ("drop_reason", "drop_reason_desc", 207, 207),
        ("drop_reason", "drop_reason_desc", "POLICY_DENY", 181),
        ("drop_reason", "drop_reason", 133, 133),
        ("direction", "traffic_direction", "EGRESS", 2),
        ("trace_reason", "trace_reason", "SRV6_ENCAP", 6),
        ("trace_reason", "trace_reason", 8, 8),
    ],
)
def test_enumerations_by_name_or_number(name: str, field: str, value: Any, expected: int) -> None:
    assert getattr(decoded(**{field: value}), name) == expected


def test_an_old_agents_number_counts_where_the_name_is_new() -> None:
    assert decoded(drop_reason=133, drop_reason_desc="A_NEWER_ONE").drop_reason == 133


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"is_reply": False}, False),
        ({"is_reply": True}, True),
        ({"is_reply": None}, None),
        ({"is_reply": None, "reply": True}, True),
        ({"is_reply": None, "reply": False}, None),
        ({"is_reply": False, "reply": True}, False),
    ],
)
def test_is_reply_has_three_values(fields: dict[str, Any], expected: bool | None) -> None:
    assert decoded(**fields).is_reply is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-09-01T00:00:00Z", 1_788_220_800 * NANO),
        ("2026-09-01T00:00:00.1Z", 1_788_220_800 * NANO + 100_000_000),
        ("2026-09-01T00:00:00.100Z", 1_788_220_800 * NANO + 100_000_000),
        ("2026-09-01T00:00:00.123456Z", 1_788_220_800 * NANO + 123_456_000),
        ("2026-09-01T00:00:00.123456789Z", 1_788_220_800 * NANO + 123_456_789),
        ("2026-09-01T02:00:00.000000001+02:00", 1_788_220_800 * NANO + 1),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
    ],
)
def test_times_with_any_fraction_and_zone(text: str, expected: int) -> None:
    assert decoded(time=text).time == expected
    with_memory = decode.Decoder()
    for _ in range(2):
        record = with_memory.decode(compact({"flow": some_flow(1, time=text)}))
        assert isinstance(record, Flow)
        assert record.time == expected


def test_a_flow_of_exactly_1970_is_one_in_all_decoders() -> None:
    """The envelope's time counts only where the flow has none."""
    epoch = "1970-01-01T00:00:00Z"
    message = response(some_flow(1, time=epoch), node_name="node-1", time=at(5))
    for record in (both(compact(json_form(message))), decode_pb.Decoder().decode(message.SerializeToString())):
        assert isinstance(record, Flow)
        assert record.time == 0


def test_the_last_second_of_all_ends_early_also_when_it_was_met_before() -> None:
    last, late = (
        compact({"flow": some_flow(1) | {"time": f"2262-04-11T23:47:16.{fraction}Z"}})
        for fraction in (854775807, 900000000)
    )
    decoder = decode.Decoder()
    assert [decoder.decode(line) for line in (last, late)] == [slow_decode(line) for line in (last, late)]
    assert decoder.decode(late) is Skip.MALFORMED


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-09-01", "2026-09-01T00:00:00", "2026-09-01T00:00:00.1234567890Z", "2026-13-01T00:00:00Z",
     "2026-09-01T24:00:00Z", "1969-12-31T23:59:59Z", "2263-01-01T00:00:00Z", "2026-09-01T00:00:00.Z", "٢٠٢٦-09-01T00:00:00Z",
     "2026-09-01T00:00:00.123456789Z0"],
)  # fmt: skip
def test_what_is_no_time_is_malformed_but_an_empty_one_is_absent(text: str) -> None:
    found = decoded(time=text)
    assert found == (PLAIN if not text else Skip.MALFORMED)
    with_memory = decode.Decoder()
    for fraction in (".5", ".500000000", ""):
        with_memory.decode(compact({"flow": some_flow(1, time=f"2026-09-01T00:00:00{fraction}Z")}))
    assert with_memory.decode(compact({"flow": some_flow(1, time=text)})) == slow_decode(
        compact({"flow": some_flow(1, time=text)})
    )


def test_64_bit_numbers_are_strings() -> None:
    lost = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "18446744073709551615"}}
    assert both(compact({**lost, "node_name": "node-1", "time": at(1)})) == LostEvents(
        "node-1", (START + 1) * NANO, 3, 2**64 - 1
    )
    found = decoded(socket_cookie="5", cgroup_id="6", ip_trace_id={"trace_id": "7"})
    assert found == PLAIN


def test_the_state_of_nodes() -> None:
    status = {"state_change": "NODE_UNAVAILABLE", "node_names": ["a", "b"], "message": "gone"}
    assert both(compact({"node_status": status, "time": at(1)})) == NodeStatus(
        ("a", "b"), (START + 1) * NANO, 2, "gone"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ({"agent_event": {"type": "POLICY_UPDATED"}, "node_name": "n"}, Skip.AGENT_EVENT),
        ({"agentEvent": {}}, Skip.AGENT_EVENT),
        ({"debug_event": {"type": 5}}, Skip.DEBUG_EVENT),
        ({}, Skip.EMPTY),
        ({"flow": None}, Skip.EMPTY),
        ({"node_name": "n", "time": "2026-09-01T00:00:00Z"}, Skip.EMPTY),
        ({"level": "info", "msg": "Starting"}, Skip.EMPTY),
        ({"log": "level=info msg=Starting"}, Skip.MALFORMED),
        ([], Skip.MALFORMED),
        ("flow", Skip.MALFORMED),
        (None, Skip.MALFORMED),
        ({"flow": []}, Skip.MALFORMED),
    ],
)
def test_lines_without_a_flow(line: Any, expected: Skip) -> None:
    assert both(compact(line)) is expected


def test_http_and_dns() -> None:
    http = {"code": 503, "method": "GET", "url": "http://user:pw@Cart:8080/a/b?secret=1#x", "protocol": "HTTP/1.1"}
    l7 = {"type": "RESPONSE", "latency_ns": "17", "http": http}
    assert decoded(l7=l7).detail == Detail(http=HttpRecord("GET", "/a/b", "cart:8080", 503), l7_type=2)
    dns = {"query": "API.example.com.", "ips": ["192.0.2.1"], "ttl": 5, "rcode": 3, "qtypes": ["A"]}
    assert decoded(l7={"type": "REQUEST", "dns": dns}).detail == Detail(
        dns=DnsRecord("api.example.com", ("192.0.2.1",), 3, (), ("A",)), l7_type=1
    )
    assert decoded(l7={"kafka": {"topic": "x"}}).detail is None


def test_aggregated_lines_weigh_the_sum_of_their_counters() -> None:
    found = decoded(aggregate={"ingress_flow_count": 3, "egress_flow_count": 4})
    assert (found.weight, found.aggregated) == (7, True)
    empty = decoded(aggregate={})
    assert (empty.weight, empty.aggregated) == (1, True)


def test_extensions_of_vendors_are_passed_over() -> None:
    assert decoded(extensions={"@type": "type.googleapis.com/vendor.Thing", "a": [1]}) == PLAIN


@pytest.mark.parametrize(
    "fields",
    [
        {"verdict": []},
        {"verdict": -1},
        {"l4": {"TCP": {"source_port": 65536}}},
        {"l4": {"TCP": {"source_port": "x"}}},
        {"l4": {"TCP": {"source_port": 1.5}}},
        {"l4": {"TCP": {"source_port": True}}},
        {"l4": {"ICMPv4": {"type": 256}}},
        {"l4": 5},
        {"source": "shop/web"},
        {"source": {"labels": "k8s:app=web"}},
        {"source": {"labels": [5]}},
        {"source": {"ID": -1}},
        {"is_reply": "false"},
        {"destination_names": ["a", 5]},
        {"aggregate": {"ingress_flow_count": -1}},
        {"event_type": {"type": -4}},
        {"uuid": "\ud800"},
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_malformed(fields: dict[str, Any]) -> None:
    line = json.dumps({"flow": some_flow(1, **fields)}).encode()
    assert both(line) is Skip.MALFORMED


# Nothing breaks them

JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-5, 70_000), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from(["1", "-1", "²", "1.0", "NaN", "AUDIT", "\x00", "2026-09-01T00:00:00Z"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["flow", "source", "TCP", "type", "name", "labels", "isReply", "x"]), inner),
    ),
    max_leaves=6,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A record in which one value, somewhere, is something else."""
    form = json_form(draw(st.one_of(USUAL, RESPONSE)))
    place = form
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not inner or not isinstance(inner, dict | list) or draw(st.integers(0, 3)) == 0:
            place[key] = draw(JSON)
            return form
        place = inner


@settings(deadline=None, max_examples=600)
@given(damaged())
def test_one_odd_value_is_the_same_to_both(form: Any) -> None:
    both(json.dumps(form).encode())


@settings(deadline=None, max_examples=300)
@given(JSON)
def test_any_json_is_a_record_or_counted(document: Any) -> None:
    record = both(json.dumps(document).encode())
    assert aggregate([record]).coverage.records == 1


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(lambda data: b'{"flow":{' + data)))
@example(b"[" * 100_000)
@example(b'{"flow":' * 50_000)
@example(b'{"flow":{"x":' + b"9" * 10_000 + b"}}")
@example(b'{"flow":{"node_name":"n","time":"x","event_type":{"type":1},"l4":' + b"{" * 9000)
@example(b"2026-09-01T00:00:00Z stdout F ")
@example(b'{"log":"{\\"log\\":\\"{}\\"}"}')
def test_any_bytes_are_a_record_or_counted(line: bytes) -> None:
    record = both(line)
    assert aggregate([record]).coverage.records == 1


@settings(deadline=None, max_examples=600)
@given(USUAL, st.data())
def test_one_odd_byte_is_the_same_to_both(message: Any, data: st.DataObject) -> None:
    line = bytearray(compact(json_form(message)))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at : at + data.draw(st.integers(0, 2))] = data.draw(
        st.one_of(
            st.binary(max_size=2), st.sampled_from([b'"', b"{", b"\xff", b"\\", b"\xed\xa0\x80", b"\n", b"-", b"0"])
        )
    )
    record = both(bytes(line))
    assert aggregate([record]).coverage.records == 1
