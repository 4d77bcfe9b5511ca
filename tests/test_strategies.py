"""The strategies are worth something: what they draw is mostly accepted, and reaches every kind of answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.model.inventory import AgentOptions
from tests.oracle.engine import decide
from tests.oracle.refused import refusal
from tests.refused_items import REFUSED_ITEMS, REFUSED_SPECS
from tests.strategies import documents, flows, policies, worlds


def _document(spec: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "CiliumNetworkPolicy", "metadata": {"name": "p", "namespace": "ns1"}, "spec": spec}


@pytest.mark.parametrize("item", REFUSED_ITEMS, ids=str)
def test_items_that_refuse_the_document(item: dict[str, Any]) -> None:
    assert refusal(_document({"endpointSelector": {}, "ingress": [{}, item]}), AgentOptions())


@pytest.mark.parametrize("spec", REFUSED_SPECS, ids=str)
def test_specs_that_refuse_the_document(spec: dict[str, Any]) -> None:
    assert refusal(_document(spec), AgentOptions())


def test_every_answer_is_reached() -> None:
    answers: Counter[str] = Counter()
    accepted: Counter[bool] = Counter()

    @settings(max_examples=80, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data(), documents())
    def collect(data: st.DataObject, document: dict[str, Any]) -> None:
        accepted[refusal(document, AgentOptions()) is None] += 1
        world, drawn = data.draw(worlds()), data.draw(policies())
        answers.update(letter for _ in range(8) for letter in decide(drawn, world, data.draw(flows(world))))

    collect()
    assert set("ADR+") <= set(answers)
    assert accepted[True] > accepted[False] > 0
