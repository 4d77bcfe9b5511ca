"""Cluster: the addresses of pods, services and nodes that are known."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from analyzer.model.inventory import Inventory

__all__ = ["Cluster", "Network", "is_address"]

Network = IPv4Network | IPv6Network


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


class Cluster:
    """The addresses inside a cluster, sorted, so that a prefix finds those in it at once."""

    def __init__(self, inventory: Inventory | None, nodes: Iterable[str]) -> None:
        pods = {
            ip: f"pod {each.namespace}/{each.name}"
            for each in (inventory.endpoints if inventory else ())
            for ip in each.ips
        }
        services = {
            ip: f"service {each.namespace}/{each.name}"
            for each in (inventory.services if inventory else ())
            for ip in each.cluster_ips
        }
        named = {**services, **pods, **dict.fromkeys(nodes, "node")}
        found = [(ip_address(text), what) for text, what in sorted(named.items()) if is_address(text)]
        self._asked: dict[tuple[Network, ...], tuple[str, int]] = {}
        self._sorted = {
            version: sorted((int(ip), str(ip), what) for ip, what in found if ip.version == version)
            for version in (4, 6)
        }

    def inside(self, network: Network, excepts: Sequence[Network]) -> tuple[str, int]:
        """The first known address in `network` and in none of `excepts`, with what it belongs to, and how many there are."""
        if (network, *excepts) not in self._asked:
            self._asked[network, *excepts] = self._inside(network, excepts)
        return self._asked[network, *excepts]

    def _inside(self, network: Network, excepts: Sequence[Network]) -> tuple[str, int]:
        known = self._sorted[network.version]
        start, end = _span(known, network)
        left = set(range(start, end)).difference(
            *(range(*_span(known, each)) for each in excepts if each.version == network.version)
        )
        if not left:
            return "", 0
        _, ip, what = known[min(left)]
        return f"{ip} ({what})", len(left)


def _span(known: Sequence[tuple[int, str, str]], network: Network) -> tuple[int, int]:
    """The first address in `network`, and the first after it."""
    first, last = int(network.network_address), int(network.broadcast_address)
    return bisect_left(known, (first, "", "")), bisect_left(known, (last + 1, "", ""))
