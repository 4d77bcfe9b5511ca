"""Spots in C: which flows are counted and which are given back, what is taken, and what it holds on to."""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from types import SimpleNamespace
from typing import Any

import pytest

from analyzer import spots
from analyzer.model.edge import HOUR
from analyzer.model.flow import Flow, KeptForm, Skip
from analyzer.spots import Spots, new_spots, rest_of
from tests.flows import START, SYN, kept, pod, tcp

pytestmark = pytest.mark.skipif(
    spots.compiled is None and os.environ.get("CI") != "true", reason="spots.c was not built: there is no C compiler"
)

CART, REDIS = pod("cart"), pod("redis")
UUIDS = [f"{number:08x}-1111-4000-a000-000000000001" for number in range(9)]


def flow(time: int = START, uuid: str = "", server: int = 80, client: int = 40_000, **given: Any) -> Flow:
    return kept(tcp(CART, REDIS, server, client_port=client, time=time, uuid=uuid, **given))


# -- What is counted ---------------------------------------------------------------------------------------------------------------


def left(*records: Any, at: Spots[Any] | None = None, since: int = START, until: int = START + HOUR) -> list[Any]:
    """The records that are not counted at `at`."""
    rest = rest_of(records)
    assert rest is not None
    if at is not None:
        rest.at(at, since, until, 1)
    found = list(rest)
    assert rest.counted == len(records) - len(found)
    return found


class Edge:
    """An edge with samples below a ceiling."""

    def __init__(self, ceiling: Any = "") -> None:
        self.samples = SimpleNamespace(ceiling=ceiling)


def spot(
    flow: Flow, port: Any = 80, *, by_source: bool = False, plain: bool = True, edge: Any = None
) -> tuple[Any, ...]:
    return (flow.form, by_source, port, None, edge or Edge(), None, 1, 0, plain, None, None, None)


def placed(*flows: Flow, **given: Any) -> Spots[Any]:
    """Spots of the forms of these flows."""
    found = new_spots()
    for each in flows:
        found[id(each.form)] = spot(each, **given)
    return found


def test_a_flow_like_one_before_it_is_counted() -> None:
    one, other = flow(START + 5, client=40_001), flow(START + 3)
    at = placed(one)
    assert left(one, other, one, flow(START + 9), at=at) == []
    where = at.get(id(one.form))
    assert at.take() == [(where, 4, START + 3, START + 9, 1)]
    assert at.take() == []
    assert left(other, at=at) == []
    assert at.take() == [(where, 1, START + 3, START + 3, 1)]


def test_hours_add_up() -> None:
    one = flow()
    at = placed(one)
    for hour in (3, 0, 3):
        rest = rest_of([one])
        assert rest is not None
        rest.at(at, START, START + 1, 1 << hour)
        assert list(rest) == []
    assert [hours for *_, hours in at.take()] == [0b1001]
    assert left(one, at=at) == []
    assert [hours for *_, hours in at.take()] == [0b1]


@pytest.mark.parametrize(
    ("records", "given"),
    [
        ([flow(START - 1), flow(START + HOUR), flow(2**70), flow(-(2**70))], {}),
        ([flow(server=81), flow(server=0), flow(server=2**70)], {}),
        ([flow(server=80, client=81)], {"by_source": True}),
        ([flow()], {"port": None}),
        ([flow()], {"port": (80,)}),
        ([flow()], {"port": -1}),
        ([flow(), flow(server=0)], {"port": 2**40}),
        ([flow(server=-1)], {"port": (80,)}),
        ([flow(server=1)], {"port": True}),
        ([flow()], {"plain": False}),
        ([flow()], {"plain": 1}),
        ([flow(tcp_flags=SYN)], {}),
        ([flow(uuid="a")], {"edge": Edge("b")}),
        ([flow(uuid="é")], {"edge": Edge("\U0010ffff")}),
        # The second time the ceiling is known.
        ([flow(uuid=UUIDS[3][:-1]), flow(uuid=UUIDS[3][:-1])], {"edge": Edge(UUIDS[3])}),
        ([flow(uuid="a"), flow(uuid="a")], {"edge": Edge("\U0010ffff")}),
        ([flow(uuid="\u01ff"), flow(uuid="\u01ff")], {"edge": Edge("\u0201")}),
        ([flow(uuid="a")], {"edge": Edge(None)}),
        ([flow()._replace(uuid=None), flow()._replace(uuid=b"z")], {}),
        ([flow()._replace(time=None), flow()._replace(time=float(START)), flow()._replace(destination_port=None)], {}),
        ([Skip.EMPTY, None, "x", (), tuple(flow())], {}),
    ],
)
def test_what_is_not_counted_is_given_back_in_order(records: list[Any], given: dict[str, Any]) -> None:
    at = placed(flow(), **given)
    assert left(*records, at=at) == records
    assert at.take() == []


