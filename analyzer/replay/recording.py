"""Recording: responses kept as the bytes they are sent as, and the choice that a GetFlowsRequest makes among them."""

from __future__ import annotations

import json
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import Message

from analyzer.model.flow import Flow
from analyzer.sources.base import Record
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL

__all__ = ["Choice", "Recording", "read_response"]

Source = str | bytes | Message
Matches = Callable[[Flow], bool]

_ENVELOPE = ("flow", "node_status", "nodeStatus", "lost_events", "lostEvents")
_BARE = ("verdict", "source", "destination", "IP", "l4", "l7", "event_type", "eventType", "Type", "time", "uuid")
_SECOND = 1_000_000_000
_BEGINNING = -1
_END = 2**63


class Choice(NamedTuple):
    """What of GetFlowsRequest chooses flows. Times are nanoseconds; `matches` is None when every flow does."""

    number: int = 0
    first: bool = False
    since: int | None = None
    until: int | None = None
    matches: Matches | None = None


class Recording:
    """Responses in the order they were recorded, as a node's ring buffer that has lost none of them.

    `skipped` counts what was no response; `namespaces` and `nodes` are those that the flows name, sorted; `duration` is the
    time from the first flow to the last, in nanoseconds.
    """

    def __init__(self, records: Iterable[Source]) -> None:
        self.messages: list[bytes] = []
        self.skipped = 0
        self._times = array("q")
        namespaces: set[tuple[str, str]] = set()
        nodes: set[str] = set()
        for record in records:
            response: Any = record if isinstance(record, Message) else read_response(record)
            if response is None:
                self.skipped += 1
                continue
            self._append(response)
            nodes.add(response.node_name)
            if response.HasField("flow"):
                ends = (response.flow.source, response.flow.destination)
                namespaces.update((end.cluster_name, end.namespace) for end in ends if end.namespace)
        self.namespaces = tuple(sorted(namespaces))
        self.nodes = tuple(sorted(nodes - {""}))
        stamped = [time for time in self._times if time > 0]
        self.duration = max(stamped) - min(stamped) if stamped else 0

    def __len__(self) -> int:
        return len(self.messages)

    def chosen(self, choice: Choice) -> Iterator[bytes]:
        """The responses that a request without `follow` gets, oldest first.

        `pkg/hubble/observer/local_observer.go`: `since` decides where to start, else the last `number` matching flows
        are sent, or the first ones; lost events (and here node states) pass every filter and count for nothing.
        """
        indices: Iterable[int] = range(len(self.messages))
        limit = choice.number
        if limit and not choice.first and choice.since is None:
            indices = self._last(choice)
            limit = 0
        yield from self._matching(indices, choice, limit)

    def _append(self, response: Any) -> None:
        self.messages.append(response.SerializeToString())
        if not response.HasField("flow"):
            self._times.append(_BEGINNING)
            return
        stamp = response.flow.time
        self._times.append(max(0, min(stamp.seconds * _SECOND + stamp.nanos, _END - 1)))

    def _matching(self, indices: Iterable[int], choice: Choice, limit: int) -> Iterator[bytes]:
        matches = _predicate(choice)
        sent = 0
        for index in indices:
            message = self.messages[index]
            if self._times[index] != _BEGINNING:
                if not self._in_time(index, choice) or not matches(message):
                    continue
                sent += 1
            yield message
            if sent == limit and limit:
                return

    def _last(self, choice: Choice) -> Iterable[int]:
        """The indices from the one where the last `number` matching flows begin."""
        matches = _predicate(choice)
        found: deque[int] = deque()
        for index in range(len(self.messages) - 1, -1, -1):
            if self._times[index] != _BEGINNING and self._in_time(index, choice) and matches(self.messages[index]):
                found.append(index)
                if len(found) == choice.number:
                    break
        return range(found[-1], len(self.messages)) if found else ()

    def _in_time(self, index: int, choice: Choice) -> bool:
        time = self._times[index]
        return (choice.since is None or time >= choice.since) and (choice.until is None or time <= choice.until)


def _predicate(choice: Choice) -> Callable[[bytes], bool]:
    matches = choice.matches
    if matches is None:
        return lambda message: True
    decode = Decoder().decode

    def matching(message: bytes) -> bool:
        record: Record = decode(message)
        return isinstance(record, Flow) and matches(record)

    return matching


def read_response(line: str | bytes) -> Any:
    """The GetFlowsResponse in a line of JSON, None if there is none in it.

    Takes what exporters and ``hubble observe -o json`` write, a bare flow, and lowerCamel names. Fields and enumeration
    names that are not known are left out.
    """
    try:
        document = json.loads(line)
        if not isinstance(document, dict):
            return None
        if not any(key in document for key in _ENVELOPE):
            if not any(key in document for key in _BARE):
                return None
            document = {"flow": document}
        if isinstance(document.get("flow"), dict):
            document["flow"].pop("extensions", None)  # Of a vendor's type, which nobody here could serialise.
        response = json_format.ParseDict(
            document, observer_pb2.GetFlowsResponse(), ignore_unknown_fields=True, descriptor_pool=POOL
        )
    except (ValueError, TypeError, AttributeError, RecursionError, json_format.ParseError):
        return None
    if response.WhichOneof("response_types") is None:
        return None
    if response.HasField("flow"):
        response.node_name = response.node_name or response.flow.node_name
        if not response.HasField("time") and response.flow.HasField("time"):
            response.time.CopyFrom(response.flow.time)
    return response
