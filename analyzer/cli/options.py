"""What every verb that reads flows takes: SOURCES, the server, the time range and the filters - under the hubble CLI's names."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.core import ParameterSource

from analyzer.cli.filters import PLAIN, SHORT, SIDED, RawFilter, flow_filters, parse_raw, rewrite_not
from analyzer.cli.settings import config_option
from analyzer.cli.times import Moment, parse_duration, parse_time
from analyzer.errors import UsageError

if TYPE_CHECKING:
    from analyzer.cluster import ClusterOptions
    from analyzer.sources.server import ServerOptions

__all__ = ["EVERYTHING", "OUTPUT", "FlowCommand", "Inputs", "reads_flows", "server_options"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
EVERYTHING = 2**64 - 1
"""`number` of a request for all that a server still holds, before following it."""

OUTPUT = "What comes out"
RANGE = "Which flows: range"
FILTERS = "Which flows: filters, as of `hubble observe`"
SERVER = "Hubble server (also by HUBBLE_SERVER, HUBBLE_TLS, ... in the environment)"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to read, as the user said it. `sources` is empty when it is the server at `server`.

    `number` is how many flows from the end, or from the beginning with `first`; 0 is all. `port_forward` is the local port of
    a port-forward to Relay (0 is any), None without one. `jobs` is how many processes read files, 0 if that is not said.
    """

    sources: tuple[str, ...]
    server: Mapping[str, Any]
    cluster: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    port_forward: int | None = None
    jobs: int = 0
    since: Moment | None = None
    until: Moment | None = None
    number: int = 0
    first: bool = False
    follow: bool = False
    whitelist: tuple[RawFilter, ...] = ()
    blacklist: tuple[RawFilter, ...] = ()

    def server_options(self) -> ServerOptions:
        """The server to ask. Raises UsageError for options that do not go together."""
        from analyzer.sources.server import ServerOptions

        return ServerOptions(**self.server)

    def cluster_options(self) -> ClusterOptions:
        """The cluster that the word ``cluster`` and -P mean."""
        from analyzer.cluster import ClusterOptions

        return ClusterOptions(**self.cluster)


class Duration(click.ParamType[float]):
    """A duration as Go writes it (``5s``, ``1m30s``); seconds as a float."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return value if isinstance(value, float) else parse_duration(str(value), param.opts[-1] if param else "")


class Listed(click.ParamType[str]):
    """One of several values, which may also come separated by commas."""

    name = "list"
    envvar_list_splitter = ","

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


class Whole(Listed):
    """A value whose environment variable is taken as it is."""

    name = "json"
    envvar_list_splitter = "\0"


DURATION, LISTED, WHOLE = Duration(), Listed(), Whole()


class FlowCommand(click.RichCommand):
    """A verb that reads flows: ``--not`` is settled before the flags are parsed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, rewrite_not(args, _filter_flags()))


def _option(*names: str, panel: str, **attributes: Any) -> Decorator:
    return click.option(*names, panel=panel, **attributes)


def _server_flag(name: str, *, short: str = "", **attributes: Any) -> Decorator:
    variable = f"HUBBLE_{name.upper().replace('-', '_')}"
    return _option(*filter(None, (short, f"--{name}")), envvar=variable, panel=SERVER, **attributes)


_SERVER: tuple[Decorator, ...] = (
    _server_flag("server", default="localhost:4245", show_default=True, metavar="ADDRESS",
                 help="Relay or an agent: host:port, tls://host:port or unix:///path. Used if no SOURCE is named."),
    _server_flag("tls", is_flag=True, help="Speak TLS."),
    _server_flag("tls-ca-cert-files", multiple=True, type=LISTED, metavar="FILES",
                 help="CA certificates to trust, instead of the system's."),
    _server_flag("tls-client-cert-file", metavar="FILE", default="", help="Client certificate, for mutual TLS."),
    _server_flag("tls-client-key-file", metavar="FILE", default="", help="Its private key."),
    _server_flag("tls-server-name", metavar="NAME", default="",
                 help="Name the server's certificate is for, such as instance.hubble-relay.cilium.io."),
    _server_flag("tls-allow-insecure", is_flag=True, help="Do not verify the server's certificate."),
    _server_flag("basic-auth-username", metavar="NAME", default="", help="User name; needs TLS."),
    _server_flag("basic-auth-password", metavar="PASSWORD", default="",
                 help="Password; better given by its environment variable."),
    _server_flag("timeout", type=DURATION, default="5s", show_default=True, help="How long connecting may take."),
    _server_flag("request-timeout", type=DURATION, default="12s", show_default=True,
                 help="How long a single answer may take."),
)  # fmt: skip
SERVER_NAMES = (
    "server", "tls", "tls_ca_cert_files", "tls_client_cert_file", "tls_client_key_file", "tls_server_name",
    "tls_allow_insecure", "basic_auth_username", "basic_auth_password", "timeout", "request_timeout",
)  # fmt: skip

