"""The reducer: merging tables is commutative, associative and has a unit, whatever is truncated or overflows on the way."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.address import family, level_of, truncate
from analyzer.model.edge import Activity, ActivityKey, EdgeKey, EdgeStats, EdgeTable, Endpoint
from analyzer.model.l4 import L4, Protocol
from tests.strategies_edges import APPS, CROWD, ODD, PREFIXES, V4, V6, WORLDS, small_limits, stats, tables

LAW = settings(max_examples=35, deadline=None)
"""Whole tables are slow to draw; each holds some dozens of cases."""

INSIDE, HTTPS = Endpoint(APPS[0], "x"), L4(Protocol.TCP, 443)


@pytest.fixture(autouse=True)
def _small_limits() -> Iterator[None]:
    with small_limits():
        yield


def merged(*parts: EdgeTable) -> EdgeTable:
    whole = EdgeTable()
    for part in parts:
        whole.merge(part)
    return whole


def client(address: str) -> EdgeKey:
    return EdgeKey("default", Endpoint(WORLDS[0], address=address), INSIDE, HTTPS)


def crowd(addresses: Iterable[str]) -> EdgeTable:
    table = EdgeTable()
    for address in addresses:
        table.stats(client(address)).answered += 1
    return table


def answered(table: EdgeTable) -> dict[str, int]:
    return {key.source.address: found.answered for key, found in table.edges.items()}


@LAW
@given(tables(), tables())
def test_merging_is_commutative(one: EdgeTable, other: EdgeTable) -> None:
    assert merged(one, other) == merged(other, one)


@LAW
@given(tables(), tables(), tables())
def test_merging_is_associative(one: EdgeTable, two: EdgeTable, three: EdgeTable) -> None:
    assert merged(merged(one, two), three) == merged(one, merged(two, three))


@LAW
@given(tables())
def test_the_empty_table_is_the_unit(table: EdgeTable) -> None:
    assert merged(EdgeTable(), table) == table
    assert merged(table, EdgeTable()) == table


@LAW
@given(tables(), tables(), tables())
def test_merging_leaves_the_other_table_as_it_was(one: EdgeTable, other: EdgeTable, third: EdgeTable) -> None:
    """Also later: nothing of the other table is shared with the result."""
    before = copy.deepcopy(other)
    whole = merged(one, other)
    whole.merge(third)
    assert other == before


@LAW
@given(tables(), tables())
def test_a_table_that_is_absorbed_is_merged(one: EdgeTable, other: EdgeTable) -> None:
    expected = merged(one, other)
    one.absorb(other)
    assert one == expected


@LAW
@given(tables())
def test_a_table_is_sent_as_it_is_and_without_evidence_that_is_not_there(table: EdgeTable) -> None:
    again = pickle.loads(pickle.dumps(table))  # noqa: S301 - our own
    assert again == table
    assert merged(again, table) == merged(table, table)
    for key, found in again.edges.items():
        there = {name for name, _ in found.evidence()}
        assert there == {name for name, _ in table.edges[key].evidence()}
        for name in {*EdgeStats.EVIDENCE} - there:
            with pytest.raises(AttributeError):
                object.__getattribute__(found, name)


@given(stats(), stats(), stats())
def test_stats_obey_the_laws_too(one: EdgeStats, two: EdgeStats, three: EdgeStats) -> None:
    def sum_of(*parts: EdgeStats) -> EdgeStats:
        whole = EdgeStats()
        for part in parts:
            whole.merge(part)
        return whole

    assert sum_of(one, two) == sum_of(two, one)
    assert sum_of(sum_of(one, two), three) == sum_of(one, sum_of(two, three))
    assert sum_of(one) == one


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(V4 + V6 + ODD + PREFIXES), max_size=14),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
def test_a_crowd_is_the_same_however_it_came_together(addresses: list[str], random: object, parts: int) -> None:
    shuffled = list(addresses)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    whole = crowd(addresses)
    assert crowd(shuffled) == whole
    assert merged(*(crowd(shuffled[start::parts]) for start in range(parts))) == whole
    assert sum(answered(whole).values()) == len(addresses)


@given(st.lists(st.sampled_from(V4 + V6 + ODD + PREFIXES), max_size=14))
def test_a_crowd_is_truncated_no_further_than_it_has_to(addresses: list[str]) -> None:
    found = answered(crowd(addresses))
    for version, texts in ((4, V4), (6, V6)):
        members = {each for each in addresses if family(each) == version}
        levels = {level_of(each) for each in found if family(each) == version}
        assert len(levels) <= 1, "all of a crowd is at one level"
        if not members:
            continue
        floor, level = max(map(level_of, members)), levels.pop()
        assert len({truncate(each, level) for each in members}) <= CROWD
        assert level == floor or len({truncate(each, level - 1) for each in members}) > CROWD, texts


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["198.51.100.1", "198.51.100.2", "198.51.100.3"], {"198.51.100.1": 1, "198.51.100.2": 1, "198.51.100.3": 1}),
        ([f"198.51.100.{n}" for n in range(4)], {"198.51.100.0/24": 4}),
        ([f"198.51.{n}.1" for n in range(4)], {"198.51.0.0/16": 4}),
        ([f"198.{n}.0.1" for n in range(4)], {"198.0.0.0/8": 4}),
        ([f"{n}.0.0.1" for n in range(1, 5)], {"0.0.0.0/0": 4}),
        ([f"2001:db8::{n}" for n in range(4)], {"2001:db8::/64": 4}),
        ([f"2001:db8:0:{n}::1" for n in range(4)], {"2001:db8::/48": 4}),
        ([f"2001:db8:{n}::1" for n in range(4)], {"2001:db8::/32": 4}),
        ([f"2001:{n}::1" for n in range(4)], {"::/0": 4}),
        ([*(f"198.51.100.{n}" for n in range(4)), "2001:db8::1"], {"198.51.100.0/24": 4, "2001:db8::1": 1}),
        (["foo", "1.2.3", "a/8", "10.0.0.1/25", "unknown", "unknown"], {"invalid": 4, "unknown": 2}),
    ],
)
def test_the_levels_of_a_crowd(addresses: list[str], expected: dict[str, int]) -> None:
    assert answered(crowd(addresses)) == expected


def test_a_truncated_crowd_takes_in_a_single_address_either_way() -> None:
    many, one = crowd(f"198.51.100.{n}" for n in range(4)), crowd(["198.51.100.77"])
    assert answered(merged(many, one)) == answered(merged(one, many)) == {"198.51.100.0/24": 5}


def test_an_address_nobody_can_read_is_no_wildcard() -> None:
    """It must never end as an empty address, which stands for a peer that needs none."""
    for text in ODD:
        assert "" not in answered(crowd([text] * (CROWD + 2)))


def test_crowds_apart_stay_apart() -> None:
    """By cluster, inside end, direction and layer 4."""
    keys = [client("{}"), client("{}")._replace(cluster="east"), client("{}")._replace(l4=L4(Protocol.TCP, 80))]
    keys.append(EdgeKey("default", INSIDE, Endpoint(WORLDS[0], address="{}"), HTTPS))
    table = EdgeTable()
    for key in keys:
        for n in range(CROWD):
            ends = [
                end._replace(address=end.address.format(f"198.51.100.{n}")) for end in (key.source, key.destination)
            ]
            table.stats(key._replace(source=ends[0], destination=ends[1]))
    assert len(table) == CROWD * len(keys)


@given(st.lists(st.tuples(st.integers(0, 1 << 60), st.integers(0, 3)), max_size=6), st.integers(0, 6))
def test_activity_is_the_sum_of_its_parts(events: list[tuple[int, int]], split: int) -> None:
    def activity(part: list[tuple[int, int]]) -> Activity:
        made = Activity()
        for time, weight in part:
            made.add(time, weight)
        return made

    one, other = activity(events[:split]), activity(events[split:])
    one.merge(other)
    assert one == activity(events)


def test_an_overflowed_set_says_so_after_merging() -> None:
    one, other = EdgeStats(), EdgeStats()
    for n in range(2):
        one.names.add(f"a{n}")
        other.names.add(f"b{n}")
    one.merge(other)
    assert one.names.overflow
    assert len(one.names) == one.names.limit


def test_an_empty_cell_is_kept() -> None:
    table = EdgeTable()
    table.stats(client("198.51.100.1")).cell(ActivityKey(1, 1, 1, 1, 0))
    assert merged(table) == table
