"""Messages that wait in a queue, kept so that the next one for a consumer is found at once.

Consumers with the same selector share a `Lane`; a message stands in every lane whose selector it fits, and leaves
all of them when it is handed out. Lanes drop what left lazily, and are swept when most of them has left.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING

from zoctools.broker.messages import Message
from zoctools.broker.selector import Selector

if TYPE_CHECKING:
    from zoctools.broker.consumers import Consumer

_SWEEP_ABOVE = 64


class Place(Enum):
    """Where a message of a queue is."""

    READY = auto()
    IN_FLIGHT = auto()
    GONE = auto()


class Entry:
    """One message in one queue. `stay` counts how often it became ready, `returns` how often it came back."""

    __slots__ = ("message", "place", "returns", "stay")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.place = Place.READY
        self.stay = 0
        self.returns = 0

    def fits(self, selector: Selector | None) -> bool:
        """Whether a consumer with this selector wants it."""
        return selector is None or selector.matches(self.message.lookup(self.returns))


_Slot = tuple[int, int, Entry]


class _Level:
    """The waiting messages of one priority: new ones in a line, those that came back in a heap."""

    __slots__ = ("line", "returned")

    def __init__(self) -> None:
        self.line: deque[_Slot] = deque()
        self.returned: list[_Slot] = []

    def __len__(self) -> int:
        return len(self.line) + len(self.returned)

    def add(self, slot: _Slot) -> None:
        if not self.line or self.line[-1] < slot:
            self.line.append(slot)
        else:
            heapq.heappush(self.returned, slot)

    def first(self) -> Entry | None:
        """The oldest message still waiting; what left is dropped on the way."""
        while self.line and not _waits(self.line[0]):
            self.line.popleft()
        while self.returned and not _waits(self.returned[0]):
            heapq.heappop(self.returned)
        if self.line and self.returned:
            return min(self.line[0], self.returned[0])[2]
        heads = self.line or self.returned
        return heads[0][2] if heads else None

    def sweep(self) -> None:
        self.line = deque(slot for slot in self.line if _waits(slot))
        self.returned = [slot for slot in self.returned if _waits(slot)]
        heapq.heapify(self.returned)


def _waits(slot: _Slot) -> bool:
    return slot[2].place is Place.READY and slot[2].stay == slot[1]


class Lane:
    """The waiting messages that fit one selector, and the consumers with that selector who have room."""

    __slots__ = ("_hungry", "_levels", "members", "selector")

    def __init__(self, selector: Selector | None, entries: Iterable[Entry] = ()) -> None:
        self.selector = selector
        self.members = 0
        self._levels: dict[int, _Level] = {}
        self._hungry: dict[int, OrderedDict[Consumer, None]] = {}
        for entry in entries:
            self.offer(entry)

    def offer(self, entry: Entry) -> None:
        """Take in a message that became ready, if it fits."""
        if entry.fits(self.selector):
            priority = entry.message.priority
            if priority not in self._levels:
                self._levels[priority] = _Level()
                self._levels = dict(sorted(self._levels.items(), reverse=True))
            self._levels[priority].add((entry.message.number, entry.stay, entry))

    def first(self) -> Entry | None:
        """The message to be handed out next: of the highest priority the oldest."""
        for level in self._levels.values():
            if len(level) and (entry := level.first()) is not None:
                return entry
        return None

    def sweep(self, ready: int) -> None:
        """Forget what left, when that is most of what is held; `ready` messages wait in the queue."""
        if sum(len(level) for level in self._levels.values()) > 2 * ready + _SWEEP_ABOVE:
            for level in self._levels.values():
                level.sweep()

    def set_hungry(self, consumer: Consumer, hungry: bool) -> None:
        """Note whether a consumer has room; one that gets room again goes behind its equals."""
        consumers = self._hungry.get(consumer.priority)
        if hungry:
            if consumers is None:
                consumers = self._hungry[consumer.priority] = OrderedDict()
                self._hungry = dict(sorted(self._hungry.items(), reverse=True))
            consumers[consumer] = None
        elif consumers is not None:
            consumers.pop(consumer, None)

    def hungriest(self, owner: Consumer | None) -> Consumer | None:
        """The consumer whose turn it is; only `owner` when the queue has an exclusive consumer."""
        if owner is not None:
            return owner if owner in self._hungry.get(owner.priority, ()) else None
        for consumers in self._hungry.values():
            if consumers:
                return next(iter(consumers))
        return None

    def served(self, consumer: Consumer) -> None:
        """Let the next of its equals have the next turn."""
        consumers = self._hungry.get(consumer.priority)
        if consumers is not None and consumer in consumers:
            consumers.move_to_end(consumer)
