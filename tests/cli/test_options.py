"""What verbs are told: flags beat the environment, which beats Hubble's configuration file, which beats the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner

from analyzer.cli.options import FlowCommand, Inputs, reads_flows
from analyzer.errors import AnalyzerError, UsageError

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working folder of our own, and no HUBBLE_ variables."""
    import os

    for name in [name for name in os.environ if name.startswith("HUBBLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def told(*args: str) -> Inputs:
    """The Inputs a verb gets for a command line."""
    found: list[Inputs] = []

    @click.command(cls=FlowCommand)
    @reads_flows
    def verb(inputs: Inputs) -> None:
        found.append(inputs)

    result = CliRunner().invoke(verb, list(args), standalone_mode=False)
    if result.exception:
        raise result.exception
    return found[0]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_defaults() -> None:
    inputs = told()
    assert inputs.server_options().server == "localhost:4245"
    assert inputs.server_options().timeout == 5
    assert inputs.server_options().request_timeout == 12
    assert not inputs.server_options().secure
    assert (inputs.sources, inputs.number, inputs.follow, inputs.whitelist) == ((), 0, False, ())


def test_a_flag_beats_the_environment_which_beats_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home / "xdg" / "hubble" / "config.yaml", "server: file:1\ntimeout: 7s\ntls: true\n")
    assert told().server_options().server == "file:1"
    assert told().server_options().timeout == 7
    assert told().server_options().tls
    monkeypatch.setenv("HUBBLE_SERVER", "environment:2")
    assert told().server_options().server == "environment:2"
    assert told("--server", "flag:3").server_options().server == "flag:3"
    assert told("--server", "flag:3").server_options().timeout == 7


def test_the_first_configuration_file_counts(home: Path) -> None:
    write(home / "home" / ".hubble" / "config.yaml", "server: third:1")
    assert told().server["server"] == "third:1"
    write(home / "xdg" / "hubble" / "config.yaml", "server: second:1")
    assert told().server["server"] == "second:1"
    write(home / "work" / "config.yaml", "server: first:1")
    assert told().server["server"] == "first:1"
    named = write(home / "other.yaml", "server: named:1")
    assert told("--config", str(named)).server["server"] == "named:1"


def test_lists_come_by_comma_repeated_or_from_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = ("--tls-ca-cert-files", "a,b", "--tls-ca-cert-files", "c")
    assert told(*files).server["tls_ca_cert_files"] == ("a", "b", "c")
    monkeypatch.setenv("HUBBLE_TLS_CA_CERT_FILES", "d,e f")
    assert told().server["tls_ca_cert_files"] == ("d", "e f")
    monkeypatch.delenv("HUBBLE_TLS_CA_CERT_FILES")
    write(home / "work" / "config.yaml", "tls-ca-cert-files: [g, h]")
    assert told().server["tls_ca_cert_files"] == ("g", "h")


@pytest.mark.parametrize(
    "text",
    ["a: [", "- a\n- b\n", "just words", "\0", "server: {port: 1}\n", "server: [a, b]\n", "a: b\n---\nkind: Pod\n"],
)
def test_a_file_that_merely_lies_there_does_no_harm(home: Path, text: str) -> None:
    write(home / "work" / "config.yaml", text)
    assert told().server["server"] == "localhost:4245"


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "just words", "\0"])
def test_a_file_that_was_named_has_to_be_one(home: Path, text: str) -> None:
    path = write(home / "named.yaml", text)
    with pytest.raises(UsageError, match=r"named\.yaml"):
        told("--config", str(path))


@pytest.mark.parametrize("text", ["server: {port: 1}\n", "server: [a, b]\n", "tls-ca-cert-files: {a: b}\n"])
def test_a_value_of_the_wrong_shape_is_told_where_the_file_was_named(home: Path, text: str) -> None:
    path = write(home / "named.yaml", text)
    with pytest.raises(UsageError, match=r"named\.yaml: (server|tls-ca-cert-files) cannot be a (mapping|list)"):
        told("--config", str(path))


def test_a_folder_is_no_configuration_file(home: Path) -> None:
    write(home / "folder" / "config.yaml", "server: inside:1")
    with pytest.raises(UsageError, match="is a folder, not a configuration file"):
        told("--config", str(home / "folder"))


def test_a_missing_configuration_file_is_told() -> None:
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        told("--config", "nowhere.yaml")


def test_sources_beat_the_servers_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBLE_SERVER", "relay:80")
    assert told("flows.json").sources == ("flows.json",)
    assert told("--input-file", "a", "b").sources == ("b", "a")
    with pytest.raises(UsageError, match="--server"):
        told("flows.json", "--server", "relay:80")


@pytest.mark.parametrize(
    "args",
    [
        ("--first", "1", "--last", "1"),
        ("--first", "1", "--follow"),
        ("--all", "--last", "1"),
        ("--since", "1h", "--until", "2h"),
        ("--since", "sometime"),
        ("file", "--follow"),
        ("-n", "x", "-A"),
        ("--timeout", "soon"),
        ("--allowlist", "{"),
        ("--not",),
        ("--not", "--not", "--verdict", "DROPPED"),
    ],
)
def test_what_cannot_be_honoured_is_refused(args: tuple[str, ...]) -> None:
    with pytest.raises((AnalyzerError, click.ClickException)):
        told(*args)


def test_counts() -> None:
    assert (told("--last", "5").number, told("--last", "5").first) == (5, False)
    assert (told("--first", "5").number, told("--first", "5").first) == (5, True)
    assert told("--all").number == 0


def test_filters_and_their_negation() -> None:
    inputs = told(
        "-n", "shop", "--not", "--verdict", "DROPPED", "--not", "-l", "app=x", "--allowlist", '{"uuid":["1"]}'
    )
    assert inputs.whitelist == ({"source_pod": ["shop/"]}, {"destination_pod": ["shop/"]}, {"uuid": ["1"]})
    assert inputs.blacklist == (
        {"verdict": ["DROPPED"], "source_label": ["app=x"]},
        {"verdict": ["DROPPED"], "destination_label": ["app=x"]},
    )


def test_lists_of_filters_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUBBLE_DENYLIST", '{"source_pod": ["a/b"]} {"verdict": ["AUDIT"]}')
    assert told().blacklist == ({"source_pod": ["a/b"]}, {"verdict": ["AUDIT"]})


def test_times_are_before_now() -> None:
    import time

    since = told("--since", "1h").since
    assert since is not None
    assert abs(time.time_ns() - 3600 * SECOND - since.time) < 60 * SECOND


def test_credentials_do_not_show() -> None:
    options = told(
        "--server", "tls://x:1", "--basic-auth-username", "u", "--basic-auth-password", "s3cret"
    ).server_options()
    assert "s3cret" not in repr(options)
