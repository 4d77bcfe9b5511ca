"""Recommending: from settled edges to policies and their check by the engine - time and memory, and how both grow."""

from __future__ import annotations

import random
import time

from analyzer.inventories import from_edges
from analyzer.manifests import dump
from analyzer.model.edge import Edge
from analyzer.recommend import recommend
from analyzer.verify import check_proposal
from tests.benchmarks.measure import in_child, scaled
from tests.recommend.build import DNS, edge, lookup, outside, pod

__all__ = ["run"]

WORKLOADS, EDGES = 5_000, 100_000
NAMESPACES = 100
PORTS = (80, 443, 5432, 6379, 8080, 8443, 9090, 9102)


def run() -> None:
    """Print the figures: the base size first, then twice of it."""
    for factor in (1, 2):
        workloads, edges = scaled(WORKLOADS * factor), scaled(EDGES * factor)
        measured = in_child(_recommend, workloads, edges)
        policies, rules, size, proposing, checking, writing = measured.value
        total = proposing + checking + writing
        print(
            f"{workloads:,} workloads, {edges:,} edges: {policies:,} policies, {rules:,} rules, {size / 1e6:.1f} MB of YAML"
        )
        print(
            f"  {total:.1f} CPU-s: recommending {proposing:.1f}, checking by the engine {checking:.1f}, writing {writing:.1f}; "
            f"peak {measured.peak:,.0f} MiB with the edges",
            flush=True,
        )


def _recommend(workloads: int, count: int) -> tuple[int, int, int, float, float, float]:
    edges = _edges(workloads, count)
    known = from_edges(edges)
    start = time.process_time()
    proposal = recommend(edges, known)
    proposed = time.process_time()
    assert check_proposal(proposal, edges, known).passed
    checked = time.process_time()
    text = dump(proposal.manifests())
    written = time.process_time()
    rules = sum(len(policy.rules) for policy in proposal.policies)
    times = (proposed - start, checked - proposed, written - checked)
    return len(proposal.policies), rules, len(text), *times


def _edges(workloads: int, count: int) -> list[Edge]:
    """Edges between workloads of random namespaces; each workload asks the resolver, one edge in twenty leads outside."""
    chance = random.Random(1)
    pods = [pod(f"team-{number % NAMESPACES}", app=f"svc-{number}") for number in range(workloads)]
    found = {each.key: each for each in (lookup(client, DNS) for client in pods)}
    while len(found) < count:
        source, port = chance.choice(pods), chance.choice(PORTS)
        if chance.randrange(20):
            made = edge(source, chance.choice(pods), f"{port}/TCP")
        else:
            address = f"198.51.{chance.randrange(4)}.{chance.randrange(256)}"
            made = edge(source, outside(address), "443/TCP", names=[f"api-{address.replace('.', '-')}.example.com"])
        found.setdefault(made.key, made)
    return list(found.values())
