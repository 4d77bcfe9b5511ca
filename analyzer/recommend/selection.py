"""Selecting pods: the smallest set of stable labels that matches exactly the intended identities among all known ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import reduce
from itertools import combinations
from operator import and_, or_

from analyzer.recommend.draft import Selection

__all__ = ["NOISE_KEYS", "NOISE_PREFIXES", "PREFERRED_KEYS", "Universe", "is_stable", "is_value"]

Pair = tuple[str, str]

PREFERRED_KEYS = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "app.kubernetes.io/instance",
    "k8s-app",
    "app",
    "component",
    "name",
    "run",
    "tier",
    "role",
    "release",
)
"""Keys that people name workloads with, the best first. Other stable keys are used only when these do not suffice."""

NOISE_KEYS = frozenset(
    {
        "apps.kubernetes.io/pod-index",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "chart",
        "controller-revision-hash",
        "controller-uid",
        "deployment",
        "deploymentconfig",
        "helm.sh/chart",
        "heritage",
        "io.kubernetes.pod.namespace",
        "job-name",
        "kubernetes.io/hostname",
        "pod-template-generation",
        "pod-template-hash",
        "rollouts-pod-template-hash",
        "revision",
        "security.istio.io/tlsMode",
        "service.istio.io/canonical-revision",
        "statefulset.kubernetes.io/pod-name",
        "version",
    }
)
"""Keys whose values change from rollout to rollout, from pod to pod, or that say nothing about the workload."""

NOISE_PREFIXES = (
    "batch.kubernetes.io/",
    "io.cilium.",
    "topology.kubernetes.io/",
    "failure-domain.beta.kubernetes.io/",
    "policy.cilium.io/",
)

ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
"""Cilium's label for a pod's service account. It outlives rollouts, and is taken where the labels of pods do not suffice."""
SHARED_ACCOUNT = "default"
"""The account of all pods that name none: the next one would have it too."""

# Kubernetes: apimachinery `IsQualifiedName` and `IsValidLabelValue`.
_KEY = re.compile(r"(?:[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

_RANK = {key: rank for rank, key in enumerate(PREFERRED_KEYS)}
MAX_CANDIDATES = 16
"""Labels tried in all combinations of up to three; with more labels than that the greedy way must do."""


def is_stable(key: str) -> bool:
    """Whether a label key is fit for a selector that has to outlive a rollout."""
    return key not in NOISE_KEYS and not key.startswith(NOISE_PREFIXES) and bool(_KEY.fullmatch(key))


def is_value(text: str) -> bool:
    """Whether a selector may ask for this label value. An empty one is possible and says too little."""
    return bool(_VALUE.fullmatch(text))


class Universe:
    """All identities of one namespace, against which a selection is proven. A set of identities is a bit mask over them.

    A selector without a label source matches labels of any source, so identities are given as (key, value) without sources.
    """

    def __init__(self, identities: Sequence[frozenset[Pair]]) -> None:
        self._identities = identities
        self._by_pair: dict[Pair, int] = {}
        self._by_key: dict[str, int] = {}
        for index, pairs in enumerate(identities):
            for pair in pairs:
                self._by_pair[pair] = self._by_pair.get(pair, 0) | 1 << index
                self._by_key[pair[0]] = self._by_key.get(pair[0], 0) | 1 << index

    def select(self, members: Sequence[int]) -> tuple[Selection | None, tuple[int, ...]]:
        """A selection of the identities `members`, and those it cannot keep out: none if it is exact.

        None when the members have no stable label in common, and no service account that is theirs alone.
        """
        shared = frozenset.intersection(*(self._identities[i] for i in members))
        common = sorted(filter(_selectable, shared), key=_order)
        others = ~reduce(or_, (1 << index for index in members))
        preferred = [pair for pair in common if pair[0] in _RANK]
        accounts = sorted(pair for pair in shared if pair[0] == ACCOUNT and _is_own(pair[1]))
        for pool, always in ((preferred, ()), (common, ()), (common, accounts)):
            for size in (0, 1, 2, 3):
                for some in combinations(pool[:MAX_CANDIDATES], size):
                    chosen = (*some, *always)
                    if chosen and not self._matched(chosen) & others:
                        return Selection(tuple(sorted(chosen))), ()
        if not common:
            return None, ()
        return self._with_absent([*common, *accounts], members, others)

    def _matched(self, labels: Iterable[Pair]) -> int:
        return reduce(and_, (self._by_pair[pair] for pair in labels))

    def _with_absent(
        self, common: list[Pair], members: Sequence[int], others: int
    ) -> tuple[Selection, tuple[int, ...]]:
        """All common labels, and the absence of as few stable keys as keep out those that have all of them and more."""
        left = self._matched(common) & others
        own = {key for index in members for key, _ in self._identities[index]}
        foreign = {key for index in _indexes(left) for key, _ in self._identities[index]} - own
        candidates = sorted(filter(is_stable, foreign), key=lambda key: (_RANK.get(key, len(_RANK)), key))
        absent: list[str] = []
        while left and candidates:
            best = max(candidates, key=lambda key: (left & self._by_key[key]).bit_count())
            if not left & self._by_key[best]:
                break
            absent.append(best)
            left &= ~self._by_key[best]
        labels = self._needed(common, reduce(or_, (self._by_key[key] for key in absent), 0), others, left)
        return Selection(tuple(sorted(labels)), tuple(sorted(absent))), _indexes(left)

    def _needed(self, labels: list[Pair], kept_out: int, others: int, left: int) -> list[Pair]:
        """`labels` without those that keep nobody out, the least liked dropped first; one always stays."""
        kept = list(labels)
        for pair in reversed(labels):
            fewer = [each for each in kept if each != pair]
            if fewer and self._matched(fewer) & others & ~kept_out & ~left == 0:
                kept = fewer
        return kept


def _is_own(account: str) -> bool:
    return account != SHARED_ACCOUNT and is_value(account)


def _selectable(pair: Pair) -> bool:
    return is_stable(pair[0]) and is_value(pair[1])


def _order(pair: Pair) -> tuple[int, Pair]:
    return _RANK.get(pair[0], len(_RANK)), pair


def _indexes(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)
