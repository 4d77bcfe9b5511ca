"""The command itself: its verbs, loaded when named; errors as one sentence and the next step; exit codes.

Exit codes: 0 nothing to report, 1 findings, 2 an error the user can act on, 3 an error of ours, 130 after Ctrl-C.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import rich_click as click
from click.exceptions import Exit

from analyzer.errors import AnalyzerError
from analyzer.report.model import visible

__all__ = ["cli", "main"]

# Verb -> module below analyzer.cli, in the order a newcomer meets them. The command object is called `command`.
VERBS = {
    "observe": "observe",
    "graph": "graph",
    "recommend": "recommend",
    "diff": "diff",
    "explain": "explain",
    "drops": "drops",
    "lint": "lint",
    "usage": "usage",
    "replay": "replay",
    "demo": "demo",
}

EXIT_ERROR, EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_PIPE = 2, 3, 130, 141


class Verbs(click.RichGroup):
    """A group whose commands are imported when they are named, and whose failures are told to people, not programmers."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"analyzer.cli.{VERBS[cmd_name]}").command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except AnalyzerError as error:
            tell(error)
            ctx.exit(EXIT_ERROR)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # Whoever read our output has seen enough. Python would complain once more when it flushes on exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(EXIT_PIPE)
        except (click.ClickException, Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            tell_internal(error)
            ctx.exit(EXIT_INTERNAL)
        return result


def tell(error: AnalyzerError) -> None:
    """The error and what to do about it, on stderr. Names in it may come from whoever runs a pod."""
    lines = [f"Error: {error.message}", *([f"Hint: {error.hint}"] if error.hint else [])]
    # The exit code has to tell it, too, where standard error is full or gone.
    with suppress(OSError, ValueError):
        for line in lines:
            click.echo("\n".join(visible(part) for part in line.split("\n")), err=True)


def tell_internal(error: Exception) -> None:
    """What went wrong inside, without the page of frames that only `--debug` shows."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    with suppress(OSError, ValueError):
        click.echo(visible(f"Error: {type(error).__name__} at {where}: {error}"), err=True)
        click.echo(
            "Hint: this is a fault of the analyzer; `hubble-analyzer --debug ...` shows where it happened", err=True
        )


def _version() -> str:
    try:
        return version("hubble-analyzer")
    except PackageNotFoundError:
        return "unknown (not installed)"


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(_version(), "--version", prog_name="hubble-analyzer")
@click.option(
    "-D", "--debug", is_flag=True, envvar="HUBBLE_DEBUG", help="Show the traceback when the analyzer itself fails."
)
def cli(debug: bool) -> None:
    """Reads Hubble's flow logs, shows which service talks to which, and recommends least-privilege network policies.

    Start with `hubble-analyzer demo`: it needs no cluster.
    """


def collect_rarely() -> None:
    """Look for unreachable cycles a hundred times less often than Python does by itself: among millions of edges, rules and
    values of YAML there are hardly any, and looking for them costs a third of the time."""
    gc.set_threshold(100_000, 20, 100)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. As a kubectl plug-in it calls itself what the user typed."""
    collect_rarely()
    called = os.path.basename(sys.argv[0])
    plugin = called.startswith("kubectl-")
    name = called.replace("kubectl-", "kubectl ", 1).replace("_", "-") if plugin else "hubble-analyzer"
    cli.main(args=None if argv is None else list(argv), prog_name=name)
