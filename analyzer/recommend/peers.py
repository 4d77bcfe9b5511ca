"""The pass that turns edges into claims: for each end that is a workload, what the other end is called in a rule."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from ipaddress import ip_network
from typing import NamedTuple

from analyzer.model.edge import Edge, Endpoint, Side
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity, is_outside, primary_entity
from analyzer.model.perspective import home_cluster, seen_from
from analyzer.recommend.draft import (
    CidrPeer,
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    Peer,
    Reason,
    Refusal,
    Subject,
)
from analyzer.recommend.services import Services

__all__ = ["peers"]

NO_ENTITY = {Entity.INIT: Reason.STARTING}
"""Reserved identities that no rule is written for."""

_SIDES = ((Direction.INGRESS, Side.DESTINATION), (Direction.EGRESS, Side.SOURCE))
# The CRD's pattern for matchName, without its nested repetition.
_NAME = re.compile(r"[-a-z0-9_]+(?:\.[-a-z0-9_]+)*\.?")

Outcome = list[Claim] | Reason | None


def peers(draft: Draft) -> Draft:
    """Claim every edge for both of its ends, independently. Local host to pod needs no rule: Cilium always allows it."""
    view = _View(draft)
    claims: list[Claim] = []
    refused: list[Refusal] = []
    always_allowed: list[Edge] = []
    for edge in draft.edges:
        results = {
            direction: view.claims(edge, direction, side) for direction, side in _SIDES if view.owner(edge, side)
        }
        if not results:
            refused.append(Refusal(edge, *view.homeless(edge)))
        for direction, found in results.items():
            if isinstance(found, Reason):
                translated = view.translated(edge) if direction is Direction.EGRESS else None
                claims.extend(translated.claims if translated else [])
                refused.append(translated.refusal if translated else Refusal(edge, found, direction))
            elif found is None:
                always_allowed.append(edge)
            else:
                claims.extend(found)
    return replace(
        draft,
        claims=(*draft.claims, *claims),
        refused=(*draft.refused, *refused),
        always_allowed=(*draft.always_allowed, *always_allowed),
    )


class _Translated(NamedTuple):
    """What an edge to a service's address comes to: claims on its backends, and the entry that says so."""

    claims: list[Claim]
    refusal: Refusal


