"""How much detail: the levels, as they are written, and the pass that coarsens claims to the level of their namespace."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from analyzer.recommend.draft import (
    ANY_PORT,
    L7,
    Claim,
    Draft,
    EndpointPeer,
    PeerDetail,
    Purpose,
    Selection,
    Settings,
)

__all__ = ["LEVELS", "Level", "PortDetail", "at", "coarser", "level_of"]


class PortDetail(StrEnum):
    """What rules say of ports: nothing, the ports, or on top of them the requests and DNS names that the proxy saw."""

    ANY = "any"
    PORT = "port"
    L7 = "l7"


class Level(NamedTuple):
    """A level of detail, written ``workload/port``."""

    peer: PeerDetail
    port: PortDetail

    @classmethod
    def parse(cls, text: str) -> Level:
        """Read ``workload/port``. Raises ValueError."""
        peer, _, port = text.strip().lower().partition("/")
        try:
            return cls(PeerDetail(peer), PortDetail(port))
        except ValueError:
            raise ValueError(f"{text!r} is no level of detail; there are {', '.join(map(str, LEVELS))}") from None

    def __str__(self) -> str:
        return f"{self.peer}/{self.port}"


LEVELS = tuple(Level(peer, port) for port in PortDetail for peer in PeerDetail)
"""All levels, the coarsest first: what is open on all ports weighs more than who may come."""


def at(settings: Settings, level: Level) -> Settings:
    """`settings` with the rules at `level`. At the level ``l7``, layer 7 is narrowed as asked for, or wherever it can be."""
    l7 = (settings.l7 or frozenset(L7)) if level.port is PortDetail.L7 else frozenset()
    return replace(settings, peers=level.peer, any_port=level.port is PortDetail.ANY, l7=l7)


def level_of(settings: Settings) -> Level:
    """The level that `settings` stand for."""
    port = PortDetail.ANY if settings.any_port else PortDetail.L7 if settings.l7 else PortDetail.PORT
    return Level(settings.peers, port)


def coarser(draft: Draft) -> Draft:
    """Let claims on traffic speak of namespaces and of every port, where the settings of their workload's namespace say so.

    Name resolution stays what it is: the proxy needs its port, and everybody gets it.
    """
    settings = {key: draft.options.settings(key.namespace) for key in draft.subjects}
    claims, covered = (
        tuple(_coarser(claim, settings[claim.subject]) for claim in each) for each in (draft.claims, draft.covered)
    )
    return replace(draft, claims=claims, covered=covered)


def _coarser(claim: Claim, settings: Settings) -> Claim:
    if claim.purpose is not Purpose.TRAFFIC:
        return claim
    if settings.peers is PeerDetail.NAMESPACE and isinstance(claim.peer, EndpointPeer):
        namespace = claim.peer.subject._replace(name="")
        claim = claim._replace(peer=EndpointPeer(namespace, Selection(), claim.peer.cluster))
    return claim._replace(l4=ANY_PORT) if settings.any_port else claim
