"""Rule items and specs for which the agent drops the whole document: what its own checks reject."""

from __future__ import annotations

from typing import Any

__all__ = ["REFUSED_ITEMS", "REFUSED_SPECS"]

Doc = dict[str, Any]

REFUSED_ITEMS: list[Doc] = [
    {"fromEndpoints": [{}], "fromEntities": ["world"]},
    {"fromEntities": ["everyone"]},
    {"fromCIDR": ["192.0.2.1"]},
    {"fromCIDR": ["192.0.2.0/33"]},
    {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["192.0.2.0/24"]}]},
    {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "except": ["0.0.0.0/0"]}]},
    {"fromCIDRSet": [{}]},
    {"fromCIDRSet": [{"cidr": "10.0.0.0/8", "cidrGroupRef": "partners"}]},
    {"fromNodes": [{}]},
    {"fromRequires": [{}]},
    {"fromEndpoints": [{"matchExpressions": [{"key": "app", "operator": "Is", "values": ["a"]}]}]},
    {"fromEndpoints": [{"matchExpressions": [{"key": "app", "operator": "In", "values": []}]}]},
    {"fromEndpoints": [{"matchExpressions": [{"key": "app", "operator": "Exists", "values": ["a"]}]}]},
    {"fromEndpoints": [{"matchLabels": {"app": "not valid!"}}]},
    {"fromEndpoints": [{"matchLabels": {"app": "x" * 64}}]},
    {"fromEndpoints": [{"matchLabels": {"-app": "a"}}]},
    {"toPorts": [{"ports": [{"protocol": "TCP"}]}]},
    {"toPorts": [{"ports": [{"port": ""}]}]},
    {"toPorts": [{"ports": [{"port": "70000", "protocol": "TCP"}]}]},
    {"toPorts": [{"ports": [{"port": "-1"}]}]},
    {"toPorts": [{"ports": [{"port": 80}]}]},
    {"toPorts": [{"ports": [{"port": "80-90"}]}]},
    {"toPorts": [{"ports": [{"port": "a_name_too_long_for_iana"}]}]},
    {"toPorts": [{"ports": [{"port": "80", "protocol": "FOO"}]}]},
    {"toPorts": [{"ports": [{"port": "0", "protocol": "ICMP"}]}]},
    {"toPorts": [{"ports": [{"port": str(port)} for port in range(1, 42)]}]},
    {"toPorts": [{"ports": [{"port": "0", "protocol": "TCP"}], "rules": {"http": [{}]}}]},
    {"toPorts": [{"ports": [{"port": "80"}], "rules": {"http": [{}]}}]},
    {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"path": "("}]}}]},
    {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{}], "dns": [{}]}}]},
    {"toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}], "rules": {"dns": [{"matchPattern": "*"}]}}]},
    {"icmps": [{"fields": [{"type": 8, "family": "IPv5"}]}]},
    {"icmps": [{"fields": [{"type": "PacketTooBig"}]}]},
    {"icmps": [{"fields": [{"type": 8}]}], "toPorts": [{"ports": [{"port": "80"}]}]},
]
"""Ingress items for which the agent drops the whole document."""
REFUSED_SPECS: list[Doc] = [
    {},
    {"endpointSelector": {}},
    {"endpointSelector": {}, "ingress": [], "egress": []},
    {"endpointSelector": {}, "enableDefaultDeny": {"ingress": True}},
    {"ingress": [{}]},
    {"endpointSelector": {}, "nodeSelector": {}, "ingress": [{}]},
    {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "a.test", "matchPattern": "*"}]}]},
    {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "*.test"}]}]},
    {"endpointSelector": {}, "egress": [{"toPorts": [{"rules": {"dns": [{"matchPattern": "*"}]}}]}]},
    {
        "endpointSelector": {},
        "egress": [
            {"toPorts": [{"ports": [{"port": "53", "endPort": 54}], "rules": {"dns": [{"matchPattern": "*"}]}}]}
        ],
    },
]
