"""A TCP proxy whose ways can go wrong."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

__all__ = ["Proxy"]

Change = Callable[[bytes], bytes]


class Proxy:
    """Forwards connections to a server. `silence` lets nothing pass any more, while nothing is closed; `cut` resets every
    connection, at once or after so many bytes more from the server; `change` alters what the server sends; `refuse` accepts no
    new connections until `heal`."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent = threading.Event()
        self._refusing = False
        self._left: int | None = None
        self._change: Change | None = None
        self.accepted = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.cut()

    def retarget(self, target: str) -> None:
        """Send new connections elsewhere."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))

    def silence(self) -> None:
        self._silent.set()

    def refuse(self) -> None:
        self._refusing = True

    def change(self, change: Change | None) -> None:
        self._change = change

    def cut_after(self, size: int) -> None:
        self._left = size

    def heal(self) -> None:
        """From now on everything passes; what was cut stays cut."""
        self._refusing, self._left, self._change = False, None, None
        self._silent.clear()

    def cut(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for each in pair:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _serve(self) -> None:
        while True:
            try:
                ours, _ = self._listening.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                ours.close()
                continue
            try:
                theirs = socket.create_connection(self._target)
            except OSError:
                ours.close()
                continue
            self._pairs.append((ours, theirs))
            for source, target, answers in ((ours, theirs, False), (theirs, ours, True)):
                threading.Thread(target=self._pump, args=(source, target, answers), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._silent.is_set():
                    continue
                if answers:
                    data = self._altered(data)
                target.sendall(data)
                if answers and self._left == 0:
                    self.cut()
                    return
            # What one side ends, the other ends too.
            target.shutdown(socket.SHUT_WR)

    def _altered(self, data: bytes) -> bytes:
        if self._change is not None:
            data = self._change(data)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data
