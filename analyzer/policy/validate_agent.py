"""The agent's half of validation: parse, asked piece by piece, so that every bad piece of a policy is told, not only one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analyzer.errors import PolicyError
from analyzer.model.inventory import AgentOptions
from analyzer.policy.model import Section
from analyzer.policy.parse import parse
from analyzer.policy.refusal import Refusal

__all__ = ["agent_refusals"]

Doc = Mapping[str, Any]
_LAYER_4 = ("toPorts", "icmps")
_ALLOWED: Doc = {Section.INGRESS.value: [{}]}
_HARMLESS: Doc = {"endpointSelector": {}, **_ALLOWED}


def agent_refusals(document: Doc, options: AgentOptions) -> Iterator[Refusal]:
    """Why the agent drops the object; nothing exactly if `parse` takes it.

    The pieces are the head of each spec, the peers of each item, and each element of toPorts. Each is parsed within an
    otherwise harmless policy. What no piece shows by itself is told for the whole.
    """
    whole = _refused(document, options)
    if whole is None:
        return
    found = False
    for each in _pieces(document, options):
        found = True
        yield each
    if not found:
        yield whole


def _refused(document: Doc, options: AgentOptions) -> Refusal | None:
    try:
        parse(document, options)
    except PolicyError as error:
        message = str(error)
        return Refusal(error.field, message.removeprefix(f"{error.field}: ") if error.field else message, "agent")
    return None


def _pieces(document: Doc, options: AgentOptions) -> Iterator[Refusal]:
    if document.get("kind") == "NetworkPolicy":
        return
    named = {key: document.get(key) for key in ("kind", "metadata")}
    refused = _refused({**named, "spec": _HARMLESS}, options)
    if refused is not None:
        yield refused
        named["metadata"] = {"name": "p"}
    specs = document.get("specs")
    bodies = [("spec", document.get("spec"))]
    bodies += [(f"specs[{index}]", body) for index, body in enumerate(specs if isinstance(specs, list) else ())]
    for path, body in bodies:
        if isinstance(body, Mapping):
            yield from _spec(_Probe(named, options, path), body)


class _Probe:
    """Asks parse about one spec at a time, in the place of ``spec``, and tells the place that it came from."""

    def __init__(self, named: Doc, options: AgentOptions, path: str) -> None:
        self._document = named
        self._options = options
        self._path = path
        self.takes_nodes = named["kind"] == "CiliumClusterwideNetworkPolicy"

    def refused(self, spec: Doc, *moved: tuple[str, str]) -> Refusal | None:
        """`moved` are (place in the probe, true place) within the spec, the longest first."""
        found = _refused({**self._document, "spec": spec}, self._options)
        if found is None or not found.field.startswith("spec"):
            return found
        inside = found.field.removeprefix("spec")
        for here, there in moved:
            if inside.startswith(here):
                inside = there + inside.removeprefix(here)
                break
        return found._replace(field=self._path + inside)


def _spec(probe: _Probe, body: Doc) -> Iterator[Refusal]:
    lists = {section.value: body.get(section.value) for section in Section}
    items = [
        (name, index, item)
        for name, found in lists.items()
        if isinstance(found, list)
        for index, item in enumerate(found)
    ]
    head = {key: value for key, value in body.items() if key not in lists or not isinstance(value, list)}
    refused = probe.refused({**head, **(_ALLOWED if items else {})})
    if refused is not None:
        yield refused
        # The head would hide what is wrong below it.
        nodes = "nodeSelector" in body and "endpointSelector" not in body and probe.takes_nodes
        head = {"nodeSelector" if nodes else "endpointSelector": {}}
    for name, index, item in items:
        yield from _item(probe, head, (name, index), item)


def _item(probe: _Probe, head: Doc, place: tuple[str, int], item: Any) -> Iterator[Refusal]:
    name, index = place
    here, there = f".{name}[0]", f".{name}[{index}]"
    refused = probe.refused({**head, name: [item]}, (here, there))
    if refused is None:
        return
    ports = item.get("toPorts") if isinstance(item, Mapping) else None
    if not isinstance(item, Mapping) or not isinstance(ports, list):
        yield refused
        return
    found = [
        probe.refused({**head, name: [{key: each for key, each in item.items() if key not in _LAYER_4}]}, (here, there))
    ]
    for number, port in enumerate(ports):
        moved = (f"{here}.toPorts[0]", f"{there}.toPorts[{number}]")
        found.append(probe.refused({**head, name: [{"toPorts": [port]}]}, moved, (here, there)))
    told = [each for each in found if each is not None]
    yield from told or [refused]
