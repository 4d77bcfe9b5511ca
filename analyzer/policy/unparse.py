"""unparse: a Policy back to the document of a CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy; parse reads it back equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import ICMP_FAMILY
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.policy.model import DnsRule, HeaderRule, HttpRule, Item, L7Rules, Policy, PortSpec, Rule, Section
from analyzer.policy.parse_selectors import Scope, scoped
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    NodeSelector,
    PeerSelector,
    ServiceSelector,
    UnknownSelector,
)
from analyzer.policy.unparse_kubernetes import unparse_kubernetes
from analyzer.policy.unparse_selectors import in_own_namespace, protocol_word, written

__all__ = ["unparse"]

Doc = dict[str, Any]
MAX_FIELDS = 40
"""Most ICMP fields in one rule, as the CRD has it."""
NOT_MODELLED = {"secret": {"name": "not-modelled"}}
"""Stands for L7 rules whose content a Policy does not keep: server names, TLS contexts, listeners, other parsers."""


def unparse(policy: Policy, options: AgentOptions = AgentOptions()) -> Doc:
    """The document of `policy`, with ``parse(unparse(p, o), o) == p`` for each `p` that ``parse(document, o)`` gave.

    What parsing adds by itself (the scope of selectors) is left out again. What a Policy does not keep is lost: annotations,
    descriptions, and the content of rules that need TLS, server names or a listener: these come back as a TLS context
    with a secret called ``not-modelled``, so that they still redirect and cannot be applied by accident.
    """
    ref = policy.ref
    meta = {"name": ref.name, **({"namespace": ref.namespace} if ref.namespace else {})}
    if ref.kind == "NetworkPolicy":
        spec = unparse_kubernetes(policy.rules[0], ref.namespace, options)
        return {"apiVersion": "networking.k8s.io/v1", "kind": ref.kind, "metadata": meta, "spec": spec}
    found: Doc = {"apiVersion": "cilium.io/v2", "kind": ref.kind, "metadata": meta}
    for rule in policy.rules:
        if rule.spec == 0:
            found["spec"] = _spec(rule, ref.namespace, options)
        else:
            found.setdefault("specs", []).append(_spec(rule, ref.namespace, options))
    return found


def _spec(rule: Rule, namespace: str, options: AgentOptions) -> Doc:
    subject = in_own_namespace(rule.subject, namespace) if namespace else rule.subject
    overwritten = f"k8s:{NAMESPACE_KEY}" if namespace else ""
    found: Doc = {"nodeSelector" if rule.host else "endpointSelector": written(subject, not_in_labels=overwritten)}
    scope = Scope(
        namespace, options, init_subject=any(each[:2] == ("reserved", "init") for each in subject.requirements)
    )
    for section, items in groupby(rule.items, key=lambda item: item.section):
        found[section.value] = [
            _item(list(group), section, scope) for _, group in groupby(items, key=lambda x: x.index)
        ]
    asked = {"ingress": rule.deny_ingress, "egress": rule.deny_egress}
    # Items of a direction ask for default deny by themselves.
    off = [side for side in asked if not asked[side] and (side in found or f"{side}Deny" in found)]
    if off:
        found["enableDefaultDeny"] = dict.fromkeys(off, False)
    return found


def _item(items: Sequence[Item], section: Section, scope: Scope) -> Doc:
    """The API's item of what became one Item per element of toPorts."""
    first = items[0]
    found: Doc = {}
    if first.peers is not None and (first.peers or first.ports is not None):
        found |= _peers(first.peers, "from" if section.is_ingress else "to", scope)
    if first.ports is None:
        return found
    if first.ports and first.ports[0].protocols[0].is_icmp:
        fields = [_icmp(spec) for spec in first.ports]
        chunks = (fields[start : start + MAX_FIELDS] for start in range(0, len(fields), MAX_FIELDS))
        return {**found, "icmps": [{"fields": chunk} for chunk in chunks]}
    return {**found, "toPorts": [_to_ports(item) for item in items]}


