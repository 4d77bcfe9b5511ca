"""MessageStream: one gRPC response stream, read by a thread of its own so that whoever consumes it can act by the clock."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from analyzer.sources.server import grpc

__all__ = ["MessageStream"]

_CHUNK = 1024
"""Messages that wake the consumer at once. Both threads need the interpreter's lock: few large hand-overs cost least."""
_CHUNK_BYTES = 1 << 20
_MOST_CHUNKS = 4
"""Chunks that may wait for the consumer; then the reader stops reading, and HTTP/2 makes the server wait."""
_BURST = 32
"""Messages after which the reader looks whether they were there already or had to be waited for, each by itself."""
_NAP, _LONGEST_NAP = 4.0, 0.02
"""Having waited, it sleeps so many times as long, in seconds at most, and finds as many messages in one go: waking up for each
costs several times what reading it does, on the server's side too. Flow control must allow for what gathers meanwhile."""
_GRACE = 2.0
"""Seconds to wait for the thread of a cancelled call; it is a daemon."""


class MessageStream:
    """Raw messages of a call. `ended` is set once nothing more will come; `error` is then why, or None for a proper end."""

    def __init__(self, channel: grpc.Channel, method: str, request: bytes, metadata: Sequence[tuple[str, str]]) -> None:
        self.ended = False
        self.error: grpc.RpcError | None = None
        self.headers: tuple[tuple[str, str | bytes], ...] = ()
        self._messages: deque[bytes] = deque()
        self._bytes_read = 0  # Written by the reader only, as _bytes_taken is by the consumer: so neither needs a lock.
        self._bytes_taken = 0
        self._wake = threading.Event()
        self._room = threading.Event()
        call = channel.unary_stream(method, request_serializer=None, response_deserializer=None)
        self._call: Any = call(request, metadata=tuple(metadata), wait_for_ready=False)
        self._thread = threading.Thread(target=self._read, name=f"read {method}", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> list[bytes]:
        """What has arrived: at once if that is a chunk or the end, else what there is after `timeout` seconds."""
        self._wake.wait(timeout)
        self._wake.clear()
        messages = [self._messages.popleft() for _ in range(len(self._messages))]
        self._bytes_taken += sum(map(len, messages))
        self._room.set()
        return messages

    @property
    def drained(self) -> bool:
        """Whether the call has ended and everything was taken."""
        return self.ended and not self._messages

    def cancel(self) -> None:
        """End the call and its thread. What was not taken is lost."""
        self._bytes_taken = self._bytes_read
        self._messages.clear()
        self._call.cancel()
        self._room.set()
        self._thread.join(_GRACE)

    def _read(self) -> None:
        try:
            messages, burst, pause = self._messages, 0, _Pause()
            for message in self._call:
                messages.append(message)
                self._bytes_read += len(message)
                if len(messages) >= _CHUNK or self._backlog() >= _CHUNK_BYTES:
                    self._wake.set()
                    self._wait_for_room()
                burst += 1
                if burst == _BURST:
                    burst = 0
                    pause.take()
        except grpc.RpcError as error:
            self.error = error
        finally:
            self.ended = True
            self._wake.set()

    def _backlog(self) -> int:
        return self._bytes_read - self._bytes_taken

    def _wait_for_room(self) -> None:
        while len(self._messages) >= _CHUNK * _MOST_CHUNKS or self._backlog() >= _CHUNK_BYTES * _MOST_CHUNKS:
            self._room.clear()
            if len(self._messages) < _CHUNK * _MOST_CHUNKS and self._backlog() < _CHUNK_BYTES * _MOST_CHUNKS:
                return
            self._room.wait()


class _Pause:
    """Lets messages gather if the thread has mostly waited for them."""

    def __init__(self) -> None:
        self._clock, self._busy = time.monotonic(), time.thread_time()

    def take(self) -> None:
        """Sleep, if more than half of the time since the last call was spent waiting."""
        busy = time.thread_time() - self._busy
        waited = time.monotonic() - self._clock - busy
        if waited > busy:
            time.sleep(min(waited * _NAP, _LONGEST_NAP))
        self._clock, self._busy = time.monotonic(), time.thread_time()
