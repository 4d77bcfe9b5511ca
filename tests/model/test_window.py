"""Windows of time on an edge table: what lies outside is gone, what lies inside is never missed."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.aggregate import aggregate
from analyzer.errors import UsageError
from analyzer.model.edge import DAY, HOUR, EdgeTable, Status
from analyzer.model.flow import Verdict
from analyzer.model.window import within
from analyzer.settle import settle
from tests.flows import START, drop, pod, tcp
from tests.strategies_edges import tables

CART, REDIS = pod("cart"), pod("redis")
HOURS = st.one_of(st.none(), st.integers(-30, 60).map(lambda n: START + n * HOUR))


@settings(max_examples=40, deadline=None)
@given(tables(), HOURS, HOURS)
def test_a_window_holds_the_hours_in_it_and_no_others(table: EdgeTable, since: int | None, until: int | None) -> None:
    before = copy.deepcopy(table)
    found = within(table, since, until)

    def hours(of: EdgeTable) -> set[tuple[object, ...]]:
        return {
            (key, cell, hour)
            for key, stats in of.edges.items()
            for cell, activity in stats.activity.items()
            for hour in range(24)
            if activity.hours >> hour & 1
        }

    def inside(day: int, hour: int) -> bool:
        start = day * DAY + hour * HOUR
        return (since is None or start >= since) and (until is None or start < until)

    assert hours(found) == {each for each in hours(table) if inside(each[1].day, each[2])}  # type: ignore[attr-defined]
    if since is not None or until is not None:
        assert all(stats.activity for stats in found.edges.values())
    assert found.coverage.records == table.coverage.records
    assert table == before


@settings(max_examples=25, deadline=None)
@given(tables(), HOURS, HOURS)
def test_cutting_once_or_from_both_sides_is_the_same(table: EdgeTable, since: int | None, until: int | None) -> None:
    assert within(within(table, since, None), None, until) == within(table, since, until)
    assert within(within(table, since, until), since, until) == within(table, since, until)


def test_times_stay_in_the_hours_that_are_left() -> None:
    """Dropped in the first hour and the last, forwarded between: whoever asks for the morning must not see the last drop."""
    flows = [
        drop(CART, REDIS, 80, time=START + 5),
        tcp(CART, REDIS, 80, time=START + 2 * HOUR + 5),
        drop(CART, REDIS, 80, time=START + 20 * HOUR),
    ]
    table = aggregate(flows)
    assert [edge.status for edge in settle(table)] == [Status.DROPPED]
    (edge,) = settle(within(table, None, START + 12 * HOUR))
    assert edge.status is Status.FORWARDED
    dropped = next(cell for key, cell in edge.stats.activity.items() if key.verdict == Verdict.DROPPED)
    assert dropped.values() == (2, 1, START + 5, START + HOUR - 1)
    (edge,) = settle(within(table, START + 12 * HOUR, None))
    (cell,) = edge.stats.activity.values()
    assert cell.values() == (2, 1 << 20, START + 20 * HOUR, START + 20 * HOUR)


@pytest.mark.parametrize("since", [START + 1, START + HOUR - 1, START + HOUR // 2])
def test_a_bound_inside_an_hour_is_refused_with_a_next_step(since: int) -> None:
    for bounds in ((since, None), (None, since)):
        with pytest.raises(UsageError, match="inside an hour") as caught:
            within(EdgeTable(), *bounds)
        assert "files" in caught.value.hint
