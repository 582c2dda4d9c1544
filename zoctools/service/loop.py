"""The main loop of a service: takes what arrives from one inbox and brings each message to its settle.

    inbox -> waiting -> (marked? early?) -> gate -> handler -> ending -> verdict -> settle

A command outranks a timer, a timer outranks a message, and one thing is done at a time. The loop knows no signals, no
threads and no processes: `leave` and `look_up` may be called from anywhere, everything else happens where `run` was.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from zoctools import text
from zoctools.errors import LoginRefused, ZocError
from zoctools.recipe import envelope
from zoctools.recipe.envelope import BadMessage
from zoctools.service import copies
from zoctools.service.agenda import Agenda
from zoctools.service.consumers import Audience, Consumer, Consumers
from zoctools.service.delivery import Clock, Desk, Gate, Timer, gate
from zoctools.service.endings import Away, Done, Ending, Interrupted, Later
from zoctools.service.hands import Hands, Parked
from zoctools.service.service import Handler, Listener, Probe, Service, TimerHandler
from zoctools.service.settling import Fate, Result, Settler
from zoctools.service.status import Status, Vitals
from zoctools.transport.contract import Delivery, Link, Refused, Transport

if TYPE_CHECKING:
    from zoctools.recipe.step import Step
    from zoctools.settings import Settings

COMMANDS = "command"
LONGEST_SLEEP = 60.0
IN_TRANSIT = 0.1
"""Seconds in which a message may still be on its way to us when we leave."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between two looks whether something is back, doubled from the first to the longest."""
AT_ONCE = 1000
"""Events taken from the inbox before something is done about one of them."""
NO_SCHEDULER = "delayed messages are kept here until their time: the broker has no scheduler"

_log = logging.getLogger("zoctools.service")


@dataclass(frozen=True, slots=True)
class Wake:
    """Put into the inbox to have the loop look up; `answer` is set when it does."""

    answer: threading.Event | None = None


