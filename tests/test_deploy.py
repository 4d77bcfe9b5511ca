"""The manifests of docs/deploy: the analyzer's own policy does what it says, and the rights are exactly those that are used."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from analyzer.cluster import INVENTORY, POLICIES
from analyzer.manifests import load
from analyzer.manifests import parse as parse_documents
from analyzer.model.l4 import L4
from analyzer.model.labels import Labels
from analyzer.policy import Outcome, Peer, Traffic, compile_policies, parse
from analyzer.policy.validate import validate
from tests.recommend.test_laws import validator

DEPLOY = Path(__file__).resolve().parents[1] / "docs" / "deploy"


def documents(name: str, kind: str) -> list[dict[str, Any]]:
    return [each.data for each in load([str(DEPLOY / name)]) if each.data["kind"] == kind]


def peer(namespace: str, app: str) -> Peer:
    return Peer(
        Labels.of(
            [f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=default", f"k8s:{app}"]
        )
    )


OBSERVE = peer("hubble-analyzer", "app.kubernetes.io/name=observe")
RELAY, DNS = peer("kube-system", "k8s-app=hubble-relay"), peer("kube-system", "k8s-app=kube-dns")
OTHER = peer("shop", "app=cart")
WORLD = Peer(Labels.of(["reserved:world"]), ip="198.51.100.7")


@pytest.mark.parametrize(
    ("source", "destination", "l4", "outcome"),
    [
        (OBSERVE, RELAY, "4245/TCP", Outcome.ALLOWED),
        (OBSERVE, DNS, "53/UDP", Outcome.ALLOWED),
        (OBSERVE, DNS, "53/TCP", Outcome.ALLOWED),
        (OBSERVE, RELAY, "80/TCP", Outcome.DENIED),
        (OBSERVE, OTHER, "4245/TCP", Outcome.DENIED),
        (OBSERVE, WORLD, "443/TCP", Outcome.DENIED),
        (OTHER, OBSERVE, "80/TCP", Outcome.DENIED),
        (WORLD, OBSERVE, "80/TCP", Outcome.DENIED),
    ],
)
def test_the_analyzers_own_policy(source: Peer, destination: Peer, l4: str, outcome: Outcome) -> None:
    policies = documents("observe.yaml", "CiliumNetworkPolicy")
    for policy in policies:
        validator().validate(policy)
    compiled = compile_policies(map(parse, policies))
    assert compiled.decide(Traffic(source, destination, L4.parse(l4))).outcome is outcome


def test_the_policy_selects_the_pods_of_the_deployment() -> None:
    (deployment,) = documents("observe.yaml", "Deployment")
    (policy,) = documents("observe.yaml", "CiliumNetworkPolicy")
    assert policy["spec"]["endpointSelector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_the_rights_are_those_that_are_used_and_read_only() -> None:
    (role,) = documents("read-access.yaml", "ClusterRole")
    granted = {
        (group, resource) for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }
    used = {(each.version.rpartition("/")[0], each.plural) for each in (*INVENTORY, *POLICIES) if not each.name}
    assert granted == used
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"list"}


def test_of_configmaps_one_may_be_read() -> None:
    (role,) = [each for each in documents("read-access.yaml", "Role") if "settings" in each["metadata"]["name"]]
    named = [each for each in INVENTORY if each.name]
    assert [rule["resourceNames"] for rule in role["rules"]] == [[each.name for each in named]]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get"}


def test_a_port_forward_needs_a_service_its_pods_and_the_forward_itself() -> None:
    (role,) = [each for each in documents("read-access.yaml", "Role") if "forward" in each["metadata"]["name"]]
    granted = {resource: rule["verbs"] for rule in role["rules"] for resource in rule["resources"]}
    assert granted == {"services": ["get"], "pods": ["list"], "pods/portforward": ["get", "create"]}


def test_the_default_deny_of_the_guide_closes_workloads_and_nothing_of_the_platform() -> None:
    guide = (DEPLOY.parent / "default-deny.md").read_text(encoding="utf-8")
    text = textwrap.dedent(guide.split("   ```yaml\n")[1].split("   ```")[0])
    (policy,) = (each.data for each in parse_documents(text))
    assert validate(policy) == ()
    compiled = compile_policies([parse(policy)])
    cluster = "k8s:io.cilium.k8s.policy.cluster=default"
    for labels, outcome in (
        (["k8s:io.kubernetes.pod.namespace=shop", "k8s:app=cart", cluster], Outcome.DENIED),
        (["k8s:io.kubernetes.pod.namespace=kube-system", "k8s:k8s-app=kube-dns", cluster], Outcome.ALLOWED),
        (["reserved:health"], Outcome.ALLOWED),
        (["reserved:ingress"], Outcome.ALLOWED),
    ):
        assert (
            compiled.decide(Traffic(WORLD, Peer(Labels.of(labels)), L4.parse("80/TCP"))).ingress.outcome is outcome
        ), labels
