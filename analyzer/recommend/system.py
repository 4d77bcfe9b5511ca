"""System namespaces: those that keep the cluster itself running, which get no policy and which none selects."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["SYSTEM_NAMESPACES", "is_system"]

SYSTEM_NAMESPACES = frozenset(
    {
        "amazon-*", "azure-arc", "calico-*", "cattle-*", "cilium", "cilium-*", "gatekeeper-system", "gke-*", "gmp-*", "kube-*",
        "local-path-storage", "longhorn-system", "metallb-system", "openshift", "openshift-*", "rook-ceph", "tigera-operator",
    }
)  # fmt: skip
"""Kubernetes itself (it keeps the prefix ``kube-`` for its own), networks, storage, load balancers, and what the clouds and
distributions bring along. A star at the end stands for any rest."""


@lru_cache(maxsize=65_536)
def is_system(namespace: str, system: frozenset[str]) -> bool:
    """Whether one of the names or prefixes in `system` is the namespace's."""
    return namespace in system or any(
        namespace.startswith(each[:-1]) for each in system if each.endswith("*") and len(each) > 1
    )
