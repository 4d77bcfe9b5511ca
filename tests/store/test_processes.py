"""A store under several processes, and under processes that are killed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from analyzer.model.edge import EdgeTable
from analyzer.store import Store
from tests.store.children import BATCHES, batch, start


def whole(*numbers: int) -> EdgeTable:
    table = EdgeTable()
    for number in numbers:
        table.merge(batch(number))
    return table


def finish(*children: object) -> None:
    for child in children:
        _, errors = child.communicate(timeout=120)  # type: ignore[attr-defined]
        assert child.returncode == 0, errors  # type: ignore[attr-defined]


@pytest.mark.parametrize("job", ["append", "compact"])
def test_kill_9_loses_nothing_committed_and_counts_nothing_twice(where: str, job: str) -> None:
    told = 0
    for lines in (1, 6, 2):
        child = start(job, where)
        assert child.stdout is not None
        for _ in range(lines):
            child.stdout.readline()
        child.kill()
        told += lines + len(child.stdout.read().split("\n")[:-1])
        child.communicate()
        with Store.open(where, create=False) as store:
            done = len(store.history("s"))
            assert told <= done <= told + 3, "only what was about to be told may be more"
            assert store.read() == whole(*range(done))
    finish(start("append", where))
    with Store.open(where, create=False) as store:
        assert store.read() == whole(*range(BATCHES))


def test_processes_that_make_one_store_together_and_write_into_it(where: str) -> None:
    """They begin at the same moment, before there is a store."""
    soon = time.time() + 1
    finish(*[start("append", where, f"stream-{n}", at=soon) for n in range(3)])
    with Store.open(where, create=False) as store:
        assert store.read() == whole(*(number for number in range(BATCHES) for _ in range(3)))
        assert store.info().batches == 3 * BATCHES


def test_processes_that_read_the_same_content_count_it_once(where: str) -> None:
    soon = time.time() + 1
    finish(*[start("race", where, at=soon) for _ in range(2)])
    with Store.open(where, create=False) as store:
        assert store.read() == whole(*range(BATCHES))


def test_a_reader_sees_whole_batches_only(where: str) -> None:
    Store.open(where, create=True).close()
    writers = [start("append", where, "one"), start("compact", where, "two")]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        with Store.open(where, create=False) as store:
            table = store.read()
        own = sum(stats.weight for key, stats in table.edges.items() if key.l4.port > 1)
        shared = sum(stats.weight for key, stats in table.edges.items() if key.l4.port == 1)
        assert own == 2 * shared
        assert table.coverage.records == own + shared
        seen += 1
    finish(*writers)
    assert seen > 1


def test_many_open_a_new_store_at_once(where: str) -> None:
    together = threading.Barrier(8)

    def make(_: int) -> None:
        together.wait()
        Store.open(where, create=True).close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(8)))
    with Store.open(where, create=False) as store:
        assert store.read() == EdgeTable()
