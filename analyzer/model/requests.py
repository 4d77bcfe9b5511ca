"""Requests of an edge: which ones the L7 proxy let through, and which it refused."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from analyzer.model.edge import EdgeStats
from analyzer.model.flow import Verdict

__all__ = ["Request", "requests"]

_REFUSED = str(int(Verdict.DROPPED))


class Request(NamedTuple):
    """An HTTP request as the record has it: the path without its query."""

    method: str
    path: str
    host: str


def requests(stats: EdgeStats) -> tuple[frozenset[Request], frozenset[Request]]:
    """The requests that passed, and those that were refused.

    A 403 that a server answers itself is recorded as a refusal beside the request that was let through. Where the proxy
    refused, there are more refusals than requests let through, should an earlier proxy have let it through at all.
    """
    passed: Counter[Request] = Counter()
    refused: Counter[Request] = Counter()
    for (method, path, host, verdict), weight in stats.http.items.items():
        (refused if verdict == _REFUSED else passed)[Request(method, path, host)] += weight
    kept = frozenset(each for each, weight in passed.items() if weight >= refused[each])
    return kept, frozenset({*passed, *refused}) - kept
