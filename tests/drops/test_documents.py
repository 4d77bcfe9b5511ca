"""Patches: whatever the texts, the diff leads from one to the other; comments and other documents stay as they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analyzer.drops.documents import Documents, unified
from analyzer.manifests import parse as parse_yaml
from analyzer.model.inventory import AgentOptions
from analyzer.policy import PolicyRef
from analyzer.suggest import Advice

LINES = st.lists(st.sampled_from(["- a\n", "  b\n", "  c\n", "- d\n", "\n", "+x\n", "--- y\n"]), max_size=14)
ITEM = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
CART = PolicyRef("CiliumNetworkPolicy", "shop", "cart")


def applied(text: str, diff: str) -> str:
    """The text after the hunks of a diff; every line of context has to be there."""
    old, made, at = text.splitlines(keepends=True), list[str](), 0
    for line in diff.splitlines(keepends=True)[2:]:
        if line.startswith("@@"):
            start, length = (int(part) for part in line.split()[1][1:].split(","))
            start -= bool(length)
            made += old[at:start]
            at = start
        elif line.startswith("+"):
            made.append(line[1:])
        else:
            assert old[at] == line[1:]
            at += 1
            if line.startswith(" "):
                made.append(line[1:])
    return "".join(made + old[at:])


@given(LINES, LINES)
def test_the_diff_leads_from_one_text_to_the_other(before: list[str], after: list[str]) -> None:
    one, other = "".join(before), "".join(after)
    assert applied(one, unified(one, other, "a/x", "b/x")) == other


@given(LINES, st.integers(0, 14), LINES.filter(bool))
def test_lines_that_were_only_added_are_marked_as_such(lines: list[str], at: int, more: list[str]) -> None:
    one, other = "".join(lines), "".join([*lines[:at], *more, *lines[at:]])
    diff = unified(one, other, "a/x", "b/x")
    assert applied(one, diff) == other
    marked = [line for line in diff.splitlines()[2:] if line.startswith("+")]
    assert len(marked) >= len(more)


def test_a_missing_newline_at_the_end_is_told() -> None:
    assert "\\ No newline at end of file\n" in unified("a\nb", "a\nb\nc\n", "a/x", "b/x")


TEXT = """\
# Mine.
kind: CiliumNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: other, namespace: shop}   # stays
spec:
  endpointSelector: {}
  ingress: [{}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: cart
  namespace: shop
specs:
  - endpointSelector: {matchLabels: {app: cart}}
    egress:
      - {}
  - endpointSelector: {matchLabels: {app: cart}}
    ingress:
      # Nobody.
      - {}
"""


def made(text: str, *, place: str = "x.yaml") -> Documents:
    documents = [each.__class__(each.data, place, each.index, each.line) for each in parse_yaml(text)]
    return Documents(documents, {place: text}, AgentOptions())


def test_a_rule_is_added_to_the_spec_that_it_belongs_to_and_comments_stay() -> None:
    before = made(TEXT)
    after = before.with_advice(Advice("ingress", CART, 2, ITEM))
    (patch,) = after.patches(before)
    changed = applied(TEXT, patch.diff)
    assert "# Nobody." in changed
    assert "# stays" in changed
    data = list(parse_yaml(changed))[1].data
    assert data["specs"][0] == {"endpointSelector": {"matchLabels": {"app": "cart"}}, "egress": [{}]}
    assert data["specs"][1]["ingress"] == [{}, ITEM]


def test_in_the_only_spec_nothing_is_removed() -> None:
    before = made(TEXT)
    after = before.with_advice(Advice("ingress", PolicyRef("CiliumNetworkPolicy", "shop", "other"), 0, ITEM))
    (patch,) = after.patches(before)
    assert [line for line in patch.diff.splitlines()[2:] if line.startswith("-")] == ["-  ingress: [{}]"]


def test_json_is_patched_as_it_would_be_written_here() -> None:
    text = (
        '{"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "cart", "namespace": "shop"}, '
        '"spec": {"endpointSelector": {}, "ingress": [{}]}}'
    )
    before = made(text, place="x.json")
    (patch,) = before.with_advice(Advice("ingress", CART, 0, ITEM)).patches(before)
    assert "+  - fromEndpoints:" in patch.diff


def test_a_new_policy_is_a_new_file_that_grows() -> None:
    before = made(TEXT)
    ref = PolicyRef("CiliumNetworkPolicy", "shop", "web-egress")
    first = Advice("egress", ref, 0, {"toEntities": ["world"]}, {"matchLabels": {"app": "web"}}, new=True)
    after = before.with_advice(first).with_advice(Advice("egress", ref, 0, {"toEntities": ["host"]}))
    (patch,) = after.patches(before)
    assert patch.new
    assert patch.path == "web-egress.yaml"
    (document,) = parse_yaml(applied("", patch.diff))
    assert document.data["spec"]["egress"] == [{"toEntities": ["world"]}, {"toEntities": ["host"]}]


def test_two_documents_of_one_file_are_one_patch() -> None:
    before = made(TEXT)
    other = PolicyRef("CiliumNetworkPolicy", "shop", "other")
    after = before.with_advice(Advice("ingress", other, 0, ITEM)).with_advice(Advice("ingress", CART, 2, ITEM))
    (patch,) = after.patches(before)
    data = [each.data for each in parse_yaml(applied(TEXT, patch.diff))]
    assert data[0]["spec"]["ingress"] == [{}, ITEM]
    assert data[1]["specs"][1]["ingress"] == [{}, ITEM]
