"""Frames: edges as pandas data frames, and edge tables as Parquet files. The only module that knows pandas and pyarrow."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import IntEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from analyzer.errors import OutputError, StoreError
from analyzer.model.bounded import Bounded
from analyzer.model.edge import DAY, Activity, ActivityKey, Edge, EdgeKey, EdgeStats, EdgeTable, Endpoint, Side
from analyzer.model.flow import DropReason, EventKind, Skip, Verdict, Workload
from analyzer.model.identity import primary_entity
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Label, Labels
from analyzer.model.workload import workload_name

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["activity_frame", "edges_frame", "read_parquet", "write_parquet"]

_NAME, _VERSION = b"hubble-analyzer", 1
_CHUNK = 5_000
"""Edges converted at a time, so that a large table is not held twice."""
_HINT = "pip install 'hubble-analyzer[parquet]'"
_TEXT_EVIDENCE = frozenset({"names", "queries", "samples", "services"})

Column = Callable[[Edge], object]


def _end_columns(side: str) -> dict[str, Column]:
    def end(edge: Edge) -> Endpoint:
        found: Endpoint = getattr(edge, side)
        return found

    def workloads(edge: Edge) -> tuple[Workload, ...]:
        found: tuple[Workload, ...] = getattr(edge, f"{side}_workloads")
        return found

    return {
        f"{side}_cluster": lambda edge: end(edge).cluster,
        f"{side}_namespace": lambda edge: end(edge).namespace,
        f"{side}_workload": lambda edge: workload_name(end(edge), workloads(edge)),
        f"{side}_entity": lambda edge: str(primary_entity(end(edge).labels) or ""),
        f"{side}_address": lambda edge: end(edge).address,
        f"{side}_labels": lambda edge: end(edge).labels.strings(),
    }


_TEXT: dict[str, Column] = {
    "cluster": lambda edge: edge.cluster,
    **_end_columns("source"),
    **_end_columns("destination"),
    "protocol": lambda edge: str(edge.l4.protocol),
    "status": lambda edge: str(edge.status),
}
_NUMBERS: dict[str, Column] = {
    "port": lambda edge: edge.l4.port,
    "weight": lambda edge: edge.weight,
    **{name: lambda edge, name=name: getattr(edge.stats, name) for name in EdgeStats.WEIGHTS},  # type: ignore[misc]
}
_TIMES: dict[str, Column] = {"first": lambda edge: edge.stats.first, "last": lambda edge: edge.stats.last}
_FLAGS: dict[str, Column] = {"directed": lambda edge: edge.key.directed, "accepted": lambda edge: edge.accepted}
_SETS: dict[str, Column] = {
    **{name: lambda edge, name=name: _keys(edge.stats, name) for name in EdgeStats.EVIDENCE},  # type: ignore[misc]
    "incomplete": lambda edge: tuple(name for name, found in edge.stats.evidence() if found.overflow),
}
_ORDER = (
    *_TEXT, "port", "directed", "accepted", "weight", "first", "last", *EdgeStats.WEIGHTS, *_SETS,
)  # fmt: skip


def _keys(stats: EdgeStats, name: str) -> tuple[object, ...]:
    return tuple(next((found for each, found in stats.evidence() if each == name), ()))


def edges_frame(edges: Sequence[Edge]) -> pd.DataFrame:
    """One row per edge, in the order given. Source is the client, destination the server.

    - `cluster`: the observing cluster; `source_cluster`, `destination_cluster`: the ends' own, ``""`` when unknown
    - `source_`/`destination_` `namespace`, `workload`, `entity` (of reserved identities), `address` (IP or prefix, of outside
      peers only), each ``""`` where there is none; `labels`: a tuple of ``source:key=value``
    - `protocol`, `port` (the type for ICMP, 0 without ports), `directed`, `status` (see `Status`), `accepted`
    - `weight`: events, both ends' reports of a packet counted; `first`, `last`: UTC timestamps
    - `answered`, `resets`, `guessed`, `uncertain`, `conflicting`, `unnamed`: weights as in `EdgeStats`
    - `names`, `queries`, `http`, `samples`, `allowed_by`, `denied_by`, `services`, `pairs`: sorted tuples of the evidence as in
      `EdgeStats`; `incomplete`: which of these are only samples
    """
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, column in (_TEXT | _SETS | _NUMBERS | _FLAGS).items():
        values = [column(edge) for edge in edges]
        tuples = name in _SETS or name.endswith("_labels")
        kind = object if tuples else "int64" if name in _NUMBERS else "bool" if name in _FLAGS else "str"
        columns[name] = pd.Series(_tuples(values) if tuples else values, dtype=kind)
    for name, column in _TIMES.items():
        columns[name] = _times([column(edge) for edge in edges])
    return pd.DataFrame({name: columns[name] for name in _ORDER})


def activity_frame(edges: Sequence[Edge]) -> pd.DataFrame:
    """Activity in long form: one row per edge, UTC day, side, event kind, verdict and drop reason, with its `weight`.

    `edge` is the row of `edges_frame` for the same edges. `day` is a UTC timestamp, `side` is source, destination or unknown;
    `kind`, `verdict` and `reason` are Hubble's names, or its numbers where they are newer than this tool. `hours` has bit *n*
    set for activity from *n*:00 to *n*:59 UTC; `first` and `last` are UTC timestamps.
    """
    import pandas as pd

    rows = [
        (number, key, cell) for number, edge in enumerate(edges) for key, cell in sorted(edge.stats.activity.items())
    ]
    texts = {
        "side": [_name(Side, key.side).lower() for _, key, _ in rows],
        "kind": [_name(EventKind, key.kind) for _, key, _ in rows],
        "verdict": [_name(Verdict, key.verdict) for _, key, _ in rows],
        "reason": [_name(DropReason, key.reason) if key.reason else "" for _, key, _ in rows],
    }
    numbers = {"weight": [cell.weight for *_, cell in rows], "hours": [cell.hours for *_, cell in rows]}
    return pd.DataFrame(
        {
            "edge": pd.Series([number for number, *_ in rows], dtype="int64"),
            "day": _times([key.day * DAY for _, key, _ in rows]),
            **{name: pd.Series(values, dtype="str") for name, values in texts.items()},
            **{name: pd.Series(values, dtype="int64") for name, values in numbers.items()},
            "first": _times([cell.first for *_, cell in rows]),
            "last": _times([cell.last for *_, cell in rows]),
        }
    )


def _tuples(values: list[object]) -> Any:
    # pandas takes a list of tuples apart when all are of one length; an array of objects stays as it is.
    import numpy as np

    array = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        array[number] = value
    return array


def _times(values: Sequence[Any]) -> pd.Series[Any]:
    import pandas as pd

    return pd.Series(pd.to_datetime(pd.Series(values, dtype="int64"), unit="ns", utc=True))


def _name(kind: type[IntEnum], number: int) -> str:
    try:
        return kind(number).name
    except ValueError:
        return str(number)


def write_parquet(table: EdgeTable, path: str | Path) -> None:
    """Write a table into a Parquet file: a row per edge in canonical order, everything else in the file's metadata.

    `read_parquet` gives back the same table, the same table gives the same bytes, and a file is complete or not there.
    Raises OutputError.
    """
    arrow, parquet = _arrow(OutputError)
    part = Path(f"{path}.part")
    schema = _schema(arrow).with_metadata({_NAME: zlib.compress(msgspec.json.encode(_sides(table)))})
    try:
        with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
            keys = iter(sorted(table.edges))
            while chunk := [_row(key, table.edges[key]) for key in islice(keys, _CHUNK)]:
                writer.write_table(arrow.Table.from_pylist(chunk, schema=schema))
        os.replace(part, path)
    except (OSError, arrow.ArrowException, ValueError, OverflowError) as error:
        raise OutputError(f"{path}: {_first_line(error)}", hint="name another path for the Parquet file") from error
    finally:
        with suppress(OSError):
            part.unlink()


def read_parquet(path: str | Path) -> EdgeTable:
    """The table that `write_parquet` wrote. Raises StoreError for a file that is missing, damaged or another's."""
    arrow, parquet = _arrow(StoreError)
    try:
        with parquet.ParquetFile(path) as file:
            sides = (file.schema_arrow.metadata or {}).get(_NAME)
            if sides is None:
                raise StoreError(f"{path}: a Parquet file, but not one of this tool", hint="write_parquet makes one")
            table = _with_sides(msgspec.json.decode(zlib.decompress(sides)), str(path))
            for batch in file.iter_batches(_CHUNK):
                for row in batch.cast(_numbers_for_times(arrow, batch.schema)).to_pylist():
                    table.stats(_key(row)).merge(_stats(row))
    except (OSError, arrow.ArrowException, zlib.error, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{path}: cannot be read: {_first_line(error)}", hint="write it again") from error
    return table


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _arrow(error: type[OutputError | StoreError]) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise error("Parquet files need pyarrow", hint=_HINT) from None
    return pyarrow, pyarrow.parquet


def _schema(arrow: Any) -> pa.Schema:
    text, number, flag, time = arrow.string(), arrow.int64(), arrow.bool_(), arrow.timestamp("ns", "UTC")
    label = arrow.struct([(name, text) for name in Label._fields])
    end = arrow.struct(
        [("labels", arrow.list_(label)), *((name, text) for name in Endpoint._fields if name != "labels")]
    )
    cell = [*((name, number) for name in ActivityKey._fields), ("weight", number), ("hours", number)]
    activity = arrow.list_(arrow.struct([*cell, ("first", time), ("last", time)]))

    def evidence(name: str) -> Any:
        key = text if name in _TEXT_EVIDENCE else arrow.list_(text)
        items = arrow.list_(arrow.struct([("key", key), ("weight", number)]))
        return arrow.struct([("items", items), ("overflow", flag)])

    return arrow.schema(
        [
            ("cluster", text), ("source", end), ("destination", end), ("protocol", text), ("port", number), ("directed", flag),
            ("activity", activity), *((name, number) for name in EdgeStats.WEIGHTS),
            *((name, evidence(name)) for name in EdgeStats.EVIDENCE),
        ]
    )  # fmt: skip


def _numbers_for_times(arrow: Any, schema: pa.Schema) -> pa.Schema:
    """The schema with nanoseconds as numbers: Python's own timestamps end at microseconds."""
    cells = [
        arrow.field(each.name, arrow.int64()) if arrow.types.is_timestamp(each.type) else each
        for each in schema.field("activity").type.value_type
    ]
    where = schema.get_field_index("activity")
    return schema.set(where, arrow.field("activity", arrow.list_(arrow.struct(cells))))


def _row(key: EdgeKey, stats: EdgeStats) -> dict[str, Any]:
    return {
        "cluster": key.cluster,
        "source": _end(key.source),
        "destination": _end(key.destination),
        "protocol": key.l4.protocol.name,
        "port": key.l4.port,
        "directed": key.directed,
        "activity": [
            cell_key._asdict() | dict(zip(("weight", "hours", "first", "last"), cell.values(), strict=True))
            for cell_key, cell in sorted(stats.activity.items(), key=lambda item: item[0])
        ],
        **{name: getattr(stats, name) for name in EdgeStats.WEIGHTS},
        **{name: _bounded(found) for name, found in stats.evidence()},
    }


def _end(end: Endpoint) -> dict[str, Any]:
    return end._asdict() | {"labels": [label._asdict() for label in end.labels]}


def _bounded(found: Bounded[Any]) -> dict[str, Any]:
    items = [{"key": key, "weight": weight} for key, weight in sorted(found.items.items())]
    return {"items": items, "overflow": found.overflow}


def _key(row: dict[str, Any]) -> EdgeKey:
    l4 = L4(Protocol[row["protocol"]], row["port"])
    return EdgeKey(row["cluster"], _endpoint(row["source"]), _endpoint(row["destination"]), l4, row["directed"])


def _endpoint(found: dict[str, Any]) -> Endpoint:
    return Endpoint(**{**found, "labels": Labels(Label(**label) for label in found["labels"])})


def _stats(row: dict[str, Any]) -> EdgeStats:
    stats = EdgeStats()
    for cell in row["activity"]:
        key = ActivityKey(*(cell[name] for name in ActivityKey._fields))
        stats.activity[key] = Activity(cell["weight"], cell["hours"], cell["first"], cell["last"])
    for name in EdgeStats.WEIGHTS:
        setattr(stats, name, row[name])
    for name in EdgeStats.EVIDENCE:
        if row[name] is not None:
            _fill(getattr(stats, name), row[name])
    return stats


def _fill(target: Bounded[Any], found: dict[str, Any]) -> None:
    for item in found["items"]:
        key = item["key"]
        target.add(key if isinstance(key, str) else tuple(key), item["weight"])
    target.overflow = target.overflow or found["overflow"]


_SIDE_SETS = ("pods", "answers", "service_addresses")


def _sides(table: EdgeTable) -> dict[str, Any]:
    """Everything of a table but its edges."""
    coverage = table.coverage
    return {
        "version": _VERSION,
        **{name: _bounded(getattr(table, name)) for name in _SIDE_SETS},
        "workloads": [(_end(end), _bounded(found)) for end, found in sorted(table.workloads.items(), key=_first)],
        "edge_records": coverage.edge_records,
        "skipped": sorted((int(skip), count) for skip, count in coverage.skipped.items()),
        "nodes": [(*key, *cell.values()) for key, cell in sorted(coverage.nodes.items(), key=_first)],
        "lost": sorted((*key, count) for key, count in coverage.lost.items()),
        "statuses": sorted((*key, count) for key, count in coverage.statuses.items()),
    }


def _first(item: tuple[Any, Any]) -> Any:
    return item[0]


def _with_sides(found: dict[str, Any], path: str) -> EdgeTable:
    if found["version"] != _VERSION:
        raise StoreError(f"{path}: written by another version of this tool", hint="read it with that version")
    table = EdgeTable()
    for name in _SIDE_SETS:
        _fill(getattr(table, name), found[name])
    for end, workloads in found["workloads"]:
        names: Bounded[tuple[str, ...]] = Bounded(len(workloads["items"]) + 1)
        _fill(names, workloads)
        table.add_workloads(_endpoint(end), names)
    coverage = table.coverage
    coverage.edge_records = found["edge_records"]
    coverage.skipped.update({Skip(skip): count for skip, count in found["skipped"]})
    for node, day, *values in found["nodes"]:
        coverage.nodes[node, day] = Activity(*values)
    for name in ("lost", "statuses"):
        getattr(coverage, name).update({(node, number): count for node, number, count in found[name]})
    return table
