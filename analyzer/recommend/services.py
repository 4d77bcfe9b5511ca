"""Service addresses: which workloads and ports stand behind the address that a client used before translation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from analyzer.model.edge import Edge
from analyzer.model.identity import Entity
from analyzer.model.inventory import Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4
from analyzer.recommend.draft import EndpointPeer, EntityPeer, Peer, Subject, SubjectKey

__all__ = ["Backend", "Services"]

_API_SERVER = ("default", "kubernetes")
"""The service of the API server has no selector: nodes, or hosts outside the cluster, are behind it."""


class Backend(NamedTuple):
    """What policies see instead of a service's address. `subject` is None for the API server."""

    peer: Peer
    l4: L4
    subject: SubjectKey | None = None


class Services:
    """The services of an inventory, by address."""

    def __init__(self, inventory: Inventory, subjects: Mapping[SubjectKey, Subject]) -> None:
        self._by_address: dict[str, list[ServiceInfo]] = defaultdict(list)
        self._by_name = {f"{each.namespace}/{each.name}": each for each in inventory.services}
        for service in inventory.services:
            for address in (*service.cluster_ips, *service.external_ips):
                self._by_address[address].append(service)
        self._subjects: dict[tuple[str, str], list[Subject]] = defaultdict(list)
        for key, subject in subjects.items():
            self._subjects[key.cluster, key.namespace].append(subject)
        self._declared: dict[str, list[InventoryEndpoint]] = defaultdict(list)
        for endpoint in inventory.endpoints:
            self._declared[endpoint.namespace].append(endpoint)
        self._answered = _inside_answers(inventory)

    def names(self, edge: Edge, address: str) -> tuple[str, ...]:
        """The services (``namespace/name``) whose address this is: Hubble names one only before translation."""
        declared = {f"{each.namespace}/{each.name}" for each in self._by_address.get(address, ())}
        reported = set(edge.stats.services) if address == edge.destination.address else set()
        return tuple(sorted(declared | reported | self._answered.get(address, set())))

    def backends(self, cluster: str, address: str, names: Iterable[str], l4: L4) -> list[Backend]:
        """The workloads of `cluster` behind a service's port, in canonical order; empty when they are not known."""
        services = self._by_address.get(address) or [self._by_name[each] for each in names if each in self._by_name]
        found = {backend for service in services for backend in self._behind(cluster, service, l4)}
        return sorted(found, key=repr)

    def _behind(self, cluster: str, service: ServiceInfo, l4: L4) -> Iterator[Backend]:
        target = next((target for port, target in service.ports if port == l4), None)
        if target is None:
            return
        if (service.namespace, service.name) == _API_SERVER:
            if target.isdigit():
                yield Backend(EntityPeer(Entity.KUBE_APISERVER), L4(l4.protocol, int(target)))
            return
        for subject in self._subjects[cluster, service.namespace]:
            if _selects(service, subject):
                peer = EndpointPeer(subject.key, subject.selection)
                yield from (Backend(peer, each, subject.key) for each in self._targets(subject, target, l4))

    def _targets(self, subject: Subject, target: str, l4: L4) -> set[L4]:
        """A service's target port; a named one is looked up in what the workload's pods declare."""
        if target.isascii() and target.isdigit():
            return {L4(l4.protocol, int(target))}
        labels = {end.labels for end in subject.identities}
        declared = [each for each in self._declared[subject.key.namespace] if each.labels in labels]
        ports = {(each.named_ports or {}).get(target) for each in declared}
        return {port for port in ports if port is not None and port.protocol is l4.protocol}


def _selects(service: ServiceInfo, subject: Subject) -> bool:
    """Whether the service's selector chooses pods of the workload."""
    if not service.selector or subject.obstacle:
        return False
    wanted = set(service.selector.items())
    return any(wanted <= {(label.key, label.value) for label in end.labels} for end in subject.identities)


def _inside_answers(inventory: Inventory) -> dict[str, set[str]]:
    """Addresses that the cluster's own DNS gave for ``name.namespace.svc``: cluster IPs, or pods of a headless service."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, addresses in inventory.names.items():
        labels = name.split(".")
        if len(labels) >= 4 and labels[2] == "svc":
            for address in addresses:
                found[address].add(f"{labels[1]}/{labels[0]}")
    return found
