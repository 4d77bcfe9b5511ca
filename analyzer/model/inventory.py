"""Inventory: what flows alone do not show - silent pods, namespace labels, named ports, services, CIDR groups, names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from analyzer.model.l4 import L4
from analyzer.model.labels import Labels

__all__ = ["AgentOptions", "CidrGroup", "Inventory", "InventoryEndpoint", "ServiceInfo"]


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """The agent settings that change verdicts; the defaults are those of an agent under Kubernetes.

    `allow_localhost`: ``always`` or ``policy``; `enforcement`: ``default``, ``always`` or ``never``.
    `any_cluster` switches off the scoping of selectors to the local cluster. `cidr_match_nodes` is CIDR match mode ``nodes``.
    """

    allow_localhost: str = "always"
    enforcement: str = "default"
    ipv4: bool = True
    ipv6: bool = False
    host_firewall: bool = False
    node_selector_labels: bool = False
    cidr_match_nodes: bool = False
    extended_protocols: bool = False
    any_cluster: bool = False
    cluster_name: str = "default"


@dataclass(frozen=True, slots=True)
class InventoryEndpoint:
    """One managed pod (or a set of like pods): its identity labels, addresses and declared container ports.

    `named_ports` is None when nobody declared them (they are unknown), and empty when there are none.
    `workload` is ``Kind/name`` as far as known.
    """

    name: str
    namespace: str
    labels: Labels
    ips: tuple[str, ...] = ()
    named_ports: Mapping[str, L4] | None = None
    workload: str = ""


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A Kubernetes Service. `selector` is empty for a service without one; `ports` maps the service port to its target port
    (a number or a name, as text)."""

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    selector: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    cluster_ips: tuple[str, ...] = ()
    ports: tuple[tuple[L4, str], ...] = ()
    external_ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CidrGroup:
    """A CiliumCIDRGroup: its prefixes and its labels (without source)."""

    name: str
    cidrs: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Inventory:
    """The engine's input besides policies, and the universe against which selectors are proven.

    `names` maps a DNS name (lower case, no trailing dot) to the addresses it resolved to. What the engine would need
    and does not find here makes a decision *undecided*.
    """

    endpoints: tuple[InventoryEndpoint, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    services: tuple[ServiceInfo, ...] = ()
    cidr_groups: tuple[CidrGroup, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    host_labels: Labels = Labels()
    options: AgentOptions = AgentOptions()
