"""Protocol, PortRange and L4: what policies and edges say about layer 4."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

__all__ = ["ICMP_FAMILY", "L4", "PortRange", "Protocol", "spans"]


class Protocol(IntEnum):
    """IP protocols by their IANA numbers, spelled as Cilium policies spell them. ANY is a policy's word, never a flow's."""

    ANY = 0
    ICMP = 1
    IGMP = 2
    IPIP = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    GRE = 47
    ESP = 50
    AH = 51
    ICMPV6 = 58
    VRRP = 112
    SCTP = 132

    @classmethod
    def parse(cls, text: str) -> Protocol:
        """Read a protocol name in any case (``TCP``, ``icmpv4``, ``ICMPv6``). Raises ValueError."""
        name = text.upper()
        if name == "ICMPV4":
            return cls.ICMP
        try:
            return cls[name]
        except KeyError:
            raise ValueError(f"unknown protocol {text!r}") from None

    def __str__(self) -> str:
        return "ICMPv6" if self is Protocol.ICMPV6 else self.name

    @property
    def has_ports(self) -> bool:
        """Whether the protocol has ports, so that a `toPorts` list can speak of it."""
        return self in _WITH_PORTS

    @property
    def is_icmp(self) -> bool:
        return self is Protocol.ICMP or self is Protocol.ICMPV6


_WITH_PORTS = frozenset({Protocol.TCP, Protocol.UDP, Protocol.SCTP})
ICMP_FAMILY = {Protocol.ICMP: "IPv4", Protocol.ICMPV6: "IPv6"}


class PortRange(NamedTuple):
    """Ports `first`..`last`, both inclusive; (0, 65535) is every port."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> PortRange:
        """Read ``80`` or ``8000-8080``. Raises ValueError."""
        first, dash, last = text.partition("-")
        found = cls(int(first), int(last) if dash else int(first))
        if not 0 <= found.first <= found.last <= 65535:
            raise ValueError(f"not a port or port range: {text!r}")
        return found

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last


class L4(NamedTuple):
    """What is spoken at the server's side: protocol and server port, or ICMP family and type.

    `port` holds the ICMP type for ICMP and ICMPv6, as Cilium's policy maps do, and 0 for protocols without ports.
    """

    protocol: Protocol
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> L4:
        """Read ``8080/TCP``, ``ICMP/8`` (family/type) or a bare protocol such as ``VRRP``. Raises ValueError."""
        left, slash, right = text.partition("/")
        if not slash:
            return cls(Protocol.parse(left))
        if left.isascii() and left.isdigit():
            protocol, number = Protocol.parse(right), int(left)
            if protocol.is_icmp:
                raise ValueError(f"write an ICMP type as {protocol}/{number}")
        else:
            protocol, number = Protocol.parse(left), int(right)
        if not 0 <= number <= (255 if protocol.is_icmp else 65535):
            raise ValueError(f"out of range: {text!r}")
        return cls(protocol, number)

    def __str__(self) -> str:
        if self.protocol.is_icmp:
            return f"{self.protocol}/{self.port}"
        return f"{self.port}/{self.protocol}" if self.protocol.has_ports else str(self.protocol)


def spans(l4s: Iterable[L4]) -> tuple[str, ...]:
    """Neighbouring ports written together, in canonical order: ``20-29/TCP``, ``53/UDP``, ``ICMP/8``."""
    runs: list[tuple[L4, L4]] = []
    for each in sorted(set(l4s)):
        last = runs[-1][1] if runs else None
        if last and each.protocol.has_ports and each == L4(last.protocol, last.port + 1):
            runs[-1] = (runs[-1][0], each)
        else:
            runs.append((each, each))
    return tuple(str(first) if first == last else f"{first.port}-{last}" for first, last in runs)
