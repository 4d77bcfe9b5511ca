"""What holds for all tests: gRPC is set up by the analyzer before any test imports it, and in CI no example is drawn by chance."""

import os

from hypothesis import settings

import analyzer.sources.server  # noqa: F401

# By oneself one wants new examples with every run; a change should not fail for what was wrong before it.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
