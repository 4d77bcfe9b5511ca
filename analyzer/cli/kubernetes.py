"""What comes from the Kubernetes API: the word `cluster` where manifests are named, and -P, the port-forward to Relay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analyzer.cli.progress import note
from analyzer.errors import ManifestError, SourceError
from analyzer.sources.base import nothing_read_before

if TYPE_CHECKING:
    from analyzer.cluster import ClusterOptions, Resource
    from analyzer.manifests import Document
    from analyzer.sources.base import Batch, FlowSource, History
    from analyzer.sources.relay import Query
    from analyzer.sources.server import ServerOptions

__all__ = ["ABOUT", "CLUSTER", "Forwarded", "load_documents"]

CLUSTER = "cluster"
"""A path of this name is the cluster itself; a file or folder of that name is written ``./cluster``."""


ABOUT = ("apiVersion",)
"""What a Kubernetes document contains: what lies beside it in a folder and cannot be read is nothing to complain about."""


def load_documents(
    paths: Iterable[str],
    cluster: ClusterOptions,
    resources: Sequence[Resource],
    on_error: Callable[[ManifestError], None] | None = None,
    *,
    lines: bool = False,
    about: Sequence[str] = ABOUT,
    on_other: Callable[[str], None] | None = None,
) -> Iterator[Document]:
    """Documents of files and folders as `analyzer.manifests.load` reads them, and those `resources` of the cluster itself.

    `about` as in `load`. Raises UsageError, SourceError; ManifestError as `load` does.
    """
    from analyzer.cluster import fetch
    from analyzer.manifests import Document, load

    for path in paths:
        if path != CLUSTER:
            yield from load([path], on_error=on_error, lines=lines, about=about, on_other=on_other)
            continue
        found = fetch(cluster, resources)
        if found.unknown:
            note(f"The cluster has, or shows you, no {', '.join(found.unknown)}.")
        for index, data in enumerate(found.documents):
            yield Document(data, CLUSTER, index)


class Forwarded:
    """A Hubble server behind a port-forward, which is set up when reading begins and taken down when it ends."""

    def __init__(self, cluster: ClusterOptions, local_port: int, options: ServerOptions, query: Query) -> None:
        self._cluster, self._local_port, self._options, self._query = cluster, local_port, options, query
        self._source: FlowSource | None = None
        self._closed = False

    @property
    def name(self) -> str:
        return f"hubble-relay in {self._cluster.namespace}"

    def batches(self, history: History = nothing_read_before) -> Iterator[Batch]:
        """As the server's own source. Raises SourceError, UsageError."""
        from analyzer.cluster import port_forward
        from analyzer.sources.relay import RelaySource

        try:
            with port_forward(
                self._cluster, local_port=self._local_port, news=note, stopped=lambda: self._closed
            ) as address:
                tls = "tls://" if self._options.secure else ""
                self._source = RelaySource(replace(self._options, server=f"{tls}{address}"), self._query, news=note)
                if not self._closed:
                    yield from self._source.batches(history)
        except SourceError:
            # Closed before it began: that is no failure.
            if self._source is not None or not self._closed:
                raise

    def close(self) -> None:
        self._closed = True
        if self._source is not None:
            self._source.close()
