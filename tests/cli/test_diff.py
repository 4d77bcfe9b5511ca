"""diff from end to end: what breaks, in every format, with the exit code; and what happens to documents nobody can take."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from tests.cli.records import exported, shop, write_lines
from tests.cli.test_bad_input import HOSTILE

FORMS = ("table", "wide", "json", "yaml", "markdown")


pytestmark = pytest.mark.usefixtures("surroundings")


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "flows.json", shop())


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exit_code != code and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.stderr + result.stdout
    assert "Traceback" not in result.stderr
    return result


def policy(name: str = "cart", app: str = "cart", **sections: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, **sections},
    }  # fmt: skip


def rule(app: str, port: int, word: str = "from") -> dict[str, Any]:
    ports = [{"ports": [{"port": str(port), "protocol": "TCP"}]}]
    return {f"{word}Endpoints": [{"matchLabels": {"app": app}}], "toPorts": ports}


def write(name: str, *documents: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("---\n".join(each if isinstance(each, str) else yaml.safe_dump(each) for each in documents))
    return path


def values(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["schema"] == "hubble-analyzer/diff/v1"
    return found


def findings(result: Result) -> dict[tuple[str, str, str], dict[str, Any]]:
    listed = values(result)["sections"][0]["findings"]
    return {(each["source"], each["destination"], each["l4"]): each for each in listed}


BREAKING = policy(ingress=[rule("web", 9999)])
WEB_CART = ("shop/web", "shop/cart", "8080/TCP")


def test_what_was_recommended_breaks_nothing(flows: Path) -> None:
    run("recommend", flows, "-d", "out")
    result = run("diff", flows, "--policies", "out")
    assert result.stdout.startswith("None of 4 edges would be dropped")
    assert values(run("diff", flows, "-p", "out", "-o", "json"))["summary"]["clean"] is True


def test_what_breaks_is_told_with_the_rule_and_the_smallest_change(flows: Path) -> None:
    path = write("p.yaml", BREAKING)
    result = run("diff", flows, "-p", path, code=1)
    assert result.stdout.startswith("1 of 4 edges would be dropped (")
    assert re.search(
        r"shop/web +shop/cart +8080/TCP +2 +ingress: default deny: selected by cnp shop/cart", result.stdout
    )
    assert "Add to CiliumNetworkPolicy shop/cart, section ingress" in result.stdout
    assert "ingress[0] allows this peer, but only on 9999/TCP" in result.stdout
    found = findings(run("diff", flows, "-p", path, "-o", "json", code=1))
    assert sorted(each["change"] for each in found.values()) == [
        "newly allowed", "unchanged", "unchanged", "would be dropped",
    ]  # fmt: skip
    broken = found[WEB_CART]
    assert broken["denied"] == ["ingress"]
    assert broken["after"]["ingress"]["selected_by"] == ["CiliumNetworkPolicy shop/cart"]
    assert broken["why"].endswith("default deny: selected by CiliumNetworkPolicy shop/cart, no rule matches")
    assert (broken["events"], broken["first"][:10]) == (2, "2026-09-21")
    (suggested,) = broken["suggestions"]
    assert suggested["policy"] == {
        "kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "cart", "new": False, "spec": 0,
    }  # fmt: skip
    changed = policy(ingress=[rule("web", 9999), suggested["rule"]])
    assert WEB_CART not in {
        key for key, each in findings(run("diff", flows, "-p", write("q.yaml", changed), "-o", "json", code=1)).items()
        if each["change"] == "would be dropped"
    }  # fmt: skip


def test_drops_that_end_are_newly_allowed(flows: Path) -> None:
    """The record has shop/cart -> shop/payroll as dropped; no policy would be in force at all for these two."""
    path = write("p.yaml", policy("web", "web", ingress=[{}]))
    result = run("diff", flows, "-p", path, code=1)
    assert result.stdout.startswith("None of 4 edges would be dropped")
    assert "Newly allowed: 1 edge" in result.stdout
    assert "payroll" in result.stdout


@pytest.mark.parametrize("form", FORMS)
def test_every_format_has_every_change(flows: Path, form: str) -> None:
    result = run("diff", flows, "-p", write("p.yaml", BREAKING), "-o", form, code=1)
    for name in ("shop/web", "shop/cart", "8080/TCP", "payroll", "1 of 4 edges"):
        assert name in result.stdout
    assert ("catalog" in result.stdout) is (form in ("wide", "json", "yaml"))
    if form == "yaml":
        assert yaml.safe_load(result.stdout) == values(run("diff", flows, "-p", "p.yaml", "-o", "json", code=1))


def test_current_policies_are_compared_with_instead_of_the_record(flows: Path) -> None:
    path = write("p.yaml", BREAKING)
    same = run("diff", flows, "-p", path, "--current", path)
    assert same.stdout.startswith("None of 4")
    other = write("today.yaml", policy(ingress=[rule("web", 8080)]), policy("web", "web", egress=[{}]))
    result = run("diff", flows, "-p", path, "--current", other, "-o", "json", code=1)
    changes = {key: each["change"] for key, each in findings(result).items()}
    assert changes[WEB_CART] == "still denied"
    assert changes["shop/web", "shop/catalog", "9090/TCP"] == "newly allowed"
    assert "Only --current has CiliumNetworkPolicy shop/web: taken as removed." in result.stdout


def test_removing_a_policy_is_told(flows: Path) -> None:
    today = write("today.yaml", {"kind": "List", "apiVersion": "v1", "items": [BREAKING]})
    empty = write("new/other.yaml", policy("x", "nobody", ingress=[{}]))
    result = run("diff", flows, "-p", empty, "--current", today, "-o", "json", code=1)
    assert findings(result)[WEB_CART]["change"] == "newly allowed"


def test_requests_that_would_be_refused_are_a_finding(tmp_path: Path) -> None:
    records = shop()
    request = exported("web", "cart", 8080, second=5)
    http = {"code": 0, "method": "DELETE", "url": "http://cart/items", "protocol": "HTTP/1.1"}
    request["flow"] |= {"Type": "L7", "l7": {"type": "REQUEST", "http": http}, "event_type": {"type": 129}}
    path = write_lines(tmp_path / "l7.json", [*records, request])
    only_get = rule("web", 8080)
    only_get["toPorts"][0]["rules"] = {"http": [{"method": "GET"}]}
    result = run("diff", path, "-p", write("p.yaml", policy(ingress=[only_get])), code=1)
    assert "DELETE /items" in result.stdout


def test_traffic_that_nobody_answered_does_not_break(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "scan.json", [*shop(), *(exported("web", "cart", port) for port in range(1, 30))])
    documents = policy(ingress=[rule("web", 8080)]), policy("payroll", "payroll", ingress=[{}])
    result = run("diff", path, "-p", write("p.yaml", *documents))
    assert "29 would be dropped that nobody ever answered" in result.stdout


def test_same_input_same_bytes(flows: Path) -> None:
    write("p.yaml", BREAKING, policy("web", "web", egress=[rule("cart", 1, "to")]))
    runs = [
        subprocess.run(
            [sys.executable, "-m", "analyzer", "diff", str(flows), "-p", "p.yaml", "-o", "json"],
            capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] != b""


def verdict(port: int, verdict: str, *, second: int) -> dict[str, Any]:
    """A policy verdict on the server's side."""
    record = exported("web", "cart", port, second=second)
    record["flow"] |= {"verdict": verdict, "event_type": {"type": 5}, "policy_match_type": 0}
    if verdict == "DROPPED":
        record["flow"] |= {"drop_reason": 133, "drop_reason_desc": "POLICY_DENIED"}
        record["flow"].pop("is_reply")
        record["flow"].pop("trace_reason")
    else:
        by = {"name": "cart", "namespace": "shop", "kind": "CiliumNetworkPolicy"}
        record["flow"] |= {"ingress_allowed_by": [by], "policy_match_type": 1}
    return record