_CLUSTER: tuple[Decorator, ...] = (
    _server_flag("port-forward", is_flag=True, short="-P",
                 help="Reach Relay by a port-forward through the Kubernetes API."),
    _server_flag("port-forward-port", type=click.IntRange(0, 65535), default=4245, show_default=True, metavar="PORT",
                 help="Local port of the port-forward; 0 takes a free one."),
    _server_flag("kubeconfig", metavar="FILE", default="", help="The kubeconfig file, if not the one kubectl takes."),
    _server_flag("kube-context", metavar="NAME", default="", help="A context of it, if not the current one."),
    _server_flag("kube-namespace", metavar="NAME", default="kube-system", show_default=True,
                 help="Where Relay runs, for --port-forward."),
)  # fmt: skip

_RANGE: tuple[Decorator, ...] = (
    _option("--since", metavar="TIME", panel=RANGE, help="From this time on: 3m, 2h, 1d ago; RFC 3339; a date (UTC)."),
    _option("--until", metavar="TIME", panel=RANGE, help="Up to this time."),
    _option("--first", type=click.IntRange(min=1), metavar="N", panel=RANGE, help="Only the first N flows."),
    _option("--last", type=click.IntRange(min=1), metavar="N", panel=RANGE, help="Only the last N flows."),
    _option("--all", "everything", is_flag=True, panel=RANGE, help="All flows there are. This is the default."),
    _option("-f", "--follow", is_flag=True, panel=RANGE,
            help="Go on with new flows as they come, after what the server still holds. Ctrl-C ends it."),
)  # fmt: skip


def _filter_options() -> list[Decorator]:
    made: list[Decorator] = []
    for name, (_, words) in SIDED.items():
        made += _filter_flag(name, f"From or to this {words}. Also --from-{name}, --to-{name}.")
        for side in ("from", "to"):
            made += _filter_flag(f"{side}-{name}", f"{side.title()} this {words}.", hidden=True)
    for name, (_, words) in PLAIN.items():
        made += _filter_flag(name, words)
    made.append(
        _option(
            "-A", "--all-namespaces", is_flag=True, panel=FILTERS, help="Pods of every namespace. Also --from-, --to-."
        )
    )
    for side in ("from", "to"):
        name = f"--{side}-all-namespaces"
        made.append(
            _option(name, is_flag=True, hidden=True, panel=FILTERS, help=f"{side.title()} pods of every namespace.")
        )
    made.append(_option("--not", "negated", is_flag=True, panel=FILTERS, help="Turns the next filter flag around."))
    for name in ("allowlist", "denylist"):
        made.append(
            _option(f"--{name}", multiple=True, type=WHOLE, metavar="JSON", envvar=f"HUBBLE_{name.upper()}",
                    panel=FILTERS, help=f"FlowFilters as JSON, for the {name}.")
        )  # fmt: skip
    return made


def _filter_flag(name: str, words: str, *, hidden: bool = False) -> list[Decorator]:
    names = [f"-{SHORT[name]}", f"--{name}"] if name in SHORT else [f"--{name}"]
    shown = _option(*names, _field(name), multiple=True, metavar="X", hidden=hidden, panel=FILTERS, help=words)
    return [shown, _option(f"--not-{name}", _field(f"not-{name}"), multiple=True, hidden=True, panel=FILTERS)]


def _field(flag: str) -> str:
    return f"filter_{flag.replace('-', '_')}"


def _filter_flags() -> list[str]:
    return [*(prefix + name for name in SIDED for prefix in ("", "from-", "to-")), *PLAIN]


