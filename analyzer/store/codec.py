"""What the rows of a store hold: edge keys, stats and side tables as MessagePack. read(write(x)) = x."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import msgspec

from analyzer.model.bounded import Bounded
from analyzer.model.edge import Activity, ActivityKey, EdgeKey, EdgeStats, EdgeTable, Endpoint
from analyzer.model.flow import Skip
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Label, Labels

__all__ = [
    "EdgeRow",
    "decode_endpoint",
    "decode_side",
    "decode_stats",
    "edge_key",
    "edge_rows",
    "encode_side",
    "endpoint_row",
]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_TEXT_KEYS = frozenset({"names", "queries", "samples", "services"})

EdgeRow = tuple[str, bytes, bytes, int, int, bool, bytes]
"""(observing cluster, source id, destination id, protocol, port, directed, stats)"""


def endpoint_row(endpoint: Endpoint) -> tuple[bytes, bytes]:
    """An endpoint and its id, which is a hash of its content."""
    labels = [tuple(label) for label in endpoint.labels]
    body = _encode((labels, endpoint.namespace, endpoint.cluster, endpoint.name, endpoint.address))
    return blake2b(body, digest_size=16).digest(), body


def decode_endpoint(body: bytes) -> Endpoint:
    labels, *rest = _decode(body)
    return Endpoint(Labels(Label(*label) for label in labels), *rest)


def edge_rows(table: EdgeTable) -> tuple[dict[bytes, bytes], list[EdgeRow]]:
    """The endpoints of a table by id, and its edges, sorted so that writers meet rows in the same order."""
    endpoints: dict[bytes, bytes] = {}
    ids: dict[Endpoint, bytes] = {}
    rows = []
    for key, stats in table.edges.items():
        for end in (key.source, key.destination):
            if end not in ids:
                ids[end], body = endpoint_row(end)
                endpoints[ids[end]] = body
        ends = (ids[key.source], ids[key.destination])
        rows.append((key.cluster, *ends, int(key.l4.protocol), key.l4.port, key.directed, _stats(stats)))
    return dict(sorted(endpoints.items())), sorted(rows)


def edge_key(
    cluster: str, source: Endpoint, destination: Endpoint, protocol: int, port: int, directed: bool
) -> EdgeKey:
    return EdgeKey(cluster, source, destination, L4(Protocol(protocol), port), bool(directed))


def _stats(stats: EdgeStats) -> bytes:
    activity = [(*key, *cell.values()) for key, cell in sorted(stats.activity.items(), key=lambda item: item[0])]
    weights = [getattr(stats, name) for name in EdgeStats.WEIGHTS]
    return _encode((activity, weights, {name: _bounded(found) for name, found in stats.evidence()}))


def decode_stats(body: bytes) -> EdgeStats:
    activity, weights, evidence = _decode(body)
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


def _fill(target: Bounded[Any], found: Iterable[Any], *, text_keys: bool = False) -> None:
    items, overflow = found
    for key, weight in items:
        target.add(key if text_keys else tuple(key), weight)
    target.overflow = overflow


def encode_side(table: EdgeTable) -> bytes:
    """Everything of a table but its edges."""
    coverage = table.coverage
    return _encode(
        {
            "workloads": [(endpoint_row(end)[1], _bounded(found)) for end, found in sorted(table.workloads.items())],
            "pods": _bounded(table.pods),
            "answers": _bounded(table.answers),
            "service_addresses": _bounded(table.service_addresses),
            "edge_records": coverage.edge_records,
            "skipped": sorted((int(skip), count) for skip, count in coverage.skipped.items()),
            "nodes": sorted((*key, *cell.values()) for key, cell in coverage.nodes.items()),
            "lost": sorted((*key, count) for key, count in coverage.lost.items()),
            "statuses": sorted((*key, count) for key, count in coverage.statuses.items()),
        }
    )


def decode_side(body: bytes) -> EdgeTable:
    """A table without edges, to be merged."""
    found = _decode(body)
    table = EdgeTable()
    for endpoint, workloads in found["workloads"]:
        kept: Bounded[tuple[str, ...]] = Bounded(len(workloads[0]) + 1)
        _fill(kept, workloads)
        table.add_workloads(decode_endpoint(endpoint), kept)
    for name in ("pods", "answers", "service_addresses"):
        _fill(getattr(table, name), found[name])
    coverage = table.coverage
    coverage.edge_records = found["edge_records"]
    coverage.skipped.update({Skip(skip): count for skip, count in found["skipped"]})
    for node, day, *values in found["nodes"]:
        coverage.nodes[node, day] = Activity(*values)
    coverage.lost.update({(node, source): count for node, source, count in found["lost"]})
    coverage.statuses.update({(node, state): count for node, state, count in found["statuses"]})
    return table
