"""Known lines: a line that is found again by its bytes says what the slow decoder says, whatever whoever wrote it intended."""

from __future__ import annotations

import gc
import json
import os
import sys
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.flow import Flow, KeptForm, Skip
from analyzer.sources import known
from analyzer.sources.base import Record
from analyzer.sources.decode import Decoder
from analyzer.sources.decode_slow import slow_decode
from analyzer.sources.known import KnownLines, compiled_lines
from tests.sources.hubble import some_flow
from tests.sources.messages import USUAL, json_form
from tests.sources.plain_lines import PlainLines

pytestmark = pytest.mark.skipif(
    compiled_lines() is None and os.environ.get("CI") != "true", reason="known.c was not built: there is no C compiler"
)

TIME, UUID = "2026-09-01T00:00:00.123456789Z", "2265b1f5-0000-4000-a000-000000000001"
TIMES = [
    TIME, "2026-09-01T00:00:01Z", "2026-09-01T23:59:59.9Z", "2026-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00.000001Z",
    "2024-02-29T12:00:00.5Z", "2262-04-11T23:47:16.854775807Z",
]  # fmt: skip
NO_TIMES = [
    "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-09-01T24:00:00Z", "2026-09-01T00:00:60Z", "1969-12-31T23:59:59Z",
    "2262-04-11T23:47:16.854775808Z", "2026-09-01T00:00:00.Z", "2026-09-01T00:00:00.1234567890Z", "2026-09-01T00:00:00+00:00",
    "2026-09-01t00:00:00z", "2026-09-01T00:00:0", "20.6-09-01T00:00:00Z", "", "2026-09-01T00:00:00.12\\u0033Z",
]  # fmt: skip
UUIDS = [UUID, "u1", "A" * 64]
NO_UUIDS = ["", "A" * 65, "é", "a b", 'a","uuid":"b', "\\u0061", "a\\", 'a"', "a\tb"]
PORTS = [1, 80, 9102, 48594, 65535]
NO_PORTS = ["0", "65536", "99999", "100000", "080", "-1", "8.0", "8e1", '"80"', "null", "1_0", " 80", "+8"]


def line(
    time: str = TIME, uuid: str = UUID, ports: tuple[Any, Any] = (40_001, 8080), kind: str = "TCP", **fields: Any
) -> str:
    """An exporter's line with these values exactly as they are written here."""
    flow = {key: value for key, value in some_flow(1, **fields).items() if value is not None}
    del flow["time"], flow["uuid"]
    flow["l4"] = {
        kind: {"source_port": -1, "destination_port": -2, **({"flags": {"ACK": True}} if kind == "TCP" else {})}
    }
    rest = json.dumps(flow, separators=(",", ":"))[1:]
    rest = rest.replace('"source_port":-1', f'"source_port":{ports[0]}')
    rest = rest.replace('"destination_port":-2', f'"destination_port":{ports[1]}')
    return f'{{"flow":{{"time":"{time}","uuid":"{uuid}",{rest},"node_name":"node-1","time":"{time}"}}'


def read(decoder: Decoder, *lines: str) -> list[Record]:
    """What the decoder makes of a block, and what whoever reads files makes of one that it does not take at once."""
    data = [each.encode() for each in lines]
    records = decoder.decode_block(b"".join(each + b"\n" for each in data))
    return [decoder.decode(each) for each in data] if records is None else records


def slowly(*lines: str) -> list[Record]:
    return [slow_decode(each.encode()) for each in lines]


def compiled(seed: int | None = None) -> KnownLines:
    """With a seed, which lines share a place is the same in every run."""
    if seed is not None:
        assert known.compiled is not None
        return known.compiled.Known(Flow, known.second, Random(seed).randbytes(known.compiled.SECRET))
    found = compiled_lines()
    assert found is not None
    return found


def knows(lines: KnownLines, each: str) -> bool:
    return lines.read(each.encode())[0] != [None]


def test_a_line_met_before_is_found_again_with_its_own_time_uuid_and_ports() -> None:
    decoder, lines = Decoder(), compiled()
    first, second = line(), line(TIMES[1], UUIDS[1], (50_000, 8081))
    [flow] = read(decoder, first)
    assert isinstance(flow, Flow)
    assert not knows(lines, first)
    assert lines.keep(first.encode(), flow)
    [again], unknown = lines.read(second.encode())
    assert again == slow_decode(second.encode())
    assert unknown == []
    assert again is not None
    assert again.form is flow.form
    assert isinstance(again.form, KeptForm)


