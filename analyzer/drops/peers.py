"""Causes about peers: a rule with the right port whose selector misses - by namespace, label, cluster, entity, or CIDR."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from ipaddress import ip_address

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.scene import Near, Scene
from analyzer.model.address import family
from analyzer.model.identity import NODE_ENTITIES, WORLD, Entity, entities, is_outside, primary_entity
from analyzer.model.labels import CLUSTER_KEY, NAMESPACE_KEY, NAMESPACE_LABEL_PREFIX, Labels
from analyzer.policy.selector import CidrSelector, EntitySelector, LabelSelector, PeerSelector, Requirement
from analyzer.policy.words import labels_in_words, requirement_in_words

__all__ = ["other_cidr", "other_entity", "other_labels", "other_subject"]

_ALIKE = 0.75
"""Ratio of characters in common from which two values are taken for a slip of the pen."""
_SCOPE = (NAMESPACE_KEY, CLUSTER_KEY)
_WORDS: dict[Entity, str] = {
    Entity.HOST: "the node that the pod runs on",
    Entity.REMOTE_NODE: "another node",
    Entity.KUBE_APISERVER: "the node with the Kubernetes API server, or its address",
    Entity.INGRESS: "Cilium's Ingress or Gateway, which calls in place of its clients",
}
_NEARBY = NODE_ENTITIES | {Entity.INGRESS}


def _right_port(scene: Scene) -> Iterator[tuple[Near, PeerSelector]]:
    for near in scene.near:
        if near.port and not near.peer:
            for selector in near.item.peers or ():
                yield near, selector


def other_labels(scene: Scene) -> Iterator[Cause]:
    """Selectors of pods that fail by their namespace, their cluster, or a label or two."""
    labels = scene.labels
    if not labels or entities(labels):
        return
    for near, selector in _right_port(scene):
        if isinstance(selector, LabelSelector):
            found = _by_labels(near, selector, labels)
            if found is not None:
                yield found


def _by_labels(near: Near, selector: LabelSelector, labels: Labels) -> Cause | None:
    failing = [each for each in selector.requirements if not each.holds(labels)]
    spaces = [each for each in failing if each.key == NAMESPACE_KEY or each.key.startswith(NAMESPACE_LABEL_PREFIX)]
    own = [each for each in selector.requirements if each.key not in _SCOPE and each not in spaces]
    if len(failing) == len(spaces) and spaces:
        where = labels.get(NAMESPACE_KEY, "k8s") or "another namespace"
        asked = " and ".join(map(requirement_in_words, spaces))
        words = f"{near.origin} is meant for such pods, but with {asked}; the peer is in {where}"
        return Cause(CauseKind.NAMESPACE, words, _scoped(near, spaces), near.origin, 0 if own else 50)
    if failing and all(each.key == CLUSTER_KEY for each in failing):
        words = (
            f"{near.origin} is about pods of {', '.join(failing[0].values)}; the peer is in {labels.get(CLUSTER_KEY)}"
        )
        return Cause(CauseKind.CLUSTER, words, (), near.origin)
    wrong = [each for each in failing if each.key not in _SCOPE and each not in spaces]
    holding = [each for each in own if each not in wrong]
    if not wrong or len(wrong) > 2 or (not holding and not any(_slip(each, labels) for each in wrong)):
        return None
    missing = " and ".join(_lacking(each, labels) for each in (*wrong, *spaces))
    words = f"{near.origin} is about {labels_in_words(selector)}: {missing}"
    return Cause(CauseKind.LABEL, words, (), near.origin, len(failing))


def _scoped(near: Near, spaces: list[Requirement]) -> tuple[str, ...]:
    if any(each.key == NAMESPACE_KEY and each.values == (near.ref.namespace,) for each in spaces):
        return ("A selector without a namespace means the policy's own",)
    return ()


def _slip(requirement: Requirement, labels: Labels) -> bool:
    """Whether the pod has nearly this value, or this value under another key."""
    if requirement.operator.negated:
        return True
    value = labels.get(requirement.key)
    if value is not None and any(SequenceMatcher(None, value, each).ratio() >= _ALIKE for each in requirement.values):
        return True
    return any(label.value in requirement.values for label in labels if label.value and label.key not in _SCOPE)


def _lacking(requirement: Requirement, labels: Labels) -> str:
    source = "" if requirement.source == "any" else requirement.source
    value = labels.get(requirement.key, source)
    if value is not None:
        return f"the peer has {requirement.key}={value}"
    elsewhere = [str(label) for label in labels if label.value and label.value in requirement.values]
    return f"the peer has no {requirement.key}" + (f", but {elsewhere[0]}" if elsewhere else "")


def other_entity(scene: Scene) -> Iterator[Cause]:
    """Entities that are mistaken for each other, and clients whose address a node put its own in place of."""
    peer = primary_entity(scene.labels)
    if peer is None:
        return
    for near, selector in _right_port(scene):
        if peer in NODE_ENTITIES and scene.section == "ingress" and _outsiders(selector):
            yield _translated(scene, near, peer)
        elif isinstance(selector, EntitySelector) and _mistakable(selector.entity, peer):
            words = f"{near.origin} is about the entity {selector.entity}; the peer is {peer}"
            explained = (f"{peer} is {_WORDS[peer]}",) if peer in _WORDS else ()
            distance = 0 if selector.entity in NODE_ENTITIES else 1
            yield Cause(CauseKind.ENTITY, words, explained, near.origin, distance)


def _mistakable(named: Entity, peer: Entity) -> bool:
    """Whether a rule about one may be meant for the other: nodes for each other, and what comes by a node for the world."""
    return named is not peer and peer in _NEARBY and (named in NODE_ENTITIES or named in WORLD)


def _outsiders(selector: PeerSelector) -> bool:
    if isinstance(selector, EntitySelector):
        return selector.entity in WORLD
    return isinstance(selector, CidrSelector)


def _translated(scene: Scene, near: Near, peer: Entity) -> Cause:
    words = (
        f"{near.origin} is about clients outside, but this one comes with the address of a node ({peer}): "
        "NodePort and LoadBalancer Services with externalTrafficPolicy Cluster replace the client's address"
    )
    evidence = ["externalTrafficPolicy: Local on the Service keeps the client's address"]
    evidence += [f"translated to {each}" for each in scene.drops.translated]
    return Cause(CauseKind.SNAT, words, tuple(evidence), near.origin)


def other_cidr(scene: Scene) -> Iterator[Cause]:
    """CIDRs aimed at peers inside the cluster, which no CIDR ever matches; and addresses beside the CIDR."""
    addresses = scene.drops.server_ips if scene.section == "egress" else scene.drops.client_ips
    known = [address for address in (scene.peer.address, *addresses) if family(address) and "/" not in address]
    outside = is_outside(scene.labels) or (bool(scene.peer.address) and not scene.labels)
    for near, selector in _right_port(scene):
        if not isinstance(selector, CidrSelector):
            continue
        inside = next((address for address in known if ip_address(address) in selector.network), "")
        if not outside:
            # A node's address in place of a client's is another story: see `other_entity`.
            if inside and (scene.section == "egress" or primary_entity(scene.labels) not in NODE_ENTITIES):
                yield _never_matches(scene, near, selector, inside)
        elif inside:
            hole = next((each for each in selector.excepts if ip_address(inside) in each), selector.network)
            words = f"{near.origin} covers {selector.network}, but excepts {hole}, which {inside} is in"
            yield Cause(CauseKind.CIDR_EXCEPT, words, (), near.origin)
        elif known:
            words = f"{near.origin} covers {selector.network}, which {known[0]} is not in"
            yield Cause(CauseKind.CIDR_OTHER, words, (), near.origin, -_shared(selector, known[0]))


def _never_matches(scene: Scene, near: Near, selector: CidrSelector, address: str) -> Cause:
    entity = primary_entity(scene.labels)
    what = f"the entity {entity}" if entity else f"a pod, {scene.titles[1]}"
    words = f"{near.origin} covers {selector.network}, but {address} is {what}: a CIDR never matches what is inside the cluster"
    return Cause(CauseKind.CIDR_INSIDE, words, (), near.origin)


def _shared(selector: CidrSelector, address: str) -> int:
    """Leading bits that an address has in common with a network."""
    found = ip_address(address)
    if found.version != selector.network.version:
        return -1
    return found.max_prefixlen - (int(found) ^ int(selector.network.network_address)).bit_length()


def other_subject(scene: Scene) -> Iterator[Cause]:
    """Rules that would let it pass, but are about another workload, whose labels differ in one requirement."""
    known = {(ref, rule.spec) for ref, rule in scene.selecting}
    labels = scene.subject_labels
    for ref, rule in scene.all_rules:
        failing = [each for each in rule.subject.requirements if not each.holds(labels)]
        if (ref, rule.spec) in known or rule.host or len(failing) != 1 or len(rule.subject.requirements) < 2:
            continue
        slip = failing[0].key not in _SCOPE and _slip(failing[0], labels)
        if not slip and len([each for each in rule.subject.requirements if each.key not in _SCOPE]) < 2:
            continue
        for near in scene.parts([(ref, scene.for_everybody(rule))]):
            if near.peer and near.port:
                words = f"{near.origin} would let it pass, but is about {labels_in_words(rule.subject)}"
                missing = _lacking(failing[0], labels).replace("the peer", "this workload")
                yield Cause(CauseKind.SUBJECT, f"{words}: {missing}", (), near.origin)
                break
