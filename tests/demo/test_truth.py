"""The whole path against known truth: what was simulated is what is found, and the policies allow that and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import pytest

from analyzer.aggregate import aggregate
from analyzer.demo import CLUSTER, Cluster, Fate, Outside, TrueEdge, Truth, generated_cluster, records, truth
from analyzer.graph import service_graph
from analyzer.model.edge import EdgeTable, Status
from analyzer.model.flow import Direction
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.recommend import Proposal, recommend
from analyzer.settle import settle
from analyzer.sources.decode import Decoder
from tests.oracle.engine import decide_between
from tests.oracle.rules import rules_of
from tests.oracle.world import Party, World

CLUSTERS = {
    "story-1": (CLUSTER, 1),
    "story-2": (CLUSTER, 2),
    **{f"generated-{n}": (generated_cluster(n, 20), n) for n in (1, 2, 3)},
}
FAILED = {
    Fate.DENIED_BY_DEFAULT: {Status.DROPPED},
    Fate.DENIED_BY_RULE: {Status.DENIED},
    Fate.LOST: {Status.UNANSWERED, Status.INFRASTRUCTURE},
    Fate.IGNORED: {Status.UNANSWERED},
    Fate.RESET: {Status.UNANSWERED},
}
NEVER_SEEN = (
    L4(Protocol.TCP, 31),
    L4(Protocol.TCP, 50_000),
    L4(Protocol.UDP, 53),
    L4(Protocol.SCTP, 3868),
    L4(Protocol.ICMP, 0),
)
EVERY_CLUSTER = pytest.mark.parametrize("name", CLUSTERS)


def table_of(cluster: Cluster, seed: int) -> EdgeTable:
    decode = Decoder().decode
    return aggregate(decode(json.dumps(record).encode()) for record in records(cluster, seed))


@lru_cache
def proposed(name: str) -> Proposal:
    return recommend(settle(table_of(*CLUSTERS[name])))


@EVERY_CLUSTER
def test_every_true_connection_is_found_with_its_fate_and_no_other(name: str) -> None:
    cluster, seed = CLUSTERS[name]
    known = truth(cluster)
    statuses = {
        TrueEdge(str(source), str(destination), L4.parse(l4)): {Status(each) for each in data["statuses"]}
        for source, destination, l4, data in service_graph(settle(table_of(cluster, seed))).edges(keys=True, data=True)
    }
    renamed = {_as_seen(known, edge): edge for edge in (*known.accepted, *known.refused)}
    assert {edge for edge, found in statuses.items() if found <= {Status.FORWARDED, Status.AUDITED}} == {
        seen for seen, edge in renamed.items() if edge in known.accepted
    }
    for seen, edge in renamed.items():
        if edge in known.refused:
            assert statuses[seen] <= FAILED[known.refused[edge]], edge


def _as_seen(known: Truth, edge: TrueEdge) -> TrueEdge:
    """A name that no DNS policy shows is its address to everybody."""
    client, server = known.parties[edge.source], known.parties[edge.destination]
    if isinstance(server, Outside) and server.name and not getattr(client, "dns_visible", False):
        return edge._replace(destination=server.addresses[0])
    return edge


@EVERY_CLUSTER
def test_every_accepted_true_edge_is_allowed_on_both_sides(name: str) -> None:
    known, judge = truth(CLUSTERS[name][0]), judge_of(name)
    for edge in sorted(known.accepted):
        for one, other in product(judge.parties(edge.source), judge.parties(edge.destination)):
            assert judge.decide(one, other, edge.l4) in ("AA", "AR", "RA"), edge


@EVERY_CLUSTER
def test_nothing_is_allowed_to_a_peer_or_port_never_seen(name: str) -> None:
    """Per direction that a policy closes. Name resolution is for everybody, over TCP too; a pod's own host is always let in."""
    known, judge = truth(CLUSTERS[name][0]), judge_of(name)
    ports = sorted({*(edge.l4 for edge in known.accepted), *NEVER_SEEN})
    checked = 0
    for subject, peer, l4 in product(judge.subjects, sorted(known.parties), ports):
        for number, direction in enumerate((Direction.EGRESS, Direction.INGRESS)):
            edge = TrueEdge(*((subject, peer) if direction is Direction.EGRESS else (peer, subject)), l4)
            expected = edge in known.accepted or _in_any_case(known, edge)
            if expected or not judge.closes(subject, direction):
                continue
            near, far = judge.parties(subject)[0], judge.parties(peer)[-1]
            ends = (near, far) if direction is Direction.EGRESS else (far, near)
            assert judge.decide(*ends, l4)[number] == "D", (edge, direction)
            checked += 1
    assert checked > 1000


