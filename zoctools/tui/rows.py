"""What a row of the status table shows, and how rows are sorted: pure, from a snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoctools.snapshot import Instance, Mood, ServiceClass, Snapshot
from zoctools.text import count, duration
from zoctools.transport.contract import Link
from zoctools.tui.widgets.table import Cell, Column

Row = Instance | ServiceClass
"""An instance, or a service class that has none left."""

COLUMNS = (
    Column("name", "SERVICE/TASK", 15, grow=3),
    Column("host", "HOST", 17, grow=2),
    Column("state", "STATE", 13),
    Column("age", "HEARD", 8, right=True),
    Column("busy", "BUSY", 5, right=True),
    Column("version", "VERSION", 10, grow=1, needs=100),
    Column("waits", "WAITS FOR", 9, grow=2),
)

_SEVERITY = {Mood.BAD: 0, Mood.WARN: 1, Mood.GOOD: 2, Mood.QUIET: 3, Mood.GONE: 4}
_FALLING = ("age", "busy")
"""Columns whose largest values come first."""


@dataclass(frozen=True, slots=True)
class Order:
    """Which column sorts, and whether the wrong way round."""

    column: str = "name"
    reverse: bool = False

    def by(self, column: str) -> Order:
        """Sort by this column; the same column again turns the order round."""
        return Order(column, column == self.column and not self.reverse)

    def next(self, step: int) -> Order:
        """Sort by the column to the right or to the left."""
        keys = [column.key for column in COLUMNS]
        return Order(keys[(keys.index(self.column) + step) % len(keys)])

    @property
    def falling(self) -> bool:
        """Whether large values come first."""
        return (self.column in _FALLING) is not self.reverse

    def sorted(self, shot: Snapshot, instances: Sequence[Instance]) -> list[Instance]:
        """Sort instances that come in the board's own order, which decides among equals."""
        if self.column == "name":
            return list(reversed(instances)) if self.reverse else list(instances)
        return sorted(instances, key=_keys(shot)[self.column], reverse=self.falling)


def _keys(shot: Snapshot) -> dict[str, Callable[[Instance], str | float]]:
    return {
        "host": lambda row: row.said.node.casefold(),
        "state": lambda row: _SEVERITY[shot.mood(row)] * 1000 - row.status,
        "age": shot.age,
        "busy": lambda row: -1.0 if row.said.busy is None else row.said.busy,
        "version": lambda row: row.said.version,
        "waits": lambda row: row.said.waiting_for or "\U0010ffff",
    }


def key(row: Row) -> str:
    """What names a row for as long as it is shown."""
    return row.host if isinstance(row, Instance) else f"class {row.name}"


def cells(shot: Snapshot, row: Row) -> tuple[Cell, ...]:
    """The cells of a row, in the order of `COLUMNS`."""
    return _instance_cells(shot, row) if isinstance(row, Instance) else _class_cells(shot, row)


def _instance_cells(shot: Snapshot, row: Instance) -> tuple[Cell, ...]:
    said, mood = row.said, shot.mood(row)
    dim = "gone" if mood is Mood.GONE else ""
    age = shot.age(row)
    state = shot.word(row)
    if shot.lost_at is not None:
        state = f"{state} {time.strftime('%H:%M', time.localtime(shot.lost_at))}"
    return (
        Cell(row.label or "(no service)", dim or ("strong" if row.label else "quiet")),
        Cell(row.process, dim),
        Cell(state, mood.value),
        Cell(f"{int(age)} s" if age < 60 else duration(age), dim or ("bad" if mood is Mood.BAD else "quiet")),
        Cell("" if said.busy is None else f"{100 * said.busy:.0f}%", dim or _busy_look(said.busy)),
        Cell(said.version, dim or "quiet"),
        Cell(_remark(row), dim or "warn"),
    )


def _class_cells(shot: Snapshot, row: ServiceClass) -> tuple[Cell, ...]:
    age = max(shot.taken_at - row.last_heard, 0.0)
    last = time.strftime("%H:%M:%S", time.localtime(row.last_heard))
    texts = (row.name, f"0 of {row.most}", "GONE", duration(age), "", "", f"last heard {last}")
    return tuple(Cell(text, "bad") for text in texts)


def _busy_look(busy: float | None) -> str:
    if busy is None or busy < 0.1:
        return "quiet"
    return "good" if busy > 0.75 else ""


def _remark(row: Instance) -> str:
    """What it waits for; else what else is odd about it."""
    if row.said.waiting_for:
        return row.said.waiting_for
    if row.skew is not None:
        return f"clock {'ahead' if row.skew > 0 else 'behind'} {duration(abs(row.skew))}"
    return ""


def link_words(link: Link | None, now: float) -> tuple[str, str]:
    """Return the state of our own link in words, and the look they deserve; `now` is of `time.monotonic`."""
    if link is None:
        return "connecting …", "warn"
    if link.connected:
        return "connected", "good"
    if link.given_up:
        return f"given up: {link.error}", "bad"
    doing = "reconnecting" if link.number else "connecting"
    words = [f"{doing}: attempt {max(link.attempt, 1)}"]
    if link.next_try is not None:
        words.append(f"next try in {max(link.next_try - now, 0):.0f} s")
    return ", ".join(words), "bad"


def missing_words(shot: Snapshot) -> str:
    """Return one sentence about the service classes of which some are gone; empty when none is."""
    losses = [
        f"{loss.name} {loss.here} of {loss.most}"
        + ("" if loss.here else f", last {time.strftime('%H:%M:%S', time.localtime(loss.last_heard))}")
        for loss in shot.missing
    ]
    if not losses:
        return ""
    more = f" and {len(losses) - 4} more" if len(losses) > 4 else ""
    return f"MISSING  {' · '.join(losses[:4])}{more}"


def counts_words(shot: Snapshot) -> str:
    """Return who is on the board, in numbers."""
    tasks = sum(bool(row.task) for row in shot.instances)
    words = [count(len(shot.instances) - tasks, "service"), count(tasks, "task")]
    moods = [shot.mood(row) for row in shot.instances] if shot.lost_at is None else []
    for mood, name in ((Mood.GOOD, "working"), (Mood.WARN, "not settled"), (Mood.BAD, "in trouble")):
        if mood in moods:
            words.append(f"{moods.count(mood)} {name}")
    counts = shot.counts
    words += [f"{counts.malformed} malformed"] if counts.malformed else []
    words += [f"{counts.overflow} beyond what we hold"] if counts.overflow else []
    return " · ".join(words)