def _peers(peers: tuple[PeerSelector, ...], prefix: str, scope: Scope) -> Doc:
    if not peers:
        return {f"{prefix}Endpoints": []}
    plain = all(isinstance(each, CidrSelector) and not each.excepts for each in peers)
    made = [_peer(each, scope, plain) for each in peers]
    return {prefix + made[0][0]: [value for _, value in made]}


def _peer(peer: PeerSelector, scope: Scope, plain: bool) -> tuple[str, Any]:
    match peer:
        case LabelSelector():
            return "Endpoints", written(_unscoped(peer, scope))
        case EntitySelector(entity):
            return "Entities", entity.value
        case CidrSelector(network, excepts):
            return ("CIDR", str(network)) if plain else ("CIDRSet", {"cidr": str(network), **_except(excepts)})
        case CidrGroupSelector():
            return "CIDRSet", _group(peer)
        case FqdnSelector(name, pattern):
            return "FQDNs", _names(name, pattern)
        case NodeSelector(selector):
            return "Nodes", written(selector)
        case ServiceSelector():
            return "Services", _service(peer)
        case UnknownSelector():
            return "Groups", {}


def _unscoped(selector: LabelSelector, scope: Scope) -> LabelSelector:
    """Without the requirements that scoping puts at the end, as far as it would put them there again."""
    for added in (2, 1):
        shorter = LabelSelector(selector.requirements[:-added])
        if len(selector.requirements) >= added and scoped(shorter, scope) == selector:
            return shorter
    return selector


def _except(excepts: Iterable[Any]) -> Doc:
    found = [str(each) for each in excepts]
    return {"except": found} if found else {}


def _group(group: CidrGroupSelector) -> Doc:
    if group.selector is None:
        return {"cidrGroupRef": group.ref, **_except(group.excepts)}
    return {"cidrGroupSelector": written(group.selector, source="cidrgroup"), **_except(group.excepts)}


def _service(service: ServiceSelector) -> Doc:
    namespace = {"namespace": service.namespace} if service.namespace else {}
    if service.labels is None:
        return {"k8sService": {"serviceName": service.name, **namespace}}
    return {"k8sServiceSelector": {"selector": written(service.labels, source="k8s"), **namespace}}


def _names(name: str, pattern: str) -> Doc:
    return {key: text for key, text in (("matchName", name), ("matchPattern", pattern)) if text}


def _icmp(spec: PortSpec) -> Doc:
    return {"family": ICMP_FAMILY[spec.protocols[0]], "type": spec.first}


def _to_ports(item: Item) -> Doc:
    found: Doc = {}
    if item.ports:
        found["ports"] = [_port(spec) for spec in item.ports]
    return {**found, **(_l7(item.l7) if item.l7 else {})}


def _port(spec: PortSpec) -> Doc:
    found: Doc = {"port": spec.name or str(spec.first), "protocol": protocol_word(spec.protocols)}
    # A named port keeps its endPort in `last`; every port is port 0.
    if spec.last != spec.first and (spec.last if spec.name else spec.first):
        found["endPort"] = spec.last
    return found


def _l7(rules: L7Rules) -> Doc:
    found: Doc = {"terminatingTLS": NOT_MODELLED} if rules.other else {}
    if rules.http:
        found["rules"] = {"http": [_http(each) for each in rules.http]}
    if rules.dns:
        found["rules"] = {"dns": [_names(*each) for each in map(DnsRule._make, rules.dns)]}
    return found


def _http(rule: HttpRule) -> Doc:
    found: Doc = {key: text for key, text in zip(("method", "path", "host"), rule[:3], strict=True) if text}
    texts = list(_header_texts(rule.headers))
    if texts:
        found["headers"] = texts
    if len(texts) < len(rule.headers):
        found["headerMatches"] = [
            {"name": each.name, **({} if each.value is None else {"value": each.value})}
            for each in rule.headers[len(texts) :]
        ]
    return found


def _header_texts(headers: Iterable[HeaderRule]) -> Iterator[str]:
    """Headers as one text each, up to the first whose name does not allow it: that one, and so all after it, are matches."""
    for name, value in headers:
        if " " in name or name.endswith(":"):
            return
        yield name if value is None else f"{name}: {value}"
