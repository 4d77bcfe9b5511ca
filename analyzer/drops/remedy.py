"""Remedies: the rule that a drop lacks, as an addition to a policy - by the adviser, and for requests and names by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.documents import Documents
from analyzer.drops.proxy import dns_query, http_request
from analyzer.drops.scene import Scene
from analyzer.model.edge import Endpoint
from analyzer.model.identity import entities
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY
from analyzer.policy import Origin
from analyzer.recommend.paths import QUERY, escaped, is_path
from analyzer.suggest import Advice

__all__ = ["FIXABLE", "HINTS", "by_hand"]

FIXABLE = frozenset(
    {
        CauseKind.DNS_DENIED, CauseKind.L7_RULE, CauseKind.DNS_NAME, CauseKind.FQDN_WITHOUT_DNS, CauseKind.FQDN_PATTERN,
        CauseKind.SERVICE_PORT, CauseKind.NAMED_PORT, CauseKind.PROTOCOL, CauseKind.CIDR_INSIDE, CauseKind.SNAT,
        CauseKind.ENTITY, CauseKind.PORT, CauseKind.NAMESPACE, CauseKind.CLUSTER, CauseKind.LABEL, CauseKind.CIDR_EXCEPT,
        CauseKind.CIDR_OTHER, CauseKind.SUBJECT, CauseKind.ONE_SIDE, CauseKind.NO_RULE,
    }
)  # fmt: skip
"""Causes that a rule helps against. A rule against any other would open something and help nothing."""

HINTS: dict[CauseKind, str] = {
    CauseKind.NETWORK: "",
    CauseKind.EXPLICIT_DENY: "Narrow or remove the deny rule, if it is not meant.",
    CauseKind.REPLY: "Look at the routes of both ends and at idle timeouts; a rule on the client's port would help nothing.",
    CauseKind.LATE_IDENTITY: "Wait; if it goes on, look at masquerading and at the health of the agents.",
    CauseKind.FQDN_BEFORE_DNS: "Let the client look the name up again (restart it, mind its DNS cache); a CIDR would go stale.",
    CauseKind.CHANGED: "Give the policies that were in force then, or look whether it still happens.",
    CauseKind.UNDECIDED: "Give --inventory, or look the pod up with `cilium-dbg endpoint get`.",
    CauseKind.NOT_ASKED: "Give --policies to see which rule comes nearest, and the smallest change.",
    CauseKind.SNAT: "Better than a rule for nodes: externalTrafficPolicy: Local keeps the client's address.",
}
"""The next step where it is not the fix, and a word beside it where it is."""
_RESOLVER = {f"k8s:{NAMESPACE_KEY}": "kube-system", "k8s:k8s-app": "kube-dns"}
_APPS = ("k8s-app", "app.kubernetes.io/name", "app")


def by_hand(scene: Scene, cause: Cause, documents: Documents) -> Advice | None:
    """The rule for what the adviser has no word for: a request, a name to look up, or lookups as such."""
    if cause.kind is CauseKind.FQDN_WITHOUT_DNS and cause.rule is not None:
        item = {"toEndpoints": [{"matchLabels": _resolver(scene)}], "toPorts": [_dns("*", pattern=True)]}
        return _added(cause.rule, item, ("All lookups go through the DNS proxy then; matchPattern may be narrowed",))
    if cause.kind not in (CauseKind.L7_RULE, CauseKind.DNS_NAME) or cause.rule is None:
        return None
    found = _item(documents, cause.rule)
    if found is None:
        return None
    rules = _request_rules(scene)
    if rules is None:
        return None
    l4 = scene.edge.l4
    peers = {key: value for key, value in found.items() if key.startswith(("from", "to")) and key != "toPorts"}
    port = {"port": str(l4.port), "protocol": str(l4.protocol)}
    return _added(cause.rule, {**peers, "toPorts": [{"ports": [port], "rules": rules}]}, ())


def _request_rules(scene: Scene) -> dict[str, Any] | None:
    http, dns = http_request(scene), dns_query(scene)
    if dns is not None:
        return {"dns": [{"matchName": dns.name}]}
    if http is None or not is_path(http.path):
        return None
    return {"http": [{"method": escaped(http.method), "path": escaped(http.path) + QUERY}]}


def _dns(name: str, *, pattern: bool) -> dict[str, Any]:
    return {
        "ports": [{"port": "53", "protocol": "ANY"}],
        "rules": {"dns": [{"matchPattern" if pattern else "matchName": name}]},
    }


def _resolver(scene: Scene) -> dict[str, str]:
    """The labels of the resolver that the record shows, or those of the usual one."""
    for edge in scene.facts.recorded.values():
        if edge.l4.port == 53 and edge.source == scene.subject and _is_pod(edge.destination):
            labels = edge.destination.labels
            for key in _APPS:
                value = labels.get(key, "k8s")
                if value:
                    return {f"k8s:{NAMESPACE_KEY}": edge.destination.namespace, f"k8s:{key}": value}
    return dict(_RESOLVER)


def _is_pod(end: Endpoint) -> bool:
    return bool(end.namespace) and not entities(end.labels) and end.labels.get(CLUSTER_KEY, "k8s") is not None


def _item(documents: Documents, rule: Origin) -> Mapping[str, Any] | None:
    data = documents.data(rule.policy)
    if data is None:
        return None
    spec = data["specs"][rule.spec - 1] if rule.spec else data.get("spec") or {}
    items = spec.get(rule.section) or []
    return items[rule.rule] if rule.rule < len(items) and isinstance(items[rule.rule], Mapping) else None


def _added(rule: Origin, item: Mapping[str, Any], remarks: tuple[str, ...]) -> Advice:
    section = rule.section
    return Advice(section, rule.policy, rule.spec, item, remarks=remarks)
