"""Files read by several processes, each file an edge table; merging these is what reading the files one after the other gives."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

from analyzer.aggregate import Aggregator
from analyzer.errors import SourceError
from analyzer.model.edge import EdgeTable
from analyzer.model.flow import Flow, Skip
from analyzer.sources.base import Position
from analyzer.sources.decode import Decoder
from analyzer.sources.filters import Selection, parse_filters
from analyzer.sources.jsonpb import FileSource, files_in

__all__ = ["Part", "Processes", "expanded"]


Asked = tuple[list[dict[str, Any]], list[dict[str, Any]], int | None, int | None]


class Part(NamedTuple):
    """One file: its table, which content that is, and why reading it ended early, if it did."""

    path: str
    table: EdgeTable
    positions: tuple[Position, ...]
    error: SourceError | None = None


def expanded(paths: Iterable[str]) -> list[str]:
    """Files and folders as files, each series of rotated ones from the oldest on. Raises SourceError for a folder without any."""
    return [file for path in paths for file in (files_in(Path(path)) if Path(path).is_dir() else [path])]


class Processes:
    """`jobs` processes that read files. `close` ends them at their next batch; it may be called from a signal handler."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._context = multiprocessing.get_context("spawn")
        self._stop: Event = self._context.Event()

    def close(self) -> None:
        """Make reading end soon; what was read until then is still given."""
        self._stop.set()

    def read(self, paths: Sequence[str], keep: Selection | None) -> Iterator[Part]:
        """Read each of these files on its own; parts come in the order of `paths`.

        The parts know nothing of each other: content that two files share is in both, as their positions tell.
        A process that dies, of too little memory say, raises SourceError.
        """
        workers = max(1, min(self._jobs, len(paths)))
        # Filters hold functions, which cannot be sent; their raw form can.
        asked = None if keep is None else (*keep.pushdown(), keep.since, keep.until)
        begin = (workers, self._context, _begin, (self._stop, gc.get_threshold()))
        with ProcessPoolExecutor(*begin) as pool:
            waiting: list[Future[Part]] = [pool.submit(_read, path, asked) for path in paths]
            try:
                for path, each in zip(paths, waiting, strict=True):
                    try:
                        yield each.result()
                    except BrokenProcessPool as error:
                        raise SourceError(
                            f"{path}: the process that read it died", hint="read with --jobs 1"
                        ) from error
            finally:
                self._stop.set()
                for each in waiting:
                    each.cancel()


class _Worker(NamedTuple):
    """What a process that reads has: whether to end, and what knows the lines and shapes of the files it read before."""

    stop: Event
    decoder: Decoder
    aggregator: Aggregator

    def read(self, path: str, keep: Selection | None) -> Part:
        positions, source, error = list[Position](), FileSource([path], self.decoder), None
        if self.stop.is_set():
            source.close()
        try:
            for batch in source.batches():
                if self.stop.is_set():
                    source.close()
                kept = batch.records
                if keep:
                    kept = [Skip.FILTERED if isinstance(each, Flow) and not keep.keeps(each) else each for each in kept]
                self.aggregator.add(batch._replace(records=kept))
                positions.extend([batch.position] if batch.position else [])
        except SourceError as failure:
            error = SourceError(failure.message, hint=failure.hint)
        return Part(path, self.aggregator.take(), tuple(positions), error)


_worker: _Worker
"""Of the process that reads."""


def _begin(stop: Event, threshold: tuple[int, int, int]) -> None:
    global _worker
    _worker = _Worker(stop, Decoder(), Aggregator())
    gc.set_threshold(*threshold)
    # Ctrl-C reaches the whole group; how to end is for the parent to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What was read was sent, and taking the memory of lines to pieces takes half a second.
    Finalize(None, os._exit, args=(0,), exitpriority=0)


def _read(path: str, asked: Asked | None) -> Part:
    return _worker.read(path, asked and Selection(parse_filters(asked[0]), parse_filters(asked[1]), asked[2], asked[3]))
