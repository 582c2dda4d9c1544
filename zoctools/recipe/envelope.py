"""JSON as it stands on the wire: read and written exactly as the existing world does.

That is the standard library's JSON: ``NaN`` and ``Infinity`` are read and written, integers have any size, text
is ASCII-escaped, separators are ``", "`` and ``": "``, a `Decimal` becomes a float.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any


class BadMessage(Exception):
    """A message that no handler may see.

    `reason` is a name for programs (``not-json``, ``not-utf-8``, ``bad-envelope``, ...), `why` a sentence for people.
    """

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(f"{reason}: {why}")
        self.reason = reason
        self.why = why


def _plain(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent as JSON")


# A value inside itself ends as one that is nested too deep, so nothing need be remembered on the way.
_ENCODER = json.JSONEncoder(default=_plain, check_circular=False)
_DECODER = json.JSONDecoder()
_scan = _DECODER.scan_once  # type: ignore[attr-defined]
_SPACE = r"[ \t\n\r]*"
_KEY = rf'{_SPACE}"([^"\\\x00-\x1f]*)"{_SPACE}:{_SPACE}'
_first_key = re.compile(rf"{_SPACE}\{{{_KEY}").match
_next_key = re.compile(rf"{_SPACE},{_KEY}").match
_end = re.compile(rf"{_SPACE}\}}{_SPACE}\Z").match
TOO_DEEP = "nested too deep"


def to_text(value: Any) -> str:
    """Return `value` as JSON text; raises `TypeError` or `ValueError` for what JSON cannot hold."""
    try:
        return _ENCODER.encode(value)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def from_text(text: str) -> Any:
    """Return the value of JSON text; raises `ValueError`, its message naming line and column where it can."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def encode(value: Any) -> bytes:
    """Return `value` as a message body; raises `TypeError` or `ValueError` for what JSON cannot hold."""
    return to_text(value).encode("ascii")


def to_unicode(body: bytes) -> str:
    """Return a message body as text; raises `BadMessage` (not-utf-8)."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadMessage("not-utf-8", f"byte {error.start} of the body is not UTF-8") from None


def decode(body: bytes) -> Any:
    """Return the value of a message body; raises `BadMessage` (not-utf-8, not-json)."""
    text = to_unicode(body)
    try:
        return from_text(text)
    except ValueError as error:
        raise BadMessage("not-json", f"the body is not JSON: {error}") from None


def read_object(text: str, special: str, read: Callable[[int], tuple[Any, int]]) -> dict[str, Any]:
    """Return the JSON object `text` holds; the value of the key `special` is what ``read(position)`` makes of it.

    `read` returns a value and where its text ends. Only for objects written in the ordinary way: raises a bare
    `ValueError` for anything else, JSON or not, and `from_text` then says what it is.
    """
    values: dict[str, Any] = {}
    key = _first_key(text)
    position = 0
    while key is not None:
        name, position = key[1], key.end()
        values[name], position = read(position) if name == special else value_at(text, position)
        key = _next_key(text, position)
    if not values or _end(text, position) is None:
        raise ValueError("not written in the ordinary way")
    return values


def value_at(text: str, position: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `position`, and where it ends; raises `ValueError`."""
    try:
        return _scan(text, position)
    except (StopIteration, RecursionError):
        raise ValueError("not a value, or nested too deep") from None
