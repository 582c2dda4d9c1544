"""The broker as a pure state machine: connections, queues, topics, deliveries. No threads, no I/O, injected clock.

Every method is one whole step: it is done, or it raises and nothing has happened. What a step brings about is
collected in `Effects`, which whoever drives the machine takes after each step: messages to be written to
connections, and what a store on disk has to learn. A server that confirms a step only after its effects are stored
loses nothing it confirmed. Meanings follow ActiveMQ Classic over STOMP where it has one.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from zoctools.broker import names
from zoctools.broker.consumers import Connection, Consumer, Wanted
from zoctools.broker.destinations import Queue, QueueFigures
from zoctools.broker.effects import Effects, Handed, Seen, Shown
from zoctools.broker.lanes import Entry, Place
from zoctools.broker.messages import QUEUE, Message, Sent, accepted, dead_letter, released
from zoctools.broker.selector import parse
from zoctools.broker.topics import Topics
from zoctools.errors import SendRefused, StaleDelivery, UsageError
from zoctools.text import one_line

Refuse = Callable[[str], str]
"""Given ``/queue/NAME``: the words with which a SEND there is refused, or nothing."""

_SWEEP_EVERY = 60.0


class Queues:
    """All queues and topics of one broker.

    `name` begins the message IDs: give each start of a broker another one. Without `scheduler`, a delayed message
    is delivered at once with the header still on it.
    """

    def __init__(
        self, clock: Callable[[], float], *, name: str = "zoc", scheduler: bool = True, refuse: Refuse | None = None
    ) -> None:
        self._clock = clock
        self._name = name
        self._scheduler = scheduler
        self._refuse = refuse
        self._numbers = 0
        self._tags = 0
        self._connections: dict[int, Connection] = {}
        self._opened = 0
        self._subscribed = 0
        self._queues: dict[str, Queue] = {}
        self._queue_patterns: dict[Consumer, None] = {}
        self._topics = Topics(self._hand_topic_message)
        self._delayed: list[tuple[float, int, Message]] = []
        self._expiring: list[tuple[float, int, Queue, Entry]] = []
        self._next_sweep = 0.0
        self._touched: OrderedDict[Queue, None] = OrderedDict()
        self._effects = Effects()

    # what surrounds it: its effects, its store, its time

    def take_effects(self) -> Effects:
        """Return what has come about since the last call."""
        effects, self._effects = self._effects, Effects()
        return effects

    def restore(self, messages: Iterable[Message]) -> None:
        """Take in what a store kept, before the first connection."""
        now = self._clock()
        for message in sorted(messages, key=lambda kept: kept.number):
            self._numbers = max(self._numbers, message.number)
            self._put(message, now)

    def next_due(self) -> float | None:
        """When `tick` has something to do, in epoch seconds; None: nothing waits for its time."""
        dues = [heap[0][0] for heap in (self._delayed, self._expiring) if heap]
        return min(dues, default=None)

    def tick(self) -> None:
        """Do what is due: release held-back messages, and expire those nobody wants any more."""
        now = self._clock()
        while self._delayed and self._delayed[0][0] <= now:
            self._release(heapq.heappop(self._delayed)[2], now)
        while self._expiring and self._expiring[0][0] <= now:
            _, _, queue, entry = heapq.heappop(self._expiring)
            if entry.place is Place.READY:
                self._expire(queue, entry, now)
        if now >= self._next_sweep:
            self._sweep(now)
        self._flush()

    # connections and subscriptions

    def connect(self) -> int:
        """Open a connection; returns its number."""
        self._opened += 1
        self._connections[self._opened] = Connection(self._opened)
        return self._opened

    def disconnect(self, connection: int) -> None:
        """Close a connection in whatever way: what it had not settled goes back, marked as redelivered."""
        closed = self._connections.pop(connection, None)
        for consumer in list(closed.consumers.values()) if closed else ():
            self._close(consumer)
        self.tick()

    def pause(self, connection: int) -> None:
        """Hand nothing to a connection that does not read. Topics keep for it what fits, the oldest is lost."""
        self._set_paused(connection, True)

    def resume(self, connection: int) -> None:
        """Hand messages to a connection again."""
        self._set_paused(connection, False)
        for consumer in self._connections[connection].consumers.values():
            self._topics.catch_up(consumer, self._clock())
        self.tick()

    def subscribe(self, connection: int, wanted: Wanted) -> None:
        """Open a subscription. Raises `UsageError` for an ID in use or a bad selector, `SendRefused` for a bad name."""
        client = self._connections[connection]
        if wanted.id in client.consumers:
            raise UsageError(f"subscription {one_line(wanted.id, 60)!r} exists already")
        self._subscribed += 1
        consumer = Consumer(client, wanted, self._subscribed)
        client.consumers[wanted.id] = consumer
        if consumer.of_topics:
            self._topics.listen(consumer, self._clock())
        else:
            self._consume(consumer)
        self.tick()

    def unsubscribe(self, connection: int, subscription: str) -> None:
        """Close a subscription, if it is open: what it had not settled goes back, marked as redelivered."""
        consumer = self._connections[connection].consumers.pop(subscription, None)
        if consumer is not None:
            self._close(consumer)
        self.tick()

    # messages

    def check(self, sent: Sent) -> None:
        """Raise `SendRefused` when this SEND would be refused: what a transaction must say before its COMMIT."""
        self._accepted(sent, self._clock())

    def send(self, sent: Sent) -> None:
        """Take in one message; raises `SendRefused`."""
        self._place_all(self._accepted_all([sent]))
        self.tick()

    def settle(
        self,
        connection: int,
        acks: Sequence[tuple[str, int]],
        sends: Sequence[Sent] = (),
        closing: Sequence[str] = (),
    ) -> None:
        """Acknowledge deliveries (subscription, tag), take in messages and close subscriptions: all of it, or none.

        Raises `StaleDelivery` for an ack of what is not unsettled here, `SendRefused` for a SEND.
        """
        client = self._connections[connection]
        consumers = [self._holder(client, subscription, tag) for subscription, tag in acks]
        if len(set(acks)) != len(acks):
            raise StaleDelivery("a message was acknowledged twice in one transaction")
        messages = self._accepted_all(sends)
        for consumer, (_, tag) in zip(consumers, acks, strict=True):
            queue, entry = self._settled(consumer, tag)
            queue.dequeued += 1
            queue.remove(entry)
            self._effects.remove(entry.message)
        for subscription in closing:
            closed = client.consumers.pop(subscription, None)
            if closed is not None:
                self._close(closed)
        self._place_all(messages)
        self.tick()

    def nack(self, connection: int, subscription: str, tag: int) -> None:
        """Refuse a delivery: it goes to the dead letter queue at once. Raises `StaleDelivery`."""
        consumer = self._holder(self._connections[connection], subscription, tag)
        queue, entry = self._settled(consumer, tag)
        self._bury(queue, entry, self._clock())
        self.tick()

    def browse(self, destination: str, selector: str = "", limit: int = 1000) -> Seen:
        """Look at the messages of a queue, or those of a wildcard, in the order of delivery; in flight ones too.

        Raises `BadSelector`. Messages held back are not in the queue yet.
        """
        self.tick()
        wanted = parse(selector) if selector.strip() else None
        patterns = names.split(destination)
        queues = [
            queue
            for name, queue in self._queues.items()
            if any(names.matches(pattern, QUEUE + name) for pattern in patterns)
        ]
        entries = [entry for queue in queues for entry in queue.entries.values()]
        fitting = [entry for entry in entries if entry.fits(wanted)] if wanted else entries
        first = heapq.nsmallest(limit, fitting, key=lambda entry: (-entry.message.priority, entry.message.number))
        shown = tuple(Shown(entry.message, entry.returns > 0) for entry in first)
        return Seen(shown, len(fitting), len(entries))

    def figures(self) -> list[QueueFigures]:
        """The figures of every queue, by name."""
        return [self._queues[name].figures for name in sorted(self._queues)]

    # taking messages in

    def _accepted_all(self, sends: Sequence[Sent]) -> list[Message]:
        now = self._clock()
        return [message for sent in sends for message in self._accepted(sent, now)]

    def _accepted(self, sent: Sent, now: float) -> list[Message]:
        messages = []
        for destination in names.split(sent.destination):
            if names.is_wildcard(destination):
                raise SendRefused(f"a message cannot be sent to a wildcard: {one_line(destination, 100)}")
            words = self._refuse(destination) if self._refuse else ""
            if words:
                raise SendRefused(words)
            one = Sent(destination, sent.headers, sent.body)
            messages.append(accepted(one, self._number(), self._name, now, self._scheduler))
        return messages

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _place_all(self, messages: Sequence[Message]) -> None:
        now = self._clock()
        for message in messages:
            self._place(message, now)

    def _place(self, message: Message, now: float) -> None:
        """Put a new message where it belongs; what waits, in a queue or for its time, is for the store too."""
        if message.due or message.destination.startswith(QUEUE):
            self._effects.store(message)
        self._put(message, now)

    def _put(self, message: Message, now: float) -> None:
        if message.due:
            heapq.heappush(self._delayed, (message.due, message.number, message))
            if message.destination.startswith(QUEUE):
                self._queue(message.name).delayed += 1
        elif message.destination.startswith(QUEUE):
            self._enqueue(message, now)
        else:
            self._topics.publish(message, now)

    def _enqueue(self, message: Message, now: float) -> None:
        queue, entry = self._queue(message.name), Entry(message)
        queue.add(entry)
        if message.expires:
            heapq.heappush(self._expiring, (message.expires, message.number, queue, entry))
            self._expire_if_due(queue, entry, now)
        self._touched[queue] = None

    def _release(self, message: Message, now: float) -> None:
        self._effects.remove(message)
        if message.destination.startswith(QUEUE):
            self._queue(message.name).delayed -= 1
        self._place(released(message, self._number(), now), now)

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue(name)
            for consumer in self._queue_patterns:
                if consumer.wants(QUEUE + name):
                    self._attach(consumer, queue)
        return queue

    # handing messages over

    def _flush(self) -> None:
        """Hand over what can be handed over."""
        while self._touched:
            queue, _ = self._touched.popitem(last=False)
            while (turn := queue.next_turn()) is not None:
                self._hand(queue, *turn)

    def _hand(self, queue: Queue, consumer: Consumer, entry: Entry) -> None:
        self._tags += 1
        queue.hand_out(entry)
        if consumer.acknowledge:
            consumer.unsettled[self._tags] = (queue, entry)
        else:
            queue.dequeued += 1
            queue.remove(entry)
            self._effects.remove(entry.message)
        queue.served(consumer)
        if not consumer.has_room:
            self._set_hungry(consumer)
        number = consumer.connection.number
        self._effects.handed.append(Handed(number, consumer.id, self._tags, entry.message, entry.returns > 0))

    def _hand_topic_message(self, consumer: Consumer, message: Message) -> None:
        self._tags += 1
        self._effects.handed.append(Handed(consumer.connection.number, consumer.id, self._tags, message, False))

    def _set_hungry(self, consumer: Consumer) -> None:
        """Tell its queues whether a consumer has room; those with the most urgent message for it are asked first."""
        room = consumer.has_room
        waiting = []
        for queue in consumer.queues:
            queue.set_hungry(consumer, room)
            entry = queue.first_for(consumer) if room else None
            if entry is not None:
                waiting.append((-entry.message.priority, entry.message.number, queue))
        for _, _, queue in sorted(waiting, key=lambda urgent: urgent[:2]):
            self._touched[queue] = None

    def _set_paused(self, connection: int, paused: bool) -> None:
        client = self._connections[connection]
        client.paused = paused
        for consumer in client.consumers.values():
            self._set_hungry(consumer)

    # consumers coming and going

    def _consume(self, consumer: Consumer) -> None:
        for destination in consumer.destinations:
            if names.is_wildcard(destination):
                self._queue_patterns[consumer] = None
                for queue in self._queues.values():
                    if names.matches(destination, QUEUE + queue.name):
                        self._attach(consumer, queue)
            else:
                self._attach(consumer, self._queue(destination[len(QUEUE) :]))
        self._set_hungry(consumer)

    def _attach(self, consumer: Consumer, queue: Queue) -> None:
        if queue not in consumer.queues:
            consumer.queues.append(queue)
            queue.attach(consumer)

    def _close(self, consumer: Consumer) -> None:
        """Take a consumer away; what it had not settled goes back to its old place, marked."""
        self._topics.leave(consumer)
        self._queue_patterns.pop(consumer, None)
        for queue in consumer.queues:
            queue.detach(consumer)
            self._touched[queue] = None
        now = self._clock()
        for queue, entry in consumer.unsettled.values():
            queue.put_back(entry)
            self._expire_if_due(queue, entry, now)
        consumer.unsettled.clear()

    def _holder(self, client: Connection, subscription: str, tag: int) -> Consumer:
        consumer = client.consumers.get(subscription)
        if consumer is None or tag not in consumer.unsettled:
            raise StaleDelivery(
                "the message is not unsettled on this connection",
                "it was settled before, or its subscription was closed and it will be delivered again",
            )
        return consumer

    def _settled(self, consumer: Consumer, tag: int) -> tuple[Queue, Entry]:
        """Take a delivery from its consumer, who has room for another."""
        queue, entry = consumer.unsettled.pop(tag)
        if len(consumer.unsettled) == consumer.prefetch - 1:
            self._set_hungry(consumer)
        return queue, entry

    # messages that end elsewhere

    def _expire_if_due(self, queue: Queue, entry: Entry, now: float) -> None:
        if 0 < entry.message.expires <= now:
            self._expire(queue, entry, now)

    def _expire(self, queue: Queue, entry: Entry, now: float) -> None:
        """As ActiveMQ: an expired persistent message becomes a dead letter, any other is forgotten."""
        if entry.message.persistent:
            self._bury(queue, entry, now, f"Message Expired. Expiration:{entry.message.headers['expires']}")
        else:
            queue.expired += 1
            queue.remove(entry)

    def _bury(self, queue: Queue, entry: Entry, now: float, cause: str = "") -> None:
        queue.dead_letters += 1
        queue.remove(entry)
        self._effects.remove(entry.message)
        self._place(dead_letter(entry.message, self._number(), cause), now)

    def _sweep(self, now: float) -> None:
        """Forget queues unused since the last time, topics that keep nothing, and when what is gone would expire."""
        self._next_sweep = now + _SWEEP_EVERY
        self._queues = {name: queue for name, queue in self._queues.items() if not (queue.idle and queue.unused)}
        for queue in self._queues.values():
            queue.idle = queue.unused
        self._topics.sweep(now)
        self._expiring = [waiting for waiting in self._expiring if waiting[3].place is not Place.GONE]
        heapq.heapify(self._expiring)
