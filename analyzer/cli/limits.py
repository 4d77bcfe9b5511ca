"""--first and --last on files: so many of the flows that the filters keep, over all SOURCES together."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from analyzer.model.flow import Flow, Skip
from analyzer.pipeline import batches
from analyzer.sources.base import Batch, FlowSource, History, Record, nothing_read_before
from analyzer.sources.filters import Selection

__all__ = ["Limited"]


class Limited:
    """The first or last `number` flows of `sources`. Flows left out count as filtered; what is no flow passes and does not count.

    Batches have no position, since what was left out would be taken for read.
    """

    def __init__(self, sources: Sequence[FlowSource], keep: Selection | None, number: int, *, first: bool) -> None:
        self._sources = sources
        self._keep = keep
        self._number = number
        self._first = first

    @property
    def name(self) -> str:
        return ", ".join(source.name for source in self._sources)

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        found = batches(self._sources, self._keep, history)
        return self._from_start(found) if self._first else self._from_end(found)

    def _from_start(self, found: Iterator[Batch]) -> Iterator[Batch]:
        left = self._number
        for batch in found:
            records: list[Record] = []
            for record in batch.records:
                if isinstance(record, Flow):
                    records.append(record if left > 0 else Skip.FILTERED)
                    left -= 1
                else:
                    records.append(record)
            yield Batch(records, None, batch.skipped)
            if left <= 0:
                return

    def _from_end(self, found: Iterator[Batch]) -> Iterator[Batch]:
        kept: deque[Flow] = deque()
        for batch in found:
            others: list[Record] = [record for record in batch.records if not isinstance(record, Flow)]
            kept.extend(record for record in batch.records if isinstance(record, Flow))
            dropped = max(0, len(kept) - self._number)
            for _ in range(dropped):
                kept.popleft()
            yield Batch(others, None, Counter(batch.skipped) + Counter({Skip.FILTERED: dropped}))
        yield Batch(tuple(kept))
