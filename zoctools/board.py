"""StatusBoard: what is known of every service and task.

Whoever listens feeds it broadcasts and the state of our own link; whoever shows it takes snapshots. It is pure:
clocks are injected, nothing is sent, nothing waits. Ages are counted from arrival on the *board's clock*, which
stands while our own link is down, so that nobody grows old, or is forgotten, because we could not hear. An
instance that falls silent is forgotten after the spec's times; a service class once seen never is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from zoctools import text
from zoctools.broadcast import Malformed, decode, read, says_it_waits
from zoctools.service.status import EXPIRY, Status
from zoctools.snapshot import Counts, Instance, ServiceClass, Snapshot, has_left
from zoctools.transport.contract import Delivery, Event, Link, Refused

FORGET_AFTER = 90.0
FORGET_LEFT_AFTER = 10.0
SWEEP_EVERY = 0.5
SKEW_FROM = 5.0
"""Seconds by which a sender's clock may differ from the broker's before it is worth a word."""

MAX_HOSTS = 10_000
MAX_CLASSES = 1_000
SAMPLE = 200

_GONE = (Status.TEARDOWN, Status.SHUTDOWN, Status.END, Status.ERROR)
"""States in which a service does not count as here, as the existing controller counts."""


@dataclass(slots=True)
class _Entry:
    """What is kept of one host between broadcasts; `view` is made when somebody looks."""

    body: bytes
    status: int
    stamp: float | None
    heard: float
    first_heard: float
    state_since: float
    expires: float | None
    service: str = ""
    service_class: str = ""
    task: str = ""
    waiting: bool = False
    counted: str = ""
    """The service class it counts for as being here."""
    round: int = 0
    """The last round of that class in which it spoke."""
    view: Instance | None = None

    def instance(self, host: str) -> Instance:
        """What is shown of this entry."""
        if self.view is None:
            self.view = Instance(
                host=host,
                status=self.status,
                service=self.service,
                service_class=self.service_class,
                task=self.task,
                waiting=self.waiting,
                heard=self.heard,
                first_heard=self.first_heard,
                state_since=self.state_since,
                skew=self._skew(),
                body=self.body,
            )
        return self.view

    def _skew(self) -> float | None:
        """The sender stamps `expires` with its own clock, the broker `timestamp` with its own."""
        if self.stamp is None or not self.expires:
            return None
        skew = self.expires - EXPIRY - self.stamp
        return skew if abs(skew) > SKEW_FROM else None


@dataclass(slots=True)
class _Present:
    """Who is here of a service class. Each newcomer begins a round; those who speak in the same one are all alive.

    A process that was killed never speaks in the round of its replacement, so the two do not count as two.
    """

    count: int = 0
    round: int = 0
    spoke: int = 0


class Change(Enum):
    """What a broadcast did to the board."""

    NEW = "new"
    STATE = "state"
    AGAIN = "again"
    NOTHING = "nothing"


class StatusBoard:
    """Everything heard, under one lock. `clock` gives monotonic seconds, `wall` epoch seconds."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        max_hosts: int = MAX_HOSTS,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._max_hosts = max_hosts
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._order: list[str] | None = None
        self._swept = float("-inf")
        self._here: dict[str, _Present] = {}
        self._rounds = 0
        self._most: dict[str, int] = {}
        self._last_heard: dict[str, float] = {}
        self._tally: dict[str, int] = dict.fromkeys(("heard", "outdated", "malformed", "overflow", "refused"), 0)
        self._samples = {"malformed": "", "refused": ""}
        self._link: Link | None = None
        self._down_since: float | None = None
        self._down_total = 0.0
        self._lost_at: float | None = None

    def take(self, event: Event) -> Change:
        """Feed whatever came out of a transport's inbox."""
        if isinstance(event, Delivery):
            return self.feed(event.headers, event.body)
        if isinstance(event, Link):
            self.set_link(event)
        elif isinstance(event, Refused):
            with self._lock:
                self._count("refused", text.one_line(event.error, SAMPLE))
        return Change.NOTHING

    def feed(self, headers: Mapping[str, str], body: bytes, now: float | None = None) -> Change:
        """Take one broadcast; never raises. `now` is the monotonic time of its arrival, when it is not just now."""
        try:
            message = decode(body)
            stamp, expires = _milliseconds(headers.get("timestamp")), _milliseconds(headers.get("expires"))
            with self._lock:
                return self._enter(message, body, stamp, expires, self._clock() if now is None else now)
        except Malformed as problem:
            why = str(problem)
        except Exception as error:
            why = type(error).__name__
        with self._lock:
            self._count("malformed", f"{why}: {text.one_line(text.from_bytes(bytes(body), SAMPLE), SAMPLE)}")
        return Change.NOTHING

    def set_link(self, link: Link) -> None:
        """Note the state of our own link; the board's clock stands while it is down."""
        with self._lock:
            now = self._clock()
            if link.connected and self._down_since is not None:
                self._down_total += max(now - self._down_since, 0.0)
                self._down_since = self._lost_at = None
            elif not link.connected and self._down_since is None:
                self._down_since = min(link.since, now) if self._link is not None else now
                self._lost_at = self._wall() - (now - self._down_since)
            self._link = link

    def accept_losses(self) -> None:
        """Take the present counts as all there should be; classes with none left are no longer listed."""
        with self._lock:
            self._forget(self._now(self._clock()))
            known = {entry.service_class for entry in self._entries.values()}
            self._most = {name: self._count_here(name) for name in self._most if name in known}
            self._last_heard = {name: self._last_heard[name] for name in self._most}

    def forget(self) -> tuple[Instance, ...]:
        """Drop who has been silent for too long, and return them; a whole `snapshot` does so too."""
        with self._lock:
            return tuple(self._forget(self._now(self._clock())))

    def snapshot(self, hosts: Collection[str] | None = None) -> Snapshot:
        """The board as it is now: instances sorted by name, class and host; or only these hosts of it, unsorted."""
        with self._lock:
            now = self._now(self._clock())
            if hosts is None and now - self._swept >= SWEEP_EVERY:
                self._forget(now)
            wanted = self._sorted() if hosts is None else [host for host in hosts if host in self._entries]
            entries = self._entries
            instances = tuple([entries[host].view or entries[host].instance(host) for host in wanted])
            classes = self._classes() if hosts is None else ()
            counts = Counts(
                **self._tally, malformed_sample=self._samples["malformed"], refused_sample=self._samples["refused"]
            )
            return Snapshot(instances, classes, counts, self._link, now, self._wall(), self._lost_at)

    def _sorted(self) -> list[str]:
        """The hosts in the order of their rows; sorted anew only when somebody came, left or changed the name."""
        if self._order is None:
            keyed = [
                ((entry.task or entry.service or entry.service_class).casefold(), entry.service_class, host)
                for host, entry in self._entries.items()
            ]
            self._order = [host for _name, _class, host in sorted(keyed)]
        return self._order

    def _classes(self) -> tuple[ServiceClass, ...]:
        return tuple(
            ServiceClass(name, self._count_here(name), most, self._last_heard[name])
            for name, most in sorted(self._most.items())
        )

    def _enter(
        self, message: Mapping[str, Any], body: bytes, stamp: float | None, expires: float | None, arrived: float
    ) -> Change:
        """Make or renew the entry of the sender."""
        now = self._now(arrived)
        host, status = message["host"], message["status"]
        entry = self._entries.get(host)
        change = Change.AGAIN
        if entry is None:
            if len(self._entries) >= self._max_hosts:
                self._count("overflow")
                return Change.NOTHING
            heard = now - self._time_on_the_way(stamp)
            entry = self._entries[host] = _Entry(body, status, stamp, heard, heard, heard, expires)
            change, self._order = Change.NEW, None
        elif _outdated(entry.stamp, stamp):
            self._tally["outdated"] += 1
            return Change.NOTHING
        else:
            if status != entry.status:
                entry.state_since, change = now, Change.STATE
            entry.body, entry.status, entry.stamp, entry.expires = body, status, stamp, expires
            entry.heard, entry.view = now, None
        self._tally["heard"] += 1
        entry.waiting = says_it_waits(message)
        self._name(entry, message)
        self._count_class(entry, entry.service_class if status not in _GONE else "")
        return change

    def _name(self, entry: _Entry, message: Mapping[str, Any]) -> None:
        """Keep who it is: a service names itself only while it has one, and a name once given stays."""
        if _names_differ(entry, message):
            said = read(message)
            entry.service = said.service or entry.service
            entry.service_class = said.service_class or entry.service_class
            entry.task = said.task or entry.task
            self._order = None
        name = entry.service_class
        if not name:
            return
        if name not in self._most:
            if len(self._most) >= MAX_CLASSES:
                self._count("overflow")
                return
            self._most[name] = 0
        self._last_heard[name] = self._wall()

    def _time_on_the_way(self, stamp: float | None) -> float:
        """How old the first broadcast heard of a host is: a broker may hand over some it kept for late listeners."""
        lag = self._wall() - stamp if stamp is not None else 0.0
        return lag if 1.0 < lag <= EXPIRY else 0.0

    def _now(self, clock: float) -> float:
        """The board's clock."""
        return (clock if self._down_since is None else min(clock, self._down_since)) - self._down_total

    def _count_here(self, name: str) -> int:
        return self._here[name].count if name in self._here else 0

    def _count_class(self, entry: _Entry, name: str) -> None:
        """Count an entry for this class as being here, and remember the most that were alive at once."""
        if name != entry.counted:
            self._move(entry, name)
        if not name or name not in self._most:
            return
        here = self._here[name]
        if entry.round != here.round:
            entry.round, here.spoke = here.round, here.spoke + 1
            self._most[name] = max(self._most[name], here.spoke)

    def _move(self, entry: _Entry, name: str) -> None:
        """Count an entry for another class than before; no name is no class."""
        if entry.counted:
            here = self._here[entry.counted]
            here.count -= 1
            here.spoke -= entry.round == here.round
            if not here.count:
                del self._here[entry.counted]
        entry.counted, entry.round = name, 0
        if name:
            self._rounds += 1
            here = self._here.setdefault(name, _Present())
            here.count, here.round, here.spoke = here.count + 1, self._rounds, 0

    def _forget(self, now: float) -> list[Instance]:
        self._swept = now
        old = [
            host
            for host, entry in self._entries.items()
            if now - entry.heard > (FORGET_LEFT_AFTER if has_left(entry.status, entry.task) else FORGET_AFTER)
        ]
        for host in old:
            self._count_class(self._entries[host], "")
        self._order = None if old else self._order
        return [self._entries.pop(host).instance(host) for host in old]

    def _count(self, what: str, sample: str = "") -> None:
        self._tally[what] += 1
        if what in self._samples:
            self._samples[what] = sample


def _names_differ(entry: _Entry, message: Mapping[str, Any]) -> bool:
    return (
        (message.get("service") or entry.service) != entry.service
        or (message.get("serviceclass") or entry.service_class) != entry.service_class
        or (message.get("task") or entry.task) != entry.task
    )


def _outdated(newest: float | None, stamp: float | None) -> bool:
    """Whether a broadcast was overtaken by a later one of the same host.

    A much older stamp is not late, since no broadcast lives that long: it is a clock that was set, or a lie.
    """
    return newest is not None and stamp is not None and 0 < newest - stamp <= EXPIRY


def _milliseconds(header: str | None) -> float | None:
    if header is None or len(header) > 15 or not header.isascii() or not header.isdecimal():
        return None
    return int(header) / 1000
