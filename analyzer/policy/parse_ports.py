"""Ports, ICMP types and L7 rules of a policy item, with the agent's refusals (pkg/policy/api: l4.go, icmp.go, http.go)."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.model.inventory import AgentOptions
from analyzer.model.l4 import Protocol
from analyzer.policy.checks import ICMP_TYPES, is_dns_pattern, is_port_name, parse_port, parse_protocol
from analyzer.policy.document import Node
from analyzer.policy.http import compile_regex
from analyzer.policy.model import DnsRule, HeaderRule, HttpRule, L7Rules, PortSpec

__all__ = ["PortRules", "icmp_rules", "port_rules"]

PortRules = tuple[tuple[PortSpec, ...] | None, L7Rules | None]
"""Ports and the L7 rules that go with them."""

MAX_PORTS = MAX_ICMP_TYPES = 40
_WITHOUT_PORTS = frozenset({Protocol.VRRP, Protocol.IGMP})
_FAMILIES = {"": Protocol.ICMP, "IPv4": Protocol.ICMP, "IPv6": Protocol.ICMPV6}
_L7_KINDS = ("http", "dns", "l7")


def port_rules(item: Node, options: AgentOptions, *, ingress: bool, deny: bool, host: bool) -> list[PortRules]:
    """The port constraints of an item, one per element of toPorts. No toPorts (or an empty list) is one without constraint."""
    found: list[PortRules] = []
    for node in item.nodes("toPorts"):
        specs = []
        listed = list(node.nodes("ports"))
        if len(listed) > MAX_PORTS:
            raise node.fail(f"{len(listed)} ports in one list: Cilium takes {MAX_PORTS}", "ports")
        for port in listed:
            specs.append(_port(port, options))
        l7 = None if deny else _l7(node, listed, ingress=ingress, host=host)
        found.append((tuple(specs), l7))
    return found or [(None, None)]


def _port(node: Node, options: AgentOptions) -> PortSpec:
    text = node.text("port")
    end = node.get("endPort")
    if end is not None and (isinstance(end, bool) or not isinstance(end, int) or not -(2**31) <= end < 2**31):
        raise node.fail("must be a number", "endPort")
    try:
        protocols = parse_protocol(node.text("protocol"))
    except ValueError as error:
        raise node.fail(str(error), "protocol") from None
    if not text:
        if options.extended_protocols:
            return PortSpec(protocols)
        raise node.fail("a port must be given", "port")
    if is_port_name(text):
        # An endPort beside a name counts from the number that the name stands for.
        return PortSpec(protocols, 0, end if end is not None and 0 < end <= 65535 else 0, text.lower())
    try:
        first = parse_port(text)
    except ValueError as error:
        raise node.fail(str(error), "port") from None
    if not first:
        return PortSpec(protocols)
    if protocols[0] in _WITHOUT_PORTS:
        raise node.fail(f"{protocols[0]} has no ports: 0 is all it takes", "port")
    last = end if end is not None and first < end <= 65535 else first
    return PortSpec(protocols, first, last)


def _l7(node: Node, ports: list[Node], *, ingress: bool, host: bool) -> L7Rules | None:
    names = [text for text, _ in node.texts("serverNames")]
    listener, tls = node.node("listener"), node.node("terminatingTLS") or node.node("originatingTLS")
    rules = node.node("rules")
    kinds = [kind for kind in _L7_KINDS if rules is not None and rules.list(kind)]
    if rules is not None and kinds and len(there := [kind for kind in _L7_KINDS if rules.has(kind)]) > 1:
        # An empty list beside another kind counts too (semantics 70).
        raise node.fail(f"several kinds of L7 rules in one: {', '.join(there)}", "rules")
    _check_names(node, names, with_rules=bool(kinds))
    if listener is not None and (ingress or kinds):
        raise node.fail(f"a listener is not allowed {'on ingress' if ingress else 'beside L7 rules'}", "listener")
    if host and kinds and (ingress or kinds[0] != "dns"):
        raise node.fail("L7 rules are not supported on nodes, but for DNS on egress", "rules")
    other = bool(names or listener is not None or tls is not None or "l7" in kinds)
    if rules is None or not kinds:
        return L7Rules(other=True) if other else None
    if kinds[0] != "dns":
        _check_http_ports(node, ports)
    else:
        _check_dns_ports(node, ports, ingress=ingress)
    http = tuple(_http(each) for each in rules.nodes("http"))
    return L7Rules(http, tuple(_dns(each) for each in rules.nodes("dns")), other)


def _check_names(node: Node, names: list[str], *, with_rules: bool) -> None:
    if "" in names:
        raise node.fail("an empty server name", "serverNames")
    if names and with_rules and node.node("terminatingTLS") is None:
        raise node.fail("serverNames with L7 rules need TLS termination", "serverNames")


def _check_http_ports(node: Node, ports: list[Node]) -> None:
    for port in ports:
        if port.text("protocol").upper() != "TCP":
            raise node.fail(f"L7 rules apply to TCP only, not {port.text('protocol') or 'ANY'}", "rules")
        if _is_zero(port):
            raise node.fail("L7 rules cannot be used with port 0", "rules")


def _check_dns_ports(node: Node, ports: list[Node], *, ingress: bool) -> None:
    if ingress:
        raise node.fail("DNS rules are not supported on ingress", "rules")
    if not ports:
        raise node.fail("DNS rules need a port, such as 53", "rules")
    for port in ports:
        if _is_zero(port):
            raise node.fail("L7 rules cannot be used with port 0", "rules")
        end = port.get("endPort")
        if end and (text := port.text("port")) and not is_port_name(text) and end > parse_port(text):
            raise node.fail("DNS rules cannot be used with port ranges", "rules")


def _is_zero(port: Node) -> bool:
    text = port.text("port")
    return bool(text) and not is_port_name(text) and not parse_port(text)


def _http(node: Node) -> HttpRule:
    for name in ("method", "path", "host"):
        text = node.text(name)
        try:
            compile_regex(text)
        except ValueError as error:
            raise node.fail(str(error), name) from None
    return HttpRule(node.text("method"), node.text("path"), node.text("host"), tuple(_headers(node)))


def _headers(node: Node) -> Iterator[HeaderRule]:
    """``"X-Y: 1"`` is an exact value, ``"X-Z"`` presence."""
    for text, _ in node.texts("headers"):
        name, colon, value = text.partition(" ")
        yield HeaderRule(name.rstrip(":").lower(), value if colon else None)
    for match in node.nodes("headerMatches"):
        # A mismatch action, or a value in a secret, does not refuse here as far as can be known.
        if not match.has("secret") and not match.text("mismatch"):
            yield HeaderRule(match.text("name").lower(), match.text("value") or None)


def _dns(node: Node) -> DnsRule:
    return DnsRule(*names_of(node))


def names_of(node: Node) -> tuple[str, str]:
    """matchName and matchPattern of a DNS rule or an FQDN selector, at most one of them set."""
    name, pattern = node.text("matchName"), node.text("matchPattern")
    if name and pattern:
        raise node.fail("only one of matchName and matchPattern is allowed")
    for text, field, wildcards in ((name, "matchName", False), (pattern, "matchPattern", True)):
        if text and not is_dns_pattern(text, wildcards=wildcards):
            raise node.fail(f"{text[:80]!r} has characters that are not allowed", field)
    return name.lower().rstrip("."), pattern.lower().rstrip(".")


def icmp_rules(item: Node) -> tuple[PortSpec, ...] | None:
    """The ICMP types of an item; None without ``icmps`` or with an empty list."""
    listed = item.list("icmps")
    if not listed:
        return None
    if item.list("toPorts"):
        raise item.fail("icmps cannot stand beside toPorts", "icmps")
    for rule in item.nodes("icmps"):
        if len(rule.list("fields") or ()) > MAX_ICMP_TYPES:
            raise rule.fail(f"more than {MAX_ICMP_TYPES} types in one list", "fields")
    return tuple(_icmp(field) for rule in item.nodes("icmps") for field in rule.nodes("fields"))


def _icmp(field: Node) -> PortSpec:
    family = _FAMILIES.get(field.text("family"))
    if family is None:
        raise field.fail("must be IPv4 or IPv6", "family")
    kind = field.get("type")
    if isinstance(kind, str):
        number = ICMP_TYPES[family].get(kind)
        if number is None:
            raise field.fail(f"no ICMP type {kind[:80]!r} of this family", "type")
    elif isinstance(kind, int) and not isinstance(kind, bool):
        number = kind
    else:
        raise field.fail("an ICMP type must be given, as a number or a name", "type")
    # Type 0 is encoded as port 0 in the policy map, which stands for all types (semantics 40).
    return PortSpec((family,), number, number) if number else PortSpec((family,), 0, 255)