def test_the_engine_is_held_against_the_verdicts_of_the_cluster(tmp_path: Path) -> None:
    records = [verdict(8080, "FORWARDED", second=n) for n in range(3)] + [verdict(22, "DROPPED", second=9)]
    path = write_lines(tmp_path / "verdicts.json", records)
    today = write("today.yaml", policy(ingress=[rule("web", 8080)]))
    result = run("diff", path, "-p", today, "--current", today)
    assert "The engine agrees with the cluster on 100 % of the recorded verdicts (4 of 4)." in result.stdout
    assert "the same decide for 100 % of them" in " ".join(result.stdout.split())
    other = write("other.yaml", policy(ingress=[rule("web", 8080), rule("web", 22)]))
    body = values(run("diff", path, "-p", today, "--current", other, "-o", "json", code=1))
    (section,) = [each for each in body["sections"] if "calibration" in each]
    assert section["calibration"]["agreed"] == 3
    assert [(each["l4"], each["cluster"], each["engine"]) for each in section["disagreements"]] == [
        ("22/TCP", "denied", "allowed")
    ]
    assert "calibration" not in run("diff", path, "-p", today, "-o", "json").stdout


def test_without_verdicts_nothing_can_be_held_against_them(tmp_path: Path) -> None:
    flows = write_lines(tmp_path / "plain.json", shop()[:-1])
    path = write("p.yaml", policy("web", "web", egress=[rule("cart", 8080, "to"), rule("catalog", 9090, "to")]))
    assert "No policy verdicts were recorded" in run("diff", flows, "-p", path, "--current", path).stdout


