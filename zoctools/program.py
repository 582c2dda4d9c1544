"""Runs a program as a child: its output into files of bounded size, its time bounded, and nothing of it left behind.

The program leads a process group of its own. Ending it means SIGTERM to the whole group, then SIGKILL to whatever
ignored that.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from zoctools.errors import ZocError
from zoctools.text import duration, from_bytes, one_line

GRACE = 10.0
"""Seconds a program has to obey SIGTERM; SLURM gives all of a job 30 s."""
LINGER = 1.0
"""Seconds of output that is still read when the program has ended, but something it started holds its output."""
LARGEST_OUTPUT = 1_000_000_000
"""Bytes of output that are kept per file; more is read and thrown away."""
TAIL = 16_384
TAIL_LINES = 20
TAIL_WIDTH = 500
BLOCK = 65_536
POLL = 0.1


class Unstartable(ZocError):
    """The program cannot be started: it is not there, not a program, or its directory is not."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: its exit status (negative: the signal that ended it), None when it ran out of time.

    `seconds` is how long it ran.
    """

    status: int | None
    seconds: float

    @property
    def exit_code(self) -> int:
        """The status as a shell reports it: 128 and the signal; 124 when it ran out of time, as timeout(1) does."""
        if self.status is None:
            return 124
        return 128 - self.status if self.status < 0 else self.status

    def __str__(self) -> str:
        if self.status is None:
            return f"ran out of time after {duration(self.seconds)}"
        if self.status < 0:
            return f"was ended by {_signal_name(-self.status)} after {duration(self.seconds)}"
        return f"exit status {self.status} after {duration(self.seconds)}"


class Output:
    """One output stream of a program: written to a file as it comes, its end remembered, texts in it noticed.

    A full disk loses output but not the program: `trouble` then says so.
    """

    def __init__(self, path: Path, watch_for: Iterable[str] = (), limit: int = LARGEST_OUTPUT) -> None:
        self.path = path
        self.seen: set[str] = set()
        self.trouble = ""
        self._wanted = {text: text.encode() for text in watch_for if text}
        self._overlap = max((len(text) for text in self._wanted.values()), default=1) - 1
        self._rest = limit
        self._end = b""
        self._file = FileIO(path, "w", opener=_without_waiting)

    def take(self, block: bytes) -> None:
        """Take in the next bytes."""
        searched = self._end[len(self._end) - self._overlap :] + block if self._overlap else block
        self.seen.update(text for text, encoded in self._wanted.items() if encoded in searched)
        self._end = (self._end + block)[-max(TAIL, self._overlap) :]
        if self._rest > 0:
            self._keep(block[: self._rest])

    def _keep(self, block: bytes) -> None:
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) or len(rest) :]
        except OSError as error:
            self.trouble = f"{one_line(self.path, 200)} is not complete: {error.strerror}"
            self._rest = 0
            return
        self._rest -= len(block)
        if self._rest <= 0:
            self.trouble = f"{one_line(self.path, 200)} was cut: the program wrote more than fits"

    def tail(self) -> str:
        """Return the last lines, safe to show."""
        lines = from_bytes(self._end).splitlines()[-TAIL_LINES:]
        return "\n".join(one_line(line, TAIL_WIDTH) for line in lines)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Program:
    """A running program; `wait` for it, and `end` it in any case."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        output: Output,
        errors: Output | None = None,
        hurry: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start it, with nothing to read; errors go where the output goes unless they have a place of their own.

        `hurry` says that it shall be ended without `GRACE`. Raises `Unstartable`.
        """
        self._clock = clock
        self._hurry = hurry
        self._started = clock()
        self._reaped = False
        self._seconds = 0.0
        try:
            self._process = subprocess.Popen(
                list(words),
                cwd=directory,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if errors is None else subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            raise Unstartable(f"cannot start {one_line(words[0], 200)} in {one_line(directory, 200)}: {why}") from error
        self._selector = selectors.DefaultSelector()
        for pipe, sink in ((self._process.stdout, output), (self._process.stderr, errors)):
            if pipe is not None and sink is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ, sink)

    @property
    def pid(self) -> int:
        """Process ID of the program, and of its group."""
        return self._process.pid

    def wait(self, timeout: float | None = None) -> Ended:
        """Wait until the program has ended, for at most `timeout` seconds since its start; then it is ended."""
        deadline = None if timeout is None else self._started + timeout
        if self._read_until(deadline):
            return self.end()
        self.end()
        return Ended(None, self._clock() - self._started)

    def end(self) -> Ended:
        """See to it that nothing of the program runs any more, and return how it ended; safe to call twice.

        What does not go within `GRACE` of SIGTERM is killed.
        """
        if not self._reaped:
            self._signal(signal.SIGTERM)
            if not self._read_until(self._clock() + GRACE, self._hurry):
                self._signal(signal.SIGKILL)
            self._drain()
            self._signal(signal.SIGKILL)
            self._reap()
        status = self._process.returncode
        return Ended(-signal.SIGKILL if status is None else status, self._seconds)

    def _reap(self) -> None:
        """Take leave of the program; one that hangs in the kernel, on a dead file system, cannot be waited for."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=GRACE)
        self._reaped = True
        self._seconds = self._clock() - self._started
        self._selector.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _read_until(self, deadline: float | None, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Take in output until the program has ended; returns whether it has, before the deadline."""
        while not self._has_ended():
            rest = POLL if deadline is None else deadline - self._clock()
            if rest <= 0 or hurry():
                return False
            self._read(min(rest, POLL))
        return True

    def _drain(self) -> None:
        """Take in what is left in the pipes; something the program started may hold them open for ever."""
        deadline = self._clock() + LINGER
        while self._selector.get_map() and self._clock() < deadline:
            self._read(POLL)

    def _read(self, wait: float) -> None:
        if not self._selector.get_map():
            time.sleep(wait)
            return
        for key, _ in self._selector.select(wait):
            block = os.read(key.fd, BLOCK)
            if block:
                key.data.take(block)
            else:
                self._selector.unregister(key.fileobj)

    def _has_ended(self) -> bool:
        """Whether the program has; it stays a zombie, so that its group's number belongs to nobody else meanwhile."""
        return self._reaped or bool(os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe that nobody reads is an error instead of a wait."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
