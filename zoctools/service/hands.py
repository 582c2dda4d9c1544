"""Every message a service has in hand and has not settled, and how they are all given back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoctools.service import copies
from zoctools.transport.contract import Delivery, Outgoing

if TYPE_CHECKING:
    from zoctools.recipe.step import Step

REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """A message whose handler asked to keep it."""

    step: Step
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that came before its time, because the broker has no scheduler; `due` is epoch seconds."""

    delivery: Delivery
    due: float


class Hands:
    """`waiting`: not started, in order of arrival. `parked`: before their time. Held ones are asked for by step.

    It also remembers what a lost link took from us: those messages come back marked, although nobody died of them.
    """

    def __init__(self) -> None:
        self._taken: deque[str] = deque(maxlen=REMEMBERED)
        self.waiting: deque[Delivery] = deque()
        self.parked: list[Parked] = []
        self._held: dict[int, Held] = {}

    @property
    def holding(self) -> bool:
        """Whether the service holds messages."""
        return bool(self._held)

    def hold(self, step: Step, delivery: Delivery) -> None:
        """Keep a message for the service."""
        self._held[id(step)] = Held(step, delivery)

    def held(self, step: Step) -> Held | None:
        """Return the held message of a step; None when it is not held."""
        return self._held.get(id(step))

    def release(self, steps: Iterable[Step]) -> None:
        """Forget steps that are settled."""
        for step in steps:
            self._held.pop(id(step), None)

    def taken(self, delivery: Delivery) -> None:
        """Remember a message that a lost link took from us."""
        self._taken.append(delivery.message_id)

    def was_ours(self, delivery: Delivery) -> bool:
        """Whether a message is marked only because a lost link took it from us."""
        return delivery.message_id in self._taken

    def unfinished(self, now: float) -> tuple[list[Delivery], list[Outgoing]]:
        """Return all that is in hand, and the unchanged copy of each that gives it back."""
        deliveries = [held.delivery for held in self._held.values()]
        deliveries += [delivery for delivery in self.waiting if delivery.subscription.acknowledge]
        given = [copies.copy(delivery, delay=copies.STEP_ASIDE) for delivery in deliveries]
        rests = [max(parked.due - now, copies.STEP_ASIDE) for parked in self.parked]
        given += [copies.copy(parked.delivery, delay=rest) for parked, rest in zip(self.parked, rests, strict=True)]
        return deliveries + [parked.delivery for parked in self.parked], given

    def drop(self, gone: Callable[[Delivery], bool]) -> list[Step]:
        """Forget every message that is `gone`; returns the steps among them that the service holds."""
        for delivery in (*self.waiting, *(parked.delivery for parked in self.parked)):
            if gone(delivery):
                self.taken(delivery)
        self.waiting = deque(delivery for delivery in self.waiting if not gone(delivery))
        self.parked = [parked for parked in self.parked if not gone(parked.delivery)]
        lost = [held for held in self._held.values() if gone(held.delivery)]
        for held in lost:
            self.taken(held.delivery)
        self.release(held.step for held in lost)
        return [held.step for held in lost]
