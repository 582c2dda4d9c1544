"""The board at one moment: who is here, in which state, how long since we heard of them. Nothing in it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from zoctools.broadcast import WORDS, Broadcast, decode, read
from zoctools.hosts import Host
from zoctools.service.status import Status
from zoctools.transport.contract import Link
from zoctools.where import Value

SILENT_AFTER = 10.0
"""Seconds without a broadcast after which somebody who speaks every 6 s is not in order."""

FIELDS = ("service", "class", "task", "host", "state", "text", "age", "busy", "version", "waits", "recipe", "queue")
"""What `--where` may name."""


class Mood(Enum):
    """How a row shall be looked at; every mood also shows in its word."""

    GOOD = "good"
    QUIET = "quiet"
    WARN = "warn"
    BAD = "bad"
    GONE = "gone"


_MOODS: Mapping[int, Mood] = {
    Status.PROCESSING: Mood.GOOD,
    Status.TIMER: Mood.GOOD,
    Status.IDLE: Mood.QUIET,
    Status.STARTING: Mood.WARN,
    Status.NEW: Mood.WARN,
    Status.SHUTDOWN: Mood.WARN,
    Status.NONE: Mood.WARN,
    Status.END: Mood.GONE,
    Status.TEARDOWN: Mood.GONE,
    Status.ERROR: Mood.BAD,
}


@dataclass(slots=True)
class Instance:
    """One service process or task, as last heard; never changed once made.

    `host` is host and process as broadcast: the key of the board and of the shutdown command. `waiting` says that
    `said.waiting_for` names something. `heard`,
    `first_heard` and `state_since` are of the board's clock, in seconds. `skew` is how far the sender's clock is
    ahead of the broker's, in seconds, when that is worth a word; `body` the broadcast as it came.
    """

    host: str
    status: int
    service: str
    service_class: str
    task: str
    waiting: bool
    heard: float
    first_heard: float
    state_since: float
    skew: float | None
    body: bytes = field(repr=False)
    _said: Broadcast | None = field(default=None, repr=False, compare=False)

    @property
    def said(self) -> Broadcast:
        """What the broadcast says; read when first asked for, since most rows of a long board are never looked at."""
        if self._said is None:
            self._said = read(self.fields())
        return self._said

    @property
    def label(self) -> str:
        """What it is called: the service's own name, or the task's."""
        return self.task or self.service or self.service_class

    @property
    def process(self) -> str:
        """``node7.2245``, which tells it from others and is what the shutdown command takes; pods go by their tag."""
        host = Host.from_status(self.host)
        return f"{host.short}.{host.pid}" if host.pid and self.said.node == host.short else self.said.node

    @property
    def left(self) -> bool:
        """Whether it said goodbye: a service going down, or a task at its end."""
        return has_left(self.status, self.task)

    def fields(self) -> Mapping[str, Any]:
        """Every field of the broadcast, as sent."""
        return decode(self.body)


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """All instances of one service class: how many are here, the most that were alive at once, when last heard.

    Somebody killed is here until forgotten, so `here` may be more than `most` for a while. `last_heard` is in epoch
    seconds by our own clock.
    """

    name: str
    here: int
    most: int
    last_heard: float

    @property
    def gone(self) -> int:
        """How many are missing from the most there were."""
        return max(self.most - self.here, 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the board took in since it began."""

    heard: int = 0
    outdated: int = 0
    malformed: int = 0
    overflow: int = 0
    """Broadcasts of hosts or classes beyond what the board is willing to hold."""
    refused: int = 0
    malformed_sample: str = ""
    refused_sample: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The board at one moment; `now` is of the board's clock, `taken_at` and `lost_at` in epoch seconds.

    `lost_at` is None while our link is up.
    """

    instances: tuple[Instance, ...]
    classes: tuple[ServiceClass, ...]
    counts: Counts
    link: Link | None
    now: float
    taken_at: float
    lost_at: float | None

    def age(self, instance: Instance) -> float:
        """Seconds since it was last heard, never negative."""
        return max(self.now - instance.heard, 0.0)

    def word(self, instance: Instance) -> str:
        """The state in a word; what we cannot know right now is ``unknown``, who should have spoken is ``silent``."""
        if self.lost_at is not None:
            return "unknown"
        if not instance.left and self.age(instance) >= SILENT_AFTER:
            return "silent"
        return "waiting" if _is_waiting(instance) else state_word(instance.status)

    def mood(self, instance: Instance) -> Mood:
        """How the row shall be looked at."""
        if self.lost_at is not None:
            return Mood.GONE
        if not instance.left and self.age(instance) >= SILENT_AFTER:
            return Mood.BAD
        return Mood.WARN if _is_waiting(instance) else _MOODS.get(instance.status, Mood.WARN)

    def record(self, instance: Instance) -> Mapping[str, Value]:
        """The row as the filter language sees it: field to value, of `FIELDS`."""
        said = instance.said
        return {
            "service": instance.label,
            "class": instance.service_class,
            "task": instance.task,
            "host": " ".join((*Host.from_status(instance.host).spellings, said.container)).strip(),
            "state": self.word(instance),
            "text": said.status_text,
            "age": self.age(instance),
            "busy": None if said.busy is None else 100 * said.busy,
            "version": " ".join((said.versions or {}).values()),
            "waits": said.waiting_for,
            "recipe": said.recipe_id,
            "queue": " ".join(said.queues),
        }

    def class_record(self, lost: ServiceClass) -> Mapping[str, Value]:
        """A service class with none left as the filter language sees it."""
        return {**dict.fromkeys(FIELDS), "service": lost.name, "class": lost.name, "state": "gone"}

    @property
    def missing(self) -> tuple[ServiceClass, ...]:
        """The classes of which some are gone, those with none left first."""
        return tuple(sorted((each for each in self.classes if each.gone), key=lambda each: (each.here > 0, each.name)))


def state_word(status: int) -> str:
    """Return our word for a status code."""
    return WORDS.get(status, f"state {status}")


def _is_waiting(instance: Instance) -> bool:
    return not instance.left and instance.status != Status.ERROR and instance.waiting


def has_left(status: int, task: str) -> bool:
    """Whether somebody in this state said goodbye; `task` is empty for a service."""
    return status == Status.TEARDOWN or (status == Status.END and bool(task))
