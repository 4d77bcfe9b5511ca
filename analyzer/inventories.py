"""Building inventories: from the edges that were seen, and from Kubernetes manifests such as ``kubectl get -A -o yaml`` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from analyzer.model.address import family
from analyzer.model.bounded import Bounded
from analyzer.model.edge import Edge, Endpoint
from analyzer.model.flow import Workload
from analyzer.model.identity import entities
from analyzer.model.inventory import AgentOptions, CidrGroup, Inventory, InventoryEndpoint, ServiceInfo
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import (
    CLUSTER_KEY,
    NAMESPACE_KEY,
    NAMESPACE_LABEL_PREFIX,
    SERVICE_ACCOUNT_KEY,
    Label,
    Labels,
)
from analyzer.model.workload import workload_name

__all__ = ["answered_names", "from_edges", "from_manifests", "merged"]

# Kept out of identities by Cilium's default label filter (pkg/labelsfilter/filter.go, `defaultLabelPrefixCfg`).
NOT_IDENTITY_RELEVANT = (
    "annotation.",
    "batch.kubernetes.io/",
    "controller-revision-hash",
    "controller-uid",
    "etcd_node",
    "job-name",
    "kubernetes.io/",
    "pod-template-generation",
    "pod-template-hash",
    "statefulset.kubernetes.io/",
    "apps.kubernetes.io/pod-index",
)
_NAMED_PORTS = "io.cilium.k8s.named-ports"


def from_edges(edges: Iterable[Edge], resolved: Mapping[str, Iterable[str]] = MappingProxyType({})) -> Inventory:
    """Everything the edges themselves tell: identities, namespace labels, declared ports where the agent wrote them into the
    identity (``gen:`` label), and the addresses of DNS names. The local cluster is the one that observed most.

    `resolved` are the addresses that DNS responses gave for names (`answered_names`); those that edges lead to count.
    """
    endpoints: dict[tuple[Labels, str], InventoryEndpoint] = {}
    names: dict[str, set[str]] = {}
    observers: Counter[str] = Counter()
    outside: set[str] = set()
    ipv6 = False
    for edge in edges:
        observers[edge.cluster] += edge.weight
        for end, workloads in (
            (edge.source, edge.source_workloads),
            (edge.destination, edge.destination_workloads),
        ):
            ipv6 = ipv6 or family(end.address) == 6
            if end.address:
                outside.add(end.address)
                for name in edge.stats.names:
                    names.setdefault(name, set()).add(end.address)
            elif end.labels and not entities(end.labels):
                endpoints.setdefault((end.labels, end.namespace), _seen(end, workloads))
    for name, addresses in resolved.items():
        met = outside.intersection(addresses)
        if met:
            names.setdefault(name, set()).update(met)
    cluster = min(observers, key=lambda name: (-observers[name], name)) if observers else "default"
    return Inventory(
        endpoints=tuple(endpoints[key] for key in sorted(endpoints)),
        namespaces=_namespace_labels(endpoints.values()),
        names={name: tuple(sorted(addresses)) for name, addresses in sorted(names.items())},
        options=AgentOptions(cluster_name=cluster, ipv6=ipv6),
    )


def answered_names(answers: Bounded[tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """DNS names with the addresses that responses gave for them, from `EdgeTable.answers`. A sample (overflow) tells none."""
    names: dict[str, set[str]] = {}
    if not answers.overflow:
        for _, address, name in answers:
            if family(address):
                names.setdefault(name, set()).add(address)
    return {name: tuple(sorted(addresses)) for name, addresses in sorted(names.items())}


def _seen(end: Endpoint, workloads: tuple[Workload, ...]) -> InventoryEndpoint:
    workload = "/".join(workloads[0]) if workloads else ""
    declared = end.labels.get(_NAMED_PORTS, "gen")
    ports = None if declared is None else _named_ports(declared)
    return InventoryEndpoint(workload_name(end, workloads), end.namespace, end.labels, (), ports, workload)


def _named_ports(text: str) -> dict[str, L4]:
    """Read ``dns.UDP.53_metrics.TCP.9153``, as agents from 1.20 on write it."""
    found = {}
    for part in text.split("_"):
        name, _, rest = part.partition(".")
        protocol, _, port = rest.partition(".")
        if name and port.isascii() and port.isdigit():
            try:
                found[name] = L4(Protocol.parse(protocol), int(port))
            except ValueError:
                continue
    return found


def _namespace_labels(endpoints: Iterable[InventoryEndpoint]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for endpoint in endpoints:
        labels = found.setdefault(endpoint.namespace, {})
        for label in endpoint.labels:
            if label.source == "k8s" and label.key.startswith(NAMESPACE_LABEL_PREFIX):
                labels[label.key[len(NAMESPACE_LABEL_PREFIX) :]] = label.value
    return {name: dict(sorted(labels.items())) for name, labels in sorted(found.items()) if name}


def from_manifests(documents: Iterable[Mapping[str, Any]], cluster_name: str = "default") -> Inventory:
    """Pods, workloads (those without pods are silent, not absent), namespaces, services, CIDR groups, and the agent's settings.

    Other kinds and fields of the wrong type are passed over: manifests are read as the API server writes them.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        found.setdefault(str(document.get("kind", "")), []).append(document)
    namespaces = {_name(each): _strings(_meta(each).get("labels")) for each in found.get("Namespace", [])}
    endpoints = _pods(found.get("Pod", []), namespaces, cluster_name)
    endpoints += _workloads(found, namespaces, cluster_name, {(each.namespace, each.labels) for each in endpoints})
    return Inventory(
        endpoints=tuple(sorted(endpoints, key=lambda each: (each.namespace, each.name, each.labels, each.ips))),
        namespaces=dict(sorted(namespaces.items())),
        services=tuple(map(_service, sorted(found.get("Service", []), key=_key))),
        cidr_groups=tuple(map(_cidr_group, sorted(found.get("CiliumCIDRGroup", []), key=_key))),
        options=_agent_options(found.get("ConfigMap", []), cluster_name),
    )


