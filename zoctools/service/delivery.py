"""One delivery on its way to its settle: gate, handler, ending, verdict, settle, and the record of it all."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from zoctools import headers, logs, text
from zoctools.recipe.envelope import BadMessage
from zoctools.recipe.step import Step
from zoctools.service import copies, endings
from zoctools.service.consumers import Consumer
from zoctools.service.copies import Cause, Place
from zoctools.service.endings import Away, Done, Ending, Failed, Interrupted, Moment, Rules, Verdict
from zoctools.service.hands import Hands, Held
from zoctools.service.service import Service, TimerHandler
from zoctools.service.settling import Fate, Letters, Result, Settler
from zoctools.service.status import Status, Vitals
from zoctools.transport.contract import Delivery, Outgoing

_log = logging.getLogger("zoctools.service")
_handled = logging.getLogger(logs.HANDLED)
_WORRYING = ("failed", "dead", "died", "lost", "stuck")

Gate = Callable[[Delivery, Consumer, str], Step]
"""Makes a step of a delivery for a consumer in a namespace; raises `BadMessage`."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The two clocks: `wall` for stamps that others read, `steady` for spans of time; both in seconds."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic


@dataclass(slots=True)
class Timer:
    """A handler that is called every `period` seconds; `unsent` is an outbox the broker has not confirmed."""

    period: float
    handler: TimerHandler
    unsent: list[Outgoing] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """What one call into the service has asked for; it happens when the call has returned."""

    current: Held | None = None
    hold: bool = False
    release: dict[int, Held] = field(default_factory=dict)


def gate(delivery: Delivery, consumer: Consumer, namespace: str, step: type[Step] = Step) -> Step:
    """Return the step a delivery is; raises `BadMessage` for what this consumer must not see."""
    if consumer.raw:
        return step(payload=delivery.body, headers=delivery.headers, namespace=namespace)
    if not consumer.plain and not headers.is_recipe(delivery.headers):
        raise BadMessage("not-a-recipe", "this service takes messages of recipes only")
    return step.from_message(delivery.headers, delivery.body, namespace)


