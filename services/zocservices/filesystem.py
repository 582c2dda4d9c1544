"""File-system calls that may hang: made in a thread of their own, so that the service can say which one does."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from zoctools.text import duration, one_line

Result = TypeVar("Result")

AWAY = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH})
"""Errors of a file system that is not there for the moment, whatever the file."""
NOTICE_AFTER = 5.0
"""Seconds a call may take before anybody is told."""
_LOOK_EVERY = 1.0


class Hanging(Exception):
    """A file system does not answer; the text says which call hangs and for how long."""


@dataclass(slots=True)
class Calls:
    """The calls of one piece of work: the one being made, and what they have cost so far.

    Written by the thread that makes them, read by any.
    """

    current: tuple[str, str, float] | None = None
    """Name of the call, path, and when it began (monotonic)."""
    number: int = 0
    total: float = 0.0
    slowest: float = 0.0
    slowest_call: str = ""
    trouble: str = ""
    """The last answer that was neither yes nor "no such file"."""

    def make(self, name: str, call: Callable[..., Result], path: str) -> Result:
        """Make one call."""
        started = time.monotonic()
        self.current = (name, path, started)
        try:
            return call(path)
        finally:
            self.current = None
            took = time.monotonic() - started
            self.number += 1
            self.total += took
            if took >= self.slowest:
                self.slowest, self.slowest_call = took, f"{name} {path}"

    def status(self, path: str) -> os.stat_result | None:
        """Return the status of what a path leads to; None when there is nothing, or no way to tell."""
        try:
            return self.make("stat", os.stat, path)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            self.trouble = f"{error.strerror or error}: {path}"
            return None

    def is_file(self, path: str) -> bool:
        """Whether a path leads to an ordinary file."""
        found = self.status(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def hanging(self) -> str:
        """Return the call that has not come back for a while, in words; empty when there is none."""
        current = self.current
        if current is None:
            return ""
        waited = time.monotonic() - current[2]
        return f"{current[0]} {one_line(current[1], 200)}, for {duration(waited)}" if waited >= NOTICE_AFTER else ""


@dataclass(slots=True)
class _Work(Generic[Result]):
    """A piece of work and the thread that does it."""

    function: Callable[[Calls], Result]
    calls: Calls = field(default_factory=Calls)
    done: threading.Event = field(default_factory=threading.Event)
    result: list[Result] = field(default_factory=list)
    error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result.append(self.function(self.calls))
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()


class FileSystems:
    """Does work on file systems. What hangs is left behind, and its file system is not touched until it returns.

    `notice` is called with the calls that hang, again and again while they do, and with nothing once all are back.
    `patience` is how many seconds a call may take before the work that needs it is given up for now.
    """

    def __init__(self, notice: Callable[[str], object], patience: float) -> None:
        self._notice = notice
        self._noticed = ""
        self._patience = patience
        self._left_behind: dict[str, _Work[Any]] = {}

    def do(self, root: str, function: Callable[[Calls], Result]) -> Result:
        """Return what `function` returns, called in another thread; raises `Hanging`, or what it raises.

        `root` names the file system; work on one that hangs already is refused at once.
        """
        self._say()
        stuck = self._left_behind.get(root)
        if stuck is not None:
            raise Hanging(stuck.calls.hanging())
        work = _Work(function)
        threading.Thread(target=work.run, name=f"files of {root}", daemon=True).start()
        while not work.done.wait(_LOOK_EVERY):
            self._say(work)
            current = work.calls.current
            if current is not None and time.monotonic() - current[2] > self._patience:
                self._left_behind[root] = work
                raise Hanging(work.calls.hanging())
        self._say()
        if work.error is not None:
            raise work.error
        return work.result[0]

    def _say(self, running: _Work[Any] | None = None) -> None:
        """Tell what hangs, if anything does or did."""
        self._left_behind = {root: work for root, work in self._left_behind.items() if not work.done.is_set()}
        works = [*self._left_behind.values(), *([running] if running else [])]
        words = "; ".join(filter(None, (work.calls.hanging() for work in works)))
        if words or self._noticed:
            self._noticed = words
            self._notice(words)


def mount_point(path: str, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the file system a path is on, by its mount point; asks the kernel, never the file system.

    Without a table of mounts it is the first two parts of the path.
    """
    wanted = os.path.normpath(path)
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return "/".join(wanted.split("/")[:3])
    best = "/"
    for line in lines:
        point = _unescaped(line.split(" ")[1]) if line.count(" ") > 1 else ""
        if len(point) > len(best) and (wanted == point or wanted.startswith(point.rstrip("/") + "/")):
            best = point
    return best


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