def _agent_options(config_maps: Iterable[Mapping[str, Any]], cluster_name: str) -> AgentOptions:
    """The settings that change verdicts, from the ConfigMap ``cilium-config`` (Cilium pkg/option/config.go names the keys)."""
    options = AgentOptions(cluster_name=cluster_name)
    for each in config_maps:
        if _name(each) == "cilium-config":
            data = _strings(each.get("data"))
            known = {field: read(data[key]) for key, (field, read) in _SETTINGS.items() if key in data}
            options = replace(options, **known)
    return options


def _is_true(text: str) -> bool:
    return text.strip().lower() in ("true", "1", "t")


_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "allow-localhost": ("allow_localhost", lambda text: "policy" if text == "policy" else "always"),
    "enable-extended-ip-protocols": ("extended_protocols", _is_true),
    "enable-host-firewall": ("host_firewall", _is_true),
    "enable-ipv4": ("ipv4", _is_true),
    "enable-ipv6": ("ipv6", _is_true),
    "enable-node-selector-labels": ("node_selector_labels", _is_true),
    "enable-policy": ("enforcement", lambda text: text if text in ("always", "never") else "default"),
    "policy-cidr-match-mode": ("cidr_match_nodes", lambda text: "nodes" in text),
    "policy-default-local-cluster": ("any_cluster", lambda text: not _is_true(text)),
}


_FINISHED = frozenset({"Succeeded", "Failed"})
"""Phases in which a pod still shows an address that somebody else may have by now."""


def _pods(
    pods: Iterable[Mapping[str, Any]], namespaces: Mapping[str, Mapping[str, str]], cluster: str
) -> list[InventoryEndpoint]:
    found = []
    for pod in pods:
        spec, state = _mapping(pod.get("spec")), _mapping(pod.get("status"))
        if spec.get("hostNetwork") is True:
            continue
        ips = [str(_mapping(each).get("ip", "")) for each in _list(state.get("podIPs"))] or [
            str(state.get("podIP", ""))
        ]
        if state.get("phase") in _FINISHED:
            ips = []
        owners = [_mapping(each) for each in _list(_meta(pod).get("ownerReferences"))]
        owner = f"{owners[0].get('kind', '')}/{owners[0].get('name', '')}" if owners else f"Pod/{_name(pod)}"
        found.append(_endpoint(pod, _meta(pod), spec, namespaces, cluster, tuple(filter(None, ips)), owner))
    return found


_TEMPLATES: dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    "CronJob": lambda spec: _mapping(_mapping(_mapping(spec.get("jobTemplate")).get("spec")).get("template")),
    "DaemonSet": lambda spec: _mapping(spec.get("template")),
    "Deployment": lambda spec: _mapping(spec.get("template")),
    "StatefulSet": lambda spec: _mapping(spec.get("template")),
}


def _workloads(
    found: Mapping[str, list[Mapping[str, Any]]],
    namespaces: Mapping[str, Mapping[str, str]],
    cluster: str,
    running: set[tuple[str, Labels]],
) -> list[InventoryEndpoint]:
    silent = []
    for kind, template_of in _TEMPLATES.items():
        for workload in found.get(kind, []):
            template = template_of(_mapping(workload.get("spec")))
            spec = _mapping(template.get("spec"))
            if not template or spec.get("hostNetwork") is True:
                continue
            meta = _mapping(template.get("metadata"))
            made = _endpoint(workload, meta, spec, namespaces, cluster, (), f"{kind}/{_name(workload)}")
            if (made.namespace, made.labels) not in running:
                silent.append(made)
    return silent