class _View:
    """What the pass looks up again and again."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        inventory = draft.inventory
        self._inside = {ip for pod in inventory.endpoints for ip in pod.ips}
        self._any_cluster = inventory.options.any_cluster
        self._localhost = inventory.options.allow_localhost == "always" and inventory.options.enforcement != "always"
        self._observed = _observed_clusters(draft)
        self._asked = _asked(draft)
        self._services = Services(inventory, draft.subjects)
        self._names_of: dict[str, list[str]] = defaultdict(list)
        for name, addresses in inventory.names.items():
            for address in addresses:
                self._names_of[address].append(name)

    def owner(self, edge: Edge, side: Side) -> Subject | None:
        """The workload at one side of the edge."""
        end = edge.source if side is Side.SOURCE else edge.destination
        return self._subject(home_cluster(edge, end), end)

    def _subject(self, cluster: str, end: Endpoint) -> Subject | None:
        key = self._draft.homes.get((cluster, end))
        return self._draft.subjects[key] if key else None

    @staticmethod
    def homeless(edge: Edge) -> tuple[Reason]:
        """Why an edge without any workload makes no rule."""
        blank = any(not end.labels for end in (edge.source, edge.destination))
        return (Reason.NO_IDENTITY if blank else Reason.NO_SUBJECT,)

    def claims(self, edge: Edge, direction: Direction, side: Side) -> Outcome:
        """The claims of one end; None when what it needs is always allowed; an empty list when it is out of scope."""
        subject = self.owner(edge, side)
        assert subject is not None
        settings = self._draft.options.settings(subject.key.namespace)
        if direction not in settings.directions:
            return []
        if subject.obstacle:
            return Reason.UNSELECTABLE
        if subject.key.cluster not in self._observed:
            return Reason.CLUSTER_ALIEN
        claims: list[Claim] = []
        always = False
        for far in seen_from(edge, side):
            if direction is Direction.INGRESS and self._localhost and primary_entity(far.labels) is Entity.HOST:
                always = True
                continue
            found = self._peers(edge, subject, far, names=settings.names and direction is Direction.EGRESS)
            if isinstance(found, Reason):
                return found
            claims.extend(
                Claim(subject.key, direction, peer, edge.l4, (edge,), fallback=other) for peer, other in found
            )
        return None if always and not claims else claims

    def _peers(
        self, edge: Edge, subject: Subject, far: Endpoint, *, names: bool
    ) -> list[tuple[Peer, Peer | None]] | Reason:
        entity = primary_entity(far.labels)
        if entity in NO_ENTITY:
            return NO_ENTITY[entity]
        if entity is not None and entity is not Entity.WORLD:
            return [(EntityPeer(entity), None)]
        if entity is Entity.WORLD or is_outside(far.labels):
            return self._outside(edge, far.address, self._known_names(edge, subject, far) if names else [])
        if not far.labels:
            return Reason.NO_IDENTITY
        if far.labels.reserved():
            return Reason.UNKNOWN_RESERVED
        return self._pods(home_cluster(edge, far), far, subject)

    def _pods(self, cluster: str, far: Endpoint, subject: Subject) -> list[tuple[Peer, Peer | None]] | Reason:
        peer = self._subject(cluster, far)
        if peer is None:
            return Reason.NO_IDENTITY
        if peer.obstacle:
            return Reason.UNSELECTABLE
        remote = self._any_cluster or cluster != subject.key.cluster
        return [(EndpointPeer(peer.key, peer.selection, cluster if remote else ""), None)]

    def _outside(self, edge: Edge, address: str, names: list[str]) -> list[tuple[Peer, Peer | None]] | Reason:
        by_address = self._by_address(edge, address)
        if by_address is Reason.INSIDE_ADDRESS or not names:
            return by_address if isinstance(by_address, Reason) else [(by_address, None)]
        fallback = None if isinstance(by_address, Reason) else by_address
        found: list[tuple[Peer, Peer | None]] = [(NamePeer(name), fallback) for name in names]
        # A prefix stands for many addresses: the names cover only those that were named.
        if "/" in address and edge.stats.unnamed and fallback is not None:
            found.append((fallback, None))
        return found

    def translated(self, edge: Edge) -> _Translated | None:
        """An edge to a service's address, which no policy sees: its workload is let to the backends, and they let it in."""
        subject, far = self.owner(edge, Side.SOURCE), edge.destination
        if subject is None or subject.obstacle or not far.address:
            return None
        names = self._services.names(edge, far.address)
        if not names:
            return None
        claims = []
        backends = self._services.backends(subject.key.cluster, far.address, names, edge.l4)
        for peer, l4, key in backends:
            claims.append(Claim(subject.key, Direction.EGRESS, peer, l4, (edge,)))
            if key and Direction.INGRESS in self._draft.options.settings(key.namespace).directions:
                client = EndpointPeer(subject.key, subject.selection)
                claims.append(Claim(key, Direction.INGRESS, client, l4, (edge,)))
        listed = ", ".join(f"{each.subject or 'kube-apiserver'} {each.l4}" for each in backends)
        told = (
            f"the rules allow its backends instead: {listed}"
            if backends
            else "its backends are not known (--inventory)"
        )
        return _Translated(
            claims, Refusal(edge, Reason.INSIDE_ADDRESS, Direction.EGRESS, f"{', '.join(names)}; {told}")
        )

    def _by_address(self, edge: Edge, address: str) -> Peer | Reason:
        if address in ("", "unknown") or address.endswith("/0"):
            return EntityPeer(Entity.WORLD)
        if address in self._inside or edge.stats.conflicting >= edge.weight > 0 or self._services.names(edge, address):
            return Reason.INSIDE_ADDRESS
        try:
            network = ip_network(address)
        except ValueError:
            return Reason.BAD_ADDRESS
        return Reason.BAD_ADDRESS if "%" in address else CidrPeer(str(network))

    def _known_names(self, edge: Edge, subject: Subject, far: Endpoint) -> list[str]:
        """The DNS names of the outside peer: as reported, else those that the workload asked for and that gave this address."""
        if edge.stats.names.overflow:
            return []
        names = set(edge.stats.names) or {
            n for n in self._names_of.get(far.address, ()) if n in self._asked[subject.key]
        }
        return sorted(name for name in names if len(name) <= 255 and _NAME.fullmatch(name))


def _asked(draft: Draft) -> dict[object, set[str]]:
    """The DNS names each workload asked for."""
    asked: dict[object, set[str]] = defaultdict(set)
    for edge in draft.edges:
        key = draft.homes.get((home_cluster(edge, edge.source), edge.source))
        if key is not None:
            asked[key].update(edge.stats.queries)
    return asked


def _observed_clusters(draft: Draft) -> frozenset[str]:
    """The clusters whose agents reported: of a cluster known only as a far end, most traffic was never seen."""
    found = set()
    for edge in draft.edges:
        found.add(edge.cluster)
        for key in edge.stats.activity:
            if key.side:
                found.add(home_cluster(edge, edge.source if key.side == Side.SOURCE else edge.destination))
    return frozenset(found)
