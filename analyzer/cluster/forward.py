"""A port-forward to Relay through the Kubernetes API, as the hubble CLI's ``-P``."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.cluster.api import UnauthorizedError, connect, get, private_folder, refusal, told
from analyzer.cluster.kubeconfig import ClusterOptions
from analyzer.errors import AnalyzerError, ConnectionFailed, SourceError, UsageError

if TYPE_CHECKING:
    from httpx import Response
    from kr8s.asyncio import Api

__all__ = ["port_forward"]

_POLL = 0.2
_SECONDS_TO_STOP = 2.0
_PIECE = 64 << 10
_LARGEST = 4 << 20
"""Bytes of a WebSocket message: API servers send some 32 KiB."""


def _silently(text: str) -> None:
    """News for nobody."""


def _never() -> bool:
    return False


@contextmanager
def port_forward(
    options: ClusterOptions,
    service: str = "hubble-relay",
    local_port: int = 0,
    *,
    news: Callable[[str], None] = _silently,
    stopped: Callable[[], bool] = _never,
) -> Iterator[str]:
    """Forward `local_port` of this machine (0 takes a free one) to a ready pod behind the first port of `service`, and give the
    address to connect to. It begins with one connection, which shows whether that is allowed.

    Every connection looks for a ready pod anew, with credentials that are read again when they have expired; what then goes
    wrong ends that connection and is told in `news`. Waiting for a login plugin ends when `stopped` says so. Raises UsageError,
    ConnectionFailed, SourceError.
    """
    with private_folder() as folder, told():
        forward = _Forward(options, service, local_port, folder, news)
        try:
            yield f"127.0.0.1:{forward.started(stopped)}"
        finally:
            forward.stop()


class _Forward:
    """A port-forward on an event loop and a thread of its own."""

    def __init__(
        self, options: ClusterOptions, service: str, local_port: int, folder: Path, news: Callable[[str], None]
    ) -> None:
        self._options, self._service, self._folder, self._news = options, service, folder, news
        self._port = local_port
        self._told = ""
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        # What tasks of the HTTP client leave behind when a connection breaks is told by whoever used the connection.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._task: asyncio.Task[None] = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name="port-forward", daemon=True)
        self._thread.start()

    def started(self, stopped: Callable[[], bool]) -> int:
        """Wait for the forward, and give its port."""
        while not self._started.wait(_POLL):
            if stopped():
                raise SourceError("the port-forward was interrupted before it began")
        if self._failure is not None:
            raise self._failure
        return self._port

    def stop(self) -> None:
        with suppress(RuntimeError):  # The loop has ended by itself.
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_SECONDS_TO_STOP)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except BaseException as failure:
            self._failure = failure
        finally:
            with suppress(RuntimeError):
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        self._api = await connect(self._options, self._folder)
        try:
            async with self._tunnel():
                pass
            server = await self._listen()
            self._port = server.sockets[0].getsockname()[1]
            self._started.set()
            async with server:
                await server.serve_forever()
        finally:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    async def _listen(self) -> asyncio.Server:
        try:
            return await asyncio.start_server(self._forwarded, "127.0.0.1", self._port)
        except OSError as error:
            raise UsageError(
                f"port {self._port} of this machine cannot be used: {os.strerror(error.errno or 0)}",
                hint="--port-forward-port names another one, and 0 takes any that is free",
            ) from error

    async def _forwarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            with told():
                async with self._tunnel() as tunnel:
                    self._told = ""
                    await _pump(tunnel, reader, writer)
        except AnalyzerError as error:
            if error.message != self._told:
                self._told = error.message
                self._news(f"port-forward: {error.message}")
        finally:
            writer.close()

    @asynccontextmanager
    async def _tunnel(self) -> AsyncIterator[Any]:
        """A WebSocket to a ready pod. Raises SourceError, and what the HTTP client raises (`told`)."""
        async with AsyncExitStack() as stack:
            try:
                tunnel = await stack.enter_async_context(self._opened())
            except UnauthorizedError:
                self._api = await connect(self._options, self._folder)
                tunnel = await stack.enter_async_context(self._opened())
            yield tunnel

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Any]:
        from httpx_ws import HTTPXWSException, WebSocketUpgradeError

        name, port = await self._target()
        path, parameters = f"pods/{name}/portforward", {"ports": str(port)}
        try:
            async with self._api.open_websocket(
                url=path, namespace=self._options.namespace, params=parameters, max_message_size_bytes=_LARGEST
            ) as tunnel:
                yield tunnel
        except WebSocketUpgradeError as error:
            raise await self._refused(error.response, path) from error
        except HTTPXWSException as error:
            reason = str(error) or type(error).__name__
            raise ConnectionFailed(f"the way to pod {name} broke: {reason}", hint="is it still there?") from error

    async def _refused(self, response: Response, path: str) -> SourceError:
        """Why no WebSocket came about: without asking for one, the same refusal comes with its reason."""
        namespace = self._options.namespace
        async with self._api.call_api("GET", url=path, namespace=namespace, raise_for_status=False) as plain:
            answer = plain if plain.status_code == response.status_code else response
        return refusal(
            answer, "forward", f"ports to the pods of namespace {namespace}", "create and get on pods/portforward there"
        )

    async def _target(self) -> tuple[str, int]:
        """A pod and its port."""
        namespace = self._options.namespace
        service = await get(self._api, f"services/{self._service}", namespace)
        if service is None:
            raise SourceError(
                f"there is no service {self._service} in namespace {namespace}",
                hint="is Hubble Relay enabled? (cilium hubble enable) If it runs elsewhere, name --kube-namespace",
            )
        pods = await _ready_pods(self._api, service, namespace)
        if not pods:
            raise SourceError(
                f"service {self._service} in namespace {namespace} has no ready pod",
                hint=f"kubectl -n {namespace} get pods shows why",
            )
        return random.choice(pods)["metadata"]["name"], _target_port(service, pods)


async def _pump(tunnel: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy both ways until one end closes."""

    async def there() -> None:
        while data := await reader.read(_PIECE):
            await tunnel.send_bytes(b"\x00" + data)

    async def back() -> None:
        greeted: set[int] = set()
        while True:
            writer.write(_data(await tunnel.receive_bytes(), greeted))
            await writer.drain()

    ways = [asyncio.ensure_future(there()), asyncio.ensure_future(back())]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        failures = [way.exception() for way in done]
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, AnalyzerError):
            raise failure


def _data(frame: bytes, greeted: set[int]) -> bytes:
    """What a frame of Kubernetes carries. Its first byte is the channel: data comes through 0, errors through 1, and the first
    frame of each only says its port (`pkg/kubelet/cri/streaming/portforward/websocket.go`)."""
    if not frame:
        return b""
    if frame[0] not in greeted:
        greeted.add(frame[0])
        return b""
    if frame[0]:
        reason = frame[1:].decode(errors="replace").strip()
        raise ConnectionFailed(f"the pod does not take the connection: {reason}", hint="is its port right?")
    return frame[1:]


async def _ready_pods(api: Api, service: Mapping[str, Any], namespace: str) -> list[dict[str, Any]]:
    """The pods behind a service that are ready."""
    selector = ",".join(f"{key}={value}" for key, value in ((service.get("spec") or {}).get("selector") or {}).items())
    listed = await get(api, "pods", namespace, parameters={"labelSelector": selector})
    return [pod for pod in (listed or {}).get("items") or () if _is_ready(pod)]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    gone = (pod.get("metadata") or {}).get("deletionTimestamp")
    return not gone and any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def _target_port(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> int:
    """The port of the pods that the first port of the service leads to; a name is looked up in their containers."""
    ports = (service.get("spec") or {}).get("ports") or [{}]
    target = ports[0].get("targetPort", ports[0].get("port"))
    if isinstance(target, int):
        return target
    for pod in pods:
        for container in (pod.get("spec") or {}).get("containers") or ():
            for port in container.get("ports") or ():
                if port.get("name") == target:
                    return int(port["containerPort"])
    raise SourceError(f"no container of the service's pods declares the port {target!r}")
