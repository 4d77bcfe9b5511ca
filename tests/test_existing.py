"""Living with files that are there: ours are updated in place, people's stay byte for byte, and a plan can be shown first."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import ManifestError, OutputError
from analyzer.existing import Plan, kustomized, plan
from analyzer.manifests import Document, dump, load
from tests.test_roundtrip import OURS, PEOPLE, cart, rule

NEW = cart(rule("web", "8080"), rule("batch", "9090"))
SAME = cart(rule("web", "8080"))


def named(name: str, namespace: str = "shop") -> Document:
    found = cart(rule("web", "8080"))
    metadata = {**found.data["metadata"], "name": name, "namespace": namespace}
    return Document({**found.data, "metadata": metadata}, f"{namespace}/{name}.yaml")


def write(made: Plan) -> None:
    for change in made.changes:
        path = Path(change.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(change.after.encode())


def names(folder: Path) -> list[str]:
    return [each.data["metadata"]["name"] for each in load([str(folder)])]


def test_new_documents_go_to_their_own_paths_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    made = plan([SAME, named("redis")], str(folder))
    assert [Path(each.path).relative_to(folder).as_posix() for each in made.changes] == [
        "shop/cart.yaml",
        "shop/redis.yaml",
    ]
    assert all(each.before is None for each in made.changes)
    write(made)
    again = plan([SAME, named("redis")], str(folder))
    assert not any(each.changed for each in again.changes)
    assert again.diff() == ""
    assert again.left == ()


def test_ours_are_updated_where_they_stand_and_peoples_stay(tmp_path: Path) -> None:
    other = tmp_path / "repo"
    other.mkdir()
    path = other / "all.yaml"
    path.write_text(f"{PEOPLE}---\n{OURS}---\n{PEOPLE.replace('name: people', 'name: more')}")
    made = plan([NEW, named("redis")], str(tmp_path / "out"), [str(other)])
    assert [Path(each.path).relative_to(tmp_path).as_posix() for each in made.changes] == [
        "repo/all.yaml",
        "out/shop/redis.yaml",
    ]
    write(made)
    text = path.read_text()
    assert text.startswith(f"{PEOPLE}---\n")
    assert text.endswith(PEOPLE.replace("name: people", "name: more"))
    assert names(other) == ["people", "cart", "more"]
    assert "9090" in text
    assert "# owner" in text


def test_a_file_of_other_people_at_our_path_is_added_to_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    path = tmp_path / "shop" / "cart.yaml"
    path.write_text(PEOPLE)
    write(plan([SAME], str(tmp_path)))
    assert path.read_text().startswith(PEOPLE)
    assert names(tmp_path) == ["people", "cart"]


def test_somebody_elses_policy_of_the_same_name_keeps_it_and_ours_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "theirs.yaml").write_text(PEOPLE.replace("name: people", "name: cart"))
    for _ in range(2):
        made = plan([SAME], str(tmp_path))
        assert [Path(each.path).name for each in made.changes] == ["cart-recommended.yaml"]
        assert "somebody's own" in made.renamed[0]
        write(made)
    assert sorted(names(tmp_path)) == ["cart", "cart-recommended"]


def test_what_is_not_recommended_any_more_is_named_and_stays(tmp_path: Path) -> None:
    write(plan([SAME, named("redis")], str(tmp_path)))
    made = plan([SAME], str(tmp_path))
    assert made.left == (f"{tmp_path}/shop/redis.yaml: CiliumNetworkPolicy shop/redis",)
    assert (tmp_path / "shop" / "redis.yaml").exists()


@pytest.mark.parametrize(
    "text", ['{"items": [%s], "kind": "List", "apiVersion": "v1"}', "kind: List\nitems:\n- %s\n", "%s\n"]
)
def test_what_cannot_be_updated_in_place_is_said(tmp_path: Path, text: str) -> None:
    import json

    (tmp_path / "x.json").write_text(text % json.dumps(SAME.data))
    made = plan([NEW], str(tmp_path))
    assert "by hand" in made.problems[0]
    assert not any(each.changed for each in made.changes)


def test_a_broken_file_spoils_nothing_unless_it_is_the_one_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    assert len(plan([SAME], str(tmp_path)).changes) == 1
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "cart.yaml").write_text("a: [")
    with pytest.raises(ManifestError, match=r"cart\.yaml:2"):
        plan([SAME], str(tmp_path))
    (tmp_path / "shop" / "cart.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="UTF-8"):
        plan([SAME], str(tmp_path))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.yaml", "a/../../x.yaml", ""])
def test_nothing_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(OutputError):
        plan([Document(SAME.data, path)], str(tmp_path))


def test_the_diff_is_one_that_patch_can_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    repo = Path("repo")
    repo.mkdir()
    (repo / "all.yaml").write_text(f"{PEOPLE}---\n{OURS}".rstrip("\n"))
    made = plan([NEW, named("redis")], "repo", ["repo"])
    diff = made.diff()
    assert "--- a/repo/all.yaml" in diff
    assert "--- /dev/null\n+++ b/repo/shop/redis.yaml" in diff
    subprocess.run(["git", "apply", "-"], input=diff.encode(), check=True)
    assert {each.path: each.after for each in made.changes} == {
        each.path: Path(each.path).read_text() for each in made.changes
    }


def resources(folder: Path) -> list[str]:
    (found,) = load([str(folder / "kustomization.yaml")])
    return found.data["resources"]  # type: ignore[no-any-return]


def test_kustomization_is_made_and_kept(tmp_path: Path) -> None:
    made = kustomized(str(tmp_path), [str(tmp_path / "shop/redis.yaml"), str(tmp_path / "shop/cart.yaml")])
    (tmp_path / "kustomization.yaml").write_text(made.after)
    assert resources(tmp_path) == ["shop/cart.yaml", "shop/redis.yaml"]
    assert not kustomized(str(tmp_path), [str(tmp_path / "shop/redis.yaml")]).changed


def test_other_peoples_kustomization_gets_what_is_missing(tmp_path: Path) -> None:
    text = "# by hand\nnamePrefix: x-\nresources: # all of it\n- ./base\n- shop # a folder\n"
    (tmp_path / "kustomization.yaml").write_text(text)
    made = kustomized(str(tmp_path), [str(tmp_path / "shop/cart.yaml"), str(tmp_path / "batch/report.yaml")])
    assert made.after == f"{text}- batch/report.yaml\n"
    (tmp_path / "kustomization.yaml").write_text("namePrefix: x-\n")
    made = kustomized(str(tmp_path), [str(tmp_path / "shop/cart.yaml")])
    assert made.after == "namePrefix: x-\nresources:\n- shop/cart.yaml\n"
    (tmp_path / "kustomization.yaml").write_text("a: [")
    with pytest.raises(ManifestError):
        kustomized(str(tmp_path), ["x"])


def test_an_update_of_very_many_documents_in_one_file(tmp_path: Path) -> None:
    documents: list[Any] = [named(f"app-{n}") for n in range(60)]
    (tmp_path / "all.yaml").write_text(dump(documents))
    made = plan(documents, str(tmp_path))
    assert [each.changed for each in made.changes] == [False]
