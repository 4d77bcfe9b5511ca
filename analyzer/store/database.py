"""Store: appending partial tables, reading them as one, compacting them. SQL keeps rows, and never reduces."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from analyzer.errors import StoreError
from analyzer.model.edge import EdgeTable, Endpoint
from analyzer.model.window import check_hour, within
from analyzer.sources.base import LIVE, Position
from analyzer.store.codec import (
    Damaged,
    decode_edge,
    decode_endpoint,
    decode_side,
    edge_rows,
    encode_side,
    encode_text,
    endpoint_rows,
)
from analyzer.store.content import Novelty, grows, novelty
from analyzer.store.engine import make_engine, shown, spoken_errors, tidy, use_log, writing
from analyzer.store.schema import BATCH, CONTENT, EDGE, ENDPOINT, META, SIDE, lock, prepare

__all__ = ["Store", "StoreInfo"]

_MANY_ROWS, _MANY_TABLES = 50_000, 1_000
"""Rows of edges, above those that were left by the last compaction, and partial tables, that make another one worth it."""
_ROWS = 5_000
"""Rows fetched or inserted at a time, so that memory holds the table and not its rows too."""


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds: batches appended so far, partial tables since it was compacted, edges, records read, the time of the
    first and last event (ns since the epoch, None without edges), observing clusters, and bytes on disk."""

    batches: int
    partials: int
    edges: int
    records: int
    first: int | None
    last: int | None
    clusters: tuple[str, ...]
    size: int


class Store:
    """An edge store. Use `open`, and close it or use it in a ``with`` statement. Every method raises StoreError.

    `selection` fingerprints the filters that reading uses: the same content under other filters is other traffic, and a store
    that held both would count what passes both twice.
    """

    def __init__(self, engine: sa.Engine, where: str, selection: str) -> None:
        self._engine, self._where, self._selection = engine, where, selection
        self._compacted = 0

    @classmethod
    def open(cls, where: str, *, create: bool, selection: str = "") -> Store:
        """Open a SQLite file by its path or a PostgreSQL database by its URL; with `create`, make the store if there is none."""
        store = cls(make_engine(where, create=create), shown(where), selection)
        try:
            with spoken_errors(store._where):
                with (writing if create else _snapshot)(store._engine) as connection:
                    prepare(connection, store._where, create=create)
                if create:
                    use_log(store._engine)
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

    def history(self, stream: str) -> Sequence[Position]:
        """What was read of a stream before, in order. Raises StoreError if it was read with other filters."""
        with spoken_errors(self._where), _snapshot(self._engine) as connection:
            return self._known(connection, CONTENT.c.stream == stream, self._selection)

    def append(
        self,
        table: EdgeTable,
        positions: Sequence[Position] = (),
        *,
        batch_id: str | None = None,
        selection: str | None = None,
    ) -> bool:
        """Add a partial table and what content it covers, in one transaction: all of it or nothing.

        False if there was nothing to add: the table is empty, its positions were all read before, or the `batch_id`, which
        names a batch that has no position, was used before. Such a batch counts nothing. `selection` overrides the store's.
        Raises StoreError if only some of the content was read before, which needs another process that reads the same.
        """
        if table == EdgeTable() and not positions and batch_id is None:
            return False
        filters = self._selection if selection is None else selection
        with spoken_errors(self._where), writing(self._engine) as connection:
            lock(connection)
            if not self._is_new(connection, positions, batch_id, filters):
                return False
            _insert_batch(connection, batch_id)
            _insert_content(connection, positions, filters)
            _insert_table(connection, table)
        return True

    def _is_new(
        self, connection: sa.Connection, positions: Sequence[Position], batch_id: str | None, filters: str
    ) -> bool:
        if batch_id is not None:
            named = sa.select(BATCH.c.number).where(BATCH.c.name == encode_text(batch_id))
            if connection.execute(named).first() is not None:
                return False
        known: list[Position] = []
        for stream in sorted({each.stream for each in positions}):
            ranges = [(each.start, each.end) for each in positions if each.stream == stream]
            first, last = min(start for start, _ in ranges), max(end for _, end in ranges)
            # One row tells the filters of a stream: all of its content was read with the same ones.
            self._known(connection, CONTENT.c.stream == stream, filters, limit=1)
            near = sa.and_(CONTENT.c.stream == stream, CONTENT.c.start < last, CONTENT.c.stop > first)
            known.extend(self._known(connection, near, filters))
        found = novelty(positions, known)
        if found is Novelty.BOTH:
            raise StoreError(
                f"{self._where}: another process has read the same content into this store meanwhile",
                hint="run again: what is missing is read then, and nothing counts twice",
            )
        return found is Novelty.NEW

    def _known(
        self, connection: sa.Connection, which: sa.ColumnElement[bool], filters: str, limit: int | None = None
    ) -> list[Position]:
        columns = (CONTENT.c.stream, CONTENT.c.start, CONTENT.c.stop, CONTENT.c.digest, CONTENT.c.selection)
        rows = connection.execute(sa.select(*columns).where(which).order_by(CONTENT.c.start).limit(limit)).all()
        if any(row.selection != filters for row in rows):
            raise StoreError(
                f"{self._where}: this content was read into the store before, with other filters",
                hint="use the same filters, or a new store",
            )
        return [Position(*row[:4]) for row in rows]

    def read(self, *, since: int | None = None, until: int | None = None, clusters: Collection[str] = ()) -> EdgeTable:
        """The whole store as one table, or a window of it (`analyzer.model.window.within`; UsageError for a bound inside an
        hour), of all or some observing clusters. The coverage and the side tables are always those of the whole store.
        """
        check_hour(since, "--since")
        check_hour(until, "--until")
        with spoken_errors(self._where), _snapshot(self._engine) as connection:
            table = self._read(connection, clusters)
        return within(table, since, until)

    def _read(self, connection: sa.Connection, clusters: Collection[str] = ()) -> EdgeTable:
        table, ends = EdgeTable(), dict[bytes, Endpoint]()
        which = sa.select(EDGE)
        if clusters:
            which = which.where(EDGE.c.cluster.in_(sorted(map(encode_text, clusters))))
        try:
            for row in _rows(connection, sa.select(SIDE.c.body)):
                table.merge(decode_side(row.body))
            for row in _rows(connection, sa.select(ENDPOINT)):
                ends[bytes(row.id)] = decode_endpoint(row.body)
            for row in _rows(connection, which):
                table.give(*decode_edge(tuple(row), ends))
        except Damaged as error:
            hint = "restore a copy of it, or read the flows into a new store"
            raise StoreError(f"{self._where}: damaged: {error}", hint=hint) from error
        return table

    def compact(self) -> None:
        """Replace all partial tables by their merge, and give the space back. What content was read stays known."""
        self._compact()
        with spoken_errors(self._where):
            tidy(self._engine)

    def tend(self) -> None:
        """Compact if the partial tables have become many: who appends for weeks calls it after each append. The space stays
        with the store, for what comes. The work grows with what was appended, and not with its square."""
        with spoken_errors(self._where), _snapshot(self._engine) as connection:
            rows, partials = (_count(connection, each) for each in (EDGE, SIDE))
        if rows >= _MANY_ROWS + 2 * self._compacted or partials >= _MANY_TABLES:
            self._compacted = self._compact()

    def _compact(self) -> int:
        with spoken_errors(self._where), writing(self._engine) as connection:
            lock(connection)
            table = self._read(connection)
            for rows in (EDGE, ENDPOINT, SIDE):
                connection.execute(sa.delete(rows))
            _insert_table(connection, table)
        return len(table.edges)

    def info(self) -> StoreInfo:
        """Totals for people. Reads the whole store."""
        with spoken_errors(self._where), _snapshot(self._engine) as connection:
            batches, partials = (_count(connection, each) for each in (BATCH, SIDE))
            table = self._read(connection)
            size = self._size(connection)
        stats = [found for found in table.edges.values() if found.activity]
        return StoreInfo(
            batches,
            partials,
            len(table.edges),
            table.coverage.records,
            min((found.first for found in stats), default=None),
            max((found.last for found in stats), default=None),
            tuple(sorted({key.cluster for key in table.edges})),
            size,
        )

    @staticmethod
    def _size(connection: sa.Connection) -> int:
        if connection.dialect.name == "postgresql":
            sizes = [
                sa.func.pg_total_relation_size(sa.cast(each.name, postgresql.REGCLASS))
                for each in META.metadata.sorted_tables
            ]
            return sum(int(connection.scalar(sa.select(size)) or 0) for size in sizes)
        path = connection.exec_driver_sql("PRAGMA database_list").all()[0][2]
        return sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.exists(name))


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that reads, and sees one state throughout. SQLite's always do."""
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


