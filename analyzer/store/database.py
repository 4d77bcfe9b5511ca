"""Store: the tables, the transactions and the errors of an edge store on SQLite or PostgreSQL. SQL stores, and never reduces."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from analyzer.errors import StoreError
from analyzer.model.edge import EdgeTable, Endpoint
from analyzer.model.window import within
from analyzer.sources.base import Position
from analyzer.store.codec import decode_endpoint, decode_side, decode_stats, edge_key, edge_rows, encode_side

__all__ = ["Store", "StoreInfo", "looks_like_store"]

VERSION = "1"
_PREFIX = "hubble_analyzer_"
_SQLITE_MAGIC = b"SQLite format 3\0"
_NEW_STORE = "name another path; observe --store makes a new store there"

_tables = sa.MetaData()
_meta = sa.Table(
    f"{_PREFIX}meta",
    _tables,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
_content = sa.Table(
    f"{_PREFIX}content",
    _tables,
    sa.Column("stream", sa.String, primary_key=True),
    sa.Column("start", sa.BigInteger, primary_key=True),
    sa.Column("stop", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("selection", sa.String, nullable=False),
)
_partial = sa.Table(
    f"{_PREFIX}partial",
    _tables,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("side", sa.LargeBinary, nullable=False),
)
_endpoint = sa.Table(
    f"{_PREFIX}endpoint",
    _tables,
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
_edge = sa.Table(
    f"{_PREFIX}edge",
    _tables,
    sa.Column("partial", sa.BigInteger, nullable=False, index=True),
    sa.Column("cluster", sa.String, nullable=False),
    sa.Column("source", sa.LargeBinary, nullable=False),
    sa.Column("destination", sa.LargeBinary, nullable=False),
    sa.Column("protocol", sa.Integer, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("directed", sa.Boolean, nullable=False),
    sa.Column("stats", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds: appended tables not compacted yet, their edge rows, ranges of content read, observing clusters."""

    partials: int
    rows: int
    contents: int
    clusters: tuple[str, ...]


def looks_like_store(name: str) -> bool:
    """Whether a SOURCE is a store: a database URL, or a file that SQLite wrote."""
    if name.startswith(("postgresql://", "postgresql+psycopg://", "sqlite://")):
        return True
    path = Path(name)
    try:
        if not path.is_file():
            return False
        with path.open("rb") as content:
            return content.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC
    except OSError:
        return False


