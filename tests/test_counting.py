"""Counting beside the form: the table is the one that the loop of the reducer gives, whenever it is added up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer import aggregate as aggregation
from analyzer import spots
from analyzer.aggregate import Aggregator, aggregate
from analyzer.model.edge import DAY, HOUR, Coverage, EdgeTable
from analyzer.model.flow import Flow, Skip
from analyzer.pipeline import collect, read
from analyzer.sources.base import Batch, History, Position, nothing_read_before
from analyzer.spots import rest_of
from analyzer.store import Store
from tests.flows import ACK, RST, START, SYN, WORLD, kept, pod, remote, tcp

pytestmark = pytest.mark.skipif(
    spots.compiled is None and os.environ.get("CI") != "true", reason="spots.c was not built: there is no C compiler"
)

CART, REDIS, WEB = pod("cart"), pod("redis"), pod("web")
UUIDS = [f"{number:08x}-1111-4000-a000-000000000001" for number in range(9)]


def flow(time: int = START, uuid: str = "", server: int = 80, client: int = 40_000, **given: Any) -> Flow:
    return kept(tcp(CART, REDIS, server, client_port=client, time=time, uuid=uuid, **given))


KINDS: list[tuple[Any, ...]] = [
    (CART, REDIS, {}),
    (CART, REDIS, {"node": "node-2"}),
    (CART, remote(REDIS), {"tcp_flags": SYN}),
    (CART, REDIS, {"reply": True, "tcp_flags": RST}),
    (CART, REDIS, {"reply": None, "weight": 7}),
    (WEB, CART, {"weight": 7}),
    (WEB, WORLD, {}),
    (WORLD._replace(pod="cart-1", namespace="shop"), REDIS, {}),
]
TIMES = [START, START + 5, START + 9, START + HOUR - 1, START - 1, START + HOUR, START + DAY, START - DAY, 0, 2**63 - 1]


def made(kind: tuple[Any, ...], server: int, **given: Any) -> Flow:
    source, destination, form = kind
    return kept(tcp(source, destination, server, **given, **form))


# Few forms and ports at a time, so that they come again.
FLOWS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from([80, 80, 81, 50_000, 0])), min_size=1, max_size=3
).map(
    lambda pool: st.builds(
        lambda place, **given: made(*place, **given),
        place=st.sampled_from(pool),
        client_port=st.sampled_from([40_000, 40_001, 80, 0]),
        time=st.sampled_from(TIMES[:4] * 6 + TIMES),
        uuid=st.sampled_from([*[""] * 30, "a", "é", "00000003", UUIDS[3][:-1], "\U0010ffff", *UUIDS]),
    )
)


class _Forget:
    """Makes the aggregator start over with an empty memory."""


OTHERS = st.sampled_from([Skip.EMPTY, Skip.EMPTY, "table", "take", _Forget])
DOINGS = FLOWS.flatmap(lambda flows: st.lists(st.one_of(*[flows] * 16, OTHERS), min_size=10, max_size=60))


def done(doings: list[Any]) -> list[EdgeTable]:
    """The tables that come out of flows, one batch after the other, with what is done in between."""
    aggregator, tables, flows = Aggregator(), list[EdgeTable](), list[Any]()
    for each in [*doings, "take"]:
        if isinstance(each, Flow | Skip):
            flows.append(each)
            continue
        aggregator.add_records(flows)
        flows = []
        if each == "table":
            assert aggregator.table is aggregator.latest
        elif each == "take":
            tables.append(aggregator.take())
        else:
            aggregator._forget()
    return tables


def without(work: Callable[[], Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spots, "compiled", None)
        return work()


@settings(deadline=None, max_examples=500)
@given(DOINGS)
def test_the_table_is_the_same_with_c_and_without(doings: list[Any]) -> None:
    assert done(doings) == without(lambda: done(doings))


@settings(deadline=None)
@given(FLOWS.flatmap(lambda flows: st.lists(flows, min_size=10, max_size=40)), st.integers(1, 3))
def test_so_it_is_where_there_is_little_room(flows: list[Flow], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MAX_SHAPES", "MAX_ENDS", "MAX_SPOTS"):
            patch.setattr(aggregation, name, room)
        forgetful = aggregate(flows * 2)
    assert forgetful == without(lambda: aggregate(flows * 2))


def test_what_was_counted_is_not_forgotten_with_the_spots() -> None:
    flows = [flow(START + number) for number in range(5)]
    aggregator = Aggregator()
    for forget in (aggregator._forget, aggregator._forget_spots):
        aggregator.add_records(flows)
        forget()
    assert aggregator.table == without(lambda: aggregate(flows * 2))


@pytest.mark.parametrize("time", [0, 1, 2**63 - 1, 2**63 - 2, 2**63 - 1 - HOUR])
def test_the_first_and_the_last_hour_are_hours_like_others(time: int) -> None:
    flows = [flow(time)] * 5
    table = aggregate(flows)
    assert table == without(lambda: aggregate(flows))
    [stats] = table.edges.values()
    assert (stats.weight, stats.first, stats.last) == (5, time, time)


def test_samples_stay_the_smallest_uuids_of_all_that_share_an_edge() -> None:
    """Flows of three forms count at one edge, each of which lowers the ceiling for the others."""
    flows = [
        flow(uuid=f"{(number * 7919) % 1000:08x}-{number % 3}", tcp_flags=[ACK, SYN, RST][number % 3])
        for number in range(1000)
    ]
    table = aggregate(flows)
    assert table == without(lambda: aggregate(flows))
    [stats] = table.edges.values()
    smallest = sorted(each.uuid for each in flows)
    assert list(stats.samples) == smallest[: len(stats.samples)]


def test_the_reducer_sees_only_the_first_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def watched(records: Iterable[Any]) -> Any:
        rest = rest_of(records)
        assert rest is not None

        class Watched:
            counted = property(lambda self: rest.counted)
            at = rest.at

            def __iter__(self) -> Iterator[Any]:
                for each in rest:
                    seen.append(each)
                    yield each

        return Watched()

    monkeypatch.setattr(aggregation, "rest_of", watched)
    flows = [flow(START + number, client=40_000 + number) for number in range(100)]
    assert aggregate(flows).coverage.edge_records == 100
    assert seen == flows[:1]


def test_ports_of_one_form_in_turn_are_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    met, found = list[Any](), Aggregator._spot
    monkeypatch.setattr(Aggregator, "_spot", lambda *args: met.append(args) or found(*args))  # type: ignore[func-returns-value]
    flows = [flow(server=80 + number % 3, client=40_000 + number) for number in range(60)]
    table = aggregate(flows)
    assert len(met) == 3
    assert table == without(lambda: aggregate(flows))


def test_those_who_look_all_the_time_settle_first() -> None:
    aggregator = Aggregator()

    def seen() -> list[int]:
        [stats] = aggregator.latest.edges.values()
        return [stats.weight, stats.answered, aggregator.latest.coverage.edge_records]

    for _ in range(2):
        aggregator.add(Batch([flow(), flow(), flow()]))  # the first of a batch tells the hour, and is not counted in C
    assert seen() == [2, 2, 6]
    aggregator.settle()
    assert seen() == [6, 6, 6]
    aggregator.add(Batch([flow(), flow()]))
    assert seen() == [7, 7, 8]
    assert aggregator.table is aggregator.latest
    assert seen() == [8, 8, 8]


def test_who_reads_is_handed_what_makes_the_table_exact() -> None:
    seen, scripted = list[int](), SimpleNamespace(batches=lambda history: [Batch([flow(), flow()])] * 3)

    def looked(coverage: Coverage, table: EdgeTable, settle: Callable[[], None]) -> None:
        settle()
        [stats] = table.edges.values()
        seen.append(stats.weight)

    read([scripted], on_batch=looked)  # type: ignore[list-item]
    assert seen == [2, 4, 6]


def test_a_key_press_while_it_is_added_up_neither_loses_nor_doubles(tmp_path: Any) -> None:
    class Scripted:
        name = "scripted"

        def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
            known = history("stream")
            for number in range(6):
                position = Position("stream", number, number + 1, str(number))
                if position not in known:
                    yield Batch([flow(START + number), flow(START + number, server=81)], position)

        def close(self) -> None:
            pass

    expected, settle = read([Scripted()]), Aggregator.settle
    for pressed in range(1, 12):
        calls = iter(range(1, 100))

        def interrupted(self: Aggregator, calls: Iterator[int] = calls, pressed: int = pressed) -> None:
            if next(calls) == pressed:
                for day in self._days.values():
                    day.spots.take()
                raise KeyboardInterrupt
            settle(self)

        with Store.open(str(tmp_path / f"{pressed}.db"), create=True) as store:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Aggregator, "settle", interrupted)
                ticks = iter(range(100))
                with suppress(KeyboardInterrupt):
                    collect(
                        [Scripted()],
                        store,
                        due=lambda ticks=ticks: next(ticks) % 2 == 1,  # type: ignore[misc]
                        on_batch=lambda coverage, table, settle: settle(),
                    )
                assert next(calls) == min(pressed, 10) + 1
            collect([Scripted()], store)
            assert store.read().edges == expected.edges, pressed
