"""Ledger: what was read and is not known to be in the store yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from analyzer.errors import StoreUnavailable
from analyzer.model.edge import EdgeTable
from analyzer.model.flow import Skip
from analyzer.sources.base import Batch, Position
from analyzer.store.database import Store

__all__ = ["Ledger"]


class Ledger:
    """What was read and is not known to be written down: the positions of the edges in the aggregator, and a table that was
    handed over in vain. Whether the database has that one is unknown, so it is handed over again as it was: it counts once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._positions: list[Position] = []
        self._marks: dict[Callable[[], Sequence[Position]], None] = {}
        self._unsure: tuple[EdgeTable, list[Position], str | None] | None = None

    def note(self, batch: Batch) -> None:
        """The records of `batch` are in the table that will be written next."""
        if batch.position is not None:
            self._positions.append(batch.position)
        if batch.mark is not None:
            self._marks[batch.mark] = None

    def settle(self) -> None:
        """Hand over again what was handed over in vain. Raises StoreError."""
        if self._unsure is not None:
            table, positions, name = self._unsure
            self._store.append(table, positions, batch_id=name)
            self._unsure = None

    def hold(self, table: EdgeTable) -> None:
        """Take over what was read since the last time, to be handed over next."""
        positions = [*self._positions, *(position for mark in self._marks for position in mark())]
        self._positions, self._marks = [], {}
        table.coverage.skipped.pop(Skip.DUPLICATE, None)
        # A table without positions, of lost events alone, is told apart by a name of its own.
        name = None if positions or table == EdgeTable() else uuid4().hex
        self._unsure = (table, positions, name)

    def write(self) -> None:
        """Hand over what is held. Raises StoreError."""
        self.settle()
        # Nothing is lost if there is no room for it now.
        with suppress(StoreUnavailable):
            self._store.tend()
