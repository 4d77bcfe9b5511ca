"""lines: any number of exporter lines over a fixed set of edges, made fast enough for benchmarks to read them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta

from analyzer.demo.cluster import Call, Cluster, Outside, Workload
from analyzer.demo.story import generated_cluster
from analyzer.demo.traffic import START, records
from analyzer.model.l4 import L4, Protocol

__all__ = ["lines"]

PER_EDGE = 14
"""About how many records of a generated cluster make one edge."""
_TIME, _UUID, _CLIENT = "@time@", "@uuid@", "@client@"


def lines(seed: int, count: int, *, edges: int = 2_000, clients: int = 0) -> Iterator[bytes]:
    """`count` lines of about 1.6 KB, newline included, over about `edges` edges, a millisecond apart.

    With `clients`, every line instead is a connection to one gateway from the next of so many internet addresses.
    """
    templates = _clients() if clients else _templates(seed, edges)
    chance = random.Random(seed)
    start = int(START.timestamp()) * 1000
    for number in range(count):
        parts = templates[number % len(templates)]
        values = {
            _TIME: _stamp(start + number),
            _UUID: b"%08x-0000-4000-a000-%012x" % (chance.getrandbits(32), number),
            _CLIENT: _address(number % clients) if clients else b"",
        }
        yield b"".join([values[part] if isinstance(part, str) else part for part in parts])


def _stamp(milliseconds: int) -> bytes:
    seconds, rest = divmod(milliseconds, 1000)
    return b"%s.%03d000000Z" % (_second(seconds), rest)


def _second(seconds: int, known: dict[int, bytes] = {}) -> bytes:  # noqa: B006 - the last second, remembered
    found = known.get(seconds)
    if found is None:
        known.clear()
        moment = START + timedelta(seconds=seconds - int(START.timestamp()))
        found = known[seconds] = f"{moment:%Y-%m-%dT%H:%M:%S}".encode()
    return found


def _address(number: int) -> bytes:
    """Distinct public addresses, neighbours far apart."""
    mixed = number * 2_654_435_761 % (1 << 32)
    return b"%d.%d.%d.%d" % (20 + mixed % 100, mixed >> 8 & 255, mixed >> 16 & 255, mixed >> 24)


def _templates(seed: int, edges: int) -> list[list[bytes | str]]:
    """The records of a generated cluster, in an order that mixes the edges, cut where each line differs."""
    cluster = generated_cluster(seed, max(10, edges // 5))
    made = [record for record in records(cluster, seed) if "flow" in record]
    random.Random(seed).shuffle(made)
    return [_cut(record) for record in made]


def _clients() -> list[list[bytes | str]]:
    gateway = Workload("gateway-system", "gateway", ports={"https": 443})
    call = Call(Outside((_CLIENT,)), gateway, L4(Protocol.TCP, 443), 1)
    cluster = Cluster("default", ("node-1",), (call,))
    return [
        _cut(record) for record in records(cluster) if record.get("flow", {}).get("IP", {}).get("source") == _CLIENT
    ]


def _cut(record: dict[str, object]) -> list[bytes | str]:
    flow = record["flow"]
    assert isinstance(flow, dict)
    whole = {"flow": {**flow, "time": _TIME, "uuid": _UUID}, "node_name": record["node_name"], "time": _TIME}
    parts: list[bytes | str] = []
    rest = json.dumps(whole, separators=(",", ":")) + "\n"
    while rest:
        found = [(rest.find(mark), mark) for mark in (_TIME, _UUID, _CLIENT) if mark in rest]
        if not found:
            parts.append(rest.encode())
            break
        at, mark = min(found)
        parts += [rest[:at].encode(), mark]
        rest = rest[at + len(mark) :]
    return parts
