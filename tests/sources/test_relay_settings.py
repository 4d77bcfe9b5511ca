"""A server that is named by flags, by the environment or by the hubble CLI's configuration file, and really connected to."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from analyzer.cli.main import cli
from analyzer.replay import ReplayServer, ServerTls
from tests.sources.hubble import Certificates, make_certificates, recording

NAME = "instance.hubble-relay.cilium.io"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[ReplayServer]:
    with ReplayServer(recording(2), tls=certificates.mutual) as running:
        yield running


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("HUBBLE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, ["graph", "-o", "json", *args])


def settings(server: ReplayServer, certificates: Certificates) -> dict[str, str]:
    certificate, key = certificates.client
    return {
        "server": f"tls://{server.address}",
        "tls-ca-cert-files": f"{certificates.other_ca},{certificates.ca}",
        "tls-server-name": NAME,
        "tls-client-cert-file": certificate,
        "tls-client-key-file": key,
    }


def found(result: Any) -> int:
    assert result.exit_code == 0, result.stderr
    return len(json.loads(result.stdout)["edges"])


def test_flags(server: ReplayServer, certificates: Certificates) -> None:
    assert found(run(*(f"--{name}={value}" for name, value in settings(server, certificates).items()))) == 1


def test_the_environment(server: ReplayServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings(server, certificates).items():
        monkeypatch.setenv(f"HUBBLE_{name.upper().replace('-', '_')}", value)
    assert found(run()) == 1


@pytest.mark.parametrize("place", ["config.yaml", ".config/hubble/config.yaml", ".hubble/config.yaml", "named.yaml"])
def test_the_configuration_file(server: ReplayServer, certificates: Certificates, tmp_path: Path, place: str) -> None:
    written: dict[str, Any] = settings(server, certificates)
    written["tls-ca-cert-files"] = written["tls-ca-cert-files"].split(",")
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written))
    assert found(run(*(["--config", str(path)] if place == "named.yaml" else []))) == 1


def test_a_flag_beats_the_environment_and_that_the_file(
    server: ReplayServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = settings(server, certificates)
    (tmp_path / "config.yaml").write_text(json.dumps({**right, "tls-server-name": "of.the.file"}))
    assert "not for of.the.file but for" in run().stderr
    monkeypatch.setenv("HUBBLE_TLS_SERVER_NAME", "of.the.environment")
    assert "not for of.the.environment but for" in run().stderr
    assert found(run("--tls-server-name", NAME)) == 1


@contextmanager
def guarded(tls: ServerTls, expected: str) -> Iterator[str]:
    """An Observer behind a proxy that wants basic authentication."""

    def get_flows(request: bytes, context: Any) -> Iterator[bytes]:
        given = dict(context.invocation_metadata()).get("authorization")
        if given != f"Basic {base64.b64encode(expected.encode()).decode()}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong password")
        yield from (message.SerializeToString() for message in recording(2))

    server = grpc.server(ThreadPoolExecutor(2))
    handlers = {"GetFlows": grpc.unary_stream_rpc_method_handler(get_flows)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("observer.Observer", handlers),))
    port = server.add_secure_port("127.0.0.1:0", tls.credentials())
    server.start()
    yield f"tls://127.0.0.1:{port}"
    server.stop(None).wait()


def test_basic_authentication(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    trust = (f"--tls-ca-cert-files={certificates.ca}", f"--tls-server-name={NAME}", "--basic-auth-username=me")
    with guarded(certificates.server, "me:geh:eim") as address:
        monkeypatch.setenv("HUBBLE_BASIC_AUTH_PASSWORD", "geh:eim")
        assert found(run("--server", address, *trust)) == 1
        monkeypatch.setenv("HUBBLE_BASIC_AUTH_PASSWORD", "secret")
        refused = run("--server", address, *trust)
    assert refused.exit_code == 2
    assert "does not know us" in refused.stderr
    assert "--basic-auth-username" in refused.stderr
    assert "secret" not in refused.stderr


def test_a_password_does_not_travel_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBLE_BASIC_AUTH_PASSWORD", "geheim")
    refused = run("--server", "127.0.0.1:1", "--basic-auth-username", "me")
    assert refused.exit_code == 2
    assert "unencrypted" in refused.stderr
