"""Documents: read as Kubernetes reads them, bounded, one bad document spoiling no other; written so that they read back equal."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ManifestError
from analyzer.manifests import MAX_DEPTH, Document, dump, load, parse
from analyzer.manifests import read as manifests


def read(text: str, path: str = "x.yaml") -> tuple[list[Document], list[str]]:
    errors: list[ManifestError] = []
    return list(parse(text, path, on_error=errors.append)), [str(error) for error in errors]


def values(text: str) -> list[dict[str, Any]]:
    return [each.data for each in parse(text)]


def test_documents_know_their_place() -> None:
    documents, errors = read("# top\n\na: 1\n---\n# none here\n---\n%YAML 1.1\n---\n\nb: 2\n--- # c\nc: 3\n")
    assert errors == []
    assert [(each.data, each.index, each.line) for each in documents] == [
        ({"a": 1}, 0, 3),
        ({"b": 2}, 1, 10),
        ({"c": 3}, 2, 12),
    ]
    assert {each.path for each in documents} == {"x.yaml"}


PLACES = """# top
kind: List
items:
- kind: A
  spec: &spec
    ingress:
    - from: {a: 1,
        b: 2}
    - {}
    "k8s:a.b": [x,
      y]
    k8s:a: 1
---
kind: B
spec:

  x: |
    text
  w: 1