class Store:
    """An edge store. Use `open`, and close it or use it in a ``with`` statement. Every method raises StoreError.

    `selection` fingerprints the filters that reading uses: the same content under other filters is other traffic.
    """

    def __init__(self, engine: sa.Engine, where: str, selection: str) -> None:
        self._engine, self._where, self._selection = engine, where, selection

    @classmethod
    def open(cls, where: str, *, create: bool, selection: str = "") -> Store:
        """Open a SQLite file by its path or a PostgreSQL database by its URL; with `create`, make the store if there is none."""
        store = cls(_engine(where, create), where, selection)
        try:
            with store._errors(), store._engine.begin() as connection:
                store._prepare(connection, create)
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    def _prepare(self, connection: sa.Connection, create: bool) -> None:
        names = set(sa.inspect(connection).get_table_names())
        if _meta.name in names:
            version = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "version"))
            if version != VERSION:
                raise StoreError(
                    f"{self._where}: made by another version of this tool (store version {version}, here {VERSION})",
                    hint="read it with that version, or observe into a new store",
                )
        elif names and connection.dialect.name == "sqlite":
            raise StoreError(f"{self._where}: a database, but not one of this tool", hint=_NEW_STORE)
        elif not create:
            raise StoreError(f"{self._where}: no store in this database", hint="make one: observe SOURCE --store")
        else:
            _tables.create_all(connection)
            connection.execute(_insert(connection, _meta).values(key="version", value=VERSION).on_conflict_do_nothing())

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
            hints = {
                "readonly": "make it writable, or name another path",
                "full": "free some space and run again: what was stored so far stays",
                "not a database": _NEW_STORE,
                "locked": "another process holds it for long; run again",
            }
            hint = next((hint for word, hint in hints.items() if word in reason), "")
            raise StoreError(f"{self._where}: {reason}", hint=hint) from error

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state throughout; SQLite's always do."""
        with self._engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    def history(self, stream: str) -> Sequence[Position]:
        """What was read of a stream before, in order."""
        columns = (_content.c.stream, _content.c.start, _content.c.stop, _content.c.digest, _content.c.selection)
        query = sa.select(*columns).where(_content.c.stream == stream).order_by(_content.c.start)
        with self._errors(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        if any(row.selection != self._selection for row in rows):
            raise StoreError(
                f"{self._where}: this content was read into the store before, with other filters",
                hint="use the same filters, or a new store",
            )
        return [Position(*row[:4]) for row in rows]

    def append(self, table: EdgeTable, positions: Sequence[Position] = ()) -> None:
        """Add a partial table and what content it covers, in one transaction: all of it or nothing.

        Raises StoreError if any of the content is there already, which only another process reading the same can bring about.
        """
        if not (table.edges or table.coverage.records or positions):
            return
        try:
            with self._errors(), self._engine.begin() as connection:
                self._append(connection, table, positions)
        except StoreError as error:
            if isinstance(error.__cause__, IntegrityError):
                raise StoreError(
                    f"{self._where}: another process has read the same content into this store meanwhile",
                    hint="run again: what is missing is read then, and nothing counts twice",
                ) from error
            raise

    def _append(self, connection: sa.Connection, table: EdgeTable, positions: Sequence[Position]) -> None:
        if positions:
            rows = [
                {"stream": stream, "start": start, "stop": end, "digest": digest, "selection": self._selection}
                for stream, start, end, digest in sorted(positions)
            ]
            connection.execute(sa.insert(_content), rows)
        number = connection.execute(sa.insert(_partial).values(side=encode_side(table))).inserted_primary_key[0]  # type: ignore[index]
        endpoints, edges = edge_rows(table)
        if endpoints:
            bodies = [{"id": key, "body": body} for key, body in endpoints.items()]
            connection.execute(_insert(connection, _endpoint).on_conflict_do_nothing(), bodies)
        if edges:
            names = ("cluster", "source", "destination", "protocol", "port", "directed", "stats")
            values = [{"partial": number, **dict(zip(names, row, strict=True))} for row in edges]
            connection.execute(sa.insert(_edge), values)

    def read(self, *, since: int | None = None, until: int | None = None, clusters: Collection[str] = ()) -> EdgeTable:
        """The whole store as one table, or a window of it (see `analyzer.model.window`), of all or some observing clusters."""
        with self._errors(), self._snapshot() as connection:
            table, _ = self._read(connection, clusters)
        return within(table, since, until)

    def _read(self, connection: sa.Connection, clusters: Collection[str] = ()) -> tuple[EdgeTable, int]:
        # One consistent view: later appends are left out everywhere.
        last = connection.scalar(sa.select(sa.func.max(_partial.c.id))) or 0
        table = EdgeTable()
        for (side,) in connection.execute(sa.select(_partial.c.side).where(_partial.c.id <= last)):
            table.merge(decode_side(side))
        ends: dict[bytes, Endpoint] = {
            key: decode_endpoint(body) for key, body in connection.execute(sa.select(_endpoint.c.id, _endpoint.c.body))
        }
        query = sa.select(*[column for column in _edge.c if column.name != "partial"]).where(_edge.c.partial <= last)
        if clusters:
            query = query.where(_edge.c.cluster.in_(sorted(clusters)))
        for cluster, source, destination, protocol, port, directed, stats in connection.execute(query):
            key = edge_key(cluster, ends[bytes(source)], ends[bytes(destination)], protocol, port, directed)
            table.stats(key).merge(decode_stats(stats))
        return table, last

    def compact(self) -> None:
        """Replace all partial tables by their merge. What content was read stays known."""
        with self._errors(), self._snapshot() as connection:
            # A write first, so that no other process writes until this one is done.
            connection.execute(sa.update(_meta).where(_meta.c.key == "version").values(value=VERSION))
            table, last = self._read(connection)
            connection.execute(sa.delete(_edge).where(_edge.c.partial <= last))
            connection.execute(sa.delete(_partial).where(_partial.c.id <= last))
            self._append(connection, table, ())

    def info(self) -> StoreInfo:
        """Totals for people."""
        with self._errors(), self._engine.connect() as connection:
            counts = [
                connection.scalar(sa.select(sa.func.count()).select_from(each)) or 0
                for each in (_partial, _edge, _content)
            ]
            clusters = connection.scalars(sa.select(_edge.c.cluster).distinct().order_by(_edge.c.cluster)).all()
        return StoreInfo(counts[0], counts[1], counts[2], tuple(clusters))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def _engine(where: str, create: bool) -> sa.Engine:
    if where.startswith(("postgresql://", "postgresql+psycopg://")):
        try:
            return sa.create_engine(where.replace("postgresql://", "postgresql+psycopg://", 1))
        except ModuleNotFoundError:
            raise StoreError(
                "a PostgreSQL store needs psycopg", hint="pip install 'hubble-analyzer[postgres]'"
            ) from None
        except SQLAlchemyError as error:
            raise StoreError(f"not a database URL: {error}") from None
    path = Path(where.removeprefix("sqlite:///"))
    if path.is_dir():
        raise StoreError(f"{where}: a folder, not a store", hint="name a file in it, such as flows.db")
    if path.exists() and path.stat().st_size and not looks_like_store(str(path)):
        raise StoreError(f"{where}: not a store", hint=_NEW_STORE)
    if not create and not path.exists():
        raise StoreError(f"{where}: no such store", hint=f"make one: hubble-analyzer observe SOURCE --store {where}")
    if not path.parent.exists():
        raise StoreError(f"{where}: the folder {path.parent} does not exist", hint="make it first")
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 30})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, record: object) -> None:
    # SQLAlchemy says BEGIN itself (below): the driver would say it too late for a read that must stay consistent.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")
