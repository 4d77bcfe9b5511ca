"""RelaySource: flows over gRPC, from Hubble Relay or from a single agent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from analyzer.errors import ConnectionFailed, UsageError
from analyzer.sources.base import Batch, History, Record, nothing_read_before
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.pb.flow import flow_pb2
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL
from analyzer.sources.probe import probe_plain, probe_tls
from analyzer.sources.server import ServerOptions, grpc, open_channel
from analyzer.sources.stream import MessageStream

__all__ = ["Query", "RelaySource", "ask", "explain"]

GET_FLOWS = "/observer.Observer/GetFlows"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_SECOND = 1_000_000_000
_POLL = 0.2
"""Seconds between looks at the clock and at `close`."""
_SILENCE = 1.0
"""Seconds after which a silent stream yields an empty batch."""
_PATIENCE = 10.0
"""Seconds of silence after which the server is asked whether it is still there. A request, and not HTTP/2 pings: servers
that keep gRPC's defaults, Hubble's among them, close connections that ping more often than every five minutes while no
data flows. Pinged every five seconds, a silent stream ended after twenty."""

Status = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Query:
    """Which flows to ask a server for: observer.GetFlowsRequest, whose rules hold (`pkg/hubble/observer/local_observer.go`).

    `since` and `until` are nanoseconds since the epoch. `number` counts matching flows from the newest backwards, or from
    the oldest with `first`, and per node through Relay; 0 is all there are. Filters are FlowFilters in their JSON form.
    `field_mask` names the only fields of flow.Flow to send.
    """

    number: int = 0
    first: bool = False
    follow: bool = False
    since: int | None = None
    until: int | None = None
    whitelist: Sequence[Mapping[str, Any]] = ()
    blacklist: Sequence[Mapping[str, Any]] = ()
    field_mask: Sequence[str] = ()

    def request(self) -> Any:
        """The GetFlowsRequest. Raises UsageError for a filter that is none, and for `first` with `follow`."""
        if self.first and self.follow:
            raise UsageError("the first flows cannot be followed", hint="leave out --first or --follow")
        request = observer_pb2.GetFlowsRequest(number=self.number, first=self.first, follow=self.follow)
        for stamp, value in ((request.since, self.since), (request.until, self.until)):
            if value is not None:
                stamp.SetInParent()
                stamp.seconds, stamp.nanos = divmod(value, _SECOND)
        request.whitelist.extend(map(_filter, self.whitelist))
        request.blacklist.extend(map(_filter, self.blacklist))
        if self.field_mask:
            request.field_mask.paths.extend(self.field_mask)
        return request


class RelaySource:
    """The flows that a `Query` asks a server for. Yields at least one batch a second, empty ones included.

    `node_status` messages of Relay come through as records. Without `follow` it ends with the last flow; with it, when
    closed. After `patience` seconds of silence the server is asked whether it is still there. Raises ConnectionFailed when
    the server cannot be reached, refuses, does not answer any more, or the stream breaks.
    """

    def __init__(self, options: ServerOptions, query: Query | None = None, *, patience: float = _PATIENCE) -> None:
        self._options = options
        self._patience = patience
        self._query = query or Query()
        self._request = self._query.request()
        self._closed = False
        self._decode = Decoder().decode

    @property
    def name(self) -> str:
        return self._options.server

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        """Connect and read. The history of other sources is not asked: a stream has no place to resume from."""
        with open_channel(self._options) as channel:
            yield from self._connection(channel, self._request.SerializeToString())

    def close(self) -> None:
        """Make `batches` end within a fraction of a second. Only sets a flag: safe in a signal handler."""
        self._closed = True

    def _connection(self, channel: grpc.Channel, request: bytes) -> Iterator[Batch]:
        """One call from its start to its end."""
        stream = MessageStream(channel, GET_FLOWS, request, self._options.metadata)
        pulse = _Pulse(channel, self._options, self._patience)
        silent_since = time.monotonic()
        heard = False
        try:
            while not self._closed and not stream.drained:
                messages = stream.take(_POLL)
                now = time.monotonic()
                if messages:
                    heard = True
                    pulse.heard(now)
                elif now - silent_since < _SILENCE:
                    continue
                silent_since = now
                yield Batch(self._records(messages))
                pulse.check(now)
        finally:
            stream.cancel()
        if stream.error is not None and not self._closed:
            raise explain(stream.error, self._options, established=heard)

    def _records(self, messages: Sequence[bytes]) -> Sequence[Record]:
        return [self._decode(message) for message in messages]


class _Pulse:
    """Tells a quiet server from a dead one: after a silence it asks the health service, and any answer will do."""

    def __init__(self, channel: grpc.Channel, options: ServerOptions, patience: float) -> None:
        self._ask = channel.unary_unary(HEALTH_CHECK, request_serializer=None, response_deserializer=None)
        self._options = options
        self._patience = patience
        self._last = time.monotonic()
        self._question: Any = None

    def heard(self, now: float) -> None:
        """Something arrived."""
        self._last = now

    def check(self, now: float) -> None:
        """Ask, or look at the answer, when it is time. Raises ConnectionFailed when there is none."""
        if self._question is not None:
            if not self._question.done():
                return
            if self._question.code() in (Status.DEADLINE_EXCEEDED, Status.UNAVAILABLE) and self._last < now:
                raise ConnectionFailed(
                    f"{self._options.server} does not answer any more", hint="the server or the way to it is gone"
                )
            self._question = None
            self._last = now
        elif now - self._last >= self._patience:
            self._question = self._ask.future(
                b"", timeout=self._options.timeout, metadata=self._options.metadata, wait_for_ready=False
            )


def ask(options: ServerOptions, method: str, request: Any, answer: type[Any]) -> Any:
    """One request and its answer, such as ``/observer.Observer/ServerStatus``. Raises ConnectionFailed."""
    with open_channel(options) as channel:
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        try:
            return call(request, timeout=options.request_timeout, metadata=options.metadata)
        except grpc.RpcError as error:
            raise explain(error, options) from None


def explain(error: Any, options: ServerOptions, *, established: bool = False) -> ConnectionFailed:
    """A gRPC error in words. With `established`, something was received over this connection before.

    When no connection came about, the server is looked at with plain sockets to find out why (`probe`).
    """
    status, details = error.code(), str(error.details() or "")
    server = options.server
    if status is Status.UNAVAILABLE and not established:
        finding = _finding(options)
        if finding:
            return finding
        return ConnectionFailed(
            f"{server} cannot be connected to: {details}", hint="check --server and the TLS options"
        )
    if status in _WORDS:
        words, hint = _WORDS[status]
        return ConnectionFailed(words.format(server=server, details=details), hint=hint)
    return ConnectionFailed(f"the connection to {server} broke: {details} ({status.name})")


_WORDS: Mapping[grpc.StatusCode, tuple[str, str]] = {
    Status.UNIMPLEMENTED: (
        "{server} is no Hubble server that could answer this: {details}",
        "flows are served by Relay (port 4245) and by agents (port 4244), not by Relay's health port or the Hubble UI",
    ),
    Status.INVALID_ARGUMENT: ("{server} refuses the request: {details}", "check the filters, numbers and times"),
    Status.RESOURCE_EXHAUSTED: (
        "{server} sent a message that is too big, or has too much to do: {details}",
        "ask for fewer fields, or try again later",
    ),
    Status.UNAUTHENTICATED: (
        "{server} does not know us: {details}",
        "give --basic-auth-username and --basic-auth-password, or a client certificate",
    ),
    Status.PERMISSION_DENIED: ("{server} forbids it: {details}", "check the credentials"),
    Status.DEADLINE_EXCEEDED: ("{server} did not answer in time", "raise --request-timeout, or check the server"),
}


def _finding(options: ServerOptions) -> ConnectionFailed | None:
    endpoint = options.endpoint()
    if options.secure:
        finding = probe_tls(endpoint, options.tls_context(), options.tls_server_name, options.timeout)
    else:
        finding = probe_plain(endpoint, options.timeout)
    return ConnectionFailed(finding.message, hint=finding.hint) if finding else None


def _filter(document: Mapping[str, Any]) -> Any:
    try:
        return json_format.ParseDict(dict(document), flow_pb2.FlowFilter(), descriptor_pool=POOL)
    except json_format.ParseError as error:
        raise UsageError(f"not a flow filter: {json.dumps(document, default=str)}: {error}") from error
