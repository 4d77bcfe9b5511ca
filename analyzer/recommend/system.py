"""System namespaces: those that keep the cluster itself running, which get no policy and which none selects."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["SYSTEM_NAMESPACES", "is_namespace", "is_system"]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")

SYSTEM_NAMESPACES = frozenset(
    {
        "amazon-*", "azure-arc", "calico-*", "cattle-*", "cilium", "cilium-*", "gatekeeper-system", "gke-*", "gmp-*", "kube-*",
        "local-path-storage", "longhorn-system", "metallb-system", "openshift", "openshift-*", "rook-ceph", "tigera-operator",
    }
)  # fmt: skip
"""Kubernetes itself (it keeps the prefix ``kube-`` for its own), networks, storage, load balancers, and what the clouds and
distributions bring along. A star at the end stands for any rest."""


def is_namespace(text: str) -> bool:
    """Whether a namespace may have this name: a DNS-1123 label."""
    return bool(_NAME.fullmatch(text))


@lru_cache(maxsize=65_536)
def is_system(namespace: str, system: frozenset[str]) -> bool:
    """Whether one of the names or prefixes in `system` is the namespace's."""
    return namespace in system or any(
        namespace.startswith(each[:-1]) for each in system if each.endswith("*") and len(each) > 1
    )
