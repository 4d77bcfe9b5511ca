"""Records of single packets, shaped as Hubble's exporter writes them: ends, layer 4, where it was seen and what became of it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zlib import crc32

from analyzer.demo.cluster import Outside, Pod, Reserved
from analyzer.model.l4 import L4, Protocol

__all__ = ["End", "Packet", "Seen", "Writer"]

_TCP, _ECHO_REQUEST = Protocol.TCP, 8
_RESERVED_IDS = {"host": 1, "remote-node": 6, "kube-apiserver": 7, "ingress": 8}
_RESERVED_LABELS = {"kube-apiserver": ["reserved:kube-apiserver", "reserved:remote-node"]}
_WORLD_ID, _LOCAL_SCOPE = 2, 1 << 24
_POINTS = {0: "TO_ENDPOINT", 1: "TO_PROXY", 3: "TO_STACK", 4: "TO_OVERLAY", 11: "TO_NETWORK"}
_INTERFACES = {0: "lxc1a237d3e277a", 1: "cilium_net", 3: "cilium_host", 4: "cilium_vxlan", 11: "eth0"}
_NODE_LABELS = (
    "beta.kubernetes.io/arch=amd64",
    "beta.kubernetes.io/os=linux",
    "kubernetes.io/arch=amd64",
    "kubernetes.io/os=linux",
)
_EMITTER = {"name": "Hubble", "version": "1.20.1+g7d68cfb3"}
_L4_KEYS = {
    Protocol.TCP: "TCP",
    Protocol.UDP: "UDP",
    Protocol.SCTP: "SCTP",
    Protocol.ICMP: "ICMPv4",
    Protocol.ICMPV6: "ICMPv6",
}


class End(NamedTuple):
    """One end of a connection: a pod, a reserved peer or an outside one, with the address it has here and the DNS name by which
    the other end looked it up."""

    party: Pod | Reserved | Outside
    ip: str
    name: str = ""

    @property
    def node(self) -> str:
        """Where its agent runs; empty for all but pods."""
        return self.party.node if isinstance(self.party, Pod) else ""


class Packet(NamedTuple):
    """One packet of a connection from `client` to `server`. `flags` are TCP's, by name."""

    client: End
    server: End
    l4: L4
    client_port: int
    reply: bool = False
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation: on which node, with which fields of the event besides those that come from the packet."""

    node: str
    fields: dict[str, Any] = field(default_factory=dict)
    verdict: str = "FORWARDED"


class Writer:
    """Writes records of one cluster. The random numbers are for ids only."""

    def __init__(self, cluster: str, start: datetime, chance: random.Random) -> None:
        self._cluster, self._start, self._chance = cluster, start, chance
        self._addresses: dict[str, int] = {}

    def time(self, seconds: float) -> str:
        """RFC 3339, counted from the start."""
        moment = self._start + timedelta(microseconds=round(seconds * 1e6))
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z"

    def trace(self, at: float, packet: Packet, node: str, point: int, reason: str) -> dict[str, Any]:
        """The trace of a packet at an observation point. The direction is what current agents write: on a request's delivery it
        says EGRESS at the server's node too."""
        local_client = packet.client.node == node
        fields: dict[str, Any] = {
            "event_type": {"type": 4, **({"sub_type": point} if point else {})},
            "traffic_direction": "INGRESS" if packet.reply and not local_client else "EGRESS",
            "trace_observation_point": _POINTS[point],
            "trace_reason": reason,
            "is_reply": packet.reply,
            "interface": {"index": 7 + point, "name": _INTERFACES[point]},
        }
        return self.record(at, packet, Seen(node, fields))

    def record(self, at: float, packet: Packet, seen: Seen) -> dict[str, Any]:
        """The record of a packet as one observation of it."""
        ends = (packet.server, packet.client) if packet.reply else (packet.client, packet.server)
        reasons = {key: seen.fields[key] for key in ("drop_reason",) if key in seen.fields}
        rest = {key: value for key, value in seen.fields.items() if key not in reasons}
        l4 = _l4(packet)
        flow: dict[str, Any] = {
            "time": self.time(at),
            "uuid": self._uuid(),
            "emitter": _EMITTER,
            "verdict": seen.verdict,
            **reasons,
            **({"ethernet": self._ethernet(ends)} if "l7" not in seen.fields else {}),
            "IP": {
                "source": ends[0].ip,
                "destination": ends[1].ip,
                "ipVersion": "IPv6" if ":" in ends[0].ip else "IPv4",
            },
            "l4": l4,
            "source": self._endpoint(ends[0], seen.node),
            "destination": self._endpoint(ends[1], seen.node),
            "Type": "L7" if "l7" in seen.fields else "L3_L4",
            "node_name": seen.node,
            "node_labels": [*_NODE_LABELS[:3], f"kubernetes.io/hostname={seen.node}", *_NODE_LABELS[3:]],
            **_names(packet, seen.node),
            **rest,
            "Summary": _summary(packet),
        }
        return {"flow": flow, "node_name": seen.node, "time": flow["time"]}

    def _endpoint(self, end: End, node: str) -> dict[str, Any]:
        party = end.party
        if isinstance(party, Reserved):
            return {
                "identity": _RESERVED_IDS[party.entity],
                "labels": _RESERVED_LABELS.get(party.entity, [f"reserved:{party.entity}"]),
            }
        if isinstance(party, Outside):
            if not end.name:
                return {"identity": _WORLD_ID, "labels": ["reserved:world"]}
            number = self._addresses.setdefault(end.ip, len(self._addresses))
            return {"identity": _LOCAL_SCOPE + number, "labels": [f"cidr:{end.ip}/32", "reserved:world"]}
        workload, local = party.workload, party.node == node
        labels = workload.label_sets(self._cluster)[party.rollout]
        proxied = end.ip != party.ip
        return {
            **({"ID": party.endpoint_id} if local else {}),
            "identity": party.identity,
            "cluster_name": self._cluster,
            "namespace": workload.namespace,
            "labels": list(labels),
            **({} if proxied and not local else {"pod_name": party.name}),
            **(
                {"workloads": [{"name": workload.name, "kind": workload.kind}]}
                if local and workload.kind != "Pod"
                else {}
            ),
        }

    def _uuid(self) -> str:
        digits = f"{self._chance.getrandbits(128):032x}"
        return "-".join((digits[:8], digits[8:12], "4" + digits[13:16], "a" + digits[17:20], digits[20:]))

    def _ethernet(self, ends: tuple[End, End]) -> dict[str, str]:
        return {"source": _mac(ends[0].ip), "destination": _mac(ends[1].ip)}


