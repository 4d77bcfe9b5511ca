"""RelaySource: flows over gRPC, from Hubble Relay or from a single agent."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from google.protobuf import json_format

from analyzer.errors import ConnectionFailed, UsageError
from analyzer.model.flow import Flow
from analyzer.sources.base import Batch, History, nothing_read_before
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.pb.analyzer import hot_pb2
from analyzer.sources.pb.flow import flow_pb2
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL
from analyzer.sources.probe import probe_plain, probe_tls
from analyzer.sources.server import ServerOptions, grpc, open_channel
from analyzer.sources.sight import Sight
from analyzer.sources.stream import MessageStream

__all__ = ["FIELDS", "Backoff", "Query", "RelaySource", "ask", "explain"]

GET_FLOWS = "/observer.Observer/GetFlows"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
_SECOND = 1_000_000_000
_POLL = 0.2
"""Seconds between looks at the clock and at `close`."""
_SILENCE = 1.0
"""Seconds after which a silent stream yields an empty batch."""
FIELDS = tuple(field.name for field in hot_pb2.Flow.DESCRIPTOR.fields)
"""The fields of a flow that are read here. As a field mask they save the others, such as `Summary`, their way."""
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
    `field_mask` names the only fields of flow.Flow to send; one of all `FIELDS` is dropped if the server is too old for it.
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


class Backoff(NamedTuple):
    """Seconds between attempts to connect again: they double from `first` up to `most`, each shortened at random by up to half,
    so that many clients do not come back to a restarted server at the same moment."""

    first: float = 1.0
    most: float = 30.0

    def delay(self, attempt: int) -> float:
        """How long to wait before the `attempt`-th attempt, counted from 0."""
        longest: float = min(self.most, self.first * 2 ** min(attempt, 30))
        return longest * random.uniform(0.5, 1.0)


def _silently(text: str) -> None:
    """News for nobody."""


class RelaySource:
    """The flows that a `Query` asks a server for. Yields at least one batch a second, empty ones included.

    `node_status` messages of Relay come through as records. Without `follow` it ends with the last flow, and raises
    ConnectionFailed when the server cannot be reached, refuses, does not answer any more, or the stream breaks. With
    `follow` it goes on until closed: once it was connected, it connects again, reads certificates and addresses afresh, and
    resumes where it was, telling `news` in words. The server is asked whether it is there at the start, and after `patience`
    seconds of silence. What was read before, in this process or by the history it is given, comes as duplicates (`Sight`).
    """

    def __init__(
        self,
        options: ServerOptions,
        query: Query | None = None,
        *,
        patience: float = _PATIENCE,
        backoff: Backoff = Backoff(),  # noqa: B008 - a tuple
        news: Callable[[str], None] = _silently,
    ) -> None:
        self._options = options
        self._patience = patience
        self._backoff = backoff
        self._news = news
        self._query = query or Query()
        self._query.request()
        self._closed = False
        self._connected = False
        self._attempts = 0
        self._lost: float | None = None
        self._told = ""
        self._decode = Decoder().decode
        self._sight = Sight()

    @property
    def name(self) -> str:
        return self._options.server

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        """Connect and read, and with `follow` again and again. Raises ConnectionFailed, UsageError."""
        self._sight = Sight(history)
        while True:
            trouble = "the server ended the stream"
            try:
                with open_channel(self._options) as channel:
                    yield from self._connection(channel)
            except _MaskRefusedError:
                self._sight.reconnected()
                continue
            except (ConnectionFailed, UsageError) as error:
                if not (self._query.follow and self._connected):
                    raise
                trouble = error.message
            if self._closed or not self._query.follow:
                return
            self._tell_lost(trouble)
            yield from self._pause()
            self._sight.reconnected()

    def close(self) -> None:
        """Make `batches` end within a fraction of a second. Only sets a flag: safe in a signal handler."""
        self._closed = True

    def _pause(self) -> Iterator[Batch]:
        """Wait before connecting again; who consumes this goes on acting by the clock."""
        until = time.monotonic() + self._backoff.delay(self._attempts)
        self._attempts += 1
        silent_since = time.monotonic()
        while not self._closed and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _POLL))
            if time.monotonic() - silent_since >= _SILENCE:
                silent_since = time.monotonic()
                yield Batch(())

    def _tell_lost(self, trouble: str) -> None:
        if self._lost is None:
            self._lost = time.monotonic()
        if trouble != self._told:
            self._news(f"{trouble}; connecting again")
        self._told = trouble

    def _alive(self) -> None:
        """The server has sent something, or answered."""
        self._connected = True
        if self._lost is not None:
            self._news(f"connected to {self.name} again after {time.monotonic() - self._lost:.0f} s")
            self._lost, self._told = None, ""

    def _request(self) -> bytes:
        """What to ask for: the query, or once flows have come, what follows them. `number` does not limit that."""
        query, since = self._query, self._sight.since
        if query.follow and since is not None:
            query = replace(query, number=0, since=max(since, query.since or 0))
        request: bytes = query.request().SerializeToString()
        return request

    def _connection(self, channel: grpc.Channel) -> Iterator[Batch]:
        """One call from its start to its end."""
        stream = MessageStream(channel, GET_FLOWS, self._request(), self._options.metadata)
        pulse = _Pulse(channel, self._options, self._patience)
        started = silent_since = time.monotonic()
        heard = False
        try:
            while not self._closed and not stream.drained:
                messages = stream.take(_POLL)
                now = time.monotonic()
                if messages:
                    pulse.heard(now)
                elif now - silent_since < _SILENCE:
                    continue
                silent_since = now
                heard = heard or bool(messages) or pulse.answered
                if heard:
                    self._alive()
                batch = self._sight.batch([self._decode(message) for message in messages])
                if now - started > self._backoff.most or any(isinstance(record, Flow) for record in batch.records):
                    self._attempts = 0
                yield batch
                pulse.check(time.monotonic())
        finally:
            stream.cancel()
        if stream.error is not None and not self._closed:
            if stream.error.code() is Status.INVALID_ARGUMENT and self._query.field_mask == FIELDS:
                self._query = replace(self._query, field_mask=())
                raise _MaskRefusedError
            raise explain(stream.error, self._options, established=heard)


class _MaskRefusedError(Exception):
    """The server does not know all of `FIELDS`, being older; it is asked for whole flows then."""


class _Pulse:
    """Tells a quiet server from a dead one: after a silence it asks the health service, and any answer will do."""

    def __init__(self, channel: grpc.Channel, options: ServerOptions, patience: float) -> None:
        self._ask = channel.unary_unary(HEALTH_CHECK, request_serializer=None, response_deserializer=None)
        self._options = options
        self._patience = patience
        self.answered = False
        """Whether the server has answered a question."""
        # Servers send no headers before the first flow: only an answer shows that somebody is there.
        self._put(time.monotonic())
        self._first = True

    def _put(self, now: float) -> None:
        self._last = self._asked = now
        self._question: Any = self._ask.future(
            b"", timeout=self._options.timeout, metadata=self._options.metadata, wait_for_ready=False
        )

    def heard(self, now: float) -> None:
        """Something arrived."""
        self._last = now

    def check(self, now: float) -> None:
        """Ask, or look at the answer, when it is time. Raises ConnectionFailed when there is none."""
        if self._question is not None:
            if not self._question.done():
                return
            failed = self._question.code() in (Status.DEADLINE_EXCEEDED, Status.UNAVAILABLE)
            # If nobody was there to begin with, the stream itself will say why.
            if failed and self._last <= self._asked and not self._first:
                raise ConnectionFailed(
                    f"{self._options.server} does not answer any more", hint="the server or the way to it is gone"
                )
            self.answered = self.answered or not failed
            self._question, self._first = None, False
            self._last = now
        elif now - self._last >= self._patience:
            self._put(now)


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
    return ConnectionFailed(
        f"the connection to {server} broke: {details} ({status.name})",
        hint="what was read is kept; run again, or let --follow connect again by itself",
    )


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
