"""validate: which half refuses what and where; the agent's half is `parse`, told piece by piece."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from analyzer.errors import PolicyError
from analyzer.policy import parse
from analyzer.policy.validate import MAX_REFUSALS, Refusal, validate
from tests.conformance.case import read_cases
from tests.refused_items import REFUSED_ITEMS, REFUSED_SPECS
from tests.strategies import documents

VECTORS = Path(__file__).parents[1] / "conformance"


def cnp(spec: Any = None, **rest: Any) -> dict[str, Any]:
    meta = {"name": "p", "namespace": "ns1"}
    given = {} if spec is None else {"spec": spec}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, **given, **rest}


def knp(**spec: Any) -> dict[str, Any]:
    meta = {"name": "p", "namespace": "ns1"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def ingress(*items: Any) -> dict[str, Any]:
    return cnp({"endpointSelector": {}, "ingress": list(items)})


def ports(*listed: Any, **rest: Any) -> dict[str, Any]:
    return {"toPorts": [{"ports": list(listed), **rest}]}


def by(document: dict[str, Any], who: str) -> list[tuple[str, str]]:
    return [(each.field, each.message) for each in validate(document) if each.refused_by == who]


def fields(document: dict[str, Any], who: str) -> list[str]:
    return [field for field, _ in by(document, who)]


@pytest.mark.parametrize("name", ["cilium-named", "cilium-random"])
def test_the_agents_half_agrees_with_cilium(name: str) -> None:
    for case in read_cases(VECTORS / f"{name}.jsonl.gz"):
        for document, expected in zip(case.body["policies"], case.body["expect"]["policies"], strict=True):
            refused = any(each.refused_by == "agent" for each in validate(document, case.options))
            assert refused != expected["valid"], (case.id, document)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents())
def test_the_agents_half_refuses_exactly_what_parse_refuses(document: dict[str, Any]) -> None:
    try:
        parse(document)
        accepted = True
    except PolicyError:
        accepted = False
    assert accepted == (by(document, "agent") == [])


@pytest.mark.parametrize("item", REFUSED_ITEMS, ids=str)
def test_a_bad_item_is_named_wherever_it_stands(item: dict[str, Any]) -> None:
    good = {"fromEndpoints": [{}]}
    document = cnp({"endpointSelector": {}, "ingress": [good, item, good, item]})
    assert {field[: len("spec.ingress[0]")] for field in fields(document, "agent")} == {
        "spec.ingress[1]",
        "spec.ingress[3]",
    }
    several = {**document, "specs": [document["spec"], {"endpointSelector": {}, "ingress": [item]}]}
    found = {field.partition("]")[0] if field.startswith("specs") else "spec" for field in fields(several, "agent")}
    assert found == {"spec", "specs[0", "specs[1"}


@pytest.mark.parametrize("spec", REFUSED_SPECS, ids=str)
def test_a_bad_spec_is_refused(spec: dict[str, Any]) -> None:
    good = {"endpointSelector": {}, "ingress": [{}]}
    assert all(field.startswith("specs[1]") for field in fields(cnp(good, specs=[good, spec]), "agent"))
    assert fields(cnp(good, specs=[good, spec]), "agent")


def test_every_bad_piece_is_told() -> None:
    document = cnp(
        {
            "endpointSelector": {"matchLabels": {"app": "no!"}},
            "ingress": [{"fromEntities": ["everyone"], **ports({"port": "x y"})}, {"fromCIDR": ["192.0.2.1"]}],
            "egress": [
                {
                    "toPorts": [
                        {"ports": [{"port": "80"}]},
                        {"ports": [{"port": "80", "protocol": "UDP"}], "rules": {"http": [{}]}},
                        {"ports": [{"port": "70000"}]},
                    ]
                }
            ],
        }
    )
    document["metadata"]["name"] = ""
    assert fields(document, "agent") == [
        "metadata.name",
        "spec.endpointSelector.matchLabels.app",
        "spec.ingress[0].fromEntities[0]",
        "spec.ingress[0].toPorts[0].ports[0].port",
        "spec.ingress[1].fromCIDR[0]",
        "spec.egress[0].toPorts[1].rules",
        "spec.egress[0].toPorts[2].ports[0].port",
    ]


@pytest.mark.parametrize(
    ("document", "schema", "agent"),
    [
        (ingress(ports({"port": 80})), "spec.ingress[0].toPorts[0].ports[0].port", "spec.ingress[0].toPorts[0].ports[0].port"),
        (ingress(ports({"port": "80", "protocol": "tcp"})), "spec.ingress[0].toPorts[0].ports[0].protocol", None),
        (ingress(ports({"port": "80", "endPort": 65536})), "spec.ingress[0].toPorts[0].ports[0].endPort", None),
        (ingress(ports({"port": "80-90"})), None, "spec.ingress[0].toPorts[0].ports[0].port"),
        (ingress(ports({"port": "80", "protocol": "TCP"}, rules={})), "spec.ingress[0].toPorts[0].rules", None),
        (ingress({"fromEntities": ["world-ipv4"]}), "spec.ingress[0].fromEntities[0]", None),
        (ingress({"fromEndpoints": [{}], "fromEntities": ["world"]}), None, "spec.ingress[0]"),
        (ingress({"icmps": [{"fields": [{"type": 8, "family": "IPv5"}]}]}), "spec.ingress[0].icmps[0].fields[0].family",
         "spec.ingress[0].icmps[0].fields[0].family"),
        (ingress({"icmps": [{"fields": [{"type": "300"}]}]}), "spec.ingress[0].icmps[0].fields[0].type",
         "spec.ingress[0].icmps[0].fields[0].type"),
        (ingress(None), "spec.ingress[0]", None),
        (cnp({"nodeSelector": {}, "ingress": [{}]}), None, "spec.nodeSelector"),
        (cnp({"endpointSelector": {}}), "spec", "spec"),
        (cnp({"endpointSelector": {}, "ingress": []}), None, "spec"),
        (cnp(), None, "spec"),
        ({**ingress({}), "apiVersion": "cilium.io/v1"}, "apiVersion", None),
        ({**ingress({}), "metadata": {"name": "A_b"}}, "metadata.name", None),
        (knp(podSelector={}, ingress=[{"ports": [{"port": "80"}]}]), "spec.ingress[0].ports[0].port", None),
        (knp(podSelector={}, ingress=[{"ports": [{"port": 0}]}]), "spec.ingress[0].ports[0].port", None),
        (knp(podSelector={}, ingress=[{"ports": [{"endPort": 90}]}]), "spec.ingress[0].ports[0].endPort", None),
        (knp(podSelector={}, ingress=[{"ports": [{"port": "web", "endPort": 90}]}]), "spec.ingress[0].ports[0].endPort", None),
        (knp(podSelector={}, ingress=[{"ports": [{"port": 91, "endPort": 90}]}]), "spec.ingress[0].ports[0].endPort", None),
        (knp(podSelector={}, ingress=[{"ports": [{"port": 70000}]}]), "spec.ingress[0].ports[0].port",
         "spec.ingress[0].ports[0].port"),
        (knp(podSelector={}, ingress=[{"from": [{}]}]), "spec.ingress[0].from[0]", None),
        (knp(podSelector={}, ingress=[{"from": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]),
         "spec.ingress[0].from[0]", None),
        (knp(podSelector={}, ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.1"}}]}]),
         "spec.ingress[0].from[0].ipBlock.cidr", None),
        (knp(podSelector={}, egress=[{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}]),
         "spec.egress[0].to[0].ipBlock.except[0]", None),
        (knp(podSelector={}, policyTypes=["ingress"]), "spec.policyTypes[0]", None),
        (knp(podSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
         "spec.podSelector.matchExpressions[0].values", "spec.podSelector.matchExpressions[0].values"),
        (knp(podSelector={}, ingress=[{"fromEndpoints": []}]), "spec.ingress[0].fromEndpoints", None),
        (knp(podSelector={}, ingress=[None]), None, None),
    ],
    ids=lambda each: str(each)[-70:],
)  # fmt: skip
def test_which_half_refuses(document: dict[str, Any], schema: str | None, agent: str | None) -> None:
    assert fields(document, "schema") == ([] if schema is None else [schema])
    assert fields(document, "agent") == ([] if agent is None else [agent])


def test_unknown_fields_are_told_as_what_they_are() -> None:
    document = ingress({"fromEndpoint": [{}], "FromEntities": ["world"]})
    document["metadata"]["team"] = "a"
    found = validate(document)
    assert [(each.field, each.pruned) for each in found] == [
        ("metadata.team", True), ("spec.ingress[0].fromEndpoint", True), ("spec.ingress[0].FromEntities", True),
    ]  # fmt: skip
    assert "strict" in found[0].message
    assert "fromEntities is meant?" in found[2].message


@pytest.mark.parametrize("document", [{}, {"kind": "Pod"}, {"kind": ["NetworkPolicy"]}, {"kind": None}])
def test_what_is_no_policy(document: dict[str, Any]) -> None:
    assert [(each.field, each.refused_by) for each in validate(document)] == [("kind", "schema")]


def test_no_more_refusals_than_anybody_reads() -> None:
    document = ingress(*({"fromEntities": ["?"], "x": 1} for _ in range(5_000)))
    found = validate(document)
    assert len(found) == 2 * MAX_REFUSALS
    assert found[0] == Refusal("spec.ingress[0].x", found[0].message, "schema", pruned=True)


@pytest.mark.parametrize("value", [None, True, 1, 1.5, "x" * 100_000, "a-" * 50_000 + "!", [], [[]], {}, {"a": {}}])
@pytest.mark.parametrize("where", ["metadata", "spec", "specs", "apiVersion"])
def test_any_value_anywhere_is_answered(value: Any, where: str) -> None:
    assert all(isinstance(each, Refusal) for each in validate({**ingress({}), where: value}))


@pytest.mark.parametrize(
    "text", ["a-" * 100_000 + "!", "a" * 200_000 + "!", "." * 100_000, "1" * 100_000, "*." * 100_000]
)
def test_no_text_takes_long(text: str) -> None:
    item = {
        "fromCIDR": [text], "fromCIDRSet": [{"cidrGroupRef": text}], "fromEntities": [text],
        "fromEndpoints": [{"matchLabels": {"a": text, text: ""}}], "icmps": [{"fields": [{"type": text}]}],
        **ports({"port": text}, serverNames=[text], rules={"http": [{"path": "ok"}], "dns": [{"matchPattern": text}]}),
    }  # fmt: skip
    document = ingress(item)
    document["metadata"]["name"] = document["metadata"]["namespace"] = text
    assert len(validate(document)) > 5
