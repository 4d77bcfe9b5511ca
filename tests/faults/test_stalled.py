"""A consumer that is held up for a while: the connection still answers its server's pings, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import grpc
import pytest

from analyzer.sources import server
from analyzer.sources.server import ServerOptions, open_channel
from analyzer.sources.stream import MessageStream

MESSAGES = 20_000
"""More than fit the buffers of both sides, so that the reader stops."""
STALL = 6.0


def serve(pipe: Connection) -> None:
    """Ping every second, and give up on a client that does not answer within two."""
    options = [
        ("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 2000), ("grpc.http2.ping_timeout_ms", 2000),
        ("grpc.http2.max_pings_without_data", 0), ("grpc.keepalive_permit_without_calls", 1),
    ]  # fmt: skip

    def stream(request: bytes, context: Any) -> Iterator[bytes]:
        yield from (b"x" * 1000 for _ in range(MESSAGES))

    made = grpc.server(ThreadPoolExecutor(2), options=options)
    handlers = {"b": grpc.unary_stream_rpc_method_handler(stream)}
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a", handlers),))
    pipe.send(made.add_insecure_port("127.0.0.1:0"))
    made.start()
    made.wait_for_termination()


@pytest.fixture
def port() -> Iterator[int]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def test_a_consumer_may_be_held_up_for_longer_than_its_server_waits_for_a_ping(port: int) -> None:
    with open_channel(ServerOptions(f"127.0.0.1:{port}")) as channel:
        stream = MessageStream(channel, "/a/b", b"", ())
        seen = len(stream.take(1))
        time.sleep(STALL)
        while not stream.drained:
            seen += len(stream.take(0.1))
        assert (stream.error, seen) == (None, MESSAGES)


@pytest.mark.parametrize(
    ("release", "told"), [("1.79.3", False), ("1.80.0", True), ("1.85.1", True), ("1.86.0rc1", False), ("2.0", False)]
)
def test_only_releases_that_know_the_switch_are_told(release: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: release)
    monkeypatch.delenv("GRPC_EXPERIMENTS", raising=False)
    server._read_by_who_waits()
    assert (server.os.environ.get("GRPC_EXPERIMENTS") == "-event_engine_client") is told


def test_what_people_set_themselves_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.80.0")
    monkeypatch.setenv("GRPC_EXPERIMENTS", "")
    server._read_by_who_waits()
    assert server.os.environ["GRPC_EXPERIMENTS"] == ""
