"""The exceptions of the analyzer.

    AnalyzerError                 everything a user can be told; never a traceback
    ├── UsageError                a flag or an argument that cannot be honoured
    ├── SourceError               flows could not be read from where they were said to be
    │   └── ConnectionFailed      a Hubble server could not be reached, or the stream broke
    ├── StoreError                a store is missing, is no store, or cannot be written
    │   └── StoreUnavailable      the database failed, perhaps only for now: full, locked, gone
    ├── ManifestError             a Kubernetes document could not be read
    ├── PolicyError               a policy that Cilium would refuse
    └── OutputError               results could not be written

Every message says what was wrong, where, and the next step. A bad *record* never raises: it is counted.
"""

from __future__ import annotations

__all__ = [
    "AnalyzerError",
    "ConnectionFailed",
    "ManifestError",
    "OutputError",
    "PolicyError",
    "SourceError",
    "StoreError",
    "StoreUnavailable",
    "UsageError",
]


class AnalyzerError(Exception):
    """Base of all errors that are shown to the user as one sentence and, if known, the next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AnalyzerError):
    """A combination of flags or arguments that cannot be honoured."""


class SourceError(AnalyzerError):
    """Flows could not be read."""


class ConnectionFailed(SourceError):
    """A Hubble server could not be reached, refused us, or the stream broke for good."""


class StoreError(AnalyzerError):
    """The store does not exist, is something else, or cannot be read or written."""


class StoreUnavailable(StoreError):
    """The database under a store failed: the same may work later. Whether it did what it was asked to is unknown."""


class ManifestError(AnalyzerError):
    """A Kubernetes document could not be read; `where` names file, document and line as far as known."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.where = where


class PolicyError(AnalyzerError):
    """A policy object that the CRD schema or the Cilium agent refuses.

    `field` is a dotted path such as ``spec.ingress[0].toPorts[0].ports[0].port``; `refused_by` is ``"crd"`` or ``"agent"``.
    """

    def __init__(self, message: str, *, field: str = "", refused_by: str = "agent") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field
        self.refused_by = refused_by


class OutputError(AnalyzerError):
    """Results could not be written."""
