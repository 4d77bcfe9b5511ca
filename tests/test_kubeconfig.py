"""Kubeconfig files as kubectl reads them; and what was named is never silently another cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzer.cluster import kubeconfig
from analyzer.cluster.kubeconfig import ClusterOptions, load
from analyzer.errors import UsageError


def document(name: str, **user: Any) -> dict[str, Any]:
    return {
        "current-context": name,
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}"}}],
        "users": [{"name": name, "user": user or {"token": f"{name}'s"}}],
    }


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files of whoever runs the tests, and no pod."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a pod with a service account."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def read(folder: Path, **options: str) -> dict[str, Any]:
    found = load(ClusterOptions(**options), folder)
    assert found is not None
    return found


def test_inside_a_pod_nothing_named_is_its_service_account(pod: None, tmp_path: Path) -> None:
    assert load(ClusterOptions(), tmp_path) is None


@pytest.mark.parametrize("options", [{"kubeconfig": "missing"}, {"context": "other"}])
def test_inside_a_pod_what_is_named_and_missing_is_not_the_pods_own_cluster(
    pod: None, tmp_path: Path, options: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match=r"no such file|no kubeconfig file that could name the context other"):
        load(ClusterOptions(**options), tmp_path)


def test_inside_a_pod_a_variable_that_names_nothing_is_told(
    pod: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    with pytest.raises(UsageError, match="/nowhere/config: no such file"):
        load(ClusterOptions(), tmp_path)


def test_a_context_without_a_cluster_is_not_the_pods_own(pod: None, tmp_path: Path) -> None:
    path = written(tmp_path / "config", {**document("a"), "contexts": [{"name": "a", "context": {"cluster": ""}}]})
    with pytest.raises(UsageError, match="the cluster '' of context a is not there"):
        load(ClusterOptions(str(path)), tmp_path)


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no cluster is configured: there is no ~/\.kube/config"):
        load(ClusterOptions(), tmp_path)


def test_several_files_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to say something wins, current-context included; files that are not there are passed over."""
    first, second = document("a"), document("b")
    del first["current-context"]
    second["clusters"].append({"name": "a", "cluster": {"server": "https://another"}})
    paths = [written(tmp_path / name, content) for name, content in (("1", first), ("2", second))]
    monkeypatch.setenv("KUBECONFIG", ":".join(["/nowhere", str(paths[0]), "", str(paths[1])]))
    assert read(tmp_path)["clusters"][0]["cluster"]["server"] == "https://b"
    assert read(tmp_path, context="a")["clusters"][0]["cluster"]["server"] == "https://a"


def test_the_usual_file(tmp_path: Path) -> None:
    written(tmp_path / "home" / ".kube" / "config", document("usual"))
    assert read(tmp_path)["current-context"] == "usual"


def test_files_are_meant_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = document("a", tokenFile="token", **{"client-certificate": "me.pem", "client-key": "/keys/me.key"})
    content["clusters"][0]["cluster"]["certificate-authority"] = "pki/ca.pem"
    path = written(tmp_path / "there" / "config", content)
    (tmp_path / "there" / "token").write_text("from-a-file\n")
    monkeypatch.chdir(tmp_path)
    found = read(tmp_path, kubeconfig="there/config")
    user, cluster = found["users"][0]["user"], found["clusters"][0]["cluster"]
    assert user == {
        "token": "from-a-file", "client-certificate": str(path.parent / "me.pem"), "client-key": "/keys/me.key",
    }  # fmt: skip
    assert cluster["certificate-authority"] == str(path.parent / "pki" / "ca.pem")


def test_a_login_plugin_beside_the_file(tmp_path: Path) -> None:
    plugin = written(tmp_path / "login.sh", "#!/bin/sh\n")
    plugin.chmod(0o755)
    path = written(tmp_path / "config", document("a", exec={"command": "./login.sh"}))
    command = read(tmp_path, kubeconfig=str(path))["users"][0]["user"]["exec"]["command"]
    assert Path(command).samefile(plugin)


def test_a_login_plugin_that_is_not_installed(tmp_path: Path) -> None:
    path = written(
        tmp_path / "config", document("a", exec={"command": "no-such-login", "installHint": "get it\nthere"})
    )
    with pytest.raises(UsageError, match=r"no-such-login .* is not installed") as caught:
        load(ClusterOptions(str(path)), tmp_path)
    assert caught.value.hint == "get it there"


def test_keys_in_the_file_go_nowhere_but_to_the_folder_given(tmp_path: Path) -> None:
    data = {f"client-{what}-data": base64.b64encode(what.encode()).decode() for what in ("key", "certificate")}
    path, folder = written(tmp_path / "config", document("a", **data)), tmp_path / "private"
    folder.mkdir()
    user = read(folder, kubeconfig=str(path))["users"][0]["user"]
    for what in ("key", "certificate"):
        file = Path(user[f"client-{what}"])
        assert (file.read_text(), file.parent, file.stat().st_mode & 0o077) == (what, folder, 0)
    assert "client-key-data" not in user


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is empty, and no kubeconfig"),
        ("- a", "not a kubeconfig: .*config"),
        ("a: [", "not a kubeconfig: .*config"),
        ({}, "does not say which context"),
        ({**document("a"), "current-context": "b"}, "names no context b"),
        ({**document("a"), "clusters": []}, "the cluster 'a' of context a is not there"),
        ({**document("a"), "users": []}, "the user 'a' of context a is not there"),
        ({**document("a"), "clusters": [{"name": "a", "cluster": {}}]}, "has no server"),
        ({**document("a"), "users": [{"user": {}}]}, "something in users has no name"),
        (document("a", **{"as": "admin"}), r"act as somebody else \(as\)"),
        (document("a", username="me", password="x"), "by password"),
        (document("a", tokenFile="nowhere"), "nowhere cannot be read"),
        (document("a", **{"client-key-data": "%%%"}), "client-key-data is not in base64"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path: Path, content: Any, words: str) -> None:
    path = written(tmp_path / "config", content)
    with pytest.raises(UsageError, match=words) as caught:
        load(ClusterOptions(str(path)), tmp_path)
    assert caught.value.hint


def test_one_context_needs_no_name(tmp_path: Path) -> None:
    content = document("only")
    del content["current-context"]
    assert read(tmp_path, kubeconfig=str(written(tmp_path / "config", content)))["current-context"] == "only"
