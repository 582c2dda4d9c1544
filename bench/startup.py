"""How long a command takes before it does anything: `--help` of ours and of the published tools, in milliseconds.

Each command is run as a whole process, the help thrown away. Two references stand beside: Python that does nothing,
and Python that imports click alone. Usage: startup.py [--rounds N]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from measure import Case, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved

FIGURE = "ms"
OURS = Path(sys.executable).parent / "zoc"
TARGETS = [
    Target("G10", FIGURE, "zoc --help", "zocalo.go --help", 1 / 4),
    Target("G10", FIGURE, "zoc --help", "zocalo.dlq_check --help", 1 / 6),
]


def commands() -> dict[str, list[str]]:
    """What is measured: name and command line; the published tools only where they are installed."""
    chosen = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import click": [sys.executable, "-c", "import click"],
        "zoc --help": [str(OURS), "--help"],
        "zoc status --help": [str(OURS), "status", "--help"],
        "zoc doctor --help": [str(OURS), "doctor", "--help"],
    }
    python = peer_python()
    if python is not None:
        peers = Path(python).parent
        names = ("zocalo.go", "zocalo.dlq_check", "zocalo.service")
        chosen |= {f"{name} --help": [str(peers / name), "--help"] for name in names}
    return chosen


def measure(words: list[str], times: int = 3) -> float:
    """Return the shortest of some runs: what the machine does meanwhile only ever adds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
        taken.append(time.perf_counter() - began)
    return 1000 * min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--one", nargs=argparse.REMAINDER, help="measure this command once and print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps({FIGURE: measure(options.one)}))
        return
    cases = [Case(name, (sys.executable, __file__, "--one", *words)) for name, words in commands().items()]
    results = run_interleaved(cases, options.rounds)
    print(conditions(peer="zocalo, as installed" if peer_python() else "not installed"))
    print_table("A command that only says how it is used", results, (FIGURE,))
    print_verdicts(TARGETS, results)


if __name__ == "__main__":
    main()
