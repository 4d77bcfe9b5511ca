"""Cautions: what a platform team should look at before it closes anything - direct internet, the API server, cloud metadata."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from analyzer.baseline.roles import Roles, Wishes
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.workload import title
from analyzer.recommend.draft import Draft, EntityPeer, SubjectKey
from analyzer.recommend.system import is_system

__all__ = ["METADATA", "Caution", "Topic", "cautions"]

METADATA = MappingProxyType(
    {
        "169.254.169.254": "AWS, Azure, Google Cloud and others",
        "fd00:ec2::254": "AWS over IPv6",
        "fd20:ce::254": "Google Cloud over IPv6",
        "169.254.170.2": "AWS credentials of ECS tasks",
        "169.254.170.23": "AWS EKS Pod Identity",
        "fd00:ec2::23": "AWS EKS Pod Identity over IPv6",
        "168.63.129.16": "Azure's platform address",
        "100.100.100.200": "Alibaba Cloud",
        "169.254.0.23": "Tencent Cloud",
    }
)
"""Addresses at which clouds hand out what an instance is allowed to do, by the documentation of each."""


class Topic(StrEnum):
    """What to look at."""

    DIRECT = "reached from the internet directly"
    GATEWAYS = "several ways in"
    OPENS = "opens what is closed now"
    MONITORING = "taken for monitoring"
    METADATA = "talks to a cloud metadata address"
    NODES = "may be reached from outside through nodes"
    NO_RESOLVER = "name resolution"
    API_SERVER = "uses the API server"
    LOOKALIKE = "reaches many workloads"
    NOT_SEEN = "named and never seen"


class Caution(NamedTuple):
    """Something to look at. `where` is ``namespace/workload``, or what was named; `text` a whole sentence's worth."""

    topic: Topic
    where: str
    text: str


def cautions(draft: Draft, roles: Roles, wishes: Wishes, cluster: str, system: frozenset[str]) -> tuple[Caution, ...]:
    """All cautions about one cluster, by topic. What system namespaces do is told where it comes from outside, only."""
    found = [
        *_direct(roles, wishes, system),
        *_ways_in(roles),
        *(
            Caution(Topic.MONITORING, str(key), "may reach every workload on every port; see that it is yours")
            for key in roles.monitoring
        ),
        *_metadata(draft, cluster),
        *_through_nodes(draft, roles, cluster, system),
        *([] if roles.resolvers else [Caution(Topic.NO_RESOLVER, "", _NO_RESOLVER)]),
        *_api_server(draft, cluster, system),
        *_lookalikes(roles),
        *(Caution(Topic.NOT_SEEN, name, "no workload that was seen is called so") for name in roles.unseen),
    ]
    order = {topic: at for at, topic in enumerate(Topic)}
    return tuple(sorted(found, key=lambda each: (order[each.topic], each.where, each.text)))


def _direct(roles: Roles, wishes: Wishes, system: frozenset[str]) -> Iterator[Caution]:
    for key, l4s in roles.direct.items():
        ports = ", ".join(map(str, l4s[:5])) + (", ..." if len(l4s) > 5 else "")
        if is_system(key.namespace, system):
            yield Caution(Topic.DIRECT, str(key), f"{ports}; a system namespace, left as it is")
        elif wishes.direct:
            yield Caution(Topic.DIRECT, str(key), f"{ports}; allowed, as was asked for")
        else:
            text = (
                f"{ports}; NOT allowed: let it go through a gateway, name it with --gateway, or --allow-direct-internet"
            )
            yield Caution(Topic.DIRECT, str(key), text)


def _ways_in(roles: Roles) -> Iterator[Caution]:
    if len(roles.gateways) > 1:
        for key, l4s in roles.gateways.items():
            text = f"one of {len(roles.gateways)} workloads that let the internet in, on {', '.join(map(str, l4s[:5]))}"
            yield Caution(Topic.GATEWAYS, str(key), text)


def _metadata(draft: Draft, cluster: str) -> Iterator[Caution]:
    """Whatever became of the connection: to have tried is enough."""
    tried: dict[tuple[str, str], set[str]] = defaultdict(set)
    edges: dict[object, Edge] = {edge.key: edge for edge in draft.edges}
    edges.update((refusal.edge.key, refusal.edge) for refusal in draft.refused)
    for edge in edges.values():
        if edge.destination.address in METADATA and edge.cluster == cluster:
            tried[title(edge.source, edge.source_workloads), edge.destination.address].add(edge.status.value)
    for (name, address), states in tried.items():
        yield Caution(Topic.METADATA, name, f"{address} ({METADATA[address]}): {', '.join(sorted(states))}")


_NO_RESOLVER = (
    "no policy lets everybody resolve names: no resolver for all was seen, or lookups are narrowed (--l7 dns). Once egress is "
    "closed, workloads without a policy of their own have none"
)


def _through_nodes(draft: Draft, roles: Roles, cluster: str, system: frozenset[str]) -> Iterator[Caution]:
    """NodePorts and load balancers put the node in the place of their clients."""
    ports: dict[SubjectKey, set[str]] = defaultdict(set)
    for claim in draft.claims:
        if claim.direction is Direction.INGRESS and claim.peer == EntityPeer(Entity.REMOTE_NODE):
            ports[claim.subject].add(str(claim.l4))
    for key, l4s in ports.items():
        if key.cluster == cluster and key not in roles.gateways and not is_system(key.namespace, system):
            text = f"other nodes use {', '.join(sorted(l4s)[:5])}, maybe for clients of a NodePort or load balancer"
            yield Caution(Topic.NODES, str(key), text)


def _api_server(draft: Draft, cluster: str, system: frozenset[str]) -> Iterator[Caution]:
    users: dict[SubjectKey, int] = defaultdict(int)
    for claim in draft.claims:
        if claim.direction is Direction.EGRESS and claim.peer == EntityPeer(Entity.KUBE_APISERVER):
            users[claim.subject] += sum(edge.weight for edge in claim.edges)
    for key, events in users.items():
        if key.cluster == cluster and not is_system(key.namespace, system):
            yield Caution(
                Topic.API_SERVER,
                str(key),
                f"{events} events; see that its service account may do no more than it needs",
            )


def _lookalikes(roles: Roles) -> Iterator[Caution]:
    for key, number in roles.lookalikes.items():
        text = f"{number} of other namespaces on one port; if that is your monitoring, name it with --monitoring {key}"
        yield Caution(Topic.LOOKALIKE, str(key), text)