def _rows(connection: sa.Connection, query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
    return iter(connection.execute(query, execution_options={"yield_per": _ROWS}))


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def _insert_batch(connection: sa.Connection, name: str | None) -> None:
    last = connection.scalar(sa.select(sa.func.max(BATCH.c.number))) or 0
    connection.execute(sa.insert(BATCH).values(number=last + 1, name=None if name is None else encode_text(name)))


def _insert_content(connection: sa.Connection, positions: Sequence[Position], selection: str) -> None:
    rows = []
    for position in sorted(positions):
        if position.end > position.start and not _grown(connection, position):
            rows.append(dict(zip(("stream", "start", "stop", "digest"), position, strict=True), selection=selection))
    if rows:
        connection.execute(sa.insert(CONTENT), rows)


def _grown(connection: sa.Connection, position: Position) -> bool:
    """Let the position before this one cover it too, if both are of one run of a node: a row for each flush would be too many."""
    if not position.stream.startswith(LIVE):
        return False
    ends_here = sa.and_(CONTENT.c.stream == position.stream, CONTENT.c.stop == position.start)
    columns = (CONTENT.c.stream, CONTENT.c.start, CONTENT.c.stop, CONTENT.c.digest)
    row = connection.execute(sa.select(*columns).where(ends_here)).first()
    if row is None or not grows(Position(*row), position):
        return False
    connection.execute(sa.update(CONTENT).where(ends_here).values(stop=position.end, digest=position.digest))
    return True


def _insert_table(connection: sa.Connection, table: EdgeTable) -> None:
    endpoints = endpoint_rows(table)
    _insert_rows(connection, ENDPOINT, sorted(endpoints.values()), " ON CONFLICT DO NOTHING")
    _insert_rows(connection, EDGE, edge_rows(table, {end: row[0] for end, row in endpoints.items()}))
    connection.execute(sa.insert(SIDE).values(body=encode_side(table)))


def _insert_rows(
    connection: sa.Connection, table: sa.Table, rows: Iterable[tuple[object, ...]], suffix: str = ""
) -> None:
    """Insert rows in the order of the table's columns. As text, since SQLAlchemy's own way takes as long as all the rest."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    names, marks = ", ".join(column.name for column in table.c), ", ".join([mark] * len(table.c))
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks}){suffix}"
    remaining = iter(rows)
    while chunk := list(islice(remaining, _ROWS)):
        connection.exec_driver_sql(statement, chunk)
