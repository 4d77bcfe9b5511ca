"""What NetworkPolicies lose, edge by edge: exactly these connections may be missing from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network

from analyzer.manifests import Document
from analyzer.model.edge import Edge, EdgeKey
from analyzer.model.flow import Direction
from analyzer.recommend import PolicyDraft
from analyzer.recommend.draft import NamePeer, RuleDraft
from analyzer.recommend.knp import LossKind, network_policy
from analyzer.recommend.render import policy
from analyzer.verify.half_open import Refused

__all__ = ["lost"]

_SECTIONS = {Direction.INGRESS: "ingress", Direction.EGRESS: "egress"}
_LOST = frozenset({LossKind.BLOCKED, LossKind.LEFT_OUT})


def lost(drafts: Sequence[PolicyDraft], written: Sequence[Document]) -> Refused:
    """The sides of edges that the written NetworkPolicies are said not to allow, with what is said.

    A rule's loss is about its own evidence; and where DNS names became the addresses that were seen, about the edges without one.
    """
    kinds = {document.path: document.data["kind"] for document in written}
    found: dict[tuple[EdgeKey, str], str] = {}
    for draft in drafts:
        if kinds.get(draft.path) == "CiliumNetworkPolicy":
            continue
        for rule in draft.rules:
            for edge, why in _lost(draft, rule):
                found.setdefault((edge.key, _SECTIONS[rule.direction]), why)
    return found


def _lost(draft: PolicyDraft, rule: RuleDraft) -> Iterator[tuple[Edge, str]]:
    alone = replace(draft, rules=(rule,))
    losses = [loss for loss in network_policy(policy(alone), alone)[1] if loss.kind in _LOST]
    if not losses:
        return
    by_name = isinstance(rule.peers[0], NamePeer)
    for edge in rule.evidence:
        if not (by_name and _is_address(edge.destination.address)):
            yield edge, f"no NetworkPolicy can say it ({losses[0].text})"


def _is_address(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True
