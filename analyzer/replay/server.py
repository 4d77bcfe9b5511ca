"""ReplayServer: the Observer service over a recording, on a TCP port or a Unix socket, plain, with TLS or with mTLS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from analyzer.errors import UsageError
from analyzer.model.flow import Flow
from analyzer.replay.fieldmask import FieldMask
from analyzer.replay.recording import Choice, Recording, Source
from analyzer.sources.filters import FlowFilter, Selection, parse_filters
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.relay import relay_pb2
from analyzer.sources.server import grpc

__all__ = ["COMPATIBLE_VERSION", "ReplayServer", "ServerTls"]

COMPATIBLE_VERSION = "1.19.0"
"""What `hubble-server-version` says: the version whose API this is. The hubble CLI warns when it is older than that."""

_SERVICE = "observer.Observer"
_HEALTH_NAMES = ("", "hubble.server.Observer")
_THREADS = 64
"""Calls at a time; a followed stream keeps its thread."""
_GRACE = 0.5
_SECOND = 1_000_000_000

Status = grpc.StatusCode
Context = Any


@dataclass(frozen=True, slots=True)
class ServerTls:
    """PEM files to serve TLS with; with `client_ca`, clients must show a certificate that it signed (mTLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> Any:
        """Raises UsageError when a file cannot be read."""
        authority = _read(self.client_ca) if self.client_ca else None
        pair = (_read(self.key), _read(self.certificate))
        return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


class ReplayServer:
    """Serves `records` (lines of JSON, or GetFlowsResponse messages) as Relay would.

    The recording is the ring buffer that a request without `follow` looks into. A request that only follows gets the
    recording as if it happened now; one that follows with `number` or `since` gets that part of it first. Then the stream
    stays open and silent or, with `loop`, the recording happens again, moved on in time. `rate` is flows per second and
    stream; without it they come as fast as they can. `addr` is ``host:port`` (port 0 is any) or ``unix:///path``.
    Raises UsageError when the address or a TLS file cannot be used.
    """

    def __init__(
        self,
        records: Iterable[Source] | Recording,
        addr: str = "127.0.0.1:0",
        rate: float | None = None,
        loop: bool = False,
        tls: ServerTls | None = None,
    ) -> None:
        if rate is not None and rate <= 0:
            raise UsageError("the rate is flows per second, above 0")
        self.recording = records if isinstance(records, Recording) else Recording(records)
        self._rate = rate
        self._loop = loop
        self._started = time.monotonic_ns()
        self._server = grpc.server(ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((_handlers(self),))
        health_pb2_grpc.add_HealthServicer_to_server(_health(), self._server)
        self.address = self._listen(addr, tls)
        self._server.start()

    def __enter__(self) -> ReplayServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End all streams and stop listening. May be called more than once."""
        self._server.stop(_GRACE).wait()

    def wait(self) -> None:
        """Serve until `stop` is called."""
        self._server.wait_for_termination()

    def get_flows(self, request: Any, context: Context) -> Iterator[bytes]:
        """observer.Observer/GetFlows."""
        context.send_initial_metadata((("hubble-server-version", COMPATIBLE_VERSION),))
        try:
            if request.first and request.follow:
                raise ValueError("first cannot be specified with follow")
            choice = _choice(request)
            mask = FieldMask(request.field_mask.paths) if request.field_mask.paths else None
        except (ValueError, UsageError) as error:
            context.abort(Status.INVALID_ARGUMENT, str(error))
        pace = _Pace(self._rate, context)
        for message in self._responses(choice, request.follow, pace):
            yield _masked(message, mask) if mask else message
            if not pace.keep():
                return

    def server_status(self, request: Any, context: Context) -> Any:
        """observer.Observer/ServerStatus."""
        flows = len(self.recording)
        response = observer_pb2.ServerStatusResponse(
            num_flows=flows,
            max_flows=flows,
            seen_flows=flows,
            uptime_ns=time.monotonic_ns() - self._started,
            version=COMPATIBLE_VERSION,
        )
        response.num_connected_nodes.value = len(self.recording.nodes)
        response.num_unavailable_nodes.SetInParent()
        return response

    def get_nodes(self, request: Any, context: Context) -> Any:
        """observer.Observer/GetNodes: every node that recorded a flow, as connected."""
        return observer_pb2.GetNodesResponse(
            nodes=[
                observer_pb2.Node(name=name, version=COMPATIBLE_VERSION, state=relay_pb2.NODE_CONNECTED)
                for name in self.recording.nodes
            ]
        )

    def get_namespaces(self, request: Any, context: Context) -> Any:
        """observer.Observer/GetNamespaces: those of the whole recording."""
        return observer_pb2.GetNamespacesResponse(
            namespaces=[
                observer_pb2.Namespace(cluster=cluster, namespace=name) for cluster, name in self.recording.namespaces
            ]
        )

    def _responses(self, choice: Choice, follow: bool, pace: _Pace) -> Iterator[bytes]:
        recording = self.recording
        if not follow:
            yield from recording.chosen(choice)
            return
        yield from recording.chosen(choice._replace(until=None))
        later = Choice(matches=choice.matches)
        for lap in count(1) if self._loop else ():
            nothing = True
            for message in recording.chosen(later):
                nothing = False
                yield _moved(message, lap, lap * (recording.duration + _SECOND))
            if nothing:
                break
        pace.until_the_end()

    def _listen(self, addr: str, tls: ServerTls | None) -> str:
        target = f"unix:{addr.removeprefix('unix:').removeprefix('//')}" if addr.startswith("unix:") else addr
        try:
            server = self._server
            port = server.add_secure_port(target, tls.credentials()) if tls else server.add_insecure_port(target)
        except RuntimeError as error:
            raise UsageError(
                f"cannot listen on {addr}: {error}", hint="is the address right, and the port free? Port 0 takes any"
            ) from error
        if addr.startswith("unix:"):
            return f"unix://{target.removeprefix('unix:')}"
        return f"{addr.rpartition(':')[0]}:{port}"


class _Pace:
    """Spaces the messages of a stream, and knows when its client has gone."""

    def __init__(self, rate: float | None, context: Context) -> None:
        self._gap = 1 / rate if rate else 0.0
        self._next = time.monotonic()
        self._gone = threading.Event()
        if not context.add_callback(self._gone.set):
            self._gone.set()

    def keep(self) -> bool:
        """Wait for the next message's turn. False when there is nobody to send it to."""
        if not self._gap:
            return not self._gone.is_set()
        self._next = max(self._next + self._gap, time.monotonic() - 1.0)
        return not self._gone.wait(max(0.0, self._next - time.monotonic()))

    def until_the_end(self) -> None:
        """Wait until the client or the server ends the call."""
        self._gone.wait()


def _choice(request: Any) -> Choice:
    return Choice(
        number=request.number,
        first=request.first,
        since=_nanoseconds(request.since) if request.HasField("since") else None,
        until=_nanoseconds(request.until) if request.HasField("until") else None,
        matches=_matches(request.whitelist, request.blacklist),
    )


def _matches(whitelist: Sequence[Any], blacklist: Sequence[Any]) -> Callable[[Flow], bool] | None:
    """Whitelist minus blacklist; an empty whitelist lets everything in. Raises UsageError for a filter that is none."""
    if not whitelist and not blacklist:
        return None
    return Selection(_filters(whitelist), _filters(blacklist)).keeps


def _filters(messages: Sequence[Any]) -> tuple[FlowFilter, ...]:
    return parse_filters(json_format.MessageToDict(message, preserving_proto_field_name=True) for message in messages)


def _masked(message: bytes, mask: FieldMask) -> bytes:
    response = observer_pb2.GetFlowsResponse.FromString(message)
    if not response.HasField("flow"):
        return message
    flow = mask.apply(response.flow)
    masked = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name)
    if flow.HasField("time"):
        masked.time.CopyFrom(flow.time)
    result: bytes = masked.SerializeToString()
    return result


def _moved(message: bytes, lap: int, by: int) -> bytes:
    """The same event in a later lap: at a later time and, being another event, with another uuid."""
    response = observer_pb2.GetFlowsResponse.FromString(message)
    stamps = [response.time] if response.HasField("time") else []
    if response.HasField("flow"):
        if response.flow.uuid:
            response.flow.uuid += f"/{lap}"
        if response.flow.HasField("time"):
            stamps.append(response.flow.time)
    for stamp in stamps:
        stamp.seconds, stamp.nanos = divmod(_nanoseconds(stamp) + by, _SECOND)
    result: bytes = response.SerializeToString()
    return result


def _nanoseconds(stamp: Any) -> int:
    total: int = stamp.seconds * _SECOND + stamp.nanos
    return total


def _handlers(server: ReplayServer) -> Any:
    def unary(method: Callable[[Any, Context], Any], request: type[Any]) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            method, request.FromString, lambda response: response.SerializeToString()
        )

    methods = {
        # Responses are bytes already: nothing is serialised twice.
        "GetFlows": grpc.unary_stream_rpc_method_handler(
            server.get_flows, observer_pb2.GetFlowsRequest.FromString, None
        ),
        "ServerStatus": unary(server.server_status, observer_pb2.ServerStatusRequest),
        "GetNodes": unary(server.get_nodes, observer_pb2.GetNodesRequest),
        "GetNamespaces": unary(server.get_namespaces, observer_pb2.GetNamespacesRequest),
    }
    return grpc.method_handlers_generic_handler(_SERVICE, methods)


def _health() -> health.HealthServicer:
    servicer = health.HealthServicer()
    for name in _HEALTH_NAMES:
        servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
