"""The truth about a cluster: which connections are legitimate, which are not and why, and what labels everybody has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from analyzer.demo.cluster import Cluster, Fate, Outside, Party, Reserved, Workload
from analyzer.model.identity import reserved
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels

__all__ = ["TrueEdge", "Truth", "truth"]

_ACCEPTED = frozenset({Fate.ANSWERED, Fate.AUDITED})


class TrueEdge(NamedTuple):
    """A connection by the names that reports use: ``shop/cart``, ``kube-apiserver``, a DNS name, ``world``."""

    source: str
    destination: str
    l4: L4


@dataclass(frozen=True, slots=True)
class Truth:
    """What a perfect analysis would find. `refused` tells what became of connections that must not become rules."""

    accepted: frozenset[TrueEdge]
    refused: dict[TrueEdge, Fate]
    parties: dict[str, Party]
    cluster: str

    def peers(self, name: str) -> tuple[tuple[Labels, str], ...]:
        """Every identity that goes by `name`, with an address where only that tells it: (labels, address)."""
        party = self.parties[name]
        if isinstance(party, Workload):
            return tuple((Labels.of(each), "") for each in party.label_sets(self.cluster))
        if isinstance(party, Reserved):
            return ((reserved(party.entity), ""),)
        return tuple((Labels.of(["reserved:world"]), address) for address in party.addresses)


def truth(cluster: Cluster) -> Truth:
    """The truth about what `analyzer.demo.records` generates for the cluster."""
    accepted, refused = set(), {}
    parties: dict[str, Party] = {}
    for call in cluster.calls:
        names = [_name(end) for end in (call.client, call.server)]
        parties.update(zip(names, (call.client, call.server), strict=True))
        edge = TrueEdge(names[0], names[1], call.l4)
        if call.fate in _ACCEPTED:
            accepted.add(edge)
        else:
            refused[edge] = call.fate
    return Truth(
        frozenset(accepted),
        {edge: fate for edge, fate in refused.items() if edge not in accepted},
        parties,
        cluster.name,
    )


def _name(party: Party) -> str:
    if isinstance(party, Outside) and not party.name and len(party.addresses) == 1:
        return party.addresses[0]
    return str(party)
