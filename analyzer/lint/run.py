"""lint: every refusal and every trap of a set of policies, in the order in which they are written."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from analyzer.lint.addresses import cidrs_at_insiders, node_addresses
from analyzer.lint.cluster import Cluster
from analyzer.lint.denies import default_deny_alone, deny_all, deny_switches
from analyzer.lint.finding import Finding, Linted, Severity, Trap
from analyzer.lint.hints import hint_for
from analyzer.lint.lists import empty_lists, icmp_types, odd_ports
from analyzer.lint.names import egress_without_dns, own_namespace_dns, unlearned_names
from analyzer.lint.objects import ignored_namespaces, replaced
from analyzer.lint.selectors import clusterwide_peers, clusterwide_subjects, misread_keys, overwritten_namespaces
from analyzer.lint.written import Context, Written
from analyzer.manifests import Document
from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.policy import KINDS, Refusal, parse, validate
from analyzer.policy.refusal import gathered

__all__ = ["ACROSS", "TRAPS", "lint"]

TRAPS: tuple[Callable[[Written, Context], Iterator[Trap]], ...] = (
    ignored_namespaces,
    overwritten_namespaces,
    clusterwide_subjects,
    clusterwide_peers,
    misread_keys,
    own_namespace_dns,
    deny_all,
    deny_switches,
    default_deny_alone,
    empty_lists,
    icmp_types,
    odd_ports,
    cidrs_at_insiders,
)
"""What one policy shows by itself."""
ACROSS: tuple[Callable[[Sequence[Written], Context], Iterator[tuple[Written, Trap]]], ...] = (
    replaced,
    unlearned_names,
    egress_without_dns,
)
"""What depends on the other policies."""


def lint(documents: Iterable[Document], inventory: Inventory | None = None, around: Iterable[Document] = ()) -> Linted:
    """Look at all policies among `documents` together; other kinds are counted and passed over.

    `inventory` is what is known of the cluster; `around` are the manifests that it was read from, which also tell the nodes'
    addresses. Without them the checks that need them are left out. Traps are looked for in what the agent takes.
    """
    options = inventory.options if inventory else AgentOptions()
    others: Counter[str] = Counter()
    policies: list[Document] = []
    refused: list[tuple[Document, Refusal]] = []
    taken: list[tuple[Document, Written]] = []
    for document in documents:
        kind = document.data.get("kind")
        if kind not in KINDS:
            others[kind if isinstance(kind, str) else "without a kind"] += 1
            continue
        policies.append(document)
        found = gathered(validate(document.data, options))
        refused += [(document, each) for each in found]
        if not any(each.refused_by == "agent" for each in found):
            taken.append((document, _written(document, options)))
    nodes = node_addresses(each.data for each in around)
    known = Cluster(inventory, nodes) if inventory is not None else None
    traps = _traps(taken, Context([written for _, written in taken], inventory, known))
    told: dict[int, list[Finding]] = defaultdict(list)
    for document, refusal in refused:
        told[id(document)].append(_refused(document, refusal))
    for document, trap in traps:
        told[id(document)].append(_warned(document, trap))
    return Linted(tuple(each for document in policies for each in told[id(document)]), len(policies), others)


def _written(document: Document, options: AgentOptions) -> Written:
    return Written(document.data, parse(document.data, options), os.path.dirname(document.path))


def _traps(taken: Sequence[tuple[Document, Written]], context: Context) -> Iterator[tuple[Document, Trap]]:
    for document, written in taken:
        for check in TRAPS:
            for trap in check(written, context):
                yield document, trap
    documents = {id(written): document for document, written in taken}
    for across in ACROSS:
        for written, trap in across(context.policies, context):
            yield documents[id(written)], trap


def _refused(document: Document, refusal: Refusal) -> Finding:
    rule = "unknown-field" if refusal.pruned else f"refused-by-{refusal.refused_by}"
    return Finding(
        document.path, document.index, document.line_at(refusal.field), _name(document), refusal.field, Severity.ERROR, rule,
        refusal.refused_by, refusal.message, hint_for(refusal),
    )  # fmt: skip


def _warned(document: Document, trap: Trap) -> Finding:
    return Finding(
        document.path, document.index, document.line_at(trap.field), _name(document), trap.field, Severity.WARNING, trap.rule, "",
        trap.message, trap.hint,
    )  # fmt: skip


def _name(document: Document) -> str:
    meta = document.data.get("metadata")
    name, namespace = (meta.get(key) if isinstance(meta, dict) else None for key in ("name", "namespace"))
    where = f"{namespace}/{name}" if isinstance(namespace, str) and namespace else f"{name or ''}"
    return f"{document.data.get('kind')} {where}".rstrip()
