"""FileWatcher: waits for files to appear, and says so to whoever wants to know."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from zocservices.filescan import Scanner
from zocservices.filesystem import Calls, FileSystems, Hanging, mount_point
from zocservices.watch import Announcements, Files, Pace, Progress, files_of
from zoctools.service.service import Retry, Service
from zoctools.text import count, duration, one_line

if TYPE_CHECKING:
    from zoctools.recipe.step import Step

MOST_MESSAGES = 1000
"""Messages of one pass; what else was seen is announced in the next, so that no settle grows without end."""
PATIENCE = 30.0
"""Seconds a file-system call may hang before its watch is put back into the queue."""
RETRY_AFTER = 30.0
"""Seconds until a watch on a file system that hangs is tried again."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What one message asks for, and how far it has come."""

    files: Files
    pace: Pace
    announcements: Announcements
    progress: Progress

    @classmethod
    def of(cls, step: Step, payload: Any, files: Files, now: float) -> Watch:
        """Read the step's node and payload; raises `Reject`."""
        return cls(
            files,
            Pace.of(step.parameters),
            Announcements(step.node.get("output"), files.count),
            Progress.of(payload, files.count, now),
        )


class Outcome(Enum):
    """How a pass ended."""

    COMPLETE = "every file has been seen"
    NAMELESS = "the next entry of the list is empty, which ends the watch"
    TIMED_OUT = "the next file did not come in time"
    FOUND = "some files have been seen, there are more to come"
    WAITING = "the next file is not there yet"


@dataclass(frozen=True, slots=True)
class Look:
    """What one pass over the files gave: how many more were there, and what it cost."""

    found: int
    calls: Calls
    root: str
    late: tuple[float, ...] = ()
    """Seconds between the last change of the first and last file found, and our seeing them."""


