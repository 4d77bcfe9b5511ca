"""RULES: every check by its name, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["RULES"]

RULES: Mapping[str, str] = {
    "cidr-inside": "a CIDR is aimed at pods, nodes or services: only addresses outside the cluster match it",
    "default-deny-alone": "enableDefaultDeny for a direction in which the rule has no items has no effect",
    "deny-all": "a deny rule for everybody outranks every allow rule",
    "deny-only": "deny rules alone switch default deny on",
    "egress-without-dns": "egress is denied by default and nothing allows DNS",
    "empty-list": "an empty list means nobody in one place and everybody in another",
    "foreign-namespace": "a namespaced policy selects in its own namespace only",
    "every-namespace": "a clusterwide policy that selects by labels alone applies in every namespace",
    "fqdn-without-dns": "names are learned from DNS answers that a DNS rule lets the proxy see",
    "icmp-type-range": "an ICMP type that does not exist",
    "icmp-type-zero": "ICMP type 0 stands for every type",
    "ignored-namespace": "a clusterwide policy has no namespace",
    "label-source": "a dot where the colon after a label's source belongs",
    "no-namespace": "a peer without a namespace: every one in a clusterwide policy, the own one in a namespaced",
    "not-in-namespace": "NotIn on the namespace without Exists selects health and ingress endpoints, too",
    "port-name": "a port that looks like a number and is a name",
    "port-octal": "a port with a leading zero is octal",
    "port-range": "an endPort below its port",
    "refused-by-agent": "the Cilium agent drops the whole object",
    "refused-by-schema": "the API server refuses the object",
    "replaced": "two objects of one kind, namespace and name",
    "selects-health": "a clusterwide policy selects health and ingress endpoints, too",
    "unknown-field": "a field that the API server refuses or drops",
}
