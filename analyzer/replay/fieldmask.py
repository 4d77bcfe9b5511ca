"""Field masks of GetFlowsRequest: the only fields of a flow that are sent (`pkg/hubble/parser/fieldmask` of Cilium)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from analyzer.sources.pb.flow import flow_pb2

__all__ = ["FieldMask"]

_Tree = dict[str, "_Tree"]


class FieldMask:
    """A checked mask. Raises ValueError for a path that names no field of flow.Flow, or leads through a repeated one."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._tree: _Tree = {}
        for path in paths:
            _check(path)
            _add(self._tree, path.split("."))

    def apply(self, flow: Any) -> Any:
        """A copy of the flow with nothing but the masked fields. Messages on the way to a field are there even if empty."""
        masked = flow_pb2.Flow()
        _copy(self._tree, flow, masked)
        return masked


def _check(path: str) -> None:
    message: Any = flow_pb2.Flow.DESCRIPTOR
    for part in path.split("."):
        field = message.fields_by_name.get(part) if message else None
        if field is None:
            raise ValueError(f"invalid field mask: flow.Flow has no field {path!r}")
        message = None if field.is_repeated else field.message_type


def _add(tree: _Tree, parts: list[str]) -> None:
    """An empty tree below a field means all of it, so a longer path does not narrow a shorter one."""
    head, *rest = parts
    if not rest:
        tree[head] = {}
    elif head not in tree:
        tree[head] = {}
        _add(tree[head], rest)
    elif tree[head]:
        _add(tree[head], rest)


def _copy(tree: _Tree, source: Any, target: Any) -> None:
    for name, below in tree.items():
        field = source.DESCRIPTOR.fields_by_name[name]
        if below:
            child = getattr(target, name)
            child.SetInParent()
            _copy(below, getattr(source, name), child)
        elif field.is_repeated:
            getattr(target, name).extend(getattr(source, name))
        elif field.message_type is None:
            setattr(target, name, getattr(source, name))
        elif source.HasField(name):
            getattr(target, name).CopyFrom(getattr(source, name))
