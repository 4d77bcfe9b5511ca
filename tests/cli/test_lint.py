"""``lint`` from end to end: exit codes, places, formats; one bad input is named and the rest is still checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from analyzer.manifests import MAX_BYTES, dump
from tests.kubernetes_api import CONTEXT, KubernetesApi
from tests.test_cluster import objects, thing

GOOD: dict[str, Any] = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "good", "namespace": "shop"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "a"}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "b"}}]}],
    },
}


def changed(name: str, **spec: Any) -> dict[str, Any]:
    return {**GOOD, "metadata": {"name": name, "namespace": "shop"}, "spec": {**GOOD["spec"], **spec}}


TRAP = changed("trap", ingress=[{"fromEndpoints": []}])
REFUSED = changed("refused", ingress=[{"fromEntities": ["everyone"]}])


def run(*args: object, stdin: str = "") -> Result:
    result = CliRunner().invoke(cli, ["lint", *map(str, args)], input=stdin)
    assert "Traceback" not in result.output
    return result


def findings(*args: object, code: int, stdin: str = "") -> list[dict[str, Any]]:
    result = run(*args, "-o", "json", stdin=stdin)
    assert result.exit_code == code, result.output
    body = json.loads(result.stdout)
    assert body["schema"] == "hubble-analyzer/lint/v1"
    return [each for section in body["sections"] for each in section.get("findings", [])]


def write(path: Path, *documents: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dump(documents))
    return path


def test_clean_policies_end_with_0(tmp_path: Path) -> None:
    path = write(tmp_path / "good.yaml", GOOD)
    result = run(path)
    assert result.exit_code == 0
    assert "1 policy: nothing to report" in result.stdout
    assert findings(path, code=0) == []


def test_findings_end_with_1_and_say_everything(tmp_path: Path) -> None:
    path = write(tmp_path / "all.yaml", GOOD, TRAP, REFUSED)
    found = findings(path, code=1)
    assert [(each["severity"], each["document"], each["refused_by"], each["field"]) for each in found] == [
        ("warning", 1, None, "spec.ingress[0].fromEndpoints"),
        ("error", 2, "schema", "spec.ingress[0].fromEntities[0]"),
        ("error", 2, "agent", "spec.ingress[0].fromEntities[0]"),
    ]
    lines = path.read_text().splitlines()
    assert [lines[each["line"] - 1].strip() for each in found] == ["- fromEndpoints: []", "- everyone", "- everyone"]
    for each in found:
        assert each["path"] == str(path)
        assert each["policy"] == f"CiliumNetworkPolicy shop/{'trap' if each['document'] == 1 else 'refused'}"
        assert each["message"]
        assert each["hint"]


@pytest.mark.parametrize("form", ["table", "wide", "markdown"])
def test_every_finding_is_in_every_format(tmp_path: Path, form: str) -> None:
    path = write(tmp_path / "all.yaml", GOOD, TRAP, REFUSED)
    result = run(path, "-o", form)
    assert result.exit_code == 1
    text = result.stdout.replace("\\", "")
    assert "3 policies: 2 errors, 1 warning" in text
    for each in findings(path, code=1):
        assert each["message"] in text
        assert each["hint"] in text
    assert run(path, "-o", form).stdout == result.stdout


def test_standard_input(tmp_path: Path) -> None:
    (found,) = findings("-", code=1, stdin=dump([TRAP]))
    assert (found["path"], found["line"]) == ("-", 11)
    assert run("-", "--inventory", "-").exit_code == 2


def test_rules_can_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "trap.yaml", TRAP)
    assert findings(path, "--ignore", "empty-list", code=0) == []
    assert len(findings(path, "--ignore", "deny-all", code=1)) == 1


def test_a_rule_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    result = run(write(tmp_path / "trap.yaml", TRAP), "--ignore", "empty-lists")
    assert result.exit_code == 2
    assert "empty-list" in result.stderr


def test_an_inventory_tells_more(tmp_path: Path) -> None:
    policy = write(tmp_path / "p.yaml", changed("p", egress=[{"toCIDR": ["10.0.0.0/8"]}]))
    pod = {"kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "status": {"podIP": "10.0.0.5"}}
    node = {"kind": "Node", "status": {"addresses": [{"address": "10.9.0.1"}]}}
    assert findings(policy, code=0) == []
    for cluster in (pod, node):
        (found,) = findings(policy, "--inventory", write(tmp_path / "cluster" / "x.yaml", cluster), code=1)
        assert found["rule"] == "cidr-inside"


def test_a_folder_with_other_kinds(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    write(folder / "kustomization.yaml", {"resources": ["policy.yaml"]})
    write(
        folder / "deployment.yaml",
        {"kind": "Deployment", "apiVersion": "apps/v1"},
        {"kind": "Service", "apiVersion": "v1"},
    )
    write(folder / "policies" / "policy.yaml", TRAP)
    (folder / "README.md").write_text("# a: b: c")
    (found,) = findings(folder, code=1)
    assert found["path"] == str(folder / "policies" / "policy.yaml")
    assert "1 Deployment, 1 Service, 1 without a kind" in run(folder).stdout


def test_a_whole_repository(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(dump([GOOD]))
    (tmp_path / "tsconfig.json").write_text('{"compilerOptions": {}, // comments\n}')
    (tmp_path / "recyclarr.yaml").write_text("key: !env_var KEY\n")
    result = run(tmp_path, "--inventory", tmp_path)
    assert result.exit_code == 0, result.output
    assert "2 files, such as" in result.output
    # A template may be a policy once it is rendered.
    (tmp_path / "template.yaml").write_text("kind: NetworkPolicy\nspec:\n  {{- toYaml .Values.spec | nindent 2 }}\n")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "template.yaml:3: not YAML" in result.output
    assert "render it first" in result.output


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n---\n", dump([{"kind": "Deployment"}]), "replicas: 3\n"], ids=repr,
)  # fmt: skip
def test_yaml_without_a_policy(tmp_path: Path, text: str) -> None:
    """There is nothing to report; that nothing was checked is told."""
    path = tmp_path / "values.yaml"
    path.write_text(text)
    result = run(path)
    assert result.exit_code == 0
    assert "0 policies" in result.stdout


def test_lists_and_several_documents(tmp_path: Path) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(dump([GOOD, {"apiVersion": "v1", "kind": "List", "items": [GOOD, TRAP]}, REFUSED]))
    found = findings(path, "--ignore", "replaced", code=1)
    assert [each["document"] for each in found] == [2, 3, 3]
    typed = {"kind": "CiliumNetworkPolicyList", "apiVersion": "cilium.io/v2", "items": [{**TRAP, "kind": None}]}
    typed["items"] = [{key: value for key, value in TRAP.items() if key not in ("kind", "apiVersion")}]
    (tmp_path / "typed.json").write_text(json.dumps(typed))
    assert [each["rule"] for each in findings(tmp_path / "typed.json", code=1)] == ["empty-list"]


def test_unknown_fields(tmp_path: Path) -> None:
    (found,) = findings(write(tmp_path / "p.yaml", changed("p", ingres=[{}])), code=1)
    assert (found["rule"], found["refused_by"], found["field"]) == ("unknown-field", "schema", "spec.ingres")
    assert "strict" in found["message"]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
UNREADABLE = {
    "broken": "a: b: c",
    "duplicate keys": "kind: NetworkPolicy\nspec: {}\nspec: {}",
    "deep nesting": "a: " + "[" * 5_000,
    "deep policy": "kind: NetworkPolicy\nspec:\n" + "".join("  " * level + f" a{level}:\n" for level in range(1, 200)),
    "bomb": BOMB,
    "tag": "kind: !!python/object/apply:os.system [echo]",
    "no object": "- op: replace",
    "text": "just words",
    "binary": "\x00\x01\x02",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_named_and_the_rest_is_checked(tmp_path: Path, text: str) -> None:
    write(tmp_path / "in" / "a.yaml", TRAP)
    bad = tmp_path / "in" / "b.yaml"
    bad.write_text(dump([TRAP]) + "---\n" + text + "\n---\n" + dump([REFUSED]))
    write(tmp_path / "in" / "c.yaml", REFUSED)
    result = run(tmp_path / "in")
    assert result.exit_code == 2
    line = len(dump([TRAP]).splitlines()) + 1
    assert any(f"{bad}:{at}: " in result.stdout for at in range(line, line + 200))
    assert result.stderr.count("Error:") == 1
    rules = [each["rule"] for each in findings(tmp_path / "in", "--ignore", "replaced", code=2)]
    assert rules == ["empty-list"] * 2 + ["refused-by-schema", "refused-by-agent"] * 2


def test_large_files(tmp_path: Path) -> None:
    write(tmp_path / "small.yaml", TRAP)
    (tmp_path / "large.yaml").write_bytes(b"# " + b"x" * MAX_BYTES)
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "large.yaml: larger than 10 MB" in result.stdout
    assert "empty-list" in result.stdout


@pytest.mark.parametrize("name", ["gone.yaml", "\x1b[2J.yaml"])
def test_files_that_are_not_there(tmp_path: Path, name: str) -> None:
    result = run(tmp_path / name, write(tmp_path / "trap.yaml", TRAP))
    assert result.exit_code == 2
    assert "cannot be read" in result.stdout
    assert "empty-list" in result.stdout
    assert "\x1b" not in result.output


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    name = "\x1b]0;x\x07<b>|`\u202e"
    spec = {
        "endpointSelector": {"matchLabels": {name: name}},
        "ingress": [{name: 1}, {"fromEntities": [name]}],
        name: {},
    }
    path = write(tmp_path / "p.yaml", {**GOOD, "metadata": {"name": name, "labels": {name: name}}, "spec": spec})
    for form in ("table", "wide", "json", "markdown"):
        result = run(path, "-o", form)
        assert result.exit_code == 1
        assert all(c.isprintable() or c == "\n" for c in result.output)
        assert form != "markdown" or "<b>" not in result.stdout


def test_a_path_is_needed() -> None:
    result = run()
    assert result.exit_code == 2
    assert "PATH" in result.stderr


def test_the_word_cluster_stands_for_its_own_policies_and_inventory(tmp_path: Path) -> None:
    stored = objects()
    policy = {"endpointSelector": {}, "ingress": [{"fromCIDR": ["10.0.0.0/24"]}]}
    stored["/apis/cilium.io/v2/ciliumnetworkpolicies"] = [thing("cart", "shop", spec=policy)]
    with KubernetesApi(stored).serving() as server:
        flags = ("--kubeconfig", server.kubeconfig(tmp_path), "--kube-context", CONTEXT)
        (found,) = findings("cluster", "--inventory", "cluster", *flags, code=1)
    assert (found["path"], found["line"], found["rule"]) == ("cluster", None, "cidr-inside")
    assert found["policy"] == "CiliumNetworkPolicy shop/cart"


def test_a_cluster_that_cannot_be_reached(tmp_path: Path) -> None:
    result = run("cluster", "--kubeconfig", tmp_path / "gone")
    assert result.exit_code == 2
    assert result.stderr.count("Error:") == 1
