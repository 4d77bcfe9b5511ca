"""The drop reasons: what each number means, what people notice of it, and what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

__all__ = ["AUDIT", "L7_DENIED", "REASONS", "DropClass", "Reason", "Weight", "reason"]


class Weight(StrEnum):
    """Who has to act: the authors of policies, those who run the network, or nobody, because it passes or harms nobody."""

    POLICY = "policy"
    INFRA = "infra"
    PASSING = "passing"


class DropClass(StrEnum):
    """What a drop says about policies. Only DEFAULT_DENY and L7 can be helped by an allow rule."""

    DEFAULT_DENY = "default deny"
    EXPLICIT_DENY = "explicit deny"
    L7 = "L7 denial"
    AUTHENTICATION = "authentication"
    LB_SOURCE_RANGE = "LB source range"
    TRANSIENT = "transient"
    INFRASTRUCTURE = "infrastructure"
    UNKNOWN = "unknown reason"

    @property
    def weight(self) -> Weight:
        return _WEIGHTS.get(self, Weight.INFRA)

    @property
    def allowable(self) -> bool:
        """Whether a rule that allows it is the answer."""
        return self in (DropClass.DEFAULT_DENY, DropClass.L7)


_WEIGHTS = {
    DropClass.DEFAULT_DENY: Weight.POLICY,
    DropClass.EXPLICIT_DENY: Weight.POLICY,
    DropClass.L7: Weight.POLICY,
    DropClass.AUTHENTICATION: Weight.POLICY,
    DropClass.LB_SOURCE_RANGE: Weight.POLICY,
    DropClass.TRANSIENT: Weight.PASSING,
}


class Reason(NamedTuple):
    """A row of the table. `name` is Hubble's `DropReason`, `meaning` what happened, `symptom` what users of the service see, `step`
    the next thing to do."""

    number: int
    name: str
    kind: DropClass
    meaning: str
    symptom: str
    step: str

    @property
    def harmless(self) -> bool:
        """Whether nobody notices."""
        return self.symptom == _NOTHING

    @property
    def of_a_node(self) -> bool:
        """Whether it is about a node or the whole network, whoever talked to whom."""
        return self.harmless or self.step in (_MAP, _CONFIG, _DATAPATH)


# What people see, by what happens to the packet.
_TIMEOUT = "connections time out; nothing is answered"
_SOME = "single packets are missing; TCP sends them again, UDP loses them"
_NOTHING = "nothing, as a rule"
_STALLS = "connections hang or break off now and then, mostly under load or for long-lived ones"

# What to do, by whom it concerns.
_PATCH = "give --policies to see which rule comes nearest, and the smallest change that would allow it"
_DENY = "narrow or remove the deny rule; no allow rule outranks it"
_IGNORE = "nothing, unless it goes on: then see `cilium-dbg status` of the node"
_WAIT = "wait for the rollout to end; if it goes on, see `cilium-dbg endpoint list` for endpoints that are not ready"
_PACKET = "look for a broken or hostile sender: capture the packet with `cilium-dbg monitor -v --type drop`"
_DATAPATH = "report it with a sysdump (`cilium sysdump`): the datapath met a packet it has no way for"
_MAP = "see the map's pressure (cilium_bpf_map_pressure) and enlarge it (bpf-ct-global-*, bpf-nat-global-max)"
_ROUTE = "check routes and neighbours of the node (`ip route get`, `cilium-dbg bpf ipcache get`)"
_TUNNEL = "check that all nodes know each other: `cilium-health status`, `cilium-dbg bpf tunnel list`"
_CONFIG = "check the agent's configuration for the feature (`cilium-dbg status --verbose`)"

_D, _X, _A, _L, _T, _I = (
    DropClass.DEFAULT_DENY, DropClass.EXPLICIT_DENY, DropClass.AUTHENTICATION, DropClass.LB_SOURCE_RANGE, DropClass.TRANSIENT,
    DropClass.INFRASTRUCTURE,
)  # fmt: skip

# Numbers and names: api/v1/flow/flow.proto, `DropReason`; meanings: bpf/lib/drop_reasons.h and where the datapath returns them.
_ROWS: tuple[Reason, ...] = (
    Reason(130, "INVALID_SOURCE_MAC", _I, "the sender's MAC address is not its own", _TIMEOUT, _PACKET),
    Reason(131, "INVALID_DESTINATION_MAC", _I, "the MAC address is not the receiver's", _TIMEOUT, _PACKET),
    Reason(132, "INVALID_SOURCE_IP", _I, "the pod sent from an address that is not its own; IPv6 router solicitations from fe80:: "
           "are everyday noise", _NOTHING, "nothing for fe80:: addresses; else look for a pod that sends from other addresses"),
    Reason(133, "POLICY_DENIED", _D, "a policy selects this side, and no rule allows it", _TIMEOUT, _PATCH),
    Reason(134, "INVALID_PACKET_DROPPED", _I, "the packet is malformed", _SOME, _PACKET),
    Reason(135, "CT_TRUNCATED_OR_INVALID_HEADER", _I, "the header is cut off or invalid", _SOME, _PACKET),
    Reason(136, "CT_MISSING_TCP_ACK_FLAG", _I, "a TCP packet inside a connection lacks its ACK flag", _SOME, _PACKET),
    Reason(137, "CT_UNKNOWN_L4_PROTOCOL", _I, "connection tracking does not know the protocol", _TIMEOUT,
           "Cilium tracks TCP, UDP, SCTP and ICMP; others need a rule without ports, and a recent release"),
    Reason(138, "CT_CANNOT_CREATE_ENTRY_FROM_PACKET", _I, "a packet that may not open a connection arrived without one", _STALLS,
           "the connection is older than its tracking entry: look at idle timeouts, and at asymmetric routes"),
    Reason(139, "UNSUPPORTED_L3_PROTOCOL", _I, "neither IPv4 nor IPv6, or the one that is switched off", _NOTHING,
           "nothing, unless the family is meant to be on (enable-ipv4, enable-ipv6)"),
    Reason(140, "MISSED_TAIL_CALL", _T, "the endpoint's program was being replaced", _SOME, _IGNORE),
    Reason(141, "ERROR_WRITING_TO_PACKET", _I, "the packet could not be rewritten", _SOME, _DATAPATH),
    Reason(142, "UNKNOWN_L4_PROTOCOL", _I, "the protocol has no ports that a service or policy could speak of", _TIMEOUT,
           "services know TCP, UDP and SCTP only"),
    Reason(143, "UNKNOWN_ICMPV4_CODE", _I, "an ICMP code that is not handled", _NOTHING, _PACKET),
    Reason(144, "UNKNOWN_ICMPV4_TYPE", _I, "an ICMP type that is not handled", _NOTHING, _PACKET),
    Reason(145, "UNKNOWN_ICMPV6_CODE", _I, "an ICMPv6 code that is not handled", _NOTHING, _PACKET),
    Reason(146, "UNKNOWN_ICMPV6_TYPE", _I, "an ICMPv6 type that is not handled", _NOTHING, _PACKET),
    Reason(147, "ERROR_RETRIEVING_TUNNEL_KEY", _I, "the tunnel's header carries no identity", _TIMEOUT, _TUNNEL),
    Reason(148, "ERROR_RETRIEVING_TUNNEL_OPTIONS", _I, "the tunnel's options cannot be read", _TIMEOUT, _TUNNEL),
    Reason(149, "INVALID_GENEVE_OPTION", _I, "a Geneve option is invalid", _TIMEOUT, _TUNNEL),
    Reason(150, "UNKNOWN_L3_TARGET_ADDRESS", _I, "nobody answers for the address (ARP or neighbour discovery)", _TIMEOUT, _ROUTE),
    Reason(151, "STALE_OR_UNROUTABLE_IP", _T, "the address belongs to a pod that is gone, or not there yet; common around rollouts",
           "connections to single addresses fail for a moment", "wait for the rollout to end; if it goes on, somebody keeps "
           "the address of a pod that is gone (DNS caches, connection pools, headless services)"),
    Reason(152, "NO_MATCHING_LOCAL_CONTAINER_FOUND", _T, "the pod is not on this node any more, or not yet",
           "connections to single addresses fail for a moment", _WAIT),
    Reason(153, "ERROR_WHILE_CORRECTING_L3_CHECKSUM", _I, "the checksum could not be corrected", _SOME, _DATAPATH),
    Reason(154, "ERROR_WHILE_CORRECTING_L4_CHECKSUM", _I, "the checksum could not be corrected", _SOME, _DATAPATH),
    Reason(155, "CT_MAP_INSERTION_FAILED", _I, "the table of connections is full", "new connections fail, old ones go on", _MAP),
    Reason(156, "INVALID_IPV6_EXTENSION_HEADER", _I, "an IPv6 extension header is invalid", _SOME, _PACKET),
    Reason(157, "IP_FRAGMENTATION_NOT_SUPPORTED", _I, "a fragment, and tracking of fragments is off",
           "large messages are lost, small ones pass", "turn on enable-ipv4-fragment-tracking, or lower the sender's MTU"),
    Reason(158, "SERVICE_BACKEND_NOT_FOUND", _I, "the Service has no ready endpoint", "connections to the Service fail at once or "
           "time out", "see `kubectl get endpointslices`: selector, readiness and port names of the Service"),
    Reason(160, "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT", _I, "nobody knows the node that the address is on", _TIMEOUT, _TUNNEL),
    Reason(161, "FAILED_TO_INSERT_INTO_PROXYMAP", _I, "the proxy's table is full", "requests through L7 rules fail", _MAP),
    Reason(162, "REACHED_EDT_RATE_LIMITING_DROP_HORIZON", _I, "the pod sends more than its bandwidth limit",
           "throughput stays under a limit", "see the annotation kubernetes.io/egress-bandwidth"),
    Reason(163, "UNKNOWN_CONNECTION_TRACKING_STATE", _I, "connection tracking is in a state that cannot be", _SOME, _DATAPATH),
    Reason(164, "LOCAL_HOST_IS_UNREACHABLE", _I, "the node does not reach its own stack", _TIMEOUT, _ROUTE),
    Reason(165, "NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION", _T, "the endpoint's policy was not there yet",
           "connections of a pod that just started fail", _WAIT),
    Reason(166, "UNSUPPORTED_L2_PROTOCOL", _I, "no IP packet", _NOTHING, "nothing"),
    Reason(167, "NO_MAPPING_FOR_NAT_MASQUERADE", _I, "no free port to masquerade with, or the mapping is gone",
           "some connections to the outside fail", _MAP),
    Reason(168, "UNSUPPORTED_PROTOCOL_FOR_NAT_MASQUERADE", _I, "the protocol cannot be masqueraded", _TIMEOUT,
           "masquerading knows TCP, UDP and ICMP (SCTP only in part): route the destination natively"),
    Reason(169, "FIB_LOOKUP_FAILED", _I, "the node has no route or no neighbour for it", _TIMEOUT, _ROUTE),
    Reason(170, "ENCAPSULATION_TRAFFIC_IS_PROHIBITED", _I, "a pod sent tunnel packets of its own", _TIMEOUT,
           "pods may not speak VXLAN or Geneve on the port of Cilium's tunnel: use another port"),
    Reason(171, "INVALID_IDENTITY", _T, "the sender's identity is unknown on this node",
           "connections of new pods fail for a moment", _WAIT),
    Reason(172, "UNKNOWN_SENDER", _T, "the sender is unknown on this node", "connections of new pods fail for a moment", _WAIT),
    Reason(173, "NAT_NOT_NEEDED", _I, "the packet needs no translation", _NOTHING, _DATAPATH),
    Reason(174, "IS_A_CLUSTERIP", _I, "a ClusterIP was asked for from outside of the cluster", _TIMEOUT,
           "use a LoadBalancer or NodePort Service, or bpf-lb-external-clusterip"),
    Reason(175, "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND", _I, "a fragment came without or before the first one",
           "large messages are lost, small ones pass", "look at the MTU between the nodes and at bpf-fragments-map-max"),
    Reason(176, "FORBIDDEN_ICMPV6_MESSAGE", _I, "an ICMPv6 message that the host firewall lets nobody send", _NOTHING, _PACKET),
    Reason(177, "DENIED_BY_LB_SRC_RANGE_CHECK", _L, "the client is outside of the Service's loadBalancerSourceRanges", _TIMEOUT,
           "add the client's range to loadBalancerSourceRanges of the Service; no network policy can help"),
    Reason(178, "SOCKET_LOOKUP_FAILED", _I, "the proxy's socket was not found", "requests through L7 rules fail", _IGNORE),
    Reason(179, "SOCKET_ASSIGN_FAILED", _I, "the proxy's socket could not be given the packet", "requests through L7 rules fail",
           _IGNORE),
    Reason(180, "PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL", _I, "an L7 rule on a protocol that the proxy does not take",
           _TIMEOUT, "L7 rules go with TCP (and UDP for DNS): remove the rule's L7 part"),
    Reason(181, "POLICY_DENY", _X, "a deny rule matches", _TIMEOUT, _DENY),
    Reason(182, "VLAN_FILTERED", _I, "the VLAN is not let through", _TIMEOUT, "add its id to vlan-bpf-bypass"),
    Reason(183, "INVALID_VNI", _I, "the tunnel's network id is invalid", _TIMEOUT, _TUNNEL),
    Reason(184, "INVALID_TC_BUFFER", _I, "the kernel's packet buffer is invalid", _SOME, _DATAPATH),
    Reason(185, "NO_SID", _I, "no SRv6 segment for it", _TIMEOUT, _CONFIG),
    Reason(186, "MISSING_SRV6_STATE", _I, "SRv6 has no state for it", _TIMEOUT, _CONFIG),
    Reason(187, "NAT46", _I, "the translation from IPv4 to IPv6 failed", _TIMEOUT, _CONFIG),
    Reason(188, "NAT64", _I, "the translation from IPv6 to IPv4 failed", _TIMEOUT, _CONFIG),
    Reason(189, "AUTH_REQUIRED", _A, "the rule asks for mutual authentication, which has not happened yet; the first "
           "packet of a pair always meets this", "the first connection takes a second longer; all time out if it fails",
           "nothing for single packets; if it goes on, see the SPIRE server and agents"),
    Reason(190, "CT_NO_MAP_FOUND", _I, "the table of connections of that cluster is not there", _TIMEOUT, _CONFIG),
    Reason(191, "SNAT_NO_MAP_FOUND", _I, "the table of translations of that cluster is not there", _TIMEOUT, _CONFIG),
    Reason(192, "INVALID_CLUSTER_ID", _I, "the packet names a cluster that cannot be", _TIMEOUT, _CONFIG),
    Reason(193, "UNSUPPORTED_PROTOCOL_FOR_DSR_ENCAP", _I, "direct server return cannot carry this protocol", _TIMEOUT,
           "take another bpf-lb-dsr-dispatch or bpf-lb-mode"),
    Reason(194, "NO_EGRESS_GATEWAY", _I, "an egress gateway policy selects the pod, and no gateway node is there", _TIMEOUT,
           "see the nodeSelector of the CiliumEgressGatewayPolicy"),
    Reason(195, "UNENCRYPTED_TRAFFIC", _I, "strict encryption is on, and this was not encrypted", _TIMEOUT,
           "see `cilium-dbg encrypt status`: a node without the feature, or an address outside of its range"),
    Reason(196, "TTL_EXCEEDED", _I, "the packet went in circles, or traceroute asked for it", _NOTHING, _ROUTE),
    Reason(197, "NO_NODE_ID", _I, "the other node has no id yet", _TIMEOUT, _TUNNEL),
    Reason(198, "DROP_RATE_LIMITED", _I, "the node sends more ICMP errors than it may", _NOTHING, "nothing"),
    Reason(199, "IGMP_HANDLED", _I, "a multicast message, which was taken care of", _NOTHING, "nothing"),
    Reason(200, "IGMP_SUBSCRIBED", _I, "a multicast subscription, which was taken care of", _NOTHING, "nothing"),
    Reason(201, "MULTICAST_HANDLED", _I, "a multicast packet, which was taken care of", _NOTHING, "nothing"),
    Reason(202, "DROP_HOST_NOT_READY", _T, "the node's own endpoint was not ready yet", "new nodes fail for a moment", _WAIT),
    Reason(203, "DROP_EP_NOT_READY", _T, "the pod's endpoint was not ready yet", "connections of a pod that just started fail",
           _WAIT),
    Reason(204, "DROP_NO_EGRESS_IP", _I, "the egress gateway has no address to send from", _TIMEOUT,
           "see egressIP and interface of the CiliumEgressGatewayPolicy"),
    Reason(205, "DROP_PUNT_PROXY", _I, "the packet was handed to the proxy", _NOTHING, "nothing"),
    Reason(207, "DROP_FRAG_NOT_FOUND_WORLD", _I, "a fragment from outside came without or before the first one",
           "large messages are lost, small ones pass", "look at the MTU of the path and at bpf-fragments-map-max"),
)  # fmt: skip

REASONS = {row.number: row for row in _ROWS}
"""By number. 0..129 are no reasons to drop; numbers that are missing here are newer than this table, or unused."""

L7_DENIED = Reason(
    0, "L7", DropClass.L7, "the proxy refused the request: no L7 rule allows it", "HTTP clients get 403, lookups are REFUSED",
    _PATCH,
)  # fmt: skip
AUDIT = Reason(
    0, "AUDIT", DropClass.DEFAULT_DENY, "policy audit mode let it pass; enforcement would have dropped it",
    "nothing yet: it fails when enforcement is turned on", _PATCH,
)  # fmt: skip


def reason(number: int) -> Reason:
    """The row of a number. One that nobody here knows stays a number."""
    found = REASONS.get(number)
    if found is not None:
        return found
    name = f"reason {number}" if number else "no reason given"
    meaning = "the record does not say why" if not number else "a reason that this release does not know"
    step = "see `cilium-dbg monitor --type drop` on the node"
    return Reason(number, name, DropClass.UNKNOWN, meaning, "connections may fail", step)
