"""Laws of decisions: the order of policies is irrelevant, a deny beats every allow, an allow under enforcement never denies."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.policy import Decision, Outcome, SideDecision
from tests.oracle.world import World
from tests.policy.build import QUICK, Doc, compiled_in, traffic
from tests.strategies import flows, policies, worlds

FLOWS = 12
FEW = settings(QUICK, max_examples=40)
OPEN = (Outcome.ALLOWED, Outcome.REDIRECTED)


def _renamed(drawn: Sequence[Doc], word: str) -> list[Doc]:
    """Each under a name of its own, so that none replaces another."""
    return [
        {**each, "metadata": {**each["metadata"], "name": f"{word}-{number}"}}
        for number, each in enumerate(drawn)
        if each["metadata"].get("name")
    ]


def _only_allowing(document: Doc) -> Doc:
    found = dict(document)
    if "spec" in found:
        found["spec"] = _without_denies(found["spec"])
    if "specs" in found:
        found["specs"] = [_without_denies(each) for each in found["specs"]]
    return found


def _without_denies(spec: Doc) -> Doc:
    return {key: value for key, value in (spec or {}).items() if not key.endswith("Deny") or key == "enableDefaultDeny"}


def _sides(one: Decision, other: Decision) -> list[tuple[SideDecision, SideDecision]]:
    return [(one.egress, other.egress), (one.ingress, other.ingress)]


@FEW
@given(st.data(), worlds(), policies())
def test_the_order_of_policies_is_irrelevant(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    documents = _renamed(drawn, "p")
    shuffled = data.draw(st.permutations(documents))
    one, other = compiled_in(documents, world), compiled_in(shuffled, world)
    assert one.rules() == other.rules()
    for _ in range(FLOWS):
        asked = traffic(data.draw(flows(world)), world)
        assert one.decide(asked) == other.decide(asked)


@FEW
@given(st.data(), worlds(), policies(3), policies(3))
def test_a_deny_beats_every_allow(data: st.DataObject, world: World, drawn: list[Doc], more: list[Doc]) -> None:
    documents = _renamed(drawn, "p")
    before, after = compiled_in(documents, world), compiled_in([*documents, *_renamed(more, "q")], world)
    for _ in range(FLOWS):
        asked = traffic(data.draw(flows(world)), world)
        for one, other in _sides(before.decide(asked), after.decide(asked)):
            if one.outcome is Outcome.DENIED and one.deciding[0].section:
                assert other.outcome is Outcome.DENIED or "cannot compute" in other.reason
                assert other.outcome is Outcome.UNDECIDED or other.deciding[0].section.endswith("Deny")


@FEW
@given(st.data(), worlds(), policies(3), policies(3))
def test_an_allow_under_enforcement_never_denies(
    data: st.DataObject, world: World, drawn: list[Doc], more: list[Doc]
) -> None:
    documents = _renamed(drawn, "p")
    before = compiled_in(documents, world)
    after = compiled_in([*documents, *map(_only_allowing, _renamed(more, "q"))], world)
    for _ in range(FLOWS):
        asked = traffic(data.draw(flows(world)), world)
        for one, other in _sides(before.decide(asked), after.decide(asked)):
            if one.selected_by and one.outcome in OPEN:
                assert other.outcome in OPEN or "cannot compute" in other.reason
                assert one.l7 is False or other.l7 is not False, "what passed the proxy still does"
                assert set(one.allowing) <= set(other.allowing) or "cannot compute" in other.reason


@FEW
@given(st.data(), worlds(), policies())
def test_each_side_knows_its_own_policies_only(data: st.DataObject, world: World, drawn: list[Doc]) -> None:
    """Leaving out what does not select a side changes nothing there, and every rule that is named is one of the policies'."""
    compiled = compiled_in(_renamed(drawn, "p"), world)
    rules = set(compiled.rules())
    for _ in range(FLOWS):
        asked = traffic(data.draw(flows(world)), world)
        decision = compiled.decide(asked)
        for ingress, side, subject in (
            (False, decision.egress, asked.source),
            (True, decision.ingress, asked.destination),
        ):
            named = {origin for origin in (*side.deciding, *side.allowing) if origin.kind}
            assert named <= rules
            assert all(origin.section.startswith("in") is ingress for origin in named)
            selecting = set(compiled.selecting(subject.labels, ingress=ingress))
            assert {origin.policy for origin in named} <= selecting
            assert set(side.selected_by) <= selecting
