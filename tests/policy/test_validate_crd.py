"""The schema's half against the real CRD schemas: it refuses exactly what they refuse, and knows exactly their fields."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker

from analyzer.policy.validate_cilium import CILIUM
from analyzer.policy.validate_schema import schema_refusals
from analyzer.policy.validate_types import ListOf, MapOf, Record, Text, Type
from tests.strategies import documents

CRDS = Path(__file__).resolve().parents[2] / ".." / "shared" / "crds"
FILES = {
    "CiliumNetworkPolicy": "ciliumnetworkpolicy_v2.json",
    "CiliumClusterwideNetworkPolicy": "ciliumclusterwidenetworkpolicy_v2.json",
}
# Ours reads these on its own: the API server checks the metadata, and the schema says nothing of it.
OWN = ("metadata", "apiVersion", "kind", "status")

if not CRDS.is_dir():
    pytest.skip("the CRD schemas are not here", allow_module_level=True)

FORMATS = FormatChecker(formats=())


@FORMATS.checks("cidr", raises=ValueError)
def _cidr(value: object) -> bool:
    return not isinstance(value, str) or (
        re.fullmatch(r"[^/%]+/[0-9]{1,3}", value) is not None and bool(ip_interface(value))
    )


def _patched(schema: Any) -> Any:
    """What JSON Schema spells in another way than Kubernetes: sets, and Go's classes of characters."""
    if isinstance(schema, list):
        return [_patched(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _patched(value) for key, value in schema.items()}
    if found.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    if found.get("pattern") == r"^\PC*$":
        found["pattern"] = "^[^\x00-\x1f\x7f]*$"
    return found


# The API server prunes at the top as well, which the schema need not say.
SCHEMAS = {
    kind: _patched(json.loads((CRDS / name).read_text())) | {"additionalProperties": False}
    for kind, name in FILES.items()
}
VALIDATORS = {kind: Draft7Validator(schema, format_checker=FORMATS) for kind, schema in SCHEMAS.items()}

EVERYTHING: dict[str, Any] = {
    "description": "all there is",
    "labels": [{"key": "a", "source": "k8s", "value": "b"}],
    "log": {"value": "seen"},
    "endpointSelector": {"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["c"]}]},
    "enableDefaultDeny": {"ingress": True, "egress": False},
    "ingress": [
        {
            "fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}, {"cidrGroupRef": "partners"}],
            "authentication": {"mode": "required"},
            "toPorts": [
                {
                    "ports": [{"port": "80", "protocol": "TCP", "endPort": 90}, {"port": "web"}],
                    "rules": {
                        "http": [
                            {
                                "method": "GET",
                                "path": "/a",
                                "host": "a.test",
                                "headers": ["X: 1"],
                                "headerMatches": [{"name": "Y", "value": "1", "mismatch": "LOG", "secret": {"name": "s"}}],
                            }
                        ]
                    },
                    "terminatingTLS": {"secret": {"name": "s", "namespace": "n"}, "trustedCA": "c"},
                    "listener": {"name": "l", "priority": 1, "envoyConfig": {"name": "e", "kind": "CiliumEnvoyConfig"}},
                    "serverNames": ["a.test", "*.b.test"],
                },
                {"ports": [{"port": "9092"}], "rules": {"kafka": [{"topic": "t", "role": "produce"}]}},
                {"ports": [{"port": "1"}], "rules": {"l7proto": "x", "l7": [{"a": "b"}]}},
            ],
        },
        {"fromEndpoints": [{}], "icmps": [{"fields": [{"type": 8, "family": "IPv4"}, {"type": "EchoRequest"}]}]},
        {"fromEntities": ["world", "cluster"], "fromRequires": []},
        {"fromCIDR": ["192.0.2.0/24"], "fromNodes": [{}], "fromGroups": [{"aws": {"region": "r", "labels": {"a": "b"}}}]},
    ],
    "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"a": "b"}}], "toPorts": [{"ports": [{"port": "1"}]}]}],
    "egress": [
        {"toFQDNs": [{"matchName": "a.test"}, {"matchPattern": "*.test"}]},
        {"toServices": [{"k8sService": {"serviceName": "s", "namespace": "n"}}, {"k8sServiceSelector": {"selector": {}}}]},
        {"toPorts": [{"ports": [{"port": "53"}], "rules": {"dns": [{"matchPattern": "*"}]}}]},
        {"toGroups": [{"aws": {"securityGroupsIds": ["g"]}}]},
    ],
    "egressDeny": [{"toEntities": ["host"], "toServices": []}],
}  # fmt: skip
VALUES: list[Any] = [
    *(None, True, 0, -1, 1.5, 101, 255, 65536, "", "x", "-", "a.b", "*.x", "**.x", "***.x", "a..b", "A_b."),
    *("1.2.3.4/8", "1.2.3.4/08", "1.2.3.4/33", "1.2.3.4", "::1/64", "::1%a/64", "80", "080", "80-90", "70000", "0x1"),
    *("web-", "-web", "we b", "a--b", "1-a", "255", "256", "ParameterProblem", "ExtendedEcho Request"),
    *(
        "ExtendedEcho Reply",
        "ExtendedEchoReply",
        "PacketTooBig",
        "EchoRequest",
        "IPv6",
        "udp",
        "UDP",
        "VRRP",
        "In",
        "in",
    ),
    *("all", "cluster-mesh", "world-ipv4", "required", "LOG", "produce", "CiliumEnvoyConfig", "tab\there"),
    *("x" * 33, "x" * 64, "x" * 254, "x" * 256, [], [None], ["x"], ["x", "x"], [{}], [[]], {}, {"x": 1}, {"x": "y"}),
    *({"name": ""}, [{"port": "1"}] * 41, [{"type": 8}] * 41),
]
NAMES = [
    "endpointSelector", "nodeSelector", "ingress", "egressDeny", "cidr", "cidrGroupRef", "cidrGroupSelector", "except", "matchName",
    "matchPattern", "rules", "http", "dns", "kafka", "l7proto", "toPorts", "icmps", "toFQDNs", "fromEndpoints", "authentication",
    "values", "priority", "foo", "Ports",
]  # fmt: skip

Path_ = tuple[str | int, ...]


def _places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """The paths of all values inside."""
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(each, (*path, key))


def _at(value: Any, path: Path_) -> Any:
    for key in path:
        value = value[key]
    return value


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A policy with up to three values dropped, altered or added."""
    document = copy.deepcopy(draw(documents().filter(lambda each: each["kind"] in FILES)))
    if draw(st.booleans()):
        document["spec"] = copy.deepcopy(EVERYTHING)
    for _ in range(draw(st.integers(0, 3))):
        places = [path for path in _places(document) if path[0] not in OWN]
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent, how = _at(document, path[:-1]), draw(st.sampled_from(["drop", "alter", "add"]))
        if how == "drop":
            del parent[path[-1]]
        elif how == "alter":
            parent[path[-1]] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(NAMES))] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        else:
            parent.append(copy.deepcopy(draw(st.sampled_from(VALUES))))
    return document


def _pruned(value: Any, schema: dict[str, Any], path: str, unknown: list[str]) -> Any:
    """The value as the API server stores it, before it is validated: without null and unknown fields."""
    if isinstance(value, list) and "items" in schema:
        return [_pruned(each, schema["items"], f"{path}[{index}]", unknown) for index, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    found = {}
    for key, each in value.items():
        where = f"{path}.{key}" if path else key
        if key not in known and rest is False:
            unknown.append(where)
        elif each is not None:
            inner = known.get(key, rest if isinstance(rest, dict) else {})
            found[key] = _pruned(each, inner, where, unknown)
    return found


def compare(document: dict[str, Any]) -> bool:
    """Whether both refuse it; that both say the same is asserted."""
    kind = document["kind"]
    unknown: list[str] = []
    stored = _pruned(document, SCHEMAS[kind], "", unknown)
    ours = [each for each in schema_refusals(document) if not each.field.startswith(OWN)]
    assert sorted(each.field for each in ours if each.pruned) == sorted(unknown)
    theirs = [f"{error.json_path}: {error.message[:200]}" for error in VALIDATORS[kind].iter_errors(stored)]
    structural = [each for each in ours if not each.pruned]
    assert bool(structural) == bool(theirs), (structural, theirs)
    return bool(theirs)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_the_same_is_refused(document: dict[str, Any]) -> None:
    compare(document)


def _parts() -> Iterator[dict[str, Any]]:
    """EVERYTHING, an item at a time: the schema is slow on large documents."""
    head = {key: value for key, value in EVERYTHING.items() if "gress" not in key}
    yield {**head, "ingress": [{}]}
    for section in EVERYTHING.keys() - head.keys():
        for item in EVERYTHING[section]:
            yield {"endpointSelector": {}, section: [item]}


def _changed(value: Any, turn: int) -> Iterator[dict[str, Any]]:
    """Every other place gets the value, so that two neighbours in VALUES reach all of them."""
    for part in _parts():
        for path in list(_places(part))[turn % 2 :: 2]:
            changed = copy.deepcopy(part)
            _at(changed, path[:-1])[path[-1]] = value
            yield {**DOCUMENT, "spec": changed}


DOCUMENT = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "p"}}


@pytest.mark.parametrize("turn", range(len(VALUES)), ids=lambda turn: repr(VALUES[turn])[:40])
def test_every_value_in_every_place(turn: int) -> None:
    assert sum(compare(document) for document in _changed(VALUES[turn], turn))


def test_every_field_is_known_and_may_be_missing_alike() -> None:
    assert not compare({**DOCUMENT, "spec": EVERYTHING})
    for path in _places(EVERYTHING):
        changed = copy.deepcopy(EVERYTHING)
        del _at(changed, path[:-1])[path[-1]]
        compare({**DOCUMENT, "spec": changed})
    assert set(_fields(SCHEMAS["CiliumNetworkPolicy"]["properties"]["spec"])) <= {
        "privateKey", "certificate", "originatingTLS", "securityGroupsNames", "nodeSelector", "apiKey", "apiVersion", "clientID",
        *(key for path in _places(EVERYTHING) for key in path if isinstance(key, str)),
    } | {each for prefix in ("from", "to") for each in (f"{prefix}{name}" for name in ("CIDR", "CIDRSet", "Endpoints", "Entities",
         "Groups", "Nodes", "Requires"))} | {"cidrGroupSelector"}  # fmt: skip


def _fields(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for each in schema.values():
            yield from _fields(each)


def test_every_word_is_taken() -> None:
    theirs = {frozenset(each) for each in _enums(SCHEMAS["CiliumNetworkPolicy"]["properties"]["spec"])}
    assert {frozenset(each) for each in _words(CILIUM.fields["spec"])} == theirs


def _enums(schema: Any) -> Iterator[list[str]]:
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _enums(each)
    if isinstance(schema, dict) and isinstance(schema.get("enum"), list):
        yield schema["enum"]


def _words(kind: Type) -> Iterator[tuple[str, ...]]:
    if isinstance(kind, Text) and kind.words:
        yield kind.words
    for each in kind.fields.values() if isinstance(kind, Record) else ():
        yield from _words(each)
    if isinstance(kind, ListOf | MapOf):
        yield from _words(kind.each)
