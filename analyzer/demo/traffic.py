"""records: everything that Hubble would write while the calls of a cluster are made for a day, in the order of time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from analyzer.demo.cluster import Call, Cluster, Fate, Outside, Party, Pod, Reserved, Workload
from analyzer.demo.packets import End, Packet, Seen, Writer
from analyzer.model.l4 import L4, Protocol

__all__ = ["records"]

START = datetime(2026, 9, 1, tzinfo=UTC)
DAY, HOUR = 86_400, 3_600
LATENCY = 0.0004
TO_ENDPOINT, TO_PROXY, TO_STACK, TO_OVERLAY, TO_NETWORK = 0, 1, 3, 4, 11
RETRANSMISSIONS = (0.0, 1.0, 3.0)
DNS = L4(Protocol.UDP, 53)

# (is a reply, flags, conntrack state): what remains of a TCP connection under Hubble's default aggregation.
HANDSHAKE = ((False, ("SYN",), "NEW"), (True, ("SYN", "ACK"), "REPLY"), (False, ("ACK", "FIN"), "ESTABLISHED"))
SHORT = ((False, ("SYN",), "NEW"), (True, ("SYN", "ACK"), "REPLY"))
EXCHANGE = ((False, (), "NEW"), (True, (), "REPLY"))
PACKETS = {
    Fate.RESET: ((False, ("SYN",), "NEW"), (True, ("RST", "ACK"), "REPLY")),
    Fate.IGNORED: ((False, ("SYN",), "NEW"),),
}
DROPS = {
    Fate.DENIED_BY_DEFAULT: (133, "POLICY_DENIED"),
    Fate.DENIED_BY_RULE: (181, "POLICY_DENY"),
    Fate.LOST: (155, "CT_MAP_INSERTION_FAILED"),
}
MANY = 100
"""Outside clients beyond this number leave fewer records each, to keep the demo short."""


def records(cluster: Cluster, seed: int = 1) -> Iterator[dict[str, Any]]:
    """JSON-shaped records as exporters write them, of all nodes, oldest first. The same arguments give the same records.

    Every call leaves traces on the nodes of both ends, policy verdicts where a policy selects the server, and DNS records where
    a policy shows the client's lookups; besides, there is what real captures are full of: socket events, neighbour discovery,
    a node's state, and events that were lost.
    """
    traffic = _Traffic(cluster, random.Random(seed))
    for call in cluster.calls:
        traffic.call(call)
    traffic.noise()
    return iter([record for _, _, record in sorted(traffic.found, key=lambda item: item[:2])])


class _Traffic:
    """Collects (seconds since the start, number, record)."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.found: list[tuple[float, int, dict[str, Any]]] = []
        self._cluster, self._chance = cluster, chance
        self._write = Writer(cluster.name, START, chance)
        self._pods = cluster.pods()
        self._node_ips = {node: f"172.18.0.{2 + number}" for number, node in enumerate(cluster.nodes)}
        self._dns = next((each for each in cluster.workloads if "dns" in each.ports), None)

    def call(self, call: Call) -> None:
        """All connections of a call, spread over the day or over its hour."""
        for number in range(call.count):
            at = self._chance.uniform(60, DAY - 60)
            if call.hour is not None:
                at = call.hour * HOUR + at * HOUR / DAY
            self._connection(call, at, number)

    def noise(self) -> None:
        """What is in every capture and is no traffic."""
        nodes = list(self._cluster.nodes)
        self._add(
            0.0,
            _envelope("node_status", {"state_change": "NODE_CONNECTED", "node_names": nodes}, "", self._write.time(0)),
        )
        lost = {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "12"}
        self._add(DAY / 3, _envelope("lost_events", lost, nodes[0], self._write.time(DAY / 3)))
        pods = [pod for pods in self._pods.values() for pod in pods]
        for number, pod in enumerate(pods[:20]):
            at = DAY * (number + 1) / 30
            self._translated(at, pod, pods[-1 - number])
            self._solicitation(at + 1, pod)

    def _connection(self, call: Call, at: float, number: int) -> None:
        client, server = self._end(call.client, at, number), self._end(call.server, at, number)
        client, server = self._on_node(client, server), self._on_node(server, client)
        if isinstance(call.client, Workload) and call.client.dns_visible:
            if call.l4 == DNS and call.server is self._dns:
                self._lookup(at, client, server, f"{call.client.name}.{call.client.namespace}.svc.cluster.local.", ())
                return
            if isinstance(call.server, Outside) and call.server.name and self._dns is not None:
                resolver = self._end(self._dns, at, number)
                self._lookup(at - 0.05, client, resolver, f"{call.server.name}.", (server.ip,))
                server = server._replace(name=call.server.name)
        port = self._chance.randrange(32_768, 60_999)
        if call.fate in DROPS:
            for later in RETRANSMISSIONS:
                self._dropped(at + later, call, Packet(client, server, call.l4, port, flags=("SYN",)))
            return
        for number_of_packet, (reply, flags, state) in enumerate(_packets(call)):
            packet = Packet(client, server, call.l4, port, reply, flags)
            self._packet(at + number_of_packet * 3 * LATENCY, packet, state, call.fate)

    def _packet(self, at: float, packet: Packet, state: str, fate: Fate) -> None:
        """Traces on the sender's and on the receiver's node, and a policy verdict on the first packet's delivery."""
        sender, receiver = (packet.server, packet.client) if packet.reply else (packet.client, packet.server)
        if sender.node and sender.node != receiver.node:
            self._trace(at, packet, sender.node, _way_out(receiver), state)
        if not receiver.node:
            return
        if state == "NEW" and _enforced(packet.server):
            verdict = "AUDIT" if fate is Fate.AUDITED else "FORWARDED"
            allowed: dict[str, Any] = (
                {} if verdict == "AUDIT" else {"policy_match_type": 2, "ingress_allowed_by": [_policy(packet.server)]}
            )
            fields = {"event_type": {"type": 5}, "traffic_direction": "INGRESS", "is_reply": False, **allowed}
            self._record(at + LATENCY, packet, Seen(receiver.node, fields, verdict))
        self._trace(at + LATENCY * 1.1, packet, receiver.node, TO_ENDPOINT, state)

    def _dropped(self, at: float, call: Call, packet: Packet) -> None:
        """A packet dropped on the server's node: a denied verdict, unless it is no policy that drops, and the drop itself."""
        reason, name = DROPS[call.fate]
        common: dict[str, Any] = {"drop_reason": reason, "traffic_direction": "INGRESS", "drop_reason_desc": name}
        if packet.client.node and packet.client.node != packet.server.node:
            self._trace(at, packet, packet.client.node, TO_OVERLAY, "NEW")
        node = packet.server.node
        if call.fate is not Fate.LOST:
            denied = {"policy_match_type": 1, "ingress_denied_by": [_policy(packet.server)]} if reason == 181 else {}
            self._record(at + LATENCY, packet, Seen(node, {**common, "event_type": {"type": 5}, **denied}, "DROPPED"))
        fields = {**common, "event_type": {"type": 1, "sub_type": reason}, "file": {"name": "bpf_lxc.c", "line": 2059}}
        self._record(at + LATENCY * 1.1, packet, Seen(node, fields, "DROPPED"))

    def _lookup(self, at: float, client: End, resolver: End, name: str, ips: tuple[str, ...]) -> None:
        """A lookup through the DNS proxy: it goes on to the resolver from the node's address, with the client's identity."""
        port, node = self._chance.randrange(32_768, 60_999), client.node
        asked = Packet(client, resolver, DNS, port)
        redirected = {
            "event_type": {"type": 5},
            "traffic_direction": "EGRESS",
            "policy_match_type": 2,
            "is_reply": False,
        }
        self._record(at, asked, Seen(node, redirected, "REDIRECTED"))
        self._trace(at + LATENCY, asked, node, TO_PROXY, "NEW")
        question = {"query": name, "observation_source": "proxy", "qtypes": ["A"]}
        self._l7(at + 2 * LATENCY, asked, {"type": "REQUEST", "dns": question})
        relayed = Packet(client._replace(ip=self._node_ips[node]), resolver, DNS, port)
        self._trace(at + 3 * LATENCY, relayed, resolver.node, TO_ENDPOINT, "NEW")
        self._trace(at + 4 * LATENCY, relayed._replace(reply=True), resolver.node, TO_OVERLAY, "REPLY")
        answer = {**question, "ips": list(ips or ("10.96.0.20",)), "ttl": 30, "rrtypes": ["A"]}
        self._l7(
            at + 5 * LATENCY, asked._replace(reply=True), {"type": "RESPONSE", "latency_ns": "812034", "dns": answer}
        )
        self._trace(at + 6 * LATENCY, asked._replace(reply=True), node, TO_ENDPOINT, "REPLY")

    def _l7(self, at: float, packet: Packet, l7: dict[str, Any]) -> None:
        fields = {"l7": l7, "event_type": {"type": 129}, "traffic_direction": "EGRESS", "is_reply": packet.reply}
        self._record(at, packet, Seen(packet.client.node, fields))

    def _translated(self, at: float, pod: Pod, backend: Pod) -> None:
        """What the socket load balancer reports: a service's address before, its backend after translation."""
        packet = Packet(End(pod, pod.ip), End(backend, backend.ip), L4(Protocol.TCP, 8080), 0)
        fields = {
            "event_type": {"type": 7},
            "sock_xlate_point": "SOCK_XLATE_POINT_POST_DIRECTION_FWD",
            "socket_cookie": "24670",
        }
        self._record(at, packet, Seen(pod.node, fields, "TRANSLATED"))

    def _solicitation(self, at: float, pod: Pod) -> None:
        """A router solicitation, which Cilium drops as coming from an address that is not the pod's."""
        packet = Packet(End(pod, "fe80::1"), End(Outside(("ff02::2",)), "ff02::2"), L4(Protocol.ICMPV6, 133), 0)
        fields = {
            "drop_reason": 132, "event_type": {"type": 1, "sub_type": 132}, "traffic_direction": "EGRESS",
            "drop_reason_desc": "INVALID_SOURCE_IP",
        }  # fmt: skip
        self._record(at, packet, Seen(pod.node, fields, "DROPPED"))

    def _end(self, party: Party, at: float, number: int) -> End:
        if isinstance(party, Workload):
            rollout = int(at / DAY * max(1, len(party.rollouts)))
            pod = self._chance.choice([pod for pod in self._pods[str(party)] if pod.rollout == rollout])
            return End(pod, pod.ip)
        if isinstance(party, Reserved):
            return End(party, party.ip)
        return End(party, party.addresses[number % len(party.addresses)])

    def _on_node(self, end: End, other: End) -> End:
        """The host is the node that the pod at the other end runs on, under that node's address."""
        host = isinstance(end.party, Reserved) and end.party.entity == "host"
        return end._replace(ip=self._node_ips[other.node]) if host and other.node else end

    def _trace(self, at: float, packet: Packet, node: str, point: int, state: str) -> None:
        self._add(at, self._write.trace(at, packet, node, point, state))

    def _record(self, at: float, packet: Packet, seen: Seen) -> None:
        self._add(at, self._write.record(at, packet, seen))

    def _add(self, at: float, record: dict[str, Any]) -> None:
        self.found.append((at, len(self.found), record))


