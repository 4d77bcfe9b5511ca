"""Hostile labels, names and namespaces: valid YAML in a safe place, or refused with the reason; never an exception."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.manifests import dump, parse
from analyzer.model.edge import Endpoint
from analyzer.model.labels import Label, Labels
from analyzer.recommend import Proposal, recommend
from analyzer.recommend.policies import MAX_NAME, safe_name
from tests.recommend.build import REDIS, edge, outside
from tests.recommend.test_laws import validator

NASTY = [
    "", " ", "'", '"', "\n", "a\nb: c", "../../etc/passwd", "/abs", "..", ".", "a/../b", "x" * 10_000, "yes", "No", "null", "~",
    "0x1F", "1e3", "0o14", "012", "{}", "[", "- a", "# c", "a: b", "&a", "*a", "!!python/object:os.system", "\x00", "\x1b[31m",
    "\x85", "\u2028", "\ud800", "é", "😀", "CON", "-", "--", "A", "a..b", "a.b", "%", "|", ">", "@", "`", "---", "...", "\t",
    "<script>", "${HOME}", "a" * 63, "a" * 64,
]  # fmt: skip
SAFE_PART = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
TEXT = st.one_of(st.sampled_from(NASTY), st.text(max_size=20))


def check(made: Proposal) -> None:
    """Everything that a proposal may write is valid, reads back as it was, and stays in its folder."""
    seen = set()
    for manifest, document in zip(made.manifests(), made.documents(), strict=True):
        text = dump([manifest])
        text.encode("ascii")
        assert yaml.safe_load(text) == document
        assert [each.data for each in parse(text)] == [document]
        path = PurePosixPath(manifest.path)
        assert not path.is_absolute()
        assert all(len(part) <= MAX_NAME + 5 and SAFE_PART.fullmatch(part) and ".." not in part for part in path.parts)
        assert path not in seen
        seen.add(path)
        assert SAFE_PART.fullmatch(document["metadata"]["name"])
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", document["metadata"]["namespace"])
        validator().validate(document)


def evil(value: str, *, key: str = "app", namespace: str = "shop", cluster: str = "default") -> Endpoint:
    labels = [Label("k8s", key, value), Label("k8s", "io.kubernetes.pod.namespace", namespace)]
    return Endpoint(Labels.of(labels), namespace, cluster)


@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_everywhere(text: str) -> None:
    for each in (evil(text), evil("v", key=text), evil("v", namespace=text), evil("v", cluster=text)):
        made = recommend([edge(each, REDIS, "6379/TCP", workloads=((text,), ())), edge(REDIS, each, "80/TCP")])
        check(made)
        ends = {end for policy in made.policies for end in policy.subject.identities}
        assert each in ends or any(refusal.edge.source == each for refusal in made.refused)
    check(recommend([edge(REDIS, outside(text), "443/TCP", names=[text])]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, TEXT), min_size=1, max_size=6))
def test_random_text_everywhere(found: list[tuple[str, str, str, str]]) -> None:
    made = [
        edge(evil(value, key=key, namespace=namespace), REDIS, "80/TCP", workloads=((name,), ("redis",)))
        for key, value, namespace, name in found
    ]
    check(recommend({each.key: each for each in made}.values()))  # type: ignore[arg-type]


def test_unselectable_values_are_refused_and_not_shortened() -> None:
    made = recommend([edge(evil("x" * 10_000), REDIS, "6379/TCP")])
    assert made.documents() == ()
    assert len(made.refused) == 2


def test_safe_names() -> None:
    assert safe_name("cart") == "cart"
    assert safe_name("web.v1") == "web.v1"
    assert safe_name("../../etc") == safe_name("../../etc") != safe_name("../etc")
    assert len({safe_name(name) for name in NASTY}) == len(NASTY)
    assert all(len(safe_name(name)) <= MAX_NAME for name in NASTY)


def test_a_name_made_to_collide_does_not_displace_an_honest_one() -> None:
    victim = safe_name("Cart")
    pods = [(evil("a"), "Cart"), (evil("b"), victim)]
    made = recommend([edge(end, REDIS, "80/TCP", workloads=((name,), ())) for end, name in pods])
    check(made)
    assert {policy.name: policy.subject.workloads for policy in made.policies}[victim] == (victim,)
    assert len({policy.path for policy in made.policies}) == 3


def test_a_crowded_namespace_gets_a_policy_for_each() -> None:
    ends = [evil(f"app-{n}") for n in range(1500)]
    made = recommend([edge(end, REDIS, "6379/TCP") for end in ends])
    assert len({policy.path for policy in made.policies}) == 1501
