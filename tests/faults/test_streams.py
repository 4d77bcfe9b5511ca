"""Whatever happens to a followed stream, every flow that the server still has arrives, once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import ConnectionFailed
from analyzer.model.flow import OUT_OF_SIGHT, Flow, NodeStatus
from analyzer.replay import ReplayServer, ServerTls
from analyzer.sources.relay import Backoff, Query, RelaySource
from analyzer.sources.server import ServerOptions
from tests.faults.proxy import Proxy
from tests.sources.hubble import make_certificates, recording, response, some_flow

SOON = Backoff(0.02, 0.05)
NAME = "instance.hubble-relay.cilium.io"


class Follower:
    """Follows a server in a thread of its own, and keeps what comes."""

    def __init__(self, address: str, *, query: Query | None = None, patience: float = 10.0, **options: Any) -> None:
        self.records: list[Any] = []
        self.skipped = 0
        self.news: list[str] = []
        self.error: BaseException | None = None
        self.source = RelaySource(
            ServerOptions(address, timeout=2.0, **options),
            query or Query(number=2**63, follow=True),
            patience=patience,
            backoff=SOON,
            news=self.news.append,
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for batch in self.source.batches():
                self.records += batch.records
                self.skipped += sum(batch.skipped.values())
        except BaseException as error:
            self.error = error

    @property
    def uuids(self) -> list[str]:
        return [record.uuid for record in self.records if isinstance(record, Flow)]

    def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert self.error is None, self.error
            assert time.monotonic() < end, (len(self.uuids), self.news)
            time.sleep(0.01)

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def numbered(count: int) -> list[str]:
    return [f"u{n}" for n in range(1, count + 1)]


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with ReplayServer(recording(50)) as running:
        yield running


def test_a_connection_cut_in_the_middle_of_messages_again_and_again() -> None:
    rng = random.Random(1)
    with (
        ReplayServer(recording(400), rate=400.0) as server,
        Proxy(server.address) as proxy,
        Follower(proxy.address) as follower,
    ):
        while len(set(follower.uuids)) < 400:
            time.sleep(0.1)
            proxy.cut_after(rng.randrange(1, 20_000))
            follower.until(lambda: proxy._left in (None, 0) or len(set(follower.uuids)) == 400)
            proxy.heal()
        assert follower.uuids == numbered(400)
        assert follower.skipped > 0
        assert not [record for record in follower.records if isinstance(record, NodeStatus)]


def test_a_server_that_is_killed_and_comes_back() -> None:
    first, second = recording(30), recording(60)
    server = ReplayServer(first)
    with Proxy(server.address) as proxy, Follower(proxy.address) as follower:
        follower.until(lambda: len(follower.uuids) == 30)
        server.stop()
        proxy.refuse()
        follower.until(lambda: any("connecting again" in each for each in follower.news))
        with ReplayServer(second) as again:
            proxy.retarget(again.address)
            proxy.heal()
            follower.until(lambda: len(follower.uuids) == 60)
            follower.until(lambda: any("again after" in each for each in follower.news))
    assert follower.uuids == numbered(60)


def test_a_server_that_never_had_a_word_to_say_is_one_to_come_back_to() -> None:
    silent = Query(follow=True, whitelist=[{"source_pod": ["nowhere/"]}])
    server = ReplayServer(recording(30))
    with Proxy(server.address) as proxy, Follower(proxy.address, query=silent) as follower:
        follower.until(lambda: follower.source._connected)
        server.stop()
        proxy.refuse()
        follower.until(lambda: any("connecting again" in each for each in follower.news))
        with ReplayServer(recording(60)) as again:
            proxy.retarget(again.address)
            proxy.heal()
            follower.until(lambda: any("again after" in each for each in follower.news))
    assert follower.uuids == []


def test_a_server_that_forgot_what_came_between() -> None:
    server = ReplayServer(recording(30))
    with Proxy(server.address) as proxy, Follower(proxy.address) as follower:
        follower.until(lambda: len(follower.uuids) == 30)
        with ReplayServer(recording(60)[50:]) as again:
            proxy.retarget(again.address)
            server.stop()
            follower.until(lambda: len(follower.uuids) == 40)
    [gap] = [record for record in follower.records if isinstance(record, NodeStatus)]
    assert (gap.nodes, gap.state) == (("node-1",), OUT_OF_SIGHT)


def test_a_way_that_goes_dead_without_a_word_is_noticed(server: ReplayServer) -> None:
    with Proxy(server.address) as proxy, Follower(proxy.address, patience=0.1) as follower:
        follower.until(lambda: len(follower.uuids) == 50)
        time.sleep(1.0)  # A quiet server that answers is left alone.
        assert follower.news == []
        proxy.silence()
        follower.until(lambda: any("does not answer any more" in each for each in follower.news))
        proxy.cut()
        proxy.heal()
        follower.until(lambda: any("again after" in each for each in follower.news))
    assert follower.uuids == numbered(50)


def test_a_dead_way_is_an_error_for_who_does_not_follow() -> None:
    with ReplayServer(recording(50), rate=20.0) as server, Proxy(server.address) as proxy:
        source = RelaySource(ServerOptions(proxy.address, timeout=0.5), patience=0.1)
        batches = source.batches()
        next(batches)
        proxy.silence()
        with pytest.raises(ConnectionFailed, match="does not answer any more"):
            list(batches)


def test_garbage_between_the_frames() -> None:
    with (
        ReplayServer(recording(200), rate=400.0) as server,
        Proxy(server.address) as proxy,
        Follower(proxy.address) as follower,
    ):
        follower.until(lambda: len(follower.uuids) > 20)
        for garbage in (b"\0" * 500, b"\xff" * 500, b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"\0\xff\xff\x01\x04" * 99):
            before = proxy.accepted
            proxy.change(lambda data, garbage=garbage: garbage + data)  # type: ignore[misc]
            follower.until(lambda before=before: proxy.accepted > before or len(set(follower.uuids)) == 200)  # type: ignore[misc]
            proxy.heal()
        proxy.cut()
        follower.until(lambda: len(set(follower.uuids)) == 200)
    assert follower.uuids == numbered(200)


def test_a_message_of_twenty_megabytes_in_a_followed_stream() -> None:
    flows = [*recording(2), response(some_flow(3, Summary="x" * (20 << 20))), response(some_flow(4))]
    with ReplayServer(flows) as server, Follower(server.address) as follower:
        follower.until(lambda: len(follower.uuids) == 4)
        assert follower.news == []


def test_certificates_that_are_renewed_while_it_runs(tmp_path: Path) -> None:
    """The authority, the server's certificate and the client's all change; the client's files are replaced under it."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = make_certificates(tmp_path / "old"), make_certificates(tmp_path / "new")
    files = {name: tmp_path / name for name in ("ca", "crt", "key")}

    def install(authority: Path, client: tuple[str, str]) -> None:
        for name, source in (("ca", authority), ("crt", Path(client[0])), ("key", Path(client[1]))):
            files[name].write_bytes(source.read_bytes())

    install(old.ca, old.client)
    server = ReplayServer(recording(10), tls=old.mutual)
    options = {
        "tls": True, "tls_ca_cert_files": (str(files["ca"]),), "tls_server_name": NAME,
        "tls_client_cert_file": str(files["crt"]), "tls_client_key_file": str(files["key"]),
    }  # fmt: skip
    with Proxy(server.address) as proxy, Follower(proxy.address, **options) as follower:
        follower.until(lambda: len(follower.uuids) == 10)
        with ReplayServer(recording(20), tls=new.mutual) as again:
            proxy.retarget(again.address)
            server.stop()
            follower.until(lambda: any("not signed by a trusted authority" in each for each in follower.news))
            files["key"].unlink()  # Half way through being renewed.
            follower.until(lambda: any("key" in each for each in follower.news))
            install(new.ca, new.client)
            follower.until(lambda: len(follower.uuids) == 20)
    assert follower.uuids == numbered(20)


