"""What the API server asks of every object's metadata (Kubernetes apimachinery, `ObjectMeta` and its validation)."""

from __future__ import annotations

import re

from analyzer.policy.checks import is_label_key, is_label_value
from analyzer.policy.validate_types import ANYTHING, TEXT, ListOf, MapOf, Record, Text, Type

__all__ = ["META", "subdomain"]

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
# Written by the API server; whoever exports an object exports these too.
_SERVER: dict[str, Type] = dict.fromkeys(
    ("creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields", "ownerReferences",
     "resourceVersion", "selfLink", "uid"),
    ANYTHING,
)  # fmt: skip


def subdomain(text: str) -> bool:
    """Whether `text` is a DNS subdomain, but for its length."""
    return bool(_SUBDOMAIN.fullmatch(text))


def _label_key(text: str) -> bool:
    return ":" not in text and is_label_key(text)


META = Record(
    {
        "name": Text(most=253, least=1, test=subdomain, meant="lower-case letters, digits, '-' and '.'"),
        "generateName": TEXT,
        "namespace": Text(
            most=63, test=lambda text: not text or bool(_DNS_LABEL.fullmatch(text)), meant="a namespace's name"
        ),
        "labels": MapOf(
            Text(
                most=63, test=is_label_value, meant="letters, digits, '-', '_' and '.', a letter or digit at both ends"
            ),
            key=_label_key,
        ),
        "annotations": MapOf(TEXT),
        "finalizers": ListOf(TEXT),
        **_SERVER,
    }
)
