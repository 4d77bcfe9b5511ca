"""Traps in selectors: namespaces that are not named, keys that mean something else, endpoints that are no pods."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.lint.finding import Trap
from analyzer.lint.written import Context, Doc, Spec, Written, WrittenItem, listed, mapping
from analyzer.model.identity import reserved
from analyzer.model.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX
from analyzer.policy.model import Action
from analyzer.policy.selector import LabelSelector

__all__ = [
    "clusterwide_peers", "clusterwide_subjects", "keys", "misread_keys", "overwritten_namespaces", "peer_selectors",
]  # fmt: skip

CCNP = "CiliumClusterwideNetworkPolicy"
HEALTH = reserved("health")
_NAMESPACE = f"k8s:{NAMESPACE_KEY}"
_EXISTS = f"{{key: {_NAMESPACE}, operator: Exists}}"
_SOURCES = ("k8s", "any", "container", "reserved", "node", "cidr", "cidrgroup")
_NAMESPACE_KEYS = (NAMESPACE_KEY, _NAMESPACE, f"any:{NAMESPACE_KEY}")


def keys(selector: object) -> list[tuple[str, str]]:
    """Each key of a selector with its place in it."""
    body = mapping(selector)
    found = [(str(key), f"matchLabels.{key}") for key in mapping(body.get("matchLabels"))]
    for index, each in enumerate(listed(body.get("matchExpressions"))):
        found.append((str(mapping(each).get("key", "")), f"matchExpressions[{index}].key"))
    return found


def names_namespace(selector: object) -> bool:
    """Whether some key of it speaks of the namespace, by name or by its labels."""
    plain = (key.partition(":")[2] if key.partition(":")[0] in ("k8s", "any") else key for key, _ in keys(selector))
    return any(key == NAMESPACE_KEY or key.startswith(NAMESPACE_LABEL_PREFIX) for key in plain)


def clusterwide_subjects(written: Written, context: Context) -> Iterator[Trap]:
    """Whom a clusterwide policy selects besides the pods that were meant (docs/semantics.md 13, 22)."""
    for spec in written.specs if written.ref.kind == CCNP else ():
        selector, path = spec.body.get("endpointSelector"), f"{spec.path}.endpointSelector"
        if selector is None:
            continue
        named = keys(selector)
        if spec.rule.subject.matches(HEALTH) and not any("health" in key for key, _ in named):
            yield _not_pods_only(spec, path)
        elif named and not names_namespace(selector) and not any(key.startswith("reserved:") for key, _ in named):
            yield _any_namespace("every-namespace", path, "selects pods with these labels in every namespace")


def _not_pods_only(spec: Spec, path: str) -> Trap:
    expressions = listed(mapping(spec.body.get("endpointSelector")).get("matchExpressions"))
    negated = any(
        mapping(each).get("operator") == "NotIn" and mapping(each).get("key") in _NAMESPACE_KEYS for each in expressions
    )
    how = "NotIn also holds where there is no namespace" if negated else "nothing in it asks for a pod"
    message = f"{how}: the health and ingress endpoints of each node are selected too"
    rule = "not-in-namespace" if negated else "selects-health"
    return Trap(rule, path, message, f"add {_EXISTS} to matchExpressions to select pods only")


def _any_namespace(rule: str, path: str, message: str) -> Trap:
    return Trap(rule, path, message, f"name the namespace with {_NAMESPACE}, or write {_EXISTS} if all are meant")


def clusterwide_peers(written: Written, context: Context) -> Iterator[Trap]:
    """Peers by label alone in a clusterwide policy: whoever may make a pod in any namespace can take these labels."""
    for spec in written.specs if written.ref.kind == CCNP else ():
        for item in spec.items():
            if item.section.action is Action.DENY:
                continue
            for selector, path in peer_selectors(item):
                named = keys(selector)
                if named and not names_namespace(selector) and not any(key.startswith("reserved:") for key, _ in named):
                    yield _any_namespace("no-namespace", path, "allows pods with these labels in every namespace")


def peer_selectors(item: WrittenItem) -> Iterator[tuple[Doc, str]]:
    """The label selectors among the peers of an item, each with its place."""
    name = f"{item.prefix}Endpoints"
    for index, selector in enumerate(listed(item.body.get(name))):
        yield mapping(selector), f"{item.path}.{name}[{index}]"


def overwritten_namespaces(written: Written, context: Context) -> Iterator[Trap]:
    """A CiliumNetworkPolicy selects in its own namespace, whatever its selector says (docs/semantics.md 17)."""
    if written.ref.kind != "CiliumNetworkPolicy":
        return
    for spec in written.specs:
        path = f"{spec.path}.endpointSelector"
        said = mapping(mapping(spec.body.get("endpointSelector")).get("matchLabels")).get(_NAMESPACE)
        own = written.ref.namespace
        hint = f"move the policy into that namespace, or use a {CCNP}"
        if said is not None and said != own:
            message = f"{said!s:.80} is overwritten: a policy selects pods of its own namespace, {own}"
            yield Trap("foreign-namespace", f"{path}.matchLabels.{_NAMESPACE}", message, hint)
        elif _contradicts(spec.rule.subject, own):
            message = f"selects nothing: it asks for another namespace than the policy's own, {own}"
            yield Trap("foreign-namespace", path, message, hint)


def _contradicts(subject: LabelSelector, own: str) -> bool:
    """Whether a requirement on the namespace excludes the policy's own."""
    return any(
        each.key == NAMESPACE_KEY and (each.operator.exists or own in each.values) == each.operator.negated
        for each in subject.requirements
        if each.source in ("any", "k8s")
    )


def misread_keys(written: Written, context: Context) -> Iterator[Trap]:
    """Keys as Hubble or an old release writes them, which a selector takes for something else (docs/semantics.md 16)."""
    for spec in written.specs if not written.is_kubernetes else ():
        selectors = [(spec.body.get(name), f"{spec.path}.{name}") for name in ("endpointSelector", "nodeSelector")]
        selectors += [found for item in spec.items() for found in peer_selectors(item)]
        for selector, path in selectors:
            for key, place in keys(selector):
                source, dot, rest = key.partition(".")
                if dot and rest and source in _SOURCES[:3]:
                    message = f"{key!s:.80} is a key of its own: the source of a label is set off by a colon"
                    yield Trap("label-source", f"{path}.{place}", message, f"write {source}:{rest:.80}")