@pytest.mark.parametrize("kind", ["TCP", "UDP"])
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("uuid", UUIDS)
@pytest.mark.parametrize("port", PORTS)
def test_every_value_that_can_be_cut_out(kind: str, time: str, uuid: str, port: int) -> None:
    decoder = Decoder()
    read(decoder, line(kind=kind))
    assert read(decoder, line(time, uuid, (port, 53), kind)) == slowly(line(time, uuid, (port, 53), kind))
    assert read(decoder, line(time, uuid, (53, port), kind)) == slowly(line(time, uuid, (53, port), kind))


@pytest.mark.parametrize(
    "odd",
    [
        *[{"time": time} for time in NO_TIMES],
        *[{"uuid": uuid} for uuid in NO_UUIDS],
        *[{"ports": ports} for port in NO_PORTS for ports in ((port, 80), (80, port))],
        {"kind": "SCTP"},
    ],
    ids=str,
)
def test_other_values_are_left_to_the_decoders(odd: dict[str, Any]) -> None:
    decoder = Decoder()
    for _ in range(2):
        assert read(decoder, line()) == slowly(line())
        assert read(decoder, line(**odd)) == slowly(line(**odd))


@pytest.mark.parametrize("end", [TIMES[1] + '"}', 'x"y' * 10 + '"}', TIME + '"]', TIME + "}}", TIME + '" '])
def test_a_line_may_end_otherwise(end: str) -> None:
    decoder, other = Decoder(), line()[: -len(TIME) - 2] + end
    for each in (line(), other, line(), other):
        assert read(decoder, each) == slowly(each)


# Lines in which something else is meant than what is cut out. Each is met with one set of values, and then with another.
L4 = '"l4":{"TCP":{"source_port":%s,"destination_port":%s,'
DECEIVING = {
    "a second time": lambda text, time, uuid, ports: text.replace('"verdict"', f'"time":"{TIME}","verdict"'),
    "a second time, spaced": lambda text, *_: text.replace('"verdict"', f'"time" : "{TIME}","verdict"'),
    "a second time, escaped": lambda text, *_: text.replace('"verdict"', f'"t\\u0069me":"{TIME}","verdict"'),
    "a second uuid": lambda text, *_: text.replace('"verdict"', f'"uuid":"{UUID}","verdict"'),
    "a second uuid, escaped": lambda text, *_: text.replace('"verdict"', f'"\\u0075uid":"{UUID}","verdict"'),
    "a second flow": lambda text, *_: text.replace(',"node_name":"node-1","time"', f',"flow":{{"uuid":"{UUID}"}},"time"'),
    "a second flow without a uuid": lambda text, time, uuid, ports: line(time, uuid, ports, "SCTP").replace(
        ',"node_name":"node-1","time"', ',"flow":{"verdict":"DROPPED","event_type":{"type":1},"node_name":"a"},"time"'
    ),
    "ports of an object that is not read": lambda text, time, uuid, ports: text.replace(
        L4 % ports, f'"x":{{{L4 % ports}'
    ).replace('"source":{', '"y":{}},"source":{', 1),
    "ports of another object": lambda text, time, uuid, ports: text.replace(
        L4 % ports, f'"l4":{{"UDP":{{"sourcePort":40001,"destinationPort":8080}}}},"x":{{{L4 % ports}'
    ).replace('"source":{', '"y":{}},"source":{', 1),
    "ports spelled otherwise": lambda text, time, uuid, ports: text.replace(
        L4 % ports,
        f'"l4":{{"UDP":{{"source_port":{ports[0]},"destination_port":{ports[1]}}},'
        '"TCP":{"sourcePort":40001,"destinationPort":8080,',
    ),
    "ports of ICMP": lambda text, time, uuid, ports: text.replace(
        L4 % ports,
        f'"l4":{{"UDP":{{"source_port":{ports[0]},"destination_port":{ports[1]}}},"UDP":null,"ICMPv4":{{"code":1,"type":8}},'
        '"VRRP":{',
    ),
    "a second layer 4": lambda text, time, uuid, ports: text.replace(
        '"source":{', '"l4":{"TCP":{"source_port":40001,"destination_port":8080}},"source":{', 1
    ),
    "a second TCP": lambda text, time, uuid, ports: text.replace(
        L4 % ports, f'{L4 % ports}"x":0}},"TCP":{{"source_port":40001,"destination_port":8080,'
    ),
    "a second port": lambda text, time, uuid, ports: text.replace(L4 % ports, f'{L4 % ports}"source_port":40001,'),
    "a second destination port": lambda text, time, uuid, ports: text.replace(
        L4 % ports, f'{L4 % ports}"destination_port":8080,'
    ),
    "a label that looks like ports": lambda text, time, uuid, ports: text.replace(
        "k8s:app=web", '\\"l4\\":{\\"TCP\\":{\\"source_port\\":1,\\"destination_port\\":2'
    ),
    "an end that looks like one": lambda text, time, *_: text[:-1] + f',"x":"","time":"{time}"}}',
    "a line in a line": lambda text, *_: text.replace(',"node_name":"node-1","time"', ',"log":"x","node_name":"node-1","time"'),
    "not ASCII": lambda text, *_: text.replace("k8s:app=web", "k8s:app=é"),
}  # fmt: skip


