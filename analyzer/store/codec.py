"""What the rows of a store hold: endpoints, edges and side tables as bytes. decode(encode(x)) = x.

Edges are MessagePack, one row each. The rest of a table is compressed JSON: its totals may need more than 64 bits.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, wraps
from hashlib import blake2b
from typing import Any, ParamSpec, TypeVar

import msgspec

from analyzer.model.bounded import Bounded
from analyzer.model.edge import Activity, ActivityKey, EdgeKey, EdgeStats, EdgeTable, Endpoint
from analyzer.model.flow import Skip
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Label, Labels

__all__ = [
    "Damaged",
    "EdgeRow",
    "decode_edge",
    "decode_endpoint",
    "decode_side",
    "edge_rows",
    "encode_side",
    "encode_text",
    "endpoint_rows",
]

P = ParamSpec("P")
T = TypeVar("T")

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_TEXT_KEYS = frozenset({"names", "queries", "samples", "services"})
_SIDE_SETS = ("pods", "answers", "service_addresses")

EdgeRow = tuple[bytes, bytes, bytes, int, int, bool, bytes]
"""(observing cluster, source id, destination id, protocol, port, directed, stats)"""


class Damaged(Exception):
    """Bytes that no encoder here wrote."""


def _checked(decode: Callable[P, T]) -> Callable[P, T]:
    """Raise Damaged for whatever goes wrong with bytes that cannot be trusted."""

    @wraps(decode)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return decode(*args, **kwargs)
        except (msgspec.MsgspecError, zlib.error, ValueError, TypeError, LookupError, AttributeError) as error:
            raise Damaged(f"{decode.__name__}: {error}") from error

    return checked


def encode_text(text: str) -> bytes:
    """Text as it is compared in the database."""
    return text.encode("utf-8", "surrogatepass")


def _endpoint_values(end: Endpoint) -> tuple[object, ...]:
    return [tuple(label) for label in end.labels], end.namespace, end.cluster, end.name, end.address


def _endpoint(values: Iterable[Any]) -> Endpoint:
    labels, *rest = values
    return Endpoint(Labels(Label(*label) for label in labels), *rest)


@_checked
def decode_endpoint(body: bytes) -> Endpoint:
    return _endpoint(_unpack(body))


def endpoint_rows(table: EdgeTable) -> dict[Endpoint, tuple[bytes, bytes]]:
    """The endpoints of a table with their rows: an id, which is a hash of their content, and the content."""
    found: dict[Endpoint, tuple[bytes, bytes]] = {}
    for key in table.edges:
        for end in (key.source, key.destination):
            if end not in found:
                body = _pack(_endpoint_values(end))
                found[end] = blake2b(body, digest_size=16).digest(), body
    return found


def edge_rows(table: EdgeTable, ids: Mapping[Endpoint, bytes]) -> Iterator[EdgeRow]:
    """The edges of a table as rows, one by one."""
    for key, stats in table.edges.items():
        cluster, source, destination, l4, directed = key
        yield (
            encode_text(cluster), ids[source], ids[destination], int(l4.protocol), l4.port, directed, _encode_stats(stats),
        )  # fmt: skip


@lru_cache(maxsize=4096)
def _l4(protocol: int, port: int) -> L4:
    return L4(Protocol(protocol), port)


@_checked
def decode_edge(row: EdgeRow, ends: Mapping[bytes, Endpoint]) -> tuple[EdgeKey, EdgeStats]:
    """The edge of a row, with its ends looked up in `ends`. Raises Damaged."""
    cluster, source, destination, protocol, port, directed, stats = row
    key = EdgeKey(
        bytes(cluster).decode("utf-8", "surrogatepass"),
        ends[bytes(source)],
        ends[bytes(destination)],
        _l4(protocol, port),
        bool(directed),
    )
    return key, _decode_stats(stats)


def _encode_stats(stats: EdgeStats) -> bytes:
    activity = [(*key, *cell.values()) for key, cell in sorted(stats.activity.items(), key=lambda item: item[0])]
    weights = [getattr(stats, name) for name in EdgeStats.WEIGHTS]
    return _pack((activity, weights, {name: _bounded(found) for name, found in stats.evidence()}))


def _decode_stats(body: bytes) -> EdgeStats:
    activity, weights, evidence = _unpack(body)
    stats = EdgeStats()
    for day, side, kind, verdict, reason, *values in activity:
        stats.activity[ActivityKey(day, side, kind, verdict, reason)] = Activity(*values)
    for name, weight in zip(EdgeStats.WEIGHTS, weights, strict=True):
        setattr(stats, name, weight)
    for name, found in evidence.items():
        _fill(getattr(stats, name), found, text_keys=name in _TEXT_KEYS)
    return stats


def _bounded(found: Bounded[Any]) -> tuple[list[Any], bool]:
    return sorted(found.items.items()), found.overflow


def _fill(target: Bounded[Any], found: tuple[list[Any], bool], *, text_keys: bool = False) -> None:
    items, overflow = found
    for key, weight in items:
        target.add(key if text_keys else tuple(key), weight)
    target.overflow = target.overflow or overflow


def encode_side(table: EdgeTable) -> bytes:
    """Everything of a table but its edges."""
    coverage = table.coverage
    workloads = sorted(table.workloads.items(), key=lambda item: item[0])
    nodes = sorted(coverage.nodes.items(), key=lambda item: item[0])
    values = {
        **{name: _bounded(getattr(table, name)) for name in _SIDE_SETS},
        "workloads": [(_endpoint_values(end), _bounded(found)) for end, found in workloads],
        "edge_records": coverage.edge_records,
        "skipped": sorted((int(skip), count) for skip, count in coverage.skipped.items()),
        "nodes": [(*key, *cell.values()) for key, cell in nodes],
        "lost": sorted((*key, count) for key, count in coverage.lost.items()),
        "statuses": sorted((*key, count) for key, count in coverage.statuses.items()),
    }
    return zlib.compress(msgspec.json.encode(values), 1)


@_checked
def decode_side(body: bytes) -> EdgeTable:
    """A table without edges, to be merged. Raises Damaged."""
    found = msgspec.json.decode(zlib.decompress(body))
    table = EdgeTable()
    for name in _SIDE_SETS:
        _fill(getattr(table, name), found[name])
    for end, workloads in found["workloads"]:
        kept: Bounded[tuple[str, ...]] = Bounded(len(workloads[0]) + 1)
        _fill(kept, workloads)
        table.add_workloads(_endpoint(end), kept)
    coverage = table.coverage
    coverage.edge_records = found["edge_records"]
    coverage.skipped.update({Skip(skip): count for skip, count in found["skipped"]})
    for node, day, *values in found["nodes"]:
        coverage.nodes[node, day] = Activity(*values)
    for name in ("lost", "statuses"):
        getattr(coverage, name).update({(node, number): count for node, number, count in found[name]})
    return table
