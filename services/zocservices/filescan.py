"""How many of a run of files are there, strictly in order, for as few file-system calls as it takes.

A file that is missing is always asked for by name: listings of network file systems may be old, so a name in a
listing counts as there, and a name that is not in it says nothing.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

from zocservices.filesystem import Calls

LISTING_LIFE = 10.0
"""Seconds for which a file that was listed counts as there."""
SMALL = 128
"""Calls we always make one by one before a directory is listed; more than a watch with the usual burst limit makes."""
ENTRIES_PER_CALL = 4
"""So many entries of a listing cost what one call for a name costs, on a local disk; on a network more do."""
MOST_CALLS = 2000
"""Files found by name in one look; the rest wait for the next."""
MOST_NAMES = 1_000_000
"""Names kept in memory, over all directories."""
MOST_DIRECTORIES = 200


class Files(Protocol):
    """Files in a fixed order, counted from 0."""

    def between(self, first: int, last: int) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the files `first` to `last` (excluded) as runs: a directory with its final slash, and names in it."""


class Directory:
    """What is remembered of one directory."""

    __slots__ = ("found_by_name", "listed_at", "names", "size")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.listed_at = float("-inf")
        self.size = 0
        self.found_by_name = 0

    def worth_listing(self, calls: int) -> bool:
        """Whether so many calls for names would cost more than a listing.

        What was spent on calls since the last listing counts too: so we never pay more than twice the cheaper way.
        """
        return self.found_by_name + calls >= max(SMALL, self.size // ENTRIES_PER_CALL)


class Scanner:
    """Looks for files, and remembers what directories held a moment ago."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._directories: OrderedDict[str, Directory] = OrderedDict()

    def count(self, files: Files, first: int, last: int, calls: Calls) -> int:
        """Return how many of the files `first` to `last` (excluded) are there before the first that is missing.

        Less than there are when that would cost too many calls; never 0 then.
        """
        self._forget_old()
        found = by_name = 0
        for start, end in _growing(first, last):
            for directory, names in files.between(start, end):
                there, asked = self._count_in(directory, names, calls, MOST_CALLS - by_name)
                found += there
                by_name += asked
                if there < len(names):
                    return found
        return found

    def _count_in(self, path: str, names: Sequence[str], calls: Calls, budget: int) -> tuple[int, int]:
        """Return how many of `names` are there in order, and how many of them had to be asked for."""
        directory = self._remembered(path)
        listed: list[bool] = []
        there = asked = 0
        probed = full = False
        while True:
            if directory.names and not listed:
                listed = list(map(directory.names.__contains__, names))
            there = _next(False, listed, there)
            if there == len(names) or asked >= budget or not calls.is_file(path + names[there]):
                return there, asked
            there += 1
            asked += 1
            directory.found_by_name += 1
            if there == len(names):
                return there, asked
            if not probed:
                probed, full = True, calls.is_file(path + names[-1])
            ahead = len(names) - there if full else 0
            if directory.worth_listing(ahead):
                self._list(path, directory, calls)
                listed = []

    def _remembered(self, path: str) -> Directory:
        directory = self._directories.get(path)
        if directory is None:
            directory = self._directories[path] = Directory()
            self._forget_oldest()
        self._directories.move_to_end(path)
        return directory

    def _forget_old(self) -> None:
        now = self._clock()
        for directory in self._directories.values():
            if directory.names and now - directory.listed_at > LISTING_LIFE:
                directory.names = set()

    def _forget_oldest(self) -> None:
        names = sum(len(directory.names) for directory in self._directories.values())
        while len(self._directories) > 1 and (len(self._directories) > MOST_DIRECTORIES or names > MOST_NAMES):
            _, oldest = self._directories.popitem(last=False)
            names -= len(oldest.names)

    def _list(self, path: str, directory: Directory, calls: Calls) -> None:
        """Read a directory: one call for hundreds of entries. One that cannot be read counts as huge."""
        directory.found_by_name = 0
        directory.listed_at = self._clock()
        try:
            directory.names, directory.size = calls.make("list", _ordinary_files, path)
        except (OSError, ValueError) as error:
            calls.trouble = f"{getattr(error, 'strerror', None) or error}: {path}"
            directory.names, directory.size = set(), ENTRIES_PER_CALL * MOST_CALLS
        self._forget_oldest()


def _next(value: bool, values: list[bool], start: int) -> int:
    """Return where `value` comes next; `start` where there are no values, their number where it comes no more."""
    try:
        return values.index(value, start)
    except ValueError:
        return len(values) or start


def _ordinary_files(path: str) -> tuple[set[str], int]:
    """Return the names of ordinary files, and how many entries there are. Links are not followed: each costs a call."""
    names: set[str] = set()
    add, others = names.add, 0
    with os.scandir(path) as listing:
        for entry in listing:
            if entry.is_file(follow_symlinks=False):
                add(entry.name)
            else:
                others += 1
    return names, len(names) + others


def _growing(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Cut a range into pieces of growing length, so that nothing is prepared for files that are not there yet."""
    length = 1
    while first < last:
        yield first, min(first + length, last)
        first += length
        length = 16 * length if length > 1 else 2 * SMALL


def runs(paths: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """Group neighbouring paths by their directory: yields the directory with its final slash, and the names."""
    parts = (path.rpartition("/") for path in paths)
    for directory, group in groupby(parts, key=lambda part: part[0]):
        yield f"{directory}/", [name for _, _, name in group]
