"""The Kubernetes API, read only: inventory, policies and a port-forward to Relay. The only module that knows its client, kr8s."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from analyzer.errors import ConnectionFailed, SourceError, UsageError

if TYPE_CHECKING:
    from kr8s import ServerError
    from kr8s.asyncio import Api

__all__ = ["INVENTORY", "POLICIES", "ClusterOptions", "Found", "Resource", "fetch", "port_forward"]

_HINT = "pip install 'hubble-analyzer[kube]'"
_PAGE = 500
_FORBIDDEN, _UNAUTHORIZED, _NOT_FOUND, _GONE = 403, 401, 404, 410
_SECONDS_TO_START = 15.0

T = TypeVar("T")


class Resource(NamedTuple):
    """A kind of object: its API version, its kind, and its plural name in URLs. `optional` kinds may be unknown to the cluster.
    With a `name` only the one object of that name is meant, where Cilium runs; it may be missing or not ours to read."""

    version: str
    kind: str
    plural: str
    optional: bool = False
    name: str = ""


INVENTORY = (
    Resource("v1", "Namespace", "namespaces"),
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Service", "services"),
    Resource("v1", "Node", "nodes"),
    Resource("apps/v1", "Deployment", "deployments"),
    Resource("apps/v1", "StatefulSet", "statefulsets"),
    Resource("apps/v1", "DaemonSet", "daemonsets"),
    Resource("batch/v1", "CronJob", "cronjobs"),
    Resource("cilium.io/v2", "CiliumCIDRGroup", "ciliumcidrgroups", optional=True),
    Resource("v1", "ConfigMap", "configmaps", optional=True, name="cilium-config"),
)
"""What `analyzer.inventories.from_manifests` reads."""
POLICIES = (
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("cilium.io/v2", "CiliumNetworkPolicy", "ciliumnetworkpolicies", optional=True),
    Resource("cilium.io/v2", "CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", optional=True),
    Resource("cilium.io/v2", "CiliumCIDRGroup", "ciliumcidrgroups", optional=True),
)
"""Everything that decides about traffic, in all dialects that Cilium enforces."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster: a kubeconfig file and a context in it, both by default what kubectl would take; inside a pod, its service
    account. `namespace` is where Cilium runs."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = "kube-system"


class Found(NamedTuple):
    """Objects as the API server writes them, in the order of their kinds, namespaces and names; and the optional kinds that the
    cluster does not know."""

    documents: tuple[dict[str, Any], ...]
    unknown: tuple[str, ...] = ()


def fetch(options: ClusterOptions, resources: Sequence[Resource]) -> Found:
    """All objects of these kinds in all namespaces. Raises UsageError, ConnectionFailed, SourceError."""

    async def everything() -> Found:
        api = await _connect(options)
        documents: list[dict[str, Any]] = []
        unknown = []
        for resource in resources:
            listed = await (_one(api, resource, options.namespace) if resource.name else _list(api, resource))
            if listed is None:
                unknown.append(f"{resource.kind} {resource.name}".strip())
            else:
                documents += listed
        return Found(tuple(documents), tuple(unknown))

    return _told(lambda: asyncio.run(everything()))


@contextmanager
def port_forward(options: ClusterOptions, service: str = "hubble-relay", local_port: int = 0) -> Iterator[str]:
    """Forward `local_port` of this machine (0 takes a free one) to a ready pod behind the first port of `service`, as the hubble
    CLI's ``-P`` does, and give the address to connect to.

    Every connection looks for a ready pod again if the last one is gone. Raises UsageError, ConnectionFailed, SourceError.
    """
    forward = _told(lambda: _Forward(options, service, local_port))
    try:
        yield f"127.0.0.1:{forward.port}"
    finally:
        forward.stop()


class _Forward:
    """A port-forward on an event loop and a thread of its own."""

    def __init__(self, options: ClusterOptions, service: str, local_port: int) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._end: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(options, service, local_port), daemon=True)
        self._thread.start()
        if not self._started.wait(_SECONDS_TO_START):
            raise ConnectionFailed("the port-forward does not start", hint="is the Kubernetes API reachable?")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._end is not None:
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(_SECONDS_TO_START)

    def _run(self, *arguments: Any) -> None:
        try:
            self._loop.run_until_complete(self._forward(*arguments))
        except BaseException as failure:
            self._failure = failure
        finally:
            self._started.set()
            self._loop.close()

    async def _forward(self, options: ClusterOptions, service: str, local_port: int) -> None:
        from kr8s.asyncio.portforward import PortForward

        api = await _connect(options)
        found = await _get(api, f"services/{service}", options.namespace)
        if found is None:
            raise SourceError(
                f"there is no service {service} in namespace {options.namespace}",
                hint="is Hubble Relay enabled? (cilium hubble enable) If it runs elsewhere, name --kube-namespace",
            )
        ready = await _ready_pods(api, found)
        if not ready:
            raise SourceError(f"service {service} in namespace {options.namespace} has no ready pod")
        remote_port = _target_port(found, ready)
        backend = _backend(api, found)
        self._end = asyncio.Event()
        async with PortForward(backend, remote_port, local_port or "auto") as port:
            self.port = int(port)
            self._started.set()
            await self._end.wait()


