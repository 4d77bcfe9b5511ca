"""validate: every reason why a policy document would not be taken, by the API server's schema and by the agent."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from analyzer.model.inventory import AgentOptions
from analyzer.policy.refusal import Refusal
from analyzer.policy.validate_agent import agent_refusals
from analyzer.policy.validate_schema import SCHEMAS, schema_refusals

__all__ = ["MAX_REFUSALS", "Refusal", "validate"]

MAX_REFUSALS = 200
"""Most refusals per document and half; nobody reads more, and a hostile document could have a million."""


def validate(document: Mapping[str, Any], options: AgentOptions = AgentOptions()) -> tuple[Refusal, ...]:
    """What the schema of the CRD (Cilium 1.18; Kubernetes for a NetworkPolicy) refuses, then what the agent does.

    An empty result means that both take the document. The agent's half is empty exactly if `parse` takes it.
    """
    if document.get("kind") not in tuple(SCHEMAS):
        return (Refusal("kind", f"not a policy: must be one of {', '.join(SCHEMAS)}", "schema"),)
    schema = islice(schema_refusals(document), MAX_REFUSALS)
    return (*schema, *islice(agent_refusals(document, options), MAX_REFUSALS))
