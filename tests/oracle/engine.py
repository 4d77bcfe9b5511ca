"""decide and allowed: every question answered by walking all policies, all rules, all items. Slow and plain on purpose."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from analyzer.model.l4 import L4
from analyzer.model.labels import CLUSTER_KEY, Labels
from tests.oracle.refused import ICMP_TYPES, is_cidr, refusal
from tests.oracle.rules import PEERS, Doc, Rule, matches, rules_of, scoped
from tests.oracle.world import Party, World

__all__ = ["allowed", "decide", "decide_between", "in_force"]

NOWHERE = World()
"""An agent without any option set, and nothing known about its cluster."""
IN_CLUSTER = {"host", "remote-node", "kube-apiserver", "health", "init", "ingress", "unmanaged"}


def decide(policies: Sequence[Doc], world: World, flow: Doc) -> str:
    """Egress, ingress and final letter of a conformance flow, then ``+`` or ``-`` if the proxy judges its request."""
    return decide_between(policies, world, world.party(flow["src"]), world.party(flow["dst"]), flow)


def allowed(
    policies: Sequence[Doc],
    source: tuple[Iterable[str], str, tuple[str, ...]],
    destination: tuple[Iterable[str], str, tuple[str, ...]],
    l4: L4,
    world: World = NOWHERE,
) -> bool:
    """Whether traffic passes from `source` to `destination`, each given as (labels, ip, DNS names).

    The labels are complete, as an agent reports them: a pod's cluster and the labels of its namespace are among them.
    """
    flow = {"proto": str(l4.protocol), "port": l4.port, "icmpType": l4.port}
    ends = [Party(Labels.of(labels), ip, names) for labels, ip, names in (source, destination)]
    return decide_between(policies, world, ends[0], ends[1], flow)[2] != "D"


def decide_between(policies: Sequence[Doc], world: World, source: Party, destination: Party, flow: Doc) -> str:
    """As `decide`, for two parties that the caller made."""
    out, out_passes = _side(policies, world, "egress", source, destination, flow)
    into, in_passes = _side(policies, world, "ingress", destination, source, flow)
    final = "D" if "D" in out + into else "R" if "R" in out + into else "A"
    sign = ("+" if out_passes and in_passes else "-") if flow.get("l7") and "R" in out + into else ""
    return out + into + final + sign


def in_force(policies: Sequence[Doc], world: World) -> list[Rule]:
    """The rules of all documents that are accepted and not replaced by a later one of the same name."""
    latest: dict[tuple[str, ...], Doc] = {}
    for policy in policies:
        if refusal(policy, world.options) is None:
            meta = policy["metadata"]
            latest[policy["kind"], meta.get("namespace") or "default", meta["name"]] = policy
    return [rule for policy in latest.values() for rule in rules_of(policy)]


def _side(
    policies: Sequence[Doc], world: World, direction: str, subject: Party, peer: Party, flow: Doc
) -> tuple[str, bool]:
    """One direction at the side of `subject`: its letter, and whether its proxy lets the request pass."""
    options = world.options
    if options.enforcement == "never" or not _managed(subject, world):
        return "A", True
    rules = [rule for rule in in_force(policies, world) if rule.selects(subject.labels) and rule.speaks(direction)]
    default_deny = (
        options.enforcement == "always"
        or "init" in subject.reserved
        or any(rule.default_deny(direction) for rule in rules)
    )
    target = subject if direction == "ingress" else peer
    plain, inspected, passes = False, False, False
    for rule in rules:
        for item in rule.items(direction, deny=True):
            if _covers(rule, item, direction, peer, world) and _ports(item, target, flow):
                return "D", True
        for item in rule.items(direction, deny=False):
            if _covers(rule, item, direction, peer, world):
                for l7 in _ports(item, target, flow):
                    plain = plain or l7 is None
                    inspected = inspected or l7 is not None
                    passes = passes or l7 is None or _request_passes(l7, flow.get("l7") or {})
    if direction == "ingress" and "host" in peer.reserved and options.allow_localhost == "always" and rules:
        plain = passes = True
    if inspected:
        return "R", passes or not default_deny
    return ("A" if plain or not default_deny else "D"), True


def _managed(party: Party, world: World) -> bool:
    """Whether agents of this cluster enforce policy for the party at all."""
    if "host" in party.reserved:
        return world.options.host_firewall
    unmanaged = party.outside or party.reserved & {"remote-node", "kube-apiserver", "unmanaged"}
    return not unmanaged and _is_local(party, world)


def _is_local(party: Party, world: World) -> bool:
    return party.labels.get(CLUSTER_KEY, "k8s") in (None, world.options.cluster_name)


def _covers(rule: Rule, item: Doc, direction: str, peer: Party, world: World) -> bool:
    """Whether the item speaks of this peer."""
    named = [key for key in PEERS[direction] if item.get(key) is not None]
    named = [key for key in named if item[key] or not key.endswith(("FQDNs", "Services", "Groups"))]
    if not named:
        return bool(item.get("toPorts") or item.get("icmps"))
    if any(not item[key] for key in named):
        return False
    return any(_is_peer(key, each, rule, peer, world) for key in named for each in item[key])


def _is_peer(key: str, wanted: Any, rule: Rule, peer: Party, world: World) -> bool:
    if key.endswith("Endpoints"):
        return matches(scoped(wanted or {}, rule, world.options), peer.labels)
    if key.endswith("Entities"):
        return _is_entity(wanted, peer, world)
    if key.endswith("CIDR"):
        return _in_cidr(wanted, peer, world)
    if key.endswith("CIDRSet"):
        return _in_cidr_set(wanted, peer, world)
    if key.endswith("Nodes"):
        return "remote-node" in peer.reserved and _is_local(peer, world) and matches(wanted or {}, peer.labels)
    if key == "toFQDNs":
        return peer.outside and any(_name_matches(wanted, name) for name in peer.names)
    return False


def _is_entity(entity: str, peer: Party, world: World) -> bool:
    cluster = peer.labels.get(CLUSTER_KEY, "k8s")
    if entity in ("all", "none"):
        return entity == "all"
    if entity == "world":
        return peer.outside
    if entity == "cluster":
        return bool(peer.reserved & IN_CLUSTER) or cluster == world.options.cluster_name
    if entity == "cluster-mesh":
        return bool(peer.reserved & IN_CLUSTER) or cluster is not None
    return entity in peer.reserved


def _in_cidr(cidr: str, peer: Party, world: World) -> bool:
    nodes = world.options.cidr_match_nodes and peer.reserved & {"host", "remote-node"}
    network = ip_network(cidr, strict=False)
    if not (peer.outside or nodes):
        return False
    if peer.ip:
        address = ip_address(peer.ip)
        return address.version == network.version and address in network
    if nodes:
        return False
    family = {"world-ipv4": 4, "world-ipv6": 6}.get(next(iter(peer.reserved)), 0 if world.dual else 4)
    return network.prefixlen == 0 and network.version == family


def _in_cidr_set(wanted: Doc, peer: Party, world: World) -> bool:
    cidrs = [wanted["cidr"]] if wanted.get("cidr") else []
    for name, group in world.cidr_groups.items():
        labels = Labels.of(f"k8s:{key}={value}" for key, value in (group.get("labels") or {}).items())
        selector = wanted.get("cidrGroupSelector")
        if name == wanted.get("cidrGroupRef") or (selector is not None and matches(selector, labels)):
            cidrs += group["cidrs"]
    inside = any(_in_cidr(cidr, peer, world) for cidr in cidrs)
    return inside and not any(is_cidr(hole) and _in_cidr(hole, peer, world) for hole in wanted.get("except") or ())


def _name_matches(wanted: Doc, name: str) -> bool:
    name = name.lower().rstrip(".")
    if wanted.get("matchName"):
        return bool(name == wanted["matchName"].lower().rstrip("."))
    pattern = (wanted.get("matchPattern") or "").lower().rstrip(".")
    if not pattern or pattern == "*":
        return pattern == "*"
    head = "([-a-z0-9_]+[.])+" if pattern.startswith("**.") else ""
    rest = pattern.removeprefix("**.")
    return bool(re.fullmatch(head + re.escape(rest).replace(r"\*", "[-a-z0-9_]*"), name))


def _ports(item: Doc, target: Party, flow: Doc) -> list[Doc | None]:
    """What the item says about the flow's protocol and port: nothing, or a plain yes (None) or L7 rules for each yes."""
    if item.get("icmps"):
        fields = [each for icmp in item["icmps"] for each in (icmp or {}).get("fields") or ()]
        return [None] if any(_icmp_matches(each, flow) for each in fields) else []
    if not item.get("toPorts"):
        return [None]
    found: list[Doc | None] = []
    for to_ports in item["toPorts"]:
        if any(_port_matches(port, target, flow) for port in (to_ports or {}).get("ports") or ()):
            rules, names = to_ports.get("rules") or {}, to_ports.get("serverNames")
            l7 = {kind: rules[kind] for kind in ("http", "dns") if rules.get(kind)}
            found.append(l7 if l7 or names else None)
    return found


