"""Messages, certificates and small servers that the tests of everything gRPC share."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import json_format

from analyzer.replay import ServerTls
from analyzer.sources.pb.observer import observer_pb2
from analyzer.sources.pb.pool import POOL

START = 1_700_000_000


def response(flow: dict[str, Any] | None = None, **envelope: Any) -> Any:
    """A GetFlowsResponse from its JSON form."""
    document = {**({"flow": flow} if flow is not None else {}), **envelope}
    return json_format.ParseDict(document, observer_pb2.GetFlowsResponse(), descriptor_pool=POOL)


def at(second: int) -> str:
    """A timestamp that many seconds after the start of the tests' traffic."""
    stamp = observer_pb2.GetFlowsResponse().time
    stamp.seconds = START + second
    return str(stamp.ToJsonString())


def some_flow(second: int, pod: str = "web-1", **fields: Any) -> dict[str, Any]:
    """A forwarded request in JSON form, the `second`-th of the recording."""
    return {
        "time": at(second),
        "uuid": f"u{second}",
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000 + second, "destination_port": 8080, "flags": {"SYN": True}}},
        "source": {"identity": 1000, "namespace": "shop", "labels": ["k8s:app=web"], "pod_name": pod},
        "destination": {"identity": 2000, "namespace": "db", "labels": ["k8s:app=db"], "pod_name": "db-0"},
        "Type": "L3_L4",
        "node_name": "node-1",
        "event_type": {"type": 4},
        "traffic_direction": "INGRESS",
        "trace_observation_point": "TO_ENDPOINT",
        "is_reply": False,
        **fields,
    }


def recording(count: int = 10, **fields: Any) -> list[Any]:
    """That many flows, a second apart."""
    return [
        response(some_flow(second, **fields), node_name="node-1", time=at(second)) for second in range(1, count + 1)
    ]


class Certificates(NamedTuple):
    """PEM files: two authorities, a server's certificate of the first, and a client's of each."""

    ca: Path
    other_ca: Path
    server: ServerTls
    mutual: ServerTls
    client: tuple[str, str]
    strange_client: tuple[str, str]


SERVER_NAME = "*.hubble-relay.cilium.io"


def make_certificates(folder: Path) -> Certificates:
    """Issue everything afresh with the openssl command."""
    ca, ca_key = _authority(folder, "ca")
    other, other_key = _authority(folder, "other")
    certificate, key = _issue(folder, "server", ca, ca_key, f"subjectAltName=DNS:{SERVER_NAME}")
    client = _issue(folder, "client", ca, ca_key, "subjectAltName=DNS:ui.hubble-relay.cilium.io")
    strange = _issue(folder, "strange", other, other_key, "subjectAltName=DNS:ui.hubble-relay.cilium.io")
    return Certificates(
        ca,
        other,
        ServerTls(certificate, key),
        ServerTls(certificate, key, client_ca=ca),
        (str(client[0]), str(client[1])),
        (str(strange[0]), str(strange[1])),
    )


_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _authority(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    _openssl("req", "-x509", *_CURVE, "-days", "2", "-subj", f"/CN={name}", "-keyout", key, "-out", certificate)
    return certificate, key


def _issue(folder: Path, name: str, ca: Path, ca_key: Path, extension: str) -> tuple[Path, Path]:
    certificate, key, request = folder / f"{name}.crt", folder / f"{name}.key", folder / f"{name}.csr"
    extensions = folder / f"{name}.ext"
    extensions.write_text(extension + "\n")
    _openssl("req", *_CURVE, "-subj", f"/CN={name}", "-keyout", key, "-out", request)
    signing = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
    _openssl("x509", "-req", "-in", request, *signing, "-out", certificate)
    return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@contextmanager
def closing(source: Any) -> Iterator[Any]:
    """Close a source when done with it."""
    try:
        yield source
    finally:
        source.close()
