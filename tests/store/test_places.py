"""Where stores are: what is none is refused with a next step and left alone, and trouble is told in words."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from analyzer.aggregate import aggregate
from analyzer.errors import StoreError
from analyzer.model.edge import EdgeTable
from analyzer.store import Store, looks_like_store
from tests.flows import pod, tcp
from tests.store.children import batch, position

CART, REDIS = pod("cart"), pod("redis")


def refused(where: object, *, create: bool) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Store.open(str(where), create=create)
    assert caught.value.hint
    return caught.value


def change(where: str, statement: str) -> None:
    connection = sqlite3.connect(where)
    with connection:
        connection.execute(statement)
    connection.close()


def test_what_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    text, other, folder = tmp_path / "flows.json", tmp_path / "other.db", tmp_path / "folder"
    text.write_text('{"flow":{}}\n')
    change(str(other), "CREATE TABLE mine (x)")
    folder.mkdir()
    before = other.read_bytes()
    for path in (text, other, folder, tmp_path / "none" / "flows.db", text / "flows.db", tmp_path / "a\x00b"):
        for create in (True, False):
            assert str(path) in refused(path, create=create).message
    assert text.read_text() == '{"flow":{}}\n'
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flows.json", "folder", "other.db"]


def test_reading_makes_no_store(tmp_path: Path) -> None:
    missing, empty = tmp_path / "flows.db", tmp_path / "empty.db"
    empty.touch()
    assert "no such store" in refused(missing, create=False).message
    assert "no store" in refused(empty, create=False).message
    assert not missing.exists()
    assert empty.read_bytes() == b""


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    """As a process leaves it that was killed at the very beginning; and also where it had just switched to a log."""
    empty, switched = tmp_path / "empty.db", tmp_path / "switched.db"
    empty.touch()
    change(str(switched), "PRAGMA journal_mode=WAL")
    for path in (empty, switched):
        with Store.open(str(path), create=True) as store:
            store.append(batch(1))
            assert store.read() == batch(1)


@pytest.mark.parametrize(
    "name", ["a b.db", "what?.db", "100%41.db", "a#b.db", "ü.db", "'quoted\".db", ":memory:", "file:x"]
)
def test_any_file_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(name, create=True) as store:
        store.append(batch(1))
    with Store.open(str(tmp_path / name), create=False) as store:
        assert store.read() == batch(1)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert looks_like_store(name)


def test_a_store_is_known_by_its_content(tmp_path: Path) -> None:
    where = tmp_path / "flows.json"
    Store.open(str(where), create=True).close()
    text = tmp_path / "flows.db"
    text.write_text("SQLite format 4")
    assert looks_like_store(str(where))
    assert looks_like_store("postgresql://user@host/flows")
    for name in (str(text), str(tmp_path), str(tmp_path / "none"), "-", "", "a\x00b", "localhost:4245"):
        assert not looks_like_store(name), name


def test_a_copy_of_the_one_file_is_the_store(tmp_path: Path) -> None:
    where, copy = tmp_path / "flows.db", tmp_path / "copy.db"
    with Store.open(str(where), create=True) as store:
        store.append(batch(1))
    assert [path.name for path in tmp_path.iterdir()] == ["flows.db"]
    copy.write_bytes(where.read_bytes())
    with Store.open(str(copy), create=False) as store:
        assert store.read() == batch(1)


def test_a_store_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    where = str(tmp_path / "flows.db")
    Store.open(where, create=True).close()
    change(where, "UPDATE hubble_analyzer_meta SET value = '99'")
    for create in (True, False):
        assert "version 99" in refused(where, create=create).message


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE hubble_analyzer_edge SET stats = x'00'",
        "UPDATE hubble_analyzer_edge SET stats = x'93909090'",
        "UPDATE hubble_analyzer_edge SET stats = 'text'",
        "UPDATE hubble_analyzer_edge SET source = x'0102'",
        "UPDATE hubble_analyzer_edge SET protocol = 255",
        "UPDATE hubble_analyzer_edge SET cluster = x'ff'",
        "UPDATE hubble_analyzer_endpoint SET body = x'90'",
        "UPDATE hubble_analyzer_side SET body = x'789c'",
        "DELETE FROM hubble_analyzer_endpoint",
        "DROP TABLE hubble_analyzer_edge",
    ],
)
def test_damage_is_told_in_words(tmp_path: Path, statement: str) -> None:
    where = str(tmp_path / "flows.db")
    with Store.open(where, create=True) as store:
        store.append(batch(1))
    change(where, statement)
    with Store.open(where, create=False) as store:
        for attempt in (store.read, store.compact, store.info):
            with pytest.raises(StoreError) as caught:
                attempt()
            assert where in caught.value.message


def test_a_file_cut_short_is_told_in_words(tmp_path: Path) -> None:
    where = tmp_path / "flows.db"
    with Store.open(str(where), create=True) as store:
        for number in range(50):
            store.append(batch(number))
    content = where.read_bytes()
    for size in (100, 4096, len(content) // 2, len(content) - 4096):
        where.write_bytes(content[:size])
        with pytest.raises(StoreError), Store.open(str(where), create=False) as store:
            store.read()


def test_a_full_disk_is_an_error_and_keeps_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = str(tmp_path / "flows.db")
    with Store.open(where, create=True) as store:
        store.append(batch(1), [position(1)])
    real = sqlite3.connect

    def small(*arguments: object, **options: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*arguments, **options)  # type: ignore[call-overload]
        connection.execute("PRAGMA max_page_count = 30")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    with Store.open(where, create=False) as store:
        too_much = aggregate([tcp(pod(f"{n}" * 5_000), REDIS, 80) for n in range(50)])
        with pytest.raises(StoreError, match="full") as caught:
            store.append(too_much, [position(2)])
        assert "space" in caught.value.hint
        assert store.read() == batch(1)
        assert store.history("s") == [position(1)]


def test_a_store_in_a_folder_that_cannot_be_written_can_be_read() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    where = folder / "flows.db"
    try:
        with Store.open(str(where), create=True) as store:
            store.append(batch(1))
            store.read()
        where.chmod(0o444)
        folder.chmod(0o555)
        assert (
            _without_root(lambda: _try_to_write(str(where)))
            == ["attempt to write a readonly database: make it writable, or name another path"] * 2
        )
        assert [path.name for path in folder.iterdir()] == ["flows.db"]
    finally:
        folder.chmod(0o755)
        where.unlink()
        folder.rmdir()


def _try_to_write(where: str) -> list[str]:
    told = []
    with Store.open(where, create=False) as store:
        assert store.read() == batch(1)
        with pytest.raises(StoreError) as caught:
            store.append(batch(2))
        told.append(caught.value)
    with pytest.raises(StoreError) as caught:
        Store.open(where, create=True)
    told.append(caught.value)
    return [f"{error.message.removeprefix(where)[2:]}: {error.hint}" for error in told]


def _without_root(work: Callable[[], list[str]]) -> list[str]:
    """What `work` returns in a process that is not root, who may write anywhere."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(writer, "\n".join(work()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told.split("\n")


