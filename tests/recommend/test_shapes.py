"""Whatever flags shape it, a proposal passes its own check: the engine allows every accepted edge that was not refused."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.inventories import from_edges, merged
from analyzer.manifests import dump, parse
from analyzer.model.edge import ActivityKey, Edge, Side
from analyzer.model.flow import EventKind, Verdict
from analyzer.policy import parse as parse_policy
from analyzer.recommend import L7, Options, Settings, recommend
from analyzer.verify import check_proposal
from tests.recommend.build import START, edge, outside
from tests.recommend.test_http import PATHS
from tests.recommend.test_laws import INVENTORY, PODS, edges, validator

REQUEST = st.tuples(
    st.sampled_from(["GET", "POST"]),
    PATHS,
    st.sampled_from(["a", ""]),
    st.sampled_from([Verdict.FORWARDED, Verdict.DROPPED]),
)


@st.composite
def rich(draw: st.DrawFn) -> list[Edge]:
    """Edges with requests, lookups, and crowds of outside peers with and without names."""
    found = {each.key: each for each in draw(edges())}
    for each in [*found.values()]:
        if each.l4.port in (80, 443) and draw(st.booleans()):
            side = draw(st.sampled_from([Side.SOURCE, Side.DESTINATION]))
            each.stats.cell(ActivityKey(20_697, side, EventKind.L7, Verdict.FORWARDED, 0)).add(START, 1)
            for method, path, host, verdict in draw(st.lists(REQUEST, min_size=1, max_size=4)):
                each.stats.http.add((method, path, host, str(int(verdict))), draw(st.integers(1, 3)))
        if each.l4.port == 53 and draw(st.booleans()):
            each.stats.queries.add("api.example.com", 1)
    near = draw(st.sampled_from(PODS))
    for n in range(draw(st.sampled_from([0, 3, 12]))):
        far = outside(f"203.0.{n % 3}.{n * 5}")
        named = [f"n{n % 6}.example.net"] if draw(st.booleans()) else []
        ends = (near, far) if n % 2 else (far, near)
        made = edge(*ends, "443/TCP", names=named)
        found.setdefault(made.key, made)
    return list(found.values())


OPTIONS = st.builds(
    Options,
    st.builds(Settings, l7=st.sampled_from([frozenset(), frozenset({L7.HTTP}), frozenset(L7)])),
    zone_names=st.sampled_from([0, 2]),
    max_cidrs=st.sampled_from([1, 3, 32]),
    range_ports=st.sampled_from([0, 2, 8]),
)


@settings(max_examples=50, deadline=None)
@given(rich(), OPTIONS, st.one_of(st.none(), rich()))
def test_sound_and_valid(found: list[Edge], options: Options, before: list[Edge] | None) -> None:
    known = merged(from_edges(found), INVENTORY)
    known = replace(known, options=replace(known.options, ipv6=True))
    existing = [parse_policy(each) for each in recommend(before, known).documents()] if before else []
    options = replace(options, existing=tuple(existing))
    made = recommend(found, known, options)
    for document in made.documents():
        validator().validate(document)
        parse_policy(document)
    assert [each.data for each in parse(dump(made.manifests()))] == list(made.documents())
    checked = check_proposal(made, found, known, existing)
    assert checked.unsound == ()
    again = recommend(list(reversed(found)), known, options)
    assert (dump(again.manifests()), again.notes) == (dump(made.manifests()), made.notes)
