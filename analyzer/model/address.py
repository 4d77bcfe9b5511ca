"""Addresses outside the cluster, and the prefix levels to which a crowd of them is truncated."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network

__all__ = ["LEVELS", "family", "truncate"]

# Prefix lengths by level; level 0 keeps the address whole. A family is 4, 6, or 0 for text that is no address.
LEVELS: dict[int, tuple[int, ...]] = {4: (32, 24, 16, 8, 0), 6: (128, 64, 48, 32, 0), 0: (1, 0)}


def family(address: str) -> int:
    """4, 6, or 0 when the text is no IP address or prefix."""
    if ":" in address:
        return 6
    return 4 if address.count(".") == 3 else 0


@lru_cache(maxsize=65536)
def _prefix(address: str, length: int) -> str:
    try:
        return str(ip_network((ip_address(address.partition("/")[0]), length), strict=False))
    except ValueError:
        return ""


def truncate(address: str, level: int) -> str:
    """`address` (or an already truncated prefix) at `level` of its family; level 0 returns it as it is.

    Text that is no address becomes ``""`` at any level above 0.
    """
    if level == 0:
        return address
    version = family(address)
    if version == 4:
        # String work instead of `ipaddress`: this runs once per packet of a crowd of internet clients.
        parts = address.partition("/")[0].split(".")
        keep = 4 - level
        return ".".join(parts[:keep] + ["0"] * level) + f"/{8 * keep}"
    if version == 6:
        return _prefix(address, LEVELS[6][level])
    return ""
