"""Lines as Hubble's exporter writes them, for the tests of the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["exported", "shop", "write_lines"]

START = 1_790_000_000
NAMESPACE_LABEL = "k8s:io.kubernetes.pod.namespace"


def _end(name: str, namespace: str = "shop", number: int = 1) -> dict[str, Any]:
    if not namespace:
        return {"identity": 2, "labels": ["reserved:world"]}
    return {
        "ID": number, "identity": 1000 + number, "namespace": namespace, "pod_name": f"{name}-5d9c7b6f4-abcde",
        "labels": [f"k8s:app={name}", f"{NAMESPACE_LABEL}={namespace}", "k8s:io.cilium.k8s.policy.cluster=default"],
        "workloads": [{"name": name, "kind": "Deployment"}],
    }  # fmt: skip


def exported(
    source: str, destination: str, port: int, *, second: int = 0, verdict: str = "FORWARDED", reply: bool = False,
    source_namespace: str = "shop", namespace: str = "shop",
) -> dict[str, Any]:  # fmt: skip
    """One flow of a TCP connection, as the exporter writes it."""
    ends = [_end(source, source_namespace, 1), _end(destination, namespace, 2)]
    addresses, ports = ["10.0.1.5", "10.0.1.6"], [45678, port]
    if not source_namespace:
        addresses[0] = "198.51.100.7"
    if not namespace:
        addresses[1] = "203.0.113.9"
    if reply:
        ends, addresses, ports = ends[::-1], addresses[::-1], ports[::-1]
    flags = {"SYN": True, "ACK": True} if reply else {"SYN": True}
    flow: dict[str, Any] = {
        "time": f"2026-09-21T14:13:{20 + second % 40:02d}.000000000Z", "uuid": f"{source}-{destination}-{port}-{second}-{reply}",
        "verdict": verdict, "IP": {"source": addresses[0], "destination": addresses[1], "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": ports[0], "destination_port": ports[1], "flags": flags}},
        "source": ends[0], "destination": ends[1], "Type": "L3_L4", "node_name": "node-1",
        "event_type": {"type": 4, "sub_type": 0}, "traffic_direction": "INGRESS", "trace_observation_point": "TO_ENDPOINT",
        "is_reply": reply, "trace_reason": "REPLY" if reply else "NEW",
    }  # fmt: skip
    if verdict == "DROPPED":
        flow |= {"drop_reason": 133, "drop_reason_desc": "POLICY_DENIED", "event_type": {"type": 1, "sub_type": 133}}
        flow.pop("is_reply")
        flow.pop("trace_reason")
    return {"flow": flow, "node_name": "node-1", "time": flow["time"]}


def shop() -> list[dict[str, Any]]:
    """Three accepted connections and a dropped one."""
    records = []
    for source, destination, port in (("web", "cart", 8080), ("cart", "redis", 6379), ("web", "catalog", 9090)):
        records += [exported(source, destination, port, reply=reply) for reply in (False, True)]
    return [*records, exported("cart", "payroll", 5432, verdict="DROPPED")]


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
    return path
