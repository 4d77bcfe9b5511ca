"""FlowFilter: Hubble's flow filters, with the server's semantics, as a predicate on flows; Selection: what the user asked for.

The same filters are sent to a live server and applied to files here, so both must mean the same
(Cilium pkg/hubble/filters; flow.FlowFilter in protos/flow/flow.proto).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.errors import UsageError
from analyzer.model.flow import EventKind, Flow
from analyzer.sources.filter_fields import Predicate, predicate

__all__ = ["FlowFilter", "Selection", "parse_filters"]


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """One filter: every field that is set must match, any value of a field will do. `fields` is Hubble's JSON form."""

    fields: Mapping[str, Any]
    _predicates: tuple[Predicate, ...] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> FlowFilter:
        """Read a filter in JSON form, in either spelling of its keys. Raises UsageError naming the field at fault."""
        if not isinstance(body, Mapping):
            raise UsageError("a flow filter must be a JSON object", hint='for example: {"source_pod":["shop/"]}')
        fields, predicates = {}, []
        for key, values in sorted(body.items()):
            name = _SNAKE.sub(lambda found: "_" + found[0].lower(), key)
            if values in (None, [], {}):
                continue
            predicates.append(predicate(name, values if isinstance(values, list) else [values]))
            fields[name] = values
        kinds = [each.get("type") for each in fields.get("event_type", ()) if isinstance(each, Mapping)]
        layer7 = next((name for name in fields if name.startswith("http_")), None)
        if layer7 and kinds and EventKind.L7 not in kinds:
            # Servers refuse it, too (Cilium pkg/hubble/filters/http.go, `httpMatchCompatibleEventFilter`).
            raise UsageError(
                f"filter {layer7}: no event of these types carries HTTP", hint="only l7 events do: --type l7"
            )
        return cls(fields, tuple(predicates))

    def to_json(self) -> dict[str, Any]:
        """The filter as Hubble's JSON form writes it."""
        return dict(self.fields)

    def matches(self, flow: Flow) -> bool:
        return all(matches(flow) for matches in self._predicates)


_SNAKE = re.compile(r"(?<=[a-z])[A-Z]")


def parse_filters(documents: str | Iterable[Mapping[str, Any]]) -> tuple[FlowFilter, ...]:
    """Filters from JSON objects, or from a text of one or several of them. Raises UsageError."""
    if isinstance(documents, str):
        documents = _objects(documents)
    return tuple(FlowFilter.from_json(each) for each in documents)


def _objects(text: str) -> list[Mapping[str, Any]]:
    decoder, found = json.JSONDecoder(), []
    rest = text.strip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except (ValueError, RecursionError):
            raise UsageError(
                f"not a flow filter: {rest[:80]!r}", hint='for example: {"source_pod":["shop/"]}'
            ) from None
        found.append(value)
        rest = rest[end:].lstrip(" \t\r\n,")
    return found


@dataclass(frozen=True, slots=True)
class Selection:
    """The flows the user asked for: any of `allow` (all, if there is none), none of `deny`, from `since` to `until` (ns)."""

    allow: tuple[FlowFilter, ...] = ()
    deny: tuple[FlowFilter, ...] = ()
    since: int | None = None
    until: int | None = None

    def keeps(self, flow: Flow) -> bool:
        """Whether `flow` is asked for."""
        if (self.since is not None and flow.time < self.since) or (self.until is not None and flow.time > self.until):
            return False
        if self.allow and not any(each.matches(flow) for each in self.allow):
            return False
        return not any(each.matches(flow) for each in self.deny)

    def pushdown(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Whitelist and blacklist for a server."""
        return [each.to_json() for each in self.allow], [each.to_json() for each in self.deny]

    def fingerprint(self) -> str:
        """The same text for the same selection, "" when everything is asked for."""
        if not (self.allow or self.deny or self.since is not None or self.until is not None):
            return ""
        return json.dumps([*self.pushdown(), self.since, self.until], sort_keys=True)