--- {kind: C, spec: 1}
---
kind: DList
items:
- spec: {x: 1}
"""


def test_documents_know_the_lines_of_their_fields() -> None:
    a, b, c, d = parse(PLACES, "x.yaml", lines=True)
    places = ["", "kind", "spec", "spec.ingress", "spec.ingress[0]", "spec.ingress[0].from.b", "spec.ingress[1]"]
    assert [a.line_at(place) for place in places] == [2, 4, 5, 6, 7, 8, 9]
    assert [a.line_at(f"spec.{place}") for place in ("k8s:a.b", "k8s:a.b[1]", "k8s:a", "gone", "ingress[7]")] == [
        10,
        11,
        12,
        5,
        6,
    ]
    assert [b.line_at(place) for place in ("", "spec", "spec.x", "spec.w", "spec.w.z", "gone")] == [
        14,
        15,
        17,
        19,
        19,
        14,
    ]
    assert [c.line_at(place) for place in ("kind", "spec", "[0]", ".", "..", "]")] == [20] * 6
    assert [d.line_at(place) for place in ("", "kind", "spec", "spec.x")] == [22, 22, 22, 24]


def test_without_lines_the_line_of_the_document_is_known() -> None:
    assert [each.line_at("spec.x") for each in parse(PLACES)] == [2, 14, 20, 22]
    assert [each.line_at("a.b") for each in parse('{"a": {\n"b": 1}}\n{"a":\n{"b": 1}}', "x.json", lines=True)] == [
        1,
        3,
    ]
    assert Document({"a": 1}).line_at("a") == 0


def test_lists_are_unpacked() -> None:
    text = "kind: List\napiVersion: v1\nitems: [{kind: A}, {kind: B}]\n---\n{kind: PodList, apiVersion: v1, items: [{a: 1}]}\n"
    assert values(text) == [{"kind": "A"}, {"kind": "B"}, {"apiVersion": "v1", "kind": "Pod", "a": 1}]
    assert values("kind: BlockList\nspec: {}\n") == [{"kind": "BlockList", "spec": {}}]


def test_json_one_after_the_other_and_flow_style_yaml() -> None:
    documents, errors = read('{"a": "\\ud83d\\ude00\\/"}\n{"b": [1, 2.5, null]}{"c": 3}', "x.json")
    assert errors == []
    assert [each.data for each in documents] == [{"a": "😀/"}, {"b": [1, 2.5, None]}, {"c": 3}]
    assert [each.line for each in documents] == [1, 2, 2]
    assert values("{a: b}\n") == [{"a": "b"}]


def test_plain_scalars_are_what_kubernetes_takes_them_for() -> None:
    text = "a: [y, on, No, null, ~, 010, 0o10, 0x1F, 0b11, 1_000, 1e3, 1.5, .5, 12:30, 2024-01-01, 1.2.3"
    text += ", '1', 80-90, -, --1, +1, nan, <<]"
    expected = [
        True, True, False, None, None, 8, 8, 31, 3, 1000, 1000, 1.5, 0.5, "12:30", "2024-01-01", "1.2.3", "1", "80-90", "-",
        "--1", 1, "nan", "<<",
    ]  # fmt: skip
    (found,) = values(text.replace("-, ", '"-", '))
    assert found == {"a": expected}
    assert [type(each) for each in found["a"]] == [type(each) for each in expected]
    assert values("80: x\non: y\n? null\n: z") == [{"80": "x", "true": True, "null": "z"}]


def test_anchors_and_merges_work() -> None:
    assert values("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: [*x]") == [
        {"a": {"b": 1, "c": 2}, "d": {"c": 3, "b": 1}, "e": [{"b": 1, "c": 2}]}
    ]


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)

DEEP = "a0: &a0 x\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 1000))


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml", "x.yaml:3: the key 'a' is there twice"),
        ('{"a": 1, "a": 2}', "x.json", "x.json:1: not JSON: the key 'a' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "x.yaml", "twice"),
        (BOMB, "x.yaml", "x.yaml:7: more than 1000000 values"),
        (DEEP, "x.yaml", f"nested deeper than {MAX_DEPTH} levels"),
        ("a: &a [*a]", "x.yaml", "points to nothing, or into itself"),
        ("[" * 100_000, "x.yaml", f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 100_000, "x.yaml", f"nested deeper than {MAX_DEPTH} levels"),
        ("[" * 100_000, "x.json", "x.json:1: nested too deeply"),
        ('{"a":' * 100 + "1" + "}" * 100, "x.json", f"nested deeper than {MAX_DEPTH} levels"),
        ('{"a": NaN}', "x.json", "NaN is not a JSON number"),
        ('{"a": 1\n"b": 2}', "x.json", "x.json:2: not JSON"),
        ("a: b: c", "x.yaml", "x.yaml:1: not YAML: mapping values are not allowed"),
        ("a: \x00", "x.yaml", "not YAML"),
        ("a: !!python/object/apply:os.system [echo]", "x.yaml", "is not known"),
        ("a: !!timestamp 2024-01-01", "x.yaml", "is not known"),
        ("? [a]\n: b", "x.yaml", "a key must be a string"),
        ("<<: 1", "x.yaml", "only mappings can be merged"),
        ("just text", "x.yaml", "x.yaml:1: not a Kubernetes object"),
        ("- a\n- b", "x.yaml", "not a Kubernetes object"),
        ("kind: List\nitems: [1]", "x.yaml", "not a Kubernetes object"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_and_the_rest_is_read(text: str, path: str, expected: str) -> None:
    documents, errors = read(text, path)
    assert documents == []
    assert len(errors) == 1
    assert expected in errors[0]
    if path.endswith(".yaml"):
        documents, errors = read(f"before: 1\n---\n{text}\n---\nafter: 1\n", path)
        assert [each.data for each in documents] == [{"before": 1}, {"after": 1}]
        assert len(errors) == 1
    with pytest.raises(ManifestError):
        list(parse(text, path))


def test_files_folders_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.yml").write_text("k: 2")
    (tmp_path / "b" / "1.json").write_text('{"k": 1}')
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfk: 0")
    (tmp_path / "notes.txt").write_text("k: 9")
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"k: 3")))
    errors: list[ManifestError] = []
    paths = [tmp_path, "-", tmp_path / "notes.txt", tmp_path / "gone.yaml"]
    found = list(load(paths, on_error=errors.append))
    assert [(each.data["k"], os.path.basename(each.path)) for each in found] == [
        (0, "a.yaml"), (1, "1.json"), (2, "2.yml"), (3, "-"), (9, "notes.txt"),
    ]  # fmt: skip
    assert [str(each).rpartition("/")[2] for each in errors] == [
        "c.yaml: not UTF-8 at byte 0",
        "gone.yaml: cannot be read: No such file or directory",
    ]
    with pytest.raises(ManifestError, match="not UTF-8"):
        list(load([tmp_path]))


def test_in_a_folder_only_what_names_the_kind_has_to_be_readable(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("kind: CiliumNetworkPolicy\n")
    (tmp_path / "tsconfig.json").write_text('{"compilerOptions": {}, // comments\n}')
    (tmp_path / "values.yaml").write_bytes(b"name: \xff\n---\nb: [")
    (tmp_path / "two.yaml").write_text("kind: Kustomization\n---\n- x\n---\na: [\n")
    (tmp_path / "broken.yaml").write_text("kind: NetworkPolicy\nspec: {{ .Values.spec }}: 1\n")
    errors: list[str] = []
    others: list[str] = []
    found = load(
        [tmp_path], on_error=lambda error: errors.append(error.where), about=("NetworkPolicy",), on_other=others.append
    )
    assert [each.data["kind"] for each in found] == ["CiliumNetworkPolicy", "Kustomization"]
    assert [Path(each).name for each in others] == ["tsconfig.json", "two.yaml", "values.yaml"]
    assert [Path(each).name for each in errors] == ["broken.yaml:2"]
    # A file that somebody names is meant, whatever is in it.
    with pytest.raises(ManifestError):
        list(load([tmp_path / "tsconfig.json"], about=("NetworkPolicy",)))
    with pytest.raises(ManifestError):
        list(load([tmp_path]))


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "MAX_BYTES", 100)
    (tmp_path / "a.yaml").write_text("a: " + "x" * 100)
    (tmp_path / "b.yaml").write_text("b: 1")
    errors: list[ManifestError] = []
    assert [each.data for each in load([tmp_path], on_error=errors.append)] == [{"b": 1}]
    assert "larger than" in str(errors[0])


def test_written_as_people_expect_it() -> None:
    policy = {
        "kind": "X",
        "metadata": {"name": "cart", "labels": {"app.kubernetes.io/name": "cart", "k8s:app": "1e3"}},
        "spec": {"ports": [{"port": "8080", "x": 1}], "empty": [], "none": {}, "word": "on", "text": "a\nb"},
    }
    assert dump([Document(policy, header=("shop/cart", "")), {"a": "b"}]) == (
        "# shop/cart\n#\nkind: X\nmetadata:\n  name: cart\n  labels:\n    app.kubernetes.io/name: cart\n"
        '    "k8s:app": "1e3"\nspec:\n  ports:\n  - port: "8080"\n    x: 1\n  empty: []\n  none: {}\n  word: "on"\n'
        '  text: "a\\nb"\n---\na: b\n'
    )
    assert dump([]) == ""


def test_one_value_used_twice_is_written_twice() -> None:
    shared = {"a": 1}
    assert dump([{"x": shared, "z": shared}]) == "x:\n  a: 1\nz:\n  a: 1\n"


# Strings that some YAML reader takes for something else than a string.
AMBIGUOUS = [
    "y", "n", "Y", "N", "yes", "No", "ON", "off", "true", "False", "null", "~", "", " ", "0", "1", "-1", "+1", "1e3", "1e+3",
    ".5", "5.", "1_000", "0o14", "014", "0x1f", "0X1F", "0b1", "0B1", ".inf", "-.INF", ".nan", "12:30", "190:20:30", "2024-01-01",
    "2024-01-01T00:00:00Z", "=", "<<", "-", "?", ":", "- a", "a: b", "a #b", "#", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`",
    "{a}", "[a]", "'", '"', "a\tb", "\n", "a\n", "\x85", "\x85a", "\u2028", "\ufeff", "\x00", "\x7f", "---", "...", "é", "😀",
    "a" * 5000, "a " * 500, "key: |\n  x",
]  # fmt: skip


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_ambiguous_strings_stay_strings_for_every_reader(text: str) -> None:
    document = {"value": text, "list": [text], "in": {text: text}}
    written = dump([document])
    assert written.isascii()
    assert yaml.safe_load(written) == document
    assert values(written) == [document]


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert values(dump([{"a": "x\ud800y", "b": "\ud83d\ude00"}])) == [{"a": "x\ufffdy", "b": "😀"}]


@pytest.mark.parametrize("text", ["a\nb: c", "x\x00\x1b[31m", "\u2028é", "---", "a\rb", "\\n"])
def test_headers_stay_comments(text: str) -> None:
    written = dump([Document({"a": 1}, header=(text,)), {"b": 1}])
    assert values(written) == [{"a": 1}, {"b": 1}]
    assert list(yaml.safe_load_all(written)) == [{"a": 1}, {"b": 1}]
    assert written.isascii()


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x.is_integer()),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda key: key != "<<")
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
OBJECTS = st.dictionaries(KEYS, TREES, min_size=1, max_size=4).filter(
    lambda each: not str(each.get("kind")).endswith("List")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECTS, max_size=4))
def test_what_is_written_reads_back_equal(documents: list[dict[str, Any]]) -> None:
    written = dump(documents)
    assert values(written) == documents
    assert [each for each in yaml.safe_load_all(written) if each is not None] == documents
    assert values("\n".join(map(json.dumps, documents))) == documents


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-[]{},&*!|>'\"#%@ \n\t0?<~\x00", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    documents, errors = read(text)
    assert all(isinstance(each.data, dict) for each in documents)
    assert all(error.startswith("x.yaml:") for error in errors)
