"""Traps in what one item says: empty lists, ICMP types, ports that are read in another way than they look."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.lint.finding import Trap
from analyzer.lint.written import Context, Doc, Written, WrittenItem, listed, mapping

__all__ = ["empty_lists", "icmp_types", "odd_ports"]

# What an empty list of peers means (docs/semantics.md, part 3).
_NOTHING = ("Endpoints", "Entities", "CIDR", "CIDRSet", "Nodes")
_ANYBODY = ("FQDNs", "Services", "Groups")
_EMPTY = "empty-list"


def empty_lists(written: Written, context: Context) -> Iterator[Trap]:
    """Lists that are there and empty: each kind means something else, and few mean what one expects."""
    for spec in written.specs:
        for item in spec.items():
            yield from _kubernetes(item) if written.is_kubernetes else _peers(item)
            if not written.is_kubernetes:
                yield from _ports(item)
        if not written.is_kubernetes:
            for name in ("ingress", "ingressDeny", "egress", "egressDeny"):
                if spec.body.get(name) == []:
                    message = "an empty list is no rule at all: it does not switch default deny on"
                    yield Trap(
                        _EMPTY, f"{spec.path}.{name}", message, f"remove it, or write `{name}: [{{}}]` for default deny"
                    )


def _empty(body: Doc, name: str) -> bool:
    return body.get(name) == []


def _peers(item: WrittenItem) -> Iterator[Trap]:
    limited = bool(listed(item.body.get("toPorts")) or listed(item.body.get("icmps")))
    verb = "denies" if item.section.value.endswith("Deny") else "allows"
    for name in (item.prefix + each for each in _NOTHING):
        if _empty(item.body, name):
            message = f"an empty list chooses nobody: the rule {verb} nothing"
            yield Trap(_EMPTY, f"{item.path}.{name}", message, "name peers, or remove the list to mean every peer")
    if any(item.body.get(item.prefix + each) is not None for each in _NOTHING):
        return
    if any(listed(item.body.get(item.prefix + each)) for each in _ANYBODY):
        return
    whom = "every peer on these ports, the internet included" if limited else "nothing"
    for name in (item.prefix + each for each in _ANYBODY):
        if _empty(item.body, name):
            message = f"an empty list here counts as absent: the rule {verb} {whom}"
            yield Trap(_EMPTY, f"{item.path}.{name}", message, "name peers, or remove the rule")


def _ports(item: WrittenItem) -> Iterator[Trap]:
    verb = "denies" if item.section.value.endswith("Deny") else "allows"
    for index, ports in enumerate(map(mapping, listed(item.body.get("toPorts")))):
        path = f"{item.path}.toPorts[{index}]"
        if not listed(ports.get("ports")):
            message = f"no port is listed: the rule {verb} no port, not every port"
            yield Trap(
                _EMPTY, f"{path}.ports", message, "list ports, or remove toPorts to mean all ports and protocols"
            )
        for kind in ("http", "dns"):
            if _empty(mapping(ports.get("rules")), kind):
                message = f"an empty list of {kind.upper()} rules is none: everything passes on these ports"
                yield Trap(
                    _EMPTY, f"{path}.rules.{kind}", message, "write the requests that may pass, or remove `rules`"
                )
    for name, other in (("toPorts", "icmps"), ("icmps", "toPorts")):
        if _empty(item.body, name) and not listed(item.body.get(other)):
            message = "an empty list is no limit: the rule is about all ports and protocols"
            yield Trap(_EMPTY, f"{item.path}.{name}", message, "list what is meant, or remove it")
    for index, rule in enumerate(map(mapping, listed(item.body.get("icmps")))):
        if not listed(rule.get("fields")):
            message = f"no ICMP type is listed: the rule {verb} nothing"
            yield Trap(_EMPTY, f"{item.path}.icmps[{index}].fields", message, "list the types, or remove it")


def _kubernetes(item: WrittenItem) -> Iterator[Trap]:
    if _empty(item.body, item.prefix):
        message = "an empty list is no limit: the rule allows every peer, the internet and the nodes included"
        yield Trap(_EMPTY, f"{item.path}.{item.prefix}", message, "name peers, or write `ingress: []` to allow nothing")
    if _empty(item.body, "ports"):
        message = "an empty list is no limit: the rule is about all ports and protocols"
        yield Trap(_EMPTY, f"{item.path}.ports", message, "list ports, or remove it")


def icmp_types(written: Written, context: Context) -> Iterator[Trap]:
    """Type 0 is every type to the agent; numbers above 255 are none."""
    for spec in written.specs if not written.is_kubernetes else ():
        for item in spec.items():
            for rule, fields in enumerate(
                listed(mapping(each).get("fields")) for each in listed(item.body.get("icmps"))
            ):
                for index, field in enumerate(map(mapping, fields)):
                    path = f"{item.path}.icmps[{rule}].fields[{index}].type"
                    kind, ipv6 = field.get("type"), field.get("family") == "IPv6"
                    if kind == 0 or (kind == "EchoReply" and not ipv6):
                        message = "type 0 stands for every ICMP type in Cilium's policy map, not for echo replies only"
                        hint = "replies to a ping are let through by themselves: allow EchoRequest on the other side instead"
                        yield Trap("icmp-type-zero", path, message, hint)
                    elif isinstance(kind, int) and not 0 <= kind <= 255:
                        message = f"there is no ICMP type {kind}: nothing matches it"
                        yield Trap("icmp-type-range", path, message, "write a type from 0 to 255, or its name")


def odd_ports(written: Written, context: Context) -> Iterator[Trap]:
    """Port texts that are no decimal number, though they look like one."""
    for spec in written.specs if not written.is_kubernetes else ():
        for item in spec.items():
            for number, ports in enumerate(map(mapping, listed(item.body.get("toPorts")))):
                for index, port in enumerate(map(mapping, listed(ports.get("ports")))):
                    path = f"{item.path}.toPorts[{number}].ports[{index}]"
                    yield from _odd_port(port, path)


def _odd_port(port: Doc, path: str) -> Iterator[Trap]:
    text, end = port.get("port"), port.get("endPort")
    if not isinstance(text, str):
        return
    if text.isdigit() and len(text) > 1 and text[0] == "0":
        message = f"a leading zero makes it octal: {text} is port {int(text, 8)}"
        yield Trap("port-octal", f"{path}.port", message, "write the port without leading zeros")
    elif text[:2].lower() == "0x":
        message = f"{text} is read as the name of a port, not as a number"
        yield Trap("port-name", f"{path}.port", message, "write the port as a decimal number")
    elif text.isdigit() and isinstance(end, int) and 0 < end < int(text):
        message = f"endPort {end} is less than the port: only port {text} is meant by it"
        yield Trap("port-range", f"{path}.endPort", message, "make endPort the higher number")
