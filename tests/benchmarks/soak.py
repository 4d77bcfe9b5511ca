"""Soak: an hour's worth of flows at 20 times their speed, followed into a store through broken connections, in flat memory.

A server of its own makes 8,000 flows a second - what ten nodes with 40 flows a second each make in 20 seconds - and resets
every connection now and then. The real `observe` follows it. In the end the store has to hold every flow once.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from analyzer.demo.lines import lines
from analyzer.replay.recording import read_response
from analyzer.sources.pb.observer import observer_pb2
from analyzer.store import Store
from tests.benchmarks.measure import QUICK, scaled
from tests.faults.proxy import Proxy

__all__ = ["run"]

RATE, NODES = 8_000, 10
FLOWS = 400 * 3600
"""400 flows a second for an hour; at `RATE` they take three minutes."""
EDGES, SHAPES = 3_000, 40_000
RING = 100_000
CUT = 15.0
"""Seconds between broken connections."""
SAMPLE = 1.0
CATCH_UP = 20.0
"""Seconds for what was sent last, and may have been cut off on its way."""
START = 1_790_000_000 * 10**9


class LiveServer:
    """Makes flows by the clock and keeps the latest, as agents do; but it waits for a client that cannot follow."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.sent = 0
        self.ended = 0.0
        self._shapes = [_without_time(json.loads(line)) for line in lines(1, SHAPES, edges=EDGES)]
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=RING)
        self.made = 0
        self._lock = threading.Lock()
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {"GetFlows": grpc.unary_stream_rpc_method_handler(self._get_flows)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    @property
    def done(self) -> bool:
        return self.made >= self._count

    def start(self) -> None:
        self._server.start()
        threading.Thread(target=self._make, daemon=True).start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def _make(self) -> None:
        began = time.monotonic()
        while not self.done:
            due = min(self._count, int((time.monotonic() - began) * RATE), self.sent + RING // 2)
            for number in range(self.made, due):
                moment = START + number * (10**9 * 20 // RATE)
                message = _flow(self._shapes[number % len(self._shapes)], number, moment)
                with self._lock:
                    self._ring.append((moment, message))
                    self.made = number + 1
            time.sleep(0.01)
        self.ended = time.monotonic()

    def _get_flows(self, request: bytes, context: Any) -> Iterator[bytes]:
        asked = observer_pb2.GetFlowsRequest.FromString(request)
        since = asked.since.seconds * 10**9 + asked.since.nanos
        with self._lock:
            oldest = self.made - len(self._ring)
            at = oldest + sum(1 for moment, _ in self._ring if moment < since)
        while context.is_active():
            with self._lock:
                oldest = self.made - len(self._ring)
                chunk = list(itertools.islice(self._ring, at - oldest, at - oldest + 500))
            at += len(chunk)
            for _, message in chunk:
                yield message
            self.sent = max(self.sent, at)
            if not chunk:
                time.sleep(0.02)


def _without_time(record: dict[str, Any]) -> tuple[bytes, bytes]:
    """The bytes of a flow and of its envelope, to which time and uuid can be added."""
    message = read_response(json.dumps(record))
    assert message is not None
    flow = message.flow
    flow.ClearField("time")
    flow.ClearField("uuid")
    envelope = observer_pb2.GetFlowsResponse(node_name=message.node_name)
    return flow.SerializeToString(), envelope.SerializeToString()


def _flow(shape: tuple[bytes, bytes], number: int, moment: int) -> bytes:
    """Protobuf's fields may come in any order: what differs is put behind what is the same."""
    flow, envelope = shape
    stamp = b"\x08" + _varint(moment // 10**9) + b"\x10" + _varint(moment % 10**9)
    uuid = f"{number:032x}".encode()
    node = f"node-{number % NODES}".encode()
    flow += b"\x0a" + _varint(len(stamp)) + stamp + b"\x92\x02" + _varint(len(uuid)) + uuid
    flow += b"\x5a" + _varint(len(node)) + node
    return b"\x0a" + _varint(len(flow)) + flow + envelope


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def run() -> None:
    """Print the figures, and end with an error if flows are missing or the memory grows."""
    count = scaled(FLOWS)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "flows.db"
        server = LiveServer(count)
        server.start()
        with Proxy(server.address) as proxy:
            began = time.monotonic()
            samples, cpu, cuts = _observed(server, proxy, store)
            seconds = server.ended - began
        server.stop()
        size = sum(path.stat().st_size for path in store.parent.glob("flows.db*"))
        with Store.open(str(store), create=False) as opened:
            table = opened.read()
    half = len(samples) // 2
    start, first, second = samples[half // 3], max(samples[half // 3 : half]), max(samples[half:])
    print(
        f"{count:,} flows, an hour of {NODES} nodes, in {seconds:,.0f} s: {count / 400 / seconds:.1f} times their speed"
    )
    print(f"{cuts} broken connections, {len(table.edges):,} edges, {size:,} bytes of store")
    print(f"CPU of observe: {cpu:.0f} s, {cpu / seconds:.0%} of one core, {count / cpu:,.0f} flows per CPU-second")
    print(
        f"memory: {start:.0f} MiB in the beginning, at most {first:.0f} in the first half, {second:.0f} in the second"
    )
    counted = sum(activity.weight for activity in table.coverage.nodes.values())
    print(f"counted {counted:,} of {count:,}")
    if counted != count:
        sys.exit("flows are missing, or counted twice")
    if second > first * 1.15 and not os.environ.get(QUICK):
        sys.exit("the memory grows")


def _observed(server: LiveServer, proxy: Proxy, store: Path) -> tuple[list[float], float, int]:
    command = [
        sys.executable, "-m", "analyzer", "observe", "-f", "--server", proxy.address,
        "--store", str(store), "--flush-interval", "1500ms",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    told = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
    told.start()
    samples, cuts, next_cut = list[float](), 0, time.monotonic() + CUT
    while not server.done:
        time.sleep(SAMPLE)
        samples.append(_memory(process.pid))
        if time.monotonic() >= next_cut:
            next_cut += CUT
            cuts += 1
            proxy.cut()
    while server.sent < server.made:
        time.sleep(SAMPLE)
    time.sleep(CATCH_UP)
    cpu = _cpu(process.pid)
    process.send_signal(signal.SIGINT)
    process.wait(120)
    return samples, cpu, cuts


def _memory(pid: int) -> float:
    """MiB that are resident."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
