"""The next step for a refusal, as far as its place and its words tell one."""

from __future__ import annotations

import re

from analyzer.policy import Refusal

__all__ = ["hint_for"]

# (pattern of the field, pattern of the message, what to do); the first that fits is told.
_HINTS: tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...] = tuple(
    (re.compile(field), re.compile(message), hint)
    for field, message, hint in (
        (r"", "variables are not filled in", "render it first, with `flux build kustomization` or envsubst for example"),
        (r"egressDeny\[\d+\]\.toFQDNs$", "unknown", "deny rules know no names: without it the rule denies nothing; use toCIDR"),
        (r"Deny\[\d+\]\.toPorts\[\d+\]\.rules$", "unknown", "deny rules know no requests: without it the whole port is denied"),
        (r"", "unknown", "correct its name or its place, or remove it"),
        (r"\.port$", "not a number", 'quote it: port: "8080"'),
        (r"\.endPort$", "octal|at most", "ports end at 65535"),
        (r"\.port$", r"parse port '\d+-\d+'", "write a range as port and endPort"),
        (r"\.ports$", r"ports in one list|at most 40", "split the list: several elements of toPorts may stand in one rule"),
        (r"\.protocol$", "'(tcp|udp|sctp|any)' is not", "write it in upper case"),
        (r"\.protocol$", "ICMP", "write ICMP types in `icmps`, not in toPorts"),
        (r"Entities\[\d+\]$", "world-ipv", "use world, or the CIDRs 0.0.0.0/0 and ::/0"),
        (r"Entities\[\d+\]$", "cluster-mesh", "newer releases take it: check the version of your CRDs"),
        (r"CIDR", r"length|prefix", "add the length: 192.0.2.1/32 is one address"),
        (r"except", "contain|part of", "an exception lies inside its CIDR"),
        (r"", "cannot be combined", "make one rule of each kind of peers"),
        (r"Requires$", "gone", "put the requirement into the peer selector, or use a deny rule"),
        (r"Nodes$", "off", "switch on the agent's node labels (--enable-node-selector-labels), or use entities"),
        (r"", "no item in any", "for default deny write `ingress: [{}]`, `egress: [{}]`"),
        (r"", "at least one of ingress", "for default deny write `ingress: [{}]`, `egress: [{}]`"),
        (r"", "neither of endpointSelector|exactly one of endpointSelector", "`endpointSelector: {}` selects every pod"),
        (r"nodeSelector$", "cannot select nodes", "use a CiliumClusterwideNetworkPolicy"),
        (r"rules$", "TCP only", "give the port with protocol: TCP"),
        (r"rules$", "on ingress", "DNS rules belong to egress of the pods that ask"),
        (r"rules$", "ranges", "list the port by itself"),
        (r"rules$", "exactly one of http", "write one kind of rules, or remove `rules`"),
        (r"icmps$", "beside toPorts", "make two rules of it"),
        (r"apiVersion$", "", "cilium.io/v2 for Cilium's policies, networking.k8s.io/v1 for a NetworkPolicy"),
        (r"metadata", "", "names are lower-case letters, digits, '-' and '.'"),
        (r"", "unsupported entity|is not one of", "write one of the words that are listed"),
    )
)  # fmt: skip
_ANY = "mend it: as it stands the {} refuses the whole object"
_WHO = {"schema": "API server", "agent": "agent"}


def hint_for(refusal: Refusal) -> str:
    """What to do about it, in a few words."""
    for field, message, hint in _HINTS:
        if field.search(refusal.field) and message.search(refusal.message):
            return hint
    return _ANY.format(_WHO[refusal.refused_by])