@pytest.mark.parametrize(
    ("uuid", "ceiling"),
    [
        ("", "\U0010ffff"), ("a", "a"), ("b", "a"), (UUIDS[3], UUIDS[3]), (UUIDS[3], UUIDS[3][:-1]), (UUIDS[4], UUIDS[3]),
        ("é", "é"), ("é", "z"), ("00000003", "0000000"), ("zzzzzzzz", "zzzzzzzy"),
    ],
)  # fmt: skip
def test_a_uuid_that_the_edge_would_not_keep_is_no_hindrance(uuid: str, ceiling: str) -> None:
    assert (uuid < ceiling) is (uuid == "" and ceiling != "")
    for times in (1, 2):
        at = placed(flow(), edge=Edge(ceiling))
        assert left(*[flow(uuid=uuid)] * times, at=at) == []
        assert [count for _, count, *_ in at.take()] == [times]


def test_a_ceiling_is_asked_for_again_as_long_as_it_matters() -> None:
    edge = Edge(UUIDS[8])
    at = placed(flow(), edge=edge)
    assert left(flow(uuid=UUIDS[5]), at=at) == [flow(uuid=UUIDS[5])]
    edge.samples.ceiling = UUIDS[4]
    assert left(flow(uuid=UUIDS[5]), flow(uuid=UUIDS[4]), at=at) == []
    assert left(flow(uuid=UUIDS[3]), at=at) == [flow(uuid=UUIDS[3])]


def test_nothing_is_counted_before_it_is_told_where() -> None:
    assert left(flow(), flow()) == [flow(), flow()]


def test_a_subclass_of_flow_is_not_a_flow() -> None:
    class Other(Flow):
        pass

    odd = Other(*flow())
    assert left(odd, at=placed(flow())) == [odd]


def test_any_iterable_will_do_and_is_read_one_by_one() -> None:
    at, taken = placed(flow()), []

    def records() -> Iterator[Any]:
        for each in (Skip.EMPTY, flow(), Skip.DUPLICATE):
            taken.append(each)
            yield each

    rest = rest_of(records())
    assert rest is not None
    rest.at(at, START, START + HOUR, 1)
    assert (next(rest), rest.counted, len(taken)) == (Skip.EMPTY, 0, 1)
    assert (next(rest), rest.counted, len(taken)) == (Skip.DUPLICATE, 1, 3)
    with pytest.raises(StopIteration):
        next(rest)


# -- The table of spots ------------------------------------------------------------------------------------------------------------


def test_spots_are_found_by_the_id_of_their_form_however_many_they_are() -> None:
    flows = [flow()._replace(form=KeptForm(*flow().form)) for _ in range(5000)]
    at, found = new_spots(), []
    for number, each in enumerate(flows):
        assert at.get(id(each.form)) is None
        at[id(each.form)] = made = spot(each)
        found.append(made)
        assert len(at) == number + 1
        # What was counted stays while the table grows.
        assert left(*[each] * (number % 3), at=at) == []
    assert all(at.get(id(each.form)) is made for each, made in zip(flows, found, strict=True))
    counted = {id(where): count for where, count, *_ in at.take()}
    assert counted == {id(made): number % 3 for number, made in enumerate(found) if number % 3}
    at.clear()
    assert len(at) == 0
    assert at.get(id(flows[0].form)) is None
    at[id(flows[0].form)] = found[0]
    assert left(flows[0], at=at) == []


def test_a_form_has_a_spot_for_each_port_and_the_first_one_stays() -> None:
    one = flow()
    at = placed(one)
    first, third = at.get(id(one.form)), spot(one)
    at[id(one.form)] = second = spot(one, 81)
    at[id(one.form)] = third
    at[id(one.form)] = spot(one, 81)
    at[id(one.form)] = spot(one, (82,))
    at[id(one.form)] = spot(one, 83, by_source=True)
    at[id(one.form)] = spot(one, 84, plain=False)
    others = [flow(server=number) for number in (82, 83, 84, 40_000)]
    assert left(one, flow(server=81), one, *others, one, flow(server=81), at=at) == others
    assert len(at) == 2
    assert at.get(id(one.form)) is first
    assert [(where is first, where is second, count) for where, count, *_ in at.take()] == [(1, 0, 3), (0, 1, 2)]


def test_a_form_whose_first_flow_had_no_port_has_spots_for_others() -> None:
    at = placed(flow(server=0), port=(0,))
    at[id(flow().form)] = spot(flow())
    assert left(flow(), flow(server=0), flow(), at=at) == [flow(server=0)]
    assert len(at) == 2


def test_many_ports_of_many_forms() -> None:
    flows = [flow()._replace(form=KeptForm(*flow().form)) for _ in range(50)]
    at = new_spots()
    for port in range(200):
        for number, each in enumerate(flows):
            at[id(each.form)] = spot(each, port, edge=Edge(str(number)))
            assert left(*[each._replace(destination_port=port)] * 2, at=at) == []
    assert len(at) == 10_000
    taken = {(where[4].samples.ceiling, where[2]): count for where, count, *_ in at.take()}
    assert taken == {(str(number), port): 2 for number in range(50) for port in range(200)}


