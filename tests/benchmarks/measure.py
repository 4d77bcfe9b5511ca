"""How the benchmarks measure: CPU seconds of this process, and the peak memory of a child process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["QUICK", "Measured", "cpu_seconds", "in_child", "scaled"]

QUICK = "BENCHMARK_QUICK"
"""The environment variable, inherited by children, that makes everything smaller."""


class Measured(NamedTuple):
    """What a child process used: CPU seconds, peak memory in MiB above its start, and what the function returned."""

    cpu: float
    peak: float
    value: Any


def scaled(size: int) -> int:
    """`size`, or a twentieth of it when `--quick` was asked for."""
    return size // 20 if os.environ.get(QUICK) else size


def cpu_seconds(work: Callable[[], object], *, repeat: int = 3) -> float:
    """The least CPU seconds of `repeat` runs: noise only ever adds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def _memory(name: str) -> int:
    """A figure of this process alone, in KiB; getrusage would count the parent's memory from before the exec (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _child(
    pipe: Connection, work: Callable[..., object], args: tuple[object, ...], threshold: tuple[int, int, int]
) -> None:
    gc.set_threshold(*threshold)
    before = _memory("VmRSS")
    start = time.process_time()
    value = work(*args)
    cpu = time.process_time() - start
    pipe.send(Measured(cpu, (_memory("VmHWM") - before) / 1024, value))


def in_child(work: Callable[..., object], *args: object) -> Measured:
    """Run ``work(*args)`` in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, args, gc.get_threshold()))
    process.start()
    sender.close()
    try:
        return receiver.recv()  # type: ignore[no-any-return]
    finally:
        process.join()
