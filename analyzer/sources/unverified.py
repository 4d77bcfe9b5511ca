"""A way to a server whose certificate nobody looks at: gRPC cannot leave that out, so TLS ends here, behind a socket of our own."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analyzer.sources.probe import Endpoint

__all__ = ["unverified"]

_PIECE = 256 << 10
_SECONDS_TO_STOP = 2.0


@contextmanager
def unverified(endpoint: Endpoint, context: ssl.SSLContext, name: str, timeout: float) -> Iterator[str]:
    """The path of a Unix socket, in a folder that only we can enter, behind which is the server. Every connection to it makes one
    to `endpoint`, with TLS as in `context` and asking for `name`; where that fails within `timeout` seconds, it is closed."""
    with tempfile.TemporaryDirectory(prefix="hubble-analyzer-") as folder:
        path = Path(folder, "s")
        tunnel = _Tunnel(endpoint, context, name, timeout, path)
        try:
            yield str(path)
        finally:
            tunnel.stop()


class _Tunnel:
    """The socket, on an event loop and a thread of its own."""

    def __init__(self, endpoint: Endpoint, context: ssl.SSLContext, name: str, timeout: float, path: Path) -> None:
        self._endpoint, self._context, self._timeout = endpoint, context, timeout
        self._name = name or endpoint.host or "localhost"
        self._loop = asyncio.new_event_loop()
        # A connection that breaks is told by whoever used it.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._server = self._loop.run_until_complete(asyncio.start_unix_server(self._carried, path))
        self._task: asyncio.Task[None] = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name="unverified TLS", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(_SECONDS_TO_STOP)

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        self._loop.close()

    async def _serve(self) -> None:
        try:
            await self._server.serve_forever()
        finally:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    async def _carried(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            async with asyncio.timeout(self._timeout):
                there = await self._connected()
        except (OSError, TimeoutError):
            writer.close()
            return
        ways = [asyncio.ensure_future(_copied(reader, there[1])), asyncio.ensure_future(_copied(there[0], writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            there[1].close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._endpoint.path:
            return await asyncio.open_unix_connection(
                self._endpoint.path, ssl=self._context, server_hostname=self._name, limit=_PIECE
            )
        host, port = self._endpoint.host, self._endpoint.port
        return await asyncio.open_connection(host, port, ssl=self._context, server_hostname=self._name, limit=_PIECE)


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
