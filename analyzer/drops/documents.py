"""Policy documents as they are written, changed by a rule or two, and the change as a unified diff."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

from analyzer.errors import PolicyError
from analyzer.manifests import dump
from analyzer.model.document import Document
from analyzer.model.inventory import AgentOptions
from analyzer.policy import KINDS, Policy, PolicyRef, parse
from analyzer.roundtrip import replaced
from analyzer.suggest import Advice

__all__ = ["Documents", "Patch", "unified"]


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
        self._texts, self._options = texts, options
        self._added: tuple[Document, ...] = ()
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

    def documents(self) -> tuple[Document, ...]:
        """All of them, by policy."""
        return tuple(self._documents[ref] for ref in sorted(self._documents))

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
        policy = parse(document.data, self._options)
        made = copy.copy(self)
        made._documents = {**self._documents, policy.ref: document}
        made.policies = {**self.policies, policy.ref: policy}
        made._added = added
        return made

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
            found.append(Patch(document.path, unified("", made, "/dev/null", f"b/{document.path}"), new=True))
        return tuple(found)

    def _patch(self, path: str, pairs: list[tuple[Document, Document]]) -> Patch:
        text = self._texts.get(path)
        made = text
        # From the last document of the file to the first, so that the lines of the others stay where they are.
        for _, document in sorted(pairs, key=lambda pair: -pair[1].line):
            made = None if made is None else replaced(made, document.line, document, keep_comment=True)
        if text is None or made is None:
            text, made = dump([old.data for old, _ in pairs]), dump([new.data for _, new in pairs])
        name = path.lstrip("/") or "policy.yaml"
        return Patch(path, unified(text, made, f"a/{name}", f"b/{name}"))


def _with_rule(data: Mapping[str, Any], advice: Advice) -> dict[str, Any]:
    made = copy.deepcopy(dict(data))
    spec = made["specs"][advice.spec - 1] if advice.spec else made["spec"]
    spec[advice.section] = [*(spec.get(advice.section) or []), copy.deepcopy(dict(advice.rule or {}))]
    return made


def unified(before: str, after: str, source: str, target: str) -> str:
    """A unified diff whose added lines begin where a list item or a key does, as people would mark them."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found = [f"--- {source}\n", f"+++ {target}\n"]
    codes = _slid(_codes(old, new), new)
    for group in _grouped(codes):
        first, last = group[0], group[-1]
        found.append(f"@@ -{_range(first[1], last[2])} +{_range(first[3], last[4])} @@\n")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                found += [f" {line}" for line in old[i1:i2]]
            else:
                found += [f"-{line}" for line in old[i1:i2]] + [f"+{line}" for line in new[j1:j2]]
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)


Code = tuple[str, int, int, int, int]
CONTEXT = 3


def _codes(old: Sequence[str], new: Sequence[str]) -> list[Code]:
    """As `SequenceMatcher.get_opcodes`, which takes long for long files: what both begin and end with need not be compared."""
    most = min(len(old), len(new))
    head = next((n for n in range(most) if old[n] != new[n]), most)
    tail = next((n for n in range(most - head) if old[-1 - n] != new[-1 - n]), most - head)
    middle = SequenceMatcher(None, old[head : len(old) - tail], new[head : len(new) - tail], autojunk=False)
    codes: list[Code] = [("equal", 0, head, 0, head)] if head else []
    codes += [(tag, i1 + head, i2 + head, j1 + head, j2 + head) for tag, i1, i2, j1, j2 in middle.get_opcodes()]
    if tail:
        codes.append(("equal", len(old) - tail, len(old), len(new) - tail, len(new)))
    return codes


def _slid(codes: Sequence[Code], new: Sequence[str]) -> list[Code]:
    """Lines that were only added may be marked anywhere among equal ones: each block begins where its item does."""
    made = (
        [("equal", 0, 0, 0, 0), *codes, ("equal", codes[-1][2], codes[-1][2], codes[-1][4], codes[-1][4])]
        if codes
        else []
    )
    for at in range(1, len(made) - 1):
        before, (tag, i1, _, j1, j2), after = made[at - 1 : at + 2]
        if tag != "insert" or before[0] != "equal" or after[0] != "equal":
            continue
        best = _offset(new, j1, j2, before[2] - before[1], after[2] - after[1])
        made[at - 1] = ("equal", before[1], before[2] + best, before[3], before[4] + best)
        made[at] = ("insert", i1 + best, i1 + best, j1 + best, j2 + best)
        made[at + 1] = ("equal", after[1] + best, after[2], after[3] + best, after[4])
    return [code for code in made if code[1] < code[2] or code[3] < code[4]]


def _offset(new: Sequence[str], start: int, stop: int, above: int, below: int) -> int:
    """By how many lines the block is best moved, up to so many lines up and down."""
    up = down = 0
    while up < above and new[start - 1 - up] == new[stop - 1 - up]:
        up += 1
    while down < below and new[start + down] == new[stop + down]:
        down += 1
    return min(range(-up, down + 1), key=lambda offset: (_depth(new[start + offset]), abs(offset)))


def _depth(line: str) -> tuple[int, bool]:
    return len(line) - len(line.lstrip()), not line.lstrip().startswith("- ")


def _grouped(codes: Sequence[Code]) -> Iterator[list[Code]]:
    """Changes with a little around them."""
    group: list[Code] = []
    for tag, i1, i2, j1, j2 in codes:
        if tag != "equal":
            group.append((tag, i1, i2, j1, j2))
            continue
        length = i2 - i1
        head = min(length, CONTEXT)
        if group and length > 2 * CONTEXT:
            yield [*group, (tag, i1, i1 + head, j1, j1 + head)]
            group = []
        start = max(0, length - CONTEXT) if not group else 0
        group.append((tag, i1 + start, i2, j1 + start, j2))
    if any(code[0] != "equal" for code in group):
        if group[-1][0] == "equal":
            tag, i1, i2, j1, j2 = group[-1]
            end = min(i2 - i1, CONTEXT)
            group[-1] = (tag, i1, i1 + end, j1, j1 + end)
        yield group


def _range(start: int, stop: int) -> str:
    length = stop - start
    return f"{start + 1 if length else start},{length}"
