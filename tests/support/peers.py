"""Where the published `workflows` and `zocalo` packages are, to be run as child processes and never imported."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

PEERS = Path(os.environ.get("ZOC_PEERS", Path(__file__).parents[2] / ".peers"))


@cache
def peer_python(which: str = "current") -> Path:
    """Return the interpreter that has the published packages; `which` is ``current`` or ``newest``.

    Without it a local run skips and says so; in CI ``current`` must be there, ``newest`` where a Python 3.12 is.
    """
    python = PEERS / which / "bin" / "python"
    if not python.exists():
        why = (
            f"the published workflows and zocalo packages are not installed in {PEERS.name}/{which}: make test does it"
        )
        if os.environ.get("CI") and which == "current":
            pytest.fail(why)
        pytest.skip(why)
    return python


def peer_script(name: str, which: str = "current") -> Path:
    """Return a console script of the published packages, such as ``zocalo.go``."""
    return peer_python(which).parent / name
