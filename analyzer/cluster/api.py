"""What the Kubernetes API knows: objects of some kinds, page by page, and every refusal in words."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analyzer.cluster.kubeconfig import ClusterOptions, load
from analyzer.errors import ConnectionFailed, SourceError, UsageError

if TYPE_CHECKING:
    from httpx import Response
    from kr8s.asyncio import Api

__all__ = [
    "INVENTORY",
    "POLICIES",
    "Found",
    "Resource",
    "UnauthorizedError",
    "connect",
    "fetch",
    "get",
    "private_folder",
    "refusal",
    "told",
]

_HINT = "pip install 'hubble-analyzer[kube]'"
_PAGE = 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _TOO_MANY = 401, 403, 404, 410, 429
_TIMEOUT = 30.0
"""Seconds that the API server may take to connect, or fall silent."""
_RETRIES = (1.0, 3.0)
"""Seconds to wait before asking a server again that has too much to do, or is just changing its leader."""


class Resource(NamedTuple):
    """A kind of object: its API version, its kind, and its plural name in URLs. `optional` kinds may be unknown to the cluster;
    an `older` version is asked for then. With a `name` only the one object of that name is meant, where Cilium runs; it may be
    missing or not ours to read."""

    version: str
    kind: str
    plural: str
    optional: bool = False
    name: str = ""
    older: str = ""


_CIDR_GROUPS = Resource(
    "cilium.io/v2", "CiliumCIDRGroup", "ciliumcidrgroups", optional=True, older="cilium.io/v2alpha1"
)
INVENTORY = (
    Resource("v1", "Namespace", "namespaces"),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Service", "services"),
    Resource("v1", "Node", "nodes"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("apps/v1", "StatefulSet", "statefulsets"),
    Resource("apps/v1", "DaemonSet", "daemonsets"),
    Resource("batch/v1", "CronJob", "cronjobs"),
    _CIDR_GROUPS,
    Resource("v1", "ConfigMap", "configmaps", optional=True, name="cilium-config"),
)
"""What `analyzer.inventories.from_manifests` reads."""
POLICIES = (
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("cilium.io/v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", optional=True),
    Resource("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", optional=True),
    _CIDR_GROUPS,
)
"""Everything that decides about traffic, in all dialects that Cilium enforces."""


class Found(NamedTuple):
    """Objects as the API server writes them, in the order of their kinds, namespaces and names; and the optional kinds that the
    cluster does not know."""

    documents: tuple[dict[str, Any], ...]
    unknown: tuple[str, ...] = ()


def fetch(options: ClusterOptions, resources: Sequence[Resource]) -> Found:
    """All objects of these kinds in all namespaces. Raises UsageError, ConnectionFailed, SourceError."""

    async def everything(folder: Path) -> Found:
        api = await connect(options, folder)
        documents: list[dict[str, Any]] = []
        unknown = []
        for resource in resources:
            listed = await (_one(api, resource, options.namespace) if resource.name else _list(api, resource))
            if listed is None and resource.older:
                listed = await _list(api, resource._replace(version=resource.older))
            if listed is None:
                unknown.append(f"{resource.kind} {resource.name}".strip())
            else:
                documents += listed
        return Found(tuple(documents), tuple(unknown))

    with told(), private_folder() as folder:
        return asyncio.run(everything(folder))


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only we can read, for keys; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="hubble-analyzer-") as folder:
        yield Path(folder)


async def connect(options: ClusterOptions, folder: Path) -> Api:
    """A client of the cluster, with credentials that are read anew; keys go to `folder`. Raises UsageError, ConnectionFailed."""
    try:
        from httpx import Timeout
        from kr8s.asyncio import Api
    except ImportError as error:
        raise UsageError("reading from a cluster needs the Kubernetes client", hint=_HINT) from error
    logging.getLogger("kr8s").setLevel(logging.ERROR)
    config = load(options, folder)
    # Not by kr8s.api(), which keeps clients whose credentials may have expired, and begins by asking for the server's version.
    api = Api(kubeconfig=config, bypass_factory=True)
    api.timeout = Timeout(_TIMEOUT)
    auth: Any = api.auth
    try:
        await auth
    except Exception as error:
        plugin = config["users"][0]["user"].get("exec") if config else None
        if plugin is None:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"the login plugin {plugin['command']} gives no credentials: {reason}", hint="log in again, as for kubectl"
        ) from error
    try:
        await auth.ssl_context()
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"the certificates of the kubeconfig cannot be used: {reason}", hint="check --kubeconfig"
        ) from error
    return api


async def get(
    api: Api, url: str, namespace: str = "", version: str = "v1", parameters: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """One answer of the API, None if there is no such thing. Raises SourceError, and what the HTTP client raises (`told`)."""
    right = "get" if "/" in url else "list"
    for delay in (*_RETRIES, None):
        # kr8s itself would log in again three times at a refusal, though it is one.
        call = api.call_api(
            "GET",
            version=version,
            url=url,
            namespace=namespace or None,
            params=parameters or {},
            raise_for_status=False,
        )
        async with call as response:
            if response.is_success:
                return _object(response)
            if response.status_code == _NOT_FOUND and not (parameters or {}).get("continue"):
                return None
            if delay is None or not (response.status_code == _TOO_MANY or response.is_server_error):
                raise refusal(response, "read", url if version == "v1" else f"{url} ({version})", f"{right} on it")
        await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


def refusal(response: Response, verb: str, what: str, rights: str) -> SourceError:
    """Why the API does not answer. `rights` is what to ask for if it is forbidden."""
    status, message = response.status_code, _message(response)
    if status == _FORBIDDEN:
        return SourceError(f"the cluster does not let you {verb} {what}: {message}", hint=f"ask for {rights}")
    if status == _UNAUTHORIZED:
        return UnauthorizedError(f"the cluster does not know you: {message}", hint="log in again, as for kubectl")
    if status == _GONE:
        return _ExpiredError(f"{what} changed while it was listed", hint="try again")
    return SourceError(f"the cluster could not {verb} {what}: {message}", hint="try again; does kubectl get an answer?")


def _message(response: Response) -> str:
    try:
        message = response.json()["message"]
    except (ValueError, KeyError, TypeError, RuntimeError):  # the last if it was not read, as of a WebSocket refused
        message = ""
    return str(message) or f"{response.status_code} {response.reason_phrase}".strip()


def _object(response: Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        kind = response.headers.get("content-type", "something else").partition(";")[0]
        raise SourceError(
            f"{response.url.copy_with(query=None)} answers with {kind}, not as the Kubernetes API does",
            hint="is the server of the kubeconfig a proxy that wants you to log in?",
        )
    return body


class UnauthorizedError(SourceError):
    """The credentials are wrong, or have expired."""


class _ExpiredError(SourceError):
    """The server does not remember any more what it began to list."""


async def _list(api: Api, resource: Resource) -> list[dict[str, Any]] | None:
    """All objects of a kind, page by page. Lists leave kind and version out of their items; None for an unknown optional kind."""
    found: list[dict[str, Any]] = []
    parameters = {"limit": str(_PAGE)}
    while True:
        try:
            body = await get(api, resource.plural, "", resource.version, parameters)
        except _ExpiredError:
            if not found:
                raise
            # As kubectl does: in one piece, which cannot grow old.
            found, body = [], await get(api, resource.plural, "", resource.version)
        if body is None:
            if resource.optional:
                return None
            raise SourceError(f"the cluster knows no {resource.plural} ({resource.version})")
        found += [
            {**item, "apiVersion": resource.version, "kind": resource.kind}
            for item in body.get("items") or ()
            if isinstance(item, dict)
        ]
        position = (body.get("metadata") or {}).get("continue") or ""
        if not position:
            return sorted(found, key=_key)
        parameters["continue"] = position


async def _one(api: Api, resource: Resource, namespace: str) -> list[dict[str, Any]] | None:
    """The object of that name, None if it is missing or may not be read: it only makes answers better."""
    try:
        found = await get(api, f"{resource.plural}/{resource.name}", namespace, resource.version)
    except SourceError:
        return None
    return None if found is None else [{**found, "apiVersion": resource.version, "kind": resource.kind}]


def _key(document: Mapping[str, Any]) -> tuple[str, str]:
    meta = document.get("metadata") or {}
    return meta.get("namespace") or "", meta.get("name") or ""


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Failures of the client within, in words."""
    try:
        yield
    except (SourceError, UsageError):
        raise
    except _unreachable() as error:
        reason = str(error) or type(error).__name__
        raise ConnectionFailed(
            f"the Kubernetes API cannot be reached: {reason}", hint="does kubectl reach it?"
        ) from error


def _unreachable() -> tuple[type[Exception], ...]:
    try:
        from httpx import HTTPError, InvalidURL
        from kr8s import APITimeoutError
    except ImportError:
        return (OSError,)
    return (HTTPError, InvalidURL, APITimeoutError, OSError)
