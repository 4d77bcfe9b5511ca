"""Policies and pods in few words, for tests of single rules of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.policy import Decision, DnsQuery, HttpRequest, Outcome, Peer, PolicySet, Traffic, compile_policies, parse

__all__ = ["LETTERS", "TCP_80", "Doc", "cnp", "compiled", "letters", "pod", "ports", "world"]

Doc = dict[str, Any]
LETTERS = {Outcome.ALLOWED: "A", Outcome.DENIED: "D", Outcome.REDIRECTED: "R", Outcome.UNDECIDED: "?"}
TCP_80 = L4(Protocol.TCP, 80)


def pod(app: str, namespace: str = "ns1", *more: str, ports: Mapping[str, L4] | None = None) -> Peer:
    """A pod of the local cluster; `more` are labels of it."""
    labels = [f"k8s:app={app}", f"k8s:io.kubernetes.pod.namespace={namespace}", *more]
    labels += [] if any("policy.cluster=" in each for each in more) else ["k8s:io.cilium.k8s.policy.cluster=default"]
    return Peer(Labels.of(labels), "10.0.0.1", named_ports=ports)


def world(ip: str = "192.0.2.7", *names: str) -> Peer:
    return Peer(Labels.of(["reserved:world"]), ip, names)


def ports(*texts: str, **more: Any) -> Doc:
    """An element of toPorts from texts such as ``80/TCP``."""
    listed = [{"port": text.partition("/")[0], "protocol": text.partition("/")[2] or "ANY"} for text in texts]
    return {"ports": listed, **more}


def cnp(name: str, namespace: str = "ns1", app: str = "", **sections: Any) -> Doc:
    """A CiliumNetworkPolicy, or with an empty namespace a clusterwide one, for the pods of an app or for all."""
    kind = "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"
    meta = {"name": name, **({"namespace": namespace} if namespace else {})}
    subject = {"matchLabels": {"app": app}} if app else {}
    spec = {"endpointSelector": subject, **sections}
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta, "spec": spec}


def compiled(*documents: Doc, inventory: Inventory = Inventory()) -> PolicySet:
    return compile_policies([parse(each, inventory.options) for each in documents], inventory)


def letters(
    policies: PolicySet | Doc,
    source: Peer,
    destination: Peer,
    l4: L4 = TCP_80,
    *,
    http: HttpRequest | None = None,
    dns: DnsQuery | None = None,
    options: AgentOptions = AgentOptions(),
) -> str:
    """Egress, ingress and final letter."""
    asked = policies if isinstance(policies, PolicySet) else compiled(policies, inventory=Inventory(options=options))
    found: Decision = asked.decide(Traffic(source, destination, l4, http, dns))
    return "".join(LETTERS[each] for each in (found.egress.outcome, found.ingress.outcome, found.outcome))
