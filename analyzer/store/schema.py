"""The tables of a store, their version, and making them."""

from __future__ import annotations

import sqlalchemy as sa

from analyzer.errors import StoreError

__all__ = ["BATCH", "CONTENT", "EDGE", "ENDPOINT", "META", "SIDE", "VERSION", "lock", "prepare"]

VERSION = "1"
_PREFIX = "hubble_analyzer_"
_LOCK = 4_855_246_214
"""What PostgreSQL's advisory lock is called while tables are made: an arbitrary number of our own."""
_TABLES = sa.MetaData()


def _table(name: str, *columns: sa.Column[object]) -> sa.Table:
    return sa.Table(f"{_PREFIX}{name}", _TABLES, *columns)


def _bytes(name: str, *, key: bool = False) -> sa.Column[object]:
    # Text from flows is kept as bytes: PostgreSQL's text cannot hold every text, such as one with a NUL in it.
    return sa.Column(name, sa.LargeBinary, primary_key=key, nullable=False)


def _text(name: str, *, key: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.String, primary_key=key, nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, primary_key=key, autoincrement=False, nullable=False)


META = _table("meta", _text("key", key=True), _text("value"))
"""Has the store's version. A writer locks its row, so that writers take turns."""

BATCH = _table("batch", _number("number", key=True), sa.Column("name", sa.LargeBinary, unique=True))
"""Appended batches. Their names tell batches apart that have no position."""

CONTENT = _table(
    "content", _text("stream", key=True), _number("start", key=True), _number("stop"), _text("digest"), _text("selection")
)  # fmt: skip
"""What was read: ranges of streams that do not overlap, and the filters they were read with."""

ENDPOINT = _table("endpoint", _bytes("id", key=True), _bytes("body"))
"""Endpoints by a hash of their content, since edges share them."""

EDGE = _table(
    "edge", _bytes("cluster"), _bytes("source"), _bytes("destination"), _number("protocol"), _number("port"),
    sa.Column("directed", sa.Boolean, nullable=False), _bytes("stats"),
)  # fmt: skip
"""Edges, one row for each batch that saw them; merged when they are read."""

SIDE = _table("side", _bytes("body"))
"""Everything of a batch but its edges."""


def lock(connection: sa.Connection) -> None:
    """Make other writers wait until this transaction ends. SQLite's writers do so from the start of a transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(META.c.value).where(META.c.key == "version").with_for_update())


def prepare(connection: sa.Connection, where: str, *, create: bool) -> None:
    """Check that the tables are there and ours; with `create`, make them in an empty database. Raises StoreError."""
    shared = connection.dialect.name == "postgresql"
    if create and shared:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    names = set(sa.inspect(connection).get_table_names())
    if META.name in names:
        _check_version(connection, where)
    elif names and not shared:
        hint = "name another path; observe --store makes a new store there"
        raise StoreError(f"{where}: a database, but not one of this tool", hint=hint)
    elif not create:
        raise StoreError(f"{where}: no store in this database", hint="make one: hubble-analyzer observe SOURCE --store")
    else:
        _TABLES.create_all(connection)
        connection.execute(sa.insert(META).values(key="version", value=VERSION))


def _check_version(connection: sa.Connection, where: str) -> None:
    version = connection.scalar(sa.select(META.c.value).where(META.c.key == "version"))
    if version != VERSION:
        raise StoreError(
            f"{where}: made by another version of this tool (store version {version}, here {VERSION})",
            hint="read it with that version, or observe into a new store",
        )
