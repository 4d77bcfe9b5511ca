"""Calibrating: verdicts are counted as the cluster gave them, and what disagrees has a cause."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.calibrate import Calibration, Cause, calibrate
from analyzer.model.edge import ActivityKey, Edge, EdgeKey, EdgeStats, Side, Status
from analyzer.model.flow import DropReason, EventKind, Verdict
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.policy import Policy
from analyzer.simulate import Result, simulate
from tests.recommend.build import CART, REDIS, START
from tests.test_simulate import cnp, ports
from tests.test_verify import FROM_CART

VERDICT, TRACE, DROP = EventKind.POLICY_VERDICT, EventKind.TRACE, EventKind.DROP


def verdicts(*cells: tuple[Side, EventKind, Verdict, int, int], **by: tuple[str, ...]) -> Edge:
    stats = EdgeStats()
    for side, kind, verdict, reason, weight in cells:
        stats.cell(ActivityKey(20_697, side, kind, verdict, reason)).add(START + len(stats.activity), weight)
    for evidence, name in by.items():
        getattr(stats, evidence).add(name)
    return Edge(EdgeKey("default", CART, REDIS, L4.parse("6379/TCP")), stats, Status.FORWARDED)


def calibrated(seen: Edge, *policies: Policy) -> Calibration:
    return calibrate([seen], simulate([seen], policies, Inventory()), policies)


AT = Side.DESTINATION
ALLOW = cnp("redis", subject={"app": "redis"}, ingress=[FROM_CART])
CLOSE = cnp("redis", subject={"app": "redis"}, ingress=[{}])
ALLOWED = (AT, VERDICT, Verdict.FORWARDED, 0)
DENIED = (AT, VERDICT, Verdict.DROPPED, int(DropReason.POLICY_DENIED))
NAMED = ("INGRESS", "CiliumNetworkPolicy", "shop", "redis")


@pytest.mark.parametrize(
    ("cells", "policy", "agreed", "disagreed"),
    [
        ([(*ALLOWED, 7)], ALLOW, 7, {}),
        ([(*DENIED, 3)], CLOSE, 3, {}),
        ([(AT, VERDICT, Verdict.AUDIT, 0, 5)], CLOSE, 5, {}),
        ([(AT, VERDICT, Verdict.REDIRECTED, 0, 2)], ALLOW, 2, {}),
        ([(AT, DROP, Verdict.DROPPED, 133, 4)], CLOSE, 4, {}),
        ([(*DENIED, 3), (AT, DROP, Verdict.DROPPED, 133, 3)], CLOSE, 3, {}),
        ([(AT, TRACE, Verdict.FORWARDED, 0, 9)], CLOSE, 0, {}),
        ([(AT, DROP, Verdict.DROPPED, 140, 9)], CLOSE, 0, {}),
        ([(Side.SOURCE, *ALLOWED[1:], 9)], CLOSE, 9, {}),
        ([(*ALLOWED, 7)], CLOSE, 0, {Cause.UNEXPLAINED: 7}),
        ([(*ALLOWED, 7), (*DENIED, 2)], ALLOW, 7, {Cause.CHANGED: 2}),
        ([(*DENIED, 2)], ALLOW, 0, {Cause.UNEXPLAINED: 2}),
        ([(*DENIED, 2), (AT, TRACE, Verdict.FORWARDED, 0, 9)], ALLOW, 0, {Cause.CHANGED: 2}),
    ],
)
def test_verdicts_are_counted_on_the_side_that_gave_them(
    cells: Any, policy: Policy, agreed: int, disagreed: dict[Cause, int]
) -> None:
    made = calibrated(verdicts(*cells), policy)
    assert made.agreed == agreed
    assert {each.cause: each.weight for each in made.disagreements} == disagreed
    assert made.verdicts == agreed + sum(disagreed.values())


def test_causes_are_found() -> None:
    other = ("INGRESS", "CiliumNetworkPolicy", "shop", "other")
    (found,) = calibrated(verdicts((*ALLOWED, 1), allowed_by=other), CLOSE).disagreements
    assert (found.cause, found.detail) == (Cause.OTHER_POLICY, "CiliumNetworkPolicy shop/other")
    assert (found.cluster, found.engine.result) == (Result.ALLOWED, Result.DENIED)
    (found,) = calibrated(verdicts((*DENIED, 1))).disagreements
    assert found.cause is Cause.NOT_SELECTED
    unsure = verdicts((*ALLOWED, 2))
    unsure.stats.conflicting = 1
    assert calibrated(unsure, CLOSE).disagreements[0].cause is Cause.UNSURE_RECORD


def test_the_names_of_policies_are_compared_too() -> None:
    twin = cnp("twin", subject={"app": "redis"}, ingress=[FROM_CART])
    seen = verdicts((*ALLOWED, 5), allowed_by=NAMED)
    assert (calibrated(seen, ALLOW).named, calibrated(seen, ALLOW).named_alike) == (5, 5)
    assert (calibrated(seen, twin).named, calibrated(seen, twin).named_alike) == (5, 0)


def test_what_the_engine_cannot_decide_is_no_disagreement() -> None:
    named_port = cnp(subject={"app": "redis"}, ingress=[{"toPorts": ports("redis/TCP")}])
    made = calibrated(verdicts((*ALLOWED, 5)), named_port)
    assert (made.agreed, made.disagreed, made.undecided.total()) == (0, 0, 5)
    assert made.verdicts == 5
