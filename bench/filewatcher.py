"""One look at many watched files: our scan, against asking for one file after the other as the existing watcher does.

Four looks are shown. ``first``: nothing is known of the directory and every file is there. ``again``: the same look
within the ten seconds for which a listing is trusted. ``waiting``: all but the last file have been seen, and it is not
there yet: what a watch does once a second. ``burst``: the next 100 files of a directory that is full.
Usage: filewatcher.py [--rounds N] [--directory DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import HERE, Case, Target, conditions, print_table, print_verdicts, run_interleaved

sys.path.insert(0, str(HERE.parent / "services"))
SIZES = (1000, 100_000)
TARGET = 1 / 4


def make(directory: Path, count: int) -> Path:
    """Fill a directory with numbered empty files, all but the last of those watched."""
    place = directory / str(count)
    place.mkdir()
    for number in range(1, count + 1):
        (place / f"img_{number:06d}.cbf").touch()
    return place


def exists_loop(place: str, first: int, last: int) -> int:
    """Ask for the files `first` to `last` one by one, up to the first that is missing."""
    found = 0
    for number in range(first, last + 1):
        if not os.path.isfile(f"{place}/img_%06d.cbf" % number):  # noqa: PTH113
            break
        found += 1
    return found


def timed(call: Callable[[], int], expected: int) -> float:
    """Return the milliseconds a look took; raises unless it found what is there."""
    began = time.perf_counter()
    found = call()
    took = 1000 * (time.perf_counter() - began)
    if found != expected:
        raise SystemExit(f"found {found} files, not {expected}")
    return took


def theirs(warm: str, place: str, count: int) -> dict[str, float]:
    """Time the looks of a loop."""
    exists_loop(warm, 1, 500)
    return {
        "first ms": timed(lambda: exists_loop(place, 1, count), count),
        "again ms": timed(lambda: exists_loop(place, 1, count), count),
        "waiting ms": timed(lambda: exists_loop(place, count + 1, count + 1), 0),
        "burst ms": timed(lambda: exists_loop(place, 1, 100), 100),
    }


def ours(warm: str, place: str, count: int) -> dict[str, float]:
    """Time the same looks of our scan, and count its file-system calls."""
    from zocservices.filescan import Scanner
    from zocservices.filesystem import Calls
    from zocservices.pattern import Pattern
    from zocservices.watch import NumberedFiles

    def watched(place: str, count: int) -> NumberedFiles:
        pattern = {"pattern": f"{place}/img_%06d.cbf", "pattern-start": 1, "pattern-end": count + 1}
        return NumberedFiles(Pattern.from_parameters(pattern))

    Scanner().count(watched(warm, 500), 0, 500, Calls())
    files, scanner, calls = watched(place, count), Scanner(), Calls()
    first = timed(lambda: scanner.count(files, 0, count, calls), count)
    asked = calls.number
    return {
        "first ms": first,
        "calls": asked,
        "again ms": timed(lambda: scanner.count(files, 0, count, calls), count),
        "waiting ms": timed(lambda: scanner.count(files, count, count + 1, calls), 0),
        "burst ms": timed(lambda: Scanner().count(files, 0, 100, Calls()), 100),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--directory", help="where to make the files; a network file system is the interesting place")
    parser.add_argument("--case", nargs=4, metavar=("WHO", "WARM", "PLACE", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        who, warm, place, count = options.case
        print(json.dumps((ours if who == "zoctools" else theirs)(warm, place, int(count))))
        return
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        _measure(Path(directory), options.rounds)


def _measure(directory: Path, rounds: int) -> None:
    print(conditions(files="empty, warm cache", directory=directory))
    warm = make(directory, 500)
    for count in SIZES:
        place = make(directory, count)
        cases = [
            Case(who, (sys.executable, __file__, "--case", who, str(warm), str(place), str(count)))
            for who in ("loop", "zoctools")
        ]
        results = run_interleaved(cases, rounds)
        looks = ("first ms", "again ms", "waiting ms", "burst ms")
        print_table(f"One look at {count} files", results, (*looks, "calls"))
        print_verdicts([Target("G11", look, "zoctools", "loop", TARGET) for look in looks[:2]], results)


if __name__ == "__main__":
    main()
