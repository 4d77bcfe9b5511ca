"""Reading flows from a server: what is asked, what comes, and every way it can fail, in words."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from analyzer.errors import ConnectionFailed, UsageError
from analyzer.model.flow import Flow, LostEvents, NodeStatus
from analyzer.replay import ReplayServer, ServerTls
from analyzer.sources.base import FlowSource
from analyzer.sources.decode_pb import Decoder
from analyzer.sources.filters import Selection, parse_filters
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.relay import FIELDS, Query, RelaySource, ask
from analyzer.sources.server import ServerOptions
from tests.sources.hubble import (
    Certificates,
    closing,
    make_certificates,
    recording,
    response,
    some_flow,
)

NAME = "instance.hubble-relay.cilium.io"


def read(server: str, query: Query | None = None, **options: Any) -> list[Any]:
    """Every record of a stream that ends."""
    source: FlowSource = RelaySource(ServerOptions(server, timeout=3.0, **options), query)
    with closing(source):
        return [record for batch in source.batches() for record in batch.records]


def uuids(records: list[Any]) -> list[str]:
    return [record.uuid for record in records if isinstance(record, Flow)]


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with ReplayServer(recording(6)) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[ReplayServer]:
    with ReplayServer(recording(2), tls=certificates.server) as running:
        yield running


@pytest.fixture(scope="module")
def mutual_server(certificates: Certificates) -> Iterator[ReplayServer]:
    with ReplayServer(recording(2), tls=certificates.mutual) as running:
        yield running


# What comes


def test_what_was_recorded_arrives_as_the_decoder_reads_it(server: ReplayServer) -> None:
    assert read(server.address) == [Decoder().decode(message) for message in server.recording.messages]


def test_all_kinds_of_records_arrive() -> None:
    records = [
        response(node_status={"state_change": "NODE_CONNECTED", "node_names": ["a"]}),
        response(some_flow(1)),
        response(lost_events={"num_events_lost": "5"}),
    ]
    with ReplayServer(records) as server:
        assert [type(record) for record in read(server.address)] == [NodeStatus, Flow, LostEvents]


def test_many_more_flows_than_are_buffered_arrive_in_order() -> None:
    flows = recording(30)
    many = [flows[number % 30] for number in range(6_000)]
    with ReplayServer(many) as server:
        assert uuids(read(server.address)) == [flow.flow.uuid for flow in many]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), "u1 u2 u3 u4 u5 u6"),
        (Query(number=2), "u5 u6"),
        (Query(number=2, first=True), "u1 u2"),
        (Query(since=(1_700_000_003) * 10**9, until=(1_700_000_004) * 10**9), "u3 u4"),
        (Query(since=1_700_000_003 * 10**9 + 1), "u4 u5 u6"),
        (Query(whitelist=[{"source_pod": ["shop/"]}], blacklist=[{"destination_port": ["8080"]}]), ""),
        (Query(whitelist=[{"destination_port": ["8080"]}, {"destinationPort": ["9"]}]), "u1 u2 u3 u4 u5 u6"),
    ],
)
def test_the_query_is_answered(server: ReplayServer, query: Query, expected: str) -> None:
    assert uuids(read(server.address, query)) == expected.split()


VARIED = [
    response(some_flow(second, pod=pod, verdict=verdict, is_reply=reply, **more))
    for second, (pod, verdict, reply, more) in enumerate(
        (
            ("web-1", "FORWARDED", False, {}),
            ("web-2", "DROPPED", None, {"drop_reason_desc": "POLICY_DENIED", "event_type": {"type": 1}}),
            ("api-1", "AUDIT", True, {"destination_names": ["www.example.com"], "IP": {"destination": "192.0.2.7"}}),
            ("api-2", "FORWARDED", False, {"Type": "L7", "l7": {"http": {"code": 503, "method": "GET"}}}),
            ("job-1", "FORWARDED", False, {"l4": {"UDP": {"destination_port": 53}}, "node_name": "east/node-2"}),
        )
    )
]


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        ([{"source_pod": ["shop/web", "/job"]}], []),
        ([{"source_label": ["k8s:app in (web, api)"], "verdict": ["DROPPED", "AUDIT"]}], []),
        ([{"destination_fqdn": ["*.example.com"]}, {"http_status_code": ["5+"]}], []),
        ([{"destination_ip": ["192.0.2.0/24"]}], []),
        ([{"protocol": ["udp"], "destination_port": ["53"]}], []),
        ([{"reply": [False]}], [{"node_name": ["east/*"]}]),
        ([], [{"event_type": [{"type": 1}]}, {"drop_reason_desc": ["POLICY_DENIED"]}]),
    ],
)
def test_a_filter_means_the_same_at_the_server_and_here(
    allow: list[dict[str, Any]], deny: list[dict[str, Any]]
) -> None:
    selection = Selection(parse_filters(allow), parse_filters(deny))
    whitelist, blacklist = selection.pushdown()
    with ReplayServer(VARIED) as server:
        everything = read(server.address)
        chosen = read(server.address, Query(whitelist=whitelist, blacklist=blacklist))
    assert chosen == [flow for flow in everything if selection.keeps(flow)]
    assert 0 < len(chosen) < len(everything)


def test_a_field_mask_is_sent_along(server: ReplayServer) -> None:
    [flow] = read(server.address, Query(number=1, field_mask=["source.identity", "time"]))
    assert (flow.source.identity, flow.source.pod, flow.uuid) == (1000, "", "")


def test_only_fields_that_are_read_are_asked_for_and_nothing_is_missing() -> None:
    with ReplayServer(VARIED) as server:
        assert read(server.address, Query(field_mask=FIELDS)) == read(server.address)


def test_a_server_too_old_for_some_field_is_asked_for_all() -> None:
    asked: list[int] = []

    def get_flows(request: bytes, context: Any) -> Iterator[bytes]:
        asked.append(len(observer_pb2.GetFlowsRequest.FromString(request).field_mask.paths))
        if asked[-1]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid field mask")
        yield from (message.SerializeToString() for message in recording(2))

    with observer(get_flows) as address:
        assert uuids(read(address, Query(field_mask=FIELDS))) == ["u1", "u2"]
        assert asked == [len(FIELDS), 0]
        with pytest.raises(ConnectionFailed, match="invalid field mask"):
            read(address, Query(field_mask=["uuid"]))


def test_a_filter_that_is_none_is_refused_before_connecting() -> None:
    with pytest.raises(UsageError, match="source_pot"):
        RelaySource(ServerOptions(), Query(whitelist=[{"source_pot": ["x"]}]))
    with pytest.raises(UsageError, match="followed"):
        RelaySource(ServerOptions(), Query(first=True, follow=True))


def test_unix_sockets(tmp_path: Path) -> None:
    with ReplayServer(recording(1), addr=f"unix://{tmp_path}/hubble.sock") as server:
        assert uuids(read(server.address)) == ["u1"]


# Following


def test_a_silent_stream_yields_empty_batches_and_ends_when_closed(server: ReplayServer) -> None:
    source = RelaySource(ServerOptions(server.address), Query(follow=True, whitelist=[{"source_pod": ["nowhere/"]}]))
    batches = source.batches()
    assert list(next(batches).records) == []
    source.close()
    assert next(batches, None) is None


def test_flows_come_before_the_stream_ends(server: ReplayServer) -> None:
    source = RelaySource(ServerOptions(server.address), Query(follow=True, number=2))
    batches = source.batches()
    assert [record.uuid for record in next(batches).records if isinstance(record, Flow)] == ["u5", "u6"]
    source.close()
    assert next(batches, None) is None


def test_close_from_another_thread_ends_a_stream_that_is_waited_for(server: ReplayServer) -> None:
    source = RelaySource(ServerOptions(server.address), Query(follow=True))
    timer = threading.Timer(0.3, source.close)
    timer.start()
    assert uuids([record for batch in source.batches() for record in batch.records]) == [f"u{n}" for n in range(1, 7)]
    timer.join()


def test_a_reader_that_stops_early_leaves_no_thread_behind(server: ReplayServer) -> None:
    before = threading.active_count()
    batches = RelaySource(ServerOptions(server.address), Query(follow=True)).batches()
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() <= before


def test_a_slow_consumer_does_not_fill_the_memory() -> None:
    """What waits for the consumer is bounded: the server is made to wait instead."""
    big = recording(1, Summary="x" * 50_000)
    with ReplayServer(big * 2_000) as server:
        batches = RelaySource(ServerOptions(server.address)).batches()
        count = len(next(batches).records)
        time.sleep(0.3)
        count = max(count, len(next(batches).records))
        batches.close()  # type: ignore[attr-defined]
    assert count * 50_000 < 8 << 20


def test_a_server_that_goes_away_is_an_error_unless_it_is_followed() -> None:
    server = ReplayServer(recording(6), rate=2.0)
    source = RelaySource(ServerOptions(server.address))
    batches = source.batches()
    next(batches)
    server.stop()
    with pytest.raises(ConnectionFailed, match=f"connection to {server.address} broke"):
        list(batches)


# TLS


def test_tls_and_its_ways_to_say_so(tls_server: ReplayServer, certificates: Certificates) -> None:
    trust = {"tls_ca_cert_files": (str(certificates.ca),), "tls_server_name": NAME}
    assert uuids(read(tls_server.address, tls=True, **trust)) == ["u1", "u2"]
    assert uuids(read(f"tls://{tls_server.address}", **trust)) == ["u1", "u2"]


def test_several_authorities(tls_server: ReplayServer, certificates: Certificates) -> None:
    files = (str(certificates.other_ca), str(certificates.ca))
    assert uuids(read(f"tls://{tls_server.address}", tls_ca_cert_files=files, tls_server_name=NAME)) == ["u1", "u2"]


def test_an_unverified_server_is_trusted_when_that_is_asked_for(
    tls_server: ReplayServer, mutual_server: ReplayServer, certificates: Certificates
) -> None:
    assert uuids(read(f"tls://{tls_server.address}", tls_allow_insecure=True)) == ["u1", "u2"]
    certificate, key = certificates.client
    client = {"tls_client_cert_file": certificate, "tls_client_key_file": key}
    assert uuids(read(f"tls://{mutual_server.address}", tls_allow_insecure=True, **client)) == ["u1", "u2"]


@pytest.mark.parametrize("flaw", ["expired", "no names"])
def test_an_unverified_server_may_show_any_certificate(tmp_path: Path, flaw: str) -> None:
    """As with the hubble CLI: gRPC by itself refuses these even when they are trusted."""
    authority = trustme.CA()
    if flaw == "expired":
        issued = authority.issue_cert("relay.example", not_after=datetime(2001, 1, 1, tzinfo=UTC))
    else:
        issued = authority.issue_cert(common_name="relay")
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    big = recording(100, Summary="x" * 50_000)
    with ReplayServer(big, tls=ServerTls(certificate, key)) as server:
        assert "certificate" in failure(f"tls://{server.address}").message
        assert len(uuids(read(f"tls://{server.address}", tls_allow_insecure=True))) == 100
    assert not [each for each in threading.enumerate() if each.name == "unverified TLS"]


def test_an_unverified_server_that_goes_away(tls_server: ReplayServer, certificates: Certificates) -> None:
    server = ReplayServer(recording(20), rate=5.0, tls=certificates.server)
    source = RelaySource(ServerOptions(f"tls://{server.address}", tls_allow_insecure=True))
    batches = source.batches()
    next(batches)
    server.stop()
    with pytest.raises(ConnectionFailed, match=f"connection to tls://{server.address} broke"):
        list(batches)


def test_a_client_certificate_is_shown(mutual_server: ReplayServer, certificates: Certificates) -> None:
    certificate, key = certificates.client
    found = read(
        f"tls://{mutual_server.address}",
        tls_ca_cert_files=(str(certificates.ca),),
        tls_server_name=NAME,
        tls_client_cert_file=certificate,
        tls_client_key_file=key,
    )
    assert uuids(found) == ["u1", "u2"]


# Failures in words


def failure(server: str, query: Query | None = None, **options: Any) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as caught:
        read(server, query, **options)
    assert server.removeprefix("tls://") in caught.value.message
    return caught.value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_nothing_listens(tmp_path: Path) -> None:
    error = failure(f"127.0.0.1:{free_port()}")
    assert "nothing listens" in error.message
    assert "port-forward" in error.hint
    assert "nothing listens" in failure(f"unix://{tmp_path}/no.sock").message
    assert "nothing listens" in failure(f"tls://127.0.0.1:{free_port()}").message


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ConnectionFailed, match=r"no-such-host\.invalid cannot be resolved"):
        read("no-such-host.invalid:4245")


def test_plain_against_tls(tls_server: ReplayServer) -> None:
    error = failure(tls_server.address)
    assert "expects TLS" in error.message
    assert "--tls" in error.hint


def test_plain_against_mutual_tls(mutual_server: ReplayServer) -> None:
    assert "expects TLS" in failure(mutual_server.address).message


def test_tls_against_plain(server: ReplayServer, certificates: Certificates) -> None:
    error = failure(f"tls://{server.address}", tls_ca_cert_files=(str(certificates.ca),))
    assert "does not speak TLS" in error.message
    assert "--tls" in error.hint
    assert "does not speak TLS" in failure(f"tls://{server.address}", tls_allow_insecure=True).message


def test_the_wrong_name(tls_server: ReplayServer, certificates: Certificates) -> None:
    error = failure(f"tls://{tls_server.address}", tls_ca_cert_files=(str(certificates.ca),))
    assert "is not for 127.0.0.1 but for *.hubble-relay.cilium.io" in error.message
    assert error.hint == f"add --tls-server-name {NAME}"


@pytest.mark.parametrize("named", [True, False], ids=["the wrong authority", "no authority"])
def test_an_untrusted_certificate(tls_server: ReplayServer, certificates: Certificates, named: bool) -> None:
    files = (str(certificates.other_ca),) if named else ()
    error = failure(f"tls://{tls_server.address}", tls_ca_cert_files=files, tls_server_name=NAME)
    assert "not signed by a trusted authority" in error.message
    assert "--tls-ca-cert-files" in error.hint


def test_a_client_certificate_is_wanted(mutual_server: ReplayServer, certificates: Certificates) -> None:
    trust = {"tls_ca_cert_files": (str(certificates.ca),), "tls_server_name": NAME}
    error = failure(f"tls://{mutual_server.address}", **trust)
    assert "wants a client certificate" in error.message
    assert "--tls-client-cert-file" in error.hint
    certificate, key = certificates.strange_client
    strange = {"tls_client_cert_file": certificate, "tls_client_key_file": key}
    assert "wants a client certificate" in failure(f"tls://{mutual_server.address}", **trust, **strange).message


@contextmanager
def answering(reply: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that is no gRPC server."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                reply(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_a_web_server_is_no_hubble() -> None:
    def reply(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with answering(reply) as address:
        assert "speaks HTTP/1, not gRPC" in failure(address).message


def test_a_server_that_just_closes_is_no_hubble() -> None:
    with answering(lambda connection: None) as address:
        assert "not gRPC" in failure(address).message


def test_a_server_that_says_nothing_is_given_up() -> None:
    opened: list[Any] = []
    with answering(lambda connection: opened.append(connection.dup())) as address:
        with pytest.raises(ConnectionFailed, match="not gRPC"):
            list(RelaySource(ServerOptions(address, timeout=1.0)).batches())
        for connection in opened:
            connection.close()


@contextmanager
def observer(behaviour: Callable[[bytes, Any], Iterator[bytes]] | None) -> Iterator[str]:
    """A gRPC server whose GetFlows does this, or does not exist."""
    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"GetFlows": grpc.unary_stream_rpc_method_handler(behaviour)} if behaviour else {}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_grpc_server_that_is_no_hubble() -> None:
    with observer(None) as address:
        error = failure(address)
    assert "no Hubble server" in error.message
    assert "4245" in error.hint


def test_too_big_a_message() -> None:
    with observer(lambda request, context: iter([b"\0" * (65 << 20)])) as address:
        assert "too big" in failure(address).message


def test_a_message_of_twenty_megabytes_is_read() -> None:
    with ReplayServer(recording(2, Summary="x" * (20 << 20))) as server:
        assert uuids(read(server.address)) == ["u1", "u2"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "refuses the request: because"),
        (grpc.StatusCode.UNAUTHENTICATED, "does not know us: because"),
        (grpc.StatusCode.PERMISSION_DENIED, "forbids it: because"),
        (grpc.StatusCode.INTERNAL, r"broke: because \(INTERNAL\)"),
        (grpc.StatusCode.UNAVAILABLE, "because"),
    ],
)
def test_a_server_that_refuses(code: grpc.StatusCode, words: str) -> None:
    def refuse(request: bytes, context: Any) -> Iterator[bytes]:
        context.abort(code, "because")
        yield b""

    with observer(refuse) as address, pytest.raises(ConnectionFailed, match=words):
        read(address)


def test_an_invalid_field_mask_is_refused_by_the_server(server: ReplayServer) -> None:
    assert "no_such_field" in failure(server.address, Query(field_mask=["no_such_field"])).message


def test_nonsense_in_the_stream_is_counted_not_fatal() -> None:
    good = response(some_flow(1)).SerializeToString()
    with observer(lambda request, context: iter([b"\xff\xff", good, b""])) as address:
        assert [type(record).__name__ for record in read(address)] == ["Skip", "Flow", "Skip"]


def test_a_password_is_sent_and_never_shown(tls_server: ReplayServer, certificates: Certificates) -> None:
    options = ServerOptions("tls://h:1", basic_auth_username="me", basic_auth_password="geheim")
    assert options.metadata == (("authorization", "Basic bWU6Z2VoZWlt"),)
    assert "geheim" not in repr(options)


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"server": "http://relay:80"}, "no server address"),
        ({"server": ""}, "no server address"),
        ({"server": "relay:port"}, "no server address"),
        ({"server": "relay:70000"}, "no server address"),
        ({"server": ":4245"}, "no server address"),
        ({"server": "tls://"}, "no server address"),
        ({"tls": True, "tls_client_cert_file": "x"}, "both required"),
        ({"tls_client_cert_file": "x", "tls_client_key_file": "y"}, "needs TLS"),
        ({"basic_auth_username": "me", "basic_auth_password": "geheim"}, "unencrypted"),
    ],
)
def test_options_that_cannot_be_honoured(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ServerOptions(**options)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("relay", "relay:4245"),
        ("relay:80", "relay:80"),
        ("tls://relay:443", "relay:443"),
        ("[::1]:4245", "[::1]:4245"),
        ("::1", "[::1]:4245"),
        ("[fd00::1]", "[fd00::1]:4245"),
        ("unix:///var/run/cilium/hubble.sock", "unix:///var/run/cilium/hubble.sock"),
        ("unix:/run/h.sock", "unix:///run/h.sock"),
    ],
)
def test_forms_of_addresses(server: str, expected: str) -> None:
    assert str(ServerOptions(server).endpoint()) == expected


def test_files_that_cannot_be_read(tls_server: ReplayServer, tmp_path: Path) -> None:
    missing = str(tmp_path / "no.crt")
    with pytest.raises(UsageError, match=r"no\.crt"):
        read(f"tls://{tls_server.address}", tls_ca_cert_files=(missing,))
    nonsense = tmp_path / "bad.crt"
    nonsense.write_text("this is no certificate")
    with pytest.raises(UsageError, match="TLS files"):
        read(f"tls://{tls_server.address}", tls_ca_cert_files=(str(nonsense),), tls_server_name=NAME)


def test_one_question_and_its_answer(server: ReplayServer) -> None:
    status = ask(
        ServerOptions(server.address),
        "/observer.Observer/ServerStatus",
        observer_pb2.ServerStatusRequest(),
        observer_pb2.ServerStatusResponse,
    )
    assert status.num_flows == 6
