"""Ctrl-C, SIGTERM and SIGHUP while flows are read: the first ends reading in good order, the second ends everything."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interruptible"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interruptible:
    """While it lasts, the first signal calls `stop` and sets `interrupted`; a second one raises KeyboardInterrupt."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.interrupted = False
        self._stop = stop
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruptible:
        if threading.current_thread() is threading.main_thread():
            # What is ignored stays so: nohup means it.
            heeded = [each for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
            self._previous = {each: signal.signal(each, self._handle) for each in heeded}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._stop()
