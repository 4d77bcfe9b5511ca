"""Round trips: a document is replaced where it stands; all else, comments and order included, stays byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.manifests import Document, dump, parse
from analyzer.roundtrip import appended, chunks, merged, replaced
from tests.recommend.test_hostile import TEXT

PEOPLE = """# Our own rules, do not touch.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: people, namespace: shop}   # odd style
spec:
    endpointSelector: {}
    ingress: [ { } ]
"""
OURS = """# hubble-analyzer: shop/cart in cluster default
#   evidence: 1 connection
# Reviewed, see ticket 12.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: cart
  namespace: shop
  labels:
    team: checkout        # owner
    app.kubernetes.io/managed-by: hubble-analyzer
spec:
  endpointSelector:
    matchLabels:
      app: cart
  ingress:
  # from the front
  - fromEndpoints:
    - matchLabels:
        app: web
    toPorts:
    - ports:
      - port: "8080" # http
        protocol: TCP
"""


def rule(app: str, port: str) -> dict[str, Any]:
    peer = [{"matchLabels": {"app": app}}]
    return {"fromEndpoints": peer, "toPorts": [{"ports": [{"port": port, "protocol": "TCP"}]}]}


def cart(
    *rules: dict[str, Any], header: tuple[str, ...] = ("hubble-analyzer: shop/cart", "  evidence: new")
) -> Document:
    metadata = {"name": "cart", "namespace": "shop", "labels": {"app.kubernetes.io/managed-by": "hubble-analyzer"}}
    spec = {"endpointSelector": {"matchLabels": {"app": "cart"}}, "ingress": list(rules)}
    data = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}
    return Document(data, "shop/cart.yaml", header=header)


def values(text: str) -> list[dict[str, Any]]:
    return [each.data for each in parse(text)]


def change(text: str, document: Document) -> str:
    (line,) = [each.line for each in parse(text) if each.data["metadata"]["name"] == "cart"]
    made = replaced(text, line, document)
    assert made is not None
    return made


FILES = [
    OURS,
    f"{PEOPLE}---\n{OURS}",
    f"{OURS}---\n{PEOPLE}",
    f"---\n{PEOPLE}--- # next\n{OURS}---\n# end\n",
    f"\n\n# top\n---\n{OURS}",
]


@pytest.mark.parametrize("text", FILES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_without_a_change_not_a_byte_changes(text: str, newline: str) -> None:
    text = text.replace("\n", newline)
    assert change(text, cart(rule("web", "8080"))) == text


@pytest.mark.parametrize("text", FILES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_new_rule_is_added_in_place_and_all_comments_stay(text: str, newline: str) -> None:
    text = text.replace("\n", newline)
    made = change(text, cart(rule("web", "8080"), rule("batch", "9090")))
    (found,) = [each for each in values(made) if each["metadata"]["name"] == "cart"]
    assert found["spec"]["ingress"] == [rule("web", "8080"), rule("batch", "9090")]
    assert found["metadata"]["labels"] == {"team": "checkout", "app.kubernetes.io/managed-by": "hubble-analyzer"}
    for comment in ("# Reviewed, see ticket 12.", "# owner", "# from the front", "# http"):
        assert made.count(comment) == 1
    assert "evidence: 1 connection" not in made
    assert "#   evidence: new" in made
    assert PEOPLE.replace("\n", newline) in made or PEOPLE not in text.replace("\r\n", "\n")
    assert made.count("\n") == made.count(newline)
    removed = [line for line in text.splitlines() if line not in made.splitlines()]
    assert removed == ["# hubble-analyzer: shop/cart in cluster default", "#   evidence: 1 connection"]
    assert change(made, cart(rule("web", "8080"), rule("batch", "9090"))) == made


def test_a_rule_that_goes_takes_nobodys_comment_with_it() -> None:
    made = change(f"{OURS}---\n{PEOPLE}", cart(rule("batch", "9090")))
    assert values(made)[0]["spec"]["ingress"] == [rule("batch", "9090")]
    for comment in ("# Reviewed", "# owner", "# from the front", "# http", "# Our own rules"):
        assert made.count(comment) == 1
    assert made.endswith(f"---\n{PEOPLE}")


def test_what_people_put_into_our_metadata_stays_and_our_old_annotations_go() -> None:
    old = {
        "metadata": {
            "name": "cart",
            "annotations": {"argocd.argoproj.io/sync-wave": "1", "hubble-analyzer/evidence": "old"},
            "labels": {"team": "x"},
        },
        "spec": {"description": "why", "ingress": []},
    }
    new = {"metadata": {"name": "cart", "labels": {"a": "b"}}, "spec": {"egress": []}}
    assert merged(old, new) == {
        "metadata": {
            "name": "cart",
            "labels": {"team": "x", "a": "b"},
            "annotations": {"argocd.argoproj.io/sync-wave": "1"},
        },
        "spec": {"description": "why", "egress": []},
    }


def test_indented_lists_stay_indented() -> None:
    indented = """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: cart
  namespace: shop
  labels:
    app.kubernetes.io/managed-by: hubble-analyzer
spec:
  endpointSelector:
    matchLabels:
      app: cart
  ingress:
    - fromEndpoints:
        - matchLabels:
            app: web
      toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
"""
    made = change(indented, cart(rule("web", "8080"), rule("batch", "9090")))
    assert made.endswith('        - ports:\n            - port: "9090"\n              protocol: TCP\n')
    assert all(line in made.splitlines() for line in indented.splitlines())


@pytest.mark.parametrize(
    "text", ['{"kind": "CiliumNetworkPolicy", "metadata": {"name": "cart"}}', "kind: List\nitems: []\n", "a: [", ""]
)
def test_what_cannot_be_replaced_alone_is_left_alone(text: str) -> None:
    assert replaced(text, 1, cart(rule("web", "8080"))) is None


def test_appending() -> None:
    new = dump([cart()])
    assert appended("", cart()) == new
    assert appended(PEOPLE, cart()) == f"{PEOPLE}---\n{new}"
    assert appended(PEOPLE.rstrip(), cart()) == f"{PEOPLE}---\n{new}"
    assert appended(f"{PEOPLE}---\n", cart()) == f"{PEOPLE}---\n{new}"


TREE: Any = st.recursive(
    st.one_of(TEXT, st.booleans(), st.integers(-5, 99999), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(TREE, TREE, st.text(alphabet="ab #\"':\t", max_size=12))
def test_any_values_read_back_and_neighbours_stay(before: Any, after: Any, comment: str) -> None:
    def made(spec: Any) -> Document:
        return Document({"kind": "X", "metadata": {"name": "cart"}, "spec": {"value": spec}})

    old = dump([made(before)]).replace("metadata:\n", f"metadata: # {comment}\n")
    new = values(dump([made(after)]))[0]
    text = f"{PEOPLE}---\n{old}---\n{PEOPLE}"
    changed = change(text, Document(new))
    assert values(changed)[1] == new
    assert changed.startswith(f"{PEOPLE}---\n")
    assert changed.endswith(f"---\n{PEOPLE}")
    assert f"# {comment}".rstrip() in changed
    assert change(changed, Document(new)) == changed
    assert "".join(chunk for _, chunk in chunks(changed)) == changed


def test_the_comment_of_ours_stays_on_request() -> None:
    (line,) = [each.line for each in parse(OURS)]
    made = replaced(OURS, line, cart(rule("web", "8080"), rule("db", "5432"), header=()), keep_comment=True)
    assert made is not None
    assert made.startswith("# hubble-analyzer: shop/cart in cluster default\n#   evidence: 1 connection\n# Reviewed")
    assert "5432" in made
