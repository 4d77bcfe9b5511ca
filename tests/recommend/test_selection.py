"""Selecting workloads: stable labels, exactly the intended identities, and what cannot be told apart is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.edge import Endpoint
from analyzer.model.inventory import Inventory, InventoryEndpoint
from analyzer.model.labels import Labels
from analyzer.recommend import Reason, Subject, Topic, recommend
from analyzer.recommend.draft import Selection
from analyzer.recommend.selection import ACCOUNT, Universe, is_stable
from tests.recommend.build import CART, REDIS, edge, pod


def subjects(*ends: tuple[Endpoint, str], silent: tuple[InventoryEndpoint, ...] = ()) -> dict[str, Subject]:
    """The workloads found among pods, given with the names Hubble reports for them."""
    seen = [edge(end, REDIS, "6379/TCP", workloads=((name,) if name else (), ())) for end, name in ends]
    return {each.key.name: each for each in recommend(seen, Inventory(endpoints=silent)).subjects}


def labels(subject: Subject) -> dict[str, str]:
    assert subject.selection.absent == ()
    return dict(subject.selection.labels)


def test_the_best_key_is_taken_and_noise_never() -> None:
    cart = pod("shop", app__kubernetes__io="x", app="cart", version="v1", pod_template_hash="6d4b75cb6d", team="a")
    assert labels(subjects((cart, "cart"))["cart"]) == {"app": "cart"}


@pytest.mark.parametrize(
    "key",
    ["pod-template-hash", "controller-revision-hash", "pod-template-generation", "statefulset.kubernetes.io/pod-name",
     "apps.kubernetes.io/pod-index", "batch.kubernetes.io/job-name", "job-name", "controller-uid", "version",
     "app.kubernetes.io/version", "helm.sh/chart", "io.cilium.k8s.policy.serviceaccount",
     "io.cilium.k8s.namespace.labels.team", "io.kubernetes.pod.namespace", "bad key", "", "-x", "reserved:host"],
)  # fmt: skip
def test_unstable_and_impossible_keys(key: str) -> None:
    assert not is_stable(key)


def test_two_rollouts_of_one_workload_are_one_subject() -> None:
    old, new = (pod("shop", app="cart", version=v, pod_template_hash=h) for v, h in (("v1", "aaa"), ("v2", "bbb")))
    cart = subjects((old, "cart"), (new, "cart"))["cart"]
    assert labels(cart) == {"app": "cart"}
    assert set(cart.identities) == {old, new}


def test_more_labels_where_one_does_not_suffice() -> None:
    web, worker = pod("shop", app="shop", component="web"), pod("shop", app="shop", component="worker")
    found = subjects((web, "web"), (worker, "worker"))
    assert labels(found["web"]) == {"component": "web"}
    a = pod("shop", app="a", tier="x")
    b, c = pod("shop", app="a", tier="y"), pod("shop", app="b", tier="x")
    found = subjects((a, "a"), (b, "b"), (c, "c"))
    assert labels(found["a"]) == {"app": "a", "tier": "x"}
    assert labels(found["b"]) == {"tier": "y"}


def test_silent_pods_count() -> None:
    silent = InventoryEndpoint(
        "cart-admin", "shop", pod("shop", app="cart", tier="admin").labels, workload="Deployment/cart-admin"
    )
    cart = pod("shop", app="cart", tier="web")
    assert labels(subjects((cart, "cart"))["cart"]) == {"app": "cart"}
    assert labels(subjects((cart, "cart"), silent=(silent,))["cart"]) == {"tier": "web"}


def test_a_workload_whose_labels_another_extends_excludes_its_key() -> None:
    cart, canary = pod("shop", app="cart"), pod("shop", app="cart", track="canary")
    found = subjects((cart, "cart"), (canary, "canary"))
    assert found["cart"].selection == Selection((("app", "cart"),), ("track",))
    assert labels(found["canary"]) == {"track": "canary"}


def test_other_namespaces_do_not_matter() -> None:
    found = subjects((CART, "cart"), (pod("batch", app="cart", tier="x"), "cart"))
    assert labels(found["cart"]) == {"app": "cart"}


def test_workloads_with_the_same_labels_share_one_subject_and_that_is_said() -> None:
    one, other = (pod("shop", app="cart", version=v) for v in ("1", "2"))
    seen = [edge(end, REDIS, "6379/TCP", workloads=((name,), ())) for end, name in ((one, "a"), (other, "b"))]
    made = recommend(seen)
    (joined,) = [each for each in made.subjects if len(each.workloads) > 1]
    assert (joined.key.name, joined.workloads, labels(joined)) == ("a", ("a", "b"), {"app": "cart"})
    assert [note.where for note in made.notes if note.topic is Topic.JOINED] == ["shop/a"]
    same = recommend([edge(one, REDIS, "80/TCP", workloads=(("a", "b"), ()))])
    assert same.subjects[0].workloads == ("a", "b")


def account(end: Endpoint, name: str) -> Endpoint:
    """The same pod under a service account."""
    return end._replace(labels=Labels.of([*end.labels.strings(), f"k8s:{ACCOUNT}={name}"]))


def test_service_accounts_tell_apart_what_labels_do_not() -> None:
    cart = pod("shop", app="shop", team="a")
    found = subjects((account(cart, "reader"), "a"), (account(cart, "writer"), "b"))
    assert {name: labels(each) for name, each in found.items() if name in "ab"} == {
        "a": {ACCOUNT: "reader"},
        "b": {ACCOUNT: "writer"},
    }


def test_labels_come_before_service_accounts() -> None:
    found = subjects((account(CART, "reader"), "cart"), (account(pod("shop", app="web"), "writer"), "web"))
    assert labels(found["cart"]) == {"app": "cart"}


def test_a_service_account_may_be_all_there_is_but_never_the_shared_one() -> None:
    bare = pod("shop", pod_template_hash="abc")
    assert labels(subjects((account(bare, "reader"), "bare"))["bare"]) == {ACCOUNT: "reader"}
    assert subjects((account(bare, "default"), "bare"))["bare"].obstacle


def test_a_shared_service_account_goes_with_labels() -> None:
    one, two = (account(pod("shop", app=app), "reader") for app in "ab")
    other = account(pod("shop", app="a"), "writer")
    found = subjects((one, "one"), (two, "two"), (other, "other"))
    assert labels(found["one"]) == {"app": "a", ACCOUNT: "reader"}


def test_nothing_stable_to_select_by_is_refused_on_both_sides() -> None:
    bare = pod("shop", pod_template_hash="abc", version="1")
    made = recommend([edge(bare, REDIS, "6379/TCP", workloads=(("bare",), ()))])
    assert made.documents() == ()
    assert {refusal.reason for refusal in made.refused} == {Reason.UNSELECTABLE}
    assert len(made.refused) == 2
    assert Topic.UNSELECTABLE in {note.topic for note in made.notes}


def test_a_name_whose_pods_have_no_label_in_common_is_several_subjects() -> None:
    old, new = pod("shop", app="cart"), pod("shop", app="cart-v2")
    found = subjects((old, "cart"), (new, "cart"))
    assert {tuple(labels(each).items()) for each in found.values() if "cart" in each.key.name} == {
        (("app", "cart"),),
        (("app", "cart-v2"),),
    }


def test_a_namespace_label_that_the_record_left_out_is_taken_from_the_endpoint() -> None:
    thin = Endpoint(Labels.of(["k8s:app=cart"]), "shop", "default")
    made = recommend([edge(thin, REDIS, "6379/TCP")])
    assert {each["metadata"]["namespace"] for each in made.documents()} == {"shop"}
    assert Topic.LABEL_FILTER in {note.topic for note in made.notes}


KEYS = ["app", "tier", "team", "track", "version", "app.kubernetes.io/name"]
IDENTITIES = st.lists(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from("abc"), max_size=5), min_size=1, max_size=8
)


@given(IDENTITIES, st.data())
def test_a_selection_matches_its_members_and_only_the_reported_rest(
    found: list[dict[str, str]], data: st.DataObject
) -> None:
    members = sorted(data.draw(st.sets(st.integers(0, len(found) - 1), min_size=1)))
    selection, mixed = Universe([frozenset(each.items()) for each in found]).select(members)
    common = set.intersection(*(set(found[index].items()) for index in members))
    if selection is None:
        assert not {key for key, _ in common} - {"version"}
        return
    assert selection.labels
    matched = {
        index
        for index, own in enumerate(found)
        if set(selection.labels) <= set(own.items()) and not set(selection.absent) & set(own)
    }
    assert matched == set(members) | set(mixed)
    assert not set(mixed) & set(members)
    assert "version" not in dict(selection.labels)
    assert "version" not in selection.absent
    for index in mixed:
        own = {key for member in members for key in found[member]}
        assert common - {("version", v) for v in "abc"} <= set(found[index].items())
        assert not set(found[index]) - own - {"version"}