# What cannot be taken: named with its place, the rest is judged all the same, and the end is an error.

HIGH = {"ports": [{"port": "80", "endPort": 70000}]}
REFUSED: list[tuple[str, Any, str]] = [
    ("by the agent", policy("bad", ingress=[{"fromCIDR": ["10.0.0.1"]}]), "shop/bad: spec.ingress[0].fromCIDR[0]"),
    ("without rules", policy("bad"), "CiliumNetworkPolicy shop/bad: spec"),
    ("of the wrong type", policy("bad", ingress="all"), "spec.ingress: must be a list"),
    ("by the schema alone", policy("bad", ingress=[{"toPorts": [HIGH]}]), "refused by the schema"),
    ("no YAML", "kind: [\n", "not YAML"),
    ("no object", "- 1\n- 2\n", "not a Kubernetes object"),
    ("a key twice", "kind: NetworkPolicy\nkind: NetworkPolicy\n", "there twice"),
    ("nested deeply", "a: " + "[" * 200 + "]" * 200 + "\n", "nested deeper"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "words"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_one_bad_document_is_named_and_the_rest_is_judged(flows: Path, document: Any, words: str) -> None:
    path = write("policies/all.yaml", BREAKING, document)
    result = run("diff", flows, "-p", "policies", code=2)
    assert result.stdout.startswith("1 of 4 edges would be dropped")
    line = next(line for line in result.stderr.splitlines() if line.startswith("Not taken: "))
    assert f"{path}:" in line
    assert words in line
    assert result.stderr.count("Error:") == 1
    assert words in run("diff", flows, "-p", "policies", "-o", "json", code=2).stdout


def test_an_unknown_field_is_told_and_passed_over(flows: Path) -> None:
    """As the API server does; kubectl is stricter."""
    result = run("diff", flows, "-p", write("p.yaml", policy(ingres=[], ingress=[rule("web", 9999)])), code=1)
    assert "p.yaml:1: CiliumNetworkPolicy shop/cart: spec.ingres: unknown field" in result.stderr
    assert "1 of 4 edges would be dropped" in result.stdout


def test_a_list_and_other_kinds_beside_policies(flows: Path) -> None:
    write("p/list.yaml", {"kind": "List", "apiVersion": "v1", "items": [BREAKING, policy("bad"), {"kind": "Service"}]})
    write("p/deploy.yaml", {"kind": "Deployment", "metadata": {"name": "cart"}})
    write("p/notes.txt", "nothing to see")
    result = run("diff", flows, "-p", "p", code=2)
    assert "1 of 4 edges would be dropped" in result.stdout
    assert result.stderr.count("Not taken") == 1


def test_of_two_policies_of_one_name_the_later_counts_and_it_is_told(flows: Path) -> None:
    write("p/a.yaml", policy(ingress=[rule("web", 8080)]))
    write("p/b.yaml", BREAKING)
    result = run("diff", flows, "-p", "p", code=1)
    assert "1 of 4 edges would be dropped" in result.stdout
    assert "CiliumNetworkPolicy shop/cart is there twice: p/b.yaml:1 counts, and not p/a.yaml:1" in result.stderr


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: "missing.yaml", "missing.yaml"),
        (lambda: write("d.yaml", {"kind": "Deployment", "metadata": {"name": "x"}}), "1 Deployment"),
        (lambda: write("e.yaml", ""), "no network policy"),
        (lambda: write("b.yaml", policy("bad")), "only what Cilium refuses"),
        (lambda: write("y.yaml", "a: ["), "y.yaml:"),
    ],
)
def test_no_policy_at_all_is_an_error(flows: Path, make: Any, words: str) -> None:
    result = run("diff", flows, "-p", make(), code=2)
    assert words in result.stderr
    assert result.stderr.count("Error:") == 1
    assert result.stdout == ""


