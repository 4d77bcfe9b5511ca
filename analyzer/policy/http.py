"""What the L7 proxy does with a request: HTTP rules as full-match regular expressions, DNS rules as name patterns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from analyzer.policy.model import DnsRule, HeaderRule, HttpRule, L7Rules
from analyzer.policy.selector import FqdnSelector, Match, fqdn_pattern

__all__ = ["DnsQuery", "HttpRequest", "compile_regex", "passes"]

MAX_REGEX = 2048
# What Python reads and RE2 refuses: look-around, back references, possessive and atomic groups, conditionals.
_NOT_RE2 = re.compile(r"\(\?(?:[=!>(#]|<[=!]|P=)|\\[1-9]|\\Z|(?<!\\)[*+?}]\+")
# Where a back-tracking matcher can take exponential time: a repeated group with a repetition inside.
_NESTED = re.compile(r"\([^()]*[*+}][^()]*\)[*+{]")


class HttpRequest(NamedTuple):
    """A request as the proxy sees it: `path` with its query, header names in any case."""

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class DnsQuery(NamedTuple):
    """The name that is asked for."""

    name: str


@lru_cache(maxsize=65536)
def compile_regex(text: str) -> re.Pattern[str] | None:
    """A rule's regular expression, None when matching it could take too long here. Raises ValueError for what RE2 refuses."""
    if _NOT_RE2.search(text):
        raise ValueError(f"not a regular expression of RE2: {text[:80]!r}")
    try:
        compiled = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {text[:80]!r}: {error}") from None
    return None if len(text) > MAX_REGEX or _NESTED.search(text) else compiled


def _full_match(pattern: str, text: str) -> Match:
    if not pattern:
        return True
    compiled = compile_regex(pattern)
    return None if compiled is None else bool(compiled.fullmatch(text))


def _all(results: list[Match]) -> Match:
    if False in results:
        return False
    return None if None in results else True


def _any(results: list[Match]) -> Match:
    if True in results:
        return True
    return None if None in results else False


def _http(rule: HttpRule, request: HttpRequest) -> Match:
    headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers}
    return _all(
        [
            _full_match(rule.method, request.method),
            _full_match(rule.path, request.path),
            _full_match(rule.host, request.host),
            *(_header(each, headers) for each in rule.headers),
        ]
    )


def _header(rule: HeaderRule, headers: Mapping[str, str]) -> bool:
    value = headers.get(rule.name)
    return value is not None and rule.value in (None, value)


def _dns(rule: DnsRule, query: DnsQuery) -> bool:
    pattern = fqdn_pattern(FqdnSelector(*rule))
    return pattern is not None and bool(pattern.fullmatch(query.name.lower().rstrip(".")))


def passes(rules: L7Rules, http: HttpRequest | None, dns: DnsQuery | None) -> Match:
    """Whether the proxy lets the request through under these rules; None when that is not modelled."""
    if HttpRule() in rules.http:
        return True
    if http is not None and rules.http:
        return _any([_http(rule, http) for rule in rules.http])
    if dns is not None and rules.dns:
        return any(_dns(rule, dns) for rule in rules.dns)
    return None if rules.other else False
