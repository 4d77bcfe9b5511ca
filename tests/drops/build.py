"""Scenarios by hand: policies as YAML, flows, and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from analyzer.aggregate import aggregate
from analyzer.drops.documents import Documents
from analyzer.drops.findings import Finding, findings
from analyzer.drops.scene import Facts, Scene
from analyzer.drops.window import DropWindow
from analyzer.inventories import answered_names, from_edges
from analyzer.manifests import parse as parse_yaml
from analyzer.model.flow import Flow
from analyzer.model.inventory import Inventory
from analyzer.policy import Policy, compile_policies, parse
from analyzer.policy.resolve import RuleIndex
from analyzer.settle import settle

__all__ = ["cnp", "documents_of", "facts_of", "found", "policies", "scenes"]


def policies(text: str) -> list[Policy]:
    """The policies of a YAML text."""
    return [parse(document.data) for document in parse_yaml(text)]


def cnp(name: str, app: str, body: str, namespace: str = "shop") -> str:
    """A CiliumNetworkPolicy for the pods of one app; `body` is the inside of its spec."""
    lines = "\n".join(f"  {line}" for line in body.strip("\n").split("\n"))
    return (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec:\n  endpointSelector: {{matchLabels: {{app: {app}}}}}\n{lines}\n"
    )


def facts_of(flows: Iterable[Flow], window: DropWindow, inventory: Inventory | None = None) -> Facts:
    table = aggregate(flows)
    edges = settle(table)
    seen = from_edges(edges, answered_names(table.answers))
    known = seen if inventory is None else replace(inventory, endpoints=(*inventory.endpoints, *seen.endpoints))
    return Facts(known, {edge.key: edge for edge in edges}, {}, window.answers, window.asking)


def scenes(text: str | None, flows: Sequence[Flow], inventory: Inventory | None = None) -> list[Scene]:
    """A scene per drop, the most frequent first."""
    window = DropWindow()
    window.add(flows)
    facts = facts_of(flows, window, inventory)
    if text is None:
        return [Scene(each, facts, None, None) for each in window.drops()]
    known = policies(text)
    compiled, index = compile_policies(known, facts.inventory), RuleIndex(known)
    return [Scene(each, facts, compiled, index) for each in window.drops()]


def found(text: str | None, flows: Sequence[Flow], inventory: Inventory | None = None) -> tuple[Finding, ...]:
    """The findings, with fixes if there are policies."""
    window = DropWindow()
    window.add(flows)
    facts = facts_of(flows, window, inventory)
    documents = None if text is None else documents_of(text, facts.inventory)
    return findings(window.drops(), facts, documents)


def documents_of(text: str, inventory: Inventory) -> Documents:
    """The documents of a YAML text, as if they stood in policies.yaml."""
    read = [replace(each, path="policies.yaml") for each in parse_yaml(text)]
    return Documents(read, {"policies.yaml": text}, inventory.options)
