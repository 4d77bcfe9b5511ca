"""Addresses outside the cluster, and the prefix levels to which a crowd of them is truncated."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network
from socket import AF_INET, AF_INET6, inet_pton

__all__ = ["INVALID", "LEVELS", "UNKNOWN", "family", "known_address", "level_of", "truncate"]

# Prefix lengths by level; level 0 keeps the address whole. Family 0 is `UNKNOWN` and `INVALID`, which nothing truncates.
LEVELS: dict[int, tuple[int, ...]] = {4: (32, 24, 16, 8, 0), 6: (128, 64, 48, 32, 0), 0: (0,)}

UNKNOWN = "unknown"
"""Stands for the address of an outside peer whose record had none, such as a masked one."""
INVALID = "invalid"
"""Stands for every text in an address field that is no address, so that hostile text neither fills tables nor reaches a rule."""


def _parses(address: str, version: int) -> bool:
    # `ipaddress` takes 15 times as long, and this runs once per packet of a crowd of internet clients.
    try:
        inet_pton(AF_INET6 if version == 6 else AF_INET, address)
    except (OSError, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)
def _prefix_level(text: str) -> tuple[int, int]:
    """Family and level of a prefix that `truncate` may have made; ``(0, 0)`` for every other text."""
    try:
        network = ip_network(text)
    except ValueError:
        return 0, 0
    lengths = LEVELS[network.version]
    made_here = str(network) == text and network.prefixlen in lengths[1:]
    return (network.version, lengths.index(network.prefixlen)) if made_here else (0, 0)


def family(address: str) -> int:
    """4 or 6, for an IP address or a prefix at one of its `LEVELS`; 0 for any other text."""
    if "/" in address:
        return _prefix_level(address)[0]
    version = 6 if ":" in address else 4
    return version if _parses(address, version) else 0


def known_address(address: str) -> str:
    """`address` as it may stand in an edge's key: as it is, or `UNKNOWN` or `INVALID`."""
    return address if family(address) or address == UNKNOWN else INVALID


def level_of(address: str) -> int:
    """The level that an address is truncated to already; 0 for a whole one."""
    return _prefix_level(address)[1] if "/" in address else 0


@lru_cache(maxsize=65536)
def _network(address: str, length: int) -> str:
    return str(ip_network(f"{address}/{length}", strict=False))


def truncate(address: str, level: int) -> str:
    """`address` (or a prefix truncated to a lower level) at `level` of its family; level 0 returns it as it is.

    Text that is no address is `INVALID` at any level above 0, and `UNKNOWN` stays.
    """
    if level == 0:
        return address
    version = family(address)
    base = address.partition("/")[0]
    if version == 4:
        parts = base.split(".")
        return ".".join(parts[: 4 - level] + ["0"] * level) + f"/{LEVELS[4][level]}"
    return _network(base, LEVELS[6][level]) if version == 6 else known_address(address)
