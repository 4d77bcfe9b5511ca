"""A real Observer gRPC server over recorded or generated flows: for demos, tests, and looking at a file with other tools."""

from __future__ import annotations

from analyzer.replay.recording import Recording
from analyzer.replay.server import ReplayServer, ServerTls

__all__ = ["Recording", "ReplayServer", "ServerTls"]
