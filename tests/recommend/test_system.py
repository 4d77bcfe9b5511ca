"""System namespaces get no policy; what others say to them and they to others still counts."""

from __future__ import annotations

import pytest

from analyzer.recommend import Options, Topic, recommend
from analyzer.recommend.system import SYSTEM_NAMESPACES, is_system
from tests.recommend.build import CART, edge, lookup, pod

AGENT = pod("kube-system", app="agent")


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        ("kube-system", True), ("kube-public", True), ("cilium", True), ("cilium-secrets", True), ("gke-managed-system", True),
        ("openshift", True), ("openshift-dns", True), ("shop", False), ("monitoring", False), ("kubeflow", False),
        ("openshifted", False), ("", False),
    ],
)  # fmt: skip
def test_the_table(namespace: str, expected: bool) -> None:
    assert is_system(namespace, SYSTEM_NAMESPACES) is expected


def test_a_star_alone_is_no_prefix() -> None:
    assert not is_system("shop", frozenset({"*"}))


def test_system_namespaces_get_no_policy_and_stay_peers() -> None:
    made = recommend([edge(AGENT, CART, "8080/TCP"), edge(CART, AGENT, "9000/TCP"), lookup(CART)])
    assert {document["metadata"]["namespace"] for document in made.documents()} == {CART.namespace}
    (cart,) = made.documents()
    assert "kube-system" in str(cart["spec"]["ingress"])
    assert "kube-system" in str(cart["spec"]["egress"])
    assert [note.where for note in made.notes if note.topic is Topic.SYSTEM] == ["kube-system"]


def test_the_list_can_be_another() -> None:
    seen = [edge(AGENT, CART, "8080/TCP"), lookup(CART)]
    spaces = {
        document["metadata"]["namespace"]
        for document in recommend(seen, options=Options(system=frozenset())).documents()
    }
    assert "kube-system" in spaces
    none = recommend(seen, options=Options(system=frozenset({CART.namespace, "kube-*"})))
    assert none.documents() == ()
