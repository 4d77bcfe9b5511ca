"""Platform policies: roles as CiliumClusterwideNetworkPolicies that close nothing, and the default deny that closes the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from analyzer.baseline.roles import Roles
from analyzer.manifests import Document
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4, Protocol
from analyzer.model.labels import NAMESPACE_KEY
from analyzer.recommend.draft import Draft, EndpointPeer, EntityPeer, Peer, RuleDraft, Span, Subject, SubjectKey
from analyzer.recommend.evidence import counted, marked
from analyzer.recommend.policies import safe_name
from analyzer.recommend.ports import lists
from analyzer.recommend.render import MANAGED_BY, rule_value, selector
from analyzer.recommend.system import SYSTEM_NAMESPACES, is_namespace, is_system

__all__ = ["CLOSING", "PLATFORM", "closing_documents", "platform_documents", "system_names"]

PLATFORM = "_platform"
"""The folder of what is applied first."""
CLOSING = "_default-deny"
"""The folder of what is applied last."""

_NAMESPACE = f"k8s:{NAMESPACE_KEY}"
_WORDS = {Direction.INGRESS: ("ingress", "from"), Direction.EGRESS: ("egress", "to")}
_LISTED = 20
"""Names given in a comment; the report has all of them."""
_EMPTY = {"kube-node-lease", "kube-public"}
"""Namespaces without any pod: who knows them has the whole list of namespaces."""
_EVERYWHERE = ("cilium-secrets", "kube-node-lease", "kube-public", "kube-system")
_KNOWN = (
    "amazon-cloudwatch", "amazon-guardduty", "calico-apiserver", "calico-system", "cattle-fleet-system", "cattle-system",
    "cilium-spire", "gke-managed-cim", "gke-managed-system", "gmp-public", "gmp-system", "openshift-apiserver",
    "openshift-authentication", "openshift-console", "openshift-dns", "openshift-etcd", "openshift-image-registry",
    "openshift-ingress", "openshift-kube-apiserver", "openshift-machine-api", "openshift-monitoring", "openshift-operators",
)  # fmt: skip
"""Names below the prefixes of system namespaces, since a selector knows no prefixes."""


def system_names(patterns: frozenset[str], seen: Collection[str]) -> tuple[str, ...]:
    """The system namespaces by their full names: those that were seen, those that people named, and the ones of every cluster.

    Where nobody said which namespaces there are, the well-known ones are among them: one without traffic is not seen.
    """
    named = {each for each in patterns if not each.endswith("*")}
    whole = set(seen) >= _EMPTY
    known = {*_EVERYWHERE, *seen, *(() if whole else _KNOWN)}
    found = {name for name in known if is_system(name, patterns)} | (named - SYSTEM_NAMESPACES if whole else named)
    # A record may say what it likes; one name that no selector may hold would cost the whole policy.
    return tuple(sorted(filter(is_namespace, found)))


def everybody(system: Sequence[str]) -> dict[str, Any]:
    """The subject of clusterwide policies: all pods outside of the `system` namespaces.

    ``Exists`` keeps endpoints without a namespace out (health, ingress, init), which ``NotIn`` alone would select.
    """
    outside: list[dict[str, Any]] = [{"key": _NAMESPACE, "operator": "NotIn", "values": list(system)}] if system else []
    return {"matchExpressions": [*outside, {"key": _NAMESPACE, "operator": "Exists"}]}


def platform_documents(
    roles: Roles, draft: Draft, system: Sequence[str], folder: str = "", taken: Collection[str] = ()
) -> tuple[Document, ...]:
    """The policies for what the whole cluster needs, in the order of their names. None of them closes a direction, and none
    selects a pod of a system namespace. Names that are `taken` are not used again: of two policies of one name, the later
    replaces the earlier."""
    maker = _Maker(draft, system, folder, taken)
    made = [*maker.resolving(roles), *maker.probed(roles), *maker.monitored(roles), *maker.reached(roles)]
    return tuple(sorted(made, key=lambda document: (document.path, document.data["metadata"]["name"])))


class _Maker:
    """What all platform policies have in common."""

    def __init__(self, draft: Draft, system: Sequence[str], folder: str, taken: Collection[str]) -> None:
        self._draft, self._system, self._folder = draft, frozenset(system), folder
        self._everybody = everybody(system)
        self._taken = set(taken)

    def _name(self, prefix: str, key: SubjectKey) -> str:
        """A name of its own for a workload's policy: ``a-b/c`` and ``a/b-c`` are two."""
        name = safe_name(f"{prefix}-{key.namespace}-{key.name}")
        return name if name not in self._taken else safe_name(f"{prefix}-{key}")

    def resolving(self, roles: Roles) -> Iterator[Document]:
        """Everybody may ask the resolvers, and a resolver that policies may select is open for everybody."""
        if not roles.resolvers:
            return
        items = [_item(Direction.EGRESS, each.peer, _lookups(each.port)) for each in roles.resolvers]
        names = ", ".join(sorted({f"{_title(each.peer)} port {each.port}" for each in roles.resolvers}))
        yield self._document("dns", "platform-dns", self._everybody, {"egress": items}, f"Name resolution at {names}.")
        for subject, ports in self._servers(roles):
            l4s = [l4 for port in ports for l4 in _lookups(port)]
            own = EndpointPeer(subject.key, subject.selection)
            items = [{**_item(Direction.INGRESS, own, some), "fromEndpoints": [{}]} for some in lists(l4s)]
            name = self._name("platform-dns", subject.key)
            sections = {"ingress": items}
            yield self._document("dns", name, _only(subject), sections, f"{subject.key} resolves names for everybody.")

    def _servers(self, roles: Roles) -> Iterator[tuple[Subject, list[int]]]:
        ports: dict[SubjectKey, list[int]] = {}
        for each in roles.resolvers:
            if isinstance(each.peer, EndpointPeer) and each.peer.subject.cluster == each.cluster:
                ports.setdefault(each.peer.subject, []).append(each.port)
        for key, found in sorted(ports.items()):
            if key.namespace not in self._system:
                yield self._draft.subjects[key], sorted(found)

    def probed(self, roles: Roles) -> Iterator[Document]:
        """The kubelet's probes come from the pod's own node. Cilium lets them in anyway, unless it is told otherwise
        (``allow-localhost=policy``, or ``enable-policy=always``)."""
        if roles.probed:
            items = [rule_value(_rule(Direction.INGRESS, EntityPeer(Entity.HOST)), "from")]
            text = f"Probes of the kubelet, from a pod's own node; seen at {counted(roles.probed, 'workload')}."
            yield self._document("probes", "platform-probes", self._everybody, {"ingress": items}, text)

    def monitored(self, roles: Roles) -> Iterator[Document]:
        """Monitoring reaches every pod on every port, and may go there."""
        subjects = [self._draft.subjects[key] for key in roles.monitoring]
        if not subjects:
            return
        peers = [EndpointPeer(each.key, each.selection) for each in subjects]
        items = [_item(Direction.INGRESS, peer) for peer in peers]
        text = f"Monitoring reaches every workload on every port: {_listed(str(each.key) for each in subjects)}."
        yield self._document("monitoring", "platform-monitoring", self._everybody, {"ingress": items}, text)
        for subject in subjects:
            if subject.key.namespace not in self._system:
                name = self._name("platform-monitoring", subject.key)
                sections: dict[str, Any] = {"egress": [{"toEndpoints": [{}]}]}
                yield self._document(
                    "monitoring", name, _only(subject), sections, f"{subject.key} may reach every pod."
                )

    def reached(self, roles: Roles) -> Iterator[Document]:
        """The internet reaches gateways, on the ports it was seen on."""
        for key, l4s in roles.gateways.items():
            if key.namespace in self._system:
                continue
            items = [_item(Direction.INGRESS, EntityPeer(Entity.WORLD), l4s) for l4s in lists(l4s)]
            name = self._name("platform-internet", key)
            text = f"{key} lets the internet in on {', '.join(map(str, l4s))}."
            yield self._document("internet", name, _only(self._draft.subjects[key]), {"ingress": items}, text)

    def _document(self, file: str, name: str, subject: dict[str, Any], sections: dict[str, Any], text: str) -> Document:
        if name in self._taken:
            name = safe_name(f"{name}-recommended")
        self._taken.add(name)
        spec = {"endpointSelector": subject, "enableDefaultDeny": {"ingress": False, "egress": False}, **sections}
        path = f"{self._folder}{PLATFORM}/{file}.yaml"
        return Document(_clusterwide(name, spec), path, header=marked((text, "It closes nothing.")))


