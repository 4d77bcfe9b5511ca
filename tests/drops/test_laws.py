"""Laws of drops, on random policies and flows: nothing is lost, denials have causes, and patches hold what they promise."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.drops.documents import Documents
from analyzer.drops.findings import Finding, findings
from analyzer.drops.fix import Fix
from analyzer.drops.reasons import REASONS, DropClass
from analyzer.drops.window import DropWindow
from analyzer.manifests import dump
from analyzer.manifests import parse as parse_yaml
from analyzer.model.flow import EventKind, Flow, Verdict
from analyzer.policy import Policy, compile_policies, parse, unparse
from analyzer.simulate import Result, Simulation
from tests.drops.build import documents_of, facts_of
from tests.drops.test_documents import applied
from tests.flows import API_SERVER, HOST, REMOTE_NODE, START, SYN_ACK, WORLD, drop, pod
from tests.test_diff import policies

PODS = [pod("web"), pod("cart"), pod("redis"), pod("web", "batch"), pod("web", tier="back")]
ENDS = [*PODS, WORLD, HOST, REMOTE_NODE, API_SERVER]


@st.composite
def flows(draw: st.DrawFn) -> list[Flow]:
    found = []
    for number in range(draw(st.integers(1, 12))):
        near, far = draw(st.sampled_from(PODS)), draw(st.sampled_from(ENDS))
        ends, direction = draw(st.sampled_from([((near, far), 2), ((far, near), 1)]))
        reason = draw(st.sampled_from([133, 133, 133, 181, 155, 151, 177, 250, 0]))
        made = drop(
            *ends, draw(st.sampled_from([80, 8080, 53, 443])), reason, direction=draw(st.sampled_from([direction, 0])),
            time=START + number * 1_000_000_000, client_port=draw(st.sampled_from([40_000, 40_001])),
            destination_ip=draw(st.sampled_from(["198.51.100.7", "203.0.113.200", "10.0.0.2", ""])),
            tcp_flags=draw(st.sampled_from([2, 2, SYN_ACK, 16])),
        )  # fmt: skip
        if draw(st.integers(0, 4)) == 4:
            made = made.replace(verdict=Verdict.AUDIT, kind=EventKind.POLICY_VERDICT, drop_reason=0)
        found.append(made)
    return found


def looked_into(seen: list[Flow], known: list[Policy]) -> tuple[tuple[Finding, ...], Documents, str]:
    window = DropWindow()
    window.add(seen)
    facts = facts_of(seen, window)
    text = dump([unparse(each) for each in known])
    documents = documents_of(text, facts.inventory)
    return findings(window.drops(), facts, documents), documents, text


@given(flows(), st.lists(st.integers(0, 12), max_size=4))
def test_batches_make_no_difference_and_every_event_is_somewhere(seen: list[Flow], cuts: list[int]) -> None:
    whole, parts = DropWindow(), DropWindow()
    whole.add(seen)
    places = [0, *sorted(cuts), len(seen)]
    for start, stop in pairwise(places):
        parts.add(seen[start:stop])
    assert [(each.key, each.drops, each.events) for each in whole.drops()] == [
        (each.key, each.drops, each.events) for each in parts.drops()
    ]
    assert sum(each.events for each in whole.drops()) + sum(whole.left_over.values()) == len(seen) == whole.events


@settings(max_examples=60, deadline=None)
@given(flows(), policies())
def test_every_drop_has_a_cause_and_only_default_denies_get_a_rule(seen: list[Flow], known: list[Policy]) -> None:
    found, _, _ = looked_into(seen, known)
    assert sum(each.events for each in found) == len(seen)
    for each in found:
        assert each.causes, each.scene.drops.key
        assert each.step
        words = " ".join([each.disagreement, *(f"{cause.words} {' '.join(cause.evidence)}" for cause in each.causes)])
        assert "allowed by" not in words.lower()
        if each.fix is not None:
            assert each.kind is DropClass.DEFAULT_DENY
            assert each.scene.drops.key.reason in (0, 133)
        if each.kind in (DropClass.INFRASTRUCTURE, DropClass.EXPLICIT_DENY, DropClass.LB_SOURCE_RANGE):
            assert each.fix is None
            assert each.scene.drops.key.reason in REASONS


@settings(max_examples=60, deadline=None)
@given(flows(), policies())
def test_a_patch_leads_to_policies_that_let_the_drop_pass_and_break_nothing(
    seen: list[Flow], known: list[Policy]
) -> None:
    found, _, text = looked_into(seen, known)
    for each in found:
        fix = each.fix
        if fix is None or not fix.patches:
            assert fix is None or fix.obstacle
            continue
        assert not fix.breaks
        assert fix.confirmed
        after = compile_policies(_after(text, fix), each.scene.inventory)
        for scene in each.scenes[:8]:
            assert Simulation(after, scene.inventory).outcome(scene.edge).result is Result.ALLOWED


def _after(text: str, fix: Fix) -> list[Policy]:
    """The policies once the patches are applied."""
    changed = {patch.path: applied("" if patch.new else text, patch.diff) for patch in fix.patches}
    files = {"policies.yaml": text, **changed}
    return [parse(document.data) for each in files.values() for document in parse_yaml(each)]


@settings(max_examples=30, deadline=None)
@given(flows(), policies(), st.randoms())
def test_the_order_of_policies_is_irrelevant(seen: list[Flow], known: list[Policy], chance: random.Random) -> None:
    mixed = list(known)
    chance.shuffle(mixed)
    one, other = looked_into(seen, known)[0], looked_into(seen, mixed)[0]
    assert [each.causes for each in one] == [each.causes for each in other]
