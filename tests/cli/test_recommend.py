"""recommend's own options from end to end: layer 7, names, dialects, existing policies, evidence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from tests.cli.records import exported, shop, write_lines

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "flows.json", shop())


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exit_code != code and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def request(url: str, uuid: str = "l7") -> dict[str, Any]:
    """What the proxy logs of a request from web to cart."""
    flow = exported("web", "cart", 8080)["flow"]
    http = {"method": "GET", "url": url, "protocol": "HTTP/1.1"}
    return {
        "flow": {
            **flow,
            "uuid": uuid,
            "Type": "L7",
            "event_type": {"type": 129},
            "l7": {"type": "REQUEST", "http": http},
        }
    }


def test_l7_is_opt_in(tmp_path: Path) -> None:
    seen = [*shop(), request("http://cart:8080/items/1?x=y")]
    flows = write_lines(tmp_path / "flows.json", seen)
    assert "http:" not in run("recommend", flows).stdout
    result = run("recommend", flows, "--l7", "http,dns")
    assert r'"/items/1(\\?.*)?"' in result.stdout
    assert "L7 proxy" in result.stderr
    assert "there are http and dns" in run("recommend", flows, "--l7", "kafka", code=2).stderr


def test_visibility_policies_are_written_on_request(tmp_path: Path) -> None:
    far = [exported("cart", "", 443, namespace="", reply=reply) for reply in (False, True)]
    flows = write_lines(tmp_path / "flows.json", [*shop(), *far])
    assert "cart-visibility" not in run("recommend", flows).stdout
    assert "--visibility" in run("recommend", flows).stderr
    run("recommend", flows, "--visibility", "--l7", "http", "-d", "out")
    text = Path("out/visibility/shop/cart-visibility.yaml").read_text()
    assert 'matchPattern: "*"' in text
    assert "http:" in text


def test_kubernetes_network_policies(flows: Path) -> None:
    text = run("recommend", flows, "--dialect", "kubernetes").stdout
    assert "kind: NetworkPolicy" in text
    assert "cilium.io" not in text
    icmp = run("recommend", flows, "--dialect", "kubernetes", "-o", "json").stdout
    assert json.loads(icmp)


def test_granularity_and_directions_per_namespace(flows: Path) -> None:
    assert "toPorts" in run("recommend", flows).stdout
    assert "toPorts" not in run("recommend", flows, "--granularity", "namespace/any").stdout
    assert "toPorts" not in run("recommend", flows, "--granularity", "workload/port,shop=workload/any").stdout
    ingress = run("recommend", flows, "--directions", "both,shop=ingress").stdout
    assert "\n  egress:" not in ingress
    assert "egress: left alone, as was asked for" in ingress
    assert "toPorts" in run("recommend", flows, "--directions", "ingress").stdout
    assert "no level of detail" in run("recommend", flows, "--granularity", "shop=pod/port", code=2).stderr
    assert "no direction" in run("recommend", flows, "--directions", "up", code=2).stderr
    assert "names no namespace" in run("recommend", flows, "--directions", "=both", code=2).stderr


def test_a_proposal_that_would_break_something_is_not_written(flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recommender is made to forget the rules on one port; the engine notices."""
    from analyzer.recommend import proposal

    def forgetful(draft: Any) -> Any:
        kept = tuple(rule for rule in draft.rules if all(l4.port != 6379 for l4 in rule.ports))
        return replace(draft, rules=kept)

    passes = [*proposal.PASSES]
    passes.insert(next(n for n, each in enumerate(passes) if each.__name__ == "policies"), forgetful)
    more = [*shop(), *(exported("x", "redis", 1, reply=reply) for reply in (False, True))]
    write_lines(flows, more)
    monkeypatch.setattr(proposal, "PASSES", tuple(passes))
    result = run("recommend", flows, "-d", "out", code=1)
    assert "shop/cart" in result.stderr
    assert "shop/redis" in result.stderr
    assert "--force" in result.stderr
    assert not Path("out").exists()
    run("recommend", flows, "-d", "out", "--force", code=1)
    assert Path("out/shop/redis.yaml").exists()


