"""The pass that writes one pattern instead of many DNS names of one zone; and the judgement of what a zone is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from analyzer.recommend.draft import Draft, NamePeer, Note, SubjectKey, Topic

__all__ = ["SHARED_ZONES", "generalised", "is_shared", "zones"]

SHARED_ZONES = frozenset(
    {
        "amazonaws.com", "appspot.com", "azure.com", "azureedge.net", "azurefd.net", "azurewebsites.net", "b-cdn.net",
        "blogspot.com", "cloudapp.azure.com", "cloudapp.net", "cloudfront.net", "digitaloceanspaces.com", "duckdns.org",
        "fastly.net", "firebaseapp.com", "firebaseio.com", "fly.dev", "github.io", "gitlab.io", "googleapis.com",
        "herokuapp.com", "linodeobjects.com", "myshopify.com", "netlify.app", "ngrok.io", "ngrok.app", "onrender.com",
        "pages.dev", "r2.dev", "render.com", "run.app", "trafficmanager.net", "vercel.app", "web.app", "windows.net",
        "workers.dev",
    }
)  # fmt: skip
"""Zones, with everything below them, in which strangers can have names: one pattern would let all of them in."""
_REGISTRIES = frozenset({"ac", "co", "com", "edu", "gen", "go", "gob", "gov", "gv", "ltd", "me", "mil", "ne", "net", "nom",
                         "or", "org", "plc", "sch"})  # fmt: skip
"""Second-level names below country codes that everybody registers under, such as ``co.uk``."""


def zones(draft: Draft) -> Draft:
    """Replace the names of one zone by the pattern ``*.zone``, once a workload has as many of them as the option says.

    The claims keep their edges, and these keep the names. Zones where strangers can have names are left as they are.
    """
    threshold = draft.options.zone_names
    names: dict[SubjectKey, set[str]] = defaultdict(set)
    for claim in draft.claims:
        if isinstance(claim.peer, NamePeer):
            names[claim.subject].add(claim.peer.name)
    patterns: dict[SubjectKey, dict[str, str]] = {}
    notes: list[Note] = []
    for key, found in names.items():
        patterns[key] = generalised(found, threshold)
        by_pattern: dict[str, list[str]] = defaultdict(list)
        for name, pattern in patterns[key].items():
            by_pattern[pattern].append(name)
        for pattern, covered in by_pattern.items():
            listed = ", ".join(sorted(covered)[:3])
            text = f"egress: {pattern} stands for {len(covered)} names that were seen, such as {listed}"
            notes.append(Note(Topic.ZONE, str(key), text))
        for zone, count in sorted(_many_of_strangers(found, threshold).items()):
            text = f"egress: {count} names of {zone} are listed one by one, since strangers can have names there too"
            notes.append(Note(Topic.ZONE, str(key), text))
    claims = [
        claim._replace(peer=NamePeer(patterns[claim.subject].get(claim.peer.name, claim.peer.name)))
        if isinstance(claim.peer, NamePeer)
        else claim
        for claim in draft.claims
    ]
    return replace(draft, claims=tuple(claims), notes=(*draft.notes, *notes))


def generalised(names: Iterable[str], threshold: int) -> dict[str, str]:
    """The pattern for every name whose zone has at least `threshold` of `names`; none for 0. ``*`` stands for one label."""
    found: dict[str, str] = {}
    for zone, members in _by_zone(names).items():
        if 0 < threshold <= len(members) and not is_shared(zone):
            found.update(dict.fromkeys(members, f"*.{zone}"))
    return found


def _many_of_strangers(names: Iterable[str], threshold: int) -> dict[str, int]:
    return {
        zone: len(members)
        for zone, members in _by_zone(names).items()
        if 0 < threshold <= len(members) and zone.count(".") and is_shared(zone)
    }


def _by_zone(names: Iterable[str]) -> dict[str, Collection[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        label, _, zone = name.rstrip(".").partition(".")
        if label and zone:
            found[zone].add(name)
    return dict(sorted(found.items()))


def is_shared(zone: str) -> bool:
    """Whether strangers can have names in `zone`: a top level, a registry below a country code, or one of `SHARED_ZONES`."""
    labels = zone.split(".")
    if len(labels) < 2 or (len(labels) == 2 and len(labels[1]) == 2 and labels[0] in _REGISTRIES):
        return True
    return any(".".join(labels[at:]) in SHARED_ZONES for at in range(len(labels) - 1))
