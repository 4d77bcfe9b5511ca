"""What the CRDs of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy allow, as of Cilium 1.18: both have the same schema."""

from __future__ import annotations

import re
import unicodedata
from ipaddress import ip_network

from analyzer.policy.checks import ICMP_TYPES, is_label_value
from analyzer.policy.validate_meta import META, subdomain
from analyzer.policy.validate_types import ANYTHING, FLAG, TEXT, IntOrText, ListOf, MapOf, Record, Text, Type, Whole

__all__ = ["CILIUM"]

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_ENTITIES = (
    "all", "world", "cluster", "host", "init", "ingress", "unmanaged", "remote-node", "health", "none", "kube-apiserver",
)  # fmt: skip
_PROTOCOLS = ("TCP", "UDP", "SCTP", "ANY")
# The schema's names of both families in one list. It spells two of them in one way only.
_ICMP_NAMES = frozenset(name for names in ICMP_TYPES.values() for name in names) - {
    "ExtendedEcho Request",
    "ExtendedEchoReply",
}
_ICMP_NUMBER = re.compile(r"[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]")
_NAME_BACKWARDS = re.compile(r"([a-zA-Z0-9]-?)*?[a-zA-Z]")
# Names and patterns: the dots stand alone, one may end it.
_DNS_NAME = re.compile(r"[-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+)*[.]?", re.ASCII)
_DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_*]+([.][-a-zA-Z0-9_*]+)*[.]?", re.ASCII)
_MASK = re.compile(r"[0-9]+")
_WILDCARD = re.compile(r"\*?\*\.")


def _is_cidr(text: str) -> bool:
    """What Go's `net.ParseCIDR` reads: unlike the agent it takes leading zeros in the length."""
    address, _, length = text.partition("/")
    try:
        return (
            bool(_MASK.fullmatch(length))
            and "%" not in address
            and bool(ip_network(f"{address}/{int(length)}", strict=False))
        )
    except ValueError:
        return False


def _is_port(text: str) -> bool:
    """The schema's pattern is not anchored at both ends: a digit in front, or a name at the end, is enough."""
    return text[:1] in tuple("0123456789") or bool(_NAME_BACKWARDS.match(text[::-1]))


def _is_server_name(text: str) -> bool:
    return _is_name(_WILDCARD.sub("", text, count=1) if _WILDCARD.match(text) else text)


def _is_name(text: str) -> bool:
    return bool(_DNS_NAME.fullmatch(text))


def _is_pattern(text: str) -> bool:
    return bool(_DNS_PATTERN.fullmatch(text))


