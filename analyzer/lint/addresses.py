"""Traps around CIDRs: prefixes aimed at pods, nodes or services, which no CIDR rule matches. Needs to know the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from analyzer.lint.cluster import Network, is_address
from analyzer.lint.finding import Trap
from analyzer.lint.written import Context, Written, WrittenItem, listed, mapping

__all__ = ["cidrs_at_insiders", "node_addresses"]

_NODE_KINDS = {"Node": ("status", "addresses", "address"), "CiliumNode": ("spec", "addresses", "ip")}


def node_addresses(documents: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The addresses of the Nodes and CiliumNodes among `documents`, sorted."""
    found = set()
    for document in documents:
        where = _NODE_KINDS.get(str(document.get("kind")))
        if where is not None:
            part, name, key = where
            found |= {str(mapping(each).get(key)) for each in listed(mapping(document.get(part)).get(name))}
    return tuple(sorted(filter(is_address, found)))


def cidrs_at_insiders(written: Written, context: Context) -> Iterator[Trap]:
    """CIDR rules match peers outside the cluster only, whatever their prefix (docs/semantics.md 31). 0.0.0.0/0 is usually
    meant like that, and is not told."""
    if context.cluster is None:
        return
    for spec in written.specs:
        for item in spec.items():
            for text, excepts, path in _prefixes(item, kubernetes=written.is_kubernetes):
                network = _network(text)
                if network is None or not network.prefixlen:
                    continue
                first, number = context.cluster.inside(
                    network, [each for each in map(_network, excepts) if each is not None]
                )
                if number:
                    yield _aimed(first, number, path, item.prefix)


def _aimed(first: str, number: int, path: str, prefix: str) -> Trap:
    more = f" and {number - 1:,} more" if number > 1 else ""
    message = (
        f"{first}{more} in this prefix: CIDR rules match only what is outside the cluster, not pods, nodes or services"
    )
    hint = f"choose pods by label ({prefix}Endpoints) and nodes by entity (host, remote-node, kube-apiserver)"
    return Trap("cidr-inside", path, message, hint)


def _prefixes(item: WrittenItem, *, kubernetes: bool) -> Iterator[tuple[object, list[Any], str]]:
    if kubernetes:
        for index, peer in enumerate(map(mapping, listed(item.body.get(item.prefix)))):
            block = mapping(peer.get("ipBlock"))
            yield block.get("cidr"), listed(block.get("except")), f"{item.path}.{item.prefix}[{index}].ipBlock.cidr"
        return
    for index, text in enumerate(listed(item.body.get(f"{item.prefix}CIDR"))):
        yield text, [], f"{item.path}.{item.prefix}CIDR[{index}]"
    for index, each in enumerate(map(mapping, listed(item.body.get(f"{item.prefix}CIDRSet")))):
        yield each.get("cidr"), listed(each.get("except")), f"{item.path}.{item.prefix}CIDRSet[{index}].cidr"


def _network(text: object) -> Network | None:
    try:
        return ip_network(text, strict=False) if isinstance(text, str) and text else None
    except ValueError:
        return None
