"""Causes at the L7 proxy: requests and names that no L7 rule lets pass."""

from __future__ import annotations

from collections.abc import Iterator

from analyzer.drops.cause import Cause, CauseKind
from analyzer.drops.scene import Scene
from analyzer.policy import DnsQuery, HttpRequest, Origin, Outcome, SideDecision
from analyzer.policy.model import DnsRule, HttpRule, L7Rules

__all__ = ["dns_query", "http_request", "refused"]

SHOWN = 4
_SEARCHED = (".svc.cluster.local", ".cluster.local")


def http_request(scene: Scene) -> HttpRequest | None:
    """The request that the proxy refused, if it was one of HTTP."""
    method, space, path = scene.drops.key.request.partition(" ")
    if not scene.drops.key.l7 or not space:
        return None
    return HttpRequest(method, path, scene.drops.host)


def dns_query(scene: Scene) -> DnsQuery | None:
    """The name that the proxy refused to look up."""
    request = scene.drops.key.request
    return DnsQuery(request) if scene.drops.key.l7 and request and " " not in request else None


def refused(scene: Scene) -> Iterator[Cause]:
    """Which L7 rules there are, and what they let pass instead."""
    if not scene.drops.key.l7:
        return
    http, dns = http_request(scene), dns_query(scene)
    kind, what = (CauseKind.DNS_NAME, "name") if dns else (CauseKind.L7_RULE, "request")
    asked = scene.drops.key.request or f"the {what}"
    answer = scene.ask_proxy(http, dns)
    if answer is None:
        yield Cause(kind, f"the proxy of {scene.titles[0]} refused {asked}: no L7 rule lets it pass", _hints(dns))
    elif answer.outcome is Outcome.REDIRECTED and answer.l7 is not True:
        rules = _rules(scene, answer)
        listed = "; ".join(f"{origin} lets pass {_words(l7)}" for origin, l7 in rules[:SHOWN])
        evidence = (f"{listed}" if listed else "no L7 rule is known", *_hints(dns))
        yield Cause(kind, f"no L7 rule lets {asked} pass", evidence, rules[0][0] if rules else None)


def _rules(scene: Scene, answer: SideDecision) -> list[tuple[Origin, L7Rules]]:
    found = []
    for ref, rule in scene.selecting:
        for item in rule.items:
            origin = Origin(*ref, rule.spec, item.section.value, item.index)
            if item.l7 is not None and origin in answer.deciding and (origin, item.l7) not in found:
                found.append((origin, item.l7))
    return found


def _words(rules: L7Rules) -> str:
    listed = [*map(_http, rules.http), *map(_dns, rules.dns), *(["what is not modelled here"] if rules.other else [])]
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def _http(rule: HttpRule) -> str:
    host = f" at {rule.host}" if rule.host else ""
    headers = f" with {', '.join(each.name for each in rule.headers)}" if rule.headers else ""
    return f"{rule.method or 'any method'} {rule.path or 'any path'}{host}{headers}"


def _dns(rule: DnsRule) -> str:
    return rule.name or rule.pattern


def _hints(dns: DnsQuery | None) -> tuple[str, ...]:
    if dns is None:
        return ()
    if dns.name.endswith(_SEARCHED) and dns.name.count(".") > _SEARCHED[0].count("."):
        return (
            "The resolver tries its search list first; a REFUSED answer ends the search, so the real name is never asked for",
        )
    return ()
