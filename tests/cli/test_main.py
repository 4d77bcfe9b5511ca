"""The command itself: quick help, clear errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import rich_click as click
from click.testing import CliRunner

from analyzer.cli import main
from analyzer.demo.lines import lines
from analyzer.errors import ConnectionFailed

SLOW = ("pandas", "networkx", "grpc", "google.protobuf", "sqlalchemy", "yaml", "msgspec")


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("args", [["--help"], ["--version"], *([verb, "--help"] for verb in main.VERBS)])
def test_help_is_quick_because_it_imports_little(args: list[str]) -> None:
    done = python(
        f"import sys\nfrom analyzer.cli.main import cli\n"
        f"try: cli({args!r}, prog_name='hubble-analyzer')\nexcept SystemExit as exit: assert exit.code == 0, exit.code\n"
        f"print([name for name in {SLOW!r} if name in sys.modules], file=sys.stderr)"
    )
    assert done.stderr.strip() == "[]", done.stderr
    assert "hubble-analyzer" in done.stdout


@pytest.mark.parametrize("verb", ["graph", "recommend"])
def test_a_command_on_a_file_loads_neither_database_nor_network(verb: str, tmp_path: Path) -> None:
    path = tmp_path / "flows.jsonl"
    path.write_bytes(b"".join(lines(1, 300, edges=50)))
    done = python(
        f"import sys\nfrom analyzer.cli.main import cli\n"
        f"try: cli([{verb!r}, {str(path)!r}])\nexcept SystemExit as exit: assert exit.code == 0, exit.code\n"
        f"print([name for name in ('pandas', 'grpc', 'sqlalchemy', 'kr8s') if name in sys.modules])"
    )
    assert done.stdout.endswith("[]\n"), done.stdout[-200:] + done.stderr


def test_every_verb_is_listed_and_explained() -> None:
    text = CliRunner().invoke(main.cli, ["--help"]).output
    for verb in main.VERBS:
        assert verb in text


def test_the_module_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "analyzer", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hubble-analyzer, version ")


def test_as_a_kubectl_plugin_it_is_called_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/kubectl-hubble_analyzer", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert "kubectl hubble-analyzer" in capsys.readouterr().out


def _failing(error: BaseException, monkeypatch: pytest.MonkeyPatch, *flags: str) -> tuple[int, str]:
    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.Verbs, "get_command", lambda self, ctx, name: fail)
    result = CliRunner().invoke(main.cli, [*flags, "fail"])
    return result.exit_code, result.stderr


def test_an_error_is_a_sentence_and_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = _failing(ConnectionFailed("nothing listens on \x1b[31mx", hint="check --server"), monkeypatch)
    assert (code, text) == (2, "Error: nothing listens on \\x1b[31mx\nHint: check --server\n")


def test_our_own_faults_are_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = _failing(KeyError("a\x07"), monkeypatch)
    assert code == 3
    assert "KeyError" in text
    assert "--debug" in text
    assert "Traceback" not in text
    assert "\x07" not in text


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    error = KeyError("x")

    @click.command("fail")
    def fail() -> None:
        raise error

    monkeypatch.setattr(main.Verbs, "get_command", lambda self, ctx, name: fail)
    assert CliRunner().invoke(main.cli, ["--debug", "fail"]).exception is error


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _failing(KeyboardInterrupt(), monkeypatch)[0] == 130


def test_an_unknown_verb_is_a_usage_error() -> None:
    result = CliRunner().invoke(main.cli, ["obserf"])
    assert result.exit_code == 2
    assert "obserf" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "analyzer", "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0


def test_a_closed_pipe_is_quiet() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "analyzer", "--help"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
