"""Looking into a queue without taking anything out, in as many rounds as it takes.

ActiveMQ ends a browse after 400 messages, or earlier when its memory is short. A next round asks for messages not
older than the last one seen; rounds go on until one shows nothing new.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from zoctools.broker.frames import Frame
from zoctools.errors import LinkLost, TimedOut
from zoctools.transport.contract import Browsed, Delivery, Destination, Subscription

MOST_ROUNDS = 1000


class Browse:
    """One round: collects messages until the broker says that it has shown them, or there are enough."""

    def __init__(self, subscription: Subscription, limit: int) -> None:
        self.messages: list[Delivery] = []
        self.ended = False
        self._subscription = subscription
        self._limit = limit
        self._lost = ""
        self._done = threading.Event()

    def take(self, frame: Frame) -> None:
        """Take a frame of the browse; called on the receiver thread."""
        if frame.headers.get("browser") == "end":
            self.ended = True
            self._done.set()
        elif len(self.messages) < self._limit:
            subscription = self._subscription
            identity = frame.headers.get("message-id", "")
            self.messages.append(Delivery(subscription, identity, subscription.destination, frame.headers, frame.body))
        else:
            self._done.set()

    def lose(self, words: str) -> None:
        """The link went."""
        self._lost = words
        self._done.set()

    def wait(self, timeout: float) -> None:
        """Wait for the end; raises `LinkLost` or `TimedOut`."""
        if not self._done.wait(timeout):
            raise TimedOut(f"the broker did not finish showing {self._subscription.destination}")
        if self._lost:
            raise LinkLost(self._lost)


def browse_rounds(
    once: Callable[[Destination, str, int], Browse], destination: Destination, selector: str, limit: int
) -> Browsed:
    """Look until a round shows nothing new, or at `limit` messages.

    How many messages the queue holds cannot be asked over STOMP, so `of` is not known; compare with the queue's
    figures before trusting that nothing was missed.
    """
    seen: dict[str, Delivery] = {}
    since = ""
    for _ in range(MOST_ROUNDS):
        wanted = " AND ".join(f"({part})" for part in (selector, since) if part)
        found = once(destination, wanted, limit + 1)
        new = [delivery for delivery in found.messages if delivery.message_id not in seen]
        seen.update((delivery.message_id, delivery) for delivery in new)
        if len(seen) > limit or not found.ended:
            return Browsed(tuple(seen.values())[:limit], min(len(seen), limit), None, False)
        newest = max((_timestamp(delivery) for delivery in found.messages), default=0)
        if not new or not newest:
            return Browsed(tuple(seen.values()), len(seen), None, True)
        since = f"JMSTimestamp >= {newest}"
    return Browsed(tuple(seen.values()), len(seen), None, False)


def _timestamp(delivery: Delivery) -> int:
    value = delivery.headers.get("timestamp", "")
    return int(value) if value.isdecimal() else 0