def test_many_ports_of_one_form() -> None:
    """Whatever the order in which they find their place, the first one is the form's."""
    for _ in range(50):
        one, at = flow()._replace(form=KeptForm(*flow().form)), new_spots()
        for port in range(500):
            at[id(one.form)] = spot(one, port)
            assert at.get(id(one.form))[2] == 0  # type: ignore[index]
        assert left(*[one._replace(destination_port=port) for port in range(500)], at=at) == []
        assert sorted(where[2] for where, *_ in at.take()) == list(range(500))


def test_an_hour_may_end_after_the_last_time_there_is() -> None:
    times = [2**63 - 3, 2**63 - 2]
    assert left(*map(flow, times), at=placed(flow()), since=2**63 - 5, until=2**64) == []
    assert left(*map(flow, times), at=placed(flow()), since=-(2**64), until=2**63 - 2) == [flow(2**63 - 2)]
    assert left(flow(2**63 - 1), at=placed(flow()), until=2**64) == [flow(2**63 - 1)]


def test_days_without_spots_take_no_memory() -> None:
    tracemalloc.start()
    try:
        many = [new_spots() for _ in range(1000)]
        for each in many:
            each.take()
            each.clear()
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_it_lets_go_of_everything() -> None:
    class Watched(Edge):
        pass

    def used() -> None:
        at = placed(*flows, edge=edge)
        left(*flows, at=at)
        at[id(flows[0].form)] = spot(flows[0], edge=edge)
        at.take()
        left(*flows, at=at)
        at[id(flows[0].form)] = spot(flows[0], edge=edge)
        rest = rest_of(flows)
        assert rest is not None
        rest.at(at, 0, 1, 1)
        next(rest)
        full = placed(*flows, edge=edge)
        full.clear()

    edge = Watched()
    flows = [flow()._replace(form=KeptForm(*flow().form), uuid="z") for _ in range(3000)]
    held = (edge, flows, flows[0], flows[0].form, flows[-1].form)
    before = [sys.getrefcount(each) for each in held]
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(8):
            used()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        assert sizes[-1] - sizes[1] < 60_000
    finally:
        tracemalloc.stop()
    gc.collect()
    assert [sys.getrefcount(each) for each in held] == before


def test_the_module_itself_can_be_let_go() -> None:
    found = spec_from_file_location("analyzer._spots", spots.compiled.__file__)
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    assert len(module.Spots()) == 0
    watched = weakref.ref(module)
    del module, found
    gc.collect()
    assert watched() is None


@pytest.mark.parametrize(
    "call",
    [
        lambda at: at.__setitem__(id(flow().form), spot(flow())[:-1]),
        lambda at: at.__setitem__(id(flow().form), [*spot(flow())]),
        lambda at: at.__setitem__(id(flow()), spot(flow())),
        lambda at: at.__setitem__("a", spot(flow())),
        lambda at: at.__setitem__(0, spot(flow())),
        lambda at: at.__delitem__(id(flow().form)),
        lambda at: at.get("a"),
        lambda at: type(at)(1),
        lambda at: type(at)(size=1),
        lambda at: at.clear(),
        lambda at: left(flow(), at={}),
        lambda at: left(flow(), at=at, since="a"),
        lambda at: left(flow(), at=at, until=None),
        lambda at: spots.compiled.Rest(int, []),
        lambda at: spots.compiled.Rest(Flow, 1),
        lambda at: spots.compiled.Rest(Flow),
    ],
)
def test_what_it_cannot_take_is_an_error(call: Callable[[Any], Any]) -> None:
    at = placed(flow())
    assert left(flow(), at=at) == []
    with pytest.raises((TypeError, ValueError)):
        call(at)
    assert [count for _, count, *_ in at.take()] == [1]


def test_a_failure_of_what_it_asks_is_told_and_nothing_counted() -> None:
    class Failing:
        def __getattr__(self, name: str) -> Any:
            raise LookupError(name)

    at = placed(flow(), edge=Failing())
    rest = rest_of([flow(uuid="a"), Skip.EMPTY])
    assert rest is not None
    rest.at(at, START, START + HOUR, 1)
    with pytest.raises(LookupError, match="samples"):
        next(rest)
    assert (rest.counted, at.take()) == (0, [])

    def broken() -> Iterator[Any]:
        yield flow()
        raise LookupError("gone")

    rest = rest_of(broken())
    assert rest is not None
    rest.at(at, START, START + HOUR, 1)
    with pytest.raises(LookupError, match="gone"):
        list(rest)
    assert [count for _, count, *_ in at.take()] == [1]


def test_asking_may_even_empty_the_table() -> None:
    class Emptying:
        def __getattr__(self, name: str) -> Any:
            at.clear()
            return SimpleNamespace(ceiling="")

    at = placed(flow(), edge=Emptying())
    assert left(flow(uuid="a"), at=at) == [flow(uuid="a")]
    assert len(at) == 0
