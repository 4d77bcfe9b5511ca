"""What child processes do to a store; each batch holds two edges, so that half a batch would show."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from analyzer.aggregate import aggregate
from analyzer.errors import StoreError
from analyzer.model.edge import EdgeTable
from analyzer.sources.base import Position
from analyzer.store import Store
from tests.flows import pod, tcp

__all__ = ["batch", "position", "start"]

BATCHES = 60


def position(number: int, stream: str = "s") -> Position:
    return Position(stream, number * 10, number * 10 + 10, f"digest-{number}")


def batch(number: int) -> EdgeTable:
    """Two edges of its own, and a part of one that all share."""
    ends = pod("cart"), pod("redis")
    return aggregate([tcp(*ends, 2 * number + 2), tcp(*ends, 2 * number + 3), tcp(*ends, 1)])


def _append(where: str, stream: str) -> None:
    with Store.open(where, create=True) as store:
        for number in range(len(store.history(stream)), BATCHES):
            store.append(batch(number), [position(number, stream)])
            print(number, flush=True)


def _append_and_compact(where: str, stream: str) -> None:
    with Store.open(where, create=True) as store:
        for number in range(len(store.history(stream)), BATCHES):
            store.append(batch(number), [position(number, stream)])
            store.compact()
            print(number, flush=True)


def _race(where: str, stream: str) -> None:
    """Read the same content as somebody else, and run again when told to."""
    while True:
        with Store.open(where, create=True) as store:
            missing = [number for number in range(BATCHES) if position(number, stream) not in store.history(stream)]
            try:
                for number in missing[::7]:
                    pair = [each for each in (number, number + 1) if each in missing]
                    table = EdgeTable()
                    for each in pair:
                        table.merge(batch(each))
                    store.append(table, [position(each, stream) for each in pair])
            except StoreError as error:
                if "run again" not in error.hint:
                    raise
            if not missing:
                return


_JOBS: dict[str, Callable[[str, str], None]] = {"append": _append, "compact": _append_and_compact, "race": _race}


def start(job: str, where: str, stream: str = "s", *, at: float = 0) -> subprocess.Popen[str]:
    """Run a job in a process of its own, not before the time `at`. What it prints is what it has committed."""
    command = [sys.executable, "-m", "tests.store.children", job, where, stream, str(at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    # Some children begin at one moment, so that they do meet.
    time.sleep(max(0.0, float(sys.argv[4]) - time.time()))
    _JOBS[sys.argv[1]](sys.argv[2], sys.argv[3])
