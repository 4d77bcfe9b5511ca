"""The store: what was written is read, nothing counts twice, and nothing that was committed is lost."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.aggregate import Aggregator, aggregate
from analyzer.errors import StoreError, UsageError
from analyzer.model.edge import HOUR, EdgeTable
from analyzer.model.flow import Detail, DnsRecord, EventKind, Flow, HttpRecord, LostEvents, NodeStatus, PolicyRef, Skip
from analyzer.model.window import within
from analyzer.sources.base import Position
from analyzer.store import Store, looks_like_store
from tests.flows import START, WORLD, drop, icmp, pod, remote, tcp, udp
from tests.test_connection_model import FLOWS

CART, REDIS = pod("cart"), pod("redis")
EVERYTHING: list[Flow] = [
    tcp(CART, remote(REDIS), 6379, uuid="a1", node="east/n1"),
    tcp(remote(CART), REDIS, 6379, reply=True, uuid="b2", node="west/n2"),
    drop(CART, REDIS, 80, reason=181, detail=Detail(egress_denied_by=(PolicyRef("CiliumNetworkPolicy", "shop", "no"),))),
    tcp(CART, REDIS, 80, kind=EventKind.L7, detail=Detail(http=HttpRecord("GET", "/a", "redis"), l7_type=1)),
    udp(CART, pod("dns", "kube-system"), 53, reply=True, kind=EventKind.L7,
        detail=Detail(dns=DnsRecord("a.example.com", ("198.51.100.7",)), l7_type=2)),
    udp(CART, REDIS, 50_000, reply=None),
    icmp(CART, REDIS, 8),
    tcp(CART, WORLD, 443, destination_ip="2001:db8::7", detail=Detail(destination_names=("a.example.com",))),
    tcp(CART, WORLD, 80, detail=Detail(destination_service="shop/redis")),
    LostEvents("n1", START, 3, 9), NodeStatus(("n1",), START, 2), Skip.MALFORMED,
    *(tcp(WORLD, REDIS, 443, source_ip=f"198.{n}.100.1") for n in range(250)),
    *(tcp(WORLD, REDIS, 443, source_ip=f"198.51.{n}.1") for n in range(250)),
]  # fmt: skip


def position(number: int, stream: str = "s") -> Position:
    return Position(stream, number * 10, number * 10 + 10, f"digest-{number}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of Debian's, on a socket in a folder of its own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("PostgreSQL's binaries must be installed in CI")
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    if os.geteuid() != 0:
        pytest.skip("starting PostgreSQL as its own user needs root")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    shutil.chown(folder, "postgres", "postgres")

    def run(*command: str) -> None:
        subprocess.run(
            [str(found[-1].parent / command[0]), *command[1:]],
            check=True, user="postgres", group="postgres", extra_groups=[], cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
    run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "postgres")
    run("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A place for a new store on either engine."""
    if request.param == "sqlite":
        yield str(tmp_path / "flows.db")
        return
    url: str = request.getfixturevalue("postgres")
    yield url
    import sqlalchemy as sa

    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f'DROP TABLE "{name}"'))
    engine.dispose()


def test_what_was_written_is_read(where: str) -> None:
    table = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        store.append(table, [position(0)])
    with Store.open(where, create=False) as store:
        assert store.read() == table
        assert store.info().clusters == ("default", "east", "west")


def test_parts_in_any_order_and_compaction_give_the_whole(where: str) -> None:
    shuffled = list(EVERYTHING)
    random.Random(1).shuffle(shuffled)
    whole = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        for number, start in enumerate(range(0, len(shuffled), 97)):
            store.append(aggregate(shuffled[start : start + 97]), [position(number)])
        assert store.info().partials > 3
        assert store.read() == whole
        store.compact()
        assert store.info().partials == 1
        assert store.read() == whole
        assert [each.start for each in store.history("s")] == [n * 10 for n in range(number + 1)]
        store.append(whole, [position(number + 1)])
        assert store.read().coverage.records == 2 * whole.coverage.records


def test_the_same_content_is_refused_as_a_whole(where: str) -> None:
    table = aggregate(EVERYTHING)
    with Store.open(where, create=True) as store:
        store.append(table, [position(0), position(1)])
        with pytest.raises(StoreError, match="another process"):
            store.append(table, [position(1), position(2)])
        assert store.read() == table
        assert len(store.history("s")) == 2


def test_clusters_can_be_read_apart(where: str) -> None:
    with Store.open(where, create=True) as store:
        store.append(aggregate(EVERYTHING))
        assert {key.cluster for key in store.read(clusters=["east"]).edges} == {"east"}


def test_other_filters_on_the_same_content_are_an_error(tmp_path: Path) -> None:
    where = str(tmp_path / "flows.db")
    with Store.open(where, create=True, selection="a") as store:
        store.append(aggregate(EVERYTHING), [position(0)])
        assert store.history("s")
    with Store.open(where, create=False, selection="b") as store, pytest.raises(StoreError, match="other filters"):
        store.history("s")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(FLOWS, max_size=15), max_size=5))