def server_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags of the Hubble server."""
    for option in reversed((*_SERVER, *_CLUSTER)):
        function = option(function)
    return config_option(function)


def reads_flows(function: Callable[..., Any], *, tails: bool = False) -> Callable[..., Any]:
    """Add SOURCES and everything that chooses flows; the verb gets it all as `inputs: Inputs`. With `tails` it can follow files."""

    @wraps(function)
    def run(**params: Any) -> Any:
        return function(inputs=_inputs(params, tails), **params)

    decorated = server_options(run)
    for option in reversed((*_RANGE, *_filter_options())):
        decorated = option(decorated)
    decorated = _option(
        "--jobs", "-j", type=click.IntRange(min=1), metavar="N", panel=RANGE,
        help="Processes that read several files.  [default: one for each processor if the files are large]",
    )(decorated)  # fmt: skip
    decorated = _option(
        "--input-file", multiple=True, metavar="FILE", panel=RANGE, help="The same as naming the file as a SOURCE."
    )(decorated)
    return click.argument("sources", nargs=-1, metavar="[SOURCE]...")(decorated)


def _inputs(params: dict[str, Any], tails: bool) -> Inputs:
    """Take what makes the Inputs out of `params`. Raises UsageError."""
    sources = (*params.pop("sources"), *params.pop("input_file"))
    server = {name: params.pop(name) for name in SERVER_NAMES}
    server["tls_ca_cert_files"] = tuple(x for each in server["tls_ca_cert_files"] for x in each.split(",") if x)
    forward, port = params.pop("port_forward"), params.pop("port_forward_port")
    cluster = {
        name: params.pop(flag)
        for name, flag in (("kubeconfig", "kubeconfig"), ("context", "kube_context"), ("namespace", "kube_namespace"))
    }
    if forward and (_typed("server") or (sources and _typed("port_forward"))):
        raise UsageError(
            "--port-forward finds the server by itself", hint="leave out --server and SOURCES, or --port-forward"
        )
    if sources and _typed("server"):
        raise UsageError("flows come either from the SOURCES or from --server, not both", hint="leave one of them out")
    number, first, follow = _count(params)
    if follow and sources and not tails:
        hint = "files and stores are read to their end; leave it out. Only observe and drops follow files"
        raise UsageError("--follow needs a Hubble server", hint=hint)
    since, until = _range(params.pop("since"), params.pop("until"))
    whitelist, blacklist = _filters(params)
    forwarded = port if forward and not sources else None
    jobs = params.pop("jobs") or 0
    return Inputs(
        sources,
        server,
        cluster,
        forwarded,
        jobs,
        since,
        until,
        number,
        first,
        follow,
        tuple(whitelist),
        tuple(blacklist),
    )


def _count(params: dict[str, Any]) -> tuple[int, bool, bool]:
    first, last, everything, follow = (params.pop(name) for name in ("first", "last", "everything", "follow"))
    if sum(map(bool, (first, last, everything))) > 1:
        raise UsageError("only one of --first, --last and --all makes sense")
    if first and follow:
        raise UsageError("the first flows cannot be followed", hint="leave out --first or --follow")
    return first or last or 0, bool(first), follow


def _range(since: str | None, until: str | None) -> tuple[Moment | None, Moment | None]:
    now = time.time_ns()
    start = parse_time(since, now, "--since") if since else None
    end = parse_time(until, now, "--until") if until else None
    if start and end and start.time > end.time:
        raise UsageError(f"--since {since} is later than --until {until}")
    return start, end


def _filters(params: dict[str, Any]) -> tuple[list[RawFilter], list[RawFilter]]:
    flags = _filter_flags()
    wanted: dict[str, Sequence[str]] = {flag: params.pop(_field(flag)) for flag in flags}
    refused: dict[str, Sequence[str]] = {flag: params.pop(_field(f"not-{flag}")) for flag in flags}
    params.pop("negated")
    for every in ("all-namespaces", "from-all-namespaces", "to-all-namespaces"):
        if params.pop(every.replace("-", "_")):
            flag = every.replace("all-namespaces", "namespace")
            if wanted[flag]:
                raise UsageError(f"--{flag} and --{every} cannot be combined")
            wanted[flag] = [""]
    allowed, denied = (parse_raw(params.pop(name), f"--{name}") for name in ("allowlist", "denylist"))
    return flow_filters(wanted) + allowed, flow_filters(refused) + denied


def _typed(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE
