"""A small Kubernetes API server over HTTPS: lists with pages, tokens, refusals, and a port-forward to a port of this machine."""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trustme
import yaml
from aiohttp import WSMsgType, web

TOKEN = "a-token"
CONTEXT = "tests"


class KubernetesApi:
    """`objects` by their path, such as ``/api/v1/pods``; `refused` paths answer 403, `answers` are given instead of the usual ones,
    each once. `requests` are the paths asked for."""

    def __init__(self, objects: dict[str, list[dict[str, Any]]], *, page: int = 2, backend: int = 0) -> None:
        self.objects, self.page, self.backend = objects, page, backend
        self.refused: set[str] = set()
        self.answers: dict[str, list[web.Response]] = {}
        self.requests: list[str] = []
        self.tokens = {TOKEN}
        self.authority = trustme.CA()
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @contextmanager
    def serving(self) -> Iterator[KubernetesApi]:
        self._thread.start()
        assert self._started.wait(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)

    def kubeconfig(self, folder: Path, *, token: str = TOKEN, trusted: bool = True) -> str:
        """A kubeconfig file for it."""
        authority = folder / "ca.pem"
        (self.authority if trusted else trustme.CA()).cert_pem.write_to_path(str(authority))
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": CONTEXT,
            "contexts": [{"name": CONTEXT, "context": {"cluster": "tests", "user": "somebody"}}],
            "clusters": [
                {
                    "name": "tests",
                    "cluster": {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": str(authority)},
                }
            ],
            "users": [{"name": "somebody", "user": {"token": token}}],
        }
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return str(path)

    def break_off(self) -> None:
        """Cut every connection off."""
        connections = list(self._runner.server.connections if self._runner.server else ())
        for each in connections:
            if each.transport is not None:
                self._loop.call_soon_threadsafe(each.transport.abort)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._checked])
        app.router.add_get("/api/v1/namespaces/{namespace}/pods/{name}/portforward", self._portforward)
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.5)
        await self._runner.setup()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.authority.issue_cert("127.0.0.1").configure_cert(context)
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]

    @web.middleware
    async def _checked(self, request: web.Request, handler: Any) -> web.StreamResponse:
        path = "/" + request.path.strip("/")
        self.requests.append(path)
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self.tokens}:
            return status(401, "Unauthorized")
        if path in self.refused:
            return status(403, f"{path} is forbidden: no role of yours allows it")
        if self.answers.get(path):
            return self.answers[path].pop(0)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = "/" + request.path.strip("/")
        if path == "/version":
            return web.json_response({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        if path in self.objects:
            return web.json_response(self._listed(request, self.objects[path]))
        found = re.fullmatch(r"(.*)/namespaces/([^/]+)/([^/]+)(?:/([^/]+))?", path)
        if found:
            base, namespace, plural, name = found.groups()
            inside = [
                each for each in self.objects.get(f"{base}/{plural}", ()) if each["metadata"]["namespace"] == namespace
            ]
            if name is None:
                return web.json_response(self._listed(request, inside))
            for each in inside:
                if each["metadata"]["name"] == name:
                    return web.json_response(each)
        return status(404, "the server could not find the requested resource")

    def _listed(self, request: web.Request, objects: list[dict[str, Any]]) -> dict[str, Any]:
        wanted = dict(part.split("=") for part in request.query.get("labelSelector", "").split(",") if part)
        found = [each for each in objects if wanted.items() <= each["metadata"].get("labels", {}).items()]
        start = int(request.query.get("continue", "0"))
        end = start + self.page if "limit" in request.query else len(found)
        meta = {"resourceVersion": "1", **({"continue": str(end)} if end < len(found) else {})}
        return {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": found[start:end]}

    async def _portforward(self, request: web.Request) -> web.StreamResponse:
        """Kubernetes' frames: a byte for the channel, first its port number, then data; channel 1 carries errors."""
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",))
        await socket.prepare(request)
        port = int(request.query["ports"])
        reader, writer = await asyncio.open_connection("127.0.0.1", self.backend)
        for channel in (b"\x00", b"\x01"):
            await socket.send_bytes(channel + port.to_bytes(2, "little"))

        async def back() -> None:
            while data := await reader.read(65536):
                await socket.send_bytes(b"\x00" + data)

        task = asyncio.ensure_future(back())
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    writer.write(message.data[1:])
                    await writer.drain()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            writer.close()
        return socket


def status(code: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return web.json_response(body, status=code)