def closing_documents(
    system: Sequence[str],
    directions: Collection[Direction],
    unseen: dict[Direction, tuple[SubjectKey, ...]],
    folder: str = "",
    taken: Collection[str] = (),
) -> tuple[Document, ...]:
    """One default deny per direction: an empty rule closes it and allows nothing. ``enableDefaultDeny`` without a rule is refused
    by Cilium. `unseen` are the workloads for which nothing was seen in a direction, so that nothing is left open there."""
    found = []
    for direction in sorted(directions):
        section, _ = _WORDS[direction]
        spec = {"endpointSelector": everybody(system), section: [{}]}
        closed = unseen.get(direction, ())
        lines = [
            f"Default deny for {section}, to be applied last: after the policies in {PLATFORM} and those of every workload.",
            "Add every system namespace that comes later, by its full name. To take it back, delete this policy.",
            f"Nothing was seen in this direction, so that no policy of theirs allows any, for {counted(len(closed), 'workload')}: "
            f"{_listed(map(str, closed))}"
            if closed
            else "Every workload that was seen has something allowed in this direction.",
        ]
        path = f"{folder}{CLOSING}/{section}.yaml"
        name = f"default-deny-{section}"
        name = f"{name}-recommended" if name in taken else name
        found.append(Document(_clusterwide(name, spec), path, header=marked(lines)))
    return tuple(found)


def _clusterwide(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": name, "labels": dict(MANAGED_BY)},
        "spec": spec,
    }


def _only(subject: Subject) -> dict[str, Any]:
    return selector(subject.selection, {_NAMESPACE: subject.key.namespace})


def _rule(direction: Direction, peer: Peer, l4s: Sequence[L4 | Span] = ()) -> RuleDraft:
    return RuleDraft(SubjectKey("", "", ""), direction, (peer,), tuple(l4s), ())


def _item(direction: Direction, peer: Peer, l4s: Sequence[L4 | Span] = ()) -> dict[str, Any]:
    return rule_value(_rule(direction, peer, l4s), _WORDS[direction][1])


def _lookups(port: int) -> tuple[L4, L4]:
    return L4(Protocol.UDP, port), L4(Protocol.TCP, port)


def _title(peer: Peer) -> str:
    return str(peer.subject if isinstance(peer, EndpointPeer) else peer[0])


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    more = len(found) - _LISTED
    return ", ".join(found[:_LISTED]) + (f" and {more} more" if more > 0 else "")
