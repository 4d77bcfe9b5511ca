"""The replay server answers GetFlowsRequests as Hubble does, to a client that is not ours but plain gRPC."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc

from analyzer.errors import UsageError
from analyzer.replay import Recording, ReplayServer
from analyzer.replay.recording import read_response
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL
from tests.sources.hubble import START, at, recording, response, some_flow

LOST = response(lost_events={"source": "HUBBLE_RING_BUFFER", "num_events_lost": "3"}, node_name="node-1", time=at(4))


@contextmanager
def client(server: ReplayServer) -> Iterator[Any]:
    """GetFlows of a server, as a function of the request's JSON form."""
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )

        def get_flows(**request: Any) -> Any:
            message = json_format.ParseDict(request, observer_pb2.GetFlowsRequest(), descriptor_pool=POOL)
            return method(message, timeout=20)

        yield get_flows


def uuids(responses: Any) -> list[str]:
    return [x.flow.uuid if x.HasField("flow") else "lost" for x in responses]


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    flows = recording(6)
    flows.insert(3, LOST)
    with ReplayServer(flows) as running:
        yield running


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, "u1 u2 u3 lost u4 u5 u6"),
        ({"number": "2"}, "u5 u6"),
        ({"number": "4"}, "u3 lost u4 u5 u6"),
        ({"number": "100"}, "u1 u2 u3 lost u4 u5 u6"),
        ({"number": "18446744073709551615"}, "u1 u2 u3 lost u4 u5 u6"),
        ({"number": "4", "first": True}, "u1 u2 u3 lost u4"),
        ({"first": True}, "u1 u2 u3 lost u4 u5 u6"),
        ({"since": at(5)}, "lost u5 u6"),
        ({"since": at(2), "number": "2"}, "u2 u3"),
        ({"until": at(2)}, "u1 u2 lost"),
        ({"since": at(2), "until": at(4)}, "u2 u3 lost u4"),
        ({"until": at(3), "number": "2"}, "u2 u3 lost"),
    ],
)
def test_number_and_times(server: ReplayServer, request_: dict[str, Any], expected: str) -> None:
    with client(server) as get_flows:
        found = [x for x in uuids(get_flows(**request_)) if x != "lost" or "lost" in expected]
        assert found == expected.split()


def mixed() -> list[Any]:
    return [
        response(some_flow(1, pod="web-1")),
        response(some_flow(2, pod="api-1", verdict="DROPPED", drop_reason_desc="POLICY_DENIED")),
        LOST,
        response(some_flow(3, pod="web-2", verdict="DROPPED", drop_reason_desc="POLICY_DENIED")),
        response(some_flow(4, pod="job-1")),
    ]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"whitelist": [{"source_pod": ["shop/web"]}]}, "u1 lost u3"),
        ({"whitelist": [{"source_pod": ["shop/web"], "verdict": ["DROPPED"]}]}, "lost u3"),
        ({"whitelist": [{"source_pod": ["shop/web"]}, {"verdict": ["DROPPED"]}]}, "u1 u2 lost u3"),
        ({"blacklist": [{"source_pod": ["shop/web"]}, {"verdict": ["DROPPED"]}]}, "lost u4"),
        (
            {"whitelist": [{"verdict": ["DROPPED"]}], "blacklist": [{"source_pod": ["shop/api"]}]},
            "lost u3",
        ),
        ({"whitelist": [{"source_pod": ["shop/web"]}], "number": "1"}, "u3"),
        ({"whitelist": [{"source_pod": ["shop/web"]}], "number": "1", "first": True}, "u1"),
    ],
)
def test_filters_choose_and_lost_events_pass_them(request_: dict[str, Any], expected: str) -> None:
    with ReplayServer(mixed()) as server, client(server) as get_flows:
        assert uuids(get_flows(**request_)) == expected.split()


def test_a_field_mask_leaves_what_it_names(server: ReplayServer) -> None:
    with client(server) as get_flows:
        [only] = get_flows(number="1", fieldMask="source.identity,nodeName,destination")
    assert json_format.MessageToDict(only, preserving_proto_field_name=True, descriptor_pool=POOL) == {
        "flow": {
            "node_name": "node-1",
            "source": {"identity": 1000},
            "destination": {"identity": 2000, "namespace": "db", "labels": ["k8s:app=db"], "pod_name": "db-0"},
        },
        "node_name": "node-1",
    }


def test_a_message_on_the_way_to_a_masked_field_is_there_even_if_empty(server: ReplayServer) -> None:
    with client(server) as get_flows:
        [only] = get_flows(number="1", fieldMask="source.clusterName")
    assert only.flow.HasField("source")
    assert not only.flow.source.ByteSize()


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"first": True, "follow": True}, "first"),
        ({"fieldMask": "source.nothing"}, "source.nothing"),
        ({"fieldMask": "sourceNames.x"}, "source_names.x"),
        ({"whitelist": [{"source_pod": [""]}]}, ""),
    ],
)
def test_what_hubble_refuses_is_refused(server: ReplayServer, request_: dict[str, Any], words: str) -> None:
    with client(server) as get_flows, pytest.raises(grpc.RpcError) as caught:
        list(get_flows(**request_))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in caught.value.details()


def test_following_plays_the_recording_and_then_stays_open(server: ReplayServer) -> None:
    with client(server) as get_flows:
        stream = get_flows(follow=True)
        assert uuids(next(stream) for _ in range(7)) == ["u1", "u2", "u3", "lost", "u4", "u5", "u6"]
        assert stream.is_active()
        stream.cancel()


