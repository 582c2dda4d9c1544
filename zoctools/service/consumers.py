"""What a service consumes: which subscription is whose, open or paused."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from zoctools.errors import ZocError
from zoctools.service.service import Handler, Listener
from zoctools.transport.contract import Delivery, Destination, Kind, Subscription, Transport

MOST_PLACES = 100
"""Subscriptions of one consumer, when a broker without scheduler has us keep its delayed messages."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """One queue and who gets its messages, as `Service.consume` was asked for."""

    destination: Destination
    handler: Handler
    prefetch: int = 1
    exclusive: bool = False
    priority: int | None = None
    selector: str = ""
    plain: bool = False
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Audience:
    """One topic and who listens to it."""

    destination: Destination
    listener: Listener


class Consumers:
    """Opens, closes and finds subscriptions. Queues can be paused, topics are heard as long as the service lives."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._asked: list[Consumer] = []
        self._open: dict[int, tuple[Subscription, Consumer | Audience]] = {}
        self.paused = False

    @property
    def queues(self) -> tuple[str, ...]:
        """Full names of all queues asked for, paused or not."""
        return tuple(dict.fromkeys(consumer.destination.name for consumer in self._asked))

    def add(self, consumer: Consumer) -> None:
        """Take messages for a consumer, from now on or, while paused, from `resume` on."""
        self._asked.append(consumer)
        if not self.paused:
            self._subscribe(consumer)

    def hear(self, audience: Audience) -> None:
        """Listen to a topic."""
        subscription = self._transport.subscribe(audience.destination, acknowledge=False)
        self._open[subscription.id] = (subscription, audience)

    def of(self, delivery: Delivery) -> Consumer | Audience | None:
        """Return who a delivery is for; None when its subscription is closed."""
        found = self._open.get(delivery.subscription.id)
        return found[1] if found else None

    def make_room(self, consumer: Consumer, kept: int) -> None:
        """Subscribe once more where the `kept` unsettled messages of a consumer leave no room for others."""
        places = [mine.prefetch for mine, theirs in self._open.values() if theirs is consumer]
        if kept >= sum(places) and len(places) < MOST_PLACES:
            with suppress(ZocError):
                self._subscribe(consumer)

    def open_queues(self) -> list[Subscription]:
        """Return the queue subscriptions that are open."""
        return [mine for mine, _ in self._open.values() if mine.destination.kind is Kind.QUEUE]

    def pause(self, closed: Sequence[Subscription], confirmed: bool) -> None:
        """Consume no queue until `resume`. `closed` were closed in a settle, which was `confirmed` or failed."""
        self.paused = True
        for subscription in closed:
            self._open.pop(subscription.id, None)
            if not confirmed:
                with suppress(ZocError):
                    self._transport.unsubscribe(subscription)

    def resume(self) -> None:
        """Consume every queue that is closed; raises `ZocError` when one was refused, after asking for all."""
        self.paused = False
        served = [theirs for _, theirs in self._open.values()]
        problem: ZocError | None = None
        for consumer in self._asked:
            if not any(theirs is consumer for theirs in served):
                try:
                    self._subscribe(consumer)
                except ZocError as error:
                    problem = error
        if problem is not None:
            raise problem

    def _subscribe(self, consumer: Consumer) -> None:
        subscription = self._transport.subscribe(
            consumer.destination,
            prefetch=consumer.prefetch,
            exclusive=consumer.exclusive,
            priority=consumer.priority,
            selector=consumer.selector,
        )
        self._open[subscription.id] = (subscription, consumer)
