"""Truth: what policies allow between workloads of a simulated cluster, at each level of detail, against what is really needed."""

from __future__ import annotations

from itertools import product

from analyzer.demo import CLUSTER, Cluster, TrueEdge, Workload, generated_cluster, truth
from analyzer.inventories import from_edges
from analyzer.model.labels import Labels
from analyzer.policy import Outcome, Peer, Traffic, compile_policies, parse
from analyzer.recommend import Level, Options, Settings, at, recommend
from analyzer.settle import settle
from analyzer.verify import check_proposal
from tests.benchmarks.measure import scaled
from tests.demo.test_truth import table_of

__all__ = ["run"]

LEVELS = ("namespace/any", "namespace/port", "workload/any", "workload/port")


def run() -> None:
    """Print precision and recall of allowed (client, server, port): every pair of workloads, every port that is served at all.

    A direction without evidence is left open, and so what nobody closes counts as allowed.
    """
    clusters = {"story": (CLUSTER, 1), **{f"40 workloads, seed {n}": (generated_cluster(n, 40), n) for n in (1, 2, 3)}}
    clusters["500 workloads"] = (generated_cluster(1, scaled(500)), 1)
    for name, (cluster, seed) in clusters.items():
        edges = settle(table_of(cluster, seed))
        known = from_edges(edges)
        for level in LEVELS:
            made = recommend(edges, known, Options(at(Settings(), Level.parse(level)), system=frozenset()))
            checked = check_proposal(made, edges, known)
            policies = compile_policies([parse(document) for document in made.documents()], known)
            allowed, needed = _allowed(cluster, policies.decide), _needed(cluster)
            right = len(allowed & needed)
            rules = sum(len(policy.rules) for policy in made.policies)
            found = f"precision {right / len(allowed):6.1%}, recall {right / len(needed):6.1%}"
            passed = f"sound {checked.passed}, minimal {checked.minimal}"
            print(
                f"  {name:<22} {level:<15} {rules:>6,} rules, {len(allowed):>7,} triples allowed: {found}, {passed}",
                flush=True,
            )


def _needed(cluster: Cluster) -> set[TrueEdge]:
    inside = {str(workload) for workload in cluster.workloads}
    return {edge for edge in truth(cluster).accepted if edge.source in inside and edge.destination in inside}


def _allowed(cluster: Cluster, decide: object) -> set[TrueEdge]:
    known = truth(cluster)
    peers = {str(workload): _peer(workload, cluster) for workload in cluster.workloads}
    ports = sorted({edge.l4 for edge in known.accepted if edge.destination in peers})
    assert callable(decide)
    return {
        TrueEdge(one, other, l4)
        for (one, source), (other, destination), l4 in product(peers.items(), peers.items(), ports)
        if one != other and decide(Traffic(source, destination, l4)).outcome is not Outcome.DENIED
    }


def _peer(workload: Workload, cluster: Cluster) -> Peer:
    return Peer(Labels.of(workload.label_sets(cluster.name)[0]))
