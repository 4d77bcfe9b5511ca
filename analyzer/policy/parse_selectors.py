"""Label selectors of policies: validated, prefixed and scoped to namespace and cluster as the agent does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyzer.model.inventory import AgentOptions
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX
from analyzer.policy.checks import is_label_key, is_label_value
from analyzer.policy.document import Node
from analyzer.policy.selector import EXISTS, IN, OPERATORS, LabelSelector, Requirement, split_key

__all__ = ["Scope", "label_selector", "scoped", "subject_selector"]

_SOURCES = ("any", "k8s")


def label_selector(node: Node, *, source: str = "") -> LabelSelector:
    """The requirements of a selector as written; with `source`, every key gets that source (Kubernetes' own selectors)."""
    found = []
    labels = node.node("matchLabels")
    for key, value in sorted((labels.body if labels else {}).items(), key=lambda item: str(item[0])):
        assert labels is not None
        found.append(_requirement(key, IN, (_label_value(value, labels, key),), labels, source))
    for expression in node.nodes("matchExpressions"):
        found.append(_expression(expression, source))
    return LabelSelector(tuple(found))


def _label_value(value: Any, node: Node, key: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise node.fail("a label value must be a string", str(key))
    if not is_label_value(value):
        raise node.fail(f"{value[:80]!r} is no label value", str(key))
    return value


def _expression(node: Node, source: str) -> Requirement:
    operator = OPERATORS.get(node.text("operator"))
    if operator is None:
        raise node.fail("must be In, NotIn, Exists or DoesNotExist", "operator")
    values = tuple(text for text, _ in node.texts("values"))
    if operator.exists and values:
        raise node.fail(f"{operator.name} takes no values", "values")
    if not operator.exists and not values:
        raise node.fail(f"{operator.name} needs values", "values")
    for value in values:
        if not is_label_value(value):
            raise node.fail(f"{value[:80]!r} is no label value", "values")
    return _requirement(node.text("key"), operator, tuple(sorted(set(values))), node, source)


def _requirement(key: Any, operator: Any, values: tuple[str, ...], node: Node, source: str) -> Requirement:
    if not isinstance(key, str) or not is_label_key(key):
        raise node.fail(f"{str(key)[:80]!r} is no label key")
    where = (source, key) if source else split_key(key)
    return Requirement(*where, operator, values)


def subject_selector(node: Node, namespace: str) -> LabelSelector:
    """semantics 17: a namespaced policy's subject lies in its namespace; a ``k8s:`` namespace key in matchLabels is overwritten."""
    labels = node.node("matchLabels")
    if labels is not None and f"k8s:{NAMESPACE_KEY}" in labels.body:
        kept = {key: value for key, value in labels.body.items() if key != f"k8s:{NAMESPACE_KEY}"}
        node = Node({**node.body, "matchLabels": kept}, node.path)
    return label_selector(node).having("k8s", NAMESPACE_KEY, IN, namespace)


class Scope:
    """What a rule's peer selectors get on top: namespace and cluster (semantics 18-22; pkg/k8s/apis/cilium.io/utils)."""

    def __init__(self, namespace: str, options: AgentOptions, *, init_subject: bool = False) -> None:
        self.namespace = namespace
        self.options = options
        self.init_subject = init_subject


def scoped(selector: LabelSelector, scope: Scope) -> LabelSelector:
    """A peer selector with its scope made explicit."""
    requirements = selector.requirements
    if any(each.source == "reserved" for each in requirements):
        return selector
    named = any(each.key == NAMESPACE_KEY and each.source in _SOURCES for each in requirements)
    by_label = any(each.key.startswith(NAMESPACE_LABEL_PREFIX) and each.source in _SOURCES for each in requirements)
    if scope.namespace:
        if not (named or by_label):
            selector = selector.having("k8s", NAMESPACE_KEY, IN, scope.namespace)
    elif not named and not scope.init_subject:
        selector = selector.having("k8s", NAMESPACE_KEY, EXISTS)
    return in_cluster(selector, scope.options)


def in_cluster(selector: LabelSelector, options: AgentOptions) -> LabelSelector:
    """semantics 22: the local cluster, unless a cluster is named or selectors are not scoped to clusters."""
    named = any(each.key == CLUSTER_KEY and each.source in _SOURCES for each in selector.requirements)
    if named or options.any_cluster:
        return selector
    return selector.having("k8s", CLUSTER_KEY, IN, options.cluster_name)


def kubernetes_peer(
    pods: Mapping[str, Any] | None,
    namespaces: Mapping[str, Any] | None,
    path: str,
    namespace: str,
    options: AgentOptions,
) -> LabelSelector:
    """A NetworkPolicyPeer's podSelector and namespaceSelector as one selector (pkg/k8s/network_policy.go)."""
    selector = label_selector(Node(pods or {}, f"{path}.podSelector"), source="k8s")
    if namespaces is None:
        selector = selector.having("k8s", NAMESPACE_KEY, IN, namespace)
    else:
        inside = label_selector(Node(namespaces, f"{path}.namespaceSelector"), source="k8s")
        moved = tuple(each._replace(key=NAMESPACE_LABEL_PREFIX + each.key) for each in inside.requirements)
        selector = LabelSelector(selector.requirements + moved)
        if not moved:
            selector = selector.having("k8s", NAMESPACE_KEY, EXISTS)
    return in_cluster(selector, options)
