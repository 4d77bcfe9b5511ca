"""Crowds while aggregating: what is remembered between records must not outlive the truncation of its crowd."""

from __future__ import annotations

import random

import pytest

from analyzer.aggregate import Aggregator, aggregate
from analyzer.model.edge import EdgeTable
from tests.flows import WORLD, pod, tcp

V4 = [f"198.{n % 3}.{n % 200}.{n // 200}" for n in range(300)]
V6 = [f"2001:db8:{n:x}::1" for n in range(300)]
MIXTURES = {
    "masked before": ["", *V4],
    "masked between": [*V4[:200], "", *V4[200:], "", V4[0]],
    "no address": ["foo", *V4, "bar/8", "1.2.3.04", *V4],
    "both families": [address for pair in zip(V4, V6, strict=True) for address in pair],
}


@pytest.mark.parametrize("addresses", MIXTURES.values(), ids=MIXTURES)
def test_order_and_grouping_of_records_change_nothing(addresses: list[str]) -> None:
    # The pod's own address is always IPv4 here, also where its peer's is not: records are not to be trusted.
    flows = [tcp(pod("cart"), WORLD, 443, source_ip="10.0.0.1", destination_ip=address) for address in addresses * 2]
    whole = aggregate(flows)
    assert sum(stats.weight for stats in whole.edges.values()) == len(flows)
    random.Random(3).shuffle(flows)
    assert aggregate(flows) == whole
    spilling, merged = Aggregator(), EdgeTable()
    for start in range(0, len(flows), 70):
        spilling.add_records(flows[start : start + 70])
        merged.merge(spilling.take())
    assert merged == whole