class Desk:
    """Where deliveries and timers are dealt with, one at a time.

    `leaving` says whether the service is about to go: the settle of the last message then hands back everything else.
    `stuck` is told of messages whose dead letters cannot be sent.
    """

    def __init__(
        self,
        service: Service,
        settler: Settler,
        hands: Hands,
        vitals: Vitals,
        *,
        leaving: Callable[[], bool],
        stuck: Callable[[list[Delivery], Result], None],
        clock: Clock,
        admit: Gate = gate,
    ) -> None:
        self._service = service
        self._settler = settler
        self._hands = hands
        self._vitals = vitals
        self._leaving = leaving
        self._stuck = stuck
        self._clock = clock
        self._admit = admit
        self._work: Work | None = None

    # What the service asks for while it is called

    def hold(self, step: Step) -> None:
        """Keep the current message; raises `ValueError` for any other step."""
        if self._work is None or self._work.current is None or step is not self._work.current.step:
            raise ValueError("only the message being handled can be held")
        self._work.hold = True

    def settle_held(self, steps: Iterable[Step]) -> None:
        """Settle held messages with this call; the current one may be among them."""
        if self._work is None:
            raise ValueError("messages can be settled from within a handler only")
        for step in list(steps):
            if self._work.current is not None and step is self._work.current.step:
                self._work.hold = False
                continue
            held = self._hands.held(step)
            if held is None:
                raise ValueError("a step to be settled is not held")
            self._work.release[id(step)] = held

    # One thing at a time

    def handle(self, delivery: Delivery, consumer: Consumer) -> Ending:
        """Bring a delivery from the gate to its settle; returns how its handler ended."""
        began = self._clock.steady()
        step, ending = self._open(delivery, consumer)
        with logs.recipe(step.recipe_ID):
            self._vitals.enter(Status.PROCESSING, step.recipe_ID)
            current = Held(step, delivery)
            work = Work(current)
            if ending is None:
                ending = self._call(work, consumer.handler, step, step.payload)
            if isinstance(ending, Done):
                result = self._finish(work)
                outcome, why = "held" if work.hold else _named(result, "done"), result.words
            else:
                verdict = endings.verdict(delivery, ending, Rules.of(self._service), self._moment(step))
                result = self._replace(current, verdict, going=isinstance(ending, Away | Interrupted))
                outcome, why = _named(result, verdict.outcome), result.words or verdict.why
            self._report(current, outcome, why, began)
        self._vitals.enter(Status.IDLE)
        return ending

    def count_death(self, delivery: Delivery) -> None:
        """Settle a message marked as delivered before into a copy with one death more, or its dead letter."""
        began = self._clock.steady()
        blank = Held(Step(headers=delivery.headers), delivery)
        verdict = endings.death_verdict(delivery, self._moment(blank.step))
        result = self._replace(blank, verdict, going=False)
        self._report(blank, _named(result, verdict.outcome), result.words or verdict.why, began)

    def tick(self, timer: Timer) -> Ending:
        """Call a timer's handler and send its outbox; one that was not confirmed goes first."""
        if timer.unsent and not self._send_unsent(timer):
            return Done()
        self._vitals.enter(Status.TIMER)
        step = Step(namespace=self._service.namespace)
        work = Work()
        ending = self._call(work, timer.handler, step)
        if isinstance(ending, Done):
            result = self._finish(work, step.outbox)
            if result.fate is Fate.LOST and not work.release:
                timer.unsent = step.outbox
        self._vitals.enter(Status.IDLE)
        return ending

    def tell(self, function: Callable[..., object], *arguments: object) -> Ending:
        """Call the service outside any message, and settle what it releases; returns how the call ended."""
        work = Work()
        ending = self._call(work, function, *arguments)
        if isinstance(ending, Done):
            self._finish(work)
        return ending

    # Steps on the way

    def _call(self, work: Work, function: Callable[..., object], *arguments: object) -> Ending:
        """Call into the service and return how that ended; whatever it raises is caught."""
        self._work = work
        try:
            function(*arguments)
        except BaseException as error:
            ending = endings.ending_of(error)
            if isinstance(ending, Failed):
                _log.error("%s", endings.describe(error), exc_info=True)
            return ending
        finally:
            self._work = None
        return Done()

    def _open(self, delivery: Delivery, consumer: Consumer) -> tuple[Step, Ending | None]:
        try:
            return self._admit(delivery, consumer, self._service.namespace), None
        except Exception as error:
            return Step(headers=delivery.headers), endings.ending_of(error)

    def _finish(self, work: Work, outbox: Iterable[Outgoing] = ()) -> Result:
        """Settle a call that returned: its own message unless held, what it released, and an outbox of its own."""
        parts = list(work.release.values())
        if work.current is not None and work.hold:
            self._hands.hold(work.current.step, work.current.delivery)
        elif work.current is not None:
            parts.append(work.current)
        sends = [*outbox, *(message for part in parts for message in part.step.outbox)]
        if not parts and not sends:
            return Result(Fate.SETTLED)
        self._hands.release(part.step for part in parts)
        result = self._settle([part.delivery for part in parts], sends, self._letters(parts), going=False)
        if result.fate is Fate.LOST:
            for part in work.release.values():
                self._hands.hold(part.step, part.delivery)
        return result

    def _replace(self, part: Held, verdict: Verdict, going: bool) -> Result:
        """Settle a message into the copy that takes its place."""
        write = self._letters([part])

        def letters(refusal: Cause) -> list[Outgoing]:
            return write(Cause(f"{verdict.why}; and it could not be sent on: {refusal.error}", refusal.error_class))

        return self._settle([part.delivery], [verdict.copy], letters, going)

    def _settle(self, acks: list[Delivery], sends: list[Outgoing], letters: Letters, going: bool) -> Result:
        """Settle; when the service is `going`, to pause or to leave, with everything else that is in hand."""
        departing = going or (self._leaving() and not self._hands.holding)
        act = self._settler.depart if departing else self._settler.settle
        result = act(acks, sends, letters)
        if result.fate is Fate.STUCK and acks and not departing:
            self._stuck(acks, result)
        elif result.fate in (Fate.STUCK, Fate.CONDEMNED):
            _log.error("what was to be sent is refused: %s", result.words)
        elif result.fate is Fate.LOST:
            _log.warning("not settled, it will be delivered again: %s", result.words)
            for delivery in acks:
                self._hands.taken(delivery)
        return result

    def _send_unsent(self, timer: Timer) -> bool:
        result = self._settler.settle([], timer.unsent, lambda _: [])
        if result.fate is Fate.LOST:
            return False
        if result.fate is Fate.STUCK:
            _log.error("what a timer was to send is refused: %s", result.words)
        timer.unsent = []
        return True

    def _letters(self, parts: list[Held]) -> Letters:
        def write(cause: Cause) -> list[Outgoing]:
            now = self._clock.wall()
            return [copies.dead_letter(part.delivery, cause, self._place(part.step), now) for part in parts]

        return write

    def _moment(self, step: Step) -> Moment:
        return Moment(self._clock.wall(), self._place(step), random.uniform(0.8, 1.2))

    def _place(self, step: Step) -> Place:
        node = str(step.pointer) if step.pointer else ""
        return Place(self._vitals.service_class, self._vitals.host, step.recipe_ID, node)

    def _report(self, part: Held, outcome: str, why: str, began: float) -> None:
        """Log one structured record of a delivery, and count it."""
        wait = copies.waited(part.delivery, self._clock.wall())
        spent = self._clock.steady() - began
        self._vitals.note(wait, handled=outcome in ("done", "held"), failed=outcome in ("failed", "dead"))
        level = logging.WARNING if outcome in _WORRYING else logging.INFO
        if not _handled.isEnabledFor(level):
            return
        queue = part.delivery.destination.name
        node = f" node {part.step.pointer}" if part.step.pointer else ""
        reason = f": {text.one_line(why, 500)}" if why else ""
        _handled.log(
            level,
            "%s%s: %s in %.3f s%s",
            queue,
            node,
            outcome,
            spent,
            reason,
            extra={
                "zoc_queue": queue,
                "zoc_node": part.step.pointer,
                "zoc_wait": None if wait is None else round(wait, 3),
                "zoc_duration": round(spent, 6),
                "zoc_outcome": outcome,
            },
        )


_FATES = {Fate.CONDEMNED: "dead", Fate.LOST: "lost", Fate.STUCK: "stuck"}


def _named(result: Result, outcome: str) -> str:
    """Return what became of a message in one word."""
    return outcome if result.fate is Fate.SETTLED else _FATES[result.fate]
