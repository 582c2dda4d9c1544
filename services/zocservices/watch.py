"""What a file watch is: which files, which of them are announced where, how long to wait, and how far it has come.

Pure: nothing here touches a file. Parameters, outputs and payloads are those of section 1.2 of the services document.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from zocservices.filescan import runs
from zocservices.pattern import Pattern
from zoctools.service.service import Reject
from zoctools.text import one_line

STATUS = "filewatcher-status"
LONGEST = 3.2e9
"""Seconds, about a century: more is a mistake."""


class Files(Protocol):
    """The files of a watch, counted from 0."""

    count: int

    def name(self, index: int) -> Any:
        """The path of a file, as it stands in payloads."""

    def place(self, index: int) -> dict[str, Any]:
        """The keys of a payload that say which file it is."""

    def end(self) -> int:
        """The index at which the watch ends because there is no name; `count` where every file has one."""

    def between(self, first: int, last: int) -> Iterator[tuple[str, Sequence[str]]]:
        """The files `first` to `last` (excluded), as runs of names in one directory."""


class NumberedFiles:
    """``pattern``: files whose names differ in a number."""

    def __init__(self, pattern: Pattern) -> None:
        self._first = pattern.first
        self.count = pattern.last - pattern.first + 1
        before, after = (part.replace("%", "%%") for part in (pattern.before, pattern.after))
        self._path = f"{before}%{pattern.fill.strip()}{pattern.width or ''}d{after}"
        self._directory, _, stem = pattern.before.rpartition("/")
        escaped = stem.replace("%", "%%")
        self._name = "" if "/" in pattern.after else f"{escaped}%{pattern.fill.strip()}{pattern.width or ''}d{after}"

    def name(self, index: int) -> str:
        return self._path % (self._first + index)

    def place(self, index: int) -> dict[str, Any]:
        return {"file": self.name(index), "file-number": index + 1, "file-pattern-index": self._first + index}

    def end(self) -> int:
        return self.count

    def between(self, first: int, last: int) -> Iterator[tuple[str, Sequence[str]]]:
        numbers = range(self._first + first, self._first + last)
        if self._name:
            return iter(((f"{self._directory}/", list(map(self._name.__mod__, numbers))),))
        return runs([self._path % number for number in numbers])


class ListedFiles:
    """``list``: files named one by one; an empty name ends the watch."""

    def __init__(self, files: list[Any]) -> None:
        for index, file in enumerate(files):
            if file and not isinstance(file, str):
                raise Reject(f"parameter list: entry {index + 1} is not text: {one_line(repr(file), 80)}")
            if file and not file.startswith("/"):
                raise Reject(f"parameter list: entry {index + 1} is not an absolute path: {one_line(file, 200)}")
        self._files = files
        self.count = len(files)

    def name(self, index: int) -> Any:
        return self._files[index]

    def place(self, index: int) -> dict[str, Any]:
        return {"file": self._files[index], "file-list-index": index + 1}

    def end(self) -> int:
        return next((index for index, file in enumerate(self._files) if not file), self.count)

    def between(self, first: int, last: int) -> Iterator[tuple[str, Sequence[str]]]:
        return runs(self._files[first:last])


def files_of(parameters: Mapping[str, Any]) -> Files | None:
    """Return the files a node asks to watch, None when they are none; the first of pattern, list and hdf5 counts.

    Raises `Reject` with a sentence.
    """
    if parameters.get("pattern"):
        return NumberedFiles(Pattern.from_parameters(parameters))
    listed = parameters.get("list")
    if listed is not None:
        if not isinstance(listed, list):
            raise Reject(f"parameter list is not a list: {one_line(repr(listed), 80)}")
        return None if listed in ([], [None]) else ListedFiles(listed)
    if parameters.get("hdf5") is not None:
        raise Reject("parameter hdf5: images inside HDF5 files are not watched, name the files by pattern or list")
    raise Reject("nothing to watch: the node has none of the parameters pattern and list")


@dataclass(frozen=True, slots=True)
class Pace:
    """How a node wants its files to be watched. Times in seconds."""

    burst_limit: int = 100
    burst_wait: float = 0.0
    timeout: float = 3600.0
    timeout_first: float = 3600.0
    expected_per_image: float | None = None
    timeout_is_normal: bool = False

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Pace:
        """Read the parameters of a node; raises `Reject`."""
        timeout = _seconds(parameters, "timeout", 3600.0)
        limit = _seconds(parameters, "burst-limit", 100.0)
        if limit < 1 or limit != int(limit):
            raise Reject(f"parameter burst-limit is not a number of files: {one_line(parameters['burst-limit'], 80)}")
        return cls(
            burst_limit=int(limit),
            burst_wait=_seconds(parameters, "burst-wait", 0.0),
            timeout=timeout,
            timeout_first=_seconds(parameters, "timeout-first", timeout),
            expected_per_image=_number(parameters.get("expected-per-image-delay")),
            timeout_is_normal=bool(parameters.get("log-timeout-as-info")),
        )


def _number(value: Any) -> float | None:
    """Return a number given as such or as text; None for anything else, ``None`` included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seconds(parameters: Mapping[str, Any], key: str, default: float) -> float:
    value = parameters.get(key)
    if value is None or value in ("", "None"):
        return default
    number = _number(value)
    if number is None or not 0 <= number <= LONGEST:
        raise Reject(f"parameter {key} is not a number of 0 or more: {one_line(repr(value), 80)}")
    return number


