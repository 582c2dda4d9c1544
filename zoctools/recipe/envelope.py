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


_ENCODER = json.JSONEncoder(default=_plain)
_DECODER = json.JSONDecoder()
_key = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*').match
_skip_space = re.compile(r"[ \t\n\r]*").match
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


def read_object(text: str, read_value: Callable[[str, int], tuple[Any, int]]) -> dict[str, Any]:
    """Return the JSON object `text` holds, each value read by ``read_value(key, position) -> (value, its end)``.

    Only for objects written in the ordinary way: raises a bare `ValueError` for anything else, JSON or not, and
    `from_text` then says what it is.
    """
    values: dict[str, Any] = {}
    position = 0
    separator = "{" if text.startswith("{") else ""
    while separator in ("{", ","):
        key = _key(text, position + 1)
        if key is None:
            raise ValueError("not written in the ordinary way")
        values[key[1]], position = read_value(key[1], key.end())
        position = _skip_space(text, position).end()  # type: ignore[union-attr]
        separator = text[position : position + 1]
    if separator != "}" or text[position + 1 :].strip(" \t\n\r"):
        raise ValueError("not written in the ordinary way")
    return values


def value_at(text: str, position: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `position`, and where it ends; raises `ValueError`."""
    try:
        return _DECODER.raw_decode(text, position)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
