"""The schema's half of validation: a document against the tables of what the API server takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.policy.refusal import Refusal
from analyzer.policy.validate_cilium import CILIUM
from analyzer.policy.validate_kubernetes import KUBERNETES
from analyzer.policy.validate_types import Anything, Flag, IntOrText, ListOf, MapOf, Record, Text, Type, Whole

__all__ = ["SCHEMAS", "schema_refusals"]

SCHEMAS = {
    "CiliumNetworkPolicy": CILIUM,
    "CiliumClusterwideNetworkPolicy": CILIUM,
    "NetworkPolicy": KUBERNETES,
}
MAX_NAME = 100
"""Longest field name that a path shows in full."""
_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}
Found = Iterator[Refusal]


def schema_refusals(document: Mapping[str, Any]) -> Found:
    """Everything the API server complains about, in the order of the document. The kind must be one of SCHEMAS."""
    yield from _record(document, SCHEMAS[document["kind"]], "")


def _check(value: Any, kind: Type, path: str) -> Found:
    expected = _EXPECTED[type(kind)]
    fits = type(value) in expected[0]
    if isinstance(kind, Anything):
        return
    if not fits:
        yield Refusal(path, f"must be {expected[1]}, not {_said(value)}", "schema")
        return
    match kind:
        case Text():
            yield from _text(value, kind, path)
        case Whole():
            yield from _whole(value, kind, path)
        case IntOrText(number, text):
            yield from _text(value, text, path) if isinstance(value, str) else _whole(value, number, path)
        case ListOf():
            yield from _list(value, kind, path)
        case MapOf():
            yield from _map(value, kind, path)
        case Record():
            yield from _record(value, kind, path)


_EXPECTED: dict[type, tuple[tuple[type, ...], str]] = {
    Anything: ((), ""),
    Flag: ((bool,), "true or false"),
    Text: ((str,), "a string"),
    Whole: ((int,), "a whole number"),
    IntOrText: ((int, str), "a whole number or a string"),
    ListOf: ((list,), "a list"),
    MapOf: ((dict,), "an object"),
    Record: ((dict,), "an object"),
}

_EMPTY: dict[type, Any] = {Record: {}, Text: ""}


def _said(value: Any) -> str:
    return "null" if value is None else _WORDS.get(type(value), "something else")


def _text(value: str, kind: Text, path: str) -> Found:
    if kind.words:
        if value not in kind.words:
            yield Refusal(path, f"{_shown(value)} is not one of {', '.join(kind.words)}", "schema")
    elif kind.most and len(value) > kind.most:
        yield Refusal(path, f"must have at most {kind.most} characters, not {len(value)}", "schema")
    elif len(value) < kind.least:
        yield Refusal(path, "must not be empty", "schema")
    elif kind.test is not None and not kind.test(value):
        yield Refusal(path, f"{_shown(value)} is not {kind.meant}", "schema")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _whole(value: int, kind: Whole, path: str) -> Found:
    if kind.least is not None and value < kind.least:
        yield Refusal(path, f"must be at least {kind.least}, not {value}", "schema")
    if kind.most is not None and value > kind.most:
        yield Refusal(path, f"must be at most {kind.most}, not {value}", "schema")


def _list(value: list[Any], kind: ListOf, path: str) -> Found:
    if len(value) < kind.least:
        yield Refusal(path, f"needs at least {kind.least} element", "schema")
    if kind.most and len(value) > kind.most:
        yield Refusal(path, f"takes at most {kind.most} elements, not {len(value)}", "schema")
    if kind.unique:
        seen: set[str] = set()
        for index, each in enumerate(value):
            if isinstance(each, str) and each in seen:
                yield Refusal(f"{path}[{index}]", f"{_shown(each)} is there twice", "schema")
            elif isinstance(each, str):
                seen.add(each)
    for index, each in enumerate(value):
        known = _EMPTY.get(type(kind.each)) if each is None and kind.nulls else each
        yield from _check(known, kind.each, f"{path}[{index}]")


def _map(value: dict[str, Any], kind: MapOf, path: str) -> Found:
    for key, each in value.items():
        if kind.key is not None and not kind.key(key):
            yield Refusal(path, f"{_shown(key)} is no label key", "schema")
        if each is not None:
            yield from _check(each, kind.each, _at(path, key))


def _record(value: Mapping[str, Any], kind: Record, path: str) -> Found:
    # The API server drops a field that is null, and one that it does not know.
    present = {name: each for name, each in value.items() if each is not None}
    for name in value:
        if name not in kind.fields:
            yield Refusal(_at(path, name), _unknown(name, kind), "schema", pruned=True)
    for name in kind.required:
        if name not in present:
            yield Refusal(_at(path, name), "is missing", "schema")
    yield from _choices(present, kind, path)
    for name, each in present.items():
        if name in kind.fields:
            yield from _check(each, kind.fields[name], _at(path, name))
    if kind.complaints is not None:
        for name, message in kind.complaints(present):
            yield Refusal(_at(path, name) if name else path, message, "schema")


def _choices(present: Mapping[str, Any], kind: Record, path: str) -> Found:
    given = [name for name in kind.one_of if name in present]
    if kind.one_of and len(given) != 1:
        found = f"{' and '.join(given)} are there" if given else "none is there"
        yield Refusal(path, f"exactly one of {', '.join(kind.one_of)} must be given: {found}", "schema")
    if kind.any_of and not any(name in present for name in kind.any_of):
        yield Refusal(path, f"at least one of {', '.join(kind.any_of)} must be given", "schema")


def _unknown(name: str, kind: Record) -> str:
    same = [each for each in kind.fields if each.lower() == name.lower()]
    hint = f"; {same[0]} is meant?" if same else ""
    return f"unknown field: kubectl's strict validation refuses it, and the API server would drop it{hint}"


def _at(path: str, name: str) -> str:
    short = name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}..."
    return f"{path}.{short}" if path else short
