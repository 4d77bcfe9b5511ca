"""Hostile labels, names and namespaces: valid YAML in a safe place, or refused with the reason; never an exception."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.existing import kustomized, plan
from analyzer.manifests import dump, parse
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Verdict
from analyzer.model.labels import Label, Labels
from analyzer.policy import parse as parse_policy
from analyzer.recommend import L7, Options, Proposal, Settings, recommend
from analyzer.recommend.evidence import Evidence, evidenced
from analyzer.recommend.knp import network_policies
from analyzer.recommend.policies import MAX_NAME, safe_name
from tests.recommend.build import DNS, REDIS, edge, outside
from tests.recommend.test_http import requests
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


def check_all(seen: list[Edge], folder: Path) -> None:
    """The same for everything that may be written beside it: other dialects, evidence, visibility, files of a repository."""
    made = recommend(seen, options=Options(Settings(l7=frozenset(L7)), zone_names=2, max_cidrs=1, range_ports=2))
    check(made)
    kubernetes, losses = network_policies(made)
    assert all(str(loss) for loss in losses)
    for documents in (
        kubernetes,
        made.visibility_manifests(),
        evidenced(made.manifests(), made.policies, Evidence.FULL),
        evidenced(made.manifests(), made.policies, Evidence.FULL, annotate=True),
    ):
        text = dump(documents)
        text.encode("ascii")
        assert [each.data for each in parse(text)] == [each.data for each in documents]
        for document in documents:
            parse_policy(document.data)
            assert all(SAFE_PART.fullmatch(part) for part in PurePosixPath(document.path).parts)
            assert len({each.path for each in documents}) == len(documents)
        found = plan(documents, str(folder))
        for change in found.changes:
            path = Path(change.path).resolve()
            assert path.is_relative_to(folder.resolve())
            assert change.diff().isprintable() or "\n" in change.diff()
        listed = kustomized(str(folder), [change.path for change in found.changes])
        (document,) = parse(listed.after)
        assert all(not each.startswith(("/", "..")) for each in document.data["resources"])


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


@pytest.mark.parametrize("text", NASTY)
def test_nasty_strings_in_all_that_is_written_beside(text: str, tmp_path: Path) -> None:
    each = evil(text if len(text) < 64 else "x")
    far = [edge(each, outside(f"198.51.100.{n}"), "443/TCP", names=[text, f"{text}.{n}.example.com"]) for n in (1, 2)]
    asked = edge(each, DNS, "53/UDP", queries=[text, "api.example.com"])
    called = requests(
        ("GET", text, Verdict.FORWARDED),
        (text, "/a", Verdict.FORWARDED),
        ("GET", f"/{text}/1", Verdict.FORWARDED, text),
    )
    fine = requests(("GET", f"/{text}", Verdict.FORWARDED, text), source=each)
    service = edge(each, outside("10.96.0.9"), "80/TCP")
    service.stats.services.add(text, 1)
    for seen in ([*far, asked, called, service], [fine, asked], [edge(each, outside("198.51.100.9"), "443/TCP")]):
        check_all(seen, tmp_path)


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT)
def test_random_paths_are_matched_literally_or_not_at_all(path: str, host: str) -> None:
    made = recommend(
        [requests(("GET", f"/{path}", Verdict.FORWARDED, host))], options=Options(Settings(l7=frozenset(L7)))
    )
    check(made)
    for document in made.documents():
        parse_policy(document)


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
