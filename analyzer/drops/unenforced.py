"""What should have been dropped or audited, and was not: policies that are not in force, or audit mode without its verdicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from analyzer.drops.documents import Documents
from analyzer.model.edge import Edge, Status
from analyzer.model.flow import Verdict
from analyzer.model.inventory import Inventory
from analyzer.model.workload import title
from analyzer.simulate import Result, simulate

__all__ = ["unenforced"]

SHOWN = 3


def unenforced(
    recorded: Iterable[Edge], documents: Documents, inventory: Inventory, verdicts: Mapping[int, int] | None
) -> str:
    """A sentence if the policies deny what was let pass without an AUDIT verdict; "" if all is as it should be.

    `verdicts` counts the policy verdicts of the record, None where that is not known.
    """
    passed = [edge for edge in recorded if edge.status is Status.FORWARDED]
    outcomes = simulate(passed, documents.policies.values(), inventory)
    denied = [edge for edge in passed if outcomes[edge.key].result is Result.DENIED]
    if not denied:
        return ""
    what = (
        "one connection that these policies deny was"
        if len(denied) == 1
        else f"{len(denied):,} connections that these policies deny were"
    )
    shown = [" -> ".join(map(title, (edge.source, edge.destination))) + f" {edge.l4}" for edge in denied[:SHOWN]]
    examples = f" ({', '.join(shown)}{', ...' if len(denied) > SHOWN else ''})"
    audited = any(edge.status is Status.AUDITED for edge in recorded) or bool(verdicts and verdicts.get(Verdict.AUDIT))
    if audited:
        return (
            f"Besides what was audited, {what} let pass without a word{examples}: not every endpoint is in audit mode, or the "
            "policies are newer than the record."
        )
    return (
        f"{what[0].upper()}{what[1:]} let pass{examples}, and there is not one AUDIT verdict: the policies are not in force "
        "(yet), or audit mode is on and its verdicts do not reach Hubble. Audit mode speaks only where a policy selects the "
        "endpoint, and ends with a restart."
    )
