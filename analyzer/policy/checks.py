"""Small checks of the agent on names, labels, ports and patterns (Cilium pkg/policy/api `Sanitize`, Kubernetes' validation)."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network

from analyzer.model.l4 import Protocol

__all__ = [
    "ANY_PROTOCOLS", "ICMP_TYPES", "is_dns_pattern", "is_label_key", "is_label_value", "is_port_name", "parse_network",
    "parse_port", "parse_protocol",
]  # fmt: skip

_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[A-Za-z])[A-Za-z0-9]+(-[A-Za-z0-9]+)*", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]*|0[0-7]+", re.ASCII)
_DNS_NAME = re.compile(r"[-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+)*[.]?", re.ASCII)
_DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_*]+([.][-a-zA-Z0-9_*]+)*[.]?", re.ASCII)

ANY_PROTOCOLS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
_PROTOCOLS = {
    "": ANY_PROTOCOLS,
    "ANY": ANY_PROTOCOLS,
    **{each.name: (each,) for each in Protocol if each not in (Protocol.ANY, Protocol.ICMP, Protocol.ICMPV6)},
}

# Names of ICMP types per family (pkg/policy/api/icmp.go), which are those of the IANA registries.
ICMP_TYPES: dict[Protocol, dict[str, int]] = {
    Protocol.ICMP: {
        "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8, "RouterAdvertisement": 9,
        "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14,
        "Photuris": 40, "ExtendedEcho Request": 42, "ExtendedEchoRequest": 42, "ExtendedEcho Reply": 43,
    },
    Protocol.ICMPV6: {
        "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4, "EchoRequest": 128,
        "EchoReply": 129, "MulticastListenerQuery": 130, "MulticastListenerReport": 131, "MulticastListenerDone": 132,
        "RouterSolicitation": 133, "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
        "RedirectMessage": 137, "RouterRenumbering": 138, "ICMPNodeInformationQuery": 139,
        "ICMPNodeInformationResponse": 140, "InverseNeighborDiscoverySolicitation": 141,
        "InverseNeighborDiscoveryAdvertisement": 142, "HomeAgentAddressDiscoveryRequest": 144,
        "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146, "MobilePrefixAdvertisement": 147,
        "DuplicateAddressRequestCodeSuffix": 157, "DuplicateAddressConfirmationCodeSuffix": 158,
        "ExtendedEchoRequest": 160, "ExtendedEchoReply": 161,
    },
}  # fmt: skip


def is_label_value(text: str) -> bool:
    return not text or (len(text) <= 63 and bool(_NAME.fullmatch(text)))


def is_label_key(key: str) -> bool:
    """A qualified name of Kubernetes, after Cilium's source prefix."""
    source, colon, rest = key.partition(":")
    if colon:
        # The agent validates the key with its source in front, as `source.key`.
        key = rest if source else key
    prefix, slash, name = key.rpartition("/")
    if slash and not (0 < len(prefix) <= 253 and _SUBDOMAIN.fullmatch(prefix)):
        return False
    return 0 < len(name) <= 63 and bool(_NAME.fullmatch(name))


def is_port_name(text: str) -> bool:
    """An IANA service name (pkg/iana): letters, digits and single dashes, at least one letter, at most 15 bytes."""
    return bool(_PORT_NAME.fullmatch(text))


def parse_port(text: str) -> int:
    """A port as the agent reads it: a leading zero means octal. Raises ValueError."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"unable to parse port {text!r}")
    number = int(text, 8 if text[0] == "0" else 10)
    if number > 65535:
        raise ValueError(f"port {text} is out of range")
    return number


def parse_protocol(text: str) -> tuple[Protocol, ...]:
    """The protocols that a policy's word stands for. Raises ValueError."""
    try:
        return _PROTOCOLS[text.upper()]
    except KeyError:
        raise ValueError(f"invalid protocol {text!r}") from None


def parse_network(text: str) -> IPv4Network | IPv6Network:
    """A prefix with its length; host bits are fine. Raises ValueError."""
    address, slash, length = text.partition("/")
    if (
        not slash
        or not (length.isascii() and length.isdigit())
        or (length[0] == "0" and length != "0")
        or "%" in address
    ):
        raise ValueError(f"unable to parse CIDR {text!r}: write it as address/length")
    return ip_network(text, strict=False)


def is_dns_pattern(text: str, *, wildcards: bool) -> bool:
    """Whether a matchName, or a matchPattern with `wildcards`, is made of the right characters."""
    return len(text) <= 255 and bool((_DNS_PATTERN if wildcards else _DNS_NAME).fullmatch(text))