def test_following_after_a_number_starts_with_the_old_ones(server: ReplayServer) -> None:
    with client(server) as get_flows:
        stream = get_flows(follow=True, number="1", until=at(1))
        assert next(stream).flow.uuid == "u6"
        stream.cancel()


def test_a_loop_goes_on_with_new_events_at_later_times() -> None:
    with ReplayServer(recording(3), loop=True) as server, client(server) as get_flows:
        stream = get_flows(follow=True)
        flows = [next(stream).flow for _ in range(8)]
        stream.cancel()
    assert len({flow.uuid for flow in flows}) == 8
    assert [flow.time.seconds - START for flow in flows] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_loop_in_which_nothing_matches_waits_instead_of_spinning() -> None:
    with ReplayServer(recording(3), loop=True) as server, client(server) as get_flows:
        stream = get_flows(follow=True, whitelist=[{"source_pod": ["nowhere/"]}])
        assert not stream.done()
        stream.cancel()


def test_a_rate_spaces_the_flows() -> None:
    with ReplayServer(recording(20), rate=1.0) as server, client(server) as get_flows:
        stream = get_flows(follow=True)
        next(stream)
        assert not stream.done()
        stream.cancel()


def test_a_rate_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="rate"):
        ReplayServer([], rate=0)


@pytest.fixture(scope="module")
def channel(server: ReplayServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def test_status_nodes_and_namespaces(channel: Any) -> None:
    def ask(method: str, request: Any, answer: Any) -> Any:
        call = channel.unary_unary(
            f"/observer.Observer/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        return call(request(), timeout=20)

    status = ask("ServerStatus", observer_pb2.ServerStatusRequest, observer_pb2.ServerStatusResponse)
    assert (status.num_flows, status.max_flows, status.num_connected_nodes.value) == (7, 7, 1)
    nodes = ask("GetNodes", observer_pb2.GetNodesRequest, observer_pb2.GetNodesResponse)
    assert [node.name for node in nodes.nodes] == ["node-1"]
    namespaces = ask("GetNamespaces", observer_pb2.GetNamespacesRequest, observer_pb2.GetNamespacesResponse)
    assert [x.namespace for x in namespaces.namespaces] == ["db", "shop"]


@pytest.mark.parametrize("service", ["", "hubble.server.Observer"])
def test_health(channel: Any, service: str) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_version_is_in_the_headers(server: ReplayServer) -> None:
    with client(server) as get_flows:
        stream = get_flows(number="1")
        assert dict(stream.initial_metadata())["hubble-server-version"].count(".") == 2


def test_a_port_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1:{port}"):
            ReplayServer([], addr=f"127.0.0.1:{port}")


def test_a_unix_socket(tmp_path: Path) -> None:
    with ReplayServer(recording(1), addr=f"unix://{tmp_path}/h.sock") as server:
        assert server.address == f"unix://{tmp_path}/h.sock"
        with client(server) as get_flows:
            assert uuids(get_flows()) == ["u1"]


def test_stopping_ends_the_streams() -> None:
    server = ReplayServer(recording(1))
    with client(server) as get_flows:
        stream = get_flows(follow=True)
        next(stream)
        server.stop()
        server.stop()
        with pytest.raises(grpc.RpcError):
            next(stream)


@pytest.mark.parametrize(
    "line",
    [
        json.dumps({"flow": some_flow(1), "node_name": "node-1", "time": at(1)}),
        json.dumps({"flow": some_flow(1)}).encode(),
        json.dumps(some_flow(1)),
        json.dumps(some_flow(1)).replace("pod_name", "podName").replace("is_reply", "isReply"),
        json.dumps({"flow": {**some_flow(1), "not_known_yet": [1], "auth_type": "A_NEW_ONE"}}),
        json.dumps({"flow": {**some_flow(1), "extensions": {"@type": "type.googleapis.com/no.Such"}}}),
    ],
    ids=["envelope", "no envelope", "bare", "lowerCamel", "newer", "vendor's"],
)
def test_lines_of_json_in_all_their_forms(line: str | bytes) -> None:
    assert read_response(line) == response(some_flow(1), node_name="node-1", time=at(1))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[]",
        "5",
        "{}",
        '{"flow": 5}',
        '{"flow": {"source": [1]}}',
        '{"flow": {"l4": {"TCP": {"source_port": "x"}}}}',
        '{"flow": {"l4": {"TCP": {"source_port": -1}}}}',
        '{"flow": {"time": "yesterday"}}',
        '{"flow": {"time": 5}}',
        '{"agent_event": {"type": "AGENT_STARTED"}}',
        "[" * 100_000,
        '{"flow":' * 5_000,
        b"\xff\xfe",
        '{"flow": {"source": {"labels": ["\\ud800"]}}}',
    ],
)
def test_lines_that_are_no_response_are_counted_and_never_raise(line: str | bytes) -> None:
    kept = Recording([line, *recording(1)])
    assert (len(kept), kept.skipped) == (1, 1)


def test_a_real_capture_is_replayed_whole() -> None:
    sample = Path(__file__).resolve().parents[1] / ".." / "shared" / "samples" / "otel-2021.jsonl"
    if not sample.exists():
        pytest.skip("real captures are not here")
    lines = sample.read_text().splitlines()
    with ReplayServer(lines) as server, client(server) as get_flows:
        assert len(list(get_flows())) == len(lines) - server.recording.skipped
    assert server.recording.skipped == 0
