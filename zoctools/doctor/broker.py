"""Checks of the broker, on throw-away queues named ``transient.doctor.<uuid>``; each has a link of its own."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty

from zoctools import text
from zoctools.board import StatusBoard
from zoctools.doctor.finding import OURS, Finding, fail, of_error, ok, unknown, warn
from zoctools.errors import LinkLost, SendRefused, TimedOut, ZocError
from zoctools.headers import SCHEDULED_DELAY
from zoctools.listener import events, subscribe
from zoctools.queues import SHARED_DEAD_LETTERS, Figures
from zoctools.service.status import PERIOD
from zoctools.settings import StompSettings
from zoctools.snapshot import Mood
from zoctools.transport.contract import Delivery, Destination, Kind, Link, Outgoing, Refused, Transport

Opener = Callable[[StompSettings], Transport]

LIMIT = 3.0
"""Seconds a check may take."""

STATUS_LIMIT = PERIOD + 0.5
"""Seconds in which every service must have spoken once."""

ROUNDS = 7
DELAY = 1.0
NAGLE = (0.03, 0.08)
"""Seconds within which a settle lies that waits for a delayed acknowledgement of TCP: 40 ms, and the network."""


class BrokerChecks:
    """The checks that need a link to the broker.

    `queues` are the full names of the queues that were used, to be removed afterwards where that is possible.
    """

    def __init__(self, settings: StompSettings, opener: Opener, figures: Figures | None) -> None:
        self._settings = replace(
            settings,
            connect_timeout=min(settings.connect_timeout, LIMIT / len(settings.hosts)),
            settle_timeout=min(settings.settle_timeout, LIMIT),
        )
        self._opener = opener
        self._figures = figures
        self.queues: list[str] = []

    def login(self) -> Finding:
        """Whether the broker takes us."""
        began = time.monotonic()
        try:
            with self._link() as transport:
                took = time.monotonic() - began
                who = f"as {self._settings.username}" if self._settings.username else "without a login"
                detail = f"{transport.link.broker} takes us {text.one_line(who, 60)} after {1000 * took:.0f} ms"
                return ok("login", detail, seconds=round(took, 4))
        except ZocError as error:
            return of_error("login", error)

    def round_trip(self) -> Finding:
        """How long a confirmed settle takes: one acknowledgement and one send, as for each handled message."""
        what = "round trip"
        with self._link() as transport:
            queue = self._new_queue(transport)
            transport.subscribe(queue)
            transport.send(_note(queue))
            times = []
            for _ in range(ROUNDS):
                delivery = _next(transport, LIMIT, queue)
                began = time.monotonic()
                transport.settle([delivery], [_note(queue)])
                times.append(time.monotonic() - began)
            transport.settle([_next(transport, LIMIT, queue)], [])
        settle = statistics.median(times)
        detail = f"a confirmed settle takes {1000 * settle:.1f} ms"
        hint = "add transport.tcpNoDelay=true to the broker's STOMP connector: each settle of other clients takes 44 ms"
        figures = {"settle_seconds": round(settle, 5)}
        slow = self._slow_connectors()
        if slow:
            return warn(what, f"{detail}; the connector {slow[0]} lacks tcpNoDelay", hint, **figures)
        if NAGLE[0] <= settle <= NAGLE[1]:
            return warn(what, f"{detail}: the broker seems to lack tcpNoDelay", hint, **figures)
        return ok(what, detail, **figures)

    def scheduler(self) -> Finding:
        """Whether the broker holds a delayed message back."""
        what = "scheduler"
        with self._link() as transport:
            queue = self._new_queue(transport)
            transport.subscribe(queue)
            began = time.monotonic()
            transport.send(replace(_note(queue), delay=DELAY))
            try:
                delivery = _next(transport, LIMIT - 0.3, queue)
            except TimedOut:
                return fail(what, f"a message delayed by {DELAY:g} s did not come back in {LIMIT:g} s", _SCHEDULER_HINT)
            took = time.monotonic() - began
            transport.settle([delivery], [])
        if SCHEDULED_DELAY in delivery.headers:
            return fail(what, "delayed messages are handed over at once: the broker has no scheduler", _SCHEDULER_HINT)
        return ok(what, f"a message delayed by {DELAY:g} s came back after {took:.1f} s", seconds=round(took, 3))

    def dead_letter_queues(self) -> Finding:
        """Whether the broker keeps the dead letters of each queue apart: an expired message shows it."""
        what = "dead letter queues"
        with self._link() as transport:
            queue = self._new_queue(transport)
            own, shared = queue.dead_letters, Destination.queue(SHARED_DEAD_LETTERS)
            mark = uuid.uuid4().hex
            self.queues.append(own.name)
            transport.subscribe(own)
            transport.send(Outgoing(queue, b"{}", {"zoc_doctor": mark}, expires_in=0.2))
            time.sleep(0.4)
            transport.subscribe(queue)
            try:
                delivery = _next(transport, LIMIT / 2, queue, own)
            except TimedOut:
                transport.subscribe(shared, selector=f"zoc_doctor = '{mark}'")
                try:
                    delivery = _next(transport, LIMIT / 3, queue, own, shared)
                except TimedOut:
                    return unknown(what, "expired messages leave no dead letter on this broker, so it cannot be seen")
            transport.settle([delivery], [])
        if delivery.destination == shared:
            hint = 'give its queues an individualDeadLetterStrategy with queuePrefix="DLQ."'
            return fail(what, f"the broker mixes the dead letters of all queues in {SHARED_DEAD_LETTERS}", hint)
        if delivery.destination == queue:
            return unknown(what, "a message did not expire: our clock and the broker's may differ")
        return ok(what, f"dead letters of a queue go to its own {own.name.partition('.')[0]}. queue")

    def services(self) -> Finding:
        """Whether anybody broadcasts a status."""
        what, board = "services", StatusBoard()
        with self._link() as transport:
            subscribe(transport)
            began = time.monotonic()
            for _ in events(transport, board, began + STATUS_LIMIT):
                enough = time.monotonic() - began > LIMIT - 0.5
                if enough and board.snapshot(()).counts.heard:
                    break
        shot, took = board.snapshot(), time.monotonic() - began
        if shot.counts.refused and not shot.instances:
            return unknown(what, f"we may not listen: {shot.counts.refused_sample}")
        alive = [row for row in shot.instances if shot.mood(row) not in (Mood.BAD, Mood.GONE)]
        if not alive:
            hint = "is any service running? 'zoc service --list' names those installed"
            spoke = "only who left or is in trouble" if shot.instances else "nobody"
            return warn(what, f"{spoke} spoke on the status topic in {took:.1f} s", hint, heard=0)
        heard = len(alive)
        names = len({row.service_class for row in alive if row.service_class})
        detail = (
            f"{text.count(heard, 'process', 'processes')} of {text.count(names, 'service class', 'service classes')}"
        )
        return ok(what, f"{detail} spoke within {took:.1f} s", heard=heard)

    @contextmanager
    def _link(self) -> Iterator[Transport]:
        transport = self._opener(self._settings)
        try:
            transport.connect()
            yield transport
        finally:
            transport.close()

    def _new_queue(self, transport: Transport) -> Destination:
        queue = transport.queue(f"{OURS}{uuid.uuid4()}")
        self.queues.append(queue.name)
        return queue

    def _slow_connectors(self) -> Sequence[str]:
        """The STOMP connectors without tcpNoDelay, as far as we may see them."""
        try:
            connectors = (self._figures.broker().connectors or {}) if self._figures is not None else {}
        except ZocError:
            return ()
        return [name for name, url in connectors.items() if url.startswith("stomp") and "tcpNoDelay=true" not in url]


_SCHEDULER_HINT = 'set schedulerSupport="true" on the broker: checkpoints and retries wait there'


def _note(queue: Destination) -> Outgoing:
    return Outgoing(queue, b"{}", persistent=False)


def _next(transport: Transport, seconds: float, *wanted: Destination) -> Delivery:
    """Return the next message; raises `TimedOut`, `LinkLost`, or `SendRefused` when the broker will not have it."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            event = transport.inbox.get(timeout=max(deadline - time.monotonic(), 0.001))
        except Empty:
            raise TimedOut(f"no message came back within {seconds:.1f} s") from None
        if isinstance(event, Refused):
            raise SendRefused(event.error)
        if isinstance(event, Link) and not event.connected:
            raise LinkLost(f"the link was lost: {event.error}")
        if isinstance(event, Delivery) and event.destination.kind is Kind.QUEUE and event.destination in wanted:
            return event
