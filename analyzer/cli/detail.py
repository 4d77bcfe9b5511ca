"""The flags that say how much a recommendation closes and in how much detail: granularity and directions, per namespace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import rich_click as click

from analyzer.cli.options import OUTPUT

if TYPE_CHECKING:
    from analyzer.model.flow import Direction
    from analyzer.recommend import Level, Options

__all__ = ["Choices", "Detail", "details_policies", "direction"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Choices(Generic[T]):
    """What was chosen for all namespaces (None for nothing), and what for some of them."""

    default: T | None = None
    namespaces: Mapping[str, T] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Detail:
    """What the flags say."""

    granularity: Choices[Level]
    directions: Choices[frozenset[Direction]]
    system: frozenset[str] | None = None

    def options(self, base: Options) -> Options:
        """`base` with the settings of all namespaces that were named, and of the rest."""
        from analyzer.recommend import at

        default = base.default
        if self.directions.default is not None:
            default = replace(default, directions=self.directions.default)
        chosen = {}
        for namespace in sorted({*self.granularity.namespaces, *self.directions.namespaces}):
            level = self.granularity.namespaces.get(namespace, self.granularity.default)
            settings = at(default, level) if level else default
            chosen[namespace] = replace(
                settings, directions=self.directions.namespaces.get(namespace, default.directions)
            )
        if self.granularity.default is not None:
            default = at(default, self.granularity.default)
        system = base.system if self.system is None else self.system
        return replace(base, default=default, namespaces=chosen, system=system)


def _choices(values: tuple[str, ...], parse: Callable[[str], T]) -> Choices[T]:
    """Read ``shop=workload/port,batch=namespace/any`` or one value for all. Raises BadParameter."""
    default: T | None = None
    namespaces: dict[str, T] = {}
    for part in (each.strip() for value in values for each in value.split(",")):
        if not part:
            continue
        namespace, equals, text = part.rpartition("=")
        try:
            found = parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if not equals:
            default = found
        elif namespace.strip():
            namespaces[namespace.strip()] = found
        else:
            raise click.BadParameter(f"{part!r} names no namespace")
    return Choices(default, namespaces)


def _granularity(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Choices[Level]:
    from analyzer.recommend import Level

    return _choices(values, Level.parse)


def _directions(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> Choices[frozenset[Direction]]:
    return _choices(values, direction)


def direction(text: str) -> frozenset[Direction]:
    """Read ``ingress``, ``egress`` or ``both``. Raises ValueError."""
    from analyzer.model.flow import Direction

    known = {
        "ingress": frozenset({Direction.INGRESS}),
        "egress": frozenset({Direction.EGRESS}),
        "both": frozenset({Direction.INGRESS, Direction.EGRESS}),
    }
    found = known.get(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no direction; there are {', '.join(known)}")
    return found


def _system(context: click.Context, parameter: click.Parameter, value: str | None) -> frozenset[str] | None:
    """Read ``kube-*,infra``. Raises BadParameter for what no namespace can be called."""
    from analyzer.recommend.system import is_namespace

    if value is None:
        return None
    names = frozenset(each.strip() for each in value.split(",") if each.strip())
    wrong = sorted(name for name in names if not is_namespace(name.removesuffix("*").rstrip("-") or "x"))
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r} is neither a namespace nor the beginning of one with a * behind it")
    return names


_OPTIONS = (
    click.option(
        "--granularity", multiple=True, metavar="[NAMESPACE=]PEER/PORT", panel=OUTPUT, callback=_granularity,
        help="How much detail rules go into: PEER is namespace or workload, PORT is any, port or l7. For all namespaces, or "
        "shop=workload/port,batch=namespace/any.  [default: workload/port]",
    ),
    click.option(
        "--directions", multiple=True, metavar="[NAMESPACE=]DIRECTION", panel=OUTPUT, callback=_directions,
        help="Which directions to write rules for: ingress, egress or both; shop=ingress for one namespace.  [default: both]",
    ),
    click.option(
        "--system-namespaces", "system", metavar="NAMES", panel=OUTPUT, callback=_system,
        help="Namespaces that keep the cluster running: they get no policy. Separated by commas, with * at the end for any rest; "
        "instead of a list that begins with kube-*, cilium and openshift-*. An empty one is for none.",
    ),
)  # fmt: skip


def details_policies(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags; the verb gets them as `detail: Detail`."""

    @wraps(function)
    def run(**params: Any) -> Any:
        detail = Detail(**{field.name: params.pop(field.name) for field in fields(Detail)})
        return function(detail=detail, **params)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run
