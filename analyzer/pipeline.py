"""The main path on one screen: sources to edges, edges to a service graph or to policies; what a notebook would import.

edges = settle(read([FileSource(["flows.json"])]))
graph = service_graph(edges)
policies = recommend(edges).documents()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from analyzer.aggregate import Aggregator
from analyzer.errors import StoreUnavailable
from analyzer.model.edge import Coverage, EdgeTable
from analyzer.settle import settle
from analyzer.sources.base import FlowSource, History, Position, nothing_read_before
from analyzer.sources.jsonpb import FileSource
from analyzer.sources.several import batches

if TYPE_CHECKING:
    from analyzer.graph import service_graph
    from analyzer.recommend import recommend
    from analyzer.scale import Processes
    from analyzer.sources.filters import Selection
    from analyzer.store import Store

__all__ = [
    "MAX_EDGES",
    "OnBatch",
    "OnTrouble",
    "batches",
    "collect",
    "read",
    "read_files",
    "recommend",
    "service_graph",
    "settle",
]

_LATER = {"recommend": "analyzer.recommend", "service_graph": "analyzer.graph"}
"""What is imported when it is asked for: reading needs none of it, and policies alone take longer to import than all the rest."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_LATER[name]), name)


OnBatch = Callable[[Coverage, EdgeTable, Callable[[], None]], None]
"""Called after every batch, empty ones included, with what was read so far, the edges since they were handed over last, and a call
that makes exact how often and when these were seen. It takes a while: look now and then, and call it first."""

OnTrouble = Callable[[StoreUnavailable], None]
"""Told that the database failed, and that what was read is kept and will be handed over again."""

MAX_EDGES = 200_000
"""Edges held in memory before they are handed to the store."""


def _silently(coverage: Coverage, table: EdgeTable, settle: Callable[[], None]) -> None:
    """Progress for nobody."""


def _settled() -> None:
    """What makes a table exact that is."""


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
        on_batch(aggregator.latest.coverage, aggregator.latest, aggregator.settle)
    return aggregator.table


def read_files(
    paths: Iterable[str], processes: Processes, keep: Selection | None = None, on_batch: OnBatch = _silently
) -> EdgeTable:
    """As `read`, each file by a process of its own. Raises SourceError."""
    from analyzer.scale import expanded

    table, known = EdgeTable(), dict[str, list[Position]]()
    for part in processes.read(expanded(paths), keep):
        if any(position in known.get(position.stream, ()) for position in part.positions):
            # Another file has some of this content: what is left of it cannot be told from its table.
            source = FileSource([part.path])
            part = part._replace(table=read([source], keep, lambda stream: sorted(known.get(stream, ()))))
        if part.error:
            raise part.error
        for position in part.positions:
            known.setdefault(position.stream, []).append(position)
        table.absorb(part.table)
        on_batch(table.coverage, table, _settled)
    return table


def collect(
    sources: Iterable[FlowSource],
    store: Store,
    keep: Selection | None = None,
    due: Callable[[], bool] = lambda: False,
    on_batch: OnBatch = _silently,
    on_trouble: OnTrouble | None = None,
) -> Coverage:
    """Read what `keep` keeps of `sources` into `store`, opened with the fingerprint of `keep`, and return what was read.

    Content that is in there already counts as duplicates here and leaves the store as it is. What was read since the last
    time is handed over in one transaction: whenever `due` says so, when the edges become many, and at the end, be it a
    failure. With `on_trouble`, a database that fails is told of and tried again, as long as the edges are not too many.
    Raises SourceError, StoreError.
    """
    from analyzer.store.ledger import Ledger

    done, aggregator, ledger, whole, ours = Coverage(), Aggregator(), Ledger(store), True, False

    def exact() -> None:
        nonlocal whole
        # In the midst of it, an interruption finds the table in pieces.
        whole = False
        aggregator.settle()
        whole = True

    def flush() -> None:
        nonlocal whole
        ledger.settle()
        # Until the ledger has the table, an interruption finds neither of them whole.
        whole = False
        table = aggregator.take()
        done.merge(table.coverage)
        ledger.hold(table)
        whole = True
        ledger.write()

    try:
        for batch in batches(sources, keep, store.history):
            whole, ours = False, True
            aggregator.add(batch)
            ledger.note(batch)
            whole = True
            on_batch(_sum(done, aggregator.latest.coverage), aggregator.latest, exact)
            many = len(aggregator.latest) >= MAX_EDGES
            if due() or many:
                try:
                    flush()
                except StoreUnavailable as error:
                    if on_trouble is None or many:
                        raise
                    on_trouble(error)
            ours = False
    except KeyboardInterrupt:
        # In the middle of a source, nobody knows how far it is.
        whole = whole and ours
        raise
    finally:
        # Half a batch must not get in: reading it again would count that half twice.
        if whole:
            flush()
    return done


def _sum(done: Coverage, pending: Coverage) -> Coverage:
    """Both, but for how active nodes were before: a long run has too much of that to add it up at every batch."""
    both = Coverage()
    for each in (done, pending):
        both.edge_records += each.edge_records
        for name in ("skipped", "lost", "statuses", "nodes"):
            getattr(both, name).update(getattr(each, name))
    return both
