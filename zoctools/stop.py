"""Stopping a task in time and without harm: signals become an exception, but only where one may be raised."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from zoctools.wrapper import Stopped

NUDGE = signal.SIGURG
"""Wakes the main thread; whoever does not know it ignores it."""


class Stop:
    """Turns a request to stop into `Stopped` in the main thread, at a moment when it does no harm.

    The first request interrupts what the task is doing, the second asks whatever is being ended to hurry. Nothing is
    interrupted but a `possible` block, and there not what is `held`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.why = ""
        self.requests = 0
        self.asked_at = 0.0
        self._commanded = ""
        self._clock = clock
        self._possible = False
        self._held = 0

    def request(self, why: str) -> None:
        """Ask the task to stop; called in the main thread. Raises `Stopped` there, now or at a better moment."""
        self.why = self.why or why
        self.asked_at = self.asked_at or self._clock()
        self.requests += 1
        self._check()

    def command(self, why: str) -> None:
        """Ask the task to stop, from any other thread; to be repeated until `requests` says that it was heard.

        A signal that falls between a system call and the look for signals before it does not interrupt that call.
        """
        self._commanded = why
        signal.pthread_kill(threading.main_thread().ident or 0, NUDGE)

    def _check(self) -> None:
        if self.requests and self._possible and not self._held:
            self._possible = False
            raise Stopped(self.why)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a stop wait until this block is left; of any use in the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._check()

    @contextmanager
    def possible(self) -> Iterator[None]:
        """Let one stop interrupt this block, one that was asked for before included."""
        self._possible = True
        try:
            self._check()
            yield
        finally:
            self._possible = False

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGTERM, SIGINT and SIGHUP as requests within this block."""
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        earlier = {number: signal.signal(number, self._on_signal) for number in numbers}
        earlier[NUDGE] = signal.signal(NUDGE, self._on_nudge)
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.request("stopped by Ctrl-C" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}")

    def _on_nudge(self, _number: int, _frame: FrameType | None) -> None:
        if self._commanded and not self.requests:
            self.request(self._commanded)
