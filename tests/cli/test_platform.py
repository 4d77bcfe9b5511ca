"""recommend --baseline from end to end: what is written where, what is told, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from analyzer.cli.main import cli
from analyzer.demo import CLUSTER, records
from tests.cli.records import exported, write_lines


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "flows.json"
    path.write_text("".join(json.dumps(each) + "\n" for each in records(CLUSTER, 1)))
    return path


pytestmark = pytest.mark.usefixtures("surroundings")


def run(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    assert result.exit_code == code, result.stderr
    assert "Traceback" not in result.stderr
    return result


def test_the_baseline_goes_to_a_folder_of_its_own(flows: Path) -> None:
    result = run("recommend", flows, "--baseline", "-d", "policies")
    files = {path.relative_to("policies").as_posix() for path in Path("policies").rglob("*.yaml")}
    platform = {"_platform/dns.yaml", "_platform/internet.yaml", "_platform/monitoring.yaml", "_platform/probes.yaml"}
    assert {each for each in files if each.startswith("_")} == platform
    assert result.stderr.index("_platform   comes first") < result.stderr.index("NAMESPACE   then")
    report = Path("policies/REPORT.md").read_text()
    assert "talks to a cloud metadata address | shop/payments" in report
    assert "It closes directions in which nothing was seen, for 8 workloads" in report


def test_default_deny_is_written_apart_and_comes_last(flows: Path) -> None:
    result = run("recommend", flows, "--default-deny", "ingress", "-d", "policies", "--kustomize")
    assert [path.name for path in Path("policies/_default-deny").iterdir()] == ["ingress.yaml"]
    made = yaml.safe_load(Path("policies/_default-deny/ingress.yaml").read_text())
    assert (made["kind"], made["spec"]["ingress"]) == ("CiliumClusterwideNetworkPolicy", [{}])
    assert "egress" not in made["spec"]
    listed = yaml.safe_load(Path("policies/kustomization.yaml").read_text())["resources"]
    assert "_platform/dns.yaml" in listed
    assert not any("default-deny" in each for each in listed)
    assert "comes last" in result.stderr


def test_doing_it_again_changes_nothing(flows: Path) -> None:
    options = ("--default-deny", "both", "-d", "policies", "--existing", "policies")
    run("recommend", flows, *options[:4])
    assert run("recommend", flows, *options, "--dry-run").stdout == ""


def test_other_policies_of_that_name_are_left_alone(flows: Path) -> None:
    own = Path("mine/dns.yaml")
    own.parent.mkdir()
    text = (
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: platform-dns}\n"
        "spec: {endpointSelector: {matchLabels: {app: none}}, ingress: [{}]}\n"
    )
    own.write_text(text)
    run("recommend", flows, "--baseline", "-d", "policies", "--existing", "mine")
    assert own.read_text() == text
    assert "name: platform-dns-recommended" in Path("policies/_platform/dns.yaml").read_text()


def test_standard_output_has_the_baseline_first(flows: Path) -> None:
    kinds = [each["kind"] for each in yaml.safe_load_all(run("recommend", flows, "--baseline").stdout)]
    assert kinds == sorted(kinds)
    assert kinds.count("CiliumClusterwideNetworkPolicy") == 5


def test_json_tells_the_baseline(flows: Path) -> None:
    data = json.loads(run("recommend", flows, "--baseline", "-o", "json").stdout)
    sections = {key: value for each in data["sections"] for key, value in each.items()}
    assert {each["name"] for each in sections["baseline"]} > {"platform-dns", "platform-probes"}
    assert {"workload": "debug/scanner", "directions": "ingress and egress"} in sections["unseen"]
    assert [each["where"] for each in sections["cautions"]] == [
        "monitoring/prometheus",
        "shop/payments",
        "shop/frontend",
        "monitoring/operator",
    ]


def test_the_internet_is_refused_elsewhere_unless_asked_for(flows: Path) -> None:
    named = ("recommend", flows, "--baseline", "--gateway", "shop/frontend", "-o", "json")
    told = run(*named).stdout
    assert "not through a gateway" in told
    assert "not through a gateway" not in run(*named, "--allow-direct-internet").stdout


def test_system_namespaces_that_somebody_added_stay(flows: Path) -> None:
    run("recommend", flows, "--default-deny", "both", "-d", "policies")
    closing = Path("policies/_default-deny/egress.yaml")
    closing.write_text(
        closing.read_text().replace("      - kube-system\n", "      - kube-system\n      - late-system\n")
    )
    run("recommend", flows, "--default-deny", "both", "-d", "policies")
    assert all("- late-system" in path.read_text() for path in Path("policies/_default-deny").iterdir())


def test_what_does_not_fit_is_refused_before_anything_is_read() -> None:
    result = run("recommend", "nowhere.json", "--default-deny", "both", "-d", "x", "--only-namespace", "shop", code=2)
    assert "the whole cluster" in result.stderr


def test_without_traffic_there_is_no_baseline_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("")
    result = run("recommend", "empty.json", "--default-deny", "both", "-d", "policies")
    assert "No traffic of a workload was found" in result.stderr
    assert "kubectl apply" not in result.stderr
    assert [path.name for path in Path("policies").iterdir()] == ["REPORT.md"]


def test_a_default_deny_that_would_drop_what_was_recorded_ends_with_1(tmp_path: Path) -> None:
    seen = [exported("web", "cart", 80, source_namespace="", reply=reply) for reply in (False, True)]
    direct = write_lines(tmp_path / "direct.json", seen)
    result = run("recommend", direct, "--default-deny", "ingress", "-d", "policies", code=1)
    assert "it would drop 1 connection" in result.stderr
    run("recommend", direct, "--default-deny", "egress", "-d", "others")
    run("recommend", direct, "--baseline", "-d", "alone")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--default-deny", "both"), "needs a folder"),
        (("--gateway", "a"), "add --baseline"),
        (("--allow-direct-internet",), "add --baseline"),
        (("--baseline", "--dialect", "kubernetes"), "leave --dialect out"),
        (("--baseline", "--monitoring", "a/b/c"), "neither NAMESPACE"),
        (("--default-deny", "sideways"), "sideways"),
        (("--default-deny", "both", "-d", "x", "--only-namespace", "shop"), "the whole cluster"),
        (("--default-deny", "both", "-d", "x", "--namespace", "shop"), "the whole cluster"),
        (("--default-deny", "both", "-d", "x", "--directions", "ingress"), "no rules are written for"),
        (("--default-deny", "both", "-d", "x", "--directions", "shop=ingress"), "no rules are written for"),
        (("--default-deny", "both", "-d", "x", "--system-namespaces", "infra"), "close kube-system"),
        (("--baseline", "--system-namespaces", "kube-*,kube system"), "'kube system' is neither"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flows: Path, options: tuple[str, ...], words: str) -> None:
    assert words in " ".join(run("recommend", flows, *options, code=2).stderr.replace("│", " ").split())
