"""Frames: what pandas sees of edges, and Parquet files that give back the table they were written from."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from analyzer.aggregate import aggregate
from analyzer.errors import OutputError, StoreError
from analyzer.frames import activity_frame, edges_frame, read_parquet, write_parquet
from analyzer.model.edge import DAY, EdgeTable
from analyzer.settle import settle
from tests.flows import START, WORLD, drop, pod, tcp
from tests.model.test_edge import small_limits
from tests.strategies_edges import tables

CART, REDIS = pod("cart"), pod("redis", "data")
FLOWS = [
    tcp(CART, REDIS, 6379, uuid="a", time=START + 5),
    tcp(CART, REDIS, 6379, reply=True, uuid="b", time=START + DAY),
    tcp(CART, WORLD, 443, destination_ip="198.51.100.7", time=START + 7),
    drop(CART, REDIS, 80, time=START + 9),
]
EDGES = settle(aggregate(FLOWS))


def test_one_row_per_edge_with_what_people_ask_for() -> None:
    frame = edges_frame(EDGES)
    assert len(frame) == len(EDGES) == 3
    redis = frame[frame.port == 6379].iloc[0]
    assert redis[["cluster", "source_namespace", "source_workload", "destination_namespace"]].tolist() == [
        "default", "shop", "cart", "data",
    ]  # fmt: skip
    assert redis[["destination_workload", "protocol", "status", "weight", "answered", "accepted"]].tolist() == [
        "redis", "TCP", "forwarded", 2, 2, True,
    ]  # fmt: skip
    assert "k8s:app=cart" in redis.source_labels
    assert redis.samples == ("a", "b")
    assert redis["first"] == pd.Timestamp("2026-09-01T00:00:00.000000005Z")
    assert redis["last"] == pd.Timestamp("2026-09-02T00:00:00Z")
    world = frame[frame.destination_entity == "world"].iloc[0]
    assert (world.destination_address, world.destination_workload, world.unnamed) == ("198.51.100.7", "", 1)
    assert frame[frame.port == 80].status.tolist() == ["dropped"]


def test_an_empty_frame_has_the_same_columns_and_kinds() -> None:
    for make in (edges_frame, activity_frame):
        full, empty = make(EDGES), make(())
        assert len(empty) == 0
        assert full.dtypes.to_dict() == empty.dtypes.to_dict()
        assert str(empty.dtypes["first"]) == "datetime64[ns, UTC]"


def test_columns_are_documented() -> None:
    text = edges_frame.__doc__ or ""
    for name in edges_frame(()).columns:
        assert f"`{name.removeprefix('source_').removeprefix('destination_')}`" in text, name
    for name in activity_frame(()).columns:
        assert f"`{name}`" in (activity_frame.__doc__ or ""), name


def test_activity_in_long_form_adds_up() -> None:
    frame = activity_frame(EDGES)
    joined = frame.groupby("edge").weight.sum()
    assert joined.tolist() == edges_frame(EDGES).weight.tolist()
    dropped = frame[frame.verdict == "DROPPED"].iloc[0]
    assert (dropped.kind, dropped.reason, dropped.side) == ("DROP", "POLICY_DENIED", "destination")
    by_day = frame.groupby("day").weight.sum()
    assert by_day.to_dict() == {pd.Timestamp("2026-09-01", tz="UTC"): 3, pd.Timestamp("2026-09-02", tz="UTC"): 1}


def test_numbers_newer_than_this_tool_stay_numbers() -> None:
    frame = activity_frame(settle(aggregate([tcp(CART, REDIS, 80, verdict=99, kind=98, drop_reason=77)])))
    assert frame[["kind", "verdict", "reason"]].iloc[0].tolist() == ["98", "99", "77"]


@settings(max_examples=40, deadline=None)
@given(tables())
def test_any_edges_make_frames(table: EdgeTable) -> None:
    edges = settle(table)
    assert edges_frame(edges).weight.tolist() == [edge.weight for edge in edges]
    assert activity_frame(edges).weight.sum() == sum(edge.weight for edge in edges)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_a_parquet_file_gives_back_the_table(table: EdgeTable) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(table, f"{folder}/t.parquet")
        assert read_parquet(f"{folder}/t.parquet") == table


def test_overflow_and_crowds_survive_and_go_on_truncating() -> None:
    with small_limits(), tempfile.TemporaryDirectory() as folder:
        clients = [tcp(WORLD, REDIS, 443, source_ip=f"198.51.100.{n}", uuid=f"u{n}") for n in range(9)]
        table = aggregate(clients)
        write_parquet(table, f"{folder}/t.parquet")
        again = read_parquet(f"{folder}/t.parquet")
        assert again == table
        again.merge(aggregate([tcp(WORLD, REDIS, 443, source_ip="198.51.100.77")]))
        assert [key.source.address for key in again.edges] == ["198.51.100.0/24"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    write_parquet(aggregate(FLOWS), tmp_path / "a.parquet")
    write_parquet(aggregate(FLOWS[::-1]), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_others_can_read_it(tmp_path: Path) -> None:
    write_parquet(aggregate(FLOWS), tmp_path / "a.parquet")
    found = pd.read_parquet(tmp_path / "a.parquet")
    assert sorted(found.port) == [80, 443, 6379]
    assert {cell["verdict"] for cells in found.activity for cell in cells} == {1, 2}


def test_what_is_no_table_is_refused_with_a_next_step(tmp_path: Path) -> None:
    other, text, cut = tmp_path / "other.parquet", tmp_path / "text.parquet", tmp_path / "cut.parquet"
    pq.write_table(pa.table({"a": [1]}), other)
    text.write_text("hello")
    write_parquet(aggregate(FLOWS), cut)
    cut.write_bytes(cut.read_bytes()[:-50])
    for path in (other, text, cut, tmp_path / "none.parquet", tmp_path):
        with pytest.raises(StoreError) as caught:
            read_parquet(path)
        assert str(path) in caught.value.message
        assert caught.value.hint
    with pytest.raises(OutputError):
        write_parquet(aggregate(FLOWS), tmp_path / "no" / "such.parquet")


def test_importing_frames_does_not_import_pandas() -> None:
    code = "import sys, analyzer.frames; sys.exit(any(name in sys.modules for name in ('pandas', 'numpy', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
