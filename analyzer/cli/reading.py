"""From what the user named to edges: opening SOURCES, reading them with progress, Ctrl-C included."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.cli.interrupt import Interruptible
from analyzer.cli.options import EVERYTHING, Inputs
from analyzer.cli.progress import Progress, note
from analyzer.cli.stored import edge_filter, hours
from analyzer.errors import SourceError, UsageError

if TYPE_CHECKING:
    from analyzer.model.edge import Coverage, Edge
    from analyzer.scale import Processes
    from analyzer.sources.base import FlowSource
    from analyzer.sources.filters import Selection

__all__ = ["Found", "Opened", "find_edges", "fingerprint", "limited", "opened", "selection"]


@dataclass(frozen=True, slots=True)
class Opened:
    """SOURCES told apart: flows that are still to be reduced, and stores that hold edges already."""

    flows: tuple[FlowSource, ...] = ()
    stores: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """What is read, for people."""
        return ", ".join([*(source.name for source in self.flows), *self.stores])

    def close(self) -> None:
        """Make reading end soon."""
        for source in self.flows:
            source.close()


@dataclass(frozen=True, slots=True)
class Found:
    """What SOURCES came to. `interrupted` tells that the user ended reading early; `names` are the addresses that DNS responses
    gave for names."""

    edges: tuple[Edge, ...]
    coverage: Coverage
    interrupted: bool = False
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def opened(inputs: Inputs) -> Opened:
    """Tell the SOURCES apart, without reading them. Raises UsageError, SourceError."""
    if not inputs.sources:
        return Opened((_server(inputs),))
    from analyzer.sources.jsonpb import FileSource
    from analyzer.store import looks_like_store

    if inputs.sources.count("-") > 1:
        raise UsageError("standard input can be read only once")
    stores = tuple(dict.fromkeys(name for name in inputs.sources if looks_like_store(name)))
    files = [name for name in inputs.sources if name not in stores]
    for name in files:
        _check(name, inputs.follow)
    if inputs.follow:
        from analyzer.sources.tail import TailSource

        return Opened((TailSource(files, news=note),) if files else (), stores)
    return Opened(tuple(FileSource([name]) for name in files), stores)


def _check(name: str, follow: bool) -> None:
    """Tell at once what would fail only after everything before it was read."""
    if name == "-" and follow:
        raise UsageError("standard input is always read to its end", hint="leave out --follow")
    if name == "-" or os.path.exists(name):
        return
    host, colon, port = name.rpartition(":")
    server = name.startswith(("tls://", "unix:", "grpc://", "http://", "https://")) or (
        colon and host and port.isdigit()
    )
    if server:
        raise UsageError(f"{name}: no such file", hint=f"for a Hubble server write: --server {name}")
    if follow:  # In the middle of a rotation only its siblings may be there.
        return
    raise SourceError(f"{name}: no such file or folder", hint="name a file, a folder, a store, or - for standard input")


def _server(inputs: Inputs) -> FlowSource:
    from analyzer.sources.relay import FIELDS, Query, RelaySource

    number = inputs.number
    if inputs.follow and not number and inputs.since is None:
        number = EVERYTHING
    query = Query(
        number=number,
        first=inputs.first,
        follow=inputs.follow,
        since=inputs.since.time if inputs.since else None,
        until=inputs.until.time if inputs.until and not inputs.follow else None,
        whitelist=inputs.whitelist,
        blacklist=inputs.blacklist,
        field_mask=FIELDS,
    )
    if inputs.port_forward is not None:
        from analyzer.cli.kubernetes import Forwarded

        return Forwarded(inputs.cluster_options(), inputs.port_forward, inputs.server_options(), query)
    return RelaySource(inputs.server_options(), query, news=note)


def selection(inputs: Inputs) -> Selection | None:
    """What files are filtered by here; a server filters by itself. Raises UsageError for what flows cannot be filtered by."""
    from analyzer.sources.filters import Selection, parse_filters

    since, until = (moment.time if moment else None for moment in (inputs.since, inputs.until))
    keep = Selection(parse_filters(inputs.whitelist), parse_filters(inputs.blacklist), since, until)
    return keep if inputs.sources and keep.fingerprint() else None


def fingerprint(inputs: Inputs) -> str:
    """The same text for the same filters: what a store was filled with tells which content counts as read."""
    keep = selection(inputs)
    if keep is not None:
        return keep.fingerprint()
    return (
        json.dumps([inputs.whitelist, inputs.blacklist], sort_keys=True) if inputs.whitelist or inputs.blacklist else ""
    )


def find_edges(inputs: Inputs, include_verdicts: frozenset[str] = frozenset()) -> Found:
    """Read everything the user named, and settle it. Raises AnalyzerError."""
    from analyzer.inventories import answered_names
    from analyzer.pipeline import read, read_files, settle

    sources = opened(inputs)
    asked = [(where, hours(inputs), edge_filter(inputs)) for where in sources.stores]
    keep = selection(inputs)
    words = f"Reading {sources.names}"
    processes = _processes(inputs, sources)
    close = sources.close if processes is None else processes.close
    with Interruptible(close) as interruptible, Progress(words, follow=inputs.follow) as progress:
        if processes is None:
            table = read(*limited(sources.flows, keep, inputs), on_batch=progress.update)
        else:
            table = read_files([source.name for source in sources.flows], processes, keep, progress.update)
        for where, (since, until), _ in asked:
            from analyzer.store import Store

            with Store.open(where, create=False) as store:
                table.merge(store.read(since=since, until=until))
    edges = settle(table, include_verdicts)
    if asked:
        edges = tuple(filter(asked[0][2], edges))
    return Found(edges, table.coverage, interruptible.interrupted, answered_names(table.answers))


LARGE = 64 << 20
"""Bytes of files from which on more than one process reads them: starting one costs half a second."""


def _processes(inputs: Inputs, sources: Opened) -> Processes | None:
    """Who reads the files, if it is more than this process."""
    files = [Path(name) for name in inputs.sources if name not in sources.stores]
    if not files or inputs.number or "-" in inputs.sources or inputs.jobs == 1:
        return None
    listed = [each for path in files for each in (path.rglob("*") if path.is_dir() else [path]) if each.is_file()]
    jobs = inputs.jobs or (os.cpu_count() or 1)
    if len(listed) < 2 or jobs < 2 or (not inputs.jobs and sum(each.stat().st_size for each in listed) < LARGE):
        return None
    from analyzer.scale import Processes

    return Processes(jobs)


def limited(
    flows: Sequence[FlowSource], keep: Selection | None, inputs: Inputs
) -> tuple[Sequence[FlowSource], Selection | None]:
    """The sources and the filter, once --first or --last is applied to files."""
    if not (inputs.sources and inputs.number):
        return flows, keep
    from analyzer.cli.limits import Limited

    return [Limited(flows, keep, inputs.number, first=inputs.first)], None
