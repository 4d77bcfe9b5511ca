"""Policy documents on the command line: --policies, --current and --inventory; what was refused is named, the rest still read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import rich_click as click

from analyzer.cli.progress import note
from analyzer.errors import ManifestError, PolicyError, UsageError

if TYPE_CHECKING:
    from analyzer.manifests import Document
    from analyzer.model.edge import Edge
    from analyzer.model.inventory import AgentOptions, Inventory
    from analyzer.policy import Policy, PolicyRef

__all__ = [
    "Files", "Policies", "complain", "current_option", "inventory_of", "inventory_option", "policies_option",
    "read_files", "read_policies",
]  # fmt: skip

POLICIES = "Policies"
GROUP = "CiliumCIDRGroup"
MAX_TOLD = 20

policies_option = click.option(
    "--policies", "-p", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="The policies to judge by, all that would be in force: files, folders, or - (YAML or JSON). Repeat it for more.",
)  # fmt: skip
current_option = click.option(
    "--current", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="The policies in force today, such as `kubectl get cnp,ccnp,netpol -A -o yaml` writes. "
    "Without them, the comparison is with what was recorded.",
)  # fmt: skip
inventory_option = click.option(
    "--inventory", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="Manifests of the cluster (kubectl get pods,namespaces,services -A -o yaml): named ports, services, silent pods.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Files:
    """Documents of some paths, and one sentence for each that could not be read."""

    paths: tuple[str, ...] = ()
    documents: tuple[Document, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policies:
    """Policies that the agent takes, where each was written, what was refused, and other kinds that were passed over."""

    policies: tuple[Policy, ...] = ()
    places: Mapping[PolicyRef, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    others: Counter[str] = field(default_factory=Counter)
    groups: tuple[Mapping[str, Any], ...] = ()


def read_files(paths: Iterable[str]) -> Files:
    """All documents below `paths`; broken ones are named and the rest is read."""
    from analyzer.manifests import load

    listed, failed = tuple(paths), list[ManifestError]()
    documents = tuple(load(listed, on_error=failed.append))
    return Files(listed, documents, tuple(_sentence(error) for error in failed))


def read_policies(files: Files, options: AgentOptions, flag: str) -> Policies:
    """The policies among the documents. Raises UsageError if there is neither one nor a problem to tell of."""
    from analyzer.policy import KINDS, parse

    found: dict[PolicyRef, Policy] = {}
    places: dict[PolicyRef, str] = {}
    problems, others, groups = list(files.problems), Counter[str](), []
    for document in files.documents:
        kind = str(document.data.get("kind") or "no kind")
        if kind not in KINDS:
            others[kind] += 1
            groups.extend([document.data] if kind == GROUP else [])
            continue
        try:
            policy = parse(document.data, options)
        except PolicyError as error:
            problems.append(f"{_place(document)}: {kind} {_name(document)} is refused by Cilium: {error.message}")
            continue
        found[policy.ref] = policy
        places[policy.ref] = _place(document)
    if files.paths and not found and not problems:
        what = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items())) or "nothing"
        raise UsageError(
            f"{flag} {', '.join(files.paths)}: no network policy in there, but {what}",
            hint=f"name files or folders with {', '.join(KINDS)}",
        )
    return Policies(tuple(found.values()), places, tuple(problems), others, tuple(groups))


def inventory_of(
    edges: Iterable[Edge], resolved: Mapping[str, tuple[str, ...]], manifests: Files, *policies: Files
) -> Inventory:
    """What the edges tell of the cluster, and what manifests tell, which are believed more. CIDR groups may lie beside policies."""
    from analyzer.inventories import from_edges, from_manifests, merged

    seen = from_edges(edges, resolved)
    beside = [each for files in policies for each in files.documents if each.data.get("kind") == GROUP]
    documents = [each.data for each in (*manifests.documents, *beside)]
    return merged(seen, from_manifests(documents, seen.options.cluster_name)) if documents else seen


def complain(problems: Iterable[str]) -> None:
    """Name everything that could not be taken, on standard error. The command goes on, and ends with `check_problems`."""
    told = list(dict.fromkeys(problems))
    for problem in told[:MAX_TOLD]:
        note(f"Not taken: {problem}")
    if len(told) > MAX_TOLD:
        note(f"Not taken: {len(told) - MAX_TOLD} more")


def _sentence(error: ManifestError) -> str:
    return error.message


def _place(document: Document) -> str:
    return f"{document.path}:{document.line}" if document.line else document.path


def _name(document: Document) -> str:
    meta = document.data.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    namespace, name = meta.get("namespace"), meta.get("name")
    return f"{namespace}/{name}" if namespace else str(name or "without a name")
