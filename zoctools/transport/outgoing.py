"""The header lines of a message about to be sent, the same for every transport; what must not be sent is refused."""

from __future__ import annotations

import math

from zoctools.errors import Unsendable
from zoctools.headers import SCHEDULED_DELAY, Life, check, life
from zoctools.text import one_line
from zoctools.transport.contract import MAX_BODY, Kind, Outgoing

_KEPT_OF_FRAME = frozenset({"reply-to"})
_MAX_SECONDS = 30 * 366 * 86400
"""Thirty years: longer times are mistakes, and brokers refuse them."""


def frame_headers(message: Outgoing, now: float) -> dict[str, str]:
    """Return what stands on the SEND frame of `message`, all but ``content-length``; `now` is epoch seconds.

    Headers that belong to one frame alone (``receipt``, ``transaction``, ``message-id``, ...) are dropped: an old
    message sent again must not command the broker. An ``expires`` among the sender's headers stands unless
    `expires_in` replaces it. Raises `Unsendable` for a body, destination, time or header no broker would carry
    unharmed.
    """
    if len(message.body) > MAX_BODY:
        raise Unsendable(
            f"a message of {len(message.body)} bytes for {one_line(message.destination, 200)} is too large to send",
            f"the limit is {MAX_BODY} bytes; write it to a file and send its name",
        )
    lines = {"destination": _destination(message)}
    for name, value in message.headers.items():
        if life(name) is Life.FRAME and name not in _KEPT_OF_FRAME:
            continue
        lines[name] = _checked(name, value)
    lines.pop("persistent", None)
    if message.persistent and message.destination.kind is Kind.QUEUE:
        lines["persistent"] = "true"
    if message.expires_in is not None:
        lines["expires"] = str(int((now + _seconds("expires_in", message.expires_in)) * 1000))
    for name in ("expires", "priority"):
        if name in lines and not (lines[name].isascii() and lines[name].isdecimal()):
            raise Unsendable(f"header {name!r} is not a number: {one_line(lines[name], 60)!r}")
    if _seconds("delay", message.delay) > 0:
        lines[SCHEDULED_DELAY] = str(max(1, round(message.delay * 1000)))
    return lines


def _destination(message: Outgoing) -> str:
    name = message.destination.name
    if not name or any(character in name for character in "\n\r\0"):
        raise Unsendable(f"not the name of a queue or topic: {one_line(name, 60)!r}")
    if "," in name:
        raise Unsendable(
            f"a comma in the name {one_line(name, 60)!r} makes it two queues on ActiveMQ",
            "the second would be outside of the namespace; send to each by its own name",
        )
    return _checked("destination", str(message.destination))


def _checked(name: str, value: str) -> str:
    if not isinstance(name, str) or not isinstance(value, str):
        raise Unsendable(f"header {one_line(name, 60)!r} is not text", "headers are strings")
    check(name, value)
    return value


def _seconds(what: str, value: float) -> float:
    if not math.isfinite(value) or abs(value) > _MAX_SECONDS:
        raise Unsendable(f"{what} is not a time: {value}")
    return value