def test_passwords_are_not_told() -> None:
    for url in (
        "postgresql://someone:secret@127.0.0.1:1/flows",
        "postgresql://someone@127.0.0.1:1/flows?password=secret",
        "postgresql://someone:secret@host:port/flows",
        "mysql://someone:secret@host/flows",
    ):
        error = refused(url, create=True)
        assert "secret" not in error.message + error.hint
    assert "127.0.0.1" in refused("postgresql://someone:secret@127.0.0.1:1/flows", create=False).message


def test_without_psycopg_the_next_step_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "hubble-analyzer[postgres]" in refused("postgresql://host/flows", create=True).hint


def test_postgresql_beside_the_tables_of_others(postgres: str, where: str) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(postgres.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE theirs (x integer)"))
    assert "no store" in refused(postgres, create=False).message
    with Store.open(postgres.replace("postgresql://", "postgres://"), create=True) as store:
        store.append(batch(1))
        assert store.read() == batch(1)
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            connection.execute(sa.text(f'DROP TABLE "{name}"'))
    engine.dispose()
    assert 'database "none" does not exist' in refused(postgres.replace("/postgres?", "/none?"), create=True).message


def test_an_empty_store_reads_as_an_empty_table(where: str) -> None:
    with Store.open(where, create=True) as store:
        assert store.read() == EdgeTable()
        store.compact()
        assert store.read() == EdgeTable()
