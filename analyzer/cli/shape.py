"""The flags that shape a recommendation: layer 7, peers, the dialect, evidence, and what is there already."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from analyzer.cli.options import OUTPUT
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.cluster import ClusterOptions
    from analyzer.manifests import Document
    from analyzer.model.inventory import AgentOptions
    from analyzer.policy import Policy
    from analyzer.recommend import L7, Proposal
    from analyzer.report.model import Report

__all__ = ["Shape", "existing_policies", "shaped", "shapes_policies", "write_changes"]

DIALECTS = ("cilium", "kubernetes")
EVIDENCE = ("none", "summary", "full")
EVIDENCE_IN = ("comments", "annotations")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the flags say."""

    l7: frozenset[L7]
    zone_names: int
    max_cidrs: int
    range_ports: int
    named_ports: bool
    visibility: bool
    dialect: str
    existing: tuple[str, ...]
    evidence: str
    evidence_in: str
    kustomize: bool
    dry_run: bool


def _l7(context: click.Context, parameter: click.Parameter, value: str | None) -> frozenset[L7]:
    """Read ``http,dns``. Raises BadParameter."""
    from analyzer.recommend import L7

    names = [name.strip().lower() for name in (value or "").split(",") if name.strip()]
    try:
        return frozenset(map(L7, names))
    except ValueError as error:
        raise click.BadParameter(f"{error}; there are http and dns") from None


_OPTIONS = (
    click.option(
        "--l7", metavar="http,dns", panel=OUTPUT, callback=_l7,
        help="Narrow rules to the HTTP requests, or lookups to the DNS names, that the L7 proxy saw. Needs the proxy at work.",
    ),
    click.option(
        "--zone-names", type=click.IntRange(min=0), default=5, show_default=True, metavar="N", panel=OUTPUT,
        help="Write *.zone instead of N or more DNS names of one zone; 0 for never.",
    ),
    click.option(
        "--max-cidrs", type=click.IntRange(min=1), default=32, show_default=True, metavar="N", panel=OUTPUT,
        help="Aggregate more than N outside addresses on one port; internet clients become the entity world.",
    ),
    click.option(
        "--range-ports", type=click.IntRange(min=0), default=8, show_default=True, metavar="N", panel=OUTPUT,
        help="Write a port range instead of N or more ports of one peer, where there is evidence for one; 0 for never.",
    ),
    click.option(
        "--named-ports", is_flag=True, panel=OUTPUT,
        help="Write names instead of port numbers where all pods of the server declare them (--inventory): they follow the pods.",
    ),
    click.option(
        "--visibility", is_flag=True, panel=OUTPUT,
        help="Also write policies that make DNS names visible (and HTTP, with --l7 http) where nobody saw them; they deny nothing.",
    ),
    click.option(
        "--dialect", type=click.Choice(DIALECTS), default="cilium", show_default=True, panel=OUTPUT,
        help="Kind of policies: Cilium's, or Kubernetes NetworkPolicy as far as it goes; what is lost is named.",
    ),
    click.option(
        "--existing", multiple=True, type=click.Path(), metavar="PATH", panel=OUTPUT,
        help="Policies that are there: files, folders, or the word cluster. Only what they do not allow is proposed; documents "
        "labelled as ours are updated where they stand, all others are left as they are.",
    ),
    click.option(
        "--evidence", type=click.Choice(EVIDENCE), default="summary", show_default=True, panel=OUTPUT,
        help="How much evidence the documents carry; full lists every connection of every rule.",
    ),
    click.option(
        "--evidence-in", type=click.Choice(EVIDENCE_IN), default="comments", show_default=True, panel=OUTPUT,
        help="Where they carry it: an annotation is kept by the cluster.",
    ),
    click.option(
        "--kustomize", is_flag=True, panel=OUTPUT,
        help="With --output-dir: list the policies in its kustomization.yaml, beside what that lists already.",
    ),
    click.option(
        "--dry-run", is_flag=True, panel=OUTPUT, help="Write nothing; print what would change as a unified diff."
    ),
)  # fmt: skip


def shapes_policies(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the verb gets them as `shape: Shape`."""

    @wraps(function)
    def run(**params: Any) -> Any:
        shape = Shape(**{field.name: params.pop(field.name) for field in fields(Shape)})
        if shape.kustomize and not (params.get("output_dir") or shape.dry_run):
            raise UsageError("--kustomize needs a folder to write to", hint="name it with --output-dir")
        return function(shape=shape, **params)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def shaped(proposal: Proposal, shape: Shape) -> tuple[Proposal, list[Document]]:
    """The documents to write, and the proposal with notes on what they cannot say."""
    from analyzer.recommend.evidence import Evidence, evidenced
    from analyzer.recommend.knp import network_policies, with_losses

    documents = list(proposal.manifests())
    if shape.dialect == "kubernetes":
        converted, losses = network_policies(proposal)
        documents, proposal = list(converted), with_losses(proposal, losses)
    documents = evidenced(
        documents, proposal.policies, Evidence(shape.evidence), annotate=shape.evidence_in == "annotations"
    )
    if shape.visibility:
        documents.extend(proposal.visibility_manifests())
    return proposal, documents


def existing_policies(shape: Shape, cluster: ClusterOptions, options: AgentOptions) -> tuple[Policy, ...]:
    """The policies that are there and not of ours; what Cilium would refuse is named and takes no part. Raises ManifestError."""
    from analyzer.cli.policies import complain, read_files, read_policies
    from analyzer.existing import is_managed

    if not shape.existing:
        return ()
    files = read_files(shape.existing, "--existing", cluster)
    theirs = tuple(each for each in files.documents if not is_managed(each.data))
    found = read_policies(replace(files, documents=theirs), options)
    complain(found.problems)
    return found.policies


def write_changes(folder: Path | None, shape: Shape, documents: Sequence[Document], report: Report) -> None:
    """Write the documents into `folder` and update those that are there, or, with --dry-run, print what that would change.

    Raises OutputError, ManifestError.
    """
    from analyzer.cli.files import planned, save_proposal, tell

    files = [path for path in shape.existing if path not in ("-", "cluster")]
    target = folder or next((Path(path) for path in files if Path(path).is_dir()), Path())
    plan = planned(target, documents, files, kustomize=shape.kustomize)
    if shape.dry_run:
        sys.stdout.write(plan.diff())
        tell(plan, target)
    elif folder is not None:
        save_proposal(folder, plan, report)
