"""refusal: why the agent would not take a policy document."""

from __future__ import annotations

from analyzer.model.inventory import AgentOptions
from tests.oracle.rules import Doc

__all__ = ["refusal"]


def refusal(policy: Doc, options: AgentOptions) -> str | None:
    return None
