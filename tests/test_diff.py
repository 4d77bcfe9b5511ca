"""The laws of the diff: nothing differs from itself, turning it round mirrors it, every edge is in it, allowing never denies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.diff import Change, Diff, compare
from analyzer.model.edge import Edge, Endpoint, Status
from analyzer.model.inventory import Inventory
from analyzer.model.labels import Labels
from analyzer.policy import Policy
from analyzer.simulate import Outcomes, observed, simulate
from tests.recommend.build import API_SERVER, CART, HOST, REDIS, REMOTE_NODE, edge, outside, pod
from tests.test_simulate import cnp, ports

Doc = dict[str, Any]
ENDS = [CART, REDIS, pod("batch", app="cart"), HOST, REMOTE_NODE, API_SERVER, outside("198.51.100.7")]
ENDS += [outside("203.0.113.0/24"), outside("unknown"), Endpoint(Labels(), "shop", name="masked")]
PORTS = ["80/TCP", "443/TCP", "53/UDP", "ICMP/8"]
STATUSES = [*[Status.FORWARDED] * 4, *Status]

labels = st.sampled_from([{"app": "cart"}, {"app": "redis"}, {}])
spaces = st.sampled_from([{}, {"k8s:io.kubernetes.pod.namespace": "batch"}])


@st.composite
def edges(draw: st.DrawFn) -> list[Edge]:
    found = {}
    for _ in range(draw(st.integers(0, 10))):
        source, destination = draw(st.sampled_from(ENDS)), draw(st.sampled_from(ENDS[:3]))
        if draw(st.booleans()):
            source, destination = destination, source
        made = edge(source, destination, draw(st.sampled_from(PORTS)), status=draw(st.sampled_from(STATUSES)))
        for path in draw(st.lists(st.sampled_from(["/a", "/b"]), max_size=2)):
            made.stats.http.add(("GET", path, "", "1"))
        found[made.key] = made
    return list(found.values())


@st.composite
def items(draw: st.DrawFn, word: str) -> Doc:
    """One allow rule that an agent takes."""
    peers = [
        {f"{word}Endpoints": [{"matchLabels": {**draw(labels), **draw(spaces)}}]},
        {f"{word}Entities": [draw(st.sampled_from(["world", "remote-node", "cluster", "kube-apiserver", "all"]))]},
        {f"{word}CIDR": [draw(st.sampled_from(["198.51.100.0/24", "203.0.113.128/25", "0.0.0.0/0"]))]},
        {},
    ]
    layer4 = [
        {"toPorts": ports(*draw(st.lists(st.sampled_from(PORTS[:3]), min_size=1, max_size=2)))},
        {"toPorts": [{**ports("80/TCP")[0], "rules": {"http": [{"path": draw(st.sampled_from(["/a", "/b"]))}]}}]},
        {"icmps": [{"fields": [{"type": 8}]}]},
        {},
    ]
    return {**draw(st.sampled_from(peers)), **draw(st.sampled_from(layer4))}


@st.composite
def policies(draw: st.DrawFn) -> list[Policy]:
    found = []
    for number in range(draw(st.integers(0, 3))):
        sections: dict[str, list[Doc]] = {}
        for section, word in (("ingress", "from"), ("egress", "to"), ("ingressDeny", "from")):
            if draw(st.booleans()):
                rules = draw(st.lists(items(word), min_size=1, max_size=2))
                drop = {"toPorts", "icmps"} if section.endswith("Deny") else set()
                sections[section] = [{k: v for k, v in rule.items() if k not in drop} for rule in rules]
        if sections:
            found.append(cnp(f"p{number}", draw(st.sampled_from(["shop", "batch"])), draw(labels), **sections))
    return found


@st.composite
def outcomes(draw: st.DrawFn, found: list[Edge]) -> Outcomes:
    return observed(found) if draw(st.integers(0, 3)) == 3 else simulate(found, draw(policies()), Inventory())


MIRROR = {
    Change.WOULD_BE_DROPPED: Change.NEWLY_ALLOWED,
    Change.NEWLY_ALLOWED: Change.WOULD_BE_DROPPED,
    Change.STILL_DENIED: Change.STILL_DENIED,
    Change.UNCHANGED: Change.UNCHANGED,
    Change.UNDECIDED: Change.UNDECIDED,
}


@settings(max_examples=100, deadline=None)
@given(st.data(), edges())
def test_nothing_differs_from_itself(data: st.DataObject, found: list[Edge]) -> None:
    made = data.draw(outcomes(found))
    diff = compare(made, made)
    assert diff.empty
    assert not diff.of(Change.WOULD_BE_DROPPED) + diff.of(Change.NEWLY_ALLOWED)


@settings(max_examples=150, deadline=None)
@given(st.data(), edges())
def test_turned_round_it_is_mirrored_and_every_edge_is_in_it(data: st.DataObject, found: list[Edge]) -> None:
    one, other = data.draw(outcomes(found)), data.draw(outcomes(found))
    there, back = compare(one, other), compare(other, one)
    assert [each.edge for each in there.findings] == found
    assert sum(there.counts.values()) == len(found)
    for each, mirrored in zip(there.findings, back.findings, strict=True):
        assert MIRROR[each.change] is mirrored.change
        assert (each.before, each.after) == (mirrored.after, mirrored.before)
        if each.change in (Change.WOULD_BE_DROPPED, Change.NEWLY_ALLOWED):
            assert each.denied == mirrored.denied
            assert each.denied
    changed = {Change.WOULD_BE_DROPPED, Change.NEWLY_ALLOWED} & set(there.counts)
    assert not (changed and (there.empty or back.empty))


@settings(max_examples=150, deadline=None)
@given(st.data(), edges(), policies(), st.sampled_from(["ingress", "egress"]))
def test_one_more_allow_never_denies(
    data: st.DataObject, found: list[Edge], before: list[Policy], section: str
) -> None:
    """Under enforcement: an allow that turns default deny on where nothing was enforced does deny, of course."""
    rule = data.draw(items("from" if section == "ingress" else "to"))
    more = cnp("more", "shop", {}, enableDefaultDeny={section: False}, **{section: [rule]})
    diff = compare(simulate(found, before, Inventory()), simulate(found, [*before, more], Inventory()))
    assert not diff.of(Change.WOULD_BE_DROPPED)


def test_both_sides_must_speak_of_the_same_edges() -> None:
    seen = [edge(CART, REDIS, "80/TCP")]
    with pytest.raises(ValueError, match="different edges"):
        compare(observed(seen), observed([]))


def findings(before: list[Policy], after: list[Policy], *seen: Edge) -> Diff:
    return compare(simulate(seen, before, Inventory()), simulate(seen, after, Inventory()))


def test_a_finding_tells_the_direction_and_the_rule_that_denies() -> None:
    (found,) = findings([], [cnp(subject={"app": "redis"}, ingress=[{}])], edge(CART, REDIS, "80/TCP")).findings
    assert found.change is Change.WOULD_BE_DROPPED
    assert [direction for direction, _ in found.denied] == ["ingress"]
    assert "default deny" in found.reason
    assert "CiliumNetworkPolicy shop/p" in found.reason
    deny = cnp(subject={"app": "redis"}, ingressDeny=[{"fromEndpoints": [{"matchLabels": {"app": "cart"}}]}])
    (found,) = findings([], [deny], edge(CART, REDIS, "80/TCP")).findings
    assert found.denied[0][1].rules == ("CiliumNetworkPolicy shop/p ingressDeny[0]",)


def test_an_edge_that_stays_allowed_may_lose_requests() -> None:
    seen = edge(CART, REDIS, "80/TCP")
    seen.stats.http.add(("PUT", "/a", "", "1"))
    seen.stats.http.add(("GET", "/a", "", "1"))
    only_get = [{**ports("80/TCP")[0], "rules": {"http": [{"method": "GET"}]}}]
    diff = findings([], [cnp(ingress=[{"toPorts": only_get}])], seen)
    assert [each.after.refused_requests for each in diff.refused_requests] == [("PUT /a",)]
    assert not diff.empty
    (found,) = diff.findings
    assert found.change is Change.UNCHANGED
