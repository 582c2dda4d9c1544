"""Names of queues and topics: composite ones, and wildcards as ActiveMQ reads them."""

from __future__ import annotations

import re
from functools import lru_cache

from zoctools.broker.messages import QUEUE, TOPIC
from zoctools.errors import SendRefused
from zoctools.text import one_line

MAX_NAME = 4_000
MAX_PARTS = 100


def split(destination: str) -> list[str]:
    """Return the single destinations of a composite one: ``/queue/a,b`` is ``/queue/a`` and ``/queue/b``.

    Raises `SendRefused` for what is neither queue nor topic, or holds line breaks or NUL.
    """
    kind = next((prefix for prefix in (QUEUE, TOPIC) if destination.startswith(prefix)), "")
    names = [part.strip() for part in destination[len(kind) :].split(",")]
    unusable = any(not name or any(character in name for character in "\n\r\0") for name in names)
    if not kind or unusable or len(destination) > MAX_NAME or len(names) > MAX_PARTS:
        raise SendRefused(f"not a destination: {one_line(destination, 100)!r}")
    return list(dict.fromkeys(kind + name for name in names))


def is_wildcard(name: str) -> bool:
    """Whether a name stands for many: a level that is ``*`` (any one) or ``>`` (all the rest)."""
    return any(level in ("*", ">") for level in name.split("."))


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is among those `pattern` stands for; ``a.>`` stands for ``a`` too, as ActiveMQ has it."""
    return pattern == name or (is_wildcard(pattern) and _expression(pattern).fullmatch(name) is not None)


@lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    text = ""
    for level in pattern.split("."):
        if level == ">":
            text += r"(?:\..*)?" if text else ".*"
            break
        text += (r"\." if text else "") + ("[^.]*" if level == "*" else re.escape(level))
    return re.compile(text, re.DOTALL)
