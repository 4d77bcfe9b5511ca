"""Roles: which workloads resolve names, watch all others, or let the internet in - by what they were seen to do, and where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.inventory import Inventory
from analyzer.model.l4 import L4
from analyzer.model.perspective import home_cluster
from analyzer.recommend.accepted import accepted
from analyzer.recommend.dns import SYSTEM_NAMESPACES as DNS_NAMESPACES
from analyzer.recommend.dns import Resolver, resolvers
from analyzer.recommend.draft import Claim, Draft, EndpointPeer, EntityPeer, Options, Subject, SubjectKey
from analyzer.recommend.internet import is_internet
from analyzer.recommend.peers import peers
from analyzer.recommend.subjects import subjects
from analyzer.recommend.system import is_system

__all__ = ["GATEWAYS", "MONITORING", "Named", "Roles", "Wishes", "clusters_of", "observed", "roles_in"]

GATEWAYS = frozenset(
    {
        "ambassador", "apisix", "cloudflared", "contour", "emissary", "emissary-system", "envoy-gateway", "envoy-gateway-system",
        "gateway-system", "gloo-system", "haproxy", "haproxy-controller", "haproxy-ingress", "ingress-apisix",
        "ingress-controller", "ingress-nginx", "ingress-system", "istio-gateway", "istio-gateways", "istio-ingress",
        "istio-system", "kong", "kong-system", "nginx-gateway", "nginx-ingress", "oauth2-proxy", "pomerium", "projectcontour",
        "traefik", "traefik-system", "voyager",
    }
)  # fmt: skip
"""Namespaces of gateways, ingress controllers and identity-aware proxies. Namespaces and not labels are trusted: who runs a
pod chooses its labels, and who may make namespaces runs the cluster."""
MONITORING = frozenset(
    {
        "cattle-monitoring-system", "datadog", "dynatrace", "grafana-agent", "monitoring", "newrelic",
        "observability", "opentelemetry", "opentelemetry-operator-system", "prometheus", "prometheus-operator", "telemetry",
        "victoria-metrics", "victoriametrics", "zabbix",
    }
)  # fmt: skip
"""Namespaces of what watches workloads, likewise."""
WATCHED = 3
"""So many workloads of other namespaces, and on one port, are at least used by what is taken for monitoring: a dashboard with three
databases is no monitor because it lives in such a namespace."""


class Named(NamedTuple):
    """A workload that somebody named, or with an empty `name` all of a namespace."""

    namespace: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Named:
        """Read ``NAMESPACE`` or ``NAMESPACE/WORKLOAD``. Raises ValueError."""
        namespace, _, name = text.strip().partition("/")
        if not namespace or "/" in name:
            raise ValueError(f"{text!r} is neither NAMESPACE nor NAMESPACE/WORKLOAD")
        return cls(namespace, name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else self.namespace

    def fits(self, subject: Subject) -> bool:
        """Whether `subject` is meant."""
        return self.namespace == subject.key.namespace and self.name in ("", subject.key.name, *subject.workloads)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What people say of their cluster. `gateways` and `monitoring` replace what would be recognised by namespace; with
    `direct` workloads may be reached from the internet without a gateway."""

    gateways: tuple[Named, ...] = ()
    monitoring: tuple[Named, ...] = ()
    direct: bool = False


