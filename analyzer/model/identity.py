"""Identity: a label set and the entities it stands for; the table of Cilium's reserved identities."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from analyzer.model.labels import Labels

__all__ = [
    "NODE_ENTITIES",
    "RESERVED_NUMBERS",
    "WORLD",
    "Entity",
    "entities",
    "is_outside",
    "primary_entity",
    "reserved",
]


class Entity(StrEnum):
    """The names a `fromEntities`/`toEntities` list may hold (Cilium `pkg/policy/api/entity.go`)."""

    ALL = "all"
    CLUSTER = "cluster"
    CLUSTER_MESH = "cluster-mesh"
    HEALTH = "health"
    HOST = "host"
    INGRESS = "ingress"
    INIT = "init"
    KUBE_APISERVER = "kube-apiserver"
    NONE = "none"
    REMOTE_NODE = "remote-node"
    UNMANAGED = "unmanaged"
    WORLD = "world"
    WORLD_IPV4 = "world-ipv4"
    WORLD_IPV6 = "world-ipv6"


WORLD = frozenset({Entity.WORLD, Entity.WORLD_IPV4, Entity.WORLD_IPV6})
NODE_ENTITIES = frozenset({Entity.HOST, Entity.REMOTE_NODE, Entity.KUBE_APISERVER})

# Cilium pkg/identity/numericidentity.go. Number 7 always carries both labels.
RESERVED_NUMBERS: dict[int, tuple[str, ...]] = {
    1: ("host",),
    2: ("world",),
    3: ("unmanaged",),
    4: ("health",),
    5: ("init",),
    6: ("remote-node",),
    7: ("kube-apiserver", "remote-node"),
    8: ("ingress",),
    9: ("world-ipv4",),
    10: ("world-ipv6",),
}

# What a peer is called in a rule when several reserved labels meet: the API server beats the node it runs on,
# and the node beats the world.
_PREFERENCE = (
    Entity.KUBE_APISERVER,
    Entity.HOST,
    Entity.REMOTE_NODE,
    Entity.INGRESS,
    Entity.HEALTH,
    Entity.INIT,
    Entity.UNMANAGED,
    Entity.WORLD,
    Entity.WORLD_IPV4,
    Entity.WORLD_IPV6,
)


def reserved(name: str) -> Labels:
    """The label set of a reserved identity by its name; ``kube-apiserver`` is the one on a remote node."""
    names = ("kube-apiserver", "remote-node") if name == "kube-apiserver" else (name,)
    return Labels.of(f"reserved:{each}" for each in names)


@lru_cache(maxsize=65536)
def entities(labels: Labels) -> frozenset[Entity]:
    """The entities that the reserved labels of an identity name directly (not `all`, `cluster`, ...)."""
    names = labels.reserved()
    return frozenset(entity for entity in _PREFERENCE if entity.value in names)


@lru_cache(maxsize=65536)
def primary_entity(labels: Labels) -> Entity | None:
    """The one entity that names this identity in a rule, or None for a pod or an unlabelled peer.

    ``world-ipv4`` and ``world-ipv6`` become ``world``, since the CRD's entity list lacks them.
    """
    found = entities(labels)
    for entity in _PREFERENCE:
        if entity in found:
            return Entity.WORLD if entity in WORLD else entity
    return None


@lru_cache(maxsize=65536)
def is_outside(labels: Labels) -> bool:
    """Whether the identity lies outside the cluster: it carries a world, ``cidr:`` or ``fqdn:`` label."""
    return bool(entities(labels) & WORLD) or any(label.source in ("cidr", "fqdn", "cidrgroup") for label in labels)
