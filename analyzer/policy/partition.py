"""Partition: which addresses and names the rules tell apart, so that a whole prefix can be asked about by a few samples."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

from analyzer.model.inventory import Inventory
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    FqdnSelector,
    Network,
    PeerSelector,
    fqdn_pattern,
    networks,
)

__all__ = ["Partition"]

MAX_SAMPLES = 1024
"""Addresses looked at inside one prefix; where rules tell more parts of it apart, some differ among these already."""


class Partition:
    """`prefixes` is every prefix that a rule or a CIDR group names, exceptions included; `names` holds, for every name and pattern
    of a rule, a name that it matches."""

    def __init__(self, selectors: Iterable[PeerSelector], inventory: Inventory) -> None:
        chosen = list(selectors)
        self.prefixes = tuple(sorted(_prefixes(chosen, inventory), key=_order))
        self.names = tuple(
            sorted(name for each in chosen if isinstance(each, FqdnSelector) and (name := _matching(each)))
        )
        self._samples: dict[str, tuple[str, ...]] = {}

    def samples(self, prefix: str) -> tuple[str, ...]:
        """Addresses of `prefix`, at least one of each part of it that the rules tell apart, in order."""
        found = self._samples.get(prefix)
        if found is None:
            found = self._samples[prefix] = _samples(prefix, self.prefixes)
        return found


def _order(network: Network) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _prefixes(selectors: Iterable[PeerSelector], inventory: Inventory) -> set[Network]:
    found = {network for group in inventory.cidr_groups for network in networks(group.cidrs)}
    for selector in selectors:
        if isinstance(selector, CidrSelector):
            found.update((selector.network, *selector.excepts))
        elif isinstance(selector, CidrGroupSelector):
            found.update(selector.excepts)
    return found


def _matching(selector: FqdnSelector) -> str:
    """A name that the selector chooses; "" for the selector that chooses none."""
    if fqdn_pattern(selector) is None:
        return ""
    return (selector.name or selector.pattern.replace("**.", "any.").replace("*", "any")).lower().rstrip(".")


def _samples(prefix: str, prefixes: tuple[Network, ...]) -> tuple[str, ...]:
    whole = ip_network(prefix)
    first, last = int(whole.network_address), int(whole.broadcast_address)
    found = {first, last}
    for network in prefixes:
        low, high = int(network.network_address), int(network.broadcast_address)
        if network.version == whole.version and first <= high and low <= last:
            found.update(each for each in (low - 1, low, high, high + 1) if first <= each <= last)
        if len(found) > MAX_SAMPLES:
            break
    kind = IPv4Address if whole.version == 4 else IPv6Address
    return tuple(str(kind(each)) for each in sorted(found))
