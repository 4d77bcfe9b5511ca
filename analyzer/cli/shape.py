"""The flags that shape a recommendation: layer 7, peers, the dialect, evidence, and what is there already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any

import rich_click as click

from analyzer.cli.options import OUTPUT

if TYPE_CHECKING:
    from analyzer.manifests import Document
    from analyzer.recommend import L7, Proposal

__all__ = ["Shape", "shaped", "shapes_policies"]

DIALECTS = ("cilium", "kubernetes")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the flags say."""

    l7: frozenset[L7]
    zone_names: int
    max_cidrs: int
    visibility: bool
    dialect: str


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
        "--visibility", is_flag=True, panel=OUTPUT,
        help="Also write policies that make DNS names visible (and HTTP, with --l7 http) where nobody saw them; they deny nothing.",
    ),
    click.option(
        "--dialect", type=click.Choice(DIALECTS), default="cilium", show_default=True, panel=OUTPUT,
        help="Kind of policies: Cilium's, or Kubernetes NetworkPolicy as far as it goes; what is lost is named.",
    ),
)  # fmt: skip


def shapes_policies(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the verb gets them as `shape: Shape`."""

    @wraps(function)
    def run(**params: Any) -> Any:
        shape = Shape(**{field.name: params.pop(field.name) for field in fields(Shape)})
        return function(shape=shape, **params)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def shaped(proposal: Proposal, shape: Shape) -> tuple[Proposal, list[Document]]:
    """The documents to write, and the proposal with notes on what they cannot say."""
    from analyzer.recommend.knp import network_policies, with_losses

    documents = list(proposal.manifests())
    if shape.dialect == "kubernetes":
        converted, losses = network_policies(proposal)
        documents, proposal = list(converted), with_losses(proposal, losses)
    if shape.visibility:
        documents.extend(proposal.visibility_manifests())
    return proposal, documents
