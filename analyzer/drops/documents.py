"""Policy documents as they are written, changed by a rule or two, and the change as a unified diff."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import Any

from analyzer.errors import PolicyError
from analyzer.manifests import dump
from analyzer.model.document import Document
from analyzer.model.inventory import AgentOptions
from analyzer.policy import KINDS, Policy, PolicyRef, parse
from analyzer.roundtrip import replaced
from analyzer.suggest import Advice

__all__ = ["Documents", "Patch"]


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of one file. `path` is where it is written, `new` that there is no such file yet, `diff` is for `git apply`."""

    path: str
    diff: str
    new: bool = False


class Documents:
    """The policies of some documents. `texts` are the files they stand in, by path, as far as they can be changed in place."""

    def __init__(
        self,
        documents: Iterable[Document],
        texts: Mapping[str, str],
        options: AgentOptions,
        *,
        added: tuple[Document, ...] = (),
    ) -> None:
        self._documents: dict[PolicyRef, Document] = {}
        self.policies: dict[PolicyRef, Policy] = {}
        self._texts, self._options, self._added = texts, options, added
        for document in documents:
            self._take(document)

    def _take(self, document: Document) -> None:
        if str(document.data.get("kind")) not in KINDS:
            return
        try:
            policy = parse(document.data, self._options)
        except PolicyError:
            return
        self._documents[policy.ref] = document
        self.policies[policy.ref] = policy

    def data(self, ref: PolicyRef) -> Mapping[str, Any] | None:
        """The document of a policy as plain values."""
        found = self._documents.get(ref)
        return None if found is None else found.data

    def with_advice(self, advice: Advice) -> Documents:
        """The documents after `advice` was followed. Raises PolicyError for what the agent would not take."""
        assert advice.policy is not None
        assert advice.rule is not None
        if advice.new and advice.policy not in self._documents:
            document = Document(advice.snippet(), f"{advice.policy.name}.yaml")
            added = (*self._added, document)
        else:
            old = self._documents[advice.policy]
            document = replace(old, data=_with_rule(old.data, advice))
            added = tuple(document if each is old else each for each in self._added)
        parse(document.data, self._options)
        rest = {ref: each for ref, each in self._documents.items() if ref != advice.policy}
        return Documents([*rest.values(), document], self._texts, self._options, added=added)

    def patches(self, before: Documents) -> tuple[Patch, ...]:
        """What has changed since `before`, a patch per file."""
        changed: dict[str, list[tuple[Document, Document]]] = {}
        for ref, document in self._documents.items():
            old = before._documents.get(ref)
            if old is not None and old.data != document.data:
                changed.setdefault(old.path, []).append((old, document))
        found = [self._patch(path, pairs) for path, pairs in sorted(changed.items())]
        for document in self._added:
            made = dump([document.data])
            found.append(Patch(document.path, _diff("", made, "/dev/null", f"b/{document.path}"), new=True))
        return tuple(found)

    def _patch(self, path: str, pairs: list[tuple[Document, Document]]) -> Patch:
        text = self._texts.get(path)
        made = text
        # From the last document of the file to the first, so that the lines of the others stay where they are.
        for _, document in sorted(pairs, key=lambda pair: -pair[1].line):
            made = None if made is None else replaced(made, document.line, document)
        if text is None or made is None:
            text, made = dump([old.data for old, _ in pairs]), dump([new.data for _, new in pairs])
        name = path.lstrip("/") or "policy.yaml"
        return Patch(path, _diff(text, made, f"a/{name}", f"b/{name}"))


def _with_rule(data: Mapping[str, Any], advice: Advice) -> dict[str, Any]:
    made = copy.deepcopy(dict(data))
    spec = made["specs"][advice.spec - 1] if advice.spec else made["spec"]
    spec[advice.section] = [*(spec.get(advice.section) or []), copy.deepcopy(dict(advice.rule or {}))]
    return made


def _diff(before: str, after: str, source: str, target: str) -> str:
    lines = unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), source, target)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
