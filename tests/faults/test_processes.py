"""`observe` as a process: killed at any moment, twice at a time, without room on the disk - a store has every flow once."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from analyzer.aggregate import aggregate
from analyzer.demo import CLUSTER, records
from analyzer.errors import StoreError
from analyzer.model.edge import EdgeTable
from analyzer.model.flow import Flow
from analyzer.replay import ReplayServer
from analyzer.sources.base import LIVE, Record
from analyzer.sources.decode import Decoder
from analyzer.store import Store

ROOT = Path(__file__).resolve().parents[2]
Process = subprocess.Popen[str]


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """A morning of the demo's cluster: two thousand flows of three nodes."""
    return [json.dumps(record) for record in records(CLUSTER, 1)][:2000]


@pytest.fixture(scope="module")
def flows(lines: list[str]) -> list[Record]:
    decode = Decoder().decode
    return [decode(line.encode()) for line in lines]


def observe(store: Path, *args: object, room: int | None = None) -> Process:
    command = [sys.executable, "-m", "analyzer", "observe", "--store", str(store), *map(str, args)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HUBBLE_")}

    process = subprocess.Popen(
        command, cwd=store.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment | {"PYTHONPATH": str(ROOT), "HOME": str(store.parent)},
    )  # fmt: skip
    if room is not None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    return process


def finished(process: Process, code: int = 0) -> str:
    told = process.communicate(timeout=60)[1]
    assert process.returncode == code, told
    assert "Traceback" not in told
    return told


def kill(process: Process) -> None:
    process.kill()
    process.communicate(timeout=60)


def table_of(path: Path) -> EdgeTable:
    with Store.open(str(path), create=False) as store:
        return store.read()


def same(found: EdgeTable, expected: EdgeTable) -> bool:
    """But for what was skipped, which a second look at the same content adds to."""
    names = ("edges", "workloads", "pods", "answers", "service_addresses")
    coverage = [(table.coverage.edge_records, table.coverage.nodes) for table in (found, expected)]
    return all(getattr(found, name) == getattr(expected, name) for name in names) and coverage[0] == coverage[1]


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def read_of(path: Path, flows: Sequence[Record]) -> dict[str, int]:
    """How many flows of each node a store has read, by its own account."""
    counts = {}
    with Store.open(str(path), create=False) as store:
        for node in sorted({flow.node for flow in flows if isinstance(flow, Flow)}):
            positions = store.history(f"{LIVE}{node}")
            counts[node] = positions[-1].end if positions else 0
    return counts


def straight(flows: Sequence[Record], counts: dict[str, int]) -> EdgeTable:
    """A run without any fault, over the first so many flows of each node."""
    left, chosen = dict(counts), list[Record]()
    for flow in flows:
        if isinstance(flow, Flow) and left[flow.node] > 0:
            left[flow.node] -= 1
            chosen.append(flow)
    return aggregate(chosen)


def exists(path: Path) -> bool:
    try:
        table_of(path)
    except StoreError:
        return False
    return True


def test_killed_at_random_while_it_follows_a_server(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    rng, store = random.Random(7), tmp_path / "flows.db"
    with ReplayServer(lines, rate=2000.0) as server:
        following = ("-f", "--server", server.address, "--flush-interval", "50ms")
        for _ in range(6):
            process = observe(store, *following)
            until(lambda: exists(store))
            time.sleep(rng.uniform(0.0, 1.2))
            kill(process)
            if exists(store):
                assert same(table_of(store), straight(flows, read_of(store, flows)))
        finished(observe(store, "--server", server.address))
    assert same(table_of(store), aggregate(flow for flow in flows if isinstance(flow, Flow)))


def test_no_more_than_the_last_interval_is_lost(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    with ReplayServer(lines[:1000]) as server:
        process = observe(store, "-f", "--server", server.address, "--flush-interval", "100ms")
        whole = aggregate(flows[:1000])
        until(lambda: exists(store) and same(table_of(store), whole))
        kill(process)


def test_killed_at_random_while_it_follows_a_file_that_is_rotated(
    lines: list[str], flows: list[Record], tmp_path: Path
) -> None:
    rng, store, log = random.Random(3), tmp_path / "flows.db", tmp_path / "events.log"
    log.touch()

    def write() -> None:
        serial = 0
        for start in range(0, len(lines), 50):
            with log.open("a") as file:
                file.write("".join(line + "\n" for line in lines[start : start + 50]))
            if start % 350 == 0 and start:
                serial += 1
                log.rename(tmp_path / f"events-2026-09-13T14-43-{serial:02d}.263.log")
            time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    following = ("-f", log, "--flush-interval", "50ms")
    while writer.is_alive():
        process = observe(store, *following)
        time.sleep(rng.uniform(0.3, 2.0))
        kill(process)
    process = observe(store, *following)
    whole = aggregate(flows)
    until(lambda: exists(store) and same(table_of(store), whole))
    process.send_signal(signal.SIGTERM)
    assert "everything read until then is in the store" in finished(process, 130)
    assert same(table_of(store), whole)


def test_two_at_a_time_on_one_store(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    """Both read the same server: whoever comes too late is told so, or has nothing new. Nothing counts twice."""
    store = tmp_path / "flows.db"
    with ReplayServer(lines, rate=1500.0) as server:
        following = ("-f", "--server", server.address, "--flush-interval", "100ms", "--max-duration", "2s")
        processes = [observe(store, *following) for _ in range(2)]
        for process in processes:
            told = process.communicate(timeout=60)[1]
            assert process.returncode == 0 or "another process" in told, told
        assert same(table_of(store), straight(flows, read_of(store, flows)))
        finished(observe(store, "--server", server.address))
    assert same(table_of(store), aggregate(flow for flow in flows if isinstance(flow, Flow)))


def test_two_at_a_time_with_a_cluster_each(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    others = [line.replace('"node-', '"east/node-') for line in lines]
    with ReplayServer(lines) as one, ReplayServer(others) as two:
        following = ("-f", "--flush-interval", "50ms", "--max-duration", "2s")
        for process in [observe(store, *following, "--server", server.address) for server in (one, two)]:
            finished(process)
    decode = Decoder().decode
    assert same(table_of(store), aggregate([*flows, *(decode(line.encode()) for line in others)]))


ROOM = 100_000


def test_no_room_left_while_it_follows(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    """It tells, goes on, and gives up only in the end; what was written is whole, and the rest is read another time."""
    store = tmp_path / "flows.db"
    with ReplayServer(lines, rate=1500.0) as server:
        following = ("-f", "--server", server.address, "--flush-interval", "200ms", "--max-duration", "2s")
        told = finished(observe(store, *following, room=ROOM), 2)
        assert "what was read is kept" in told
        assert "Hint:" in told
        assert same(table_of(store), straight(flows, read_of(store, flows)))
        finished(observe(store, "--server", server.address))
    assert same(table_of(store), aggregate(flow for flow in flows if isinstance(flow, Flow)))


def test_no_room_left_while_a_file_is_read(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    store, file = tmp_path / "flows.db", tmp_path / "flows.json"
    file.write_text("\n".join(lines) + "\n")
    told = finished(observe(store, file, "--flush-interval", "1ms", room=ROOM), 2)
    assert "Error:" in told
    assert "Hint:" in told
    finished(observe(store, file))
    assert same(table_of(store), aggregate(flows))


def test_room_that_comes_back(lines: list[str], flows: list[Record], tmp_path: Path) -> None:
    """A store that fails for a while: everything is written as soon as it works again."""
    store = tmp_path / "flows.db"
    with ReplayServer(lines, rate=1500.0) as server:
        process = observe(store, "-f", "--server", server.address, "--flush-interval", "200ms", room=ROOM)
        assert process.stderr is not None
        while "what was read is kept" not in process.stderr.readline():
            assert process.poll() is None
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        whole = aggregate(flow for flow in flows if isinstance(flow, Flow))
        until(lambda: same(table_of(store), whole))
        process.send_signal(signal.SIGINT)
        finished(process, 130)
    assert same(table_of(store), whole)
