"""The verb ``drops`` from the command line: flows and policies in, a short list of causes and an exit code out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from analyzer.manifests import parse
from analyzer.replay import Recording, ReplayServer
from tests.cli.records import exported, shop, write_lines
from tests.kubernetes_api import CONTEXT, KubernetesApi
from tests.test_cluster import objects

POLICIES = """\
# Who may talk to payroll.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: payroll
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: payroll
  ingress:
    # The old port.
    - fromEndpoints:
        - matchLabels:
            app: cart
      toPorts:
        - ports:
            - port: "5431"
              protocol: TCP
"""


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["drops", *map(str, arguments)])
    assert result.exit_code == code, result.output + result.stderr
    assert "Traceback" not in result.stderr
    return result


def data(*arguments: object, code: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "-o", "json", code=code).stdout)
    return found


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "flows.jsonl", shop())


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    path = tmp_path / "payroll.yaml"
    path.write_text(POLICIES)
    return path


def test_a_drop_is_a_finding_with_its_next_step(flows: Path) -> None:
    out = run(flows, code=1).stdout
    assert "1 drop of 1 cause" in out
    assert "shop/cart -> shop/payroll 5432/TCP" in out
    assert "--policies" in out


def test_with_policies_the_rule_and_the_patch_are_shown(flows: Path, policies: Path) -> None:
    out = run(flows, "--policies", policies, code=1).stdout
    assert "only on 5431/TCP, not on 5432/TCP" in out
    assert '+            - port: "5432"' in out
    assert "-    # The old port." not in out
    assert "lets it pass with this change. Nothing else that is known changes." in out


def test_json_holds_everything_by_name(flows: Path, policies: Path) -> None:
    found = data(flows, "--policies", policies)
    assert found["schema"] == "hubble-analyzer/drops/v1"
    assert found["summary"]["policy_drops"] == 1
    (drop,) = found["sections"][0]["drops"]
    assert (drop["class"], drop["reason"], drop["side"]) == ("default deny", 133, "ingress")
    assert drop["causes"][0]["kind"] == "other port"
    assert drop["causes"][0]["rule"] == "CiliumNetworkPolicy shop/payroll ingress[0]"
    assert drop["fix"]["confirmed"] is True
    assert drop["fix"]["patches"][0]["path"] == str(policies)
    assert drop["clients"] == {"shop/cart-5d9c7b6f4-abcde": 1}


def test_markdown_fences_the_patch(flows: Path, policies: Path) -> None:
    out = run(flows, "--policies", policies, "-o", "markdown", code=1).stdout
    assert "```diff\n" in out


def infrastructure() -> dict[str, Any]:
    record = exported("cart", "redis", 6379, verdict="DROPPED")
    record["flow"] |= {"drop_reason": 155, "drop_reason_desc": "CT_MAP_INSERTION_FAILED"}
    record["flow"]["event_type"] = {"type": 1, "sub_type": 155}
    return record


@pytest.mark.parametrize(
    ("records", "fail_on", "code"),
    [
        ("none", "any", 0),
        ("policy", "policy", 1),
        ("policy", "infra", 0),
        ("policy", "any", 1),
        ("infra", "policy", 0),
        ("infra", "infra", 1),
        ("infra", "any", 1),
        ("audit", "policy", 0),
        ("audit", "any", 1),
    ],
)
def test_exit_codes(tmp_path: Path, records: str, fail_on: str, code: int) -> None:
    audit = exported("cart", "payroll", 5432)
    audit["flow"] |= {"verdict": "AUDIT", "event_type": {"type": 5}}
    made = {
        "none": [exported("web", "cart", 8080)],
        "policy": [exported("cart", "payroll", 5432, verdict="DROPPED")],
        "infra": [infrastructure()],
        "audit": [audit],
    }
    path = write_lines(tmp_path / "flows.jsonl", made[records])
    run(path, "--fail-on", fail_on, code=code)


def test_what_was_audited_is_told_as_what_enforcement_would_have_dropped(tmp_path: Path, policies: Path) -> None:
    audit = exported("cart", "payroll", 5432)
    audit["flow"] |= {"verdict": "AUDIT", "event_type": {"type": 5}}
    path = write_lines(tmp_path / "flows.jsonl", [audit])
    out = run(path, "--policies", policies).stdout
    assert "1 connection that enforcement would have dropped" in out
    assert "would have been dropped" in out
    assert "only on 5431/TCP" in out


def test_audit_mode_without_audit_verdicts_is_told(tmp_path: Path, policies: Path) -> None:
    passed = [exported("cart", "payroll", 5432, reply=reply) for reply in (False, True)]
    path = write_lines(tmp_path / "flows.jsonl", passed)
    out = run(path, "--policies", policies).stdout
    assert "there is not one AUDIT verdict" in out


def test_network_drops_never_get_a_rule(tmp_path: Path, policies: Path) -> None:
    path = write_lines(tmp_path / "flows.jsonl", [infrastructure()])
    found = data(path, "--policies", policies, "--fail-on", "infra")
    (drop,) = found["sections"][0]["drops"]
    assert "fix" not in drop
    assert drop["cause"] == "CT_MAP_INSERTION_FAILED"


def test_a_store_tells_what_it_knows_and_what_not(flows: Path, policies: Path, tmp_path: Path) -> None:
    store = tmp_path / "flows.db"
    observed = CliRunner().invoke(cli, ["observe", str(flows), "--store", str(store)])
    assert observed.exit_code == 0
    found = data(store, "--policies", policies)
    assert any("A store keeps edges" in note for note in found["sections"][0]["notes"])
    (drop,) = found["sections"][0]["drops"]
    assert drop["exact"] is False
    assert drop["clients"] == {}
    assert drop["causes"][0]["kind"] == "other port"
    assert drop["fix"]["confirmed"] is True


def test_filters_and_compression_work_as_for_every_verb(flows: Path, tmp_path: Path) -> None:
    packed = tmp_path / "flows.jsonl.gz"
    packed.write_bytes(gzip.compress(flows.read_bytes()))
    assert data(packed)["summary"] == data(flows)["summary"]
    assert data(packed, "--to-port", "80", code=0)["summary"]["drops"] == 0


def test_hostile_names_stay_text(tmp_path: Path, policies: Path) -> None:
    record = exported("cart", "payroll", 5432, verdict="DROPPED")
    record["flow"]["source"]["pod_name"] = "x\x1b[31m|<b>`\u202e"
    record["flow"]["node_name"] = "\x1b]0;evil\x07"
    path = write_lines(tmp_path / "flows.jsonl", [record])
    for form in ("table", "wide", "markdown", "json"):
        out = run(path, "--policies", policies, "-o", form, code=1).stdout
        assert "\x1b" not in out
        assert "\u202e" not in out


@pytest.mark.parametrize("text", ["kind: [", "kind: Pod\n", "kind: CiliumNetworkPolicy\nspec: 7\n"])
def test_bad_policies_are_an_error_in_a_sentence(flows: Path, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert "Error: " in run(flows, "--policies", path, code=2).stderr


def test_the_same_input_gives_the_same_bytes(flows: Path, policies: Path) -> None:
    for form in ("table", "wide", "json", "markdown"):
        first, second = (run(flows, "--policies", policies, "-o", form, code=1).stdout for _ in range(2))
        assert first == second


def test_a_live_server_and_the_policies_of_the_cluster(tmp_path: Path) -> None:
    """What a user types: Relay for the flows, the word cluster for the policies; the patch is named after the policy."""
    (document,) = parse(POLICIES)
    stored = objects() | {"/apis/cilium.io/v2/ciliumnetworkpolicies": [document.data]}
    with (
        ReplayServer(Recording(json.dumps(each) for each in shop())) as relay,
        KubernetesApi(stored).serving() as server,
    ):
        flags = ["--kubeconfig", server.kubeconfig(tmp_path), "--kube-context", CONTEXT]
        found = data("--server", relay.address, "--policies", "cluster", *flags)
    (drop,) = found["sections"][0]["drops"]
    assert drop["causes"][0]["kind"] == "other port"
    assert drop["fix"]["confirmed"] is True
    assert drop["fix"]["patches"][0]["path"] == "shop/payroll.yaml"
