"""Where a store is: paths and URLs, connections to SQLite and PostgreSQL, and their errors in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from analyzer.errors import StoreError, StoreUnavailable
from analyzer.store.names import POSTGRES, SQLITE, starts_as_sqlite

__all__ = ["make_engine", "shown", "spoken_errors", "tidy", "use_log", "writing"]

BUSY = 10.0
"""Seconds to wait for other writers of a SQLite store: twice that fits the half minute that Kubernetes gives those it ends."""
CONNECT = "10"
"""Seconds to wait for a PostgreSQL server."""
_NEW_STORE = "name another path; observe --store makes a new store there"

# What the databases say, and what to do about it.
_HINTS = {
    "readonly": "make it writable, or name another path",
    "unable to open": "make the file and its folder readable and writable, or name another path",
    "full": "free some space and run again: what was stored so far stays",
    "not a database": _NEW_STORE,
    "malformed": "restore a copy, or read the flows into a new store",
    "deleted or replaced": "move it back, or start again with a new store",
    "locked": "another process holds it for long; run again",
    "disk I/O": "is the disk full, or the folder on a network? run again, or name another path",
    "connection": "is the server up, and are host, port, user and password right?",
    "permission denied": "the database user may not do this: grant it, or use another one",
    "does not exist": "create the database first",
}


def shown(where: str) -> str:
    """`where` for messages: without a password."""
    if not where.startswith(POSTGRES):
        return where
    try:
        # Without the query part, which may hold a password as well.
        return sa.make_url(where).set(query={}).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return where.partition("://")[0] + "://..."


def make_engine(where: str, *, create: bool) -> sa.Engine:
    """Connections to the store at `where`, a path or a PostgreSQL URL. Raises StoreError."""
    if where.startswith(POSTGRES):
        return _postgres(where)
    if "://" in where and not where.startswith(SQLITE):
        hint = "name a path, or a URL such as postgresql://user@host/database"
        raise StoreError(f"{where.partition('://')[0]}://...: not a kind of store", hint=hint)
    return _sqlite(Path(where.removeprefix(SQLITE)), create)


def _postgres(where: str) -> sa.Engine:
    try:
        url = sa.make_url(where).set(drivername="postgresql+psycopg")
        if "connect_timeout" not in url.query:
            url = url.update_query_dict({"connect_timeout": CONNECT})
        return sa.create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError:
        raise StoreError("a PostgreSQL store needs psycopg", hint="pip install 'hubble-analyzer[postgres]'") from None
    except (SQLAlchemyError, ValueError):
        hint = "write postgresql://user@host:5432/database"
        raise StoreError(f"{shown(where)}: not a database URL", hint=hint) from None


def _sqlite(path: Path, create: bool) -> sa.Engine:
    try:
        _check_path(path, create)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StoreError(f"{path}: {reason}", hint=_HINTS["unable to open"]) from None
    uri = f"file:{quote(str(path.absolute()))}{_mode(path, create)}"

    def connect() -> sqlite3.Connection:
        # BEGIN is said below: the driver says it too late for a read that must stay consistent.
        return sqlite3.connect(uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False)

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)
    same = _Same(path.absolute())
    event.listen(engine, "begin", same.check)
    event.listen(engine, "begin", _begin)
    event.listen(engine, "commit", same.note)
    return engine


class _Same:
    """Whether the file of a store is still the one that was opened: SQLite goes on writing into one that somebody deleted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None

    def note(self, connection: sa.Connection) -> None:
        """The file is there now, at the latest."""
        if self._file is None:
            found = self._path.stat()
            self._file = (found.st_dev, found.st_ino)

    def check(self, connection: sa.Connection) -> None:
        """Raise OSError if it is another file, or none."""
        if self._file is None:
            return
        try:
            found = self._path.stat()
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._file:
            raise OSError("the file was deleted or replaced while it was in use")


def _check_path(path: Path, create: bool) -> None:
    if "\0" in str(path):
        raise ValueError("no file can have this name")
    if path.is_dir():
        raise StoreError(f"{path}: a folder, not a store", hint="name a file in it, such as flows.db")
    if not path.parent.is_dir():
        raise StoreError(f"{path}: there is no folder {path.parent}", hint="make it first")
    if path.exists():
        # A process that was killed while it made a store leaves an empty file.
        if path.stat().st_size and not starts_as_sqlite(path):
            raise StoreError(f"{path}: not a store", hint=_NEW_STORE)
    elif not create:
        raise StoreError(f"{path}: no such store", hint=f"make one: hubble-analyzer observe SOURCE --store {path}")


def _mode(path: Path, create: bool) -> str:
    """How SQLite is to open the file. Without a log beside it, a file in a folder that cannot be written can be read as it is."""
    if create:
        return "?mode=rwc"
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        return "?mode=rw"
    return "?mode=ro" if Path(f"{path}-wal").exists() else "?immutable=1"


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("analyzer_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that is going to write: all of it or nothing."""
    with engine.connect().execution_options(analyzer_writes=True) as connection, connection.begin():
        yield connection


def use_log(engine: sa.Engine) -> None:
    """Let readers and a writer of a SQLite store not wait for each other. Stays on once it was set."""
    if engine.dialect.name == "sqlite":
        # While others use the store, it cannot be switched: whoever opens it next does.
        _outside_transactions(engine, "PRAGMA journal_mode=WAL")


def tidy(engine: sa.Engine) -> None:
    """Give the space of deleted rows back to the disk. PostgreSQL does so by itself."""
    if engine.dialect.name == "sqlite":
        # Of no importance, so what stands in the way, such as a long reader, may.
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            _outside_transactions(engine, statement)


def _outside_transactions(engine: sa.Engine, statement: str) -> None:
    raw = engine.raw_connection()
    try:
        with suppress(sqlite3.OperationalError):
            raw.cursor().execute(statement).fetchall()
    finally:
        raw.close()


@contextmanager
def spoken_errors(where: str) -> Iterator[None]:
    """Turn what a database raises into StoreUnavailable."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        original: Any = error.orig if isinstance(error, DBAPIError) else error
        reason = str(original).strip().partition("\n")[0]
        hint = next((hint for word, hint in _HINTS.items() if word in reason), "")
        raise StoreUnavailable(f"{where}: {reason}", hint=hint) from error
