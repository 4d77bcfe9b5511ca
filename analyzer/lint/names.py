"""Traps around DNS: names that are never learned, and workloads that cannot look anything up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzer.lint.finding import Trap
from analyzer.lint.selectors import names_namespace, peer_selectors
from analyzer.lint.written import Context, Spec, Written, listed, mapping
from analyzer.model.identity import Entity
from analyzer.model.l4 import Protocol
from analyzer.model.labels import NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, Labels
from analyzer.policy.model import Action, DnsRule, Item, PortSpec, Rule, Section
from analyzer.policy.selector import (
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    PeerSelector,
    Requirement,
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


class _Lookups(NamedTuple):
    """What subjects with these requirements may ask DNS for; the DNS proxy learns from what has `names`."""

    host: bool
    needs: tuple[Requirement, ...]
    names: tuple[DnsRule, ...]

    def selects(self, labels: Labels) -> bool:
        """Whether an endpoint with these labels is a subject."""
        return LabelSelector(self.needs).matches(labels)


def _lookups(context: Context) -> list[_Lookups]:
    found: dict[tuple[bool, tuple[Requirement, ...]], set[DnsRule]] = {}
    for written in context.policies:
        for rule in written.policy.rules:
            items = [each for each in rule.items if each.section is Section.EGRESS and _is_dns(each)]
            if items:
                names = found.setdefault((rule.host, rule.subject.requirements), set())
                names.update(name for item in items if item.l7 for name in item.l7.dns)
    return [_Lookups(host, needs, tuple(sorted(names))) for (host, needs), names in found.items()]


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


def _meeting(rule: Rule, lookups: Sequence[_Lookups], context: Context) -> list[_Lookups]:
    """What lets every subject of `rule` look up names: surely, as it selects all that `rule` can select, or at least all
    pods that are known."""
    found = [each for each in lookups if each.host == rule.host and _covers(each.needs, rule.subject.requirements)]
    if found or context.inventory is None:
        return found
    pods = [each.labels for each in context.inventory.endpoints if rule.subject.matches(each.labels)]
    meeting = [each for each in lookups if any(map(each.selects, pods))]
    return meeting if pods and all(any(each.selects(pod) for each in meeting) for pod in pods) else []


def _covers(needs: Sequence[Requirement], asked: Sequence[Requirement]) -> bool:
    return all(any(_implies(each, need) for each in asked) for need in needs)


def _implies(one: Requirement, other: Requirement) -> bool:
    """Whether labels that fulfil `one` surely fulfil `other`."""
    if one == other:
        return True
    if one.key != other.key or other.source not in (one.source, "any") or one.operator.negated:
        return False
    if other.operator.exists or one.operator.exists:
        return other.operator.exists and not other.operator.negated
    return not any((value in other.values) == other.operator.negated for value in one.values)


def unlearned_names(policies: Sequence[Written], context: Context) -> Iterator[tuple[Written, Trap]]:
    """toFQDNs allows the addresses that the DNS proxy saw in answers: without a DNS rule it sees none (docs/semantics.md 51)."""
    lookups = [each for each in _lookups(context) if each.names]
    for written in policies:
        for spec in written.specs:
            known = _meeting(spec.rule, lookups, context)
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
    lookups = _lookups(context)
    for written in policies:
        for spec in written.specs:
            items = [each for each in spec.rule.items if each.section is Section.EGRESS]
            if not spec.rule.deny_egress or spec.rule.host or not any(_has_name(each) for each in items):
                continue
            if any(listed(item.body.get("toFQDNs")) for item in spec.items()) or _is_resolver_itself(spec):
                continue
            if not _meeting(spec.rule, lookups, context):
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
