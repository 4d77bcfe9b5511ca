"""explain from end to end: every way to name an end, both sides with their rules, what was recorded, and helpful errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from tests.cli.records import exported, shop, write_lines
from tests.cli.test_diff import policy, rule, write

pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    named = exported("cart", "api", 443, namespace="")
    named["flow"]["destination_names"] = ["api.example.com"]
    answer = exported("cart", "api", 443, namespace="", reply=True)
    return write_lines(
        tmp_path / "flows.json", [*shop(), named, answer, exported("other", "cart", 80, source_namespace="b")]
    )


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["explain", *(str(arg) for arg in args)])
    if result.exit_code != code and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result


def ask(*args: object) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(run(*args, "-o", "json").stdout)
    assert body["schema"] == "hubble-analyzer/explain/v1"
    return body


def sides(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {section["side"]: section for section in body["sections"] if "side" in section}


def recorded(body: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for section in body["sections"] for row in section.get("recorded", ())]


BREAKING = policy(ingress=[rule("web", 9999)])
NAMED = policy(
    "by-name",
    egress=[
        {"toFQDNs": [{"matchName": "api.example.com"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}
    ],
)


def test_both_sides_are_told_with_their_rules(flows: Path) -> None:
    web = policy("web", "web", egress=[rule("cart", 8080, "to"), {"toEntities": ["cluster"]}])
    args = (
        "--from",
        "shop/web",
        "--to",
        "shop/cart",
        "--port",
        "8080/TCP",
        flows,
        "-p",
        write("p.yaml", BREAKING, web),
    )
    body = ask(*args)
    assert body["title"] == "shop/web -> shop/cart 8080/TCP: denied"
    assert body["summary"] == {"from": "shop/web", "to": "shop/cart", "l4": "8080/TCP", "result": "denied"}
    egress, ingress = sides(body)["egress"], sides(body)["ingress"]
    assert (egress["result"], ingress["result"]) == ("allowed", "denied")
    assert [(each["rule"], each["effect"]) for each in egress["rules"]] == [
        ("CiliumNetworkPolicy shop/web egress[0]", "allows, and decides"),
        ("CiliumNetworkPolicy shop/web egress[1]", "allows"),
        ("CiliumNetworkPolicy shop/web", "turns default deny on here"),
    ]
    assert {each["place"].partition(":")[0] for each in egress["rules"]} == {"p.yaml"}
    assert ingress["near_misses"][0]["missing"] == "allows this peer, but only on 9999/TCP"
    assert ingress["suggestion"]["section"] == "ingress"
    assert [row["status"] for row in recorded(body)] == ["forwarded"]
    text = run(*args).stdout
    for words in (
        "Egress of shop/web: allowed",
        "Ingress of shop/cart: denied",
        "cnp shop/web egress[1]",
        "Almost",
        "p.yaml:",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("shop/redis", "denied"), ("redis", "denied"), ("k8s:app=redis,ns=shop", "denied"),
        ("app=redis", "denied"), ("app=unseen,ns=shop", "denied"), ("api.example.com", "allowed"), ("API.example.com.", "allowed"),
        ("203.0.113.9", "allowed"), ("203.0.113.10", "undecided"), ("203.0.113.0/24", "undecided"), ("2001:db8::1", "undecided"),
        ("b.example.com", "denied"), ("world", "undecided"), ("host", "denied"), ("kube-apiserver", "denied"),
        ("reserved:remote-node", "denied"), ("b/other", "denied"),
    ],
)  # fmt: skip
def test_every_way_to_name_an_end(flows: Path, name: str, result: str) -> None:
    """Of an address without a name nobody can tell whether the rule on a name allows it."""
    args = (flows, "-p", write("p.yaml", NAMED), "--port", "443")
    assert sides(ask("--from", "shop/cart", "--to", name, *args))["egress"]["result"] == result
    back = policy(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "nobody"}}]}])
    found = ask("--from", name, "--to", "shop/cart", flows, "-p", write("q.yaml", back), "--port", "443")
    assert sides(found)["ingress"]["result"] == ("allowed" if name == "host" else "denied")


def test_policies_alone_answer_without_any_flow() -> None:
    """No server is asked then."""
    path = write("p.yaml", policy(ingress=[{"fromCIDR": ["198.51.100.0/24"]}]))
    for address, result in (("198.51.100.7", "allowed"), ("198.51.101.7", "denied"), ("world", "undecided")):
        body = ask("--from", address, "--to", "app=cart,ns=shop", "--port", "80", "-p", path)
        assert body["summary"]["result"] == result
    pods = {"kind": "Pod", "metadata": {"name": "cart-1", "namespace": "shop", "labels": {"app": "cart"}},
            "spec": {}, "status": {"podIP": "10.0.0.9"}}  # fmt: skip
    for name in ("shop/cart", "10.0.0.9"):
        body = ask(
            "--from", "1.2.3.4", "--to", name, "--port", "80", "-p", path, "--inventory", write("pods.yaml", pods)
        )
        assert body["title"] == "1.2.3.4 -> shop/cart 80/TCP: denied"


def test_without_policies_the_record_is_told(flows: Path) -> None:
    body = ask("--from", "shop/cart", "--to", "shop/payroll", flows)
    assert body["title"] == "shop/cart -> shop/payroll 5432/TCP: recorded as dropped"
    assert sides(body) == {}
    assert "nothing was recorded" in ask("--from", "shop/redis", "--to", "shop/web", flows)["title"]
    assert recorded(ask("--from", "shop/cart", "--to", "api.example.com", flows))[0]["l4"] == "443/TCP"
    assert recorded(ask("--from", "shop/cart", "--to", "world", flows))[0]["l4"] == "443/TCP"


def test_a_workload_with_several_identities_may_fare_differently(tmp_path: Path) -> None:
    records = shop()
    canary = exported("web", "cart", 8080, second=9)
    canary["flow"]["source"]["labels"].append("k8s:track=canary")
    path = write_lines(tmp_path / "two.json", [*records, canary])
    only = {"fromEndpoints": [{"matchLabels": {"app": "web", "track": "canary"}}]}
    body = ask("--from", "shop/web", "--to", "shop/cart", path, "-p", write("p.yaml", policy(ingress=[only])))
    assert body["summary"]["result"] == "it depends on the identity"
    assert [each["result"] for each in body["sections"] if each.get("side") == "ingress"] == ["denied", "allowed"]


WHO = ("--from", "shop/web", "--to", "shop/cart")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--from", "web"), "--to"),
        (("--from", "shop/wbe", "--to", "shop/cart"), "shop/web"),
        (("--from", "other/x", "--to", "shop/cart"), "nothing of that name"),
        (("--from", "app=cart,ns=nowhere", "--to", "cart", "--port", "x"), "--port x"),
        (("--from", "app=nobody", "--to", "cart"), "namespace"),
        (("--from", "=", "--to", "cart"), "no label"),
        (("--from", "", "--to", "cart"), "--from"),
        (("--from", "reserved:nobody", "--to", "cart"), "no entity"),
        (("--from", "ns=shop", "--to", "cart"), "shop/cart, shop/catalog, shop/payroll"),
        ((*WHO, "--port", "99999/TCP"), "out of range"),
        ((*WHO, "--port", "ICMP/x"), "--port ICMP/x"),
        (("--from", "shop/redis", "--to", "shop/cart", "-p", "p.yaml"), "name it with --port"),
    ],
)
def test_errors_help(flows: Path, args: tuple[str, ...], words: str) -> None:
    write("p.yaml", BREAKING)
    result = run(*args, flows, code=2)
    assert words in result.stderr
    assert result.stdout == ""


def test_an_ambiguous_name_lists_who_may_be_meant(flows: Path, tmp_path: Path) -> None:
    twins = write_lines(tmp_path / "twins.json", [exported("cart", "x", 1, source_namespace="b", namespace="b")])
    assert "b/cart, shop/cart" in run("--from", "cart", "--to", "shop/redis", flows, twins, code=2).stderr


def test_refused_documents_are_named_and_the_rest_answers(flows: Path) -> None:
    path = write("p.yaml", BREAKING, policy("bad"))
    result = run(*WHO, "--port", "8080", flows, "-p", path, code=2)
    assert "denied" in result.stdout
    assert "shop/bad" in result.stderr
    assert result.stderr.count("Error:") == 1


def test_yaml_says_what_json_says(flows: Path) -> None:
    args = (*WHO, "--port", "8080", flows, "-p", write("p.yaml", BREAKING))
    assert yaml.safe_load(run(*args, "-o", "yaml").stdout) == ask(*args)
    assert "## Ingress of shop/cart: denied" in run(*args, "-o", "markdown").stdout


def test_hostile_names_stay_text(flows: Path) -> None:
    result = run("--from", "\x1b[2J", "--to", "shop/cart\n", flows, code=2)
    assert all(c.isprintable() or c == "\n" for c in result.stderr)
