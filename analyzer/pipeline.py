"""The main path on one screen: sources to edges, edges to a service graph or to policies; what a notebook would import.

edges = settle(read([FileSource(["flows.json"])]))
graph = service_graph(edges)
policies = recommend(edges).documents()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.aggregate import Aggregator
from analyzer.graph import service_graph
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.model.flow import Flow, Skip
from analyzer.recommend import recommend
from analyzer.settle import settle
from analyzer.sources.base import Batch, FlowSource, History, Position, Record, nothing_read_before
from analyzer.sources.filters import Selection

if TYPE_CHECKING:
    from analyzer.store import Store

__all__ = ["MAX_EDGES", "OnBatch", "batches", "collect", "read", "recommend", "service_graph", "settle"]

OnBatch = Callable[[Coverage, int], None]
"""Called after every batch, empty ones included, with what was read so far and how many edges it made."""

MAX_EDGES = 200_000
"""Edges held in memory before they are handed to the store."""


def _silently(coverage: Coverage, edges: int) -> None:
    """Progress for nobody."""


def read(
    sources: Iterable[FlowSource],
    keep: Selection | None = None,
    history: History = nothing_read_before,
    on_batch: OnBatch = _silently,
) -> EdgeTable:
    """The edge table of what `keep` keeps of `sources`. The same content named twice counts once. Raises SourceError."""
    aggregator = Aggregator()
    for batch in batches(sources, keep, history):
        aggregator.add(batch)
        on_batch(aggregator.table.coverage, len(aggregator.table))
    return aggregator.table


def collect(
    sources: Iterable[FlowSource],
    store: Store,
    keep: Selection | None = None,
    due: Callable[[], bool] = lambda: False,
    on_batch: OnBatch = _silently,
) -> Coverage:
    """Read what `keep` keeps of `sources` into `store`, opened with the fingerprint of `keep`, and return what was read.

    Content that is in there already counts as duplicates here and leaves the store as it is. What was read since the last
    time is handed over in one transaction: whenever `due` says so, when the edges become many, and at the end, be it a
    failure. Raises SourceError, StoreError.
    """
    done, aggregator, positions, whole = Coverage(), Aggregator(), list[Position](), True

    def flush() -> None:
        table = aggregator.take()
        done.merge(table.coverage)
        table.coverage.skipped.pop(Skip.DUPLICATE, None)
        store.append(table, positions)
        positions.clear()

    try:
        for batch in batches(sources, keep, store.history):
            whole = False
            aggregator.add(batch)
            positions.extend([batch.position] if batch.position else [])
            whole = True
            on_batch(_sum(done, aggregator.table.coverage), len(aggregator.table))
            if due() or len(aggregator.table) >= MAX_EDGES:
                flush()
    finally:
        # Half a batch must not get in: reading it again would count that half twice.
        if whole:
            flush()
    return done


def _sum(done: Coverage, pending: Coverage) -> Coverage:
    both = Coverage()
    both.merge(done)
    both.merge(pending)
    return both


def batches(sources: Iterable[FlowSource], keep: Selection | None, history: History) -> Iterator[Batch]:
    """All batches of all sources, filtered. Each source is told what was read before it, in this run too."""
    seen: dict[str, set[Position]] = {}

    def known(stream: str) -> Sequence[Position]:
        return sorted({*history(stream), *seen.get(stream, ())})

    for source in sources:
        for batch in source.batches(known):
            if batch.position is not None:
                seen.setdefault(batch.position.stream, set()).add(batch.position)
            yield batch if keep is None else batch._replace(records=_kept(batch, keep))


def _kept(batch: Batch, keep: Selection) -> list[Record]:
    return [
        Skip.FILTERED if isinstance(record, Flow) and not keep.keeps(record) else record for record in batch.records
    ]
