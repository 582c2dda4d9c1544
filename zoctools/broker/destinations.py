"""One queue: what waits in it, who consumes it, whose turn it is, and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from zoctools.broker.consumers import Consumer
from zoctools.broker.lanes import Entry, Lane, Place


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """The figures of one queue.

    `ready` and `in_flight` are in it now, `delayed` are held back and not yet in it. Of all that were ever
    `enqueued`, the others were `dequeued` (acknowledged), became `dead_letters`, or `expired` and were forgotten.
    """

    name: str
    ready: int
    in_flight: int
    delayed: int
    consumers: int
    enqueued: int
    dequeued: int
    dead_letters: int
    expired: int

    @property
    def depth(self) -> int:
        """Messages in the queue."""
        return self.ready + self.in_flight


class Queue:
    """A queue and its consumers. It decides who is next; handing over is the business of its owner."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[int, Entry] = {}
        self.consumers: list[Consumer] = []
        self.delayed = 0
        self.enqueued = 0
        self.dequeued = 0
        self.dead_letters = 0
        self.expired = 0
        self.idle = False
        self._ready = 0
        self._exclusive: Consumer | None = None
        self._lanes: dict[str, Lane] = {}

    @property
    def figures(self) -> QueueFigures:
        """The figures now."""
        return QueueFigures(
            self.name,
            self._ready,
            len(self.entries) - self._ready,
            self.delayed,
            len(self.consumers),
            self.enqueued,
            self.dequeued,
            self.dead_letters,
            self.expired,
        )

    @property
    def unused(self) -> bool:
        """Whether nothing is in it or on its way to it, and nobody consumes it."""
        return not (self.entries or self.consumers or self.delayed)

    def add(self, entry: Entry) -> None:
        """Take in a new message."""
        self.idle = False
        self.enqueued += 1
        self.entries[entry.message.number] = entry
        self._offer(entry)

    def put_back(self, entry: Entry) -> None:
        """Take back a message whose consumer went away; it gets its old place."""
        entry.returns += 1
        entry.stay += 1
        self._offer(entry)

    def hand_out(self, entry: Entry) -> None:
        """Note that a consumer has a message now."""
        entry.place = Place.IN_FLIGHT
        self._left()

    def remove(self, entry: Entry) -> None:
        """Forget a message."""
        del self.entries[entry.message.number]
        was_ready = entry.place is Place.READY
        entry.place = Place.GONE
        if was_ready:
            self._left()

    def attach(self, consumer: Consumer) -> None:
        """Add a consumer."""
        self.idle = False
        self.consumers.append(consumer)
        self._choose_exclusive()
        lane = self._lanes.get(consumer.lane)
        if lane is None:
            waiting = (entry for entry in self.entries.values() if entry.place is Place.READY)
            lane = self._lanes[consumer.lane] = Lane(consumer.selector, waiting)
        lane.members += 1
        lane.set_hungry(consumer, consumer.has_room)

    def detach(self, consumer: Consumer) -> None:
        """Remove a consumer."""
        self.consumers.remove(consumer)
        self._choose_exclusive()
        lane = self._lanes[consumer.lane]
        lane.set_hungry(consumer, False)
        lane.members -= 1
        if not lane.members:
            del self._lanes[consumer.lane]

    def set_hungry(self, consumer: Consumer, hungry: bool) -> None:
        """Note whether a consumer has room for another message."""
        self._lanes[consumer.lane].set_hungry(consumer, hungry)

    def served(self, consumer: Consumer) -> None:
        """Let others have the next turn."""
        self._lanes[consumer.lane].served(consumer)

    def first_for(self, consumer: Consumer) -> Entry | None:
        """What this consumer would get next."""
        return self._lanes[consumer.lane].first()

    def next_turn(self) -> tuple[Consumer, Entry] | None:
        """Who gets which message next: the consumer of the highest priority that has room and a message to get."""
        best: tuple[tuple[int, int, int], Consumer, Entry] | None = None
        for lane in self._lanes.values():
            consumer = lane.hungriest(self._exclusive)
            entry = lane.first() if consumer is not None else None
            if consumer is not None and entry is not None:
                rank = (-consumer.priority, -entry.message.priority, entry.message.number)
                if best is None or rank < best[0]:
                    best = rank, consumer, entry
        return best and best[1:]

    def _offer(self, entry: Entry) -> None:
        entry.place = Place.READY
        self._ready += 1
        for lane in self._lanes.values():
            lane.offer(entry)

    def _left(self) -> None:
        self._ready -= 1
        for lane in self._lanes.values():
            lane.sweep(self._ready)

    def _choose_exclusive(self) -> None:
        """While there are exclusive consumers, one alone is served: the first of the highest priority."""
        exclusive = [consumer for consumer in self.consumers if consumer.exclusive]
        self._exclusive = min(exclusive, key=lambda one: (-one.priority, one.order), default=None)
