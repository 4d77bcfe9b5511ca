"""The flags of the platform baseline: who the gateways and the monitoring are, and whether to close the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from analyzer.cli.detail import direction
from analyzer.cli.options import OUTPUT
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.baseline import Baseline, Named
    from analyzer.model.edge import Edge
    from analyzer.model.flow import Direction
    from analyzer.model.inventory import Inventory
    from analyzer.policy import Policy
    from analyzer.recommend import Options, Proposal
    from analyzer.report.model import Report, Section

__all__ = ["Laid", "Platform", "lays_platform", "platform_steps"]


@dataclass(frozen=True, slots=True)
class Platform:
    """What the flags say."""

    baseline: bool
    default_deny: frozenset[Direction]
    gateway: tuple[Named, ...]
    monitoring: tuple[Named, ...]
    allow_direct_internet: bool

    @property
    def wanted(self) -> bool:
        """Whether there is to be a baseline at all."""
        return self.baseline or bool(self.default_deny)

    def fits(self, options: Options, *, filtered: bool) -> None:
        """Raise UsageError where default deny would close more than was looked at."""
        from analyzer.recommend.system import is_system

        if not self.default_deny:
            return
        if filtered or options.only:
            raise UsageError(
                "default deny closes the whole cluster, and this is about a part of it",
                hint="leave out filters and --only-namespace, or --default-deny",
            )
        if not all(self.default_deny <= each.directions for each in (options.default, *options.namespaces.values())):
            raise UsageError(
                "default deny would close a direction that no rules are written for",
                hint="let --directions have it as well",
            )
        if not is_system("kube-system", options.system):
            raise UsageError(
                "default deny would close kube-system, and take name resolution from everybody",
                hint="--system-namespaces replaces the list: name kube-* as well",
            )

    def beside(
        self, options: Options, edges: Sequence[Edge], inventory: Inventory, files: Sequence[str]
    ) -> tuple[Options, Baseline | None]:
        """The baseline, if there is to be one, and how to recommend beside it. System namespaces that somebody added to our
        clusterwide policies in `files` stay system namespaces."""
        if not self.wanted:
            return options, None
        from analyzer.baseline import Wishes, baseline

        options = replace(options, system=options.system | _added(files))
        wishes = Wishes(self.gateway, self.monitoring, self.allow_direct_internet)
        made = baseline(edges, inventory, options, wishes, self.default_deny)
        return made.options(options, inventory), made

    def laid(
        self,
        made: Baseline | None,
        proposal: Proposal,
        edges: Sequence[Edge],
        inventory: Inventory,
        existing: Sequence[Policy],
    ) -> Laid:
        """What there is to tell of the baseline, beside a proposal and what is in force."""
        if made is None:
            return Laid()
        from analyzer.baseline import broken_by_closing
        from analyzer.report.baseline import baseline_sections

        directions = (self.default_deny,) if self.default_deny else ()
        broken = broken_by_closing(made, proposal, edges, inventory, existing, *directions)
        short, long = (baseline_sections(made, broken, full=full) for full in (False, True))
        return Laid(short, long, bool(broken and self.default_deny))


@dataclass(frozen=True, slots=True)
class Laid:
    """What there is to say of a baseline: sections of a report, in short and in full."""

    short: tuple[Section, ...] = ()
    long: tuple[Section, ...] = ()
    breaks: bool = False
    """Whether the default deny that is written would drop what was recorded."""

    def told(self, report: Report, *, full: bool = False) -> Report:
        """The report with what there is to say of the baseline before its last section."""
        return report.before_last(self.long if full else self.short)


def _added(files: Sequence[str]) -> frozenset[str]:
    """The namespaces that clusterwide policies of ours leave out."""
    from analyzer.existing import is_managed
    from analyzer.manifests import load
    from analyzer.model.labels import NAMESPACE_KEY

    found: set[str] = set()
    for document in load(files, on_error=lambda error: None):
        if not is_managed(document.data) or document.data.get("kind") != "CiliumClusterwideNetworkPolicy":
            continue
        try:
            wanted = document.data["spec"]["endpointSelector"]["matchExpressions"]
            for each in wanted:
                if each["key"] == f"k8s:{NAMESPACE_KEY}" and each["operator"] == "NotIn":
                    found.update(name for name in each["values"] if isinstance(name, str))
        except (KeyError, TypeError):
            continue  # not as we write them, so not about system namespaces
    return frozenset(found)


def platform_steps(folder: Path, made: Baseline) -> list[str]:
    """What to apply in which order."""
    where = folder / "CLUSTER" if len(made.platforms) > 1 else folder
    steps = [
        f"Read {folder / 'REPORT.md'} and the policies: each file tells what it is based on.",
        f"kubectl apply -f {where / '_platform'}   comes first, and closes nothing." if made.platform else "",
        f"kubectl apply -f {where / 'NAMESPACE'}   then one namespace after the other; watch: hubble-analyzer drops --follow"
        if made.platforms
        else "",
        f"kubectl apply -f {where / '_default-deny'}   comes last, and closes all the rest. Whatever applies the whole folder at "
        "once (kubectl -R, a recursive Argo CD application) must not find it before."
        if made.closing
        else "",
    ]
    return [step for step in steps if step]


def _named(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Named, ...]:
    from analyzer.baseline import Named

    try:
        return tuple(Named.parse(part) for value in values for part in value.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _directions(context: click.Context, parameter: click.Parameter, value: str | None) -> frozenset[Direction]:
    return direction(value) if value else frozenset()


_OPTIONS = (
    click.option(
        "--baseline", is_flag=True, panel=OUTPUT,
        help="Also write clusterwide policies for what all workloads need: name resolution, probes, monitoring, and the "
        "internet to gateways only. They close nothing, and are applied first.",
    ),
    click.option(
        "--default-deny", type=click.Choice(("ingress", "egress", "both")), callback=_directions, panel=OUTPUT,
        help="With the baseline, also write the policies that close the rest, in a folder of their own: they are applied last.",
    ),
    click.option(
        "--gateway", multiple=True, metavar="NAMESPACE[/WORKLOAD]", callback=_named, panel=OUTPUT,
        help="For --baseline: what lets the internet in, instead of all that lives in namespaces such as ingress-nginx.",
    ),
    click.option(
        "--monitoring", multiple=True, metavar="NAMESPACE[/WORKLOAD]", callback=_named, panel=OUTPUT,
        help="For --baseline: what may reach every workload on every port, instead of what does so in a namespace like monitoring.",
    ),
    click.option(
        "--allow-direct-internet", is_flag=True, panel=OUTPUT,
        help="For --baseline: also allow what comes from the internet to other workloads than gateways.",
    ),
)  # fmt: skip


def lays_platform(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the verb gets them as `platform: Platform`. Raises UsageError for flags that say nothing without another."""

    @wraps(function)
    def run(**params: Any) -> Any:
        platform = Platform(**{field.name: params.pop(field.name) for field in fields(Platform)})
        if not platform.wanted and (platform.gateway or platform.monitoring or platform.allow_direct_internet):
            raise UsageError(
                "--gateway, --monitoring and --allow-direct-internet are for a baseline", hint="add --baseline"
            )
        if platform.default_deny and not (params.get("output_dir") or params.get("dry_run")):
            raise UsageError(
                "--default-deny needs a folder to write to: nobody should pipe it into kubectl by accident",
                hint="name it with --output-dir",
            )
        if platform.wanted and params.get("dialect") == "kubernetes":
            raise UsageError("a baseline is clusterwide, which NetworkPolicy cannot be", hint="leave --dialect out")
        return function(platform=platform, **params)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
