"""What holds for all tests: gRPC is set up by the analyzer, before any test imports it."""

import analyzer.sources.server  # noqa: F401
