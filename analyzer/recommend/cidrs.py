"""The passes on addresses without names: what covers what, and the few prefixes or the entity that stand for very many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from analyzer.model.edge import CROWD
from analyzer.model.flow import Direction
from analyzer.model.identity import Entity
from analyzer.model.l4 import L4
from analyzer.recommend.draft import (
    CidrPeer,
    Claim,
    Draft,
    EntityPeer,
    NamePeer,
    Note,
    Peer,
    Purpose,
    SubjectKey,
    Topic,
)

__all__ = ["WIDEST", "aggregated", "is_own", "is_private", "prefixes", "worldly"]

Network = IPv4Network | IPv6Network
_Place = tuple[SubjectKey, Direction, L4]

WIDEST = {4: 16, 6: 32}
"""Shortest prefix, by family, that addresses are aggregated to."""
PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")))
"""Addresses of one's own network: RFC 1918, RFC 6598, RFC 4193."""

_WORLD = EntityPeer(Entity.WORLD)


def worldly(draft: Draft) -> Draft:
    """Where a workload speaks with the entity world on a port, names and addresses on the same port add nothing. Resolvers stay
    what they are."""
    traffic = [claim for claim in draft.claims if claim.purpose is Purpose.TRAFFIC]
    places = {_place(claim) for claim in traffic if claim.peer == _WORLD}
    claims = tuple(
        claim._replace(peer=_WORLD, fallback=None)
        if isinstance(claim.peer, NamePeer | CidrPeer) and claim.purpose is Purpose.TRAFFIC and _place(claim) in places
        else claim
        for claim in draft.claims
    )
    return replace(draft, claims=claims)


def aggregated(draft: Draft) -> Draft:
    """Keep the addresses of one workload, direction and port within the limit of the options.

    An address inside a prefix that is there anyway is left to it. Above the limit, and where the record truncated them beyond
    `WIDEST`, public clients become the entity world - the next one would be new in any case -, and all else the smallest
    prefixes that keep the limit, none shorter than `WIDEST`. A note states what that adds.
    """
    limit = draft.options.max_cidrs
    cidrs: dict[_Place, set[str]] = defaultdict(set)
    for claim in draft.claims:
        if isinstance(claim.peer, CidrPeer):
            cidrs[_place(claim)].add(claim.peer.cidr)
    peers: dict[_Place, Mapping[str, Peer]] = {}
    notes: list[Note] = []
    for place, found in cidrs.items():
        networks = [ip_network(cidr) for cidr in sorted(found)]
        public = [network for network in networks if not is_own(network)]
        # So short a prefix is what a crowd was truncated to: clients from everywhere, more than the record keeps apart.
        crowd = any(network.prefixlen < WIDEST[network.version] for network in public)
        if place[1] is Direction.INGRESS and (len(public) > limit or crowd):
            peers[place] = dict.fromkeys(found, _WORLD)
            many = (
                f"there were more than {CROWD} outside clients"
                if crowd
                else f"{len(public)} outside clients are more than {limit}"
            )
            notes.append(_note(place, f"{many}, so the rule says world"))
        else:
            covers = prefixes(networks, limit)
            peers[place] = {str(network): CidrPeer(str(cover)) for network, cover in covers.items()}
            notes.extend(_wider(place, networks, set(covers.values()), limit))
    claims = tuple(_replaced(claim, peers) for claim in draft.claims)
    return replace(draft, claims=claims, notes=(*draft.notes, *notes))


def _place(claim: Claim) -> _Place:
    return claim.subject, claim.direction, claim.l4


def _replaced(claim: Claim, peers: Mapping[_Place, Mapping[str, Peer]]) -> Claim:
    if not isinstance(claim.peer, CidrPeer):
        return claim
    return claim._replace(peer=peers[_place(claim)][claim.peer.cidr])


def _note(place: _Place, text: str) -> Note:
    subject, direction, l4 = place
    return Note(Topic.CIDRS, str(subject), f"{direction.name.lower()} {l4}: {text}")


def _wider(place: _Place, seen: Sequence[Network], covers: set[Network], limit: int) -> Iterator[Note]:
    added = sum(each.num_addresses for each in covers) - _size(seen)
    if added:
        text = (
            f"{len(seen)} addresses or prefixes are more than {limit}; the {len(covers)} prefixes that stand for them"
        )
        yield _note(place, f"{text} hold {added} addresses that were not seen")
    if len(covers) > 2 * limit:
        yield _note(place, f"{len(covers)} prefixes stay, since none may be shorter than /{WIDEST[4]} or /{WIDEST[6]}")


def _size(networks: Iterable[Network]) -> int:
    return sum(each.num_addresses for each in set(_covering(networks).values()))


def is_own(network: Network) -> bool:
    """Whether nothing of `network` is the internet: it lies in somebody's own network, or on a link."""
    return is_private(network) or network.is_link_local


def is_private(network: Network) -> bool:
    """Whether all of `network` lies in somebody's own network."""
    return any(network.version == each.version and network.subnet_of(each) for each in PRIVATE)  # type: ignore[arg-type]


def prefixes(networks: Sequence[Network], limit: int) -> dict[Network, Network]:
    """For each network the one that stands for it: at most `limit` of a family, as far as `WIDEST` allows.

    Neighbours are merged first: at each prefix length, from the longest on, those that share a prefix of this length become
    their smallest common prefix, until the limit is kept. Within the limit, only what another one covers is left to it.
    """
    found = _covering(networks)
    for version, widest in WIDEST.items():
        length = 32 if version == 4 else 128
        while length > widest:
            covers = {each for each in found.values() if each.version == version}
            if len(covers) <= limit:
                break
            length -= 1
            joined = _joined(covers, length)
            found.update({network: joined[cover] for network, cover in found.items() if cover in joined})
    return found


def _covering(networks: Iterable[Network]) -> dict[Network, Network]:
    """The widest of `networks` that holds each of them."""
    known = set(networks)
    shortest = {version: min((n.prefixlen for n in known if n.version == version), default=0) for version in (4, 6)}
    found = {}
    for each in known:
        wider = (each.supernet(new_prefix=length) for length in range(shortest[each.version], each.prefixlen))
        found[each] = next((network for network in wider if network in known), each)
    return found


def _joined(covers: Iterable[Network], length: int) -> dict[Network, Network]:
    """Each prefix with the smallest one for all that share its first `length` bits."""
    groups: dict[Network, list[Network]] = defaultdict(list)
    for each in covers:
        groups[each if each.prefixlen <= length else each.supernet(new_prefix=length)].append(each)
    found: dict[Network, Network] = {}
    for group, members in groups.items():
        found.update(dict.fromkeys(members, members[0] if len(members) == 1 else group))
    return found
