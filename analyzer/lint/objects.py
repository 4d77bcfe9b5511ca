"""Traps of whole objects: one that replaces another, a namespace where none counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analyzer.lint.finding import Trap
from analyzer.lint.written import Context, Written, mapping
from analyzer.policy import PolicyRef

__all__ = ["ignored_namespaces", "replaced"]


def ignored_namespaces(written: Written, context: Context) -> Iterator[Trap]:
    """A clusterwide policy lies in no namespace."""
    namespace = mapping(written.document.get("metadata")).get("namespace")
    if namespace and written.ref.kind == "CiliumClusterwideNetworkPolicy":
        message = "a clusterwide policy has no namespace: it holds in all of them"
        yield Trap("ignored-namespace", "metadata.namespace", message, "remove it, or make it a CiliumNetworkPolicy")


def replaced(policies: Sequence[Written], context: Context) -> Iterator[tuple[Written, Trap]]:
    """Of two objects with one kind, namespace and name, the one applied last is the only one (docs/semantics.md 58).

    In different folders they are meant for different clusters, or one is the other's overlay.
    """
    last: dict[tuple[PolicyRef, str], Written] = {(written.ref, written.folder): written for written in policies}
    for written in policies:
        if last[written.ref, written.folder] is not written and written.ref.name:
            message = f"{written.ref} is there again further on: the one applied last replaces the other"
            yield written, Trap("replaced", "metadata.name", message, "give one of them another name")
