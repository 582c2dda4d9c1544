"""One service in one process: its link, its threads, its signals, and how it leaves.

The service runs in the process that was asked for it; there is no pair of processes whose halves could outlive each
other. Two threads stand beside the main loop: the heartbeat, and the liveness endpoint where it is asked for.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import zoctools
from zoctools import logs, text
from zoctools.errors import ExitCode, Unreachable, ZocError
from zoctools.hosts import Host
from zoctools.service.heartbeat import Heartbeat, Memory, batch_job
from zoctools.service.liveness import Endpoint, Liveness
from zoctools.service.loop import Loop
from zoctools.service.service import Service
from zoctools.service.status import Status, Vitals
from zoctools.transport.contract import Transport

if TYPE_CHECKING:
    from zoctools.settings import Settings

SAME_REQUEST = 1.0
"""Seconds in which further signals belong to the first: systemd and SLURM signal a whole group, and parents forward."""
ORPHAN_GRACE = 30.0
"""Seconds in which a child whose parent is gone may finish its message."""
LONGEST_WAIT = 30.0
_PR_SET_PDEATHSIG = 1

_log = logging.getLogger("zoctools.service")


@dataclass(frozen=True, slots=True)
class Start:
    """How a service was asked to run. `wait` keeps trying when there is no broker yet; `parent` supervises us."""

    queue: str | None = None
    tag: str | None = None
    verbosity: int = 0
    wait: bool = False
    parent: int | None = None
    liveness: Liveness | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the service sees as its options."""
        return {"queue": self.queue, "tag": self.tag, "verbosity": self.verbosity}


class Signals:
    """SIGTERM and SIGINT: the first asks to leave, one that comes more than a second later leaves at once."""

    def __init__(self, leave_at_once: Callable[[int], object] = os._exit) -> None:
        self.asked = ""
        self._leave: Callable[[str], None] | None = None
        self._first: float | None = None
        self._leave_at_once = leave_at_once

    @contextmanager
    def caught(self) -> Iterator[Signals]:
        """Catch the signals until the end of the block."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def tell(self, leave: Callable[[str], None]) -> None:
        """Call `leave` with the reason when asked, now if it has been."""
        self._leave = leave
        if self.asked:
            leave(self.asked)

    def ask(self, why: str) -> None:
        """Ask to leave, as a signal would."""
        self.asked = self.asked or why
        if self._leave is not None:
            self._leave(self.asked)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            self.ask(signal.Signals(number).name)
        elif now - self._first > SAME_REQUEST:
            self._leave_at_once(128 + number)


def run(service: type[Service], transport: Transport, settings: Settings | None, start: Start) -> int:
    """Run a service until it is asked to leave; returns the exit code.

    Raises `ZocError` for what one line can say: no broker, a refused login, a port in use, wrong logging.
    """
    vitals = vitals_of(service, start.tag)
    logs.set_up(settings, start.verbosity, lambda: vitals.fields)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR2)
    with Signals().caught() as signals:
        if start.parent is not None:
            tie_to_parent(start.parent, signals)
        try:
            if not _connected(transport, signals, start.wait):
                return ExitCode.DONE
            heartbeat = Heartbeat(vitals, transport)
            heartbeat.start()
            try:
                return _serve(
                    Loop(service, transport, vitals, settings=settings, options=start.options), signals, start
                )
            except Exception as error:
                heartbeat.say(Status.ERROR)
                if isinstance(error, ZocError):
                    raise
                _log.critical("the service cannot go on: %s", text.one_line(error, 500), exc_info=True)
                return ExitCode.NO
            finally:
                heartbeat.stop()
        finally:
            transport.close()


def _serve(loop: Loop, signals: Signals, start: Start) -> int:
    """Run the loop, asked for signs of life where that is wanted."""
    endpoint = Endpoint(start.liveness, loop.look_up) if start.liveness else None
    try:
        signals.tell(loop.leave)
        if endpoint is not None:
            endpoint.start()
        loop.start()
        loop.run()
    finally:
        if endpoint is not None:
            endpoint.stop()
    return ExitCode.DONE


def _connected(transport: Transport, signals: Signals, wait: bool) -> bool:
    """Open the link, trying for ever if told to; returns False when asked to leave before there is one."""
    pause = 0.5
    while not signals.asked:
        try:
            transport.connect()
            return True
        except Unreachable as error:
            if not wait:
                raise
            _log.warning("%s; trying again in %.1f s", text.one_line(error.message, 500), pause)
        _sleep(pause * random.uniform(0.8, 1.2), signals)
        pause = min(pause * 2, LONGEST_WAIT)
    return False


def _sleep(seconds: float, signals: Signals) -> None:
    until = time.monotonic() + seconds
    while not signals.asked and time.monotonic() < until:
        time.sleep(0.1)


def vitals_of(service: type[Service], tag: str | None) -> Vitals:
    """Return what this process knows about itself before it has started."""
    extra: dict[str, Any] = dict(batch_job())
    if tag:
        extra["tag"] = tag
    return Vitals(
        Host.of_this_process().status,
        service.name or service.__name__,
        service.__name__,
        zoctools.__version__,
        time.monotonic,
        extra=extra,
        memory=Memory(),
    )


def tie_to_parent(parent: int, signals: Signals) -> None:
    """End with our parent: the kernel sends SIGTERM when it dies, and a thread looks whether it is there.

    Whatever it was doing, a child is gone `ORPHAN_GRACE` seconds after its parent.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    threading.Thread(target=_watch, args=(parent, signals), name="parent-watch", daemon=True).start()


def _watch(parent: int, signals: Signals) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    signals.ask("the parent process is gone")
    time.sleep(ORPHAN_GRACE)
    os._exit(ExitCode.NO)
