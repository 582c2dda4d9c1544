"""The two copies a message can be turned into: one sent back to its queue, and one that is a dead letter.

Both are made of raw headers and bytes; nothing is decoded. The dead letter's form is that of ActiveMQ's individual
dead letter queues, so that the existing tools read and reinject it, with the cause in further headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from zoctools import headers, text
from zoctools.errors import Unsendable
from zoctools.transport.contract import Delivery, Outgoing

MAX_DEATHS = 5
STEP_ASIDE = 0.2
"""Seconds for which a message we hand back stays out of its queue: else the broker would hand it to us again before it
closes our subscription, and mark it for that."""
MAX_DELAY_MS = 100 * 366 * 86_400_000
_COUNTER_DIGITS = 9
_NUMBERS = ("expires", "priority")
_ESCAPED = "\\\n\r:"
_LIMITS = {
    "zoc_error": 2000,
    "zoc_error_class": 200,
    "zoc_service": 200,
    "zoc_host": 300,
    "zoc_recipe_ID": 200,
    "zoc_node": 100,
    "zoc_failed_at": 50,
    "zoc_traceback": 4000,
}
"""Bytes of each header, escaped: under 4 kB each and 16 kB in all, whatever the message and the error held."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message became a dead letter: one line, the class of the error or the gate's reason, a traceback."""

    error: str
    error_class: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happened; `host` as in the status broadcast."""

    service: str
    host: str
    recipe_ID: str = ""
    node: str = ""


def counter(delivery: Delivery, name: str) -> int:
    """Return a counter of a message; 0 when it has none, or nonsense in its place."""
    value = delivery.headers.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= _COUNTER_DIGITS else 0


def instant(delivery: Delivery, name: str) -> float:
    """Return a header that holds an epoch time in seconds; 0 when it has none, or nonsense in its place."""
    return _number(delivery, name, 1e11)


def waited(delivery: Delivery, now: float) -> float | None:
    """Return the seconds since a message was last put into a queue, by the stamps of sender and broker."""
    stamps = (_number(delivery, "timestamp", 1e14) / 1000, instant(delivery, headers.SENT_AT))
    return max(now - max(stamps), 0.0) if any(stamps) else None


def due(delivery: Delivery, now: float) -> float:
    """Return the epoch time before which a message is not to be handled; `now` unless its delay still stands on it.

    That it does proves that the broker has no scheduler. The delay counts from when the broker took the message.
    """
    delay = _number(delivery, headers.SCHEDULED_DELAY, MAX_DELAY_MS) / 1000
    if not delay:
        return now
    taken = _number(delivery, "timestamp", 1e14) / 1000 or now
    return min(max(taken + delay, now), now + delay)


def _number(delivery: Delivery, name: str, most: float) -> float:
    try:
        value = float(delivery.headers.get(name, ""))
    except ValueError:
        return 0.0
    return value if 0 < value <= most else 0.0


def copy(delivery: Delivery, counters: Mapping[str, str] | None = None, delay: float = 0.0) -> Outgoing:
    """Return an unchanged copy for the queue the message came from, `counters` replaced, held back by `delay` s.

    It keeps its persistence, its priority, and the time at which it expires.
    """
    kept = headers.for_copy(delivery.headers) | dict(counters or {})
    persistent = kept.pop("persistent", "") == "true"
    return Outgoing(delivery.destination, delivery.body, sendable(kept), delay, persistent=persistent)


def dead_letter(
    delivery: Delivery, cause: Cause, place: Place, now: float, counters: Mapping[str, str] | None = None
) -> Outgoing:
    """Return the dead letter of a message: identical bytes, for ``DLQ.<its queue>``, the cause in headers."""
    kept = headers.for_letter({**delivery.headers, **(counters or {})})
    kept[headers.ORIGINAL_DESTINATION] = str(delivery.destination)
    said = {
        "zoc_error": text.one_line(cause.error),
        "zoc_error_class": text.one_line(cause.error_class),
        "zoc_service": text.one_line(place.service),
        "zoc_host": text.one_line(place.host),
        "zoc_recipe_ID": text.one_line(place.recipe_ID),
        "zoc_node": text.one_line(place.node),
        "zoc_failed_at": datetime.fromtimestamp(now).astimezone().isoformat(timespec="seconds"),
    }
    kept |= {name: head(value, _LIMITS[name]) for name, value in said.items() if value}
    if cause.traceback:
        kept["zoc_traceback"] = tail(text.clean(cause.traceback), _LIMITS["zoc_traceback"])
    return Outgoing(delivery.destination.dead_letters, delivery.body, sendable(kept))


def sendable(kept: Mapping[str, str]) -> dict[str, str]:
    """Return what of these headers a broker carries unharmed: one that cannot be sent must not keep a message."""
    good = {}
    for name, value in kept.items():
        if name in _NUMBERS and not (value.isascii() and value.isdecimal()):
            continue
        try:
            headers.check(name, value)
        except Unsendable:
            continue
        good[name] = value
    return good


def head(value: str, limit: int) -> str:
    """Return the beginning of `value` that takes at most `limit` bytes on the wire."""
    used = 0
    for position, character in enumerate(value):
        used += _wire_size(character)
        if used > limit:
            return value[:position]
    return value


def tail(value: str, limit: int) -> str:
    """Return the end of `value` that takes at most `limit` bytes on the wire."""
    used = 0
    for position in range(len(value) - 1, -1, -1):
        used += _wire_size(value[position])
        if used > limit:
            return value[position + 1 :]
    return value


def _wire_size(character: str) -> int:
    return 2 if character in _ESCAPED else len(character.encode("utf-8", "surrogatepass"))
