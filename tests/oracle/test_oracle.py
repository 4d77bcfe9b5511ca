"""The oracle against the answers of Cilium's own policy engine."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.model.l4 import L4, Protocol
from tests.oracle.engine import allowed, decide
from tests.oracle.refused import refusal
from tests.oracle.world import World

CASES = Path(__file__).resolve().parents[1] / "conformance"
STEP = 10
"""Every STEP-th random case: all of them take too long for each run."""


def _cases(name: str, step: int = 1) -> Iterator[dict[str, Any]]:
    with gzip.open(CASES / name, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number % step == 0:
                yield json.loads(line)


def _check(case: dict[str, Any]) -> None:
    world = World.of_case(case)
    valid = [refusal(policy, world.options) is None for policy in case["policies"]]
    assert valid == [each["valid"] for each in case["expect"]["policies"]], case["id"]
    for flow, expected in zip(case["flows"], case["expect"]["flows"], strict=True):
        assert decide(case["policies"], world, flow) == expected, (case["id"], flow)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in _cases("cilium-named.jsonl.gz")])
def test_named_cases(case: dict[str, Any]) -> None:
    _check(case)


@pytest.mark.parametrize("case", [pytest.param(case, id=case["id"]) for case in _cases("cilium-random.jsonl.gz", STEP)])
def test_random_cases(case: dict[str, Any]) -> None:
    _check(case)


def test_allowed_between_loose_parties() -> None:
    policy = {
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "db"}},
            "ingress": [
                {
                    "fromEndpoints": [{"matchLabels": {"app": "web"}}],
                    "toPorts": [{"ports": [{"port": "5432", "protocol": "TCP"}]}],
                }
            ],
            "egress": [{"toFQDNs": [{"matchPattern": "*.example.com"}]}],
        },
    }
    cluster = "k8s:io.cilium.k8s.policy.cluster=default"
    space = "k8s:io.kubernetes.pod.namespace=shop"
    web, db = (["k8s:app=web", space, cluster], "10.0.0.1", ()), (["k8s:app=db", space, cluster], "10.0.0.2", ())
    site = (["reserved:world"], "192.0.2.1", ("www.example.com",))
    assert allowed([policy], web, db, L4(Protocol.TCP, 5432))
    assert not allowed([policy], web, db, L4(Protocol.TCP, 5433))
    assert not allowed([policy], site, db, L4(Protocol.TCP, 5432))
    assert allowed([policy], db, site, L4(Protocol.TCP, 443))
    assert not allowed([policy], db, web, L4(Protocol.TCP, 443))
