"""``lint``: what the API server or the agent would refuse, and the traps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.cli.kubernetes import ABOUT
from analyzer.cli.options import OUTPUT
from analyzer.cli.policies import ABOUT_POLICIES, check_stdin, inventory_option

if TYPE_CHECKING:
    from analyzer.cluster import ClusterOptions, Resource
    from analyzer.errors import ManifestError
    from analyzer.manifests import Document

__all__ = ["command"]

CLUSTER_PANEL = "The word cluster"


@click.command("lint", short_help="Check policies: what Cilium refuses, and what does not do what it seems to.")
@click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar="PATH...")
@inventory_option
@click.option(
    "--ignore", multiple=True, metavar="RULE", panel=OUTPUT,
    help="Leave out the findings of this rule, as the column RULE names it. Repeat it for more.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Choice(("table", "wide", "json", "markdown")), default="table", show_default=True,
    panel=OUTPUT, help="Format, on standard output.",
)  # fmt: skip
@click.option(
    "--kubeconfig", envvar="HUBBLE_KUBECONFIG", default="", metavar="FILE", panel=CLUSTER_PANEL,
    help="The kubeconfig file, if not the one kubectl takes.",
)  # fmt: skip
@click.option(
    "--kube-context", envvar="HUBBLE_KUBE_CONTEXT", default="", metavar="NAME", panel=CLUSTER_PANEL,
    help="A context of it, if not the current one.",
)  # fmt: skip
def command(
    paths: tuple[str, ...],
    inventory: tuple[str, ...],
    ignore: tuple[str, ...],
    output: str,
    kubeconfig: str,
    kube_context: str,
) -> None:
    """Check the policies below each PATH: a file, a folder, - for standard input, or the word cluster for its own.

    An error is what the schema of the CRD or the Cilium agent refuses. A warning is a policy that is taken and does something
    else than it seems to. All policies are looked at together, so name all that apply to a cluster. Other kinds are passed over.

    Exit code 0 when there is nothing to report, 1 with findings, 2 when something could not be read.
    """
    from analyzer.cli.output import finish, show
    from analyzer.cluster import INVENTORY, POLICIES, ClusterOptions
    from analyzer.errors import ManifestError
    from analyzer.inventories import from_manifests
    from analyzer.lint import lint
    from analyzer.report.lint import lint_report

    check_stdin(paths, inventory)
    _known(ignore)
    cluster = ClusterOptions(kubeconfig, kube_context)
    failed: list[ManifestError] = []
    beside: list[str] = []
    around = list(_documents(inventory, cluster, INVENTORY, failed, ABOUT, []))
    known = from_manifests(each.data for each in around) if inventory else None
    linted = lint(_documents(paths, cluster, POLICIES, failed, ABOUT_POLICIES, beside), known, around).without(ignore)
    show(lint_report(linted, [error.message for error in failed], beside), output)
    if failed:
        raise ManifestError(_unreadable(failed), hint="the rest was checked; mend what is named above")
    finish(False, findings=bool(linted.findings))


def _documents(
    paths: Iterable[str],
    cluster: ClusterOptions,
    kinds: Sequence[Resource],
    failed: list[ManifestError],
    about: Sequence[str],
    beside: list[str],
) -> Iterator[Document]:
    from analyzer.cli.kubernetes import load_documents

    return load_documents(paths, cluster, kinds, failed.append, lines=True, about=about, on_other=beside.append)


def _known(rules: Sequence[str]) -> None:
    """Raise UsageError for a rule that is none: leaving it out would do nothing."""
    from analyzer.errors import UsageError
    from analyzer.lint import RULES

    for rule in rules:
        if rule not in RULES:
            raise UsageError(f"--ignore {rule}: no such rule", hint=f"the rules are {', '.join(RULES)}")


def _unreadable(failed: Sequence[Exception]) -> str:
    return "one input could not be read" if len(failed) == 1 else f"{len(failed)} inputs could not be read"
