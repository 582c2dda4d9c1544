"""zoctools: an open, complete Zocalo.

Authors of services, wrappers and recipes import from here; names are loaded when first used, so that
``import zoctools`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoctools.recipe.recipe import Recipe
    from zoctools.recipe.step import Step
    from zoctools.service.service import Reject, Retry, Service, Unavailable
    from zoctools.wrapper import Wrapper

__version__ = "0.1.0"

__all__ = ["Recipe", "Reject", "Retry", "Service", "Step", "Unavailable", "Wrapper"]

_HOMES = {
    "Recipe": "zoctools.recipe.recipe",
    "Reject": "zoctools.service.service",
    "Retry": "zoctools.service.service",
    "Service": "zoctools.service.service",
    "Step": "zoctools.recipe.step",
    "Unavailable": "zoctools.service.service",
    "Wrapper": "zoctools.wrapper",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'zoctools' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)
