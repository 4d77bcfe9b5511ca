"""Selectors and protocols as documents write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.model.l4 import Protocol
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.policy.checks import ANY_PROTOCOLS
from analyzer.policy.selector import IN, LabelSelector, Requirement

__all__ = ["in_own_namespace", "protocol_word", "written"]


def written(selector: LabelSelector, *, source: str = "any", not_in_labels: str = "") -> dict[str, Any]:
    """matchLabels as far as they keep the order of the requirements, matchExpressions from there on.

    Keys of `source` are written without it. The key `not_in_labels` is kept out of matchLabels.
    """
    labels: dict[str, str] = {}
    rest = list(selector.requirements)
    while rest and rest[0].operator is IN and len(rest[0].values) == 1:
        key = _key(rest[0], source)
        if key == not_in_labels or (labels and key <= next(reversed(labels))):
            break
        labels[key] = rest.pop(0).values[0]
    found: dict[str, Any] = {"matchLabels": labels} if labels else {}
    if rest:
        found["matchExpressions"] = [_expression(each, source) for each in rest]
    return found


def _key(requirement: Requirement, source: str) -> str:
    return requirement.key if requirement.source == source else f"{requirement.source}:{requirement.key}"


def _expression(requirement: Requirement, source: str) -> dict[str, Any]:
    found = {"key": _key(requirement, source), "operator": requirement.operator.name}
    return {**found, "values": list(requirement.values)} if requirement.values else found


def in_own_namespace(subject: LabelSelector, namespace: str) -> LabelSelector:
    """A namespaced policy's subject without the requirement that parsing puts at its end."""
    last = Requirement("k8s", NAMESPACE_KEY, IN, (namespace,))
    return LabelSelector(subject.requirements[:-1]) if subject.requirements[-1:] == (last,) else subject


def protocol_word(protocols: Sequence[Protocol]) -> str:
    """The word that stands for these protocols."""
    return "ANY" if tuple(protocols) == ANY_PROTOCOLS else protocols[0].name
