"""What tests of commands share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the configuration of whoever runs the tests."""
    for name in ("ZOCALO_CONFIG", "ZOCALO_DEFAULT_ENV", "ZOC_READONLY", "ZOC_DEBUG", "ZOC_STOMP_PASSWORD", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "no-state"))