@pytest.mark.parametrize("name", DECEIVING)
def test_nothing_else_can_be_meant(name: str) -> None:
    decoder, first = Decoder(), (TIME, UUID, (40_001, 8080))
    if name == "ports of ICMP":
        first = (TIME, UUID, (1, 8))
    for values in (first, (TIMES[1], UUIDS[1], (7, 9)), first):
        text = DECEIVING[name](line(*values), *values)
        assert text != line(*values)
        for _ in range(2):
            assert read(decoder, text) == slowly(text)


def test_lines_that_are_odd_do_not_keep_others_from_being_known() -> None:
    decoder = Decoder()
    odd = [line().replace("web", "wéb"), '{"flow":5}', '{"flow":']
    for _ in range(2):
        assert read(decoder, line(), *odd, line(TIMES[1])) == slowly(line(), *odd, line(TIMES[1]))
    data = "".join(f"{each}\n" for each in (line(), *odd)).encode()
    records = decoder.decode_block(data)
    assert records is not None
    assert isinstance(records[0].form, KeptForm)  # type: ignore[union-attr]
    assert decoder.decode_block(data + b"\n") is None


def test_lines_that_would_take_much_memory_are_not_kept() -> None:
    many = line(egress_allowed_by=[{}] * 100)
    few = line(egress_allowed_by=[{"name": "a"}])
    long = line(Summary="x" * 4096)
    decoder = Decoder()
    for each, kept in ((many, False), (few, True), (long, False)):
        read(decoder, each)
        assert knows(decoder._known, each) is kept  # type: ignore[arg-type]
        assert read(decoder, each) == slowly(each)


def test_flows_that_are_equal_have_one_hash() -> None:
    lines, whole = compiled(), line().encode()
    [flow] = slowly(line())
    assert isinstance(flow, Flow)
    lines.keep(whole, flow)
    [again], _ = lines.read(whole)
    assert again == flow
    assert hash(again) == hash(flow)


# By chance


HOLES = st.tuples(
    st.sampled_from([*TIMES, *NO_TIMES]),
    st.sampled_from([*UUIDS, *NO_UUIDS]),
    st.tuples(st.sampled_from([*PORTS, *NO_PORTS]), st.sampled_from([*PORTS, *NO_PORTS])),
)
OTHERS = st.sampled_from([{}, {"is_reply": None}, {"destination_names": ["a.example"]}, {"Summary": "TCP Flags: ACK"}])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(HOLES, OTHERS), max_size=12))
def test_a_file_of_such_lines_is_its_lines_one_by_one(made: list[Any]) -> None:
    decoder = Decoder()
    lines = [line(*holes, **fields) for holes, fields in made]
    for part in (lines[:4], lines[4:], lines[::-1]):
        assert read(decoder, *part) == slowly(*part)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_line_in_which_anything_was_changed(data: st.DataObject) -> None:
    decoder, whole = Decoder(), line()
    read(decoder, whole)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    text = st.text(st.sampled_from('abl4"\\{}:,019.TZ-+ "'), max_size=12)
    piece = data.draw(
        st.one_of(text, st.sampled_from([whole[start:end], '"time":"', '"l4":{"TCP":{', '"source_port":7,']))
    )
    changed = whole[:start] + piece + whole[end:]
    for each in (changed, whole, changed):
        assert read(decoder, each) == slowly(each)


