"""Names of queues and topics: composite ones, and wildcards as ActiveMQ reads them."""

from __future__ import annotations

import re
from functools import lru_cache

from zoctools.broker.messages import QUEUE, TOPIC
from zoctools.errors import SendRefused
from zoctools.text import one_line

MAX_NAME = 4_000
MAX_PARTS = 100


@lru_cache(maxsize=1024)
def split(destination: str) -> tuple[str, ...]:
    """Return the single destinations of a composite one: ``/queue/a,b`` is ``/queue/a`` and ``/queue/b``.

    Raises `SendRefused` for what is neither queue nor topic, or holds line breaks or NUL.
    """
    kind = next((prefix for prefix in (QUEUE, TOPIC) if destination.startswith(prefix)), "")
    names = [part.strip() for part in destination[len(kind) :].split(",")]
    unusable = any(not name or any(character in name for character in "\n\r\0") for name in names)
    if not kind or unusable or len(destination) > MAX_NAME or len(names) > MAX_PARTS:
        raise SendRefused(f"not a destination: {one_line(destination, 100)!r}")
    return tuple(dict.fromkeys(kind + name for name in names))


@lru_cache(maxsize=1024)
def is_wildcard(destination: str) -> bool:
    """Whether ``/queue/NAME`` stands for many: it has a level that is ``*`` (any one) or ``>`` (all the rest)."""
    return any(level in ("*", ">") for level in destination[len(QUEUE) :].split("."))


def matches(pattern: str, destination: str) -> bool:
    """Whether `destination` is among those `pattern` stands for; ``a.>`` stands for ``a`` too, as in ActiveMQ."""
    if pattern == destination:
        return True
    prefix = len(QUEUE)
    same_kind = pattern[:prefix] == destination[:prefix]
    return (
        same_kind and is_wildcard(pattern) and _expression(pattern[prefix:]).fullmatch(destination, prefix) is not None
    )


@lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    text = ""
    for level in pattern.split("."):
        if level == ">":
            text += r"(?:\..*)?" if text else ".*"
            break
        text += (r"\." if text else "") + ("[^.]*" if level == "*" else re.escape(level))
    return re.compile(text, re.DOTALL)