class Loop:
    """Runs one service on a connected transport; what the service asks for, it asks of the loop.

    `admit` is the gate; `witness` is told how each handler ended, once its message is settled.
    """

    def __init__(
        self,
        service: type[Service],
        transport: Transport,
        vitals: Vitals,
        *,
        settings: Settings | None = None,
        options: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        admit: Gate = gate,
        witness: Callable[[Delivery, Ending], object] = lambda delivery, ending: None,
    ) -> None:
        self.settings = settings
        self.options: Mapping[str, Any] = dict(options or {})
        self.namespace = transport.namespace.rstrip(".")
        self._transport = transport
        self._command_topic = transport.topic(COMMANDS)
        self._inbox: SimpleQueue[Any] = transport.inbox
        self._vitals = vitals
        self._clock = clock or Clock()
        self._witness = witness
        self._hands = Hands()
        self._agenda = Agenda()
        self._commands: deque[Delivery] = deque()
        self._away, self._pause = "", FIRST_PAUSE
        self._refusal: LoginRefused | None = None
        self._leaving, self._why = False, ""
        self._consumers = Consumers(transport)
        settler = Settler(transport, self._hands, self._consumers, self._clock.wall, partial(self._collect, 0.0))
        self.service = service(self)
        if self.options.get("queue"):
            self.service.queue = self.options["queue"]
        self._desk = Desk(
            self.service,
            settler,
            self._hands,
            vitals,
            leaving=lambda: self._leaving,
            stuck=self._stick,
            clock=self._clock,
            admit=admit,
        )
        self._settler = settler

    # From the first message to the last

    def start(self) -> None:
        """Listen to commands and let the service say what it consumes.

        What it raises is the caller's; what a queue has sent by then goes back, for nobody died of it.
        """
        self._vitals.enter(Status.STARTING)
        self._consumers.hear(Audience(self._command_topic, self._obey))
        try:
            self.service.start()
        except BaseException:
            self._give_back()
            raise
        consumed = ", ".join(self._consumers.queues) or "no queue"
        _log.info("%s takes messages from %s at %s", self.service.name, consumed, self._transport.link.broker)
        self._vitals.enter(Status.IDLE)

    def run(self) -> None:
        """Work until told to leave, then leave in peace; the link is left open.

        Raises `LoginRefused` when the broker would not have us back after a lost link.
        """
        while not self._leaving:
            self.turn(LONGEST_SLEEP)
        self._vitals.enter(Status.SHUTDOWN)
        _log.info("leaving: %s", text.one_line(self._why, 200))
        self._desk.tell(self.service.stop)
        self._give_back()
        self._vitals.enter(Status.END)
        if self._refusal is not None:
            raise self._refusal

    def turn(self, patience: float) -> bool:
        """Do one thing, waiting up to `patience` seconds for something to do; returns whether there was any."""
        self._collect(self._rest(patience))
        if self._leaving:
            return False
        if self._commands:
            self._hear(self._commands.popleft())
            return True
        action = self._agenda.take(self._clock.steady())
        if action is not None:
            action()
            return True
        if self._hands.waiting:
            self._take(self._hands.waiting.popleft())
            return True
        return False

    @property
    def leaving(self) -> bool:
        """Whether it has been told to leave."""
        return self._leaving

    def next_due(self) -> float | None:
        """Return when, on the steady clock, there is something to do even if nothing arrives; None: never."""
        return self._agenda.next_due()

    def leave(self, why: str) -> None:
        """Finish the current message, hand back the rest, and let `run` return; from any thread or signal handler."""
        if not self._leaving:
            self._why, self._leaving = why, True
        self._inbox.put(Wake())

    def look_up(self) -> threading.Event:
        """Return an event that is set when the loop next looks up from its work; from any thread."""
        answer = threading.Event()
        self._inbox.put(Wake(answer))
        return answer

    # What arrives

    def _rest(self, patience: float) -> float:
        if self._hands.waiting or self._commands:
            return 0.0
        due = self._agenda.next_due()
        return patience if due is None else min(max(due - self._clock.steady(), 0.0), patience)

    def _collect(self, patience: float) -> None:
        """Take all that has arrived, waiting up to `patience` seconds for the first.

        What a queue sends that we have closed meanwhile is the broker's again.
        """
        try:
            self._sort(self._inbox.get(timeout=patience) if patience > 0 else self._inbox.get_nowait())
            for _ in range(AT_ONCE):
                self._sort(self._inbox.get_nowait())
        except Empty:
            return

    def _sort(self, event: object) -> None:
        match event:
            case Delivery() if event.destination == self._command_topic:
                self._commands.append(event)
            case Delivery() if self._consumers.of(event) is not None:
                self._hands.waiting.append(event)
            case Wake(answer):
                if answer is not None:
                    answer.set()
            case Link():
                self._on_link(event)
            case Refused(error):
                _log.error("the broker refuses: %s", text.one_line(error, 500))
                self._vitals.wait_for("refused", f"the broker, which refuses: {text.one_line(error, 200)}")

    def _on_link(self, link: Link) -> None:
        """Forget what came over an earlier link: the broker has taken it back."""
        self._vitals.wait_for("refused", "")
        self._vitals.wait_for("link", "" if link.connected else f"the broker {link.broker}")
        self._forget(lambda delivery: not link.connected or delivery.link != link.number)
        if link.given_up:
            self._refusal = LoginRefused(link.error, "check username and password")
            self.leave("the broker refuses the login")

    def _forget(self, gone: Callable[[Delivery], bool]) -> None:
        lost = self._hands.drop(gone)
        if lost and not self._leaving:
            self._desk.tell(self.service.on_lost, lost)

    # What is done about it

    def _take(self, delivery: Delivery) -> None:
        """Bring one delivery to its settle."""
        consumer = self._consumers.of(delivery)
        now = self._clock.wall()
        if isinstance(consumer, Audience):
            self._hear(delivery)
        elif consumer is None:
            return
        elif delivery.redelivered and self.service.counts_deaths and not self._hands.was_ours(delivery):
            self._desk.count_death(delivery)
        elif copies.due(delivery, now) > now:
            self._park(Parked(delivery, copies.due(delivery, now)), consumer)
        else:
            self._handle(delivery, consumer)

    def _handle(self, delivery: Delivery, consumer: Consumer) -> None:
        ending = self._desk.handle(delivery, consumer)
        if isinstance(ending, Done):
            self._pause = FIRST_PAUSE
        self._heed(ending)
        self._witness(delivery, ending)

    def _hear(self, delivery: Delivery) -> None:
        """Give a broadcast to its listener."""
        audience = self._consumers.of(delivery)
        if not isinstance(audience, Audience):
            return
        try:
            payload = envelope.decode(delivery.body)
        except BadMessage as bad:
            _log.warning("a broadcast on %s is passed over: %s", delivery.destination.name, bad)
            return
        self._heed(self._desk.tell(audience.listener, payload))

    def _obey(self, command: Any) -> None:
        """Leave when a shutdown names us: each filter present must match exactly, and one must be present."""
        if not isinstance(command, dict) or command.get("command") != "shutdown":
            _log.debug("not a command we know: %s", text.one_line(command, 200))
            return
        ours = {"host": self._vitals.host, "service": self._vitals.service_class}
        wanted = {key: command[key] for key in ours if key in command}
        if wanted and all(ours[key] == value for key, value in wanted.items()):
            self.leave("shutdown command")

    def _heed(self, ending: Ending) -> None:
        """Do what an ending means for the service, beyond its message; what a settle handed back is forgotten."""
        if self._consumers.paused:
            self._forget(lambda delivery: delivery.subscription.acknowledge)
        match ending:
            case Away(what, probe):
                self._wait_for(what, probe)
            case Interrupted():
                self.leave("interrupted")

    # Early messages, messages that are stuck, and services that wait

    def _park(self, early: Parked, consumer: Consumer) -> None:
        """Keep a message until its time, without keeping the others of its queue from us."""
        if self._vitals.wait_for("scheduler", NO_SCHEDULER):
            _log.warning(NO_SCHEDULER)
        self._hands.parked.append(early)
        kept = sum(self._consumers.of(parked.delivery) is consumer for parked in self._hands.parked)
        self._consumers.make_room(consumer, kept)
        self._agenda.at(self._clock.steady() + early.due - self._clock.wall(), partial(self._unpark, early))

    def _unpark(self, early: Parked) -> None:
        if early in self._hands.parked:
            self._hands.parked.remove(early)
            consumer = self._consumers.of(early.delivery)
            if isinstance(consumer, Consumer):
                self._handle(early.delivery, consumer)

    def _stick(self, acks: list[Delivery], result: Result, pause: float = FIRST_PAUSE) -> None:
        """Keep messages whose dead letters are refused, and try again later."""
        _log.critical("a message cannot even be dead-lettered, it stays here unsettled: %s", result.words)
        self._vitals.wait_for("stuck", f"a broker that takes dead letters: {text.one_line(result.words, 200)}")
        self._agenda.at(self._clock.steady() + pause, partial(self._unstick, acks, result, pause))

    def _unstick(self, acks: list[Delivery], earlier: Result, pause: float) -> None:
        result = self._settler.condemn(acks, earlier.letters, earlier.words)
        if result.fate is Fate.STUCK:
            self._stick(acks, result, min(pause * 2, LONGEST_PAUSE))
        else:
            self._vitals.wait_for("stuck", "")

    def _wait_for(self, what: str, probe: Probe | None) -> None:
        """Pause: every queue is closed by now or closes here, nothing is in hand, and a probe says when to resume."""
        if self._leaving or self._away:
            return
        self._away = what or "something"
        self._vitals.wait_for("away", self._away)
        if not self._consumers.paused:
            self._settler.depart([], [], lambda _: [])
        self._forget(lambda delivery: delivery.subscription.acknowledge)
        _log.warning("paused until it is back: %s", self._away)
        self._look_again(probe)

    def _look_again(self, probe: Probe | None) -> None:
        self._agenda.at(self._clock.steady() + self._pause, partial(self._probe, probe))
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def _probe(self, probe: Probe | None) -> None:
        """Resume when the probe says so, or without one to see for ourselves."""
        if not self._transport.link.connected or (probe is not None and not _is_back(probe)):
            self._look_again(probe)
            return
        _log.info("resumed: %s may be back", self._away)
        self._away = ""
        self._vitals.wait_for("away", "")
        self._resume()

    def _resume(self) -> None:
        """Consume again. A queue the broker refuses is asked for later; when paused anew, the next probe does it."""
        if self._away:
            return
        try:
            self._consumers.resume()
            self._vitals.wait_for("queue", "")
        except ZocError as error:
            self._vitals.wait_for("queue", text.one_line(error.message, 200))
            _log.error("a queue cannot be consumed again: %s", text.one_line(error.message, 500))
            self._agenda.at(self._clock.steady() + LONGEST_PAUSE, self._resume)

    def _give_back(self) -> None:
        self._collect(IN_TRANSIT)
        self._settler.depart([], [], lambda _: [])
        self._hands.drop(lambda delivery: True)

    # What the service asks for

    def consume(
        self,
        queue: str,
        handler: Handler,
        *,
        prefetch: int,
        exclusive: bool,
        priority: int | None,
        selector: str,
        plain: bool,
        raw: bool,
    ) -> None:
        """Hand each message of a queue to a handler."""
        destination = self._transport.queue(queue)
        self._consumers.add(Consumer(destination, handler, prefetch, exclusive, priority, selector, plain, raw))
        self._vitals.queues = self._consumers.queues

    def listen(self, topic: str, handler: Listener) -> None:
        """Hand each broadcast on a topic to a handler."""
        self._consumers.hear(Audience(self._transport.topic(topic), handler))

    def every(self, seconds: float, handler: TimerHandler) -> None:
        """Call a handler every so many seconds; raises `ValueError` unless that is a time."""
        if not seconds > 0:
            raise ValueError(f"a period must be more than 0 seconds, not {seconds}")
        timer = Timer(float(seconds), handler)
        self._agenda.at(self._clock.steady() + timer.period, partial(self._tick, timer))

    def _tick(self, timer: Timer) -> None:
        ending = self._desk.tick(timer)
        pause = max(ending.delay, 0.01) if isinstance(ending, Later) else timer.period
        self._agenda.at(self._clock.steady() + pause, partial(self._tick, timer))
        self._heed(ending)

    def hold(self, step: Step) -> None:
        """Keep the message being handled."""
        self._desk.hold(step)

    def settle_held(self, steps: Iterable[Step]) -> None:
        """Settle held messages when the running call returns."""
        self._desk.settle_held(steps)

    def renamed(self, name: str) -> None:
        """Show another name in the status."""
        self._vitals.name = name

    def waits_for(self, what: str) -> None:
        """Show in the status what a handler is waiting for."""
        self._vitals.wait_for("handler", what)


def _is_back(probe: Probe) -> bool:
    try:
        return probe() is not False
    except Exception as error:
        _log.debug("not back yet: %s", text.one_line(error, 200))
        return False