def _endpoint(
    owner: Mapping[str, Any],
    meta: Mapping[str, Any],
    spec: Mapping[str, Any],
    namespaces: Mapping[str, Mapping[str, str]],
    cluster: str,
    ips: tuple[str, ...],
    workload: str,
) -> InventoryEndpoint:
    namespace = str(_meta(owner).get("namespace", "default"))
    labels = [
        Label("k8s", key, value)
        for key, value in _strings(meta.get("labels")).items()
        if not key.startswith(NOT_IDENTITY_RELEVANT)
    ]
    labels += [
        Label("k8s", NAMESPACE_KEY, namespace),
        Label("k8s", CLUSTER_KEY, cluster),
        Label("k8s", SERVICE_ACCOUNT_KEY, str(spec.get("serviceAccountName", "default"))),
    ]
    labels += [
        Label("k8s", NAMESPACE_LABEL_PREFIX + key, value) for key, value in namespaces.get(namespace, {}).items()
    ]
    ports = {}
    for container in _list(spec.get("containers")):
        for port in map(_mapping, _list(_mapping(container).get("ports"))):
            number = port.get("containerPort")
            if port.get("name") and isinstance(number, int) and 0 < number <= 65535:
                ports[str(port["name"])] = L4(_protocol(port.get("protocol")), number)
    return InventoryEndpoint(_name(owner), namespace, Labels.of(labels), ips, ports, workload)


def _service(service: Mapping[str, Any]) -> ServiceInfo:
    spec, state = _mapping(service.get("spec")), _mapping(service.get("status"))
    ports = []
    for port in map(_mapping, _list(spec.get("ports"))):
        number = port.get("port")
        if isinstance(number, int):
            ports.append((L4(_protocol(port.get("protocol")), number), str(port.get("targetPort", number))))
    ips = [str(each) for each in _list(spec.get("clusterIPs"))] or [str(spec.get("clusterIP", ""))]
    balancers = [_mapping(each) for each in _list(_mapping(state.get("loadBalancer")).get("ingress"))]
    external = [str(each) for each in _list(spec.get("externalIPs"))] + [str(each.get("ip", "")) for each in balancers]
    return ServiceInfo(
        _name(service),
        str(_meta(service).get("namespace", "default")),
        _strings(_meta(service).get("labels")),
        _strings(spec.get("selector")),
        tuple(ip for ip in ips if ip and ip != "None"),
        tuple(ports),
        tuple(filter(None, external)),
    )


def _cidr_group(group: Mapping[str, Any]) -> CidrGroup:
    cidrs = tuple(str(each) for each in _list(_mapping(group.get("spec")).get("externalCIDRs")))
    return CidrGroup(_name(group), cidrs, _strings(_meta(group).get("labels")))


def _protocol(value: object) -> Protocol:
    try:
        return Protocol.parse(str(value or "TCP"))
    except ValueError:
        return Protocol.TCP


def _key(document: Mapping[str, Any]) -> tuple[str, str]:
    return str(_meta(document).get("namespace", "")), _name(document)


def _meta(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(document.get("metadata"))


def _name(document: Mapping[str, Any]) -> str:
    return str(_meta(document).get("name", ""))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _strings(value: object) -> dict[str, str]:
    return {str(key): str(each) for key, each in sorted(_mapping(value).items()) if isinstance(each, str)}


def merged(seen: Inventory, declared: Inventory) -> Inventory:
    """Both together; where both speak of the same thing, `declared` (manifests, the cluster) is believed.

    An identity that was seen with fewer labels than its pods declare (label filters remove some) gets their named ports.
    """
    known = {(each.labels, each.namespace) for each in declared.endpoints}
    by_namespace: dict[str, list[InventoryEndpoint]] = {}
    for each in declared.endpoints:
        by_namespace.setdefault(each.namespace, []).append(each)
    endpoints = declared.endpoints + tuple(
        replace(each, named_ports=_declared_ports(each, by_namespace.get(each.namespace, ())))
        if each.named_ports is None
        else each
        for each in seen.endpoints
        if (each.labels, each.namespace) not in known
    )
    return replace(
        declared,
        endpoints=tuple(sorted(endpoints, key=lambda each: (each.namespace, each.name, each.labels, each.ips))),
        namespaces={**seen.namespaces, **declared.namespaces},
        names={**seen.names, **declared.names},
        options=replace(declared.options, ipv6=declared.options.ipv6 or seen.options.ipv6),
    )


def _declared_ports(seen: InventoryEndpoint, pods: Iterable[InventoryEndpoint]) -> Mapping[str, L4] | None:
    """The named ports of the pods that have all labels of `seen`; None if there is no such pod or they differ."""
    own = {label for label in seen.labels if not label.key.startswith("io.cilium.")}
    found = [pod.named_ports for pod in pods if own and own.issubset(pod.labels)]
    return found[0] if found and all(each == found[0] for each in found) else None