def test_any_partition_reads_as_one(parts: list[list[Flow]]) -> None:
    with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/flows.db", create=True) as store:
        for part in parts:
            store.append(aggregate(part))
        assert store.read() == aggregate([flow for part in parts for flow in part])


CHILD = """
import sys
from analyzer.aggregate import aggregate
from analyzer.store import Store
from tests.flows import pod, tcp
from tests.test_store import position
stream, where = sys.argv[1:]
with Store.open(where, create=True) as store:
    for number in range(len(store.history(stream)), 400):
        store.append(aggregate([tcp(pod("cart"), pod("redis"), 1 + number)]), [position(number, stream)])
        print(number, flush=True)
"""


def child(where: str, stream: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, stream, where], stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_nothing_committed_and_counts_nothing_twice(tmp_path: Path) -> None:
    where, chance = str(tmp_path / "flows.db"), random.Random(7)
    told = -1
    for _ in range(4):
        process = child(where, "s")
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(chance.uniform(0.02, 0.15))
        process.send_signal(signal.SIGKILL)
        lines = process.stdout.read().split()
        process.wait()
        told = max([told, *(int(line) for line in lines if line.isdigit())])
    assert child(where, "s").wait() == 0
    with Store.open(where, create=False) as store:
        table = store.read()
    assert told >= 0
    assert table.coverage.records == 400
    assert {key.l4.port for key in table.edges} == set(range(1, 401))


def test_two_processes_write_into_one_store(where: str) -> None:
    with Store.open(where, create=True):
        pass
    writers = [child(where, stream) for stream in ("one", "two")]
    for writer in writers:
        assert writer.communicate()[0].split()[-1] == "399"
    with Store.open(where, create=False) as store:
        table = store.read()
    assert table.coverage.records == 800
    assert all(stats.weight == 2 for stats in table.edges.values())


def test_a_window_of_hours(tmp_path: Path) -> None:
    flows = [tcp(CART, REDIS, port, time=START + hour * HOUR + 5) for port, hour in ((1, 0), (2, 5), (3, 30), (2, 31))]
    with Store.open(str(tmp_path / "flows.db"), create=True) as store:
        store.append(aggregate(flows))
        ports = {
            (since, until): {
                key.l4.port
                for key in store.read(
                    since=None if since is None else START + since * HOUR,
                    until=None if until is None else START + until * HOUR,
                ).edges
            }
            for since, until in ((None, None), (1, None), (None, 5), (None, 6), (30, 31), (32, None))
        }
        with pytest.raises(UsageError, match="inside an hour"):
            store.read(since=START + 60 * 10**9)
    assert list(ports.values()) == [{1, 2, 3}, {2, 3}, {1}, {1, 2}, {3}, set()]


def test_a_window_is_never_more_than_the_table(tmp_path: Path) -> None:
    table = aggregate(EVERYTHING)
    assert within(table, None, None) is table
    assert within(table, START, START + HOUR) == table
    assert within(table, START + HOUR, None).edges == {}


def test_what_is_no_store_is_refused_with_a_next_step(tmp_path: Path) -> None:
    text, other, folder = tmp_path / "flows.json", tmp_path / "other.db", tmp_path / "folder"
    text.write_text('{"flow":{}}\n')
    folder.mkdir()
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    missing = tmp_path / "none" / "flows.db"
    for path, create in ((text, True), (other, True), (folder, True), (missing, True), (missing, False), (text, False)):
        with pytest.raises(StoreError) as caught:
            Store.open(str(path), create=create)
        assert str(path.name) in caught.value.message
        assert caught.value.hint
    assert text.read_text() == '{"flow":{}}\n'
    assert looks_like_store(str(other))
    assert not looks_like_store(str(text))
    assert not looks_like_store(str(folder))


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "flows.db")
    Store.open(where, create=True).close()
    with sqlite3.connect(where) as connection:
        connection.execute("UPDATE hubble_analyzer_meta SET value = '99'")
    connection.close()
    with pytest.raises(StoreError, match="another version"):
        Store.open(where, create=False)


def test_a_full_disk_is_an_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    where = str(tmp_path / "flows.db")
    table = aggregate(EVERYTHING)
    store = Store.open(where, create=True)
    store.append(table)

    from sqlalchemy import event

    event.listen(store._engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 1"))
    too_much = aggregate([tcp(pod(f"{n}" * 50_000), REDIS, 80) for n in range(50)])
    with pytest.raises(StoreError, match="full") as caught:
        store.append(too_much)
    assert "space" in caught.value.hint
    store.close()
    with Store.open(where, create=False) as again:
        assert again.read() == table


def test_a_spilled_aggregator_reads_as_one(tmp_path: Path) -> None:
    aggregator, whole = Aggregator(), EdgeTable()
    whole.merge(aggregate(EVERYTHING))
    with Store.open(str(tmp_path / "flows.db"), create=True) as store:
        for flow in EVERYTHING:
            aggregator.add_records([flow])
            if len(aggregator.table) > 20:
                store.append(aggregator.take())
        store.append(aggregator.take())
        assert store.read() == whole
