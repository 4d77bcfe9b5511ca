"""Refusal: one reason why a policy document would not be taken, where it is, and who refuses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["Refusal", "RefusedBy", "gathered"]

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


_VARIABLE = re.compile(r"\$\{[^${}]+\}")
_TOLD = 5


def gathered(refusals: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """The same refusals, but those for variables that nobody filled in, such as ``${NAME}`` of Flux or envsubst, as one: a template
    is no policy yet, and what its values will be cannot be judged."""
    unfilled = [each for each in refusals if _VARIABLE.search(each.message)]
    if not unfilled:
        return tuple(refusals)
    names = list(dict.fromkeys(name for each in unfilled for name in _VARIABLE.findall(each.message)))
    told = ", ".join(names[:_TOLD]) + (f" and {len(names) - _TOLD} more" if len(names) > _TOLD else "")
    agent = any(each.refused_by == "agent" for each in unfilled)
    first = Refusal(unfilled[0].field, f"variables are not filled in: {told}", "agent" if agent else "schema")
    return (first, *(each for each in refusals if each not in unfilled))
