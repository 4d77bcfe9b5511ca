"""World and Party: what the oracle knows about the cluster, from a conformance case or put together by a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from analyzer.model.inventory import AgentOptions
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Label, Labels

__all__ = ["Party", "World"]

Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Party:
    """One end of a flow. `ports` are its container ports by name; `names` the DNS names that resolved to its address."""

    labels: Labels
    ip: str = ""
    names: tuple[str, ...] = ()
    ports: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def reserved(self) -> frozenset[str]:
        return self.labels.reserved()

    @property
    def outside(self) -> bool:
        return bool(self.reserved & {"world", "world-ipv4", "world-ipv6"})


@dataclass(frozen=True)
class World:
    """The cluster; the defaults are an agent without any option set. The fields are those of a conformance case."""

    options: AgentOptions = AgentOptions()
    endpoints: Mapping[str, Doc] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    host_labels: tuple[str, ...] = ()
    fqdns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cidr_groups: Mapping[str, Doc] = field(default_factory=dict)

    @classmethod
    def of_case(cls, case: Doc) -> World:
        """Read a conformance case; the names that its flows mention are learned too."""
        options = case.get("options") or {}
        fqdns = {name.lower(): list(ips) for name, ips in (case.get("fqdns") or {}).items()}
        for flow in case.get("flows", ()):
            for party in (flow["src"], flow["dst"]):
                if isinstance(party, dict) and "fqdn" in party:
                    fqdns.setdefault(party["fqdn"].lower(), []).append(party["ip"])
        return cls(
            options=AgentOptions(
                allow_localhost=options.get("allowLocalhost", "always"),
                enforcement=options.get("policyEnforcement", "default"),
                ipv6=options.get("ipv6", False),
                host_firewall=options.get("hostFirewall", False),
                node_selector_labels=options.get("nodeSelectorLabels", False),
                cidr_match_nodes="nodes" in options.get("cidrMatchMode", ()),
                extended_protocols=options.get("extendedProtocols", False),
                any_cluster=options.get("anyCluster", False),
                cluster_name=options.get("clusterName", "default"),
            ),
            endpoints=case.get("endpoints") or {},
            namespaces=case.get("namespaces") or {},
            host_labels=tuple(case.get("hostLabels") or ()),
            fqdns={name: tuple(ips) for name, ips in fqdns.items()},
            cidr_groups=case.get("cidrGroups") or {},
        )

    @property
    def dual(self) -> bool:
        return self.options.ipv4 and self.options.ipv6

    def party(self, who: str | Doc) -> Party:
        """Whom a flow names: an endpoint, a reserved identity, an address, or a DNS name with its address."""
        if not isinstance(who, str):
            return self.address(who.get("cidr") or who["ip"], tuple(who.get("labels", ())))
        if who.startswith("reserved:"):
            extra = {"reserved:host": self.host_labels, "reserved:kube-apiserver": ("reserved:remote-node",)}
            return Party(Labels.of(map(label, (who, *extra.get(who, ())))))
        return self.endpoint(self.endpoints[who])

    def endpoint(self, found: Doc) -> Party:
        """A pod with the labels that the agent adds: its cluster's and its namespace's."""
        labels = Labels.of(map(label, found["labels"]))
        if not labels.reserved() and labels.get(CLUSTER_KEY, "k8s") is None:
            labels = Labels.of([*labels, Label("k8s", CLUSTER_KEY, "default")])
        for key, value in self.namespaces.get(labels.get(NAMESPACE_KEY, "k8s") or "", {}).items():
            labels = Labels.of([*labels, Label("k8s", NAMESPACE_LABEL_PREFIX + key, value)])
        ports = {name.lower(): (port["port"], port["proto"]) for name, port in (found.get("namedPorts") or {}).items()}
        return Party(labels, found.get("ip", ""), ports=ports)

    def address(self, ip: str, labels: tuple[str, ...] = ()) -> Party:
        """Who has this address: an endpoint, a node when `labels` say so, else somebody outside the cluster."""
        ip = ip.partition("/")[0]
        for found in self.endpoints.values():
            if found.get("ip") == ip:
                return self.endpoint(found)
        names = tuple(name for name, ips in self.fqdns.items() if ip in ips)
        found_labels = Labels.of(map(label, labels))
        if found_labels.reserved() & {"host", "remote-node"}:
            return Party(found_labels, ip, names)
        outside = f"reserved:world-ipv{ip_address(ip).version}" if self.dual else "reserved:world"
        return replace(Party(Labels.of([*found_labels, outside])), ip=ip, names=names)


def label(text: str) -> Label:
    """A label as a case writes it: without a source it is one of Kubernetes."""
    found = Label.parse(text)
    return found if found.source else found._replace(source="k8s")
