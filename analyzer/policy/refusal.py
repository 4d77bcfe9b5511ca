"""Refusal: one reason why a policy document would not be taken, where it is, and who refuses."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Refusal", "RefusedBy"]

RefusedBy = Literal["schema", "agent"]


class Refusal(NamedTuple):
    """`field` is a path such as ``spec.ingress[0].toPorts[1].ports[0].port``, empty for the document itself.

    ``schema`` is the API server: the CRD's schema, or Kubernetes' own validation. ``agent`` is Cilium, which then drops the
    whole object. `pruned` marks a field that the API server would drop instead, unless validation is strict, as kubectl's is.
    """

    field: str
    message: str
    refused_by: RefusedBy
    pruned: bool = False
