"""Where commands run in tests: an empty folder and home, without the user's settings, and with tracebacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HUBBLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HUBBLE_DEBUG", "true")
    monkeypatch.chdir(tmp_path)
