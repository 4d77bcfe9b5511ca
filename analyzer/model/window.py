"""Cutting an edge table to a window of time, as far as activity kept per UTC hour allows."""

from __future__ import annotations

from analyzer.errors import UsageError
from analyzer.model.edge import DAY, HOUR, Activity, EdgeStats, EdgeTable

__all__ = ["check_hour", "within"]

_ALL_HOURS = (1 << 24) - 1


def check_hour(time: int | None, name: str) -> None:
    """Raise UsageError for a bound inside an hour."""
    if time is not None and time % HOUR:
        raise UsageError(
            f"{name} lies inside an hour, and a store knows when things happened by the hour (UTC) only",
            hint="give a full hour such as 2026-09-01T14:00:00Z, or read the files instead of the store",
        )


def within(table: EdgeTable, since: int | None, until: int | None) -> EdgeTable:
    """The part of `table` that was active from `since` until just before `until`, both on full UTC hours (ns since the epoch).

    Weights and evidence are kept per day and per edge: a cell whose hours are only partly inside the window keeps its whole
    weight, and an edge its whole evidence, such as how much of it was answered. So a window never misses an edge, and its
    weights are upper bounds. First and last times are exact, or at an hour's edge where the window cuts a cell. The side tables
    and the counts of records, which have no time, stay those of the whole table. `table` is left as it was.
    Raises UsageError for a bound inside an hour.
    """
    check_hour(since, "--since")
    check_hour(until, "--until")
    if since is None and until is None:
        return table
    found = EdgeTable()
    for key, stats in table.edges.items():
        cut = EdgeStats()
        cut.merge(stats)
        cut.activity = {}
        for cell_key, activity in stats.activity.items():
            kept = _cut(cell_key.day, activity, since, until)
            if kept.hours:
                cut.activity[cell_key] = kept
        if cut.activity:
            found.stats(key).merge(cut)
    for endpoint, workloads in table.workloads.items():
        found.add_workloads(endpoint, workloads)
    for name in ("pods", "answers", "service_addresses"):
        getattr(found, name).merge(getattr(table, name))
    coverage = found.coverage
    coverage.merge(table.coverage)
    coverage.nodes = {}
    for (node, day), activity in table.coverage.nodes.items():
        kept = _cut(day, activity, since, until)
        if kept.hours:
            coverage.nodes[node, day] = kept
    return found


def _cut(day: int, activity: Activity, since: int | None, until: int | None) -> Activity:
    """The hours of a cell that lie in the window, and its first and last time moved into those hours."""
    start = day * DAY
    hours = activity.hours & _ALL_HOURS
    if since is not None:
        hours &= _ALL_HOURS << min(max((since - start) // HOUR, 0), 24)
    if until is not None:
        hours &= (1 << min(max((until - start) // HOUR, 0), 24)) - 1
    if not hours or hours == activity.hours:
        return Activity(activity.weight, hours, activity.first, activity.last)
    first_hour, last_hour = (hours & -hours).bit_length() - 1, hours.bit_length() - 1
    # What came last decides whether an edge counts as dropped: a drop at noon must not seem to be one at the window's end.
    first = max(activity.first, start + first_hour * HOUR)
    last = min(activity.last, start + (last_hour + 1) * HOUR - 1)
    return Activity(activity.weight, hours, first, last)
