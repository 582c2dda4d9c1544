"""All topics: who listens to which, and what each keeps for those who come later."""

from __future__ import annotations

from collections.abc import Callable

from zoctools.broker import names
from zoctools.broker.consumers import Consumer, Kept
from zoctools.broker.messages import Message

KEPT_IN_ALL = 64 * 1024 * 1024
"""Bytes kept for later listeners over all topics; beyond it the topic that was silent longest keeps nothing."""


class Topics:
    """Tells every listener of every message; `hand` is called to hand one over."""

    def __init__(self, hand: Callable[[Consumer, Message], None]) -> None:
        self._hand = hand
        self._kept: dict[str, Kept] = {}
        self._size = 0
        self._listeners: dict[str, dict[Consumer, None]] = {}
        self._pattern_listeners: dict[Consumer, None] = {}

    def publish(self, message: Message, now: float) -> None:
        """Tell all who listen, and keep the message for retroactive listeners."""
        self._keep(message, now)
        for consumer in self._listeners.get(message.destination, ()):
            self._tell(consumer, message, now)
        for consumer in self._pattern_listeners:
            if consumer.wants(message.destination):
                self._tell(consumer, message, now)

    def listen(self, consumer: Consumer, now: float) -> None:
        """Add a listener; a retroactive one is first told what was kept."""
        if any(names.is_wildcard(destination) for destination in consumer.destinations):
            self._pattern_listeners[consumer] = None
        else:
            for destination in consumer.destinations:
                self._listeners.setdefault(destination, {})[consumer] = None
        if consumer.retroactive:
            wanted = [kept.messages for destination, kept in self._kept.items() if consumer.wants(destination)]
            for message in sorted((one for messages in wanted for one in messages), key=lambda one: one.number):
                self._tell(consumer, message, now)

    def leave(self, consumer: Consumer) -> None:
        """Remove a listener."""
        self._pattern_listeners.pop(consumer, None)
        for destination in consumer.destinations:
            listeners = self._listeners.get(destination)
            if listeners is not None:
                listeners.pop(consumer, None)
                if not listeners:
                    del self._listeners[destination]

    def catch_up(self, consumer: Consumer, now: float) -> None:
        """Tell a listener whose connection was paused what it missed and still fits its backlog."""
        while consumer.backlog.messages:
            self._tell(consumer, consumer.backlog.pop(), now)

    def sweep(self, now: float) -> None:
        """Forget topics that keep nothing."""
        for kept in self._kept.values():
            kept.drop_expired(now)
        self._kept = {destination: kept for destination, kept in self._kept.items() if kept.messages}
        self._size = sum(kept.size for kept in self._kept.values())

    def _keep(self, message: Message, now: float) -> None:
        kept = self._kept.pop(message.destination, None) or Kept()
        self._kept[message.destination] = kept
        self._size -= kept.size
        kept.drop_expired(now)
        kept.add(message)
        self._size += kept.size
        while self._size > KEPT_IN_ALL:
            silent = next(iter(self._kept))
            self._size -= self._kept.pop(silent).size

    def _tell(self, consumer: Consumer, message: Message, now: float) -> None:
        if 0 < message.expires <= now:
            return
        if consumer.selector is not None and not consumer.selector.matches(message.lookup(0)):
            return
        if consumer.connection.paused:
            consumer.backlog.add(message)
        else:
            self._hand(consumer, message)
