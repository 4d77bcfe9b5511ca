"""The policy engine: what Cilium would decide. It knows nothing of traffic records."""

from analyzer.policy.decision import Decision, Outcome, SideDecision, Traffic
from analyzer.policy.http import DnsQuery, HttpRequest
from analyzer.policy.lookup import PolicySet, compile_policies
from analyzer.policy.model import Origin, Policy, PolicyRef
from analyzer.policy.parse import KINDS, parse
from analyzer.policy.partition import Partition
from analyzer.policy.selector import Peer
from analyzer.policy.unparse import unparse
from analyzer.policy.validate import Refusal, validate

__all__ = [
    "KINDS",
    "Decision",
    "DnsQuery",
    "HttpRequest",
    "Origin",
    "Outcome",
    "Partition",
    "Peer",
    "Policy",
    "PolicyRef",
    "PolicySet",
    "Refusal",
    "SideDecision",
    "Traffic",
    "compile_policies",
    "parse",
    "unparse",
    "validate",
]
