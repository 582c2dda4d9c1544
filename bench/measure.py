"""What every benchmark shares: interleaved rounds in fresh processes, medians with their spread, ratios, a verdict.

A case is a command line; its process prints one JSON object of figures on its last line. Figures are compared only
inside one run: the peer, the bare limit and ours take turns, so that whatever else the machine does hits all alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PEERS = Path(os.environ.get("ZOC_PEERS", HERE.parent / ".peers"))


@dataclass(frozen=True, slots=True)
class Case:
    """Something to measure: a name, the command that does it once, and how long it may take in seconds."""

    name: str
    command: tuple[str, ...]
    limit: float = 120.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The values of one figure over all rounds of one case."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.4g} ({min(self.values):.4g}-{max(self.values):.4g})"

    def overlaps(self, other: Figures) -> bool:
        """Whether the two ranges touch, so that no difference was shown."""
        return min(self.values) <= max(other.values) and min(other.values) <= max(self.values)


Results = Mapping[str, Mapping[str, Figures]]


def peer_python(which: str = "current") -> str | None:
    """Return the interpreter that has the published packages, or None when they are not installed."""
    python = PEERS / which / "bin" / "python"
    return str(python) if python.exists() else None


def run_interleaved(cases: Sequence[Case], rounds: int = 5, warm_up: int = 1) -> Results:
    """Run every case once a round, `rounds` times after `warm_up` discarded rounds; returns case -> figure -> values.

    A case that fails or hits its limit is said on stderr and has no figures for that round.
    """
    collected: dict[str, dict[str, list[float]]] = {case.name: {} for case in cases}
    for round_number in range(-warm_up, rounds):
        for case in cases:
            figures = _run_once(case)
            if round_number >= 0:
                for name, value in figures.items():
                    collected[case.name].setdefault(name, []).append(value)
    return {
        case: {name: Figures(tuple(values)) for name, values in figures.items()} for case, figures in collected.items()
    }


def _run_once(case: Case) -> dict[str, float]:
    process = subprocess.Popen(case.command, stdout=subprocess.PIPE, text=True)
    try:
        output, _ = process.communicate(timeout=case.limit)
    except subprocess.TimeoutExpired:
        print(f"{case.name}: not done after {case.limit:g} s", file=sys.stderr)
        return {}
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    lines = output.strip().splitlines()
    if process.returncode or not lines:
        print(f"{case.name}: ended with {process.returncode}", file=sys.stderr)
        return {}
    return {name: float(value) for name, value in json.loads(lines[-1]).items()}


def conditions(**more: object) -> str:
    """Describe machine and moment: what has to stand beside any figure that is quoted."""
    p50, p95 = _fdatasync_ms()
    facts = {
        "taken": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "fdatasync 4 KB ms": f"p50 {p50:.2f} p95 {p95:.2f}",
        **more,
    }
    return "\n".join(f"  {name}: {value}" for name, value in facts.items())


def _fdatasync_ms(rounds: int = 60) -> tuple[float, float]:
    times = []
    with tempfile.TemporaryFile(dir=HERE) as file:
        for _ in range(rounds):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times), sorted(times)[int(0.95 * rounds)]


def print_table(title: str, results: Results, figures: Sequence[str]) -> None:
    """Print one row a case: the median and the spread of each figure."""
    rows = [["", *figures]]
    for case, values in results.items():
        rows.append([case, *(str(values[name]) if name in values else "-" for name in figures)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@dataclass(frozen=True, slots=True)
class Target:
    """What a ratio of two cases' medians should be: ``ours / other``, at most or at least `bound`."""

    name: str
    figure: str
    ours: str
    other: str
    bound: float
    at_least: bool = False

    def verdict(self, results: Results) -> str:
        """One line: the ratio, the bound, and whether it is met."""
        ours = results.get(self.ours, {}).get(self.figure)
        other = results.get(self.other, {}).get(self.figure)
        if ours is None or other is None:
            return f"{self.name}: {self.figure} of {self.ours} against {self.other}: not measured"
        ratio = ours.median / other.median if other.median else float("inf")
        met = ratio >= self.bound if self.at_least else ratio <= self.bound
        sign = ">=" if self.at_least else "<="
        note = " (the ranges overlap: no difference shown)" if ours.overlaps(other) else ""
        return (
            f"{self.name}: {self.figure}, {self.ours} / {self.other} = {ratio:.3g}, "
            f"target {sign} {self.bound:.3g}: {'met' if met else 'NOT MET'}{note}"
        )


def print_verdicts(targets: Sequence[Target], results: Results) -> None:
    """Print whether each target is met."""
    print()
    for target in targets:
        print("  " + target.verdict(results))
