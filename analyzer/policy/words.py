"""Words: selectors, ports and items as people say them in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

from analyzer.model.l4 import Protocol
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY
from analyzer.policy.checks import ANY_PROTOCOLS
from analyzer.policy.model import PortSpec
from analyzer.policy.selector import (
    CidrGroupSelector,
    CidrSelector,
    EntitySelector,
    FqdnSelector,
    LabelSelector,
    NodeSelector,
    PeerSelector,
    Requirement,
    ServiceSelector,
    UnknownSelector,
)

__all__ = ["labels_in_words", "peers_in_words", "ports_in_words", "requirement_in_words"]

MOST = 4
"""Peers or ports named in one sentence."""
_KEYS = {NAMESPACE_KEY: "namespace", CLUSTER_KEY: "cluster"}


def requirement_in_words(requirement: Requirement) -> str:
    """``app=web``, ``namespace in (a, b)``, ``no tier``."""
    key = _KEYS.get(requirement.key, requirement.key)
    if requirement.operator.exists:
        return f"no {key}" if requirement.operator.negated else f"any {key}"
    if len(requirement.values) == 1:
        return f"{key}{'!=' if requirement.operator.negated else '='}{requirement.values[0]}"
    word = "not in" if requirement.operator.negated else "in"
    return f"{key} {word} ({', '.join(requirement.values)})"


def labels_in_words(selector: LabelSelector) -> str:
    """All requirements but the local cluster's, which every selector gets; ``every pod`` for none."""
    kept = [each for each in selector.requirements if each.key != CLUSTER_KEY]
    return " and ".join(map(requirement_in_words, kept)) or "every endpoint"


def _peer(selector: PeerSelector) -> str:
    match selector:
        case LabelSelector():
            return labels_in_words(selector)
        case EntitySelector(entity):
            return str(entity)
        case CidrSelector(network, excepts):
            return f"{network} except {', '.join(map(str, excepts))}" if excepts else str(network)
        case CidrGroupSelector(ref, labels, _):
            return f"CIDR group {ref}" if labels is None else f"CIDR groups with {labels_in_words(labels)}"
        case FqdnSelector(name, pattern):
            return name or pattern or "no name"
        case NodeSelector(labels):
            return f"nodes with {labels_in_words(labels)}"
        case ServiceSelector(name, namespace, labels):
            where = f" in {namespace}" if namespace else ""
            return f"service {name}{where}" if labels is None else f"services with {labels_in_words(labels)}{where}"
        case UnknownSelector(reason):
            return f"peers that are not known here ({reason})"


def peers_in_words(peers: Iterable[PeerSelector] | None) -> str:
    """The peers of an item, some of them if they are many."""
    return "any peer" if peers is None else _some([_peer(each) for each in peers], "no peer")


def ports_in_words(ports: Iterable[PortSpec] | None) -> str:
    """The ports or ICMP types of an item, some of them if they are many."""
    return "every port" if ports is None else _some([_port(each) for each in ports], "no port")


def _port(spec: PortSpec) -> str:
    protocols = "ANY" if spec.protocols == ANY_PROTOCOLS else "/".join(map(str, spec.protocols))
    if any(protocol.is_icmp for protocol in spec.protocols):
        return f"{protocols}/{spec.first}" if spec.first == spec.last else f"every type of {protocols}"
    if spec.name:
        return f"{spec.name}/{protocols}"
    if (spec.first, spec.last) == (0, 65535):
        return f"every port of {protocols}" if _has_ports(spec.protocols) else protocols
    return f"{spec.first}/{protocols}" if spec.first == spec.last else f"{spec.first}-{spec.last}/{protocols}"


def _has_ports(protocols: Iterable[Protocol]) -> bool:
    return any(protocol.has_ports for protocol in protocols)


def _some(words: list[str], nothing: str) -> str:
    shown = list(dict.fromkeys(words))
    more = f" and {len(shown) - MOST} more" if len(shown) > MOST else ""
    return ", ".join(shown[:MOST]) + more if shown else nothing
