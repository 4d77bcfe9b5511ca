"""Policy documents on the command line: --policies, --current and --inventory; what was refused is named, the rest still read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.kubernetes import ABOUT, CLUSTER, load_documents
from analyzer.cli.progress import note
from analyzer.errors import ManifestError, UsageError

if TYPE_CHECKING:
    from analyzer.cluster import ClusterOptions
    from analyzer.manifests import Document
    from analyzer.model.edge import Edge
    from analyzer.model.inventory import AgentOptions, Inventory
    from analyzer.policy import Policy, PolicyRef
    from analyzer.policy.validate import Refusal

__all__ = [
    "ABOUT_POLICIES", "Files", "Policies", "check_stdin", "complain", "current_option", "fail_for", "inventory_of",
    "inventory_option", "needed", "policies_option", "read_files", "read_policies",
]  # fmt: skip

POLICIES = "Policies"
GROUP = "CiliumCIDRGroup"
MAX_TOLD = 20
ABOUT_POLICIES = ("NetworkPolicy", GROUP)
"""What every policy, and what policies may refer to, is written with: see `analyzer.cli.kubernetes.ABOUT`."""

policies_option = click.option(
    "--policies", "-p", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="The policies to judge by, all that would be in force: files, folders, - (YAML or JSON), or the word cluster. "
    "Repeat it for more.",
)  # fmt: skip
current_option = click.option(
    "--current", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="The policies in force today, such as `kubectl get cnp,ccnp,netpol -A -o yaml` writes, or the word cluster. "
    "Without them, the comparison is with what was recorded.",
)  # fmt: skip
inventory_option = click.option(
    "--inventory", multiple=True, type=click.Path(), metavar="PATH", panel=POLICIES,
    help="Manifests of the cluster (kubectl get pods,namespaces,services -A -o yaml), or the word cluster: named ports, "
    "services, silent pods.",
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


def check_stdin(*named: Iterable[str]) -> None:
    """Raise UsageError when several inputs want standard input."""
    if sum(list(each).count("-") for each in named) > 1:
        raise UsageError("standard input can be read only once", hint="name files instead")


def read_files(paths: Iterable[str], flag: str, cluster: ClusterOptions) -> Files:
    """All documents below `paths`, and the cluster's own for the word ``cluster``; broken ones are named and the rest is read.

    Raises ManifestError if nothing is left; UsageError, SourceError if the cluster cannot be read.
    """
    from analyzer.cluster import INVENTORY, POLICIES

    listed, failed = tuple(paths), list[ManifestError]()
    kinds = INVENTORY if flag == "--inventory" else POLICIES
    about = ABOUT if flag == "--inventory" else ABOUT_POLICIES
    documents = tuple(load_documents(listed, cluster, kinds, failed.append, about=about))
    found = Files(listed, documents, tuple(error.message for error in failed))
    if failed and not documents:
        complain(found.problems[1:])
        raise ManifestError(found.problems[0], hint=f"nothing could be read from {flag} {', '.join(listed)}")
    return found


def read_policies(files: Files, options: AgentOptions) -> Policies:
    """The policies among the documents; what Cilium would refuse is named and takes no part."""
    from analyzer.policy import KINDS, parse
    from analyzer.policy.refusal import gathered
    from analyzer.policy.validate import validate

    found: dict[PolicyRef, Policy] = {}
    places: dict[PolicyRef, str] = {}
    problems, others = list(files.problems), Counter[str]()
    for document in files.documents:
        kind = str(document.data.get("kind") or "documents without a kind")
        if kind not in KINDS:
            others[kind] += 1
            continue
        refusals = gathered(validate(document.data, options))
        for refusal in refusals:
            if refusal.pruned:
                note(f"{_place(document)}: {kind} {_name(document)}: {refusal.field}: {refusal.message}")
        # What a cluster holds has passed its own schema, which may be newer than the one known here.
        stored = document.path == CLUSTER
        whole = [each for each in refusals if not each.pruned and not (stored and each.refused_by == "schema")]
        if whole:
            problems.append(_refused(document, kind, whole))
            continue
        policy = parse(document.data, options)
        if policy.ref in found:
            note(f"{policy.ref} is there twice: {_place(document)} counts, and not {places[policy.ref]}")
        found[policy.ref] = policy
        places[policy.ref] = _place(document)
    return Policies(tuple(found.values()), places, tuple(problems), others)


def needed(found: Policies, files: Files, flag: str) -> Policies:
    """`found`, if there is a policy in it. Raises UsageError."""
    from analyzer.policy import KINDS

    if not found.policies:
        complain(found.problems)
        passed = ", ".join(f"{number} {kind}" for kind, number in sorted(found.others.items()))
        empty = "the cluster has none" if files.paths == (CLUSTER,) else "the files are empty"
        what = "only what Cilium refuses" if found.problems else f"but {passed}" if passed else empty
        raise UsageError(
            f"{flag} {', '.join(files.paths)}: no network policy in there, {what}",
            hint=f"name files or folders with {', '.join(KINDS)}",
        )
    return found


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
    """Name what could not be taken, on standard error. The rest is read; at the end of the command, `fail_for` them."""
    told = list(dict.fromkeys(problems))
    for problem in told[:MAX_TOLD]:
        note(f"Not taken: {problem}")
    if len(told) > MAX_TOLD:
        note(f"Not taken: {len(told) - MAX_TOLD} more")


def fail_for(problems: Iterable[str]) -> None:
    """End with an error if there were problems. Raises ManifestError."""
    number = len(set(problems))
    if number:
        what = "one document was" if number == 1 else f"{number} documents were"
        raise ManifestError(
            f"{what} not taken, so the result is not about all policies",
            hint="mend what is named above; `kubectl apply --dry-run=server -f` refuses the same",
        )


_REFUSED_BY = {"schema": "the schema of the API server", "agent": "the Cilium agent"}


def _refused(document: Document, kind: str, refusals: Sequence[Refusal]) -> str:
    """The first reason, and how many there are: `lint` tells all of them."""
    first = refusals[0]
    where = f"{first.field}: " if first.field else ""
    more = f", and for {len(refusals) - 1} more reasons: see lint" if len(refusals) > 1 else ""
    by = _REFUSED_BY[first.refused_by]
    return f"{_place(document)}: {kind} {_name(document)}: {where}{first.message} (refused by {by}{more})"


def _place(document: Document) -> str:
    return f"{document.path}:{document.line}" if document.line else document.path


def _name(document: Document) -> str:
    meta = document.data.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    namespace, name = meta.get("namespace"), meta.get("name")
    return f"{namespace}/{name}" if namespace else str(name or "without a name")
