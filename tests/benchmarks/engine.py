"""The policy engine: edge decisions per CPU-second after compiling, and how that grows with policies, workloads and edges."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.policy import Peer, PolicySet, Traffic, compile_policies, parse
from tests.benchmarks.measure import cpu_seconds
from tests.conformance.case import Questions, questions, read_cases

__all__ = ["run"]

POLICIES, WORKLOADS, EDGES = 2_000, 5_000, 100_000
NAMESPACES = 200
RUNS = 3
PORTS = (80, 443, 5432, 6379, 8080, 8443, 9090, 9102)
VECTORS = Path(__file__).resolve().parents[1] / "conformance"


def run() -> None:
    """Print the figures: of Cilium's own conformance clusters first, then of a large cluster and of its doubles."""
    _conformance()
    sizes = (POLICIES, WORKLOADS, EDGES)
    base = _cluster(*sizes)
    for number, what in enumerate(("policies", "workloads", "edges")):
        policies, workloads, edges = (size * (2 if place == number else 1) for place, size in enumerate(sizes))
        found = _cluster(policies, workloads, edges, what)
        print(
            f"  {what} doubled: compiling takes {found[0] / base[0]:.1f} times as long, all decisions {found[1] / base[1]:.1f}"
        )


def _conformance() -> None:
    cases = [
        found
        for name in ("cilium-named", "cilium-random")
        for found in map(questions, read_cases(VECTORS / f"{name}.jsonl.gz"))
    ]
    count = sum(len(case.flows) for case in cases)
    compiling = deciding = again = float("inf")
    for _ in range(RUNS):
        made: list[tuple[PolicySet, Sequence[Traffic]]] = []
        compiling = min(compiling, cpu_seconds(partial(_prepare, cases, made), repeat=1))
        deciding = min(deciding, cpu_seconds(partial(_decide, made), repeat=1))
        again = min(again, cpu_seconds(partial(_decide, made), repeat=1))
    print(f"conformance clusters: {len(cases)} of them, compiled in {compiling:.2f} CPU-s")
    print(f"  {count:,} decisions; per CPU-second {count / deciding:,.0f}, {count / again:,.0f} when asked again")


def _prepare(cases: Sequence[Questions], made: list[tuple[PolicySet, Sequence[Traffic]]]) -> None:
    for case in cases:
        policies = case.compiled()
        policies.prepare(end.labels for flow in case.flows for end in (flow.source, flow.destination))
        made.append((policies, case.flows))


def _decide(compiled: Sequence[tuple[PolicySet, Sequence[Traffic]]]) -> None:
    for policies, flows in compiled:
        for flow in flows:
            policies.decide(flow)


def _cluster(policies: int, workloads: int, edges: int, doubled: str = "") -> tuple[float, float]:
    """CPU seconds to parse and compile, and to decide about all edges once; the least of some runs."""
    peers, documents = _workloads(workloads), list(_policies(policies, workloads))
    asked = list(_edges(edges, peers))
    # What is here already is not what is measured: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    compiling = deciding = again = float("inf")
    for _ in range(RUNS):
        made: list[tuple[PolicySet, Sequence[Traffic]]] = []
        compiling = min(compiling, cpu_seconds(partial(_compile, documents, peers, asked, made), repeat=1))
        deciding = min(deciding, cpu_seconds(partial(_decide, made), repeat=1))
        again = min(again, cpu_seconds(partial(_decide, made), repeat=1))
    gc.unfreeze()
    words = f" ({doubled} doubled)" if doubled else ""
    print(f"{policies:,} policies x {workloads:,} workloads x {edges:,} edges{words}:")
    print(
        f"  parsed and compiled in {compiling:.2f} CPU-s; edge decisions per CPU-second: {edges / deciding:,.0f}, ",
        end="",
    )
    print(f"{edges / again:,.0f} when asked again")
    return compiling, deciding


def _compile(
    documents: Sequence[dict[str, Any]],
    peers: Sequence[Peer],
    asked: Sequence[Traffic],
    made: list[tuple[PolicySet, Sequence[Traffic]]],
) -> None:
    policies = compile_policies(map(parse, documents), Inventory())
    policies.prepare(peer.labels for peer in peers)
    made.append((policies, asked))


def _workloads(count: int) -> list[Peer]:
    """Workloads in namespaces, each with the labels that pods have."""
    return [
        Peer(
            Labels.of(
                [
                    f"k8s:io.kubernetes.pod.namespace=team-{number % NAMESPACES}",
                    f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=team-{number % NAMESPACES}",
                    "k8s:io.cilium.k8s.policy.cluster=default",
                    "k8s:io.cilium.k8s.policy.serviceaccount=default",
                    f"k8s:app.kubernetes.io/name=svc-{number}",
                    f"k8s:tier={('front', 'back', 'data')[number % 3]}",
                ]
            ),
            f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        )
        for number in range(count)
    ]


def _policies(count: int, workloads: int) -> Iterator[dict[str, Any]]:
    """Policies of workloads, each with some peers and ports; one in ten for a tier of a namespace, one in twenty a deny rule."""
    chance = random.Random(1)
    for number in range(count):
        subject = number % workloads
        labels = {"app.kubernetes.io/name": f"svc-{subject}"} if number % 10 else {"tier": "back"}
        spec: dict[str, Any] = {
            "endpointSelector": {"matchLabels": labels},
            "ingress": [_rule(chance, workloads, "fromEndpoints") for _ in range(3)],
            "egress": [
                *(_rule(chance, workloads, "toEndpoints") for _ in range(2)),
                {
                    "toCIDR": [f"198.51.{chance.randrange(256)}.0/24"],
                    "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}],
                },
            ],
        }
        if not number % 20:
            spec["ingressDeny"] = [_rule(chance, workloads, "fromEndpoints")]
        meta = {"name": f"policy-{number}", "namespace": f"team-{subject % NAMESPACES}"}
        yield {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}


def _rule(chance: random.Random, workloads: int, peers: str) -> dict[str, Any]:
    other = chance.randrange(workloads)
    labels = {"k8s:io.kubernetes.pod.namespace": f"team-{other % NAMESPACES}", "app.kubernetes.io/name": f"svc-{other}"}
    ports = [{"port": str(port), "protocol": "TCP"} for port in chance.sample(PORTS, 2)]
    return {peers: [{"matchLabels": labels}], "toPorts": [{"ports": ports}]}


def _edges(count: int, peers: Sequence[Peer]) -> Iterator[Traffic]:
    """Edges between workloads; one in ten leads to the world."""
    chance = random.Random(2)
    world = Labels.of(["reserved:world"])
    for number in range(count):
        source = chance.choice(peers)
        l4 = L4(Protocol.TCP, chance.choice(PORTS))
        outside = Peer(world, f"198.51.{chance.randrange(256)}.{chance.randrange(256)}")
        yield Traffic(source, chance.choice(peers) if number % 10 else outside, l4)
