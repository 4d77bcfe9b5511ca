"""PASSES: how edges become policies, in order. Each pass is a pure function from draft to draft, unaware of the others."""

from __future__ import annotations

from collections.abc import Callable

from analyzer.recommend.accepted import accepted
from analyzer.recommend.advice import advice
from analyzer.recommend.cidrs import aggregated, worldly
from analyzer.recommend.dns import dns
from analyzer.recommend.draft import Draft
from analyzer.recommend.elsewhere import elsewhere
from analyzer.recommend.granularity import coarser
from analyzer.recommend.http import http
from analyzer.recommend.internet import internet
from analyzer.recommend.lookups import lookups
from analyzer.recommend.missing import missing
from analyzer.recommend.named import named
from analyzer.recommend.overlaps import overlaps
from analyzer.recommend.peers import peers
from analyzer.recommend.policies import policies
from analyzer.recommend.ports import ports
from analyzer.recommend.ranges import ranges
from analyzer.recommend.subjects import subjects
from analyzer.recommend.visibility import visibility
from analyzer.recommend.zones import zones

__all__ = ["PASSES"]

PASSES: tuple[Callable[[Draft], Draft], ...] = (
    accepted,  # edges -> accepted edges that layer 4 rules can hold
    subjects,  # their ends -> workloads, and what selects them
    peers,  # edges -> claims: (workload, direction, peer, layer 4)
    internet,  # claims -> those on the internet through gateways only, where it is asked for
    zones,  # many names of one zone -> a pattern
    worldly,  # claims on world take in those on outside peers
    dns,  # claims on resolvers -> name resolution for everybody who needs it
    missing,  # claims -> those that existing policies do not allow
    elsewhere,  # what existing policies deny where none is asked for
    coarser,  # claims -> on namespaces, or on every port, where it is asked for
    worldly,  # again: without ports, more of them are on the same
    aggregated,  # very many addresses -> few prefixes
    ranges,  # many ports of one peer -> port ranges, where there is evidence for one
    overlaps,  # claims on an entity -> on another one that holds the same peers
    ports,  # claims -> rules
    named,  # their ports -> the names that pods declare, where it is asked for
    lookups,  # name resolution -> of the names that were asked for
    http,  # rules -> rules on requests, where they were seen
    policies,  # rules -> policies
    visibility,  # policies -> those that would show what nobody saw
    advice,  # policies -> notes on them
)