def test_a_server_without_tls_after_one_with_it_is_told_once(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    tls: ServerTls = certificates.server
    server = ReplayServer(recording(3), tls=tls)
    options = {"tls": True, "tls_ca_cert_files": (str(certificates.ca),), "tls_server_name": NAME}
    with (
        ReplayServer(recording(3)) as plain,
        Proxy(server.address) as proxy,
        Follower(proxy.address, **options) as follower,
    ):
        follower.until(lambda: len(follower.uuids) == 3)
        proxy.retarget(plain.address)
        server.stop()
        before = proxy.accepted
        follower.until(lambda: proxy.accepted > before + 12)
        assert sum("does not speak TLS" in each for each in follower.news) == 1


def test_the_first_connection_has_to_work() -> None:
    source = RelaySource(ServerOptions("127.0.0.1:1", timeout=1.0), Query(follow=True))
    with pytest.raises(ConnectionFailed, match="nothing listens"):
        list(source.batches())


def test_closing_while_there_is_no_server() -> None:
    server = ReplayServer(recording(3))
    with Follower(server.address) as follower:
        follower.until(lambda: len(follower.uuids) == 3)
        server.stop()
        follower.until(lambda: bool(follower.news))
    assert follower.error is None


def test_a_reader_that_is_slow_gets_everything_that_is_sent() -> None:
    """And what the server dropped meanwhile, it tells."""
    lost = response(lost_events={"source": "HUBBLE_RING_BUFFER", "num_events_lost": "70"}, node_name="node-1")
    flows = recording(2, Summary="x" * 200_000)
    with ReplayServer([*(flows * 100), lost]) as running:
        batches = RelaySource(ServerOptions(running.address)).batches()
        records = []
        for batch in batches:
            records += batch.records
            time.sleep(0.05)
    assert [type(record).__name__ for record in records[-2:]] == ["Flow", "LostEvents"]
    assert len(records) == 201


def test_jitter_stays_within_its_bounds() -> None:
    backoff = Backoff(1.0, 30.0)
    delays = [[backoff.delay(attempt) for _ in range(50)] for attempt in (0, 1, 4, 5, 1000)]
    for some, most in zip(delays, (1, 2, 16, 30, 30), strict=True):
        assert all(most / 2 <= delay <= most for delay in some)
        assert len(set(some)) > 1
