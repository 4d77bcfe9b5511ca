"""-P and the word `cluster`, on the command line, against a small Kubernetes API server and a real Observer server behind it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from analyzer.cli.main import cli
from analyzer.cli.options import Inputs
from analyzer.errors import UsageError
from analyzer.replay import ReplayServer
from analyzer.store import Store
from tests.cli.test_options import home, told
from tests.kubernetes_api import CONTEXT, KubernetesApi
from tests.sources.hubble import recording
from tests.test_cluster import objects

__all__ = ["home"]


def test_observe_through_a_port_forward(tmp_path: Path) -> None:
    with ReplayServer(recording(20)) as relay:
        backend = int(relay.address.rpartition(":")[2])
        with KubernetesApi(objects(), backend=backend).serving() as server:
            where = str(tmp_path / "flows.db")
            flags = ["--kubeconfig", server.kubeconfig(tmp_path), "--kube-context", CONTEXT, "--port-forward-port", "0"]
            result = CliRunner().invoke(cli, ["observe", "-P", *flags, "--store", where])
    assert result.exit_code == 0, result.output
    with Store.open(where, create=False) as store:
        assert store.read().coverage.records == 20


def test_interrupted_while_a_login_plugin_waits(tmp_path: Path) -> None:
    """Such as one that opens a browser: that is no failure, and nothing was read."""
    plugin = tmp_path / "login.sh"
    plugin.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nsleep 60\n")
    plugin.chmod(0o755)
    path = Path(KubernetesApi({}).kubeconfig(tmp_path))
    content = yaml.safe_load(path.read_text())
    content["users"][0]["user"] = {"exec": {"command": str(plugin)}}
    path.write_text(yaml.safe_dump(content))
    store = tmp_path / "flows.db"
    command = [
        sys.executable,
        "-m",
        "analyzer",
        "observe",
        "-P",
        "-f",
        "--kubeconfig",
        str(path),
        "--store",
        str(store),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "asked").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Error" not in said


def test_a_cluster_without_relay_is_told(tmp_path: Path) -> None:
    with KubernetesApi({}).serving() as server:
        flags = ["--kubeconfig", server.kubeconfig(tmp_path), "--port-forward-port", "0"]
        result = CliRunner().invoke(cli, ["graph", "-P", *flags])
    assert result.exit_code == 2
    assert "no service hubble-relay in namespace kube-system" in result.stderr
    assert "cilium hubble enable" in result.stderr


@pytest.mark.parametrize("arguments", [("-P", "--server", "localhost:1"), ("flows.json", "-P")])
def test_a_port_forward_excludes_other_places(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="finds the server by itself"):
        told(*arguments)


def test_the_flags_are_hubbles_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBLE_PORT_FORWARD", "true")
    monkeypatch.setenv("HUBBLE_KUBE_CONTEXT", "staging")
    inputs: Inputs = told("--port-forward-port", "4300", "--kube-namespace", "cilium")
    assert inputs.port_forward == 4300
    options = inputs.cluster_options()
    assert (options.context, options.namespace) == ("staging", "cilium")
    assert told("flows.json").port_forward is None


def test_the_word_cluster_stands_for_the_clusters_own_policies_and_inventory(tmp_path: Path) -> None:
    with ReplayServer(recording(5)) as relay:
        CliRunner().invoke(cli, ["observe", "--server", relay.address, "--store", str(tmp_path / "flows.db")])
    flows = tmp_path / "flows.db"
    with KubernetesApi(objects()).serving() as server:
        flags = ["--kubeconfig", server.kubeconfig(tmp_path), "--kube-context", CONTEXT]
        result = CliRunner().invoke(
            cli, ["diff", str(flows), "-p", "cluster", "--inventory", "cluster", "-o", "json", *flags]
        )
    assert result.exit_code in (0, 1), result.output
    assert "/apis/cilium.io/v2/ciliumnetworkpolicies" in server.requests
    assert "/api/v1/pods" in server.requests
    assert "The cluster has, or shows you, no CiliumClusterwideNetworkPolicy" in result.stderr