def _packets(call: Call) -> tuple[tuple[bool, tuple[str, ...], str], ...]:
    if call.fate in PACKETS:
        return PACKETS[call.fate]
    if call.l4.protocol is not Protocol.TCP:
        return EXCHANGE
    return SHORT if isinstance(call.client, Outside) and len(call.client.addresses) > MANY else HANDSHAKE


def _way_out(receiver: End) -> int:
    if isinstance(receiver.party, Pod):
        return TO_OVERLAY
    return TO_NETWORK if isinstance(receiver.party, Outside) else TO_STACK


def _enforced(server: End) -> bool:
    return isinstance(server.party, Pod) and server.party.workload.enforced


def _policy(server: End) -> dict[str, Any]:
    """The policy that selects an enforced server, as policy verdicts name it."""
    assert isinstance(server.party, Pod)
    workload = server.party.workload
    prefix = "k8s:io.cilium.k8s.policy"
    labels = [
        f"{prefix}.derived-from=CiliumNetworkPolicy",
        f"{prefix}.name={workload.name}",
        f"{prefix}.namespace={workload.namespace}",
    ]
    return {
        "name": workload.name,
        "namespace": workload.namespace,
        "labels": labels,
        "revision": "2",
        "kind": "CiliumNetworkPolicy",
    }


def _envelope(kind: str, body: dict[str, Any], node: str, time: str) -> dict[str, Any]:
    return {kind: body, **({"node_name": node} if node else {}), "time": time}