def _in_any_case(known: Truth, edge: TrueEdge) -> bool:
    resolution = edge.l4.port == 53 and any(
        other.destination == edge.destination and other.l4 == L4(Protocol.UDP, 53) for other in known.accepted
    )
    # The API server of this cluster runs on a remote node, so whoever lets in remote nodes lets it in.
    remote_node = edge.source == "kube-apiserver" and edge._replace(source="remote-node") in known.accepted
    # Of clients by the thousand the rule says world, and so lets in every other outside peer.
    crowd = isinstance(known.parties.get(edge.source), Outside) and edge._replace(source="world") in known.accepted
    return resolution or remote_node or crowd or edge.source == "host"


@EVERY_CLUSTER
def test_no_client_port_and_no_overlong_list(name: str) -> None:
    # An answer too long for UDP is asked for again over TCP.
    servers = {edge.l4 for edge in truth(CLUSTERS[name][0]).accepted} | {L4(Protocol.TCP, 53)}
    for document in proposed(name).documents():
        for rule in (*document["spec"].get("ingress", ()), *document["spec"].get("egress", ())):
            for item in rule.get("toPorts", ()):
                assert len(item["ports"]) <= 40
                for port in item["ports"]:
                    assert L4(Protocol.parse(port["protocol"]), int(port["port"])) in servers


@EVERY_CLUSTER
def test_the_same_bytes_on_a_second_run(name: str) -> None:
    again = recommend(settle(table_of(*CLUSTERS[name])))
    assert again.documents() == proposed(name).documents()
    first, second = (list(records(*CLUSTERS[name])) for _ in range(2))
    assert first == second


def test_another_seed_is_other_traffic() -> None:
    assert list(records(CLUSTER, 1)) != list(records(CLUSTER, 2))


def test_shards_merged_in_any_order_equal_the_whole() -> None:
    decode = Decoder().decode
    flows = [decode(json.dumps(record).encode()) for record in records(CLUSTER, 4)]
    whole = aggregate(flows)
    shards = [aggregate(flows[start::7]) for start in range(7)]
    for order in (shards, shards[::-1], shards[3:] + shards[:3]):
        merged = EdgeTable()
        for shard in order:
            merged.merge(shard)
        assert merged == whole


def test_records_are_in_order_and_say_what_a_capture_says() -> None:
    made = list(records(CLUSTER, 1))
    times = [record["time"] for record in made]
    assert times == sorted(times)
    kinds = {key for record in made for key in record if key not in ("time", "node_name")}
    assert kinds == {"flow", "lost_events", "node_status"}
    verdicts = {record["flow"]["verdict"] for record in made if "flow" in record}
    assert verdicts == {"FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", "TRANSLATED"}
    hours = {record["time"][11:13] for record in made if _workload(record, "report")}
    assert hours >= {"02"}
    database = {
        record["time"][11:13]
        for record in made
        if _workload(record, "report") and "5432" in json.dumps(record["flow"]["l4"])
    }
    assert database == {"02"}


def _workload(record: dict[str, Any], name: str) -> bool:
    ends = [record.get("flow", {}).get(end, {}) for end in ("source", "destination")]
    return any(workload["name"] == name for end in ends for workload in end.get("workloads", ()))


@lru_cache
def judge_of(name: str) -> Judge:
    return Judge(name)


class Judge:
    """The naive engine over a proposal, asked about parties by name."""

    def __init__(self, name: str) -> None:
        cluster = CLUSTERS[name][0]
        self.truth = truth(cluster)
        self._documents = proposed(name).documents()
        self._world = World()
        self.subjects = [str(workload) for workload in cluster.workloads]
        self._known: dict[str, tuple[Party, ...]] = {}
        self._selecting: dict[Labels, list[dict[str, Any]]] = {}

    def parties(self, name: str) -> tuple[Party, ...]:
        if name not in self._known:
            self._known[name] = tuple(self._parties(name))
        return self._known[name]

    def _parties(self, name: str) -> Iterator[Party]:
        party = self.truth.parties[name]
        for labels, address in self.truth.peers(name)[:20]:
            visible = (party.name,) if isinstance(party, Outside) and party.name else ()
            yield Party(labels, address, visible)

    def decide(self, source: Party, destination: Party, l4: L4) -> str:
        flow = {"proto": str(l4.protocol), "port": l4.port, "icmpType": l4.port}
        documents = [*self._selected(source), *self._selected(destination)]
        return decide_between(documents, self._world, source, destination, flow)[:2]

    def closes(self, subject: str, direction: Direction) -> bool:
        section = direction.name.lower()
        return any(section in document["spec"] for party in self.parties(subject) for document in self._selected(party))

    def _selected(self, party: Party) -> list[dict[str, Any]]:
        if party.labels not in self._selecting:
            self._selecting[party.labels] = [
                document
                for document in self._documents
                if any(rule.selects(party.labels) for rule in rules_of(document))
            ]
        return self._selecting[party.labels]
