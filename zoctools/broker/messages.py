"""A message as the broker keeps it, made from a SEND frame, and its ways: shown, held back, dead-lettered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoctools.broker.selector import Lookup, Value
from zoctools.errors import SendRefused
from zoctools.headers import ORIGINAL_DESTINATION, SCHEDULED_DELAY
from zoctools.text import one_line

QUEUE = "/queue/"
TOPIC = "/topic/"
"""What a destination begins with; both are of one length."""
DEFAULT_PRIORITY = 4
_REPEATS = ("AMQ_SCHEDULED_PERIOD", "AMQ_SCHEDULED_REPEAT", "AMQ_SCHEDULED_CRON")
_MAX_MS = 4_102_444_800_000
"""The year 2100: a time beyond it is a mistake."""
_SIZE_OF_A_HEADER = 100
"""Bytes a header line costs us besides its text, roughly."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The content of a SEND frame: where to, all its other headers unescaped, and the body."""

    destination: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """A message in the broker.

    `number` orders messages and names this one; `headers` are what a consumer is shown, all but those of the single
    delivery. `expires` and `due` are epoch seconds: after the first nobody wants it (0: never), before the second
    it is held back (0: it is not).
    """

    number: int
    destination: str
    headers: Mapping[str, str]
    body: bytes
    priority: int
    persistent: bool
    expires: float
    due: float

    @classmethod
    def of(cls, number: int, headers: Mapping[str, str], body: bytes, due: float = 0.0) -> Message:
        """The message with these complete headers, as `accepted` made them or a store kept them."""
        return cls(
            number,
            headers["destination"],
            headers,
            body,
            int(headers["priority"]),
            headers.get("persistent") == "true",
            int(headers["expires"]) / 1000,
            due,
        )

    @property
    def size(self) -> int:
        """Bytes it takes up, roughly."""
        return len(self.body) + sum(len(name) + len(value) + _SIZE_OF_A_HEADER for name, value in self.headers.items())

    @property
    def name(self) -> str:
        """The name of its queue or topic."""
        return self.destination[len(QUEUE) :]

    def lookup(self, deliveries: int) -> Lookup:
        """How a selector reads this message; `deliveries` counts those to consumers that went away."""

        def value(name: str) -> Value:
            match name:
                case "JMSXDeliveryCount":
                    return deliveries + 1
                case "JMSPriority":
                    return self.priority
                case "JMSTimestamp":
                    return int(self.headers["timestamp"])
                case "JMSExpiration":
                    return int(self.headers["expires"])
                case "JMSMessageID":
                    return self.headers["message-id"]
                case "JMSDeliveryMode":
                    return "PERSISTENT" if self.persistent else "NON_PERSISTENT"
            return self.headers.get(name)

        return value


def accepted(sent: Sent, number: int, broker: str, now: float, scheduler: bool) -> Message:
    """Return what a broker named `broker` makes of a SEND to one destination; raises `SendRefused` when it cannot."""
    headers = dict(sent.headers)
    due = 0.0
    if scheduler:
        due = _release_time(headers, now)
    headers["destination"] = sent.destination
    headers["message-id"] = f"ID:{broker}:{number}"
    headers["timestamp"] = str(int(now * 1000))
    headers["content-length"] = str(len(sent.body))
    headers["expires"] = str(_whole_number(headers, "expires", 0))
    headers["priority"] = str(min(_whole_number(headers, "priority", DEFAULT_PRIORITY), 9))
    if headers.get("persistent") != "true":
        headers.pop("persistent", None)
    return Message.of(number, headers, sent.body, due)


def _release_time(headers: dict[str, str], now: float) -> float:
    for name in _REPEATS:
        if name in headers:
            raise SendRefused(f"{name}: this broker does not repeat messages")
    delay = _whole_number(headers, SCHEDULED_DELAY, 0)
    headers.pop(SCHEDULED_DELAY, None)
    return now + delay / 1000 if delay else 0.0


def _whole_number(headers: Mapping[str, str], name: str, default: int) -> int:
    text = headers.get(name)
    if text is None:
        return default
    if len(text) > 15 or not (text.isascii() and text.isdecimal()) or int(text) > _MAX_MS:
        raise SendRefused(f"{name}: not a number this broker takes: {one_line(text, 40)!r}")
    return int(text)


def released(message: Message, number: int, now: float) -> Message:
    """Return a message whose time has come, as ActiveMQ's scheduler sends it: its life begins now."""
    headers = dict(message.headers)
    sent_at = int(headers["timestamp"])
    expires = int(headers["expires"])
    headers["timestamp"] = str(int(now * 1000))
    if expires:
        headers["expires"] = str(expires + int(now * 1000) - sent_at)
    headers["scheduledJobId"] = message.headers["message-id"]
    return Message.of(number, headers, message.body)


def dead_letter(message: Message, number: int, cause: str = "") -> Message:
    """Return what the broker puts into the dead letter queue for `message`, headers as ActiveMQ writes them."""
    headers = dict(message.headers)
    headers[ORIGINAL_DESTINATION] = message.destination
    headers["originalExpiration"] = headers["expires"]
    headers["expires"] = "0"
    if cause:
        headers["dlqDeliveryFailureCause"] = cause
    headers["destination"] = f"{QUEUE}DLQ.{message.name}"
    return Message.of(number, headers, message.body)
