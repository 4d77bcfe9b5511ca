"""Reading an untyped document with the place at hand: every wrong type becomes a PolicyError that names the field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.errors import PolicyError

__all__ = ["Node"]


class Node:
    """An object of the document and its path. Absent and null are the same, as to the API server."""

    __slots__ = ("body", "path")

    def __init__(self, body: Any, path: str = "") -> None:
        if not isinstance(body, Mapping):
            raise PolicyError("must be an object", field=path)
        self.body: Mapping[str, Any] = body
        self.path = path

    def fail(self, message: str, name: str = "") -> PolicyError:
        """An error at `name` of this object, to be raised."""
        return PolicyError(message, field=self.at(name) if name else self.path)

    def at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def has(self, name: str) -> bool:
        return self.body.get(name) is not None

    def get(self, name: str) -> Any:
        return self.body.get(name)

    def text(self, name: str) -> str:
        value = self.body.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.fail("must be a string", name)
        return value

    def boolean(self, name: str) -> bool | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fail("must be true or false", name)
        return value

    def node(self, name: str) -> Node | None:
        value = self.body.get(name)
        return None if value is None else Node(value, self.at(name))

    def list(self, name: str) -> list[Any] | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, list):
            raise self.fail("must be a list", name)
        return value

    def nodes(self, name: str) -> Iterator[Node]:
        """The objects of a list; null elements are empty objects, as Go decodes them."""
        for index, body in enumerate(self.list(name) or ()):
            yield Node({} if body is None else body, f"{self.at(name)}[{index}]")

    def texts(self, name: str) -> Iterator[tuple[str, str]]:
        """The strings of a list, each with its path."""
        for index, value in enumerate(self.list(name) or ()):
            path = f"{self.at(name)}[{index}]"
            if value is not None and not isinstance(value, str):
                raise PolicyError("must be a string", field=path)
            yield value or "", path
