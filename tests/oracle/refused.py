"""refusal: why the agent would not take a policy document. One complaint is enough to drop all of its rules.

As in Cilium's `pkg/policy/api/rule_validation.go` and `pkg/k8s/apis/cilium.io/v2`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from analyzer.model.inventory import AgentOptions
from tests.oracle.rules import PEERS, SECTIONS, Doc, Rule, rules_of

__all__ = ["ICMP_TYPES", "is_cidr", "refusal"]

ICMP_TYPES = {
    "IPv4": {
        "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8, "RouterAdvertisement": 9,
        "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14,
        "Photuris": 40, "ExtendedEcho Request": 42, "ExtendedEcho Reply": 43,
    },
    "IPv6": {
        "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4,
        "EchoRequest": 128, "EchoReply": 129,
    },
}  # fmt: skip
"""Names of ICMP types by family, as the policy CRD lists them."""
ENTITIES = re.compile(
    "all|cluster|cluster-mesh|health|host|ingress|init|kube-apiserver|none|remote-node|unmanaged|world(-ipv[46])?"
)
PROTOCOLS = re.compile("|tcp|udp|sctp|vrrp|igmp|gre|ipip|ipv6|esp|ah|any")
LABEL_PART = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
DNS_NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
NUMBER = r"0|[1-9](_?[0-9])*|0[oO]?(_?[0-7])+"


def refusal(policy: Doc, options: AgentOptions) -> str | None:
    """The first thing wrong with the document, or None. A Kubernetes NetworkPolicy is taken as it is."""
    if policy.get("kind") == "NetworkPolicy":
        return None
    if not (policy.get("metadata") or {}).get("name"):
        return "no name"
    rules = rules_of(policy)
    return next((complaint for rule in rules for complaint in _rule(rule, options)), None if rules else "no rules")


def _rule(rule: Rule, options: AgentOptions) -> Iterator[str]:
    pods, nodes = (rule.spec.get(key) for key in ("endpointSelector", "nodeSelector"))
    if (pods is None) == (nodes is None):
        yield "exactly one of endpointSelector and nodeSelector is needed"
    if nodes is not None and rule.namespace:
        yield "nodeSelector in a namespace"
    yield from _selector(pods or nodes or {})
    if not any(rule.speaks(direction) for direction in SECTIONS):
        yield "no items"
    for direction in SECTIONS:
        for deny in (False, True):
            for item in rule.items(direction, deny=deny):
                yield from _peers(item, direction, options)
                yield from _icmps(item)
                for each in item.get("toPorts") or ():
                    yield from _to_ports(each or {}, direction, options, host=nodes is not None)


def _peers(item: Doc, direction: str, options: AgentOptions) -> Iterator[str]:
    if len([key for key in PEERS[direction] if item.get(key)]) > 1:
        yield "two kinds of peers"
    for key in PEERS[direction]:
        for each in item.get(key) or ():
            if key.endswith(("Endpoints", "Nodes")):
                yield from _selector(each or {})
            if key.endswith("Nodes") and not options.node_selector_labels:
                yield "nodes can not be selected"
            if key.endswith("Entities") and not ENTITIES.fullmatch(each):
                yield f"entity {each}"
            if key.endswith("CIDR") and not is_cidr(each):
                yield f"CIDR {each}"
            if key.endswith("CIDRSet"):
                yield from _cidr_set(each or {})
            if key == "toFQDNs":
                yield from _name(each or {})
    if any(isinstance(each, dict) for each in item.get("fromRequires") or item.get("toRequires") or ()):
        yield "requires"


def _selector(selector: Doc) -> Iterator[str]:
    labels, wanted = selector.get("matchLabels") or {}, selector.get("matchExpressions") or ()
    for key in [*labels, *(each["key"] for each in wanted)]:
        domain, slash, name = key.replace(":", ".", 1).rpartition("/")
        if not re.fullmatch(LABEL_PART, name) or (slash and not re.fullmatch(DNS_NAME, domain)):
            yield f"label key {key}"
    for value in [*labels.values(), *(value for each in wanted for value in each.get("values") or ())]:
        if value and not re.fullmatch(LABEL_PART, value):
            yield f"label value {value}"
    for each in wanted:
        if each.get("operator") not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield "operator"
        elif bool(each.get("values")) != each["operator"].endswith("In"):
            yield "values"


def is_cidr(text: Any) -> bool:
    """Whether the agent can read the prefix: a bare address is none."""
    try:
        return bool(re.search(r"/(0|[1-9][0-9]*)$", text) and "%" not in text and ip_network(text, strict=False))
    except ValueError:
        return False


def _cidr_set(wanted: Doc) -> Iterator[str]:
    cidr, holes = wanted.get("cidr"), wanted.get("except") or ()
    selector = wanted.get("cidrGroupSelector")
    if bool(cidr) + bool(wanted.get("cidrGroupRef")) + (selector is not None) != 1:
        yield "not one of cidr, cidrGroupRef, cidrGroupSelector"
    yield from _selector(selector or {})
    if not cidr:
        return
    if not all(is_cidr(each) for each in [cidr, *holes]):
        yield "CIDR"
    else:
        whole = ip_network(cidr, strict=False)
        for hole in (ip_network(each, strict=False) for each in holes):
            if hole.version != whole.version or not hole.subnet_of(whole):  # type: ignore[arg-type]
                yield f"except {hole} outside {whole}"


def _name(wanted: Doc) -> Iterator[str]:
    name, pattern = wanted.get("matchName") or "", wanted.get("matchPattern") or ""
    if name and pattern:
        yield "matchName and matchPattern"
    if not re.fullmatch(r"[-A-Za-z0-9_.]*", name) or not re.fullmatch(r"[-A-Za-z0-9_.*]*", pattern):
        yield "characters of a DNS name"


def _icmps(item: Doc) -> Iterator[str]:
    if item.get("icmps") and item.get("toPorts"):
        yield "icmps beside toPorts"
    for each in item.get("icmps") or ():
        if len((each or {}).get("fields") or ()) > 40:
            yield "more than 40 fields"
        for wanted in (each or {}).get("fields") or ():
            family, kind = wanted.get("family") or "IPv4", wanted.get("type")
            if family not in ICMP_TYPES:
                yield f"family {family}"
            elif isinstance(kind, str) and kind not in ICMP_TYPES[family]:
                yield f"ICMP type {kind}"


def _to_ports(item: Doc, direction: str, options: AgentOptions, *, host: bool) -> Iterator[str]:
    ports, rules = item.get("ports") or (), item.get("rules") or {}
    kinds = [kind for kind in ("http", "dns") if rules.get(kind)]
    names = item.get("serverNames") or ()
    if len(ports) > 40:
        yield "more than 40 ports"
    if kinds and None not in (rules.get("http"), rules.get("dns")):
        yield "two kinds of L7 rules"
    if "" in names or (kinds and names and not item.get("terminatingTLS")):
        yield "serverNames empty or beside L7 rules"
    if direction == "ingress" and (item.get("listener") or kinds == ["dns"]):
        yield "not on ingress"
    if kinds and (item.get("listener") or (host and (direction == "ingress" or kinds == ["http"]))):
        yield "L7 rules beside a listener or on a node"
    if kinds == ["dns"] and not ports:
        yield "DNS rules without ports"
    for port in ports:
        yield from _port(port or {}, kinds, options)
    for name in rules.get("dns") or ():
        yield from _name(name or {})
    for request in rules.get("http") or ():
        for part in ("path", "method", "host"):
            if not _compiles((request or {}).get(part) or ""):
                yield f"regex of {part}"


def _port(wanted: Doc, kinds: list[str], options: AgentOptions) -> Iterator[str]:
    text, protocol = wanted.get("port") or "", (wanted.get("protocol") or "").lower()
    if not isinstance(text, str) or not (text or options.extended_protocols):
        yield "port"
        return
    named = bool(re.search("[A-Za-z]", text))
    if named and not (len(text) <= 15 and re.fullmatch("[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text)):
        yield f"port name {text}"
    if not PROTOCOLS.fullmatch(protocol):
        yield f"protocol {protocol}"
    if protocol in ("vrrp", "igmp") and not named and text not in ("", "0"):
        yield "a port of a protocol without ports"
    if kinds == ["http"] and protocol != "tcp":
        yield "L7 rules for TCP only"
    if named or not text:
        return
    if not re.fullmatch(NUMBER, text) or _number(text) > 65535:
        yield f"port {text}"
        return
    if kinds and _number(text) == 0:
        yield "L7 rules on port 0"
    if kinds == ["dns"] and (wanted.get("endPort") or 0) > _number(text):
        yield "DNS rules on a range"


def _number(text: str) -> int:
    """A port's number; a leading zero means octal."""
    return int(text, 8) if text.startswith("0") else int(text)


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True
