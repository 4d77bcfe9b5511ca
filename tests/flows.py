"""Flows by hand, for tests: `pod`, `tcp`, `udp`, `icmp` with Cilium's defaults filled in."""

from __future__ import annotations

from typing import Any

from analyzer.model.flow import EventKind, Flow, FlowEndpoint, Form, KeptForm, TcpFlags, TraceReason, Verdict, Workload
from analyzer.model.l4 import Protocol
from analyzer.model.labels import Labels

START = 1_788_220_800_000_000_000  # 2026-09-01T00:00:00Z
SYN, ACK, SYN_ACK, RST = TcpFlags.SYN, TcpFlags.ACK, TcpFlags.SYN | TcpFlags.ACK, TcpFlags.RST | TcpFlags.ACK

WORLD = FlowEndpoint(Labels.of(["reserved:world"]), identity=2)
HOST = FlowEndpoint(Labels.of(["reserved:host"]), identity=1)
REMOTE_NODE = FlowEndpoint(Labels.of(["reserved:remote-node"]), identity=6)
API_SERVER = FlowEndpoint(Labels.of(["reserved:kube-apiserver", "reserved:remote-node"]), identity=7)


def pod(app: str, namespace: str = "shop", *, number: int = 0, local: bool = True, **labels: str) -> FlowEndpoint:
    """A pod; `local` pods have an endpoint id and workloads, as their own node reports them."""
    named = {
        "app": app,
        "io.cilium.k8s.policy.cluster": "default",
        "io.kubernetes.pod.namespace": namespace,
        **{key.replace("__", "/").replace("_", "-"): value for key, value in labels.items()},
    }
    return FlowEndpoint(
        Labels.of(f"k8s:{key}={value}" for key, value in named.items()),
        namespace,
        "default",
        f"{app}-7d4b9c6f5-{number:05d}",
        (Workload("Deployment", app),) if local else (),
        number + 100 if local else 0,
        1000 + sum(map(ord, app + namespace)),
    )


def remote(endpoint: FlowEndpoint) -> FlowEndpoint:
    """The same pod as another node reports it."""
    return endpoint._replace(workloads=(), endpoint_id=0)


def kept(flow: Flow) -> Flow:
    """The flow as decoders that keep forms hand it on: with the very object that other flows of the form have."""
    return flow._replace(form=_FORMS.setdefault(flow.form, KeptForm(*flow.form)))


_FORMS: dict[Form, KeptForm] = {}


def flow_of(**values: Any) -> Flow:
    """A flow by the names of its own fields and those of its form."""
    own = {name: values.pop(name) for name in list(values) if name in Flow._fields}
    return Flow(**{"uuid": "", **own}, form=Form(**values))


def tcp(
    source: FlowEndpoint, destination: FlowEndpoint, port: int, *, reply: bool | None = False, **changes: Any
) -> Flow:
    """A packet of a connection from `source` to `destination`:`port`; with ``reply=True`` the packet runs back.

    By default an ACK past the handshake, forwarded, traced where it is delivered.
    """
    client_port = changes.pop("client_port", 40_000)
    values: dict[str, Any] = {
        "time": START,
        "node": "node-1",
        "source": source,
        "destination": destination,
        "source_ip": "10.0.0.1",
        "destination_ip": "10.0.0.2",
        "protocol": Protocol.TCP,
        "source_port": client_port,
        "destination_port": port,
        "tcp_flags": ACK,
        "verdict": Verdict.FORWARDED,
        "kind": EventKind.TRACE,
        "sub_type": 0,
        "drop_reason": 0,
        "direction": 0,
        "is_reply": reply,
        "trace_reason": {False: TraceReason.ESTABLISHED, True: TraceReason.REPLY, None: 0}[reply],
        **changes,
    }
    if reply:
        for one, other in (
            ("source", "destination"),
            ("source_ip", "destination_ip"),
            ("source_port", "destination_port"),
        ):
            values[one], values[other] = values[other], values[one]
    return flow_of(**values)


def udp(source: FlowEndpoint, destination: FlowEndpoint, port: int, **changes: Any) -> Flow:
    """As `tcp`, for UDP."""
    return tcp(source, destination, port, **{"protocol": Protocol.UDP, "tcp_flags": 0, **changes})


def icmp(source: FlowEndpoint, destination: FlowEndpoint, kind: int, **changes: Any) -> Flow:
    """An ICMP message of type `kind`."""
    return udp(source, destination, kind, **{"protocol": Protocol.ICMP, "client_port": 0, **changes})


def drop(source: FlowEndpoint, destination: FlowEndpoint, port: int, reason: int = 133, **changes: Any) -> Flow:
    """A dropped SYN as the datapath reports it: no `is_reply`, no trace reason."""
    values = {
        "reply": None,
        "tcp_flags": SYN,
        "verdict": Verdict.DROPPED,
        "kind": EventKind.DROP,
        "sub_type": reason,
        "drop_reason": reason,
        "direction": 1,
        **changes,
    }
    return tcp(source, destination, port, **values)