@settings(deadline=None, max_examples=100)
@given(st.lists(USUAL, min_size=1, max_size=4), st.sampled_from(TIMES), st.sampled_from(UUIDS))
def test_whatever_flows_are_about(messages: list[Any], time: str, uuid: str) -> None:
    forms = [json_form(message) for message in messages]
    for form in forms:
        form["flow"] = {"time": form["flow"]["time"], "uuid": "u1", **form["flow"]}
        form["time"] = form["flow"]["time"]
    lines = [json.dumps({"flow": form["flow"], "time": form.pop("time")}, separators=(",", ":")) for form in forms]
    others = [
        each.replace(form["flow"]["time"], time).replace('"u1"', f'"{uuid}"')
        for each, form in zip(lines, forms, strict=True)
    ]
    decoder = Decoder()
    for part in (lines, others, lines):
        assert read(decoder, *part) == slowly(*part)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(HOLES, OTHERS), max_size=12))
def test_c_and_python_know_the_same_lines(made: list[Any]) -> None:
    fast, plain = compiled(), PlainLines()
    data = "\n".join(line(*holes, **fields) for holes, fields in made).encode()
    for _ in range(2):
        assert fast.read(data) == plain.read(data)
        for each in data.split(b"\n"):
            flow = slow_decode(each)
            if isinstance(flow, Flow):
                assert fast.keep(each, flow) == plain.keep(each, flow), each


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_can_be_read(data: bytes) -> None:
    fast, plain = compiled(), PlainLines()
    whole = line().encode()
    for lines in (fast, plain):
        lines.keep(whole, Flow(*slow_decode(whole)))  # type: ignore[misc]
    cut = len(data) and data[0] * 7 % len(whole)
    for each in (data, whole[:cut] + data, data + b"\n" + whole, whole + data + b"\n\n" + whole[: len(whole) - cut]):
        assert fast.read(each) == plain.read(each)


@pytest.mark.parametrize("second", [b"\xff" * 19, b"\x00" * 19, b"2026-09-01T00:00:0\xff", b"2026-09-01T00:00:0:"])
def test_a_time_of_any_bytes_is_none(second: bytes) -> None:
    lines, whole = compiled(), line().encode()
    assert lines.keep(whole, slow_decode(whole))  # type: ignore[arg-type]
    other = whole.replace(TIME[:19].encode(), second)
    assert lines.read(other) == ([None], [0, len(other)])


# Bounds, and what it holds on to


def test_two_lines_that_differ_anywhere_are_two() -> None:
    """Every byte of the rest counts."""
    lines, whole = compiled(), line()
    [flow] = slowly(whole)
    assert isinstance(flow, Flow)
    assert lines.keep(whole.encode(), flow)
    after_uuid = whole.index('","verdict"')
    rest = [at for at, letter in enumerate(whole) if letter.islower() and at > after_uuid]
    assert len(rest) > 200
    for at in rest:
        other = f"{whole[:at]}{'x' if whole[at] != 'x' else 'y'}{whole[at + 1 :]}"
        assert not knows(lines, other), other
    end = whole.rindex('"time":"')
    for size in range(1, 28):
        assert not knows(lines, whole[:end] + "\0" * size + whole[end:])


def test_stretches_in_another_order_are_another_line() -> None:
    """The hash goes through a line in blocks of 16 bytes: first what comes before the ports, then what comes after them."""
    lines, whole = compiled(), line()
    flow = slow_decode(whole.encode())
    one, other, middle, end = "a" * 16, "b" * 16, whole.index(',"l4"'), whole.index('"time"', 20)

    def with_fields(first: str, second: str) -> str:
        """A line with these texts before and after its ports, each from the 64th of its blocks on."""
        before, between, after = f'{whole[:middle]},"x":"', f'"{whole[middle:end]}"y":"', f'",{whole[end:]}'
        cut = before.index(UUID) + len(UUID), between.index("8080") + len("8080")
        pads = (64 * 16 - len(before) + cut[0], 64 * 16 - len(between) + cut[1])
        return f"{before}{'c' * pads[0]}{first}{between}{'c' * pads[1]}{second}{after}"

    for kept, swapped in (
        ((one + other, ""), (other + one, "")),
        (("", one + other), ("", other + one)),
        ((one, other), (other, one)),
        ((one[:8] + other[:8], ""), (other[:8] + one[:8], "")),
    ):
        assert lines.keep(with_fields(*kept).encode(), flow)  # type: ignore[arg-type]
        assert knows(lines, with_fields(*kept))
        assert not knows(lines, with_fields(*swapped))


