"""Label and Labels: Cilium's label syntax ``source:key=value``, parsed and printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "CLUSTER_KEY",
    "NAMESPACE_KEY",
    "NAMESPACE_LABEL_PREFIX",
    "SERVICE_ACCOUNT_KEY",
    "Label",
    "Labels",
]

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."


class Label(NamedTuple):
    """One identity label. A label without a source has the source ``""``; an empty value prints without ``=``.

    As in Cilium's `pkg/labels` (`Label.String`), so `parse` and `str` are inverse on everything `parse` returns.
    """

    source: str
    key: str
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read ``source:key=value``, ``source:key``, ``key=value`` or ``key``.

        The source ends at the first colon, unless an ``=`` or a ``/`` comes before it: then there is no source.
        """
        source, rest = "", text
        colon = text.find(":")
        if colon >= 0 and not any(0 <= text.find(mark) < colon for mark in "=/"):
            source, rest = text[:colon], text[colon + 1 :]
        key, _, value = rest.partition("=")
        return cls(source, key, value)

    def __str__(self) -> str:
        body = f"{self.key}={self.value}" if self.value else self.key
        return f"{self.source}:{body}" if self.source else body


class Labels(tuple[Label, ...]):
    """An immutable set of labels in canonical (sorted, unique) order: equal sets compare and hash equal."""

    __slots__ = ()

    @classmethod
    def of(cls, labels: Iterable[Label | str]) -> Labels:
        """Collect labels given as `Label` or as text."""
        return cls(sorted({x if isinstance(x, Label) else Label.parse(x) for x in labels}))

    def get(self, key: str, source: str = "") -> str | None:
        """The value of `key`, or None. Without a `source` every source counts, as Cilium's ``any:`` does."""
        for label in self:
            if label.key == key and (not source or label.source == source):
                return label.value
        return None

    def reserved(self) -> frozenset[str]:
        """The names of the ``reserved:`` labels, such as ``{"kube-apiserver", "remote-node"}``."""
        return frozenset(label.key for label in self if label.source == "reserved")

    @property
    def namespace(self) -> str:
        """The pod's namespace as the labels tell it, or ``""``."""
        return self.get(NAMESPACE_KEY, "k8s") or ""

    def strings(self) -> tuple[str, ...]:
        """Every label as Hubble writes it, in canonical order."""
        return tuple(map(str, self))
