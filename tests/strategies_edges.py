"""Hypothesis strategies for endpoints, edge keys, stats and whole edge tables, with crowds and bounded sets that overflow.

Their vocabulary is small, so that tables drawn apart meet in keys, cells, crowds and names. `SMALL_LIMITS` makes overflowing cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from analyzer.model import edge
from analyzer.model.bounded import Bounded
from analyzer.model.edge import DAY, ActivityKey, EdgeKey, EdgeStats, EdgeTable, Endpoint
from analyzer.model.flow import Skip
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Label, Labels

__all__ = ["edge_keys", "endpoints", "outside_endpoints", "small_limits", "stats", "tables"]

CROWD = 3
_LIMITS = {
    "names": 3,
    "queries": 2,
    "http": 3,
    "samples": 2,
    "allowed_by": 2,
    "denied_by": 2,
    "services": 2,
    "pairs": 2,
}
START = 20_697 * DAY

# Labels and names come from whoever runs a pod: they may hold anything that is text.
HOSTILE = ["", "\x00", "a\x00b", "ü\u2028\U0001f980", "'; DROP TABLE x; --", "<script>", "\x1b[31m", "..", "%s{0}"]

APPS = [Labels.of([f"k8s:app={name}", f"k8s:io.kubernetes.pod.namespace={space}"]) for name in "ab" for space in "xy"]
RESERVED = [Labels.of(names) for names in (["reserved:host"], ["reserved:kube-apiserver", "reserved:remote-node"])]
WORLDS = [Labels.of(["reserved:world"]), Labels.of(["reserved:kube-apiserver", "reserved:world"]), Labels()]
V4 = [f"198.{a}.{b}.{c}" for a in (51, 18) for b in (0, 100) for c in (1, 2, 200)]
V6 = [f"2001:db8:{a}:{b}::{c}" for a in (0, 1) for b in (0, "ff") for c in (1, 2)]
ODD = [
    "unknown",
    "not an address",
    "1.2.3",
    "1.2.3.4.5",
    "1.2.3.04",
    "1.2.3.4/25",
    "foo/8",
    "fe80::1%eth0",
    "::x",
    "a/b",
]
PREFIXES = ["198.51.100.0/24", "198.51.0.0/16", "0.0.0.0/0", "2001:db8::/64", "2001:db8::/32", "::/0"]
DAYS, CLUSTERS = [0, 20_697, 20_698], ["default", "east", "", "a\x00b"]
TIMES = st.tuples(st.sampled_from(DAYS), st.integers(0, DAY - 1)).map(lambda pair: pair[0] * DAY + pair[1])


@contextmanager
def small_limits() -> Iterator[None]:
    """While this lasts, four outside addresses are a crowd, and three names too many."""
    with (
        mock.patch.object(edge, "CROWD", CROWD),
        mock.patch.dict(edge._EVIDENCE_LIMITS, _LIMITS),
        mock.patch.multiple(edge, MAX_PODS=3, MAX_WORKLOADS=2, MAX_ANSWERS=3, MAX_SERVICE_ADDRESSES=2),
    ):
        yield


def words(prefix: str, count: int = 5) -> st.SearchStrategy[str]:
    """One of a few names, or hostile text."""
    return st.sampled_from([f"{prefix}{n}" for n in range(count)] * 3 + HOSTILE)


@st.composite
def endpoints(draw: st.DrawFn) -> Endpoint:
    """An end inside the cluster: a pod, a pod known only by name, a reserved identity, or a pod with hostile labels."""
    kind = draw(st.sampled_from(["pod", "pod", "pod", "named", "reserved", "hostile"]))
    if kind == "reserved":
        return Endpoint(draw(st.sampled_from(RESERVED)))
    if kind == "named":
        return Endpoint(Labels(), "x", draw(st.sampled_from(["", "east"])), draw(words("pod-")))
    if kind == "hostile":
        labels = draw(st.lists(st.tuples(*[st.sampled_from(HOSTILE)] * 3), max_size=2))
        return Endpoint(Labels.of(Label(*each) for each in labels), draw(st.sampled_from(HOSTILE)), "", "x")
    return Endpoint(draw(st.sampled_from(APPS)), draw(st.sampled_from("xy")), draw(st.sampled_from(["", "east"])))


@st.composite
def outside_endpoints(draw: st.DrawFn) -> Endpoint:
    """An end outside the cluster: world, an external API server or nothing at all, and its address."""
    address = draw(st.sampled_from(V4 * 3 + V6 * 3 + ODD + PREFIXES))
    return Endpoint(draw(st.sampled_from(WORLDS)), address=address)


@st.composite
def edge_keys(draw: st.DrawFn) -> EdgeKey:
    """Any edge: within the cluster or with an outside end, of known or unknown direction."""
    inside, other = draw(endpoints()), draw(st.one_of(endpoints(), outside_endpoints(), outside_endpoints()))
    ends = draw(st.sampled_from([(inside, other), (other, inside)]))
    directed = draw(st.sampled_from([True, True, True, False]))
    choices = [
        L4(Protocol.TCP, 443),
        L4(Protocol.TCP, 80),
        L4(Protocol.UDP, 53),
        L4(Protocol.ICMP, 8),
        L4(Protocol.VRRP),
    ]
    return EdgeKey(draw(st.sampled_from(CLUSTERS)), *ends, draw(st.sampled_from(choices)), directed)


PORTS = st.sampled_from(["0", "53", "443", "8080", "40000", "50000"])


def texts(width: int) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*[words(f"{n}-", 3) for n in range(width)])


_EVIDENCE: dict[str, st.SearchStrategy[Any]] = {
    "names": words("name"), "queries": words("query"), "services": words("service"), "samples": words("uuid"),
    "http": texts(4), "allowed_by": texts(4), "denied_by": texts(4), "pairs": st.tuples(PORTS, PORTS),
}  # fmt: skip


def _fill(draw: st.DrawFn, target: Callable[[], Bounded[Any]], keys: st.SearchStrategy[Any]) -> None:
    for key, weight in draw(st.lists(st.tuples(keys, st.integers(1, 1 << 40)), max_size=5)):
        target().add(key, weight)
    if draw(st.integers(0, 9)) == 0:
        target().overflow = True


@st.composite
def stats(draw: st.DrawFn) -> EdgeStats:
    """Some activity and some evidence; limits as they are in force while drawing."""
    made = EdgeStats()
    for time, side, rest in draw(
        st.lists(st.tuples(TIMES, st.integers(0, 2), st.sampled_from([(4, 1, 0), (1, 2, 133), (5, 4, 0)])), max_size=4)
    ):
        key = ActivityKey(time // DAY, side, *rest)
        made.cell(key).add(time, draw(st.sampled_from([0, 1, 1, 7, 1 << 40])))
    for name in EdgeStats.WEIGHTS:
        setattr(made, name, draw(st.sampled_from([0, 0, 1, 1 << 40])))
    for name in draw(st.sets(st.sampled_from(EdgeStats.EVIDENCE), max_size=3)):
        if name == "samples":
            for key in draw(st.lists(_EVIDENCE[name], max_size=4)):
                made.samples.add(key)
        else:
            _fill(draw, lambda name=name: getattr(made, name), _EVIDENCE[name])  # type: ignore[misc]
    return made


@st.composite
def tables(draw: st.DrawFn, max_edges: int = 8) -> EdgeTable:
    """A table with everything in it. Draw it within `small_limits` to see its sets overflow and its crowds truncated."""
    table = EdgeTable()
    for key, found in draw(st.lists(st.tuples(edge_keys(), stats()), max_size=max_edges)):
        table.stats(key).merge(found)
    if draw(st.booleans()):
        inside, l4 = Endpoint(APPS[0], "x"), L4(Protocol.TCP, 443)
        for address in draw(st.lists(st.sampled_from(V4 + V6), max_size=8)):
            table.stats(EdgeKey("default", inside, Endpoint(WORLDS[0], address=address), l4)).answered += 1
    _fill_sides(draw, table)
    coverage = table.coverage
    coverage.edge_records = draw(st.integers(0, 1 << 40))
    coverage.skipped.update(draw(st.dictionaries(st.sampled_from(Skip), st.integers(0, 1 << 40), max_size=3)))
    for name, time in draw(st.lists(st.tuples(words("node"), TIMES), max_size=3)):
        coverage.node(name, time // DAY).add(time, 1)
    counted = st.dictionaries(st.tuples(words("node"), st.integers(0, 9)), st.integers(0, (1 << 64) - 1), max_size=2)
    coverage.lost.update(draw(counted))
    coverage.statuses.update(draw(counted))
    return table


def _fill_sides(draw: st.DrawFn, table: EdgeTable) -> None:
    for endpoint, names in draw(st.lists(st.tuples(endpoints(), st.lists(texts(2), max_size=3)), max_size=3)):
        found: Bounded[tuple[str, ...]] = Bounded(10)
        for name in names:
            found.add(name)
        table.add_workloads(endpoint, found)
    _fill(draw, lambda: table.pods, st.one_of(texts(3), texts(4)))
    _fill(draw, lambda: table.answers, texts(3))
    _fill(draw, lambda: table.service_addresses, texts(4))
