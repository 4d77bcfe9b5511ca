"""What a server sends again counts once, whatever the nodes' clocks say, and what was missed shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.flow import OUT_OF_SIGHT, Flow, LostEvents, NodeStatus, Skip
from analyzer.sources.base import Position, nothing_read_before
from analyzer.sources.sight import Sight
from tests.flows import pod, tcp

SECOND = 10**9
START = 1_700_000_000 * SECOND
BASE = tcp(pod("web"), pod("cart"), 8080)


def flow(number: int, node: str = "a", time: float | None = None, uuid: str | None = None) -> Flow:
    """The `number`-th flow of a node, one a second unless said otherwise."""
    when = START + round((number if time is None else time) * SECOND)
    return BASE.replace(node=node, time=when, uuid=f"{node}{number}" if uuid is None else uuid)


def names(records: Sequence[Any]) -> list[str]:
    return [record.uuid if isinstance(record, Flow) else type(record).__name__ for record in records]


class Ring:
    """What a server holds: the latest `size` flows of each node, sent as agents and Relay do."""

    def __init__(self, size: int = 1000) -> None:
        self.size, self.flows = size, dict[str, list[Flow]]()

    def add(self, *flows: Flow) -> None:
        for each in flows:
            self.flows.setdefault(each.node, []).append(each)

    def send(self, since: int | None = None) -> list[Flow]:
        """Rewinds each node from its newest flow to the first that is older than `since`."""
        sent = []
        for ring in self.flows.values():
            start = len(ring)
            while start > max(0, len(ring) - self.size) and (since is None or ring[start - 1].time >= since):
                start -= 1
            sent += ring[start:]
        return sent


class Record:
    """The positions that a store would hold."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Position]] = {}

    def write(self, positions: Sequence[Position]) -> None:
        for each in positions:
            rows = self.rows.setdefault(each.stream, [])
            assert each.start == (max(row.end for row in rows) if rows else 0)
            if rows and rows[-1].digest.partition("/")[0] == each.digest.partition("/")[0]:
                each = each._replace(start=rows.pop().start)
            rows.append(each)

    def history(self, stream: str) -> Sequence[Position]:
        return self.rows.get(stream, ())


def test_what_is_sent_again_after_a_reconnection_is_left_out() -> None:
    sight = Sight()
    assert sight.since is None
    first = sight.batch([flow(n) for n in range(5)])
    assert (names(first.records), first.skipped) == ([f"a{n}" for n in range(5)], {})
    assert sight.since == START + 2 * SECOND
    sight.reconnected()
    again = sight.batch([flow(n) for n in range(2, 8)])
    assert (names(again.records), again.skipped) == (["a5", "a6", "a7"], {Skip.DUPLICATE: 3})


def test_a_node_that_lost_what_came_between_was_out_of_sight() -> None:
    sight = Sight()
    sight.batch([flow(1), flow(2)])
    sight.reconnected()
    assert sight.batch([flow(9), flow(10)]).records[0] == NodeStatus(("a",), START + 9 * SECOND, OUT_OF_SIGHT)
    sight.reconnected()
    assert names(sight.batch([flow(10), flow(11)]).records) == ["a11"]


def test_each_node_resumes_where_it_was() -> None:
    sight = Sight()
    sight.batch([flow(1, "slow"), *(flow(n, "fast") for n in range(1, 100))])
    assert sight.since == START - SECOND
    sight.reconnected()
    batch = sight.batch([flow(1, "slow"), flow(2, "slow"), *(flow(n, "fast") for n in range(102))])
    assert names(batch.records) == ["slow2", "fast0", "fast100", "fast101"]


def test_a_node_that_is_gone_does_not_hold_back_the_others_for_ever() -> None:
    clock = [START]
    sight = Sight(clock=lambda: clock[0])
    sight.batch([flow(1, "gone"), flow(1, "alive")])
    clock[0] = START + 90_000 * SECOND
    sight.batch([flow(89_999, "alive")])
    assert sight.since == START + 89_997 * SECOND


def test_a_clock_that_is_ahead_blinds_neither_the_other_nodes_nor_its_own() -> None:
    """Servers leave out all that is older than what they are asked for, whatever comes later."""
    sight = Sight(clock=lambda: START + 10 * SECOND)
    sight.batch([flow(9, "right"), flow(172_800, "ahead")])
    assert sight.since == START + 7 * SECOND
    alone = Sight(clock=lambda: START + 10 * SECOND)
    alone.batch([flow(3_600, "ahead")])
    assert alone.since == START + 8 * SECOND


def test_a_second_process_goes_on_where_the_first_was_killed() -> None:
    record = Record()
    first = Sight()
    first.batch([flow(n) for n in range(300)])
    record.write(first.positions())
    first.batch([flow(300), flow(301)])  # never written down
    second = Sight(record.history)
    batch = second.batch([flow(n) for n in range(303)])
    assert names(batch.records) == ["a300", "a301", "a302"]
    record.write(second.positions())
    assert [row[1:3] for row in record.rows["live a"]] == [(0, 303)]


def test_nothing_new_leaves_nothing_to_write_down() -> None:
    sight = Sight()
    sight.batch([flow(1)])
    assert len(sight.positions()) == 1
    sight.reconnected()
    sight.batch([flow(1), NodeStatus(("a",), 0, 1)])
    assert sight.positions() == []


