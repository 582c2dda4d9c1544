"""Connections and their consumers, as the broker sees them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoctools.broker import names
from zoctools.broker.lanes import Entry
from zoctools.broker.messages import TOPIC, Message
from zoctools.broker.selector import Selector, parse

if TYPE_CHECKING:
    from zoctools.broker.destinations import Queue

KEPT_MESSAGES = 10_000
KEPT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a SUBSCRIBE frame asks for; `id` is the client's name for it, `prefetch` bounds its unsettled messages."""

    id: str
    destination: str
    acknowledge: bool = True
    prefetch: int = 1
    exclusive: bool = False
    priority: int = 0
    selector: str = ""
    retroactive: bool = False


class Kept:
    """The newest messages of something, at most `KEPT_MESSAGES` of `KEPT_BYTES` in all."""

    __slots__ = ("messages", "size")

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.size = 0

    def add(self, message: Message) -> None:
        """Keep a message, and let go of the oldest beyond the bounds."""
        self.messages.append(message)
        self.size += message.size
        while len(self.messages) > KEPT_MESSAGES or self.size > KEPT_BYTES:
            self.pop()

    def pop(self) -> Message:
        """Take the oldest out."""
        message = self.messages.popleft()
        self.size -= message.size
        return message

    def drop_expired(self, now: float) -> None:
        """Let go of the oldest as long as they are expired."""
        while self.messages and 0 < self.messages[0].expires <= now:
            self.pop()


class Consumer:
    """One open subscription. `unsettled` holds what it was handed and has not acknowledged, in order, by tag."""

    __slots__ = (
        "acknowledge",
        "backlog",
        "connection",
        "destinations",
        "exclusive",
        "id",
        "order",
        "prefetch",
        "priority",
        "queues",
        "retroactive",
        "selector",
        "unsettled",
    )

    def __init__(self, connection: Connection, wanted: Wanted, order: int) -> None:
        self.connection = connection
        self.id = wanted.id
        self.destinations = names.split(wanted.destination)
        self.acknowledge = wanted.acknowledge and not self.of_topics
        self.prefetch = max(1, wanted.prefetch)
        self.exclusive = wanted.exclusive
        self.priority = min(max(wanted.priority, -128), 127)
        self.selector: Selector | None = parse(wanted.selector) if wanted.selector.strip() else None
        self.retroactive = wanted.retroactive
        self.order = order
        self.queues: list[Queue] = []
        self.unsettled: dict[int, tuple[Queue, Entry]] = {}
        self.backlog = Kept()

    @property
    def of_topics(self) -> bool:
        """Whether it consumes topics, not queues."""
        return self.destinations[0].startswith(TOPIC)

    @property
    def has_room(self) -> bool:
        """Whether it may be handed another message now."""
        return not self.connection.paused and (not self.acknowledge or len(self.unsettled) < self.prefetch)

    @property
    def lane(self) -> str:
        """What it shares with the consumers that want the same messages."""
        return self.selector.text if self.selector else ""

    def wants(self, destination: str) -> bool:
        """Whether it consumes this single queue or topic."""
        return any(names.matches(pattern, destination) for pattern in self.destinations)


class Connection:
    """One client. While `paused`, it is handed nothing."""

    __slots__ = ("consumers", "number", "paused")

    def __init__(self, number: int) -> None:
        self.number = number
        self.paused = False
        self.consumers: dict[str, Consumer] = {}
