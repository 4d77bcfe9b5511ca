"""Which cluster is meant, and who we are there: kubeconfig files as kubectl reads them, or the service account of our pod."""

from __future__ import annotations

import base64
import binascii
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.errors import ManifestError, UsageError

__all__ = ["SERVICE_ACCOUNT", "ClusterOptions", "load"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the credentials of its service account."""
_HINT = "name --kubeconfig and --kube-context, or run inside the cluster"
_KINDS = (("clusters", "cluster"), ("users", "user"), ("contexts", "context"))
_FILES = {"cluster": ("certificate-authority",), "user": ("client-certificate", "client-key", "tokenFile")}
"""What names files, which are meant relative to the kubeconfig file that names them."""

_Named = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Which cluster: a kubeconfig file and a context in it, both by default what kubectl would take; inside a pod, where neither
    is named and there is no file, its service account. `namespace` is where Cilium runs."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = "kube-system"


def load(options: ClusterOptions, folder: Path) -> dict[str, Any] | None:
    """The cluster, the user and the context that count, as a kubeconfig of their own; None for the pod's service account.

    Several files in KUBECONFIG are one, in which the first to name something wins. Keys and certificates that are written in
    them go to files in `folder`, which should be private. Raises UsageError: what was named is never silently another cluster.
    """
    paths = _paths(options)
    if not paths:
        if options.context:
            raise UsageError(f"there is no kubeconfig file that could name the context {options.context}", hint=_HINT)
        if SERVICE_ACCOUNT.is_dir() and "KUBERNETES_SERVICE_HOST" in os.environ:
            return None
        raise UsageError("no cluster is configured: there is no ~/.kube/config, and this is no pod", hint=_HINT)
    where = ", ".join(map(str, paths))
    merged: dict[str, _Named] = {kind: {} for _, kind in _KINDS}
    current = ""
    for path in paths:
        document = _read(path)
        current = current or str(document.get("current-context") or "")
        for plural, kind in _KINDS:
            for name, entry in _entries(path, document, plural, kind):
                merged[kind].setdefault(name, entry)
    name = _context_name(options.context or current, merged["context"], where)
    context = merged["context"][name]
    cluster = _of(context, "cluster", name, merged["cluster"], where)
    user = _of(context, "user", name, merged["user"], where) if context.get("user") else {}
    if not isinstance(cluster.get("server"), str):
        raise UsageError(f"{where}: the cluster of context {name} has no server", hint=_HINT)
    _check(user, where)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "contexts": [{"name": name, "context": {**context, "cluster": name, "user": name}}],
        "clusters": [{"name": name, "cluster": _in_files(cluster, ("certificate-authority",), folder, where)}],
        "users": [{"name": name, "user": _in_files(_token(user), ("client-certificate", "client-key"), folder, where)}],
    }


def _paths(options: ClusterOptions) -> list[Path]:
    if options.kubeconfig:
        path = Path(options.kubeconfig).expanduser()
        if not path.exists():
            raise UsageError(f"{path}: no such file", hint="check --kubeconfig")
        return [path]
    named = [Path(each).expanduser() for each in os.environ.get("KUBECONFIG", "").split(os.pathsep) if each]
    found = [path for path in named or [Path("~/.kube/config").expanduser()] if path.exists()]
    if named and not found:
        raise UsageError(f"{', '.join(map(str, named))}: no such file", hint="check KUBECONFIG")
    return found


def _read(path: Path) -> dict[str, Any]:
    from analyzer.manifests import load as load_documents

    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a kubeconfig", hint="check --kubeconfig")
    try:
        documents = list(load_documents([path]))
    except ManifestError as error:
        raise UsageError(f"not a kubeconfig: {error}", hint="check --kubeconfig") from error
    if not documents:
        raise UsageError(f"{path} is empty, and no kubeconfig", hint="check --kubeconfig")
    return dict(documents[0].data)


def _entries(path: Path, document: Mapping[str, Any], plural: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of what a file lists, its file names made absolute."""
    for each in document.get(plural) or ():
        if not isinstance(each, dict) or not isinstance(each.get("name"), str):
            raise UsageError(f"{path} is no kubeconfig: something in {plural} has no name", hint="check --kubeconfig")
        entry = each.get(kind) or {}
        if not isinstance(entry, dict):
            raise UsageError(
                f"{path} is no kubeconfig: {each['name']} in {plural} is no object", hint="check --kubeconfig"
            )
        entry = dict(entry)
        for key in _FILES.get(kind, ()):
            if entry.get(key):
                entry[key] = str(path.absolute().parent / str(entry[key]))
        if isinstance(entry.get("exec"), dict):
            command = str(entry["exec"].get("command") or "")
            if os.path.dirname(command):
                command = str(path.absolute().parent / command)
            entry["exec"] = {"apiVersion": "client.authentication.k8s.io/v1", **entry["exec"], "command": command}
        yield each["name"], entry


def _context_name(wanted: str, contexts: _Named, where: str) -> str:
    if not wanted and len(contexts) == 1:
        return next(iter(contexts))
    if wanted in contexts:
        return wanted
    known = f"--kube-context names one of {', '.join(sorted(contexts))}" if contexts else _HINT
    problem = f"names no context {wanted}" if wanted else "does not say which context to use"
    raise UsageError(f"{where} {problem}", hint=f"{known}; --kubeconfig another file")


def _of(context: Mapping[str, Any], kind: str, name: str, known: _Named, where: str) -> dict[str, Any]:
    wanted = str(context.get(kind) or "")
    if wanted not in known:
        raise UsageError(f"{where}: the {kind} {wanted!r} of context {name} is not there", hint=_HINT)
    return known[wanted]


def _check(user: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for what would be left out of account, and so be somebody else."""
    for key in ("as", "as-uid", "as-groups", "as-user-extra"):
        if user.get(key):
            raise UsageError(
                f"{where} lets its user act as somebody else ({key}), which is not supported",
                hint="use a token of that account: kubectl create token",
            )
    if user.get("username"):
        raise UsageError(
            f"{where} logs in by password, which Kubernetes has no more", hint="use a token or a certificate"
        )
    plugin = user.get("exec")
    if plugin and not shutil.which(plugin["command"]):
        raise UsageError(
            f"the login plugin {plugin['command'] or '(no name)'} of {where} is not installed",
            hint=" ".join(str(plugin.get("installHint") or "install it, or put it into PATH").split()),
        )


def _token(user: Mapping[str, Any]) -> dict[str, Any]:
    """The user with the token that a file has, which comes before a token that is written down."""
    rest = {key: value for key, value in user.items() if key != "tokenFile"}
    if "tokenFile" not in user:
        return rest
    try:
        return {**rest, "token": Path(user["tokenFile"]).read_text().strip()}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{user['tokenFile']} cannot be read: {error}", hint="check the kubeconfig's tokenFile"
        ) from error


def _in_files(entry: dict[str, Any], keys: tuple[str, ...], folder: Path, where: str) -> dict[str, Any]:
    """The entry with certificates and keys in files of `folder`: kr8s would leave them in the folder for temporary files."""
    entry = dict(entry)
    for key in keys:
        data = entry.pop(f"{key}-data", None)
        if not data:
            continue
        try:
            content = data.encode() if "-----" in data else base64.b64decode(data, validate=True)
        except (AttributeError, binascii.Error, ValueError) as error:
            raise UsageError(f"{where}: {key}-data is not in base64", hint="check --kubeconfig") from error
        descriptor, entry[key] = tempfile.mkstemp(dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    return entry