def test_policies_must_be_named(flows: Path) -> None:
    assert "--policies" in run("diff", flows, code=2).stderr
    assert "standard input" in run("diff", "-", "-p", "-", code=2).stderr


def test_an_inventory_declares_named_ports(flows: Path) -> None:
    named = policy(ingress=[{"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}])
    path = write("p.yaml", named)
    unknown = findings(run("diff", flows, "-p", path, "-o", "json", code=1))[WEB_CART]
    assert unknown["change"] == "undecided"
    assert "named port" in unknown["why"]
    meta = {"name": "cart-1", "namespace": "shop", "labels": {"app": "cart"}}
    pod = {
        "kind": "Pod", "apiVersion": "v1", "metadata": meta,
        "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]},
    }  # fmt: skip
    known = run("diff", flows, "-p", path, "--inventory", write("pods.yaml", pod), "-o", "json", code=1)
    assert findings(known)[WEB_CART]["change"] == "unchanged"


def test_a_comment_stays_short(tmp_path: Path) -> None:
    records = [exported(f"w{n}", "cart", 8080, second=n, reply=reply) for n in range(500) for reply in (False, True)]
    path = write_lines(tmp_path / "many.json", records)
    result = run("diff", path, "-p", write("p.yaml", BREAKING), "-o", "markdown", code=1)
    assert "500 of 500 edges" in result.stdout
    assert "more are shown by -o wide" in result.stdout.replace("\\", "")
    assert len(result.stdout) < 65_536
    assert len(findings(run("diff", path, "-p", "p.yaml", "-o", "json", code=1))) == 500


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Flows of pods whose names, labels and namespaces were chosen to do harm."""
    records = []
    for text in HOSTILE:
        for reply in (False, True):
            record = exported("web", "cart", 8080, reply=reply)
            end = record["flow"]["source" if not reply else "destination"]
            end |= {"namespace": text, "pod_name": text, "workloads": [{"kind": text, "name": text}]}
            end["labels"] = [f"k8s:app={text}", f"k8s:io.kubernetes.pod.namespace={text}"]
            record["flow"]["destination_names"] = [text]
            record["flow"]["uuid"] = f"{text}{reply}"
            records.append(record)
    return write_lines(tmp_path / "hostile.json", records)


@pytest.mark.parametrize("form", FORMS)
def test_hostile_names_stay_text(hostile: Path, form: str) -> None:
    result = run("diff", hostile, "-p", write("p.yaml", BREAKING), "--current", "p.yaml", "-o", form)
    result = run("diff", hostile, "-p", "p.yaml", "-o", form, code=1)
    for stream in (result.stdout, result.stderr):
        assert all(c.isprintable() or c == "\n" for c in stream)
    if form == "markdown":
        assert "<script>" not in result.stdout
    if form == "json":
        for each in findings(result).values():
            for suggested in each.get("suggestions", ()):
                assert "yaml" not in suggested or yaml.safe_load(suggested["yaml"])
