"""Several instances of a service, each a process of its own, started and restarted by a parent that does nothing else.

A child is a new Python, not a fork: a fork of a process with threads and open links is not safe, and a restarted
child runs the code that is installed by then. Children lead process groups of their own, so that Ctrl-C in a terminal
reaches the parent alone, which passes it on.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

from zoctools.errors import ExitCode
from zoctools.service.process import SAME_REQUEST
from zoctools.text import count, duration

HEALTHY_AFTER = 10.0
"""Seconds of life after which a child's next death counts as its first."""
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
FINAL = (ExitCode.DONE, ExitCode.USAGE, ExitCode.UNREACHABLE)
"""Exit codes that a restart would only repeat: asked to leave, wrong options, a broker that will not have us."""

_log = logging.getLogger("zoctools.service")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `command(number, again)` is the command line of a child, `again` when it is a restart."""

    command: Callable[[int, bool], Sequence[str]]
    environ: Mapping[str, str]
    instances: int = 1
    restart: bool = False


@dataclass(slots=True)
class Child:
    """One place of a child. `due` is when to start it again; `code` is its last exit code as a shell reports it.

    `told` counts how often it was asked to leave.
    """

    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float | None = None
    code: int = 0
    told: int = 0


def pause(deaths: int) -> float:
    """Return the seconds before a child is started again that died so often in a row."""
    return min(FIRST_PAUSE * 2 ** min(max(deaths - 1, 0), 20), LONGEST_PAUSE)


def exit_code(status: int) -> int:
    """Return the exit code of a process as a shell reports it: 128 and the signal that ended it."""
    return 128 - status if status < 0 else status


def told(status: int) -> str:
    """Return how a process ended, for people."""
    if status >= 0:
        return f"exit code {status}"
    with suppress(ValueError):
        return f"killed by {signal.Signals(-status).name}"
    return f"killed by signal {-status}"


@dataclass
class Supervisor:
    """Runs the children of a plan to their end.

    `announce(words)` is told why a child is not running and, with no words, that all are well again.
    """

    plan: Plan
    announce: Callable[[str], None] = field(default=lambda words: None)
    clock: Callable[[], float] = time.monotonic
    _children: list[Child] = field(default_factory=list)
    _asks: int = 0
    _asked_at: float = 0.0
    _troubled: bool = False

    def run(self) -> int:
        """Start the children and wait for their end; returns 0 when all ended well, else the first other code."""
        self._children = [Child(number) for number in range(self.plan.instances)]
        with _wakings(self._on_signal) as waking:
            try:
                for child in self._children:
                    self._spawn(child, again=False)
                while any(child.process or child.due is not None for child in self._children):
                    _drain(waking, self._rest())
                    self._look()
            finally:
                self._end_all()
        return next((child.code for child in self._children if child.code), 0)

    def _rest(self) -> float:
        dues = [child.due - self.clock() for child in self._children if child.due is not None]
        return max(min([1.0, *dues]), 0.0)

    def _look(self) -> None:
        """Take note of children that have ended, and start those whose time has come."""
        now = self.clock()
        for child in self._children:
            status = child.process.poll() if child.process else None
            if status is not None:
                self._note_end(child, status, now)
            elif child.due is not None and self._asks:
                child.due = None
            elif child.process is not None and child.told < self._asks:
                child.process.send_signal(signal.SIGTERM)
                child.told = self._asks
            elif child.due is not None and child.due <= now:
                self._spawn(child, again=True)
        well = all(child.due is None and now - child.started > HEALTHY_AFTER for child in self._children)
        if self._troubled and well:
            self._troubled = False
            self.announce("")

    def _note_end(self, child: Child, status: int, now: float) -> None:
        child.process, child.code = None, exit_code(status)
        if status == 0 or (self._asks and status == -signal.SIGTERM):
            child.code = 0
            return
        child.deaths = 1 if now - child.started > HEALTHY_AFTER else child.deaths + 1
        who = f"instance {child.number + 1} of {self.plan.instances}" if self.plan.instances > 1 else "the service"
        if not self.plan.restart or child.code in FINAL or self._asks:
            _log.error("%s ended: %s", who, told(status))
            return
        wait = pause(child.deaths)
        words = f"{who} ended: {told(status)}; started again in {duration(wait)}"
        _log.error("%s (%s in a row)", words, count(child.deaths, "death"))
        child.due, self._troubled = now + wait, True
        self.announce(words)

    def _spawn(self, child: Child, again: bool) -> None:
        child.process = subprocess.Popen(
            list(self.plan.command(child.number, again)),
            env=dict(self.plan.environ),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        child.started, child.due, child.told = self.clock(), None, 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Note the wish to leave; one repeated later than at once is passed on too, and children leave at once."""
        now = time.monotonic()
        if not self._asks or now - self._asked_at > SAME_REQUEST:
            self._asks, self._asked_at = self._asks + 1, now

    def _end_all(self) -> None:
        """Leave no orphan, however we leave."""
        for child in self._children:
            if child.process is not None and child.process.poll() is None:
                child.process.kill()
                child.process.wait()


@contextmanager
def _wakings(on_signal: Callable[[int, FrameType | None], object]) -> Iterator[socket.socket]:
    """Catch SIGTERM, SIGINT and the deaths of children; the socket becomes readable with every one."""
    ours, wakes = socket.socketpair()
    ours.setblocking(False)
    wakes.setblocking(False)
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_signal),
        signal.SIGINT: signal.signal(signal.SIGINT, on_signal),
        signal.SIGCHLD: signal.signal(signal.SIGCHLD, lambda number, frame: None),
    }
    old_fd = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    try:
        yield ours
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        wakes.close()


def _drain(waking: socket.socket, patience: float) -> None:
    if select.select([waking], [], [], patience)[0]:
        with suppress(BlockingIOError):
            waking.recv(4096)
