"""What the API server allows in a NetworkPolicy (Kubernetes pkg/apis/networking/validation, `ValidateNetworkPolicySpec`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from analyzer.policy.checks import is_label_key, is_label_value
from analyzer.policy.validate_meta import META
from analyzer.policy.validate_types import ANYTHING, TEXT, IntOrText, ListOf, MapOf, Record, Text, Type, Whole

__all__ = ["KUBERNETES"]

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
Complaint = Iterator[tuple[str, str]]


def _list(each: Type, most: int = 0) -> ListOf:
    """A list as Go decodes it: null is an empty element."""
    return ListOf(each, most=most, nulls=True)


def _key(text: str) -> bool:
    return ":" not in text and is_label_key(text)


def _is_cidr(text: str) -> bool:
    return _network(text) is not None


def _network(text: object) -> Any:
    if not isinstance(text, str) or not re.fullmatch(r"[^/%]+/[0-9]{1,3}", text):
        return None
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _expression(body: Mapping[str, Any]) -> Complaint:
    operator, values = body.get("operator"), body.get("values")
    if operator in ("In", "NotIn") and not values:
        yield "values", f"{operator} needs values"
    if operator in ("Exists", "DoesNotExist") and values:
        yield "values", f"{operator} takes no values"


def _block(body: Mapping[str, Any]) -> Complaint:
    whole = _network(body.get("cidr"))
    excepts = body.get("except")
    for index, text in enumerate(excepts if isinstance(excepts, list) else ()):
        hole = _network(text)
        if whole is None or hole is None:
            continue
        if hole.version != whole.version or hole == whole or not hole.subnet_of(whole):
            yield f"except[{index}]", f"must be a part of {whole}, and not all of it"


def _peer(body: Mapping[str, Any]) -> Complaint:
    given = [name for name in ("podSelector", "namespaceSelector", "ipBlock") if body.get(name) is not None]
    if not given:
        yield "", "a peer must be given: podSelector, namespaceSelector or ipBlock"
    if "ipBlock" in given and len(given) > 1:
        yield "", f"ipBlock and {given[0]} cannot stand in one peer"


def _port(body: Mapping[str, Any]) -> Complaint:
    port, end = body.get("port"), body.get("endPort")
    if end is None:
        return
    if port is None:
        yield "endPort", "needs a port"
    elif isinstance(port, str):
        yield "endPort", "cannot stand beside the name of a port"
    elif isinstance(end, int) and isinstance(port, int) and end < port:
        yield "endPort", f"must not be less than the port, {port}"


_SELECTOR = Record(
    {
        "matchLabels": MapOf(
            Text(
                most=63, test=is_label_value, meant="letters, digits, '-', '_' and '.', a letter or digit at both ends"
            ),
            key=_key,
        ),
        "matchExpressions": _list(
            Record(
                {
                    "key": Text(test=_key, meant="a label key"),
                    "operator": Text(words=_OPERATORS),
                    "values": _list(Text(test=is_label_value, meant="a label value")),
                },
                required=("key", "operator"),
                complaints=_expression,
            )
        ),
    }
)
_CIDR = Text(test=_is_cidr, meant="an address with a prefix length, such as 192.0.2.0/24")
_PEER = Record(
    {
        "podSelector": _SELECTOR,
        "namespaceSelector": _SELECTOR,
        "ipBlock": Record({"cidr": _CIDR, "except": _list(_CIDR)}, required=("cidr",), complaints=_block),
    },
    complaints=_peer,
)
_PORT = Record(
    {
        "protocol": Text(words=("TCP", "UDP", "SCTP")),
        "port": IntOrText(
            Whole(1, 65535),
            Text(
                test=lambda text: bool(_PORT_NAME.fullmatch(text)),
                meant="a number, or the name of a port in lower case and without quotes around numbers",
            ),
        ),
        "endPort": Whole(1, 65535),
    },
    complaints=_port,
)
_SPEC = Record(
    {
        "podSelector": _SELECTOR,
        "policyTypes": _list(Text(words=("Ingress", "Egress")), most=2),
        "ingress": _list(Record({"from": _list(_PEER), "ports": _list(_PORT)})),
        "egress": _list(Record({"to": _list(_PEER), "ports": _list(_PORT)})),
    }
)
KUBERNETES = Record(
    {
        "apiVersion": Text(words=("networking.k8s.io/v1",)),
        "kind": TEXT,
        "metadata": META,
        "spec": _SPEC,
        "status": ANYTHING,
    },
    required=("apiVersion", "metadata"),
)
