"""Filters on a store: it keeps edges and hours, so only what these can answer is honoured, and the rest is refused in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyzer.cli.options import Inputs
from analyzer.cli.times import Moment
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.model.edge import Edge, Endpoint
    from analyzer.model.flow import Workload

__all__ = ["edge_filter", "hours"]

HOUR = 3_600_000_000_000
_HINT = "filter while reading flows instead: hubble-analyzer observe ... --store"
_WHY = {
    "ip": "the addresses of pods",
    "fqdn": "which flow had which DNS name",
    "service": "which flow went through which service",
    "identity": "numeric identities",
    "verdict": "single flows; `graph` shows the status of each connection",
}

Ends = tuple["Endpoint", tuple["Workload", ...], str]
Predicate = Callable[["Edge"], bool]


def hours(inputs: Inputs) -> tuple[int | None, int | None]:
    """--since and --until on full hours (ns), so that nothing in between is left out.

    Raises UsageError when one of them is meant more exactly than to the hour.
    """
    for flag, moment in (("--since", inputs.since), ("--until", inputs.until)):
        if moment is not None and moment.grain < HOUR:
            raise UsageError(
                f"{flag}: a store knows only the hour in which something happened, not the minute",
                hint="write full hours such as 2h, 7d, 2026-01-31 or 2026-01-31T14:00:00Z, or read the files instead",
            )
    return _down(inputs.since), _up(inputs.until)


def _down(moment: Moment | None) -> int | None:
    return None if moment is None else moment.time - moment.time % HOUR


def _up(moment: Moment | None) -> int | None:
    return None if moment is None else -(-moment.time // HOUR) * HOUR


def edge_filter(inputs: Inputs) -> Predicate:
    """Which edges of a store the filters keep; source and destination are client and server. Raises UsageError."""
    if inputs.number:
        raise UsageError("--first and --last count flows, and a store keeps none", hint="leave them out")
    allow, deny = _alternatives(inputs.whitelist), _alternatives(inputs.blacklist)

    def keeps(edge: Edge) -> bool:
        if inputs.whitelist and not any(_all(each, edge) for each in allow):
            return False
        return not any(_all(each, edge) for each in deny)

    return keeps


def _all(predicates: Sequence[Predicate], edge: Edge) -> bool:
    return all(predicate(edge) for predicate in predicates)


def _alternatives(filters: Sequence[Mapping[str, Any]]) -> list[list[Predicate]]:
    """The filters that edges can match. An edge has no client port: the left half of ``--port`` can match none."""
    answerable = [each for each in filters if "source_port" not in each]
    if filters and not answerable:
        raise UsageError("a store does not know the ports of clients", hint=_HINT)
    return [[_predicate(name, values) for name, values in each.items()] for each in answerable]


def _predicate(name: str, values: Any) -> Predicate:
    if name == "destination_port":
        ports = frozenset(map(str, values))
        return lambda edge: edge.l4.protocol.has_ports and str(edge.l4.port) in ports
    if name == "protocol":
        return _protocol(values)
    side, _, field = name.partition("_")
    make = _SIDED.get(field) if side in ("source", "destination") else None
    if make is None:
        what = _WHY.get(field) or _WHY.get(name) or f"what {name} asks for"
        raise UsageError(f"a store does not know {what}", hint=_HINT)
    matches = make(values)
    return lambda edge: matches(_end(edge, side))


def _end(edge: Edge, side: str) -> Ends:
    if side == "source":
        return edge.source, edge.source_workloads, edge.cluster
    return edge.destination, edge.destination_workloads, edge.cluster


def _protocol(values: Any) -> Predicate:
    names = {str(value).upper() for value in values}
    unknown = names & {"HTTP", "DNS"}
    if unknown:
        raise UsageError(f"a store does not tell {min(unknown)} apart", hint=_HINT)
    if "ICMP" in names:
        names |= {"ICMPV4", "ICMPV6"}
    wanted = {"ICMP" if name == "ICMPV4" else name for name in names}
    return lambda edge: str(edge.l4.protocol).upper() in wanted


def _namespaces(values: Any) -> Callable[[Ends], bool]:
    wanted = set()
    for value in values:
        namespace, slash, pod = str(value).rpartition("/")
        if pod or not slash:
            raise UsageError(f"a store does not know pods by their names: {value}", hint=_HINT)
        wanted.add(namespace)
    return lambda end: bool(end[0].namespace) and ("" in wanted or end[0].namespace in wanted)


def _labels(values: Any) -> Callable[[Ends], bool]:
    from analyzer.sources.label_selector import parse_selector

    selectors = [parse_selector(str(value)) for value in values]
    return lambda end: any(selector.matches(end[0].labels) for selector in selectors)


def _workloads(values: Any) -> Callable[[Ends], bool]:
    wanted = [(str(value.get("kind", "")), str(value.get("name", ""))) for value in values]
    return lambda end: any(
        (not kind or workload.kind == kind) and (not name or workload.name == name)
        for workload in end[1]
        for kind, name in wanted
    )


def _clusters(values: Any) -> Callable[[Ends], bool]:
    wanted = frozenset(map(str, values))
    return lambda end: (end[0].cluster or end[2]) in wanted


_SIDED: Mapping[str, Callable[[Any], Callable[[Ends], bool]]] = {
    "pod": _namespaces,
    "label": _labels,
    "workload": _workloads,
    "cluster_name": _clusters,
}
