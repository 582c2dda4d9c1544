"""One recipe step: rate, CPU and latency of a zoctools service, a `workflows` service and a bare socket.

Ours confirms each step (a receipt for every SEND, then for the COMMIT); `workflows` does not, and the bare socket is
shown both ways. The ratio of rates to `workflows` at a deep backlog is the broker's gain from a small prefetch, not a
gain of faster Python. Usage: service_hop.py [--rounds N] [--messages N] [--disk]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import HERE, Case, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved

sys.path.insert(0, str(HERE.parent / "tests"))
from support.activemq import ActiveMQ

CLIENTS = ("workflows", "raw:10", "raw-confirmed:1", "raw-confirmed:10", "zoctools:1", "zoctools:10")
QUIET = ("workflows", "raw-confirmed:1", "zoctools:1")


def targets(disk: bool) -> list[Target]:
    """The rows of the performance specification that a single step is about."""
    return [
        Target("G1", "p50 ms", "zoctools:1", "workflows", 1 / 20),
        Target("G1", "p50 ms", "zoctools:1", "raw-confirmed:1", 1.5),
        Target("G2", "msg/s", "zoctools:1", "workflows", 4 if disk else 6, at_least=True),
        Target("G2", "msg/s", "zoctools:10", "workflows", 4 if disk else 6, at_least=True),
        Target("G2", "msg/s", "zoctools:1", "raw-confirmed:1", 0.7 if disk else 0.85, at_least=True),
        Target("G2", "msg/s", "zoctools:10", "raw-confirmed:10", 0.7 if disk else 0.85, at_least=True),
        Target("G4", "cpu us/msg", "zoctools:10", "workflows", 1 / 3),
        Target("G4", "cpu us/msg", "zoctools:10", "raw-confirmed:10", 2),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=2000, help="backlog, more than 1500 for the targets")
    parser.add_argument("--size", type=int, default=4000, help="bytes of the envelope")
    parser.add_argument("--disk", action="store_true", help="keep the broker's store on disk, not in memory")
    options = parser.parse_args()
    if not options.disk and Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"
    broker = ActiveMQ.start("minimal")
    tempfile.tempdir = None
    try:
        _measure(broker.stomp_port, options)
    finally:
        broker.stop()


def _measure(port: int, options: argparse.Namespace) -> None:
    def case(what: str, client: str, count: int) -> Case:
        script = str(HERE / "hop_case.py")
        return Case(client, (sys.executable, script, str(port), what, client, str(options.size), str(count)))

    installed = [client for client in CLIENTS if client != "workflows" or peer_python()]
    rates = run_interleaved([case("throughput", client, options.messages) for client in installed], options.rounds)
    quiet = [client for client in QUIET if client in installed]
    times = run_interleaved([case("latency", client, 250) for client in quiet], options.rounds)
    print(
        conditions(
            broker="ActiveMQ 5.17, KahaDB on " + ("disk" if options.disk else "tmpfs") + ", connector stomp://",
            backlog=options.messages,
            size=options.size,
            peer="workflows, as installed" if "workflows" in installed else "not installed",
            client_cores=os.cpu_count(),
        )
    )
    print_table("A deep backlog, one transaction a message", rates, ("msg/s", "cpu us/msg"))
    print_table("One message at a time", times, ("p50 ms", "p95 ms", "p99 ms"))
    merged = {client: {**figures, **times.get(client, {})} for client, figures in rates.items()}
    print_verdicts(targets(options.disk), merged)


if __name__ == "__main__":
    main()
