"""Traps around DNS: names that are never learned, and workloads that cannot look anything up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.lint.finding import Trap
from analyzer.lint.lookups import Lookups
from analyzer.lint.selectors import names_namespace, peer_selectors
from analyzer.lint.written import Context, Spec, Written, listed, mapping
from analyzer.model.identity import Entity
from analyzer.model.l4 import Protocol
from analyzer.model.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, Labels
from analyzer.policy.model import Action, DnsRule, Item, PortSpec, Section
from analyzer.policy.selector import (
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    PeerSelector,
    ServiceSelector,
    fqdn_pattern,
)

__all__ = ["egress_without_dns", "own_namespace_dns", "unlearned_names"]

DNS_PORT = 53
# The pods that most clusters' DNS runs in (the labels of kube-dns, which CoreDNS kept).
DNS_LABELS = {"k8s-app": "kube-dns"}
DNS_NAMESPACE = "kube-system"
_DNS_NAMES = frozenset({"kube-dns", "coredns", "node-local-dns"})
_RESOLVER = Labels.of(
    [
        *(Label("k8s", key, value) for key, value in DNS_LABELS.items()),
        Label("k8s", NAMESPACE_KEY, DNS_NAMESPACE),
        Label("k8s", f"{NAMESPACE_LABEL_PREFIX}kubernetes.io/metadata.name", DNS_NAMESPACE),
        Label("k8s", "io.cilium.k8s.policy.cluster", "default"),
    ]
)
_ALLOW_HINT = (
    "allow port 53 (UDP and TCP) to the cluster's DNS, such as pods with k8s-app=kube-dns in namespace kube-system"
)
_HINT = (
    "allow port 53 to kube-dns in kube-system with `rules: {dns: [{matchPattern: \"*\"}]}` for the same pods, in this policy or "
    "in one that covers them"
)  # fmt: skip


def _is_dns(item: Item) -> bool:
    """Whether the item lets its subject look names up: port 53 to whomever, or every port to the cluster's DNS."""
    if item.peers == ():
        return False
    for spec in item.ports if item.ports is not None else (PortSpec((Protocol.UDP,)),):
        if Protocol.UDP not in spec.protocols or not (spec.name == "dns" or spec.first <= DNS_PORT <= spec.last):
            continue
        if spec.first == DNS_PORT or spec.name or item.peers is None or any(map(_is_resolver, item.peers)):
            return True
    return bool(item.l7 and item.l7.dns)


def _is_resolver(peer: PeerSelector) -> bool:
    if isinstance(peer, EntitySelector):
        return peer.entity in (Entity.ALL, Entity.CLUSTER, Entity.CLUSTER_MESH)
    return isinstance(peer, LabelSelector) and peer.matches(_RESOLVER)


def unlearned_names(policies: Sequence[Written], context: Context) -> Iterator[tuple[Written, Trap]]:
    """toFQDNs allows the addresses that the DNS proxy saw in answers: without a DNS rule it sees none (docs/semantics.md 51)."""
    lookups = Lookups(policies, _is_dns, context.inventory, named=True)
    for written in policies:
        for spec in written.specs:
            known = lookups.of(spec.rule)
            for item in spec.items():
                for index, name in enumerate(listed(item.body.get("toFQDNs"))):
                    path = f"{item.path}.toFQDNs[{index}]"
                    if not known:
                        message = (
                            "no DNS rule is there for these pods: Cilium never learns the addresses of these names"
                        )
                        yield written, Trap("fqdn-without-dns", path.rpartition("[")[0], message, _HINT)
                        break
                    text = str(mapping(name).get("matchName") or mapping(name).get("matchPattern") or "")
                    if text and not any(_asked(text, rule) for each in known for rule in each.names):
                        message = f"the DNS rules for these pods do not let {text:.80} be looked up"
                        yield written, Trap("fqdn-without-dns", path, message, "add the name to the DNS rule")


def _asked(text: str, rule: DnsRule) -> bool:
    """Whether names of `text`, a name or a pattern, can be asked for under a DNS rule."""
    if text.lower().rstrip(".") in rule:
        return True
    pattern = fqdn_pattern(FqdnSelector(*rule))
    return pattern is not None and bool(
        pattern.fullmatch(text.lower().rstrip(".").replace("**.", "x.").replace("*", "x"))
    )


def egress_without_dns(policies: Sequence[Written], context: Context) -> Iterator[tuple[Written, Trap]]:
    """Egress is denied by default and something with a name is allowed, but no DNS: clients find nobody."""
    lookups = Lookups(policies, _is_dns, context.inventory)
    for written in policies:
        for spec in written.specs:
            items = [each for each in spec.rule.items if each.section is Section.EGRESS]
            if not spec.rule.deny_egress or spec.rule.host or not any(_has_name(each) for each in items):
                continue
            if any(listed(item.body.get("toFQDNs")) for item in spec.items()) or _is_resolver_itself(spec):
                continue
            if not lookups.of(spec.rule):
                message = "egress is denied by default and no rule allows DNS: these pods cannot look up whom they may talk to"
                yield written, Trap("egress-without-dns", f"{spec.path}.egress", message, _ALLOW_HINT)


def _has_name(item: Item) -> bool:
    """Whether clients usually find such peers by their names."""
    if item.peers is None:
        return item.ports != ()
    return item.ports != () and any(
        isinstance(each, LabelSelector | ServiceSelector | FqdnSelector) or each == EntitySelector(Entity.WORLD)
        for each in item.peers
    )


def _is_resolver_itself(spec: Spec) -> bool:
    return any(
        each.key in ("k8s-app", "app") and _DNS_NAMES & set(each.values) for each in spec.rule.subject.requirements
    )


def own_namespace_dns(written: Written, context: Context) -> Iterator[Trap]:
    """A peer selector without a namespace means the policy's own, where the cluster's DNS is not (docs/semantics.md 18)."""
    if written.ref.kind != "CiliumNetworkPolicy" or written.ref.namespace == DNS_NAMESPACE:
        return
    for spec in written.specs:
        for item in spec.items():
            for selector, path in peer_selectors(item) if item.section.action is Action.ALLOW else ():
                values = set(map(str, mapping(selector.get("matchLabels")).values()))
                if _DNS_NAMES & values and not names_namespace(selector):
                    message = (
                        f"selects pods of namespace {written.ref.namespace} only, where the cluster's DNS seldom is"
                    )
                    hint = f"add k8s:{NAMESPACE_KEY}: {DNS_NAMESPACE} to matchLabels"
                    yield Trap("no-namespace", path, message, hint)