_NODES = frozenset(map(EntityPeer, (Entity.HOST, Entity.REMOTE_NODE, Entity.KUBE_APISERVER)))
_NOTHING: Mapping[SubjectKey, tuple[L4, ...]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Roles:
    """Who does what in one cluster. `gateways` and `direct` are reached from the internet on these ports, the latter without being
    a gateway; `lookalikes` use as many workloads as monitoring does and are not where that lives; `unseen` was named and
    never seen. `probed` counts the workloads that their own node connects to."""

    resolvers: tuple[Resolver, ...] = ()
    probed: int = 0
    monitoring: tuple[SubjectKey, ...] = ()
    gateways: Mapping[SubjectKey, tuple[L4, ...]] = field(default_factory=lambda: _NOTHING)
    direct: Mapping[SubjectKey, tuple[L4, ...]] = field(default_factory=lambda: _NOTHING)
    lookalikes: Mapping[SubjectKey, int] = field(default_factory=lambda: MappingProxyType({}))
    unseen: tuple[str, ...] = ()


def observed(edges: Sequence[Edge], inventory: Inventory) -> Draft:
    """All claims of all workloads, whatever a recommendation leaves out: platform rules are about the whole cluster."""
    draft = Draft(tuple(sorted(edges, key=lambda edge: edge.key)), inventory, Options(system=frozenset()))
    for each in (accepted, subjects, peers):
        draft = each(draft)
    return draft


def roles_in(draft: Draft, cluster: str, wishes: Wishes, system: frozenset[str]) -> Roles:
    """The roles in one cluster. Workloads of `system` namespaces are recognised as all others are."""
    own = replace(draft, claims=tuple(claim for claim in draft.claims if claim.subject.cluster == cluster))
    served = tuple(_served(own, system))
    doors = _doors(own.claims)
    is_gateway = _chosen(draft, wishes.gateways, GATEWAYS)
    is_monitoring = _chosen(draft, wishes.monitoring, MONITORING)
    watched = _watched(own.claims, {(each.peer, each.port) for each in served})
    many = {key: len(seen) for key, seen in sorted(watched.items()) if len(seen) >= WATCHED}
    watching = tuple(key for key in many if is_monitoring(key))
    if wishes.monitoring:
        watching = tuple(
            key
            for key, subject in sorted(draft.subjects.items())
            if key.cluster == cluster and not subject.obstacle and is_monitoring(key)
        )
    return Roles(
        served,
        sum(key.cluster == cluster for key in _probed(own)),
        watching,
        MappingProxyType({key: l4s for key, l4s in doors.items() if is_gateway(key)}),
        MappingProxyType({key: l4s for key, l4s in doors.items() if not is_gateway(key)}),
        MappingProxyType(
            {key: n for key, n in many.items() if key not in watching and not is_system(key.namespace, system)}
        ),
        tuple(
            sorted(
                str(named)
                for named in {*wishes.gateways, *wishes.monitoring}
                if not any(named.fits(subject) for subject in draft.subjects.values())
            )
        ),
    )


def _chosen(draft: Draft, named: Sequence[Named], namespaces: frozenset[str]) -> Callable[[SubjectKey], bool]:
    if not named:
        return lambda key: key.namespace in namespaces
    return lambda key: any(each.fits(draft.subjects[key]) for each in named)


def _served(draft: Draft, system: frozenset[str]) -> Iterator[Resolver]:
    """The resolvers for everybody: nodes, and pods that the cluster runs or that as many use as make a monitor elsewhere.

    One client more is no reason to let all workloads speak with a pod that answers on port 53.
    """
    users, shared = resolvers(draft)
    for each in shared:
        if isinstance(each.peer, EndpointPeer):
            namespace = each.peer.subject.namespace
            foreign = [key for key in users[each] if key.namespace != namespace]
            if is_system(namespace, system) or namespace in DNS_NAMESPACES or len(foreign) >= WATCHED:
                yield each
        elif each.peer in _NODES:
            yield each


def _doors(claims: Iterable[Claim]) -> dict[SubjectKey, tuple[L4, ...]]:
    """The workloads that the internet was seen to reach, and on which ports."""
    found: dict[SubjectKey, set[L4]] = defaultdict(set)
    for claim in claims:
        if claim.direction is Direction.INGRESS and is_internet(claim.peer):
            found[claim.subject].add(claim.l4)
    return {key: tuple(sorted(l4s)) for key, l4s in sorted(found.items())}


def _watched(claims: Iterable[Claim], lookups: set[tuple[object, int]]) -> dict[SubjectKey, set[SubjectKey]]:
    """For each workload those of other namespaces that it uses on one port, the most used one; name resolution does not count."""
    found: dict[SubjectKey, dict[L4, set[SubjectKey]]] = defaultdict(lambda: defaultdict(set))
    for claim in claims:
        peer = claim.peer
        if claim.direction is not Direction.EGRESS or not isinstance(peer, EndpointPeer):
            continue
        if peer.subject.namespace != claim.subject.namespace and (peer, claim.l4.port) not in lookups:
            found[claim.subject][claim.l4].add(peer.subject)
    return {key: max(by_port.values(), key=len) for key, by_port in found.items()}


def _probed(draft: Draft) -> set[SubjectKey]:
    """The workloads that the host of one of their pods connects to, as the kubelet does."""
    found = {
        claim.subject
        for claim in draft.claims
        if claim.direction is Direction.INGRESS and claim.peer == EntityPeer(Entity.HOST)
    }
    hosted = (draft.homes.get((home_cluster(e, e.destination), e.destination)) for e in draft.always_allowed)
    return found | {key for key in hosted if key is not None}


def clusters_of(draft: Draft) -> tuple[str, ...]:
    """The clusters that traffic was observed in."""
    found = {claim.subject.cluster for claim in draft.claims}
    return tuple(sorted(found | {home_cluster(edge, edge.destination) for edge in draft.always_allowed}))
