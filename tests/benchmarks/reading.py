"""Reading: a file to its edge table, against json.loads alone over the same lines; and the memory that takes, however much comes.

The lines are generated, 1.6 KB each (`analyzer.demo.lines`). The file has as many lines as fit a page cache; the long runs get
theirs from another process through a pipe, so that generating is not measured and nothing that long lies on the disk.
"""

from __future__ import annotations

import gc
import gzip
import json
import multiprocessing
import os
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import zstandard

from analyzer import spots
from analyzer.aggregate import aggregate
from analyzer.demo.lines import lines
from analyzer.pipeline import read
from analyzer.settle import settle
from analyzer.sources import known
from analyzer.sources.content import Lines, open_content
from analyzer.sources.decode import Decoder
from analyzer.sources.jsonpb import FileSource
from tests.benchmarks.measure import Measured, cpu_seconds, in_child, scaled

__all__ = ["run"]

SEED, EDGES = 1, 2_000
FILE = 200_000
"""Lines that are read from a file."""
STREAMS = ((1_000_000, EDGES), (10_000_000, EDGES), (1_000_000, 5 * EDGES))
"""Flows, and over how many edges."""
CLIENTS = (1_000_000, 10_000_000)
"""As many flows, each from an internet client of its own."""
TABLE = 30_000
"""Lines over `EDGES` edges after which every edge was seen with all that it will ever hold, but for counters."""


def run() -> None:
    """Print the figures: speed first, then memory."""
    with tempfile.TemporaryDirectory() as folder:
        _speed(Path(folder))
        _repeated(Path(folder), scaled(STREAMS[0][0]))
        found = [_memory(Path(folder), scaled(flows), scaled(edges), 0) for flows, edges in STREAMS]
        for clients in CLIENTS:
            _memory(Path(folder), scaled(clients), EDGES, scaled(clients))
    (few, less), _, (many, more) = found
    print(f"  {(more - less) * 1024 / (many - few):,.1f} KiB per edge: from {few:,} to {many:,} edges")
    edges, size = in_child(_table, scaled(5 * EDGES)).value
    print(
        f"  {size / edges / 1024:,.1f} KiB per edge of that in the table of {edges:,} edges, the rest in what reading remembers"
    )


def _speed(folder: Path) -> None:
    count = scaled(FILE)
    plain, packed = folder / "flows.log", {"gzip": folder / "flows.gz", "zstd": folder / "flows.zst"}
    with plain.open("wb") as file:
        file.writelines(lines(SEED, count, edges=EDGES))
    size = plain.stat().st_size
    print(f"{count:,} lines of {size / count:,.0f} bytes, {len(settle(read([FileSource([plain])]))):,} edges")
    works: dict[str, Callable[[], object]] = {
        "read the lines": lambda: _each_line(plain, len),
        "json.loads": lambda: _each_line(plain, json.loads),
        "decode to flows": lambda: _blocks(plain),
        "file to edge table": lambda: read([FileSource([plain])]),
        "the same without C": lambda: _without_c(lambda: read([FileSource([plain])])),
    }
    content = plain.read_bytes()
    packed["gzip"].write_bytes(gzip.compress(content, 6))
    packed["zstd"].write_bytes(zstandard.ZstdCompressor().compress(content))
    del content
    for name, path in packed.items():
        works[f"{name} file to edge table"] = lambda path=path: read([FileSource([path])])  # type: ignore[misc]
    # One after the other and round again, so that a slow moment of the machine meets all of them.
    best = dict.fromkeys(works, float("inf"))
    for _ in range(3):
        for name, work in works.items():
            best[name] = min(best[name], cpu_seconds(work, repeat=1))
    for name, seconds in best.items():
        ratio = best["json.loads"] / seconds
        print(f"  {name:<25} {count / seconds:>11,.0f} flows per CPU-second, {ratio:5.2f} times json.loads")


def _each_line(path: Path, work: Callable[[bytes], object]) -> None:
    with path.open("rb") as file:
        for line in file:
            work(line)


def _blocks(path: Path) -> None:
    decoder = Decoder()
    with open_content(str(path)) as content:
        for block in Lines(content).blocks():
            decoder.decode_block(block.data)


def _without_c(work: Callable[[], object]) -> None:
    compiled = known.compiled, spots.compiled
    known.compiled = spots.compiled = None  # type: ignore[assignment]
    try:
        work()
    finally:
        known.compiled, spots.compiled = compiled


def _repeated(folder: Path, flows: int) -> None:
    """The same edges again and again: what the speed comes to when hardly any line brings something new."""
    plain = _through_pipe(folder, (flows, EDGES, 0), _loads)
    measured = _through_pipe(folder, (flows, EDGES, 0), _read)
    edges, _ = measured.value
    print(
        f"{flows:,} lines through a pipe, {flows / edges:,.0f} for each of {edges:,} edges\n"
        f"  file to edge table        {flows / measured.cpu:>11,.0f} flows per CPU-second, "
        f"{plain.cpu / measured.cpu:5.2f} times json.loads",
        flush=True,
    )


def _through_pipe(folder: Path, stream: tuple[int, int, int], work: Callable[[str], object]) -> Measured:
    """What `work` takes, in a process of its own, for flows, edges and clients that another one writes."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(str(pipe), *stream))
    writer.start()
    try:
        return in_child(work, str(pipe))
    finally:
        writer.join()
        pipe.unlink()


def _memory(folder: Path, flows: int, edges: int, clients: int) -> tuple[int, float]:
    """Print the peak of reading such a stream; the edges that were found, and the peak in MiB."""
    measured = _through_pipe(folder, (flows, edges, clients), _read)
    found, records = measured.value
    assert records == flows
    what = f"from {clients:,} internet clients" if clients else "of a cluster"
    print(
        f"  {flows:>10,} flows {what}: peak {measured.peak:,.0f} MiB, {found:,} edges, "
        f"{flows / measured.cpu:,.0f} flows per CPU-second",
        flush=True,
    )
    return found, measured.peak


def _write(pipe: str, flows: int, edges: int, clients: int) -> None:
    with open(pipe, "wb", buffering=1 << 20) as file:
        file.writelines(lines(SEED, flows, edges=edges, clients=clients))


def _read(pipe: str) -> tuple[int, int]:
    table = read([FileSource([pipe])])
    return len(settle(table)), table.coverage.records


def _loads(pipe: str) -> None:
    _each_line(Path(pipe), json.loads)


def _table(edges: int) -> tuple[int, int]:
    """Edges, and the bytes that the table takes without the memory of what read it."""
    tracemalloc.start()
    decoder = Decoder()
    table = aggregate(decoder.decode(line) for line in lines(SEED, TABLE * edges // EDGES, edges=edges))
    del decoder
    found = len(table)
    gc.collect()
    with_table, _ = tracemalloc.get_traced_memory()
    del table
    gc.collect()
    return found, with_table - tracemalloc.get_traced_memory()[0]
