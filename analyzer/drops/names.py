"""Causes about names: DNS itself denied, and rules on names that were never, or not yet, looked up through the DNS proxy."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.scene import Near, Scene
from analyzer.model.l4 import Protocol
from analyzer.policy.selector import FqdnSelector, fqdn_pattern

__all__ = ["denied_lookups", "rules_on_names"]

DNS_PORTS = frozenset({53, 5353})
DNS_APPS = frozenset({"kube-dns", "coredns", "node-local-dns", "dns-default"})
_APP_KEYS = ("k8s-app", "app", "app.kubernetes.io/name", "dns.operator.openshift.io/daemonset-dns")


def denied_lookups(scene: Scene) -> Iterator[Cause]:
    """Lookups that are denied: whatever goes by a name fails with them."""
    l4, server = scene.edge.l4, scene.edge.destination
    resolver = any(server.labels.get(key, "k8s") in DNS_APPS for key in _APP_KEYS)
    if l4.protocol not in (Protocol.UDP, Protocol.TCP) or not (l4.port == 53 or (resolver and l4.port in DNS_PORTS)):
        return
    client, resolver_name = scene.titles if scene.section == "egress" else scene.titles[::-1]
    words = f"lookups of {client} at {resolver_name} are denied, so whatever it calls by name fails"
    evidence = (
        ["TCP is needed beside UDP: long answers are asked for again over TCP"] if l4.protocol is Protocol.TCP else []
    )
    yield Cause(CauseKind.DNS_DENIED, words, tuple(evidence))


def rules_on_names(scene: Scene) -> Iterator[Cause]:
    """Rules on DNS names with the right port."""
    if scene.section != "egress" or not scene.peer.address:
        return
    for near in scene.near:
        selectors = [each for each in near.item.peers or () if isinstance(each, FqdnSelector)]
        if selectors and near.port:
            found = _too_early(scene, near) if near.peer else _unnamed(scene, near, selectors)
            if found is not None:
                yield found


def _names(scene: Scene) -> list[str]:
    """The names that are known for the peer's address."""
    address = scene.peer.address
    names = set(scene.edge.stats.names) | set((scene.facts.answers or {}).get(address, ()))
    names |= {name for name, addresses in scene.inventory.names.items() if address in addresses}
    return sorted(names)


def _unnamed(scene: Scene, near: Near, selectors: list[FqdnSelector]) -> Cause | None:
    asked = " or ".join(each.name or each.pattern for each in selectors[:3])
    names = _names(scene)
    if names:
        words = f"{near.origin} names {asked}; {scene.peer.address} was looked up as {', '.join(names[:3])}"
        stars = any("*" in each.pattern for each in selectors)
        evidence = ("One * stands for one label: *.x.y is neither x.y nor a.b.x.y",) if stars else ()
        return Cause(CauseKind.FQDN_PATTERN, words, evidence, near.origin)
    if not _proxied(scene):
        words = (
            f"{near.origin} names {asked}, but no DNS rule (rules.dns) sends the lookups of {scene.titles[0]} through the proxy: "
            "Cilium never learns the addresses"
        )
        return Cause(CauseKind.FQDN_WITHOUT_DNS, words, _visible(scene), near.origin)
    words = (
        f"{near.origin} names {asked}, and {scene.peer.address} was not among the answers that the DNS proxy saw: an address "
        "that was cached, configured, or looked up elsewhere"
    )
    return Cause(CauseKind.FQDN_BEFORE_DNS, words, _visible(scene), near.origin)


def _proxied(scene: Scene) -> bool:
    """Whether a DNS rule selects the client."""
    return any(
        item.l7 is not None and bool(item.l7.dns) and not item.section.is_ingress
        for _, rule in scene.selecting
        for item in rule.items
    )


def _visible(scene: Scene) -> tuple[str, ...]:
    if scene.facts.asking is None:
        return ()
    seen = scene.subject in scene.facts.asking
    return (f"{'Lookups' if seen else 'No lookups'} of {scene.titles[0]} were recorded by the DNS proxy",)


def _too_early(scene: Scene, near: Near) -> Cause | None:
    """The engine knows the name by now. Did the agent know it then?"""
    answers = (scene.facts.answers or {}).get(scene.peer.address, {})
    patterns = [fqdn_pattern(each) for each in near.item.peers or () if isinstance(each, FqdnSelector)]
    times = [(time, name) for name, time in answers.items() if any(each and each.fullmatch(name) for each in patterns)]
    if not times or min(times)[0] <= scene.drops.first:
        return None
    words = f"{scene.peer.address} was called before its name {min(times)[1]} was looked up; {near.origin} knew it only afterwards"
    return Cause(CauseKind.FQDN_BEFORE_DNS, words, (), near.origin)