THEIRS = """# ours, by hand
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: cart, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: cart}}
  ingress: # from web
  - fromEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""


def test_existing_policies_and_a_repository(flows: Path) -> None:
    repo = Path("repo")
    repo.mkdir()
    (repo / "cart.yaml").write_text(THEIRS)
    first = run("recommend", flows, "--existing", "repo", "--dry-run")
    assert first.stdout.startswith("--- /dev/null\n+++ b/repo/")
    assert (
        "ingress"
        not in first.stdout.partition("shop/cart-recommended.yaml")[2].partition("+++")[0].partition("spec:")[2]
    )
    assert sorted(path.name for path in repo.rglob("*")) == ["cart.yaml"]
    run("recommend", flows, "--existing", "repo", "-d", "repo", "--kustomize")
    assert (repo / "cart.yaml").read_text() == THEIRS
    written = (repo / "shop" / "cart-recommended.yaml").read_text()
    assert "egress" in written
    assert "ingress:\n" not in written
    assert "shop/redis.yaml" in (repo / "kustomization.yaml").read_text()
    stamps = {path: path.stat().st_mtime_ns for path in repo.rglob("*.yaml")}
    again = run("recommend", flows, "--existing", "repo", "-d", "repo", "--kustomize")
    assert {path: path.stat().st_mtime_ns for path in repo.rglob("*.yaml")} == stamps
    assert "allowed already" in again.stderr
    assert run("recommend", flows, "--existing", "repo", "--dry-run").stdout == ""


def test_a_bad_existing_policy_takes_no_part_and_is_named(flows: Path) -> None:
    Path("bad.yaml").write_text(THEIRS.replace('"8080"', '"80800"'))
    result = run("recommend", flows, "--existing", "bad.yaml")
    assert "bad.yaml:2" in result.stderr
    assert "name: cart\n" in result.stdout
    assert "no such file" in run("recommend", flows, "--existing", "nowhere", code=2).stderr.lower()


def test_evidence(flows: Path) -> None:
    assert "evidence:" not in run("recommend", flows, "--evidence", "none").stdout
    assert "# hubble-analyzer: shop/cart" in run("recommend", flows).stdout
    assert "ingress[0]: shop/web -> shop/cart 8080/TCP" in run("recommend", flows, "--evidence", "full").stdout
    text = run("recommend", flows, "--evidence", "full", "--evidence-in", "annotations").stdout
    assert "hubble-analyzer/evidence" in text
    assert "# hubble-analyzer" not in text


def test_a_kustomization_needs_a_folder(flows: Path) -> None:
    assert "--output-dir" in run("recommend", flows, "--kustomize", code=2).stderr
    result = run("recommend", flows, "-d", "out", "--kustomize")
    assert "kubectl apply --dry-run=server -k out" in result.stderr


def test_how_many_ports_make_a_range_can_be_said(tmp_path: Path) -> None:
    ports = [21, *range(30000, 30030, 3)]
    seen = [exported("web", "cart", port, reply=reply) for port in ports for reply in (False, True)]
    flows = write_lines(tmp_path / "flows.json", seen)
    assert "endPort: 30027" in run("recommend", flows).stdout
    for least in (0, 11):
        assert "endPort" not in run("recommend", flows, "--range-ports", least).stdout


CLOSING = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: close, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: redis}}
  ingress: [{}]
"""


def test_connections_that_are_open_on_one_side_only_are_told(flows: Path) -> None:
    Path("theirs.yaml").write_text(CLOSING.replace("[{}]", "[{fromEndpoints: [{matchLabels: {app: nobody}}]}]"))
    args = ("recommend", flows, "--directions", "egress", "--existing", "theirs.yaml")
    result = run(*args, "-d", "out")
    assert "Open on one side only: 1 connection" in result.stderr
    report = Path("out/REPORT.md").read_text()
    assert "Open on one side only: 1 connection" in report
    assert "shop/redis is left alone, and CiliumNetworkPolicy shop/close closes it" in report
    sections = json.loads(run(*args, "-o", "json").stdout)["sections"]
    (half,) = next(each["half_open"] for each in sections if "half_open" in each)
    assert (half["source"], half["destination"], half["open"], half["closed"]) == (
        "shop/cart", "shop/redis", "egress", "ingress",
    )  # fmt: skip
    assert next(each["check"] for each in sections if "check" in each)["half_open"] == 1
    assert "one side only" not in run("recommend", flows).stderr


def test_network_policies_are_checked_themselves(flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.recommend import knp

    assert "Self-check" in run("recommend", flows, "--dialect", "kubernetes").stderr
    whole = knp.network_policy

    def forgetful(*args: Any) -> Any:
        made, losses = whole(*args)
        return made and {**made, "spec": {**made["spec"], "ingress": []}}, losses

    monkeypatch.setattr(knp, "network_policy", forgetful)
    assert "shop/redis" in run("recommend", flows, "--dialect", "kubernetes", "-d", "out", code=1).stderr
    assert not Path("out").exists()


def test_a_proposal_with_a_rule_that_nothing_needs_is_not_written(flows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analyzer.recommend import proposal

    def twice(draft: Any) -> Any:
        return replace(draft, rules=(*draft.rules, *draft.rules[-1:]))

    passes = [*proposal.PASSES]
    passes.insert(next(n for n, each in enumerate(passes) if each.__name__ == "policies"), twice)
    monkeypatch.setattr(proposal, "PASSES", tuple(passes))
    result = run("recommend", flows, "-d", "out", code=1)
    assert "allow nothing that another rule does not allow too" in result.stderr
    assert not Path("out").exists()
    run("recommend", flows, "-d", "out", "--force", code=1)
    assert Path("out").exists()
