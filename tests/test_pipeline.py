"""The main path: however reading is cut, repeated or interrupted, the edges are the same, and every record is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from analyzer import pipeline
from analyzer.errors import SourceError
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.model.flow import Skip
from analyzer.pipeline import collect, read, recommend, service_graph, settle
from analyzer.sources.base import Batch, History, Position, nothing_read_before
from analyzer.sources.filters import Selection, parse_filters
from analyzer.sources.jsonpb import FileSource
from analyzer.sources.several import batches as all_batches
from analyzer.store import Store
from tests.cli.records import exported, shop, write_lines


class Scripted:
    """A source whose batches are given; `broken` ends it with an error."""

    def __init__(self, batches: Sequence[Batch], *, broken: bool = False) -> None:
        self._batches, self._broken = batches, broken

    @property
    def name(self) -> str:
        return "scripted"

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        known = {position for each in self._batches if each.position for position in history(each.position.stream)}
        yield from (batch for batch in self._batches if batch.position not in known)
        if self._broken:
            raise SourceError("gone")

    def close(self) -> None:
        pass


@pytest.fixture
def batches(tmp_path: Path) -> list[Batch]:
    """The shop's flows, one per batch."""
    from analyzer.sources.decode import Decoder

    decode = Decoder().decode
    return [
        Batch([decode(json.dumps(record).encode())], Position("stream", number, number + 1, str(number)))
        for number, record in enumerate(shop())
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(str(tmp_path / "flows.db"), create=True) as opened:
        yield opened


def test_flushing_at_any_moment_gives_the_same_edges(batches: list[Batch], tmp_path: Path) -> None:
    expected = read([Scripted(batches)])
    for every in (1, 2, 3, 100):
        ticks = iter(range(1, 1000))
        with Store.open(str(tmp_path / f"{every}.db"), create=True) as store:
            coverage = collect([Scripted(batches)], store, due=lambda: next(ticks) % every == 0)  # noqa: B023
            assert store.read() == expected
        assert coverage == expected.coverage


def test_a_silent_stream_is_flushed_by_the_clock(batches: list[Batch], store: Store) -> None:
    seen: list[int] = []
    silence = [Batch(()), Batch(()), Batch(())]

    def due() -> bool:
        seen.append(len(store.read()))
        return len(seen) == len(batches) + 1

    collect([Scripted([*batches, *silence])], store, due=due)
    assert seen[len(batches)] == 0
    assert seen[len(batches) + 1] == 4


def test_what_was_read_before_a_failure_is_in_the_store(batches: list[Batch], store: Store) -> None:
    with pytest.raises(SourceError):
        collect([Scripted(batches[:3], broken=True)], store)
    assert store.read() == read([Scripted(batches[:3])])
    collect([Scripted(batches)], store)
    assert store.read() == read([Scripted(batches)])


def test_a_key_press_in_the_middle_loses_nothing_that_was_read(batches: list[Batch], store: Store) -> None:
    def interrupted(coverage: Coverage, table: EdgeTable, settle: Callable[[], None]) -> None:
        if coverage.records == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect([Scripted(batches)], store, on_batch=interrupted)
    assert store.read() == read([Scripted(batches[:4])])


def test_a_key_press_within_a_source_leaves_what_was_written_before(batches: list[Batch], store: Store) -> None:
    """A source may be about to hand over more than it has: the last interval is read again rather than lost or doubled."""

    class Pressed(Scripted):
        def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
            yield from batches[:4]
            raise KeyboardInterrupt

    ticks = iter(range(1, 100))
    with pytest.raises(KeyboardInterrupt):
        collect([Pressed([])], store, due=lambda: next(ticks) == 3)
    assert store.read() == read([Scripted(batches[:3])])


def test_the_same_content_counts_once_within_a_run_and_between_runs(tmp_path: Path, store: Store) -> None:
    one = write_lines(tmp_path / "one.json", shop())
    two = write_lines(tmp_path / "two.json", [*shop(), exported("web", "cart", 8080, second=30)])
    table = read([FileSource([one]), FileSource([one, one])])
    assert table.edges == read([FileSource([one])]).edges
    assert table.coverage.skipped[Skip.DUPLICATE] == 14
    collect([FileSource([one]), FileSource([one])], store)
    before = store.read()
    assert before == read([FileSource([one])])
    coverage = collect([FileSource([one])], store)
    assert coverage.skipped == {Skip.DUPLICATE: 7}
    assert store.read() == before
    collect([FileSource([two])], store)
    assert store.read() == read([FileSource([two])])


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "flows.json", shop())
    keep = Selection(parse_filters([{"verdict": ["DROPPED"]}]))
    table = read([FileSource([path])], keep)
    assert len(table) == 1
    assert table.coverage.skipped[Skip.FILTERED] == 6
    assert table.coverage.records == 7


def test_progress_is_told_batch_by_batch(batches: list[Batch], store: Store) -> None:
    for told, run in (
        ([], lambda each: read([Scripted(batches)], on_batch=each)),
        ([], lambda each: collect([Scripted(batches)], store, due=lambda: True, on_batch=each)),
    ):
        run(lambda coverage, table, settle, told=told: told.append(coverage.records))
        assert told == [1, 2, 3, 4, 5, 6, 7]


def test_reading_imports_nothing_that_it_does_not_need() -> None:
    code = "import sys, analyzer.pipeline as p; print(*sys.modules); assert p.recommend and p.service_graph"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    unneeded = {"analyzer.recommend", "analyzer.policy", "analyzer.graph", "analyzer.scale", "analyzer.sources.filters"}
    assert "analyzer.aggregate" in loaded
    assert not unneeded & {*loaded}
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pipeline.no_such_name


def test_from_flows_to_policies(tmp_path: Path) -> None:
    edges = settle(read([FileSource([write_lines(tmp_path / "flows.json", shop())])]))
    assert service_graph(edges).number_of_nodes() == 5
    assert len(recommend(edges).documents()) == 4


def test_content_read_before_is_known_again_however_it_is_cut(tmp_path: Path) -> None:
    """Positions of a long file are packed in memory; unpacked they have to be what they were."""
    many = [Position("a", n * 10, n * 10 + 10, f"{n:032x}") for n in range(1000)]
    others = [Position("b", 0, 2**40, "ff")]

    class Told:
        name = "told"

        def batches(self, history: History) -> Iterator[Batch]:
            yield from (Batch((), each) for each in (*many, *others))
            found.extend([*history("a"), *history("b"), *history("c")])

        def close(self) -> None:
            """Nothing to close."""

    found: list[Position] = []
    assert len(list(all_batches([Told()], None, lambda stream: many[:1] if stream == "a" else ()))) == 1001
    assert found == [*many, *others]
