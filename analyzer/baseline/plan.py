"""Baseline: everything the platform team is proposed, and what closing the rest would drop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from analyzer.baseline.cautions import Caution, cautions
from analyzer.baseline.documents import closing_documents, platform_documents, system_names
from analyzer.baseline.opened import opened
from analyzer.baseline.roles import Roles, Wishes, clusters_of, observed, roles_in
from analyzer.diff import Finding, compare
from analyzer.manifests import Document
from analyzer.model.edge import Edge
from analyzer.model.flow import Direction
from analyzer.model.inventory import Inventory
from analyzer.model.perspective import home_cluster
from analyzer.policy import Policy, parse
from analyzer.recommend.draft import L7, Draft, Options, SubjectKey
from analyzer.recommend.internet import is_internet
from analyzer.recommend.policies import safe_name
from analyzer.recommend.proposal import Proposal
from analyzer.recommend.system import is_system
from analyzer.simulate import EdgeOutcome, Result, SideOutcome, simulate

__all__ = ["Baseline", "baseline", "broken_by_closing", "closed_by", "default_deny"]

_BOTH = frozenset({Direction.INGRESS, Direction.EGRESS})


@dataclass(frozen=True, slots=True)
class Baseline:
    """Platform policies and what they are based on. `platform` closes nothing and comes first, `closing` comes last.

    `platforms` and `roles` are by cluster. `unseen` lists, by direction, the workloads for which nothing was seen: default deny
    closes that for them, and no policy opens it. `system` are the namespaces that no document selects.
    """

    platforms: Mapping[str, tuple[Document, ...]] = field(default_factory=lambda: MappingProxyType({}))
    closing: tuple[Document, ...] = ()
    roles: Mapping[str, Roles] = field(default_factory=lambda: MappingProxyType({}))
    cautions: tuple[Caution, ...] = ()
    unseen: Mapping[Direction, tuple[SubjectKey, ...]] = field(default_factory=lambda: MappingProxyType({}))
    system: tuple[str, ...] = ()
    direct: bool = False

    @property
    def platform(self) -> tuple[Document, ...]:
        """The platform policies of all clusters."""
        return tuple(document for documents in self.platforms.values() for document in documents)

    def options(self, options: Options, inventory: Inventory) -> Options:
        """How to recommend beside it: what it allows is not proposed again, and the internet comes in by the gateways only.

        With several clusters in the record each has its own baseline, so that workloads' policies do not count on one.
        """
        if not self.direct:
            gateways = frozenset(key for roles in self.roles.values() for key in roles.gateways)
            options = replace(options, gateways=gateways)
        if len(self.roles) > 1:
            return options
        return replace(options, existing=(*options.existing, *self.policies(inventory)))

    def policies(self, inventory: Inventory) -> tuple[Policy, ...]:
        """What is applied first, for the engine. Raises PolicyError."""
        return parsed((each.data for each in self.platform), inventory)


def baseline(
    edges: Sequence[Edge],
    inventory: Inventory,
    options: Options,
    wishes: Wishes | None = None,
    directions: frozenset[Direction] = frozenset(),
) -> Baseline:
    """The platform baseline of the traffic in `edges`, per cluster in a folder of its own where there are several.

    `directions` are those that the default deny closes. What `options` say of granularity does not matter to it.
    """
    wishes = wishes or Wishes()
    draft = observed(edges, inventory)
    seen = {key.namespace for key in draft.subjects} | set(inventory.namespaces)
    system = system_names(options.system, seen)
    clusters = clusters_of(draft)
    # A rule without names beside one with names lets all of them through (docs/semantics.md 45).
    narrowed = any(L7.DNS in each.l7 for each in (options.default, *options.namespaces.values()))
    taken = {policy.ref.name for policy in options.existing if not policy.ref.namespace}
    platforms: dict[str, tuple[Document, ...]] = {}
    closing: list[Document] = []
    told: list[Caution] = []
    roles: dict[str, Roles] = {}
    unseen: dict[Direction, tuple[SubjectKey, ...]] = {Direction.INGRESS: (), Direction.EGRESS: ()}
    for cluster in clusters:
        folder = f"{safe_name(cluster)}/" if len(clusters) > 1 else ""
        own = roles_in(draft, cluster, wishes, options.system)
        if narrowed:
            own = replace(own, resolvers=())
        roles[cluster] = own
        platforms[cluster] = platform_documents(own, draft, system, folder, taken)
        here = _unseen(draft, cluster, options.system, frozenset() if wishes.direct else frozenset(own.direct))
        unseen = {direction: (*keys, *here[direction]) for direction, keys in unseen.items()}
        closing.extend(closing_documents(system, directions, here, folder, taken))
        found = (
            *cautions(draft, own, wishes, cluster, options.system),
            *opened(draft, own, options.existing, inventory, cluster, options.system),
        )
        told.extend(each._replace(where=f"{cluster}:{each.where}") if folder else each for each in found)
    return Baseline(
        MappingProxyType(platforms),
        tuple(closing),
        MappingProxyType(roles),
        tuple(told),
        MappingProxyType(unseen),
        system,
        wishes.direct,
    )


def _unseen(
    draft: Draft, cluster: str, system: frozenset[str], refused: frozenset[SubjectKey]
) -> dict[Direction, tuple[SubjectKey, ...]]:
    """The workloads of a cluster, outside of system namespaces, for which nothing was seen in a direction that is not refused:
    what comes from the internet to `refused`."""
    used = {
        (claim.subject, claim.direction)
        for claim in draft.claims
        if not (claim.subject in refused and claim.direction is Direction.INGRESS and is_internet(claim.peer))
    }
    own = [key for key in sorted(draft.subjects) if key.cluster == cluster and not is_system(key.namespace, system)]
    return {
        each: tuple(key for key in own if (key, each) not in used) for each in (Direction.INGRESS, Direction.EGRESS)
    }


def parsed(documents: Iterable[Mapping[str, Any]], inventory: Inventory) -> tuple[Policy, ...]:
    """Documents as the engine reads them. Raises PolicyError."""
    return tuple(parse(document, inventory.options) for document in documents)


def default_deny(
    system: Sequence[str], inventory: Inventory, directions: frozenset[Direction] = _BOTH
) -> tuple[Policy, ...]:
    """Default deny for the engine: in both directions, which a cluster comes to in the end, or in some of them."""
    return parsed((each.data for each in closing_documents(system, directions, {})), inventory)


def closed_by(
    edges: Sequence[Edge], in_force: Sequence[Policy], closing: Sequence[Policy], inventory: Inventory
) -> tuple[Finding, ...]:
    """The connections that `in_force` policies let pass and `closing` ones would drop, at ends in the inventory's cluster: what
    default deny would break that was seen. Connections that nobody answered are left out."""
    cluster = inventory.options.cluster_name
    before, after = (
        {key: _own(each, cluster) for key, each in simulate(edges, policies, inventory).items()}
        for policies in (in_force, [*in_force, *closing])
    )
    return compare(before, after).dropped


def _own(outcome: EdgeOutcome, cluster: str) -> EdgeOutcome:
    """The outcome as far as the policies of one cluster decide it."""
    edge, free = outcome.edge, SideOutcome(Result.ALLOWED)
    egress = outcome.egress if home_cluster(edge, edge.source) == cluster else free
    ingress = outcome.ingress if home_cluster(edge, edge.destination) == cluster else free
    return replace(outcome, egress=egress, ingress=ingress)


def broken_by_closing(
    made: Baseline,
    proposal: Proposal,
    edges: Sequence[Edge],
    inventory: Inventory,
    existing: Sequence[Policy] = (),
    directions: frozenset[Direction] = _BOTH,
) -> tuple[Finding, ...]:
    """What was recorded, passes with everything that is proposed, and would be dropped once `directions` are closed too."""
    drafts = list(zip(proposal.policies, proposal.documents(), strict=True))
    found: list[Finding] = []
    for cluster, platform in made.platforms.items():
        local = replace(inventory, options=replace(inventory.options, cluster_name=cluster))
        own = [document for draft, document in drafts if draft.subject.key.cluster == cluster]
        in_force = [*existing, *parsed([*(each.data for each in platform), *own], local)]
        here = [
            edge for edge in edges if cluster in (home_cluster(edge, end) for end in (edge.source, edge.destination))
        ]
        found.extend(closed_by(here, in_force, default_deny(made.system, local, directions), local))
    return tuple(found)