class Announcements:
    """Which outputs the n-th of so many files goes to."""

    def __init__(self, outputs: Any, total: int) -> None:
        """Read the ``output`` of a node; raises `Reject` for ``every-0``, ``select-x`` and the like."""
        named = [name for name in outputs if isinstance(name, str)] if isinstance(outputs, dict) else []
        self._total = total
        self._first, self._every, self._last = (name in named for name in ("first", "every", "last"))
        self._numbers = {name for name in named if re.fullmatch(r"[1-9][0-9]{0,14}", name)}
        self._selections = [(name, _count_in(name)) for name in named if name.startswith("select-")]
        self._periods = [(name, _count_in(name)) for name in named if name.startswith("every-")]

    def of(self, number: int) -> Iterator[str]:
        """Yield the outputs of file `number`, counted from 1."""
        if self._first and number == 1:
            yield "first"
        if self._every:
            yield "every"
        if self._last and number == self._total:
            yield "last"
        if self._numbers and str(number) in self._numbers:
            yield str(number)
        for name, wanted in self._selections:
            if is_selected(number, wanted, self._total):
                yield name
        for name, period in self._periods:
            if (number - 1) % period == 0:
                yield name


def _count_in(output: str) -> int:
    text = output.partition("-")[2]
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise Reject(f"output {one_line(output, 60)!r}: after the hyphen stands a number of 1 or more")
    return int(text)


def is_selected(number: int, wanted: int, total: int) -> bool:
    """Whether file `number` (from 1) of `total` is one of `wanted` that are spread evenly, the last among them.

    The rule of the existing file watcher, by which 3 of 10 are 1, 6 and 10; where one is wanted, it is the last.
    """
    if total <= wanted or number == total:
        return True
    if wanted == 1:
        return False
    return number == 1 + number * (wanted - 1) // total * total // (wanted - 1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a watch has come, as its checkpoint says. Times are epoch seconds, of whichever host looked."""

    seen: int
    started: float
    last_seen: float | None = None
    others: Mapping[str, Any] | None = None
    """What somebody else's file watcher noted, and wants to find again."""

    @classmethod
    def of(cls, payload: Any, total: int, now: float) -> Progress:
        """Read a checkpoint; any other payload begins a watch. Raises `Reject` for a checkpoint that cannot be."""
        status = payload.get(STATUS) if isinstance(payload, dict) else None
        if status is None:
            return cls(0, now)
        if not isinstance(status, dict):
            raise Reject(f"{STATUS} is not an object")
        seen, started, last = status.get("seen-files", 0), status.get("start-time", now), status.get("last-seen")
        if isinstance(seen, bool) or not isinstance(seen, int) or not 0 <= seen <= total:
            raise Reject(f"{STATUS}: seen-files is {one_line(repr(seen), 60)}, of {total}")
        for name, value in (("start-time", started), ("last-seen", started if last is None else last)):
            if isinstance(value, str) or _number(value) is None:
                raise Reject(f"{STATUS}: {name} is not a time: {one_line(repr(value), 60)}")
        others = {key: value for key, value in status.items() if key not in ("seen-files", "start-time", "last-seen")}
        return cls(seen, started, last, others)

    def further(self, found: int, now: float) -> Progress:
        """Return the progress once `found` more files were seen."""
        return replace(self, seen=self.seen + found, last_seen=now) if found else self

    def checkpoint(self) -> dict[str, Any]:
        """Return the payload that brings us back here."""
        status = {**(self.others or {}), "seen-files": self.seen, "start-time": self.started}
        return {STATUS: status if self.last_seen is None else {**status, "last-seen": self.last_seen}}

    def elapsed(self, now: float) -> float:
        """Return the seconds since the watch began; never negative, whatever the clocks of two hosts say."""
        return max(now - self.started, 0.0)

    def quiet(self, now: float) -> float:
        """Return the seconds since a file was seen, or since the watch began."""
        return max(now - (self.started if self.last_seen is None else self.last_seen), 0.0)

    def timed_out(self, pace: Pace, now: float) -> bool:
        """Whether we have waited long enough for a file that is still missing."""
        return self.quiet(now) > (pace.timeout if self.seen else pace.timeout_first)
