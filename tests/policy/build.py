"""Policies and pods in few words, for tests of single rules of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions, Inventory
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import Labels
from analyzer.policy import Decision, DnsQuery, HttpRequest, Outcome, Peer, PolicySet, Traffic, compile_policies, parse
from tests.oracle.world import World
from tests.strategies import inventory

__all__ = ["LETTERS", "QUICK", "TCP_80", "Doc", "cnp", "compiled", "compiled_in", "letters", "pod", "ports", "traffic", "world",
]  # fmt: skip

Doc = dict[str, Any]
LETTERS = {Outcome.ALLOWED: "A", Outcome.DENIED: "D", Outcome.REDIRECTED: "R", Outcome.UNDECIDED: "?"}
QUICK = settings(
    max_examples=80,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
"""Without shrinking, which takes minutes on whole clusters."""
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


def compiled(*documents: Doc, known: Inventory = Inventory()) -> PolicySet:
    return compile_policies([parse(each, known.options) for each in documents], known)


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
    asked = policies if isinstance(policies, PolicySet) else compiled(policies, known=Inventory(options=options))
    found: Decision = asked.decide(Traffic(source, destination, l4, http, dns))
    return "".join(LETTERS[each] for each in (found.egress.outcome, found.ingress.outcome, found.outcome))


def compiled_in(drawn: Sequence[Doc], world: World) -> PolicySet:
    """The documents that the agent takes, compiled with what there is to know of the cluster."""
    accepted = []
    for document in drawn:
        try:
            accepted.append(parse(document, world.options))
        except PolicyError:
            continue
    return compile_policies(accepted, inventory(world))


def traffic(flow: Doc, world: World) -> Traffic:
    """A flow of the oracle as the engine's question."""
    ends = []
    for who in (flow["src"], flow["dst"]):
        party = world.party(who)
        ends.append(Peer(party.labels, party.ip, party.names, party.labels.namespace))
    protocol, request = Protocol.parse(flow["proto"]), flow.get("l7")
    l4 = L4(protocol, flow["icmpType"] if protocol.is_icmp else flow["port"])
    if not request:
        return Traffic(ends[0], ends[1], l4)
    if "dns" in request:
        return Traffic(ends[0], ends[1], l4, dns=DnsQuery(request["dns"]))
    headers = tuple((request.get("headers") or {}).items())
    http = HttpRequest(request["method"], request["path"], request.get("host", ""), headers)
    return Traffic(ends[0], ends[1], l4, http=http)