def _mac(ip: str) -> str:
    return f"86:75:{crc32(ip.encode()).to_bytes(4).hex(':')}"


def _l4(packet: Packet) -> dict[str, Any]:
    protocol = packet.l4.protocol
    if protocol.is_icmp:
        # An echo reply is type 0, and zero values are not written.
        return {_L4_KEYS[protocol]: {} if packet.reply else {"type": packet.l4.port}}
    ports = (packet.l4.port, packet.client_port) if packet.reply else (packet.client_port, packet.l4.port)
    body: dict[str, Any] = {"source_port": ports[0], "destination_port": ports[1]}
    if protocol is _TCP:
        body["flags"] = dict.fromkeys(packet.flags, True)
    return {_L4_KEYS[protocol]: body}


def _names(packet: Packet, node: str) -> dict[str, list[str]]:
    """DNS names are known on the client's node only, to the agent whose proxy answered."""
    if not packet.server.name or packet.client.node != node:
        return {}
    return {"source_names" if packet.reply else "destination_names": [packet.server.name]}


def _summary(packet: Packet) -> str:
    protocol = packet.l4.protocol
    if protocol is _TCP:
        return f"TCP Flags: {', '.join(packet.flags)}"
    if protocol.is_icmp:
        return f"{_L4_KEYS[protocol]} {'EchoReply' if packet.reply else 'EchoRequest'}"
    return _L4_KEYS[protocol]
