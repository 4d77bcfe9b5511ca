"""The fix: a patch that applies, after which the engine lets the drop pass, and nothing else changes without being told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from analyzer.drops.fix import Fix
from analyzer.drops.reasons import DropClass
from analyzer.drops.remedy import FIXABLE
from analyzer.manifests import load
from analyzer.manifests import parse as parse_yaml
from analyzer.policy import parse
from tests.drops.build import found, policies
from tests.drops.test_causes import CART, FROM_WEB, PORTS, SCENARIOS, WEB, cart, into, out, web
from tests.drops.test_documents import applied
from tests.flows import REMOTE_NODE, WORLD, pod, tcp

FIXED = [name for name, scenario in SCENARIOS.items() if scenario[3] in FIXABLE]


def fixed(name: str) -> Fix:
    text, flows, inventory, _, _ = SCENARIOS[name]
    fix = found(text, flows, inventory)[0].fix
    assert fix is not None
    return fix


@pytest.mark.parametrize("name", FIXED)
def test_the_engine_confirms_the_fix(name: str) -> None:
    fix = fixed(name)
    assert not fix.obstacle
    assert fix.confirmed
    assert not fix.breaks
    assert bool(fix.assuming) == (name == "name without lookups")


@pytest.mark.parametrize("name", FIXED)
def test_the_patch_applies_and_gives_documents_that_the_agent_takes(name: str, tmp_path: Path) -> None:
    text = SCENARIOS[name][0]
    (tmp_path / "policies.yaml").write_text(text)
    fix = fixed(name)
    (tmp_path / "fix.diff").write_text("".join(each.diff for each in fix.patches))
    subprocess.run(["git", "apply", "fix.diff"], cwd=tmp_path, check=True, capture_output=True)
    made = [parse(each.data) for each in load([str(tmp_path)])]
    assert {each.ref for each in policies(text)} <= {each.ref for each in made}
    assert made != policies(text)


@pytest.mark.parametrize("name", sorted(set(SCENARIOS) - set(FIXED)))
def test_what_no_rule_helps_gets_none(name: str) -> None:
    text, flows, inventory, _, _ = SCENARIOS[name]
    finding = found(text, flows, inventory)[0]
    assert finding.fix is None
    assert finding.step.endswith(".")


def test_infrastructure_never_becomes_a_rule_whatever_the_policies_say() -> None:
    for reason in (130, 151, 155, 158, 177, 181, 189, 205, 250):
        for finding in found(cart("{}"), [into(WEB, drop_reason=reason)]):
            assert finding.fix is None or finding.kind is DropClass.DEFAULT_DENY
            assert finding.kind is not DropClass.DEFAULT_DENY


KUBERNETES = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: cart
  namespace: shop
spec:
  podSelector:
    matchLabels:
      app: cart
  policyTypes: [Ingress]
"""


def test_kubernetes_policies_get_rules_of_their_own_kind() -> None:
    (finding,) = found(KUBERNETES, [into(WEB)])
    fix = finding.fix
    assert fix is not None
    assert fix.confirmed
    (patch,) = fix.patches
    assert not patch.new
    (document,) = parse_yaml(applied(KUBERNETES, patch.diff))
    assert document.data["spec"]["ingress"][0]["ports"] == [{"port": 8080, "protocol": "TCP"}]


def test_no_rule_helps_where_the_other_side_denies_explicitly() -> None:
    text = web("{}") + "---\n" + cart(f"{{}}]\ningressDeny: [{{{FROM_WEB}}}")
    (finding,) = found(text, [out(CART, 8080)])
    assert finding.fix is not None
    assert not finding.fix.patches
    assert finding.step.startswith(
        "Ingress: no allow rule outranks a deny: narrow or remove CiliumNetworkPolicy shop/cart"
    )


def test_entities_that_are_wider_than_they_seem_are_explained() -> None:
    (finding,) = found(cart(f"{{fromEntities: [host], {PORTS}}}"), [into(REMOTE_NODE)])
    assert finding.fix is not None
    assert any("every pod in their host network" in remark for remark in finding.fix.remarks)


def test_only_what_was_dropped_is_opened() -> None:
    """Other ports, other peers and other workloads stay closed."""
    others = [tcp(pod("third"), CART, 8080), tcp(WEB, pod("db"), 8080), tcp(WEB, CART, 9090), tcp(WORLD, CART, 8080)]
    (finding,) = found(cart("{}"), [into(WEB), *others])
    assert finding.fix is not None
    assert finding.fix.confirmed
    assert finding.fix.opens == ()
