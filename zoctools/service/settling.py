"""Settles: the one act that changes the fate of messages, and what is done when the broker will not have it.

Every way a delivery can end comes here, and ends in exactly one settle: confirmed, or refused and replaced by dead
letters, or undone because the link went, in which case the broker delivers the message again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from zoctools.errors import LinkLost, SendRefused, TimedOut, Unsendable, ZocError
from zoctools.service.consumers import Consumers
from zoctools.service.copies import Cause
from zoctools.service.endings import unsettled
from zoctools.service.hands import Hands
from zoctools.transport.contract import Delivery, Outgoing, Subscription, Transport

_REFUSED = (Unsendable, SendRefused)
_UNDONE = (LinkLost, TimedOut)
Letters = Callable[[Cause], list[Outgoing]]


class Fate(Enum):
    """What came of a settle."""

    SETTLED = "all of it is done"
    CONDEMNED = "what was to be sent was refused; the messages are dead letters instead"
    LOST = "the link went first: nothing is done, the broker will deliver again"
    STUCK = "not even the dead letters can be sent: the messages stay with us, unsettled"


@dataclass(frozen=True, slots=True)
class Result:
    """A fate, the words of whoever refused, and what to try again when stuck."""

    fate: Fate
    words: str = ""
    letters: tuple[Outgoing, ...] = ()


class Settler:
    """Settles what was handled and, on departing, everything else in hand in the same whole."""

    def __init__(
        self,
        transport: Transport,
        hands: Hands,
        consumers: Consumers,
        clock: Callable[[], float],
        gather: Callable[[], None],
    ) -> None:
        """`clock` is the wall clock; `gather` takes into our hands what has arrived meanwhile."""
        self._gather = gather
        self._transport = transport
        self._hands = hands
        self._consumers = consumers
        self._clock = clock

    def settle(self, acks: Sequence[Delivery], sends: Sequence[Outgoing], letters: Letters) -> Result:
        """Acknowledge and send; where the sends are refused, acknowledge and send `letters` of the reason.

        Without anything to acknowledge there is nothing to condemn: refused sends are then `STUCK`.
        """
        problem = self._attempt(acks, sends)
        if problem is None:
            return Result(Fate.SETTLED)
        if isinstance(problem, _UNDONE):
            return Result(Fate.LOST, problem.message)
        if not acks:
            return Result(Fate.STUCK, problem.message)
        return self.condemn(acks, letters(unsettled(problem)), problem.message)

    def condemn(self, acks: Sequence[Delivery], letters: Sequence[Outgoing], words: str) -> Result:
        """Acknowledge and send dead letters; `words` say why there are any."""
        problem = self._attempt(acks, letters)
        if problem is None:
            return Result(Fate.CONDEMNED, words)
        if isinstance(problem, _UNDONE):
            return Result(Fate.LOST, problem.message)
        return Result(Fate.STUCK, problem.message, tuple(letters))

    def depart(self, acks: Sequence[Delivery], sends: Sequence[Outgoing], letters: Letters) -> Result:
        """Settle, hand back all that is in hand, and close every queue, if possible as one whole.

        The subscriptions are closed in the same write, so that the broker has no time to hand over more.
        """
        self._gather()
        closing = self._consumers.open_queues()
        back, given = self._hands.unfinished(self._clock())
        problem = self._attempt([*acks, *back], [*sends, *given], closing)
        result = Result(Fate.SETTLED) if problem is None else Result(Fate.LOST, problem.message)
        if isinstance(problem, _REFUSED):
            result = self.settle(acks, sends, letters) if acks or sends else Result(Fate.SETTLED)
            problem = self._attempt(back, given, closing)
            if isinstance(problem, _REFUSED):
                problem = self._attempt([], [], closing)
        self._consumers.pause(closing, confirmed=problem is None)
        return result

    def _attempt(
        self, acks: Sequence[Delivery], sends: Sequence[Outgoing], closing: Sequence[Subscription] = ()
    ) -> ZocError | None:
        try:
            self._transport.settle(acks, sends, closing=closing)
        except (*_REFUSED, *_UNDONE) as problem:
            return problem
        return None