def test_an_earlier_stretch_is_read_later_and_does_not_hide_what_lies_between() -> None:
    record = Record()
    for stretch in (range(50, 60), range(10, 20), range(60)):
        sight = Sight(record.history)
        sight.batch([flow(n) for n in stretch])
        record.write(sight.positions())
    assert max(row.end for row in record.rows["live a"]) == 60


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("back", [0.5, 30, 3600])
def test_a_clock_set_back_while_away_or_before(restart: bool, back: float) -> None:
    ring, record = Ring(), Record()
    sight = Sight(record.history)
    ring.add(*(flow(n) for n in range(100)))
    got = names(sight.batch(ring.send()).records)
    record.write(sight.positions())
    for number in (100, 200):
        times = {n: n - back for n in range(number, number + 100)}
        ring.add(*(flow(n, time=time) for n, time in times.items()))
        since = None if restart else sight.since
        sight = Sight(record.history) if restart else sight
        sight.reconnected()
        sent = ring.send(since)
        if since is not None:  # Having rewound, the server follows: what is new comes whatever its time.
            sent = [each for each in ring.flows["a"] if each in sent or each.uuid >= f"a{number}"]
        got += names(sight.batch(sent).records)
        record.write(sight.positions())
        if restart:
            continue
    assert got == [f"a{n}" for n in range(300)]


def test_flows_without_uuids_are_told_apart_by_time() -> None:
    sight = Sight()
    sight.batch([flow(n, uuid="") for n in range(5)])
    sight.reconnected()
    assert [x.time for x in sight.batch([flow(n, uuid="") for n in range(7)]).records if isinstance(x, Flow)] == [
        flow(5).time, flow(6).time,
    ]  # fmt: skip


def test_flows_without_time_are_told_apart_by_uuid() -> None:
    sight = Sight()
    untimed = [flow(n).replace(time=0) for n in range(6)]
    sight.batch(untimed[:4])
    sight.reconnected()
    assert names(sight.batch(untimed[2:]).records) == ["a4", "a5"]


def test_losses_that_are_told_again_count_once() -> None:
    sight = Sight()
    lost = LostEvents("a", flow(2).time, 1, 7)
    assert names(sight.batch([flow(1), lost, flow(3)]).records) == ["a1", "LostEvents", "a3"]
    sight.reconnected()
    assert names(sight.batch([flow(1), lost, flow(3), lost._replace(time=flow(4).time)]).records) == ["LostEvents"]


@pytest.mark.parametrize("times", [(2,), (0,), (9,), (0, 2, 9)])
@pytest.mark.parametrize("flows", [(), (1, 3)])
def test_losses_count_once_whoever_reads_them_and_wherever_they_lie_among_the_flows(
    times: tuple[int, ...], flows: tuple[int, ...]
) -> None:
    """Also those of a node of which nothing came but losses."""
    rows: dict[str, list[Position]] = {}
    losses = [LostEvents("a", flow(at).time, 1, 7) for at in times]
    stream = sorted([*map(flow, flows), *losses], key=lambda record: record.time)
    for expected in (len(losses), 0, 0):
        sight = Sight(lambda name: rows.get(name, ()))
        batch = sight.batch(stream)
        assert names(batch.records).count("LostEvents") == expected
        for position in sight.positions():
            rows.setdefault(position.stream, []).append(position)
    later = LostEvents("a", flow(20).time, 1, 5)
    assert names(Sight(lambda name: rows.get(name, ())).batch([*stream, later]).records) == ["LostEvents"]


def test_losses_of_an_earlier_time_are_new_whenever_they_are_read() -> None:
    rows: dict[str, list[Position]] = {}
    for at in (50, 10):
        sight = Sight(lambda name: rows.get(name, ()))
        batch = sight.batch([LostEvents("a", flow(at).time, 1, 7)])
        assert len(batch.records) == 1
        for position in sight.positions():
            rows.setdefault(position.stream, []).append(position)


def test_a_node_that_relay_lost_and_found_again() -> None:
    """Within one stream: what it sends again is known, and what comes late is not taken for known."""
    sight = Sight()
    sight.batch([flow(n) for n in range(5)])
    batch = sight.batch([NodeStatus(("a",), 0, 4), *(flow(n) for n in range(3, 6)), flow(99, time=4.5)])
    assert names(batch.records) == ["NodeStatus", "a5", "a99"]


def test_names_that_no_database_would_take() -> None:
    sight = Sight()
    sight.batch([flow(1, "a\0b"), flow(2, "x" * 1000)])
    assert all(position.stream.isprintable() and len(position.stream) < 300 for position in sight.positions())


@given(st.data(), st.integers(0, 2**32))
def test_however_a_stream_is_cut_every_flow_counts_once(data: st.DataObject, seed: int) -> None:
    """Some nodes of different speed, out of order within a second, cut and resumed in this process or the next."""
    rng = random.Random(seed)
    ring, record = Ring(), Record()
    sight, got, unwritten = Sight(record.history), list[str](), list[str]()
    made = 0
    for _ in range(data.draw(st.integers(1, 8))):
        for _ in range(rng.randrange(60)):
            node = rng.choice("aaabbc")
            ring.add(flow(made, node, time=made * 0.05 - rng.choice((0, 0, 0, 0.5))))
            made += 1
        if data.draw(st.booleans()):
            sight, unwritten = Sight(record.history), []
            sent = ring.send()
        else:
            sent = ring.send(sight.since)
        sight.reconnected()
        while sent:
            size = rng.randrange(1, 40)
            unwritten += [x for x in names(sight.batch(sent[:size]).records) if x != "NodeStatus"]
            sent = sent[size:]
            if rng.random() < 0.3:
                record.write(sight.positions())
                got += unwritten
                unwritten = []
    got += unwritten
    assert sorted(got) == sorted(each.uuid for flows in ring.flows.values() for each in flows)


def test_no_history_is_asked_twice_for_a_node() -> None:
    asked: list[str] = []

    def history(stream: str) -> Sequence[Position]:
        asked.append(stream)
        return nothing_read_before(stream)

    sight = Sight(history)
    for n in range(3):
        sight.batch([flow(n)])
    assert asked == ["live a"]
