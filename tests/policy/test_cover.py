"""Rules that others make idle: what is said to be covered is covered in every decision."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import PolicyError
from analyzer.policy import Outcome, parse
from analyzer.policy.cover import Shadow, shadows
from tests.oracle.world import World
from tests.policy.build import QUICK, Doc, cnp, compiled_in, ports, traffic
from tests.strategies import flows, policies, worlds

WEB = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
ANY_WEB = {"fromEndpoints": [{"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}]}
GET = {"rules": {"http": [{"method": "GET"}]}}


def found(*documents: Doc) -> dict[str, tuple[str, bool, bool]]:
    return {
        f"{origin.name} {origin.section}[{origin.rule}]": (
            f"{shadow.by.name} {shadow.by.section}[{shadow.by.rule}]",
            shadow.denied,
            shadow.unfiltered,
        )
        for origin, shadow in shadows(map(parse, documents)).items()
    }


def pair(narrow: Doc, wide: Doc) -> bool:
    """Whether the first is idle beside the second, and not the other way round."""
    both = found(cnp("a", ingress=[narrow]), cnp("b", ingress=[wide]))
    assert "b ingress[0]" not in both
    return both.get("a ingress[0]") == ("b ingress[0]", False, False)


def _cidr(cidr: str, *holes: str) -> Doc:
    return {"fromCIDRSet": [{"cidr": cidr, "except": list(holes)}]}


COVERED: list[tuple[str, Doc, Doc]] = [
    ("every port", {**WEB, "toPorts": [ports("80/TCP")]}, WEB),
    ("every peer", {**WEB, "toPorts": [ports("80/TCP")]}, {"toPorts": [ports("80/TCP")]}),
    ("all", {"fromEntities": ["world", "host"]}, {"fromEntities": ["all"]}),
    ("fewer labels", {"fromEndpoints": [{"matchLabels": {"app": "web", "tier": "x"}}]}, WEB),
    ("a range", {"toPorts": [ports("80/TCP")]}, {"toPorts": [{"ports": [{"port": "1", "endPort": 99, "protocol": "TCP"}]}]}),
    ("ANY", {"toPorts": [ports("80/TCP")]}, {"toPorts": [ports("80/ANY")]}),
    ("its protocols one by one", {"toPorts": [ports("80/ANY")]}, {"toPorts": [ports("80/TCP", "80/UDP", "80/SCTP", "1/TCP")]}),
    ("a name, by every port", {"toPorts": [ports("web/TCP")]}, {"toPorts": [ports("0/TCP")]}),
    ("several items", {"toPorts": [ports("80/TCP", "81/TCP")]}, {"toPorts": [ports("80/TCP"), ports("81/TCP"), ports("82/TCP")]}),
    ("a wider prefix", {"fromCIDR": ["192.0.2.0/25"]}, {"fromCIDR": ["192.0.2.0/24"]}),
    ("holes elsewhere", {"fromCIDR": ["192.0.2.0/25"]}, _cidr("192.0.2.0/24", "192.0.2.128/25")),
    ("holes inside holes", _cidr("192.0.2.0/24", "192.0.2.0/28"), _cidr("192.0.0.0/16", "192.0.2.0/30")),
    ("world", {"fromCIDR": ["0.0.0.0/0"]}, {"fromEntities": ["world"]}),
    ("cluster", WEB, {"fromEntities": ["cluster"]}),
    ("the mesh", {"fromEntities": ["cluster"]}, {"fromEntities": ["cluster-mesh"]}),
    ("every ICMP type", {"icmps": [{"fields": [{"type": 8}]}]}, {"icmps": [{"fields": [{"type": 0}]}]}),
]  # fmt: skip
NOT_COVERED: list[tuple[str, Doc, Doc]] = [
    ("another port", {**WEB, "toPorts": [ports("80/TCP")]}, {**WEB, "toPorts": [ports("81/TCP")]}),
    ("another protocol", {"toPorts": [ports("80/ANY")]}, {"toPorts": [ports("80/TCP")]}),
    ("ports only", WEB, {**WEB, "toPorts": [ports("0/ANY")]}),
    ("other labels", WEB, {"fromEndpoints": [{"matchLabels": {"app": "web", "tier": "x"}}]}),
    ("a name for another", {"toPorts": [ports("web/TCP")]}, {"toPorts": [ports("api/TCP")]}),
    ("a name, by a range", {"toPorts": [ports("web/TCP")]}, {"toPorts": [{"ports": [{"port": "1", "endPort": 9}]}]}),
    ("a hole", {"fromCIDR": ["192.0.2.0/25"]}, _cidr("192.0.2.0/24", "192.0.2.0/28")),
    ("another family", {"fromCIDR": ["192.0.2.0/25"]}, {"fromCIDR": ["2001:db8::/32"]}),
    ("cluster, for world", {"fromCIDR": ["192.0.2.0/24"]}, {"fromEntities": ["cluster"]}),
    ("cluster, for all", {"fromEntities": ["all"]}, {"fromEntities": ["cluster"]}),
    ("plain, by L7 rules", {"toPorts": [ports("80/TCP")]}, {"toPorts": [ports("80/TCP", **GET)]}),
    ("ICMP, by ports", {"icmps": [{"fields": [{"type": 8}]}]}, {"toPorts": [ports("0/ANY")]}),
]


@pytest.mark.parametrize(("narrow", "wide"), [pytest.param(*each[1:], id=each[0]) for each in COVERED])
def test_covered(narrow: Doc, wide: Doc) -> None:
    assert pair(narrow, wide)


@pytest.mark.parametrize(("narrow", "wide"), [pytest.param(*each[1:], id=each[0]) for each in NOT_COVERED])
def test_not_covered(narrow: Doc, wide: Doc) -> None:
    assert "a ingress[0]" not in found(cnp("a", ingress=[narrow]), cnp("b", ingress=[wide]))


def test_the_subject_has_to_be_as_wide() -> None:
    one, every = cnp("one", app="web", ingress=[WEB]), cnp("every", ingress=[WEB])
    assert found(one, every) == {"one ingress[0]": ("every ingress[0]", False, False)}
    assert found(one, cnp("every", "ns2", ingress=[WEB])) == {}
    clusterwide = cnp("every", "", ingress=[{"fromEntities": ["all"]}])
    assert found(one, clusterwide) == {"one ingress[0]": ("every ingress[0]", False, False)}


def test_of_twins_the_later_one_is_idle() -> None:
    assert found(cnp("b", ingress=[WEB]), cnp("a", ingress=[WEB])) == {"b ingress[0]": ("a ingress[0]", False, False)}
    assert found(cnp("a", ingress=[WEB, WEB])) == {"a ingress[1]": ("a ingress[0]", False, False)}


def test_directions_and_actions_are_kept_apart() -> None:
    to_web = {"toEndpoints": WEB["fromEndpoints"]}
    assert found(cnp("a", ingress=[WEB], egress=[to_web])) == {}
    denied = found(cnp("a", ingress=[WEB], ingressDeny=[ANY_WEB, {"fromEntities": ["cluster"]}]))
    assert denied["a ingress[0]"] == ("a ingressDeny[1]", True, False)
    assert found(cnp("a", ingress=[{"fromEntities": ["all"]}], ingressDeny=[WEB])) == {}


def test_l7_rules_beside_a_plain_rule_filter_nothing() -> None:
    filtered, plain = {"toPorts": [ports("80/TCP", **GET)]}, {"toPorts": [ports("80/TCP")]}
    assert found(cnp("a", ingress=[filtered, plain])) == {"a ingress[0]": ("a ingress[1]", False, True)}
    assert found(cnp("a", ingress=[filtered, filtered])) == {"a ingress[1]": ("a ingress[0]", False, False)}


@pytest.mark.parametrize("nothing", [{}, {"fromEndpoints": []}, {"toPorts": [{}]}], ids=str)
def test_a_rule_that_chooses_nothing_is_idle_by_itself(nothing: Doc) -> None:
    assert found(cnp("a", ingress=[nothing, {"fromEntities": ["all"]}])) == {}


@settings(QUICK, max_examples=60)
@given(st.data(), worlds(), policies(4))
def test_what_is_covered_never_decides_alone(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    """Each document once more under another name, so that there is something to find beside what is found by chance."""
    copies: list[Doc] = [{**each, "metadata": {**each["metadata"], "name": "zz"}} for each in drawn]
    accepted: list[Any] = []
    for document in [*drawn, *copies]:
        try:
            accepted.append(parse(document, world.options))
        except PolicyError:
            continue
    idle: dict[Any, Shadow] = dict(shadows(accepted, world.options))
    compiled = compiled_in([*drawn, *copies], world)
    for _ in range(12):
        decision = compiled.decide(traffic(data.draw(flows(world)), world))
        for side in (decision.egress, decision.ingress):
            for origin in side.allowing:
                if origin in idle:
                    shadow = idle[origin]
                    assert side.outcome is Outcome.DENIED if shadow.denied else shadow.by in side.allowing
