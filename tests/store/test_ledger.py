"""What live streams leave in a store: one row for a run, nothing twice, and nothing lost while the database fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from analyzer.aggregate import aggregate
from analyzer.errors import SourceError, StoreError, StoreUnavailable
from analyzer.model.edge import EdgeTable
from analyzer.model.flow import LostEvents
from analyzer.pipeline import collect, read
from analyzer.sources.base import LIVE, Batch, History, Position, nothing_read_before
from analyzer.sources.sight import Sight
from analyzer.store import Store
from tests.flows import pod, tcp

START = 1_700_000_000 * 10**9
NODE = f"{LIVE}a"


def position(start: int, end: int, run: str = "1") -> Position:
    return Position(NODE, start, end, f"{run}/{start}-{end}")


def table(port: int = 80) -> EdgeTable:
    return aggregate([tcp(pod("web"), pod("cart"), port)])


@pytest.fixture
def store(where: str) -> Iterator[Store]:
    with Store.open(where, create=True) as opened:
        yield opened


def test_a_run_of_a_node_is_one_row_and_the_next_run_another(store: Store) -> None:
    for start in range(0, 50, 10):
        assert store.append(table(), [position(start, start + 10)])
    store.append(table(), [position(50, 60, run="2")])
    assert store.history(NODE) == [Position(NODE, 0, 50, "1/40-50"), Position(NODE, 50, 60, "2/50-60")]


def test_what_was_handed_over_before_counts_once_although_its_row_has_grown(store: Store) -> None:
    store.append(table(), [position(0, 10)])
    store.append(table(), [position(10, 20)])
    before = store.read()
    assert not store.append(table(), [position(10, 20)])
    assert not store.append(table(), [position(12, 18)])
    assert store.read() == before


def test_two_that_observe_the_same_node_do_not_count_twice(store: Store) -> None:
    store.append(table(), [position(0, 20)])
    before = store.read()
    with pytest.raises(StoreError, match="another process") as caught:
        store.append(table(), [position(10, 30)])
    assert not isinstance(caught.value, StoreUnavailable)
    assert store.read() == before


class Stream:
    """A live source: a batch for each flow, and an end in the end or an error."""

    name = "stream"

    def __init__(self, count: int, *, broken: bool = False) -> None:
        flow = tcp(pod("web"), pod("cart"), 80)
        self.flows = [flow.replace(node="a", time=START + n * 10**9, uuid=f"u{n}") for n in range(count)]
        self.broken = broken

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        sight = Sight(history)
        for flow in self.flows:
            yield sight.batch([flow])
        if self.broken:
            raise SourceError("gone")

    def close(self) -> None:
        pass


class Failing(Store):
    """A store whose database fails for a while: before it wrote, or only after that, when nobody can tell."""

    def __init__(self, store: Store, failures: Sequence[str]) -> None:
        super().__init__(store._engine, store._where, "")
        self.failures = list(failures)

    def append(self, *args: object, **more: object) -> bool:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise StoreUnavailable("full")
        done = super().append(*args, **more)  # type: ignore[arg-type]
        if failure == "after":
            raise StoreUnavailable("gone")
        return done


@pytest.mark.parametrize("failures", [["before"] * 3, ["after"] * 3, ["after", "before", "after", "", "before"]])
def test_a_database_that_fails_for_a_while_loses_nothing_and_doubles_nothing(store: Store, failures: list[str]) -> None:
    troubles: list[StoreUnavailable] = []
    failing = Failing(store, failures)
    collect([Stream(20)], failing, due=lambda: True, on_trouble=troubles.append)
    assert store.read() == read([Stream(20)])
    assert len(troubles) == len([each for each in failures if each])


@pytest.mark.parametrize("failure", ["before", "after"])
def test_without_anybody_to_tell_a_failure_ends_it_and_marks_nothing_read_that_is_not_there(
    store: Store, failure: str
) -> None:
    with pytest.raises(StoreUnavailable):
        collect([Stream(20)], Failing(store, [failure, failure]), due=lambda: True)
    collect([Stream(20)], store)
    assert store.read().edges == read([Stream(20)]).edges


def test_the_last_words_of_a_stream_that_breaks_are_kept(store: Store) -> None:
    with pytest.raises(SourceError):
        collect([Stream(5, broken=True)], store)
    assert store.read() == read([Stream(5)])
    collect([Stream(9)], store)
    assert store.read() == read([Stream(9)])
    assert len(store.history(NODE)) == 1


def test_losses_alone_count_once_when_they_are_handed_over_again(store: Store) -> None:
    class Losing(Stream):
        def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
            yield Sight(history).batch([LostEvents("a", START, 1, 7)])
            yield Batch(())

    collect([Losing(0)], Failing(store, ["after"]), due=lambda: True, on_trouble=lambda error: None)
    assert store.read().coverage.lost == {("a", 1): 7}


def test_history_is_cheap_after_weeks(store: Store) -> None:
    for start in range(300):
        store.append(EdgeTable(), [position(start, start + 1)])
    with store._engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM hubble_analyzer_content")) == 1


def test_partial_tables_do_not_become_many(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analyzer.store.database._MANY_ROWS", 10)
    collect([Stream(300)], store, due=lambda: True)
    assert store.info().partials < 20
    assert store.read() == read([Stream(300)])
    assert store.history(NODE)[0].end == 300


def test_a_database_that_drops_its_connections(postgres: str) -> None:
    """As when PostgreSQL is restarted under a run of weeks."""
    dropped = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    engine = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)

    def due() -> bool:
        with engine.connect() as connection:
            connection.execute(sa.text(dropped))
        return True

    with Store.open(postgres, create=True) as store:
        collect([Stream(10)], store, due=due, on_trouble=lambda error: None)
        assert store.read() == read([Stream(10)])
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f'DROP TABLE "{name}"'))


def test_two_that_read_different_windows_of_a_node_are_not_taken_for_one(store: Store) -> None:
    """The numbers of the second are among those of the first; its flows are others."""
    store.append(table(), [position(0, 600)])
    with pytest.raises(StoreError, match="another process"):
        store.append(table(81), [position(0, 400, run="2")])
    with pytest.raises(StoreError, match="another process"):
        store.append(table(81), [position(100, 200, run="2")])


def test_a_store_that_is_deleted_or_replaced_while_in_use_is_told(tmp_path: Path) -> None:
    path, moved = tmp_path / "flows.db", tmp_path / "moved.db"
    with Store.open(str(path), create=True) as opened:
        opened.append(table())
        before = opened.read()
        path.rename(moved)
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            opened.append(table(81))
        path.write_bytes(b"")
        with pytest.raises(StoreUnavailable, match="deleted or replaced"):
            opened.read()
        path.unlink()
        moved.rename(path)
        assert opened.read() == before
        assert opened.append(table(81))
