"""How the benchmarks measure: CPU seconds of this process, and the peak memory of a child process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

__all__ = ["Measured", "cpu_seconds", "in_child"]


class Measured(NamedTuple):
    """What a child process used: CPU seconds, peak memory in MiB above its start, and what the function returned."""

    cpu: float
    peak: float
    value: Any


def cpu_seconds(work: Callable[[], object], *, repeat: int = 3) -> float:
    """The least CPU seconds of `repeat` runs: noise only ever adds."""
    best = float("inf")
    for _ in range(repeat):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def _child(pipe: Connection, work: Callable[..., object], args: tuple[object, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    value = work(*args)
    cpu = time.process_time() - start
    pipe.send(Measured(cpu, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, value))


def in_child(work: Callable[..., object], *args: object) -> Measured:
    """Run ``work(*args)`` in a fresh process, so that its peak memory is its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, work, args))
    process.start()
    sender.close()
    try:
        return receiver.recv()  # type: ignore[no-any-return]
    finally:
        process.join()
