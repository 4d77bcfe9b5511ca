"""Over gRPC: from stream to edge table, against a plain grpcio client that parses whole messages and reads the same fields."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from analyzer.demo.lines import lines
from tests.benchmarks.measure import scaled

__all__ = ["run"]

FLOWS, DISTINCT = 200_000, 20_000


def run() -> None:
    """Print the figures. The server has a process of its own, so that only the client is measured."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe()
    server = context.Process(target=_serve, args=(sender, scaled(FLOWS)), daemon=True)
    server.start()
    address = receiver.recv()
    try:
        count = scaled(FLOWS)
        best: dict[str, float] = {}
        for _ in range(3):
            for name, work in (("stream to edge table", _ours), ("plain grpcio, same fields", _plain)):
                start = time.process_time()
                assert work(address) == count
                seconds = time.process_time() - start
                best[name] = min(best.get(name, seconds), seconds)
    finally:
        receiver.send("stop")
        server.join()
    for name, seconds in best.items():
        print(f"  {name:<27} {count / seconds:>10,.0f} flows per CPU-second")
    print(f"  {best['plain grpcio, same fields'] / best['stream to edge table']:.2f} times the plain client")


def _ours(address: str) -> int:
    from analyzer.pipeline import read
    from analyzer.sources.relay import FIELDS, Query, RelaySource
    from analyzer.sources.server import ServerOptions

    # The fields that are read are all that is asked for, as `observe` does.
    source = RelaySource(ServerOptions(address), Query(field_mask=FIELDS))
    return read([source]).coverage.records


def _plain(address: str) -> int:
    """What one would write first: the generated stub, and a key of the fields that an edge has."""
    import grpc

    from analyzer.sources.pb.observer import observer_pb2

    seen: dict[tuple[Any, ...], int] = {}
    count = 0
    with grpc.insecure_channel(address) as channel:
        stream = channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )
        for response in stream(observer_pb2.GetFlowsRequest(number=2**63)):
            key = _fields(response.flow)
            seen[key] = seen.get(key, 0) + 1
            count += 1
    return count


def _fields(flow: Any) -> tuple[Any, ...]:
    kind = flow.l4.WhichOneof("protocol")
    l4 = getattr(flow.l4, kind) if kind else None
    ports = (l4.source_port, l4.destination_port) if kind in ("TCP", "UDP", "SCTP") else (0, getattr(l4, "type", 0))
    flags = (l4.flags.SYN, l4.flags.ACK, l4.flags.RST) if kind == "TCP" else ()
    ends = tuple((tuple(end.labels), end.namespace, end.pod_name, end.ID) for end in (flow.source, flow.destination))
    return (
        ends, ports[0] if flow.is_reply.value else ports[1], kind, flags, flow.verdict, flow.event_type.type,
        flow.event_type.sub_type, flow.drop_reason_desc, flow.traffic_direction, flow.is_reply.value, flow.trace_reason,
        flow.node_name, flow.time.seconds // 86_400, flow.IP.source, flow.IP.destination, tuple(flow.destination_names),
    )  # fmt: skip


def _serve(pipe: Connection, count: int) -> None:
    from analyzer.replay import Recording, ReplayServer

    recording = Recording(_records(min(count, DISTINCT)))
    kept = recording.messages
    recording.messages = [kept[number % len(kept)] for number in range(count)]
    times = list(recording._times)
    recording._times = type(recording._times)("q", (times[number % len(times)] for number in range(count)))
    with ReplayServer(recording) as server:
        pipe.send(server.address)
        pipe.recv()


def _records(count: int) -> Iterator[str]:
    for line in lines(1, count):
        yield json.dumps(json.loads(line))
