"""Label selectors of flow filters: Kubernetes' selector syntax, with Cilium's label sources in front of the keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from analyzer.errors import UsageError
from analyzer.model.labels import Labels

__all__ = ["LabelSelector", "parse_selector"]

_IN = re.compile(r"(\S+)\s+(in|notin)\s*\(([^()]*)\)")
_PART = re.compile(r",(?![^(]*\))")
_KEY = re.compile(r"[^\s!=,()<>]+")


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """All requirements must hold: (key, test of the value, whether a missing key passes)."""

    requirements: tuple[tuple[str, Callable[[str], bool], bool], ...]

    def matches(self, labels: Labels) -> bool:
        """Whether the labels fulfil every requirement."""
        return all(self._holds(labels, *each) for each in self.requirements)

    @staticmethod
    def _holds(labels: Labels, key: str, test: Callable[[str], bool], missing: bool) -> bool:
        source, colon, rest = key.partition(":")
        values = [
            label.value
            for label in labels
            if label.key == key or (colon and label.key == rest and source in (label.source, "any"))
        ]
        return any(map(test, values)) if values else missing


def parse_selector(text: str) -> LabelSelector:
    """Read ``k8s:app=x``, ``app!=x``, ``app in (x, y)``, ``app notin (x)``, ``app``, ``!app``, joined by commas.

    Raises UsageError.
    """
    if not text.strip():
        raise UsageError("a label selector must not be empty", hint="for example: app=cart")
    return LabelSelector(tuple(_requirement(part.strip()) for part in _PART.split(text)))


def _requirement(part: str) -> tuple[str, Callable[[str], bool], bool]:
    found = _IN.fullmatch(part)
    if found:
        wanted = frozenset(value.strip() for value in found[3].split(","))
        inside = found[2] == "in"
        return _key(found[1]), lambda value: (value in wanted) == inside, not inside
    if "!=" in part:
        key, _, refused = part.partition("!=")
        return _key(key), lambda value: value != refused.strip(), True
    if "=" in part:
        key, _, asked = part.replace("==", "=", 1).partition("=")
        return _key(key), lambda value: value == asked.strip(), False
    if part.startswith("!"):
        return _key(part[1:]), lambda value: False, True
    return _key(part), lambda value: True, False


def _key(text: str) -> str:
    key = text.strip()
    if not _KEY.fullmatch(key):
        raise UsageError(f"not a label selector: {text!r}", hint="for example: app=cart or reserved:world")
    return key