def test_ports_that_are_none_are_not_kept() -> None:
    lines, whole = compiled(), line(kind="SCTP").encode()
    flow = slow_decode(whole)
    assert isinstance(flow, Flow)
    for ports in ((65_536, 1), (1, 65_536), (-1, 1), (1, 2**32 + 1)):
        assert not lines.keep(whole, flow._replace(source_port=ports[0], destination_port=ports[1]))
    assert lines.keep(whole, flow._replace(source_port=65_535, destination_port=0))
    assert lines.read(whole)[0] == [flow._replace(source_port=65_535, destination_port=0)]


def test_more_lines_than_there_is_room_for_are_found_or_not_and_never_mistaken() -> None:
    lines, count = compiled(1), 200_000
    [flow] = slowly(line())
    assert isinstance(flow, Flow)
    head, tail = line(pod="web-0").encode().split(b"web-0")
    for number in range(count):
        lines.keep(b"%bweb-%d%b" % (head, number, tail), flow._replace(source_ip=str(number)))
        if number == 20_000:
            assert sum(lines.read(b"%bweb-%d%b" % (head, each, tail))[1] == [] for each in range(number)) > 19_000
    found = 0
    for number in range(count):
        [again], _ = lines.read(b"%bweb-%d%b" % (head, number, tail))
        assert again is None or again.source_ip == str(number)
        found += again is not None
    assert 120_000 < found <= 131_072


def test_where_there_is_no_room_a_line_is_known_from_its_second_time_on() -> None:
    lines = compiled(1)
    [flow] = slowly(line())
    head, tail = line(pod="web-0").encode().split(b"web-0")
    for number in range(500_000):
        lines.keep(b"%bweb-%d%b" % (head, number, tail), flow)  # type: ignore[arg-type]
    new = [b"%bnew-%d%b" % (head, number, tail) for number in range(100)]
    # A place or two may have been missed by all before.
    assert sum(lines.keep(each, flow) for each in new) < 10  # type: ignore[arg-type]
    assert sum(lines.keep(each, flow) for each in new) > 90  # type: ignore[arg-type]
    assert sum(knows(lines, each.decode()) for each in new) > 90


def test_lines_that_come_again_are_not_forgotten_for_those_that_do_not() -> None:
    lines = compiled(1)
    common = [line(pod=f"web-{number}") for number in range(100)]
    for each in common:
        assert lines.keep(each.encode(), slow_decode(each.encode()))  # type: ignore[arg-type]
    [rare] = slowly(line(pod="rare-0"))
    head, tail = line(pod="rare-0").encode().split(b"rare-0")
    for number in range(200_000):
        for _ in range(2):
            lines.keep(b"%brare-%d%b" % (head, number, tail), rare)  # type: ignore[arg-type]
        if number % 1000 == 0:
            assert all(knows(lines, each) for each in common), number


def test_it_lets_go_of_everything() -> None:
    [flow] = slowly(line())
    assert isinstance(flow, Flow)
    kept = flow._replace(source_ip="".join(["192.0.2.", "7"]))
    compiled().keep(line().encode(), kept)  # addresses are interned
    before = sys.getrefcount(kept.form), sys.getrefcount(kept.source_ip)
    lines = compiled()
    for _ in range(3):
        lines.keep(line().encode(), kept)
        for _ in range(100):
            lines.read(line(TIMES[1]).encode() + b"\nx\n")
    del lines
    gc.collect()
    assert (sys.getrefcount(kept.form), sys.getrefcount(kept.source_ip)) == before


@pytest.mark.parametrize(
    "call",
    [
        lambda lines: lines.read("text"),
        lambda lines: lines.read(None),
        lambda lines: lines.keep("text", slow_decode(line().encode())),
        lambda lines: lines.keep(line().encode(), Skip.EMPTY),
        lambda lines: lines.keep(line().encode(), (1, 2)),
        lambda lines: type(lines)(Flow, print, b"short"),
        lambda lines: type(lines)(int, print, bytes(known.compiled.SECRET)),
    ],
)
def test_what_it_cannot_take_is_an_error(call: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        call(compiled())


def test_a_failure_of_the_clock_is_told() -> None:
    class Interrupted(Exception):
        pass

    def fails(text: str) -> int:
        raise Interrupted(text)

    lines = known.compiled.Known(Flow, fails, bytes(known.compiled.SECRET))
    with pytest.raises(Interrupted):
        lines.keep(line().encode(), slow_decode(line().encode()))  # type: ignore[arg-type]


def test_without_the_compiled_part_everything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "compiled", None)
    assert compiled_lines() is None
    decoder = Decoder()
    for each in (line(), line(TIMES[1])):
        assert decoder.decode_block(each.encode() + b"\n") == slowly(each)
