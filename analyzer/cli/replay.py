"""``replay``: a Hubble server over recorded flows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from analyzer.errors import SourceError, UsageError

if TYPE_CHECKING:
    from analyzer.replay import Recording, ServerTls

__all__ = ["command"]

SERVING, TLS = "Serving", "TLS"
FILE = click.Path(path_type=Path)


@click.command("replay", short_help="Serve recorded flows as a Hubble server.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--addr", default="localhost:4245", show_default=True, metavar="ADDRESS", panel=SERVING,
    help="Where to listen: host:port (port 0 is any that is free) or unix:///path.",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", panel=SERVING,
    help="Flows per second and client.  [default: as fast as they can]",
)  # fmt: skip
@click.option(
    "--loop", is_flag=True, panel=SERVING, help="To clients that follow, start over at the end, at later times."
)
@click.option("--tls-cert-file", type=FILE, metavar="FILE", panel=TLS, help="Serve TLS with this certificate.")
@click.option("--tls-key-file", type=FILE, metavar="FILE", panel=TLS, help="The certificate's private key.")
@click.option(
    "--tls-client-ca-file", type=FILE, metavar="FILE", panel=TLS,
    help="Let in only clients with a certificate that this authority signed (mutual TLS).",
)  # fmt: skip
def command(
    files: tuple[str, ...],
    addr: str,
    rate: float | None,
    loop: bool,
    tls_cert_file: Path | None,
    tls_key_file: Path | None,
    tls_client_ca_file: Path | None,
) -> None:
    """Serve the flows in FILES over Hubble's own API, for `hubble observe`, Hubble's UI, or this tool. Ctrl-C ends it.

    A FILE is a file of Hubble's exporter or of `hubble observe -o jsonpb` (also gzip or zstd), a folder of such files, or `-`.
    """
    from analyzer.cli.interrupt import Interruptible
    from analyzer.cli.output import finish
    from analyzer.cli.progress import note
    from analyzer.replay import Recording, ReplayServer

    tls = _tls(tls_cert_file, tls_key_file, tls_client_ca_file)
    recording = Recording(_lines(files))
    if not recording.messages:
        raise UsageError(
            f"{', '.join(files)}: no flows in there", hint="name files of JSON lines, as Hubble writes them"
        )
    stopped = threading.Event()
    with Interruptible(stopped.set) as interruptible, ReplayServer(recording, addr, rate, loop, tls) as server:
        note(_words(recording, server.address, tls))
        while not stopped.wait(0.5):
            pass
    finish(interruptible.interrupted)


def _words(recording: Recording, address: str, tls: ServerTls | None) -> str:
    target = f"tls://{address}" if tls else address
    skipped = f" ({recording.skipped:,} lines were no records)" if recording.skipped else ""
    return (
        f"Serving {len(recording):,} records{skipped} at {target}. Ctrl-C ends it. Try:\n"
        f"  hubble observe --server {target} --all\n"
        f"  hubble-analyzer graph --server {target}"
    )


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ServerTls | None:
    """Raises UsageError when the files do not make a whole."""
    from analyzer.replay import ServerTls

    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        raise UsageError("TLS needs a certificate and its private key", hint="give --tls-cert-file and --tls-key-file")
    return ServerTls(certificate, key, client_ca)


def _lines(files: tuple[str, ...]) -> Iterator[bytes]:
    """The lines of all files, decompressed. Raises SourceError."""
    from analyzer.sources.content import Lines, open_content
    from analyzer.sources.jsonpb import files_in

    for name in files:
        for path in files_in(Path(name)) if name != "-" and Path(name).is_dir() else [name]:
            with open_content(path) as content:
                for block in Lines(content).blocks():
                    yield from (line for line in block.data.split(b"\n") if line.strip())
                    if block.error:
                        raise SourceError(f"{path}: {block.error}")