def _icmp_matches(wanted: Doc, flow: Doc) -> bool:
    family = wanted.get("family") or "IPv4"
    kind = ICMP_TYPES[family].get(wanted["type"], wanted["type"])
    return bool(flow["proto"] == {"IPv4": "ICMP", "IPv6": "ICMPv6"}[family] and kind in (0, flow.get("icmpType", 0)))


def _port_matches(wanted: Doc, target: Party, flow: Doc) -> bool:
    protocols = (wanted.get("protocol") or "ANY").upper()
    if flow["proto"] not in (("TCP", "UDP", "SCTP") if protocols == "ANY" else (protocols,)):
        return False
    text, port = str(wanted.get("port") or "0").lower(), flow.get("port", 0)
    if re.search("[a-z]", text):
        first, protocol = target.ports.get(text, (-1, ""))
        return bool(protocol == flow["proto"] and first <= port <= max(first, _end(wanted)))
    first = int(text, 8) if text.startswith("0") else int(text)
    return bool(first == 0 or first <= port <= max(first, _end(wanted)))


def _end(wanted: Doc) -> int:
    """The last port of a range, 0 for none; an end beyond 65535 is none."""
    end = int(wanted.get("endPort") or 0)
    return end if end <= 65535 else 0


def _request_passes(rules: Doc, request: Doc) -> bool:
    if rules.get("dns"):
        return "dns" in request and any(_name_matches(rule or {}, request["dns"]) for rule in rules["dns"])
    if rules.get("http"):
        return any(_http_matches(rule or {}, request) for rule in rules["http"])
    return True


def _http_matches(rule: Doc, request: Doc) -> bool:
    headers = {key.lower(): value for key, value in (request.get("headers") or {}).items()}
    for part in ("path", "method", "host"):
        if rule.get(part) and not re.fullmatch(rule[part], request.get(part) or ""):
            return False
    for header in rule.get("headers") or ():
        name, colon, value = header.partition(":")
        if name.strip().lower() not in headers or (colon and headers[name.strip().lower()] != value.strip()):
            return False
    return True
