"""Policy documents taken apart: one Rule for each spec, selectors with the scope that Cilium adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from analyzer.model.inventory import AgentOptions
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Labels

__all__ = ["PEERS", "SECTIONS", "Doc", "Rule", "matches", "rules_of", "scoped"]

Doc = Mapping[str, Any]
SECTIONS = {"ingress": ("ingress", "ingressDeny"), "egress": ("egress", "egressDeny")}
PEERS = {
    "ingress": ("fromEndpoints", "fromEntities", "fromCIDR", "fromCIDRSet", "fromNodes", "fromGroups"),
    "egress": ("toEndpoints", "toEntities", "toCIDR", "toCIDRSet", "toNodes", "toFQDNs", "toServices", "toGroups"),
}
K8S_NAMESPACE = f"k8s:{NAMESPACE_KEY}"


class Rule(NamedTuple):
    """One item of `spec` or `specs`. `namespace` is empty for a clusterwide policy."""

    spec: Doc
    namespace: str

    def items(self, direction: str, *, deny: bool) -> list[Doc]:
        """The items of a section. A deny item knows neither names nor L7: the API server prunes them."""
        items = [item or {} for item in self.spec.get(SECTIONS[direction][deny]) or ()]
        return [_pruned(item) for item in items] if deny else items

    def speaks(self, direction: str) -> bool:
        return any(self.spec.get(section) for section in SECTIONS[direction])

    def default_deny(self, direction: str) -> bool:
        asked = (self.spec.get("enableDefaultDeny") or {}).get(direction)
        return self.speaks(direction) and (asked is None or asked)

    def selects(self, labels: Labels) -> bool:
        if "host" in labels.reserved():
            return self.spec.get("nodeSelector") is not None and matches(self.spec["nodeSelector"], labels)
        if self.spec.get("endpointSelector") is None:
            return False
        subject = self.spec["endpointSelector"]
        if self.namespace:
            wanted = {**(subject.get("matchLabels") or {}), K8S_NAMESPACE: self.namespace}
            subject = {**subject, "matchLabels": wanted}
        return matches(subject, labels)


def rules_of(policy: Doc) -> list[Rule]:
    """The rules of one accepted document, whatever its kind."""
    namespace = (policy.get("metadata") or {}).get("namespace") or "default"
    if policy.get("kind") == "NetworkPolicy":
        return [Rule(_from_kubernetes(policy.get("spec") or {}, namespace), namespace)]
    if policy.get("kind") == "CiliumClusterwideNetworkPolicy":
        namespace = ""
    specs = [policy["spec"]] if policy.get("spec") is not None else []
    return [Rule(spec, namespace) for spec in [*specs, *(policy.get("specs") or ())]]


def _pruned(item: Doc) -> Doc:
    found = {key: value for key, value in item.items() if key != "toFQDNs"}
    if item.get("toPorts"):
        found["toPorts"] = [{"ports": (each or {}).get("ports")} for each in item["toPorts"]]
    return found


def _from_kubernetes(spec: Doc, namespace: str) -> Doc:
    """A NetworkPolicy's spec as a CiliumNetworkPolicy would say it."""
    types, ingress, egress = spec.get("policyTypes") or (), spec.get("ingress") or [], spec.get("egress") or []
    found: dict[str, Any] = {"endpointSelector": _prefixed(spec.get("podSelector") or {}, "k8s:")}
    if ingress or "Ingress" in types or "Egress" not in types:
        found["ingress"] = [new for item in ingress for new in _item(item, "from", namespace)] or [{}]
    if egress or "Egress" in types:
        found["egress"] = [new for item in egress for new in _item(item, "to", namespace)] or [{}]
    return found


def _item(item: Doc, word: str, namespace: str) -> list[Doc]:
    ports = [
        {**port, "port": str(port.get("port") or 0), "protocol": port.get("protocol") or "TCP"}
        for port in item.get("ports") or ()
    ]
    base = {"toPorts": [{"ports": ports}]} if ports else {}
    return [{**base, **_peer(peer, word, namespace)} for peer in item.get(word) or ()] or [
        {**base, f"{word}Entities": ["all"]}
    ]


def _peer(peer: Doc, word: str, namespace: str) -> Doc:
    if peer.get("ipBlock"):
        return {f"{word}CIDRSet": [peer["ipBlock"]]}
    pods = _prefixed(peer.get("podSelector") or {}, "k8s:")
    spaces: dict[str, Any] = {"matchLabels": {K8S_NAMESPACE: namespace}}
    if peer.get("namespaceSelector") is not None:
        spaces = _prefixed(peer["namespaceSelector"], f"k8s:{NAMESPACE_LABEL_PREFIX}")
        if not spaces["matchLabels"] and not spaces["matchExpressions"]:
            spaces = {"matchExpressions": [{"key": K8S_NAMESPACE, "operator": "Exists"}]}
    both = {
        "matchLabels": {**(pods.get("matchLabels") or {}), **(spaces.get("matchLabels") or {})},
        "matchExpressions": [*pods["matchExpressions"], *(spaces.get("matchExpressions") or ())],
    }
    return {f"{word}Endpoints": [both]}


def _prefixed(selector: Doc, prefix: str) -> dict[str, Any]:
    return {
        "matchLabels": {prefix + key: value for key, value in (selector.get("matchLabels") or {}).items()},
        "matchExpressions": [{**each, "key": prefix + each["key"]} for each in selector.get("matchExpressions") or ()],
    }


def scoped(selector: Doc, rule: Rule, options: AgentOptions) -> Doc:
    """A peer selector with the namespace and cluster that Cilium adds to it."""
    keys = _keys(selector)
    if any(key.startswith("reserved:") for key in keys):
        return selector
    labels, wanted = dict(selector.get("matchLabels") or {}), list(selector.get("matchExpressions") or ())
    bare = [key.removeprefix("k8s:").removeprefix("any:") for key in keys]
    if NAMESPACE_KEY not in bare:
        if not rule.namespace:
            if "reserved:init" not in _keys(rule.spec.get("endpointSelector") or {}):
                wanted.append({"key": K8S_NAMESPACE, "operator": "Exists"})
        elif not any(key.startswith(NAMESPACE_LABEL_PREFIX) for key in bare):
            labels[K8S_NAMESPACE] = rule.namespace
    if CLUSTER_KEY not in bare and not options.any_cluster:
        labels[f"k8s:{CLUSTER_KEY}"] = options.cluster_name
    return {"matchLabels": labels, "matchExpressions": wanted}


def _keys(selector: Doc) -> list[str]:
    return [*(selector.get("matchLabels") or {}), *(each["key"] for each in selector.get("matchExpressions") or ())]


def matches(selector: Doc, labels: Labels) -> bool:
    """Whether every requirement of a selector holds. A key without a source is one of any source."""
    if any(value not in _values(key, labels) for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for wanted in selector.get("matchExpressions") or ():
        have, listed = _values(wanted["key"], labels), wanted.get("values") or ()
        holds = {
            "In": any(value in listed for value in have),
            "NotIn": not any(value in listed for value in have),
            "Exists": bool(have),
            "DoesNotExist": not have,
        }
        if not holds[wanted["operator"]]:
            return False
    return True


def _values(key: str, labels: Labels) -> list[str]:
    source, colon, rest = key.partition(":")
    if not colon:
        source, rest = "any", key
    return [label.value for label in labels if label.key == rest and source in ("any", label.source)]
