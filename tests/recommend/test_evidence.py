"""Evidence in the documents: none, a summary, or every connection; as comments or as an annotation; hostile text included."""

from __future__ import annotations

import pytest

from analyzer.manifests import Document, dump, parse
from analyzer.recommend import recommend
from analyzer.recommend.evidence import ANNOTATION, MAX_LINES, Evidence, evidenced
from tests.recommend.build import CART, REDIS, edge, lookup, outside
from tests.recommend.test_hostile import NASTY, evil
from tests.recommend.test_laws import validator

NAMED = edge(CART, outside("198.51.100.7"), "443/TCP", names=["api.example.com"])
NAMED.stats.samples.add("0b2c-uuid", 1)


def cart(how_much: Evidence, *, annotate: bool = False) -> Document:
    made = recommend([lookup(CART), NAMED, edge(REDIS, CART, "80/TCP")])
    found = evidenced(made.manifests(), made.policies, how_much, annotate=annotate)
    return next(each for each in found if each.path == "shop/cart.yaml")


def test_none_a_summary_and_every_connection() -> None:
    assert cart(Evidence.NONE).header == ()
    assert cart(Evidence.SUMMARY).header == (
        "hubble-analyzer: shop/cart in cluster default",
        "  evidence: 3 connections, 6 events, seen 2026-09-01",
        "  ingress: 1 rule from 1 connection",
        "  egress: 2 rules from 2 connections",
    )
    assert cart(Evidence.FULL).header[4:] == (
        "  ingress[0]: shop/redis -> shop/cart 80/TCP; 2 events, seen 2026-09-01",
        "  egress[0]: shop/cart -> 198.51.100.7 443/TCP; 2 events, seen 2026-09-01; names api.example.com; "
        "such as 0b2c-uuid",
        "  egress[1]: shop/cart -> kube-system/kube-dns 53/UDP; 2 events, seen 2026-09-01",
    )


def test_as_an_annotation_the_policy_says_it_itself() -> None:
    found = cart(Evidence.FULL, annotate=True)
    assert found.header == ()
    text = found.data["metadata"]["annotations"][ANNOTATION]
    assert text.startswith("shop/cart in cluster default\n")
    assert "api.example.com" in text
    validator().validate(found.data)
    plain = cart(Evidence.NONE, annotate=True)
    assert "annotations" not in plain.data["metadata"]
    assert {**found.data, "metadata": plain.data["metadata"]} == plain.data


def test_very_many_connections_are_cut_short() -> None:
    seen = [edge(CART, outside(f"198.51.{n // 200}.{n % 200}"), "443/TCP") for n in range(MAX_LINES + 50)]
    made = recommend(seen)
    (found,) = evidenced(made.manifests(), made.policies, Evidence.FULL)
    assert len(found.header) < MAX_LINES + 10
    assert found.header[-1] == "  and 50 more, see the report"


@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("annotate", [True, False])
def test_hostile_text_in_evidence(text: str, annotate: bool) -> None:
    far = edge(evil("x"), outside("198.51.100.7"), "443/TCP", names=[text, "api.example.com"])
    far.stats.samples.add(text, 1)
    made = recommend([far, edge(evil("x"), REDIS, "80/TCP", workloads=((text,), (text,)))])
    for document in evidenced(made.manifests(), made.policies, Evidence.FULL, annotate=annotate):
        written = dump([document])
        written.encode("ascii")
        assert [each.data for each in parse(written)] == [document.data]
        assert all(line.isprintable() or annotate for line in written.splitlines())
        assert max(map(len, document.header), default=0) < 1000