async def _ready_pods(api: Api, service: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pods behind a service that are ready, without the discovery of kinds that kr8s would begin with."""
    selector = ",".join(f"{key}={value}" for key, value in (service.get("spec", {}).get("selector") or {}).items())
    listed = await _get(api, "pods", service["metadata"]["namespace"], parameters={"labelSelector": selector})
    return [{**pod, "apiVersion": "v1", "kind": "Pod"} for pod in (listed or {}).get("items") or () if _is_ready(pod)]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _backend(api: Api, service: dict[str, Any]) -> Any:
    """The service as kr8s wants it, which asks it for ready pods whenever it lost its pod."""
    from kr8s.asyncio.objects import Pod, Service

    class Backend(Service):
        async def async_ready_pods(self) -> list[Any]:
            return [Pod(pod, api=api) for pod in await _ready_pods(api, service)]

    return Backend(service, api=api)


def _target_port(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> int:
    """The port of the pods that the first port of the service leads to; a name is looked up in their containers."""
    ports = service.get("spec", {}).get("ports") or [{}]
    target = ports[0].get("targetPort", ports[0].get("port"))
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in pod.get("spec", {}).get("containers", ()):
            for port in container.get("ports", ()):
                if port.get("name") == target:
                    return int(port["containerPort"])
    raise SourceError(f"no container of the service's pods declares the port {target!r}")


async def _connect(options: ClusterOptions) -> Api:
    try:
        from kr8s.asyncio import api
    except ImportError as error:
        raise UsageError("reading from a cluster needs the Kubernetes client", hint=_HINT) from error
    from kr8s import ServerError

    logging.getLogger("kr8s").setLevel(logging.ERROR)
    try:
        # None and not empty, so that kr8s looks in the usual places. It asks for the server's version at once.
        return await api(kubeconfig=options.kubeconfig or None, context=options.context or None)
    except ServerError as error:
        raise _refused(_status(error), "its version", "v1", str(error)) from error


async def _list(api: Api, resource: Resource) -> list[dict[str, Any]] | None:
    """All objects of a kind, page by page. Lists leave kind and version out of their items; None for an unknown optional kind."""
    found: list[dict[str, Any]] = []
    position = ""
    while True:
        parameters = {"limit": str(_PAGE), **({"continue": position} if position else {})}
        body = await _get(api, resource.plural, "", resource.version, parameters)
        if body is None:
            if resource.optional:
                return None
            raise SourceError(f"the cluster knows no {resource.plural} ({resource.version})")
        found += [{**item, "apiVersion": resource.version, "kind": resource.kind} for item in body.get("items") or ()]
        position = body.get("metadata", {}).get("continue", "")
        if not position:
            return sorted(found, key=_key)


async def _one(api: Api, resource: Resource, namespace: str) -> list[dict[str, Any]] | None:
    """The object of that name, None if it is missing or may not be read: it only makes answers better."""
    try:
        found = await _get(api, f"{resource.plural}/{resource.name}", namespace, resource.version)
    except SourceError:
        return None
    return None if found is None else [{**found, "apiVersion": resource.version, "kind": resource.kind}]


def _key(document: Mapping[str, Any]) -> tuple[str, str]:
    meta = document.get("metadata", {})
    return meta.get("namespace", ""), meta.get("name", "")


async def _get(
    api: Api, url: str, namespace: str = "", version: str = "v1", parameters: Mapping[str, str] | None = None
) -> dict[str, Any] | None:
    """One answer of the API, None if there is no such thing."""
    from kr8s import ServerError

    try:
        call = api.call_api("GET", version=version, url=url, namespace=namespace or None, params=parameters or {})
        async with call as response:
            body: dict[str, Any] = response.json()
            return body
    except ServerError as error:
        if _status(error) == _NOT_FOUND:
            return None
        raise _refused(_status(error), url, version, str(error)) from error


def _status(error: ServerError) -> int:
    return error.response.status_code if error.response is not None else 0


def _refused(status: int, url: str, version: str, message: str) -> SourceError:
    what = f"{url} ({version})" if version != "v1" else url
    if status == _FORBIDDEN:
        return SourceError(f"the cluster does not let you read {what}: {message}", hint="ask for get and list on it")
    if status == _UNAUTHORIZED:
        return SourceError(f"the cluster does not know you: {message}", hint="log in again, as for kubectl")
    if status == _GONE:
        return SourceError(f"{what} changed while it was listed", hint="try again")
    return SourceError(f"the cluster could not answer for {what}: {message}")


def _told(work: Callable[[], T]) -> T:
    """Do the work, its failures told in words."""
    try:
        return work()
    except (SourceError, UsageError):
        raise
    except _unreachable() as error:
        reason = str(error) or type(error).__name__
        raise ConnectionFailed(
            f"the Kubernetes API cannot be reached: {reason}", hint="does kubectl reach it?"
        ) from error
    except Exception as error:
        # kr8s lets KeyError, ValueError and worse through for a kubeconfig that does not fit.
        raise UsageError(
            f"no usable cluster configuration: {str(error) or type(error).__name__}",
            hint="name --kubeconfig and --kube-context, or run inside the cluster",
        ) from error


def _unreachable() -> tuple[type[Exception], ...]:
    try:
        from httpx import HTTPError
        from kr8s import APITimeoutError
    except ImportError:
        return (OSError,)
    return (HTTPError, APITimeoutError, OSError)