class FileWatcher(Service):
    """Announces the files of a pattern or a list as they appear, strictly in order.

    Outputs: ``first``, ``every``, ``last``, ``<n>``, ``select-N``, ``every-N`` for files; ``any`` and ``finally`` at
    the end, ``timeout`` or ``error`` before them. One message is one pass; between passes it stands in the queue.
    """

    name = "FileWatcher"
    queue = "filewatcher"
    outputs = ("first", "every", "last", "[0-9]*", "select-*", "every-*", "any", "timeout", "error", "finally")

    def start(self) -> None:
        """Remember what directories hold from pass to pass."""
        self._scanner = Scanner()
        self._file_systems = FileSystems(self._hangs, PATIENCE)
        super().start()

    def process(self, step: Step, payload: Any) -> None:
        """Look for the next files, announce those that are there, and end the watch or come back later."""
        files = files_of(step.parameters)
        if files is None:
            step.send_to("finally", {"files-expected": 0, "files-seen": 0, "success": True})
            return
        watch = Watch.of(step, payload, files, time.time())
        end = files.end()
        look = self._look(watch, min(watch.progress.seen + watch.pace.burst_limit, end))
        now = time.time()
        found = self._announce(step, watch, look.found, now)
        progress = watch.progress.further(found, now)
        outcome = _outcome(watch, progress, end, now)
        self._log(outcome, watch, progress, look, now)
        if outcome in (Outcome.FOUND, Outcome.WAITING):
            wait = watch.pace.burst_wait
            step.checkpoint(progress.checkpoint(), delay=wait if found else max(wait, 1.0))
            return
        if outcome is not Outcome.COMPLETE:
            output = "error" if outcome is Outcome.NAMELESS else "timeout"
            step.send_to(output, {**files.place(progress.seen), "success": False})
        total = {"files-expected": files.count, "files-seen": progress.seen}
        if progress.seen:
            step.send_to("any", total)
        step.send_to("finally", {**total, "success": outcome is Outcome.COMPLETE})

    def _look(self, watch: Watch, end: int) -> Look:
        files, seen, scanner = watch.files, watch.progress.seen, self._scanner
        if seen >= end:
            return Look(0, Calls(), "")
        root = mount_point(files.name(seen))

        def look(calls: Calls) -> Look:
            found = scanner.count(files, seen, end, calls)
            ends = sorted({seen, seen + found - 1}) if found else []
            statuses = [calls.status(files.name(index)) for index in ends]
            now = time.time()
            return Look(found, calls, root, tuple(max(now - one.st_mtime, 0.0) for one in statuses if one is not None))

        try:
            return self._file_systems.do(root, look)
        except Hanging as hanging:
            self._scanner = Scanner()  # the old one belongs to the call that hangs
            raise Retry(f"file system {root} does not answer: {hanging}", RETRY_AFTER) from None

    def _announce(self, step: Step, watch: Watch, found: int, now: float) -> int:
        """Send a message for every output that wants one of the files found; returns how many files that were."""
        first = watch.progress.seen
        for index in range(first, first + found):
            if len(step.outbox) >= MOST_MESSAGES:
                return index - first
            for output in watch.announcements.of(index + 1):
                step.send_to(output, {**watch.files.place(index), "file-seen-at": now})
        return found

    def _hangs(self, call: str) -> None:
        """Tell of a file-system call that hangs; nothing: it came back."""
        if call:
            self.log.warning("a file-system call hangs: %s", call)
        else:
            self.log.info("the file-system call that hung has come back")
        self.waits_for(call and f"a file system: {call}")

    def _log(self, outcome: Outcome, watch: Watch, progress: Progress, look: Look, now: float) -> None:
        files, before, total = watch.files, watch.progress, watch.files.count
        fields = _fields(watch, progress, look, now)
        seen = f"{progress.seen} of {total} seen" + (f"; {look.calls.trouble}" if look.calls.trouble else "")
        place = one_line(files.name(min(before.seen, total - 1)), 300)
        log, words = self.log.info, ""
        match outcome:
            case Outcome.COMPLETE:
                took = duration(progress.elapsed(now))
                words = f"all {count(total, 'file')} found after {took}, the last of them from {place} on"
            case Outcome.FOUND:
                words = f"{count(progress.seen - before.seen, 'file')} found from {place} on, {seen}"
            case Outcome.WAITING:
                log, words = self.log.debug, f"{place} is not there yet, {seen}"
            case Outcome.NAMELESS:
                words = f"entry {progress.seen + 1} of the list is empty, which ends the watch; {seen}"
            case Outcome.TIMED_OUT:
                log = self.log.info if watch.pace.timeout_is_normal else self.log.warning
                words = f"timed out after {duration(progress.quiet(now))} without {place}, {seen}"
        log("%s", one_line(words, 1000), extra=fields)


def _outcome(watch: Watch, progress: Progress, end: int, now: float) -> Outcome:
    if progress.seen == watch.files.count:
        return Outcome.COMPLETE
    if progress.seen == end:
        return Outcome.NAMELESS
    if progress.seen > watch.progress.seen:
        return Outcome.FOUND
    return Outcome.TIMED_OUT if progress.timed_out(watch.pace, now) else Outcome.WAITING


def _fields(watch: Watch, progress: Progress, look: Look, now: float) -> dict[str, Any]:
    """Return what a pass was like as fields of its log record; times in seconds."""
    fields: dict[str, Any] = {
        "files-root": look.root,
        "files-seen": progress.seen,
        "files-expected": watch.files.count,
        "stat-time-max": look.calls.slowest,
        "stat-time-mean": look.calls.total / max(look.calls.number, 1),
        "slowest-call": one_line(look.calls.slowest_call, 300),
        "file-system-calls": look.calls.number,
    }
    if look.late:
        fields["files-late-max"], fields["files-late-min"] = max(look.late), min(look.late)
    if progress.seen == watch.files.count:
        fields["delay"] = progress.elapsed(now)
        if watch.pace.expected_per_image is not None:
            expected = watch.pace.expected_per_image * watch.files.count
            fields["unexpected_delay"] = max(fields["delay"] - expected, 0.0)
    return fields
