"""The laws of the store: what was written is read, in any parts and any order, and nothing counts twice."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.aggregate import Aggregator, aggregate
from analyzer.errors import StoreError, UsageError
from analyzer.model.edge import HOUR, EdgeTable
from analyzer.model.flow import Detail, DnsRecord, EventKind, Flow, HttpRecord, LostEvents, NodeStatus, PolicyRef, Skip
from analyzer.sources.base import Position
from analyzer.store import Store
from tests.flows import START, WORLD, drop, icmp, pod, remote, tcp, udp
from tests.store.children import position
from tests.strategies_edges import small_limits, tables
from tests.test_connection_model import FLOWS

CART, REDIS = pod("cart"), pod("redis")
EVERYTHING: list[Flow] = [
    tcp(CART, remote(REDIS), 6379, uuid="a1", node="east/n1"),
    tcp(remote(CART), REDIS, 6379, reply=True, uuid="b2", node="west/n2", time=START + 5),
    drop(CART, REDIS, 80, reason=181, detail=Detail(egress_denied_by=(PolicyRef("CiliumNetworkPolicy", "shop", "no"),))),
    tcp(CART, REDIS, 80, kind=EventKind.L7, detail=Detail(http=HttpRecord("GET", "/a", "redis"), l7_type=1)),
    udp(CART, pod("dns", "kube-system"), 53, reply=True, kind=EventKind.L7,
        detail=Detail(dns=DnsRecord("a.example.com", ("198.51.100.7",)), l7_type=2)),
    udp(CART, REDIS, 50_000, reply=None),
    icmp(CART, REDIS, 8),
    tcp(CART, WORLD, 443, destination_ip="2001:db8::7", detail=Detail(destination_names=("a.example.com",))),
    tcp(CART, WORLD, 80, detail=Detail(destination_service="shop/redis")),
    tcp(CART, REDIS, 81, node="no\x00text/n3"),
    LostEvents("n1", START, 3, (1 << 64) - 1), LostEvents("n1", START, 3, 9), NodeStatus(("n1",), START, 2), Skip.MALFORMED,
    *(tcp(WORLD, REDIS, 443, source_ip=f"198.{n}.100.1") for n in range(250)),
    *(tcp(WORLD, REDIS, 443, source_ip=f"198.51.{n}.1") for n in range(250)),
]  # fmt: skip

LAW = settings(max_examples=30, deadline=None)


@contextmanager
def new_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/flows.db", create=True) as store:
        yield store


def merged(*parts: EdgeTable) -> EdgeTable:
    table = EdgeTable()
    for part in parts:
        table.merge(part)
    return table


@LAW
@given(tables())
def test_what_was_written_is_read(table: EdgeTable) -> None:
    with new_store() as store:
        store.append(table)
        assert store.read() == table


@LAW
@given(st.lists(tables(max_edges=5), max_size=4), st.randoms(use_true_random=False), st.booleans())
def test_any_parts_in_any_order_read_as_one(parts: list[EdgeTable], order: random.Random, compacted: bool) -> None:
    with small_limits(), new_store() as store:
        whole = merged(*parts)
        order.shuffle(parts)
        for part in parts:
            store.append(part)
            if compacted:
                store.compact()
        assert store.read() == whole


@LAW
@given(st.lists(st.lists(FLOWS, max_size=15), max_size=4))
def test_any_partition_of_the_records_reads_as_one(parts: list[list[Flow]]) -> None:
    with new_store() as store:
        for part in parts:
            store.append(aggregate(part))
        assert store.read() == aggregate([flow for part in parts for flow in part])


def test_both_engines_keep_everything(where: str) -> None:
    shuffled = list(EVERYTHING)
    random.Random(1).shuffle(shuffled)
    whole = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        for number, start in enumerate(range(0, len(shuffled), 97)):
            assert store.append(aggregate(shuffled[start : start + 97]), [position(number)])
    with Store.open(where, create=False) as store:
        assert store.read() == whole
        partials = store.info().partials
        assert partials == number + 1 > 3
        store.compact()
        assert store.info().partials == 1
        assert store.info().batches == partials
        assert store.read() == whole
        assert store.history("s") == [position(each) for each in range(number + 1)]
        assert store.append(whole, [position(number + 1)])
        assert store.read() == merged(whole, whole)


def test_a_spilled_aggregator_reads_as_one() -> None:
    aggregator = Aggregator()
    with new_store() as store:
        for flow in EVERYTHING:
            aggregator.add_records([flow])
            if len(aggregator.table) > 20:
                store.append(aggregator.take())
        store.append(aggregator.take())
        assert store.read() == aggregate(EVERYTHING)


def test_compaction_leaves_only_what_is_needed(tmp_path: Path) -> None:
    where = tmp_path / "flows.db"
    with Store.open(str(where), create=True) as store:
        for a in range(4):
            for start in range(0, 200, 20):
                clients = [tcp(WORLD, REDIS, 443, source_ip=f"198.51.{a}.{n}") for n in range(start, start + 20)]
                store.append(aggregate(clients))
        before = store.info()
        store.compact()
        after = store.info()
    assert (before.edges, after.edges) == (4, 4)
    assert after.size < before.size / 3
    engine = sa.create_engine(f"sqlite:///{where}")
    with engine.connect() as connection:
        for name, rows in (("edge", 4), ("endpoint", 5), ("side", 1)):
            assert connection.scalar(sa.text(f"SELECT count(*) FROM hubble_analyzer_{name}")) == rows


def test_the_same_batch_again_counts_nothing(where: str) -> None:
    table = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        assert store.append(table, [position(0), position(1), position(2)])
        assert not store.append(table, [position(2), position(0), position(1)])
        assert not store.append(table, [position(1)])
        assert not store.append(table, [Position("s", 5, 15, "cut elsewhere")])
        assert store.append(table, batch_id="n1/2026-09-01/a1")
        assert not store.append(table, batch_id="n1/2026-09-01/a1")
        assert store.append(table, [position(0, "other")])
        assert store.read() == merged(table, table, table)
        assert len(store.history("s")) == 3


def test_a_batch_of_which_only_some_was_read_is_refused_as_a_whole(where: str) -> None:
    table = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        store.append(table, [position(0), position(1)])
        for mixed in (
            [position(1), position(2)],
            [Position("s", 15, 25, "x")],
            [Position("s", 0, 100, "x")],
            [Position("s", 0, 10, "other content at the same place")],
            [position(0), position(0, "other")],
        ):
            with pytest.raises(StoreError, match="another process") as caught:
                store.append(table, mixed)
            assert "run again" in caught.value.hint
        assert store.read() == table
        assert store.history("s") == [position(0), position(1)]
        assert store.history("other") == []


@LAW
@given(st.lists(st.lists(st.tuples(st.integers(0, 11), st.integers(1, 5)), min_size=1, max_size=3), max_size=8))
def test_no_record_ever_counts_twice_however_content_is_cut(appends: list[list[tuple[int, int]]]) -> None:
    """The record at offset n of the content is an edge to port n."""
    with new_store() as store:
        for cuts in appends:
            positions, end = [], 0
            for start, size in sorted(cuts):
                start = max(start, end)
                end = start + size
                positions.append(Position("s", start, end, f"{start}-{end}"))
            ports = [port for each in positions for port in range(each.start, each.end)]
            try:
                store.append(aggregate([tcp(CART, REDIS, port + 1) for port in ports]), positions)
            except StoreError as error:
                if "run again" not in error.hint:
                    raise
        covered = sorted(port for each in store.history("s") for port in range(each.start, each.end))
        counted = {key.l4.port - 1: stats.weight for key, stats in store.read().edges.items()}
    assert counted == dict.fromkeys(covered, 1)


def test_the_same_content_with_other_filters_is_an_error(where: str) -> None:
    table = aggregate(EVERYTHING)
    with Store.open(where, create=True, selection="a") as store:
        store.append(table, [position(0)])
        assert store.history("s") == [position(0)]
    with Store.open(where, create=False, selection="b") as store:
        for attempt in (
            lambda: store.history("s"),
            lambda: store.append(table, [position(0)]),
            lambda: store.append(table, [position(1)]),
        ):
            with pytest.raises(StoreError, match="other filters") as caught:
                attempt()
            assert "new store" in caught.value.hint
        assert store.append(table, [position(1)], selection="a")
        assert store.append(table, [position(0, "other")])
        assert store.read() == merged(table, table, table)


def test_nothing_is_no_batch(where: str) -> None:
    with Store.open(where, create=True) as store:
        assert not store.append(EdgeTable())
        assert store.append(EdgeTable(), [position(0)]), "read, with nothing in it: not to be read again"
        assert store.append(EdgeTable(), [Position("s", 10, 10, "")])
        assert store.append(EdgeTable(), [Position("s", 10, 20, "")])
        assert [each.start for each in store.history("s")] == [0, 10]
        assert store.read() == EdgeTable()


def test_clusters_can_be_read_apart(where: str) -> None:
    with Store.open(where, create=True) as store:
        store.append(aggregate(EVERYTHING))
        assert {key.cluster for key in store.read(clusters=["east"]).edges} == {"east"}
        assert {key.cluster for key in store.read(clusters=["east", "no\x00text"]).edges} == {"east", "no\x00text"}
        assert store.read(clusters=["elsewhere"]).edges == {}


def test_totals_for_people(where: str) -> None:
    with Store.open(where, create=True) as store:
        empty = store.info()
        assert (empty.batches, empty.edges, empty.records, empty.first, empty.last) == (0, 0, 0, None, None)
        table = aggregate(EVERYTHING)
        store.append(table, [position(0)])
        found = store.info()
    assert (found.batches, found.partials) == (1, 1)
    assert (found.edges, found.records) == (len(table), len(EVERYTHING))
    assert (found.first, found.last) == (START, START + 5)
    assert found.clusters == ("default", "east", "no\x00text", "west")
    assert found.size > 8_000


def test_a_window_of_hours(where: str) -> None:
    flows = [tcp(CART, REDIS, port, time=START + hour * HOUR + 5) for port, hour in ((1, 0), (2, 5), (3, 30), (2, 31))]
    with Store.open(where, create=True) as store:
        for flow in flows:
            store.append(aggregate([flow]))

        def ports(since: int | None, until: int | None) -> set[int]:
            bounds = [None if hour is None else START + hour * HOUR for hour in (since, until)]
            return {key.l4.port for key in store.read(since=bounds[0], until=bounds[1]).edges}

        assert ports(None, None) == {1, 2, 3}
        assert ports(1, None) == {2, 3}
        assert ports(None, 5) == {1}
        assert ports(None, 6) == {1, 2}
        assert ports(30, 31) == {3}
        assert ports(32, None) == set()
        for bound in ({"since": START + 60 * 10**9}, {"until": START + 1}):
            with pytest.raises(UsageError, match="inside an hour"):
                store.read(**bound)


def test_how_a_window_looks_does_not_depend_on_the_batches() -> None:
    """A crowd is truncated by everything that was seen, so that the same store always says the same."""
    clients = [tcp(WORLD, REDIS, 443, source_ip=f"198.51.100.{n}", time=START) for n in range(5)]
    clients.append(tcp(WORLD, REDIS, 443, source_ip="198.51.100.9", time=START + HOUR))
    with small_limits(), new_store() as one, new_store() as many:
        one.append(aggregate(clients))
        for flow in clients:
            many.append(aggregate([flow]))
        found = [store.read(since=START + HOUR) for store in (one, many)]
    assert found[0] == found[1]
    assert [key.source.address for key in found[0].edges] == ["198.51.100.0/24"]
