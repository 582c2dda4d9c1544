"""The link of a STOMP transport: opens it, keeps it open for ever, and waits for what is confirmed over it.

The longer a link was away the longer are the pauses between two tries, up to a second and a half: however long the
outage, we are back within two seconds of the broker.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from queue import SimpleQueue
from typing import Protocol

from zoctools import text
from zoctools.broker.frames import Frame, encode
from zoctools.config import StompSettings
from zoctools.errors import LinkLost, LoginRefused, SendRefused, TimedOut, Unreachable, ZocError
from zoctools.transport.contract import Event, Link, Refused
from zoctools.transport.receipts import Desk
from zoctools.transport.wire import Wire, error_words

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 1.5
"""Seconds between two tries to reconnect: a tenth of how long the link has been away, varied by a fifth."""
STABLE_AFTER = 10.0
"""Seconds a link has to live to end an outage; one that breaks at once, again and again, is tried ever more rarely."""
GOODBYE = 3.0
"""Seconds we wait for the broker to confirm that we leave."""

_log = logging.getLogger("zoctools.transport")


class Owner(Protocol):
    """Whose link it is."""

    def link_opened(self, wire: Wire) -> None:
        """A new link is open, nobody was told yet and nothing read: write what it needs. May raise `LinkLost`."""

    def message_arrived(self, wire: Wire, frame: Frame) -> None:
        """A MESSAGE came. Called on the receiver thread, which stores and does nothing else."""

    def link_lost(self, words: str) -> None:
        """The link is gone, and with it all that was delivered over it. Called on the receiver thread."""


class Session:
    """One link at a time, numbered. `changed` guards it and is notified when it changes; events go to `inbox`."""

    def __init__(self, settings: StompSettings, owner: Owner) -> None:
        self.inbox: SimpleQueue[Event] = SimpleQueue()
        self.changed = threading.Condition()
        self.desk = Desk()
        self.link = Link(False, 0, settings.broker, time.monotonic())
        self._settings = settings
        self._owner = owner
        self._opening = threading.Lock()
        self._closed = threading.Event()
        self._wire: Wire | None = None
        self._down_since = 0.0

    # Opening and closing

    def connect(self) -> None:
        """Open the link; raises `Unreachable` or `LoginRefused`."""
        with self._opening:
            if not self.link.connected:
                self._closed.clear()
                self._open()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the link is up; returns whether it is, at once when it will not come back."""

        def decided() -> bool:
            return self.link.connected or self.link.given_up or self._closed.is_set()

        with self.changed:
            self.changed.wait_for(decided, timeout)
            return self.link.connected

    def close(self) -> None:
        """Leave in peace; what was not settled goes back to the broker."""
        with self.changed:
            self._closed.set()
            self.changed.notify_all()
            wire = self._wire
        if wire is None:
            return
        if self.link.connected:
            self._say_goodbye(wire)
        wire.drop("closed by us")
        with self.changed:
            self.changed.wait_for(lambda: self._wire is None, GOODBYE)

    def _say_goodbye(self, wire: Wire) -> None:
        impatient = threading.Timer(GOODBYE, wire.drop, ("closed by us",))
        impatient.daemon = True
        impatient.start()
        receipts = self.desk.expect([self.desk.name("bye")])
        try:
            wire.send(encode("DISCONNECT", {"receipt": receipts.names[0]}))
            receipts.wait(GOODBYE)
        except LinkLost:
            _log.debug("the link was gone before we said goodbye")
        finally:
            impatient.cancel()
            self.desk.forget(receipts)

    def _open(self) -> None:
        """Connect to the first of the hosts that takes us; raises what each of them said."""
        problems: list[Unreachable] = []
        for address in self._settings.hosts:
            wire = Wire(address, self._settings, self.link.number + 1, self._take, self._on_lost)
            self._set_wire(wire)
            try:
                wire.open()
            except Unreachable as error:
                self._set_wire(None)
                problems.append(error)
            except BaseException:
                self._set_wire(None)
                raise
            else:
                self._take_over(wire)
                return
        if not problems:
            raise Unreachable("no broker is configured")
        raise Unreachable("; ".join(problem.message for problem in problems), problems[0].hint)

    def _take_over(self, wire: Wire) -> None:
        with self.changed:
            try:
                self._owner.link_opened(wire)
            except LinkLost:
                _log.debug("the link went while subscriptions were opened again")
            self._set_link(Link(True, wire.number, wire.name, time.monotonic()))
        wire.start()
        if self._closed.is_set():
            wire.drop("closed by us")

    def _reopen(self) -> None:
        """Try until the link is up again, we are closed, or the broker refuses us."""
        for attempt in itertools.count(1):
            away = time.monotonic() - self._down_since
            wait = min(max(away / 10, SHORTEST_PAUSE), LONGEST_PAUSE) * random.uniform(0.8, 1.2)
            self._set_link(replace(self.link, attempt=attempt, next_try=time.monotonic() + wait))
            if self._closed.wait(wait):
                return
            try:
                with self._opening:
                    if not self.link.connected:
                        self._open()
                _log.info("the link to broker %s is up again", self.link.broker)
                return
            except LoginRefused as error:
                _log.error("%s; not trying again", error.message)
                self._set_link(replace(self.link, next_try=None, error=error.message, given_up=True))
                return
            except ZocError as error:
                self.link = replace(self.link, error=error.message)
            except Exception as error:
                _log.exception("opening the link again failed")
                self.link = replace(self.link, error=f"internal error: {text.one_line(error, 200)}")

    def _set_wire(self, wire: Wire | None) -> None:
        with self.changed:
            self._wire = wire
            self.changed.notify_all()

    def _set_link(self, link: Link) -> None:
        with self.changed:
            self.link = link
            self.inbox.put(link)
            self.changed.notify_all()

    # What is written

    def wire(self) -> Wire:
        """The connection that is up; raises `LinkLost` while there is none."""
        wire = self.wire_if_up()
        if wire is None:
            raise LinkLost(f"the link to broker {self.link.broker} is down", "it is opened again by itself")
        return wire

    def wire_if_up(self) -> Wire | None:
        """The connection that is up, or None."""
        return self._wire if self.link.connected else None

    def confirm(self, wire: Wire, frames: bytes, wanted: Sequence[str]) -> None:
        """Write frames as one and wait for their receipts; raises `SendRefused`, `LinkLost` or `TimedOut`."""
        receipts = self.desk.expect(wanted)
        try:
            wire.send(frames)
            if self._wire is not wire:
                receipts.lose(f"the link to broker {wire.name} was lost")
            in_time = receipts.wait(self._settings.settle_timeout)
        finally:
            self.desk.forget(receipts)
        if receipts.refusal:
            raise SendRefused(f"broker {wire.name} refuses: {receipts.refusal}")
        if receipts.lost:
            raise LinkLost(receipts.lost)
        if not in_time:
            waited = text.duration(self._settings.settle_timeout)
            wire.drop(f"no confirmation within {waited}")
            raise TimedOut(
                f"broker {wire.name} confirmed nothing within {waited}",
                "a broker whose memory or disk is full takes nothing: see its log",
            )

    # What arrives, on the receiver thread

    def _take(self, wire: Wire, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.command == "MESSAGE":
                self._owner.message_arrived(wire, frame)
            elif frame.command == "RECEIPT":
                self.desk.confirmed(frame.headers.get("receipt-id", ""))
            elif frame.command == "ERROR":
                self._take_error(wire, frame)
            else:
                wire.drop(f"the broker sent a frame nobody knows: {text.one_line(frame.command, 40)}")
                return

    def _take_error(self, wire: Wire, frame: Frame) -> None:
        words = error_words(frame)
        receipt = frame.headers.get("receipt-id")
        if receipt is not None:
            self.desk.refused(receipt, words)
        else:
            wire.broker_said(words)
            self.inbox.put(Refused(words))

    def _on_lost(self, wire: Wire, why: str) -> None:
        """Called once by each connection that was started, when it ends."""
        words = f"the link to broker {wire.name} was lost: {why}"
        with self.changed:
            if self._wire is not wire:
                return
            now = time.monotonic()
            if not self._down_since or now - self.link.since > STABLE_AFTER:
                self._down_since = now
            self._wire = None
            self._set_link(Link(False, wire.number, wire.name, now, error=text.one_line(why, 500)))
            self._owner.link_lost(words)
            self.desk.lose_all(words)
        if not self._closed.is_set():
            _log.warning("%s", words)
            threading.Thread(target=self._reopen, name="stomp reconnect", daemon=True).start()
