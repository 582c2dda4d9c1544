"""What a service process says about itself, and when: the status broadcast without the broadcasting.

The form is that of the existing wire (topic ``transient.status``, `workflows` 3.7), with one key of ours: ``zoc``,
what the last minute was like. Pure: the clock is injected, and nothing is sent from here.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

WIRE_LEVEL = "3.7"
"""The level of the existing wire that we match."""
PERIOD = 6.0
"""Seconds between two broadcasts when nothing changes; also what `utilization` covers."""
EXPIRY = 15.0
IDLE_AFTER = 0.5
"""Seconds of idleness before it is announced; no two announced changes of work follow faster."""
MINUTE = 60.0
MAX_WAITS = 2000


class Status(IntEnum):
    """The codes of the status broadcast."""

    TEARDOWN = -2
    NONE = -1
    NEW = 0
    STARTING = 1
    IDLE = 2
    TIMER = 3
    PROCESSING = 4
    SHUTDOWN = 5
    END = 6
    ERROR = 7


TEXTS: Mapping[int, str] = {
    Status.TEARDOWN: "shutdown",
    Status.NONE: "no service loaded",
    Status.NEW: "constructing",
    Status.STARTING: "starting",
    Status.IDLE: "idle",
    Status.TIMER: "timer event",
    Status.PROCESSING: "processing",
    Status.SHUTDOWN: "shutting down",
    Status.END: "shutdown",
    Status.ERROR: "error",
}
_WORK = (Status.IDLE, Status.TIMER, Status.PROCESSING)


class Shares:
    """Which part of the last `window` seconds was spent in which state, in slots of `window` / 12."""

    def __init__(self, window: float, now: float) -> None:
        self._width = window / 12
        self._slots: deque[tuple[int, dict[int, float]]] = deque(maxlen=13)
        self._window = window
        self._until = now

    def spend(self, state: int, now: float) -> None:
        """Note that the time up to `now` was spent in `state`."""
        start = max(self._until, now - self._window)
        while start < now:
            number = int(start // self._width)
            end = min(now, (number + 1) * self._width)
            if end <= start:
                break
            if not self._slots or self._slots[-1][0] != number:
                self._slots.append((number, {}))
            times = self._slots[-1][1]
            times[state] = times.get(state, 0.0) + end - start
            start = end
        self._until = now

    def report(self) -> dict[str, float]:
        """Return the fractions, four decimals, keyed by the code as text."""
        oldest = (self._until - self._window) // self._width
        sums: dict[int, float] = {}
        for number, times in self._slots:
            if number >= oldest:
                for state, seconds in times.items():
                    sums[state] = sums.get(state, 0.0) + seconds
        total = sum(sums.values())
        return {str(int(state)): round(seconds / total, 4) for state, seconds in sums.items()} if total else {}


class Minute:
    """Messages of the last minute: how many were handled, how many attempts failed, how long they had waited."""

    def __init__(self) -> None:
        self._slots: deque[list[int]] = deque(maxlen=13)
        self._waits: deque[tuple[float, float]] = deque(maxlen=MAX_WAITS)

    def note(self, now: float, wait: float | None, handled: bool, failed: bool) -> None:
        """Note one message; one that was merely sent back is neither handled nor failed."""
        number = int(now // 5)
        if not self._slots or self._slots[-1][0] != number:
            self._slots.append([number, 0, 0])
        self._slots[-1][1] += handled
        self._slots[-1][2] += failed
        if wait is not None:
            self._waits.append((now, wait))

    def counts(self, now: float) -> tuple[int, int]:
        """Return (handled, failed)."""
        recent = [slot for slot in self._slots if slot[0] > (now - MINUTE) // 5]
        return sum(slot[1] for slot in recent), sum(slot[2] for slot in recent)

    def wait_p95(self, now: float) -> float | None:
        """Return what 95 % of the messages had waited at most, in seconds; None without any."""
        waits = sorted(wait for at, wait in self._waits if at > now - MINUTE)
        return round(waits[min(int(len(waits) * 0.95), len(waits) - 1)], 3) if waits else None


class Vitals:
    """What a service process knows about itself. `enter` and `note` are called by its main loop, `announce` by the
    heartbeat thread.

    `host` is ours as in the broadcast, `extra` what never changes (tag, batch job); `clock` is monotonic, `memory`
    returns the bytes this process alone holds.
    """

    def __init__(
        self,
        host: str,
        name: str,
        service_class: str,
        version: str,
        clock: Callable[[], float],
        *,
        extra: Mapping[str, Any] | None = None,
        memory: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.host = host
        self.name = name
        self.service_class = service_class
        self.queues: Sequence[str] = ()
        self._waits: dict[str, str] = {}
        self.fields: Mapping[str, Any] = {}
        """The last announcement as fields of a log record."""
        self._version = version
        self._clock = clock
        self._extra = dict(extra or {})
        self._memory = memory
        self._changed = threading.Condition()
        now = clock()
        self._current, self._since, self._recipe_ID = Status.NEW, now, ""
        self._announced: Status | None = None
        self._announced_at = now
        self._glimpsed: Status | None = None
        self._shares = Shares(PERIOD, now)
        self._minute = Minute()

    def enter(self, status: Status, recipe_ID: str = "") -> None:
        """Note that the main loop does this from now on. However short, what is not idleness will be announced."""
        with self._changed:
            now = self._clock()
            self._shares.spend(self._current, now)
            self._current, self._since, self._recipe_ID = status, now, recipe_ID
            if status != Status.IDLE and status != self._announced:
                if self._glimpsed is None or status not in _WORK:
                    self._glimpsed = status
                if self._announced == Status.IDLE or status not in _WORK:
                    self._changed.notify_all()

    def wait_for(self, about: str, words: str) -> bool:
        """Say what is waited for, one entry for each `about`; no words: no more. Returns whether that is news."""
        news = self._waits.get(about, "") != words
        self._waits = {**self._waits, about: words} if words else {k: v for k, v in self._waits.items() if k != about}
        return news

    @property
    def waiting_for(self) -> str:
        """All that is waited for, in one line."""
        return "; ".join(self._waits.values())

    def note(self, wait: float | None, *, handled: bool, failed: bool) -> None:
        """Note one message: the seconds it had waited, and what became of it."""
        with self._changed:
            self._minute.note(self._clock(), wait, handled, failed)

    def wait(self) -> None:
        """Sleep until there may be something to announce."""
        with self._changed:
            rest = self.rest()
            if rest > 0:
                self._changed.wait(rest)

    def wake(self) -> None:
        """End a running `wait`."""
        with self._changed:
            self._changed.notify_all()

    def rest(self) -> float:
        """Return the seconds until `announce` may have something to say, if nothing changes meanwhile."""
        now = self._clock()
        if self._announced is None or self._due(now) is not None:
            return 0.0
        period = self._announced_at + PERIOD - now
        quiet = self._glimpsed is None and self._current == self._announced == Status.IDLE
        return period if quiet else min(period, IDLE_AFTER)

    def announce(self) -> dict[str, Any] | None:
        """Return the broadcast to send now; None when it is not time."""
        with self._changed:
            due = self._due(self._clock())
            return None if due is None else self._say(due)

    def statement(self, status: Status) -> dict[str, Any]:
        """Return the broadcast of a status that is to be sent at once."""
        with self._changed:
            return self._say(status)

    def _due(self, now: float) -> Status | None:
        if self._announced is None:
            return self._glimpsed or self._current
        aim = self._glimpsed or self._current
        ripe = aim != Status.IDLE or now - self._since >= IDLE_AFTER
        calm = now - self._announced_at >= IDLE_AFTER or aim not in _WORK or self._announced not in _WORK
        if aim != self._announced and ripe and calm:
            return aim
        if now - self._announced_at >= PERIOD:
            return aim if ripe else self._announced
        return None

    def _say(self, status: Status) -> dict[str, Any]:
        now = self._clock()
        self._shares.spend(self._current, now)
        self._announced, self._announced_at, self._glimpsed = status, now, None
        message: dict[str, Any] = {
            "host": self.host,
            "status": int(status),
            "statustext": TEXTS[status],
            "service": self.name,
            "serviceclass": self.service_class,
            "utilization": self._shares.report(),
            "workflows": WIRE_LEVEL,
            "zoctools": self._version,
            **self._extra,
        }
        memory = self._memory()
        if memory is not None:
            message["mem-uss"] = memory
        self.fields = {f"workflows_{key}": value for key, value in message.items()}
        handled, failed = self._minute.counts(now)
        busy = self._current in (Status.PROCESSING, Status.TIMER)
        message["zoc"] = {
            "busy_for": round(now - self._since, 3) if busy else 0.0,
            "wait_p95": self._minute.wait_p95(now),
            "handled": handled,
            "failed": failed,
            "queues": list(self.queues),
            "recipe_ID": self._recipe_ID,
            "waiting_for": self.waiting_for,
        }
        return message
