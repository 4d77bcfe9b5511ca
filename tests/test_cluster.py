"""The Kubernetes API, against a small real HTTPS server: pages, unknown kinds, refusals in words, and a port-forward to Relay."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from analyzer.cluster import INVENTORY, POLICIES, ClusterOptions, api, fetch, port_forward
from analyzer.errors import AnalyzerError, ConnectionFailed, SourceError, UsageError
from analyzer.inventories import from_manifests
from analyzer.pipeline import read
from analyzer.replay import ReplayServer
from analyzer.sources.relay import Query, RelaySource
from analyzer.sources.server import ServerOptions
from tests.kubernetes_api import CONTEXT, KubernetesApi, status
from tests.sources.hubble import closing, recording

LABELS = {"k8s-app": "hubble-relay"}


def thing(name: str, namespace: str = "", **rest: Any) -> dict[str, Any]:
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), "labels": rest.pop("labels", {})}
    return {"metadata": meta, **rest}


def pod(name: str, namespace: str, ip: str, **labels: str) -> dict[str, Any]:
    container = {"name": "app", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}
    return thing(
        name, namespace, labels=labels, spec={"containers": [container]}, status={"podIP": ip, "podIPs": [{"ip": ip}]}
    )


def relay_pod() -> dict[str, Any]:
    container = {"name": "relay", "ports": [{"name": "grpc", "containerPort": 4245}]}
    ready = [{"type": kind, "status": "True"} for kind in ("Ready", "ContainersReady")]
    return thing(
        "hubble-relay-1", "kube-system", labels=LABELS, spec={"containers": [container]},
        status={"podIP": "10.0.0.9", "phase": "Running", "conditions": ready}, apiVersion="v1", kind="Pod",
    )  # fmt: skip


def objects() -> dict[str, list[dict[str, Any]]]:
    pods = [pod(f"cart-{number}", "shop", f"10.0.0.{number}", app="cart") for number in range(5)]
    spec = {"selector": LABELS, "ports": [{"port": 80, "targetPort": "grpc"}]}
    return {
        "/api/v1/pods": [*pods, relay_pod()],
        "/api/v1/namespaces": [thing("shop", labels={"team": "one"})],
        "/api/v1/services": [thing("hubble-relay", "kube-system", spec=spec, apiVersion="v1", kind="Service")],
        "/api/v1/nodes": [thing("node-1")],
        **{f"/apis/apps/v1/{plural}": [] for plural in ("deployments", "statefulsets", "daemonsets")},
        "/apis/batch/v1/cronjobs": [],
        "/apis/networking.k8s.io/v1/networkpolicies": [thing("deny", "shop", spec={"podSelector": {}})],
        "/apis/cilium.io/v2/ciliumnetworkpolicies": [
            thing("cart", "shop", spec={"endpointSelector": {}, "ingress": [{}]})
        ],
    }


@pytest.fixture
def server() -> Iterator[KubernetesApi]:
    with KubernetesApi(objects()).serving() as serving:
        yield serving


def options(server: KubernetesApi, folder: Path, **how: Any) -> ClusterOptions:
    return ClusterOptions(server.kubeconfig(folder, **how), CONTEXT)


def test_every_page_of_every_kind_becomes_documents_that_name_their_kind(server: KubernetesApi, tmp_path: Path) -> None:
    found = fetch(options(server, tmp_path), INVENTORY)
    assert [each["kind"] for each in found.documents] == ["Namespace", *["Pod"] * 6, "Service", "Node"]
    assert found.unknown == ("CiliumCIDRGroup", "ConfigMap cilium-config")
    inventory = from_manifests(found.documents)
    assert {endpoint.name for endpoint in inventory.endpoints} == {*(f"cart-{n}" for n in range(5)), "hubble-relay-1"}
    assert inventory.namespaces["shop"] == {"team": "one"}


def test_settings_of_the_agent_are_read_where_that_is_allowed(server: KubernetesApi, tmp_path: Path) -> None:
    server.objects["/api/v1/configmaps"] = [
        thing("cilium-config", "kube-system", data={"enable-policy": "always", "cluster-name": "blue"}), thing("other", "shop"),
    ]  # fmt: skip
    found = fetch(options(server, tmp_path), INVENTORY)
    assert [each["metadata"]["name"] for each in found.documents if each["kind"] == "ConfigMap"] == ["cilium-config"]
    assert from_manifests(found.documents).options.enforcement == "always"
    server.refused.add("/api/v1/namespaces/kube-system/configmaps/cilium-config")
    assert "ConfigMap cilium-config" in fetch(options(server, tmp_path), INVENTORY).unknown


def test_policies_of_all_dialects(server: KubernetesApi, tmp_path: Path) -> None:
    found = fetch(options(server, tmp_path), POLICIES)
    assert [(each["kind"], each["apiVersion"]) for each in found.documents] == [
        ("NetworkPolicy", "networking.k8s.io/v1"), ("CiliumNetworkPolicy", "cilium.io/v2"),
    ]  # fmt: skip
    assert found.unknown == ("CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup")


def test_only_reads(server: KubernetesApi, tmp_path: Path) -> None:
    fetch(options(server, tmp_path), INVENTORY)
    assert not [path for path in server.requests if "secrets" in path]


def test_a_refusal_says_what_may_not_be_read(server: KubernetesApi, tmp_path: Path) -> None:
    server.refused.add("/api/v1/pods")
    with pytest.raises(SourceError, match=r"does not let you read pods.*no role") as caught:
        fetch(options(server, tmp_path), INVENTORY)
    assert "list on it" in caught.value.hint


def test_a_wrong_token_is_told(server: KubernetesApi, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not know you"):
        fetch(options(server, tmp_path, token="stale"), INVENTORY)


def test_a_certificate_of_a_stranger_is_told(server: KubernetesApi, tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
        fetch(options(server, tmp_path, trusted=False), INVENTORY)


def test_nobody_there(tmp_path: Path) -> None:
    silent = KubernetesApi({})
    silent.port = 9
    with pytest.raises(ConnectionFailed, match="cannot be reached"):
        fetch(options(silent, tmp_path), INVENTORY)


@pytest.mark.parametrize(("content", "context"), [("{}", ""), ("contexts: [", ""), (None, ""), ("good", "other")])
def test_a_configuration_that_does_not_fit(
    server: KubernetesApi, tmp_path: Path, content: str | None, context: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    path = Path(server.kubeconfig(tmp_path)) if content == "good" else tmp_path / "broken"
    if content not in ("good", None):
        path.write_text(str(content))
    with pytest.raises(AnalyzerError) as caught:
        fetch(ClusterOptions(str(path), context), INVENTORY)
    assert isinstance(caught.value, UsageError), caught.value
    assert "--kubeconfig" in caught.value.hint


def test_a_server_that_is_busy_for_a_moment_is_asked_again(
    server: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_RETRIES", (0.01, 0.01))
    server.answers["/api/v1/pods"] = [status(429, "slow down"), status(500, "leader changed")]
    assert len(fetch(options(server, tmp_path), INVENTORY).documents) == 9
    server.answers["/api/v1/pods"] = [status(503, "no etcd") for _ in range(3)]
    with pytest.raises(SourceError, match="could not read pods: no etcd"):
        fetch(options(server, tmp_path), INVENTORY)


def test_a_list_that_grows_old_is_read_in_one_piece(server: KubernetesApi, tmp_path: Path) -> None:
    ordinary, expired = server._listed, [True]

    def listed(request: web.Request, objects: list[dict[str, Any]]) -> dict[str, Any]:
        if "continue" in request.query and expired:
            raise web.HTTPGone
        return ordinary(request, objects)

    server._listed = listed  # type: ignore[method-assign]
    found = fetch(options(server, tmp_path), INVENTORY)
    assert [each["kind"] for each in found.documents].count("Pod") == 6


def test_a_page_that_is_not_there_is_not_the_end(server: KubernetesApi, tmp_path: Path) -> None:
    ordinary = server._listed

    def listed(request: web.Request, objects: list[dict[str, Any]]) -> dict[str, Any]:
        if "continue" in request.query:
            raise web.HTTPNotFound
        return ordinary(request, objects)

    server._listed = listed  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="could not read pods: 404"):
        fetch(options(server, tmp_path), INVENTORY)


def test_what_is_no_kubernetes_api(server: KubernetesApi, tmp_path: Path) -> None:
    server.answers["/api/v1/namespaces"] = [web.Response(text="<html>", content_type="text/html")]
    with pytest.raises(SourceError, match=r"/api/v1/namespaces answers with text/html"):
        fetch(options(server, tmp_path), INVENTORY)


def test_groups_of_an_older_cilium(server: KubernetesApi, tmp_path: Path) -> None:
    server.objects["/apis/cilium.io/v2alpha1/ciliumcidrgroups"] = [thing("offices")]
    found = fetch(options(server, tmp_path), POLICIES)
    assert found.documents[-1]["apiVersion"] == "cilium.io/v2alpha1"
    assert "CiliumCIDRGroup" not in found.unknown


def test_flows_through_a_port_forward(tmp_path: Path) -> None:
    with ReplayServer(recording(50)) as relay:
        backend = int(relay.address.rpartition(":")[2])
        with KubernetesApi(objects(), backend=backend).serving() as server:
            forwarded = port_forward(options(server, tmp_path))
            with forwarded as address, closing(RelaySource(ServerOptions(address), Query())) as source:
                table = read([source])
            assert table.coverage.records == 50
            assert "/api/v1/namespaces/kube-system/pods/hubble-relay-1/portforward" in server.requests


def test_a_port_forward_without_relay(server: KubernetesApi, tmp_path: Path) -> None:
    server.objects["/api/v1/services"] = []
    with (
        pytest.raises(SourceError, match="no service hubble-relay in namespace kube-system"),
        port_forward(options(server, tmp_path)),
    ):
        pass


def test_a_port_forward_without_a_ready_pod(server: KubernetesApi, tmp_path: Path) -> None:
    server.objects["/api/v1/pods"] = []
    with pytest.raises(SourceError, match="no ready pod"), port_forward(options(server, tmp_path)):
        pass


FORWARD = "/api/v1/namespaces/kube-system/pods/hubble-relay-1/portforward"


def test_a_port_forward_that_is_forbidden(server: KubernetesApi, tmp_path: Path) -> None:
    server.refused.add(FORWARD)
    with (
        pytest.raises(SourceError, match=r"does not let you forward ports .*kube-system: .*no role") as caught,
        port_forward(options(server, tmp_path)),
    ):
        pass
    assert "pods/portforward" in caught.value.hint
    assert server.requests.count(FORWARD) == 2


def test_a_port_forward_to_a_port_that_is_taken(tmp_path: Path) -> None:
    with (
        ReplayServer(recording(1)) as relay,
        KubernetesApi(objects(), backend=int(relay.address.rpartition(":")[2])).serving() as server,
        pytest.raises(UsageError, match=r"port .* of this machine cannot be used: Address already in use"),
        port_forward(options(server, tmp_path), local_port=int(relay.address.rpartition(":")[2])),
    ):
        pass


def test_a_port_forward_logs_in_again_when_its_token_has_expired(tmp_path: Path) -> None:
    with ReplayServer(recording(50)) as relay:
        backend = int(relay.address.rpartition(":")[2])
        with KubernetesApi(objects(), backend=backend).serving() as server:
            how, news = options(server, tmp_path), list[str]()
            with port_forward(how, news=news.append) as address:
                server.tokens = {"another"}
                server.kubeconfig(tmp_path, token="another")
                with closing(RelaySource(ServerOptions(address), Query())) as source:
                    assert read([source]).coverage.records == 50
                server.refused.add(FORWARD)
                before = len(server.requests)
                with (
                    closing(RelaySource(ServerOptions(address, timeout=1.0), Query())) as source,
                    pytest.raises(SourceError),
                ):
                    read([source])
            assert len(server.requests) - before < 40
            assert [text for text in news if "does not let you forward ports" in text]


def test_a_port_forward_without_a_word_when_the_server_breaks(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ReplayServer(recording(50)) as relay:
        backend = int(relay.address.rpartition(":")[2])
        with (
            KubernetesApi(objects(), backend=backend).serving() as server,
            port_forward(options(server, tmp_path)) as address,
        ):
            source = RelaySource(ServerOptions(address, timeout=1.0), Query(follow=True, number=2**40))
            batches = source.batches()
            next(batches)
            server.break_off()
            source.close()
            list(batches)
    assert "Traceback" not in capfd.readouterr().err


def test_no_key_is_left_behind(server: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, scratch = Path(server.kubeconfig(tmp_path)), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    content = yaml.safe_load(path.read_text())
    authority = Path(content["clusters"][0]["cluster"].pop("certificate-authority"))
    content["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(authority.read_bytes()).decode()
    path.write_text(yaml.safe_dump(content))
    assert fetch(ClusterOptions(str(path)), INVENTORY).documents
    assert list(scratch.iterdir()) == []
