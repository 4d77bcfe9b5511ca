"""What known.c defines: see known.py."""

from collections.abc import Callable

from analyzer.model.flow import Flow

SECRET: int
"""Secret bytes that are needed to tell lines apart."""

class Known:
    def __new__(cls, flow: type[Flow], parse: Callable[[str], int], secret: bytes) -> Known: ...
    def read(self, data: bytes, /) -> tuple[list[Flow | None], list[int]]: ...
    def keep(self, line: bytes, flow: Flow, /) -> bool: ...
