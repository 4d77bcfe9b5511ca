"""Ends: what people call one side of a connection - a workload, labels, an entity, an address, a DNS name - to known endpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_network
from typing import NamedTuple

from analyzer.errors import UsageError
from analyzer.model.address import UNKNOWN
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.identity import WORLD, Entity, entities, primary_entity, reserved
from analyzer.model.inventory import Inventory
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, Label, Labels
from analyzer.model.workload import workload_name
from analyzer.suggest.workloads import pod_workload

__all__ = ["End", "Ends"]

NAMES = {
    each.value: each for each in Entity if each not in (Entity.ALL, Entity.NONE, Entity.CLUSTER, Entity.CLUSTER_MESH)
}
_SHORT_KEYS = {"ns": NAMESPACE_KEY, "namespace": NAMESPACE_KEY}
_DNS_NAME = re.compile(r"(?=.{1,255}$)[a-z0-9_-]+(\.[a-z0-9_-]+)+\.?", re.IGNORECASE)
MAX_LISTED = 12
FORMS = "namespace/workload, labels such as k8s:app=cart,ns=shop, an entity such as world, an IP address, or a DNS name"


class End(NamedTuple):
    """One side of the question: what it is called, the identities it may have, and the DNS name it was asked for by."""

    title: str
    endpoints: tuple[Endpoint, ...]
    dns: str = ""

    def holds(self, endpoint: Endpoint, names: Iterable[str]) -> bool:
        """Whether this end of a recorded edge is meant."""
        if self.dns:
            return bool(entities(endpoint.labels) & WORLD) and self.dns in names
        return any(_meant(mine, endpoint) for mine in self.endpoints)


def _meant(mine: Endpoint, endpoint: Endpoint) -> bool:
    if not mine.address:
        entity = primary_entity(mine.labels)
        if entity is not None:
            return entity in entities(endpoint.labels)
        return (mine.labels, mine.namespace) == (endpoint.labels, endpoint.namespace)
    if not endpoint.address:
        return False
    if mine.address == UNKNOWN:
        return bool(entities(endpoint.labels) & WORLD)
    try:
        asked, had = ip_network(mine.address, strict=False), ip_network(endpoint.address)
    except ValueError:
        return False
    return asked.version == had.version and asked.overlaps(had)


class Ends:
    """Everything that can be named: the pods of edges and of an inventory."""

    def __init__(self, edges: Iterable[Edge], inventory: Inventory) -> None:
        self._inventory = inventory
        self._by_address = {ip: pod for pod in inventory.endpoints for ip in pod.ips}
        self._pods: dict[str, dict[tuple[Labels, str], Endpoint]] = {}
        for edge in edges:
            for end, workloads in (
                (edge.source, edge.source_workloads),
                (edge.destination, edge.destination_workloads),
            ):
                if end.labels and not end.address and not entities(end.labels):
                    self._add(f"{end.namespace}/{workload_name(end, workloads)}", end)
        for pod in inventory.endpoints:
            end = Endpoint(pod.labels, pod.namespace, pod.labels.get(CLUSTER_KEY, "k8s") or "")
            self._add(f"{pod.namespace}/{pod_workload(pod)}", end)

    def _add(self, title: str, end: Endpoint) -> None:
        self._pods.setdefault(title, {}).setdefault((end.labels, end.namespace), end)

    def find(self, text: str, flag: str) -> End:
        """The end that `text` names. Raises UsageError for what is unknown or means several, with the candidates."""
        text = text.strip()
        if text in NAMES:
            return self._entity(NAMES[text])
        if "=" in text or text.startswith(("k8s:", "any:", "reserved:")):
            return self._labelled(text, flag)
        address = _address(text)
        if address:
            return self._addressed(text, address)
        if "/" not in text and _DNS_NAME.fullmatch(text) and not self._called(text):
            return self._named(text.lower().rstrip("."))
        return self._workload(text, flag)

    def _entity(self, entity: Entity) -> End:
        labels = reserved(entity.value)
        return End(entity.value, (Endpoint(labels, address=UNKNOWN if entity in WORLD else ""),))

    def _addressed(self, text: str, address: str) -> End:
        pod = self._by_address.get(address)
        if pod is None:
            return End(text, (Endpoint(reserved(Entity.WORLD.value), address=address),))
        return self._known([f"{pod.namespace}/{pod_workload(pod)}"], pod.labels)

    def _named(self, name: str) -> End:
        addresses = self._inventory.names.get(name, ())
        address = addresses[0] if len(addresses) == 1 else UNKNOWN
        return End(name, (Endpoint(reserved(Entity.WORLD.value), address=address),), name)

    def _known(self, titles: Iterable[str], labels: Labels = Labels()) -> End:
        (title,) = titles
        found = tuple(end for (own, _), end in sorted(self._pods[title].items()) if not labels or own == labels)
        return End(title, found)

    def _called(self, text: str) -> list[str]:
        return [text] if text in self._pods else sorted(t for t in self._pods if t.partition("/")[2] == text)

    def _workload(self, text: str, flag: str) -> End:
        found = self._called(text)
        if len(found) == 1:
            return self._known(found)
        if found:
            raise UsageError(f"{flag} {text} may be any of {_listed(found)}", hint="say which, with its namespace")
        if not self._pods:
            raise UsageError(
                f"{flag} {text}: no workload is known here",
                hint="name SOURCES or --inventory, or give labels such as k8s:app=cart,ns=shop",
            )
        namespace, slash, _ = text.partition("/")
        near = get_close_matches(text, sorted(self._pods), MAX_LISTED, 0.6)
        near = near or [title for title in sorted(self._pods) if slash and title.startswith(f"{namespace}/")]
        hint = f"known are {_listed(near or sorted(self._pods))}" if near or slash else f"write {FORMS}"
        raise UsageError(f"{flag} {text}: nothing of that name is known", hint=hint)

    def _labelled(self, text: str, flag: str) -> End:
        labels = _labels(text, flag)
        if labels.reserved():
            entity = next((NAMES[name] for name in sorted(labels.reserved()) if name in NAMES), None)
            if entity is None:
                raise UsageError(f"{flag} {text}: no entity of that name", hint=f"known are {_listed(sorted(NAMES))}")
            return self._entity(entity)
        wanted = {(label.key, label.value) for label in labels}
        found: dict[str, list[Endpoint]] = {}
        for title, ends in sorted(self._pods.items()):
            for (own, namespace), end in sorted(ends.items()):
                have = {(label.key, label.value) for label in own} | {(NAMESPACE_KEY, namespace)}
                if wanted <= have:
                    found.setdefault(title, []).append(end)
        if len(found) > 1:
            raise UsageError(
                f"{flag} {text} may be any of {_listed(sorted(found))}", hint="add labels, or write namespace/workload"
            )
        if found:
            ((title, ends_found),) = found.items()
            return End(title, tuple(ends_found))
        return self._imagined(text, labels, flag)

    def _imagined(self, text: str, labels: Labels, flag: str) -> End:
        """A pod that nobody has seen, with these labels and nothing else."""
        namespace = labels.get(NAMESPACE_KEY)
        if not namespace:
            raise UsageError(
                f"{flag} {text}: no such pod is known, so its namespace is needed", hint="add ns=NAMESPACE"
            )
        cluster = labels.get(CLUSTER_KEY) or self._inventory.options.cluster_name
        space = [
            Label("k8s", f"io.cilium.k8s.namespace.labels.{key}", value)
            for key, value in self._inventory.namespaces.get(namespace, {}).items()
        ]
        whole = Labels.of([*labels, *space, Label("k8s", CLUSTER_KEY, cluster)])
        return End(text, (Endpoint(whole, namespace, cluster),))


def _labels(text: str, flag: str) -> Labels:
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        label = Label.parse(part)
        if not label.key:
            raise UsageError(f"{flag} {text}: {part!r} is no label", hint=f"write {FORMS}")
        key = _SHORT_KEYS.get(label.key, label.key) if label.source in ("", "k8s") else label.key
        source = "k8s" if label.source in ("", "any") else label.source
        found.append(Label(source, key, label.value))
    return Labels.of(found)


def _address(text: str) -> str:
    """`text` as an address or prefix, as it is written in edges; "" if it is none."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return ""
    return str(network) if network.prefixlen < network.max_prefixlen else str(network.network_address)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - MAX_LISTED} more" if len(every) > MAX_LISTED else ""
    return ", ".join(every[:MAX_LISTED]) + more
