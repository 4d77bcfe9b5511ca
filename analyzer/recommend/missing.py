"""The pass that leaves out what existing policies allow already, and refuses what they deny: the engine decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import NamedTuple

from analyzer.model.address import family
from analyzer.model.edge import Edge, Endpoint, Side
from analyzer.model.flow import Direction
from analyzer.model.identity import WORLD, Entity, entities, primary_entity, reserved
from analyzer.model.labels import Labels
from analyzer.model.perspective import policy_labels, seen_from
from analyzer.model.requests import requests
from analyzer.policy import (
    DnsQuery,
    HttpRequest,
    Origin,
    Outcome,
    Peer,
    Policy,
    PolicySet,
    SideDecision,
    Traffic,
    compile_policies,
)
from analyzer.policy.model import Action, Section
from analyzer.recommend.draft import (
    Claim,
    Draft,
    EndpointPeer,
    EntityPeer,
    NamePeer,
    Note,
    Purpose,
    Reason,
    Refusal,
    SubjectKey,
    Topic,
)

__all__ = ["Asked", "missing"]

_SIDES = {Direction.INGRESS: Side.DESTINATION, Direction.EGRESS: Side.SOURCE}
_Place = tuple[SubjectKey, Direction]


class _Answer(NamedTuple):
    """What existing policies make of a claim: `allowing` name the rules if all of it is allowed, `denying` the first that
    denies some of it. `enforced` tells whether they close the direction for all else."""

    allowing: frozenset[Origin] = frozenset()
    denying: Origin | None = None
    enforced: bool = False


def missing(draft: Draft) -> Draft:
    """Drop the claims that rules of existing policies allow, as long as the direction is closed by them or by what is left.

    Where all is allowed and nothing closes the direction, the claims stay, since a policy that closes it has to hold them.
    """
    if not draft.options.existing:
        return draft
    asked = Asked(draft, draft.options.existing)
    answers = [asked.answer(claim) for claim in draft.claims]
    by_place: dict[_Place, list[_Answer]] = defaultdict(list)
    for claim, answer in zip(draft.claims, answers, strict=True):
        by_place[claim.subject, claim.direction].append(answer)
    closed = {place for place, found in by_place.items() if any(a.enforced or not a.allowing for a in found)}
    kept: list[Claim] = []
    covered: list[Claim] = []
    refused: list[Refusal] = []
    names: dict[_Place, set[str]] = defaultdict(set)
    for claim, answer in zip(draft.claims, answers, strict=True):
        place = claim.subject, claim.direction
        if answer.denying is not None:
            refused.extend(Refusal(edge, Reason.DENIED, claim.direction, str(answer.denying)) for edge in claim.edges)
        elif answer.allowing and place in closed:
            names[place].update(str(origin.policy) for origin in answer.allowing)
            covered.append(claim)
        else:
            kept.append(claim)
    left = {(claim.subject, claim.direction) for claim in kept}
    notes = tuple(_note(place, found, more=place in left) for place, found in sorted(names.items()))
    return replace(
        draft,
        claims=tuple(kept),
        covered=(*draft.covered, *covered),
        refused=(*draft.refused, *refused),
        notes=(*draft.notes, *notes),
        complete=frozenset(names) - left,
    )


def _note(place: _Place, names: Iterable[str], *, more: bool) -> Note:
    subject, direction = place
    part = "part of what was seen" if more else "all that was seen"
    text = f"{direction.name.lower()}: {part} is allowed by {', '.join(sorted(names))} and not proposed again"
    return Note(Topic.EXISTING, str(subject), text)


class Asked:
    """The existing policies, asked about claims."""

    def __init__(self, draft: Draft, existing: Iterable[Policy]) -> None:
        self._draft = draft
        self._policies: dict[str, list[Policy]] = defaultdict(list)
        for policy in existing:
            self._policies[policy.ref.namespace].append(policy)
        self._compiled: dict[str, PolicySet] = {}
        self._members: dict[tuple[str, ...], list[SubjectKey]] = defaultdict(list)
        for key in draft.subjects:
            self._members[key[:2]].append(key)
        self._ipv6 = draft.inventory.options.ipv6
        self._names: Mapping[SubjectKey, set[str]] = defaultdict(set)
        for claim in draft.claims:
            if isinstance(claim.peer, NamePeer):
                self._names[claim.subject].add(claim.peer.name.replace("*", "x"))

    def answer(self, claim: Claim) -> _Answer:
        """Everything a claim stands for has to be allowed by rules, by whichever."""
        answers = list(self._ask(claim))
        allowing: set[Origin] = set()
        whole = bool(answers)
        for answer in answers:
            denying = next((o for o in answer.deciding if o.section and Section(o.section).action is Action.DENY), None)
            if answer.outcome is Outcome.DENIED and denying is not None:
                return _Answer(denying=denying, enforced=True)
            rules = {origin for origin in answer.allowing if origin.kind}
            allowing |= rules
            whole = whole and bool(rules) and _passes(answer, claim)
        enforced = all(answer.selected_by for answer in answers) and bool(answers)
        return _Answer(frozenset(allowing) if whole else frozenset(), enforced=enforced)

    def closing(self, claim: Claim) -> str:
        """The policies that close what a claim stands for, or some of it; empty if all of it passes."""
        for answer in self._ask(claim):
            if answer.outcome is Outcome.DENIED:
                return ", ".join(sorted(map(str, answer.selected_by)))
        return ""

    def _in(self, namespace: str) -> PolicySet:
        """The policies that can select pods of a namespace: its own and the clusterwide ones."""
        found = self._compiled.get(namespace)
        if found is None:
            policies = [*self._policies.get("", ()), *self._policies.get(namespace, ())]
            found = self._compiled[namespace] = compile_policies(policies, self._draft.inventory)
        return found

    def _ask(self, claim: Claim) -> Iterator[SideDecision]:
        subject, compiled = self._draft.subjects[claim.subject], self._in(claim.subject.namespace)
        for near in subject.identities:
            own = Peer(policy_labels(near), namespace=near.namespace)
            for far in self._fars(claim):
                for http, dns in self._requests(claim):
                    ends = (own, far) if claim.direction is Direction.EGRESS else (far, own)
                    decision = compiled.decide(Traffic(*ends, claim.l4, http, dns))
                    yield decision.egress if claim.direction is Direction.EGRESS else decision.ingress

    def _requests(self, claim: Claim) -> Iterator[tuple[HttpRequest | None, DnsQuery | None]]:
        """What the proxy has to let through, should there be one."""
        if claim.purpose is Purpose.DNS_NAMES:
            yield from ((None, DnsQuery(name)) for name in sorted(self._names[claim.subject]))
        yield None, None
        for edge in claim.edges if claim.purpose is Purpose.TRAFFIC else ():
            for request in sorted(requests(edge.stats)[0]) if edge.stats.http else ():
                yield HttpRequest(*request), None

    def _fars(self, claim: Claim) -> Iterator[Peer]:
        if isinstance(claim.peer, EndpointPeer):
            for far in self._pods(claim.peer.subject):
                yield Peer(policy_labels(far), namespace=far.namespace)
            return
        seen = {far: edge for edge in claim.edges for far in seen_from(edge, _SIDES[claim.direction])}
        if isinstance(claim.peer, EntityPeer):
            entity = claim.peer.entity
            seen = {far: edge for far, edge in seen.items() if primary_entity(far.labels) is entity}
            if not seen and entity not in WORLD:
                yield Peer(reserved(entity.value))
        for far, edge in seen.items():
            yield from self._outside(far, edge)

    def _pods(self, key: SubjectKey) -> Iterator[Endpoint]:
        """The identities of a workload, or of all in a namespace where the key has no name."""
        subjects = self._draft.subjects
        if key.name:
            yield from subjects[key].identities if key in subjects else ()
            return
        for each in self._members[key[:2]]:
            yield from subjects[each].identities

    def _outside(self, far: Endpoint, edge: Edge) -> Iterator[Peer]:
        labels, names = far.labels, tuple(edge.stats.names)
        if "/" not in far.address:
            yield self._world(labels, far.address, names)
            return
        network = ip_network(far.address)
        for address in (network.network_address, network.broadcast_address):
            yield self._world(labels, str(address), ())

    def _world(self, labels: Labels, address: str, names: tuple[str, ...]) -> Peer:
        """The world is two entities in a dual-stack cluster, by address family."""
        version = family(address)
        if self._ipv6 and version and Entity.WORLD in entities(labels):
            kept = [label for label in labels if label.key not in WORLD]
            labels = Labels.of([*kept, f"reserved:world-ipv{version}"])
        return Peer(labels, ip=address if version else "", names=names)


def _passes(answer: SideDecision, claim: Claim) -> bool:
    """Names are learnt by the DNS proxy only; and what the proxy is asked for has to pass."""
    if claim.purpose is Purpose.DNS_NAMES and answer.outcome is not Outcome.REDIRECTED:
        return False
    return answer.outcome in (Outcome.ALLOWED, Outcome.REDIRECTED) and answer.l7 is not False
