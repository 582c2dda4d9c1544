"""A broker inside this process, and the transport that speaks to it: for tests, and for work without a network.

`MemoryBroker` drives `zoctools.broker.queues` for any number of `MemoryTransport`. What a real broker and a real
network do to their clients can be done here too: `MemoryBroker.stop` and `start`, `MemoryTransport.drop_link` and
`cut_next_settle`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue

from zoctools.broker import names
from zoctools.broker import selector as selectors
from zoctools.broker.consumers import Wanted
from zoctools.broker.destinations import QueueFigures
from zoctools.broker.effects import Handed
from zoctools.broker.messages import Message, Sent
from zoctools.broker.queues import Queues, Refuse
from zoctools.errors import LinkLost, SendRefused, StaleDelivery, Unreachable, UsageError
from zoctools.transport.contract import (
    Browsed,
    Delivery,
    Destination,
    Event,
    Kind,
    Link,
    Outgoing,
    Refused,
    Subscription,
    namespaced,
)
from zoctools.transport.outgoing import frame_headers

_LONGEST_WAIT = 60.0
"""Seconds the timer sleeps at most, so that a changed wall clock is noticed."""


class ManualClock:
    """A clock that stands still until it is told to advance; what is due then happens before `advance` returns."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._watchers: list[Callable[[], None]] = []

    def __call__(self) -> float:
        """The time, in epoch seconds."""
        return self._now

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` after every advance."""
        self._watchers.append(watcher)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        for watcher in self._watchers:
            watcher()


class MemoryBroker:
    """A broker shared by several transports, from any threads.

    `clock` gives epoch seconds; with a `ManualClock` nothing happens by itself. Without `scheduler`, delayed
    messages are delivered at once with the header on them. `refuse` is given ``/queue/NAME`` of every SEND and
    returns the words to refuse it with, or nothing.
    """

    def __init__(
        self, clock: Callable[[], float] = time.time, *, scheduler: bool = True, refuse: Refuse | None = None
    ) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self._refuse = refuse
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._store: dict[int, Message] = {}
        self._transports: list[MemoryTransport] = []
        self._links: dict[int, MemoryTransport] = {}
        self._timer: threading.Thread | None = None
        self._timer_due = 0.0
        self._starts = 0
        self._queues: Queues | None = None
        if isinstance(clock, ManualClock):
            clock.watch(self._tick)
        self.start()

    @property
    def running(self) -> bool:
        """Whether the broker runs."""
        return self._queues is not None

    def stop(self) -> None:
        """Go away: every link is lost. Persistent messages stay for the next start, the others are gone."""
        with self._lock:
            self._queues = None
            self._links.clear()
            for transport in self._transports:
                transport._go_down("the broker was stopped")
            self._changed.notify_all()

    def start(self) -> None:
        """Come back, with what was persistent; transports that had a link have one again."""
        with self._lock:
            if self._queues is not None:
                return
            self._starts += 1
            name = f"memory-{self._starts}"
            self._queues = Queues(self._clock, name=name, scheduler=self._scheduler, refuse=self._refuse)
            self._queues.restore(self._store.values())
            self._carry_out(self._queues)
            for transport in self._transports:
                transport._come_up()

    def figures(self) -> list[QueueFigures]:
        """The figures of every queue, by name."""
        with self.step() as queues:
            return queues.figures()

    @contextmanager
    def step(self) -> Iterator[Queues]:
        """Take one step of the state machine, alone; its effects are carried out at the end. Raises `LinkLost`."""
        with self._lock:
            if self._queues is None:
                raise LinkLost("the broker is not running")
            yield self._queues
            self._carry_out(self._queues)

    def _carry_out(self, queues: Queues) -> None:
        effects = queues.take_effects()
        self._store.update(effects.stored)
        for number in effects.removed:
            self._store.pop(number, None)
        for handed in effects.handed:
            transport = self._links.get(handed.connection)
            if transport is not None:
                transport._receive(handed)
        self._set_timer(queues)

    def _set_timer(self, queues: Queues) -> None:
        due = queues.next_due()
        if due is None or isinstance(self._clock, ManualClock):
            return
        if self._timer is None:
            self._timer = threading.Thread(target=self._keep_time, name="memory broker timer", daemon=True)
            self._timer_due = due
            self._timer.start()
        elif due < self._timer_due:
            self._changed.notify_all()

    def _keep_time(self) -> None:
        """Tick when something is due, until nothing waits for its time any more."""
        with self._lock:
            while self._queues is not None and (due := self._queues.next_due()) is not None:
                wait = due - self._clock()
                if wait > 0:
                    self._timer_due = due
                    self._changed.wait(min(wait, _LONGEST_WAIT))
                else:
                    self._queues.tick()
                    self._carry_out(self._queues)
            self._timer = None

    def _tick(self) -> None:
        with self._lock:
            if self._queues is not None:
                self._queues.tick()
                self._carry_out(self._queues)


class MemoryTransport:
    """A transport to a `MemoryBroker`; see `zoctools.transport.contract.Transport` for what its methods promise."""

    def __init__(self, broker: MemoryBroker, namespace: str = "") -> None:
        self.namespace = namespace.rstrip(".")
        self.inbox: SimpleQueue[Event] = SimpleQueue()
        self._broker = broker
        self._connection: int | None = None
        self._wants_link = False
        self._held_down = False
        self._subscriptions: dict[int, Subscription] = {}
        self._subscribed = 0
        self._cut: bool | None = None
        self._link = Link(connected=False, number=0, broker="memory", since=time.monotonic())

    @property
    def link(self) -> Link:
        """The state of the link now."""
        return self._link

    def queue(self, name: str) -> Destination:
        """The queue `name` of our namespace."""
        return Destination.queue(namespaced(self.namespace, name))

    def topic(self, name: str) -> Destination:
        """The topic `name` of our namespace."""
        return Destination.topic(namespaced(self.namespace, name))

    def connect(self) -> None:
        """Open the link; raises `Unreachable` while the broker is stopped."""
        with self._broker._lock:
            if not self._broker.running:
                raise Unreachable("cannot reach the broker in memory: it is stopped")
            if not self._wants_link:
                self._wants_link = True
                self._broker._transports.append(self)
                self._come_up()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the link is up; returns whether it is."""
        with self._broker._changed:
            self._broker._changed.wait_for(lambda: self._link.connected, timeout)
            return self._link.connected

    def close(self) -> None:
        """Leave in peace."""
        with self._broker._lock:
            if self._wants_link:
                self._wants_link = False
                self._broker._transports.remove(self)
                self._hang_up()
                self._go_down("closed")

    def send(self, message: Outgoing) -> None:
        """Send one message and return when the broker has it."""
        self.settle([], [message])

    def broadcast(self, message: Outgoing) -> None:
        """Send to a topic; what the broker has against it appears in the inbox."""
        frame = self._frame(message)
        with self._linked() as (queues, _):
            try:
                queues.send(frame)
            except SendRefused as refusal:
                self.inbox.put(Refused(refusal.message))

    def subscribe(
        self,
        destination: Destination,
        *,
        acknowledge: bool = True,
        prefetch: int = 1,
        exclusive: bool = False,
        priority: int | None = None,
        selector: str = "",
        retroactive: bool = False,
    ) -> Subscription:
        """Ask for the messages of a queue or topic. While the link is down it is asked for at the reconnect.

        Raises `BadSelector`, and `SendRefused` for a name that cannot be one.
        """
        names.split(str(destination))
        if selector.strip():
            selectors.parse(selector)
        if acknowledge and prefetch < 1:
            raise UsageError(f"a prefetch of {prefetch} would never deliver anything")
        acknowledge = acknowledge and destination.kind is Kind.QUEUE
        with self._broker._lock:
            self._subscribed += 1
            subscription = Subscription(
                self._subscribed, destination, acknowledge, prefetch, exclusive, priority, selector, retroactive
            )
            self._subscriptions[subscription.id] = subscription
            if self._connection is not None:
                with self._broker.step() as queues:
                    queues.subscribe(self._connection, _wanted(subscription))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; what it delivered and was not settled goes back to the broker, marked."""
        with self._broker._lock:
            if self._subscriptions.pop(subscription.id, None) is not None and self._connection is not None:
                with self._broker.step() as queues:
                    queues.unsubscribe(self._connection, str(subscription.id))

    def settle(
        self,
        acks: Sequence[Delivery],
        sends: Sequence[Outgoing],
        *,
        closing: Sequence[Subscription] = (),
    ) -> None:
        """Acknowledge deliveries and send messages as one confirmed whole: all of it is done, or none."""
        frames = [self._frame(message) for message in sends]
        with self._linked() as (queues, connection):
            tags = [self._tag(delivery) for delivery in acks]
            cut, self._cut = self._cut, None
            if cut is not False:
                queues.settle(connection, tags, frames, [str(subscription.id) for subscription in closing])
            if cut is None:
                for subscription in closing:
                    self._subscriptions.pop(subscription.id, None)
        if cut is not None:
            self.drop_link()
            raise LinkLost("the link went down before the broker confirmed")

    def browse(self, destination: Destination, selector: str = "", limit: int = 1000) -> Browsed:
        """Look at up to `limit` messages of a queue without consuming any; raises `BadSelector`."""
        if destination.kind is not Kind.QUEUE:
            raise UsageError(f"only a queue can be browsed, not {destination}")
        with self._linked() as (queues, _):
            seen = queues.browse(str(destination), selector, max(limit, 0))
        subscription = Subscription(0, destination, acknowledge=False, selector=selector)
        messages = tuple(
            self._delivery(subscription, shown.message, shown.redelivered, None) for shown in seen.messages
        )
        return Browsed(messages, len(messages), seen.of, complete=seen.matching == len(messages))

    # faults on demand

    def drop_link(self, *, reconnect: bool = True) -> None:
        """Lose the link, as when a cable is cut. It is back at once, or stays away until `restore_link`."""
        with self._broker._lock:
            self._held_down = not reconnect
            self._hang_up()
            self._go_down("the link was dropped")
            self._come_up()

    def restore_link(self) -> None:
        """Let a link that was dropped without reconnect come back."""
        with self._broker._lock:
            self._held_down = False
            self._come_up()

    def cut_next_settle(self, *, done: bool) -> None:
        """Lose the link during the next settle, before the broker has done it or after, and before it confirmed."""
        self._cut = done

    # what the broker calls, holding its lock

    def _come_up(self) -> None:
        if self._link.connected or self._held_down or not self._wants_link or not self._broker.running:
            return
        with self._broker.step() as queues:
            self._connection = queues.connect()
            self._broker._links[self._connection] = self
            self._set_link(Link(True, self._link.number + 1, "memory", time.monotonic()))
            for subscription in self._subscriptions.values():
                queues.subscribe(self._connection, _wanted(subscription))

    def _go_down(self, error: str) -> None:
        if self._link.connected:
            self._connection = None
            self._set_link(Link(False, self._link.number, "memory", time.monotonic(), attempt=1, error=error))

    def _receive(self, handed: Handed) -> None:
        subscription = self._subscriptions.get(int(handed.subscription))
        if subscription is not None:
            self.inbox.put(self._delivery(subscription, handed.message, handed.redelivered, handed.tag))

    def _hang_up(self) -> None:
        if self._connection is not None:
            with self._broker.step() as queues:
                self._broker._links.pop(self._connection, None)
                queues.disconnect(self._connection)

    def _set_link(self, link: Link) -> None:
        self._link = link
        self.inbox.put(link)
        self._broker._changed.notify_all()

    # messages to and fro

    @contextmanager
    def _linked(self) -> Iterator[tuple[Queues, int]]:
        with self._broker._lock:
            if self._connection is None:
                raise LinkLost(f"no link to the broker in memory: {self._link.error or 'never connected'}")
            with self._broker.step() as queues:
                yield queues, self._connection

    def _frame(self, message: Outgoing) -> Sent:
        lines = frame_headers(message, self._broker._clock())
        return Sent(lines.pop("destination"), lines, message.body)

    def _tag(self, delivery: Delivery) -> tuple[str, int]:
        if delivery.link != self._link.number:
            raise StaleDelivery("the message came over an earlier link and will be delivered again")
        if not delivery.subscription.acknowledge:
            raise ValueError(f"messages from {delivery.subscription.destination} are not acknowledged")
        return str(delivery.subscription.id), int(delivery.headers["ack"])

    def _delivery(self, subscription: Subscription, message: Message, redelivered: bool, tag: int | None) -> Delivery:
        headers = {**message.headers, "subscription": str(subscription.id)}
        if redelivered:
            headers["redelivered"] = "true"
        if tag is not None:
            headers["ack"] = str(tag)
        destination = Destination.parse(message.destination)
        return Delivery(subscription, headers["message-id"], destination, headers, message.body, self._link.number)


def _wanted(subscription: Subscription) -> Wanted:
    return Wanted(
        str(subscription.id),
        str(subscription.destination),
        subscription.acknowledge,
        subscription.prefetch,
        subscription.exclusive,
        subscription.priority or 0,
        subscription.selector,
        subscription.retroactive,
    )