_CIDR = Text(test=_is_cidr, meant="an address with a prefix length, such as 192.0.2.0/24")
_LABEL_VALUE = Text(
    most=63, test=is_label_value, meant="letters, digits, '-', '_' and '.', a letter or digit at both ends"
)
_SELECTOR = Record(
    {
        "matchLabels": MapOf(_LABEL_VALUE),
        "matchExpressions": ListOf(
            Record(
                {"key": TEXT, "operator": Text(words=_OPERATORS), "values": ListOf(TEXT)}, required=("key", "operator")
            )
        ),
    }
)
_FQDN = Record(
    {
        "matchName": Text(most=255, test=_is_name, meant="a DNS name without wildcards"),
        "matchPattern": Text(most=255, test=_is_pattern, meant="a DNS name that may have '*' in it"),
    },
    one_of=("matchName", "matchPattern"),
)
_CIDR_SET = Record(
    {
        "cidr": _CIDR,
        "cidrGroupRef": Text(most=253, test=subdomain, meant="the name of a CiliumCIDRGroup"),
        "cidrGroupSelector": _SELECTOR,
        "except": ListOf(_CIDR),
    },
    one_of=("cidr", "cidrGroupRef", "cidrGroupSelector"),
)
_GROUP = Record(
    {
        "aws": Record(
            {
                "labels": MapOf(TEXT),
                "region": TEXT,
                "securityGroupsIds": ListOf(TEXT),
                "securityGroupsNames": ListOf(TEXT),
            }
        )
    }
)
_SERVICE = Record(
    {
        "k8sService": Record({"namespace": TEXT, "serviceName": TEXT}),
        "k8sServiceSelector": Record({"namespace": TEXT, "selector": _SELECTOR}, required=("selector",)),
    }
)
_ICMPS = ListOf(
    Record(
        {
            "fields": ListOf(
                Record(
                    {
                        "family": Text(words=("IPv4", "IPv6")),
                        "type": IntOrText(
                            Whole(),
                            Text(
                                test=lambda text: text in _ICMP_NAMES or bool(_ICMP_NUMBER.fullmatch(text)),
                                meant="a number from 0 to 255, or the name of an ICMP type such as EchoRequest",
                            ),
                        ),
                    },
                    required=("type",),
                ),
                most=40,
            )
        }
    )
)
_PORT_PROTOCOL = Record(
    {
        "port": Text(test=_is_port, meant="a number or the name of a port"),
        "endPort": Whole(0, 65535),
        "protocol": Text(words=_PROTOCOLS),
    },
    required=("port",),
)
_SECRET = Record({"name": TEXT, "namespace": TEXT}, required=("name",))
_TLS = Record({"certificate": TEXT, "privateKey": TEXT, "secret": _SECRET, "trustedCA": TEXT}, required=("secret",))
_NAME = Text(least=1)
_LISTENER = Record(
    {
        "envoyConfig": Record(
            {"kind": Text(words=("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")), "name": _NAME},
            required=("name",),
        ),
        "name": _NAME,
        "priority": Whole(1, 100),
    },
    required=("envoyConfig", "name"),
)
_HTTP = Record(
    {
        "headerMatches": ListOf(
            Record(
                {
                    "mismatch": Text(words=("LOG", "ADD", "DELETE", "REPLACE")),
                    "name": _NAME,
                    "secret": _SECRET,
                    "value": TEXT,
                },
                required=("name",),
            )
        ),
        "headers": ListOf(TEXT),
        "host": TEXT,
        "method": TEXT,
        "path": TEXT,
    }
)
_KAFKA = Record(
    {
        "apiKey": TEXT,
        "apiVersion": TEXT,
        "clientID": TEXT,
        "role": Text(words=("produce", "consume")),
        "topic": Text(most=255),
    }
)
_L7 = Record(
    {"dns": ListOf(_FQDN), "http": ListOf(_HTTP), "kafka": ListOf(_KAFKA), "l7": ListOf(MapOf(TEXT)), "l7proto": TEXT},
    one_of=("http", "kafka", "dns", "l7proto"),
)
_TO_PORTS = ListOf(
    Record(
        {
            "listener": _LISTENER,
            "originatingTLS": _TLS,
            "ports": ListOf(_PORT_PROTOCOL, most=40),
            "rules": _L7,
            "serverNames": ListOf(
                Text(most=255, test=_is_server_name, meant="a DNS name, '*.' or '**.' in front at most"),
                least=1,
                unique=True,
            ),
            "terminatingTLS": _TLS,
        }
    )
)
_TO_PORTS_DENY = ListOf(Record({"ports": ListOf(_PORT_PROTOCOL)}))
_PEERS: dict[str, Type] = {
    "CIDR": ListOf(_CIDR),
    "CIDRSet": ListOf(_CIDR_SET),
    "Endpoints": ListOf(_SELECTOR),
    "Entities": ListOf(Text(words=_ENTITIES)),
    "Groups": ListOf(_GROUP),
    "Nodes": ListOf(_SELECTOR),
    "Requires": ListOf(_SELECTOR),
}
_AUTHENTICATION = Record({"mode": Text(words=("disabled", "required", "test-always-fail"))}, required=("mode",))


def _section(prefix: str, *, deny: bool) -> ListOf:
    fields: dict[str, Type] = {prefix + name: each for name, each in _PEERS.items()}
    fields |= {"icmps": _ICMPS, "toPorts": _TO_PORTS_DENY if deny else _TO_PORTS}
    if prefix == "to":
        fields["toServices"] = ListOf(_SERVICE)
    if not deny:
        fields["authentication"] = _AUTHENTICATION
    if prefix == "to" and not deny:
        fields["toFQDNs"] = ListOf(_FQDN)
    return ListOf(Record(fields))


def _no_control(text: str) -> bool:
    return not any(unicodedata.category(each).startswith("C") for each in text)


_SPEC = Record(
    {
        "description": TEXT,
        "egress": _section("to", deny=False),
        "egressDeny": _section("to", deny=True),
        "enableDefaultDeny": Record({"egress": FLAG, "ingress": FLAG}),
        "endpointSelector": _SELECTOR,
        "ingress": _section("from", deny=False),
        "ingressDeny": _section("from", deny=True),
        "labels": ListOf(Record({"key": TEXT, "source": TEXT, "value": TEXT}, required=("key",))),
        "log": Record({"value": Text(most=32, test=_no_control, meant="printable characters")}),
        "nodeSelector": _SELECTOR,
    },
    one_of=("endpointSelector", "nodeSelector"),
    any_of=("ingress", "ingressDeny", "egress", "egressDeny"),
)
CILIUM = Record(
    {
        "apiVersion": Text(words=("cilium.io/v2",)),
        "kind": TEXT,
        "metadata": META,
        "spec": _SPEC,
        "specs": ListOf(_SPEC),
        # The operator and the agents write it; an applied one is ignored.
        "status": ANYTHING,
    },
    required=("apiVersion", "metadata"),
)
