"""What watching costs: CPU of a status monitor for each broadcast, at 2500 a second from 5000 services.

The published monitor runs without its screen, which makes it cheaper: ours is shown without and with one, the screen
drawing four times a second on a pseudo terminal of 200 by 50. The bare socket parses and remembers, and does no more.
Usage: status.py [--rounds N] [--rate N] [--services N] [--seconds N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import HERE, Case, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved

sys.path.insert(0, str(HERE.parent / "tests"))
from support.activemq import ActiveMQ

CLIENTS = ("workflows", "raw", "zoctools board", "zoctools screen")
FIGURE = "cpu us/status"
TARGETS = [
    Target("G9", FIGURE, "zoctools board", "workflows", 1 / 3),
    Target("G9", FIGURE, "zoctools screen", "workflows", 1 / 3),
    Target("G9 (for reference)", FIGURE, "zoctools board", "raw", 3),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=2500, help="broadcasts a second")
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each is measured")
    options = parser.parse_args()
    if Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"
    broker = ActiveMQ.start("minimal")
    tempfile.tempdir = None
    try:
        _measure(broker.stomp_port, options)
    finally:
        broker.stop()


def _measure(port: int, options: argparse.Namespace) -> None:
    numbers = [str(number) for number in (port, options.rate, options.services, options.seconds)]
    script = str(HERE / "status_case.py")
    installed = [client for client in CLIENTS if client != "workflows" or peer_python()]
    cases = [Case(client, (sys.executable, script, client, *numbers)) for client in installed]
    results = run_interleaved(cases, options.rounds)
    print(
        conditions(
            broker="ActiveMQ 5.17, one topic, connector stomp://",
            rate=options.rate,
            services=options.services,
            peer="workflows' own monitor, no screen" if "workflows" in installed else "peer not installed",
        )
    )
    print_table("A monitor of status broadcasts", results, (FIGURE, "cpu %", "published/s"))
    print_verdicts(TARGETS, results)


if __name__ == "__main__":
    main()
