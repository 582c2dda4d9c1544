"""CPU a dispatched recipe costs: our Dispatcher against that of the published `zocalo`, logs on, on one ActiveMQ.

A recipe file of 6 nodes, requests of 50 parameters (2.6 KB); CPU is that of the service and all its processes, taken
from the kernel between the end of a warm-up and the arrival of the last started recipe, divided by the recipes.
Usage: dispatcher.py [--rounds N] [--messages N] [--disk]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import HERE, Case, Target, conditions, peer_python, print_table, print_verdicts, run_interleaved
from zoctools.settings import StompSettings
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.stomp import StompTransport

sys.path.insert(0, str(HERE.parent / "tests"))
from support.activemq import ActiveMQ

WARM_UP = 100
CASES = ("zocalo", "zoctools", "zocalo+logbook", "zoctools+logbook")
TARGETS = [
    Target("G7", "cpu ms", "zoctools", "zocalo", 1 / 4),
    Target("G7, with a logbook", "cpu ms", "zoctools+logbook", "zocalo+logbook", 1 / 4),
]


def recipe() -> dict[str, Any]:
    """Six nodes with about as many placeholders and bytes as ``archive-cbfs`` has."""
    nodes: dict[str, Any] = {
        str(number): {
            "service": f"service {number}",
            "queue": f"step.{number}",
            "parameters": {f"key-{key}": f"{{parameter_{number * 7 + key}}}/{{guid}}" for key in range(7)},
            "output": {"next": number + 1} if number < 6 else {},
        }
        for number in range(1, 7)
    }
    return {**nodes, "start": [[1, []]]}


def request() -> bytes:
    """One recipe name and 50 parameters."""
    parameters = {f"parameter_{number}": f"value {number} of a parameter, of some length" for number in range(50)}
    return json.dumps({"recipes": ["bench"], "parameters": parameters}).encode()


def site(root: Path, port: int, logbook: bool) -> Path:
    """Write a site configuration that both can read; the directory's name is the namespace."""
    (root / "recipes").mkdir()
    (root / "recipes/bench.json").write_text(json.dumps(recipe()))
    storage = {"zocalo.recipe_directory": str(root / "recipes"), "zocalo.default_transport": "StompTransport"}
    if logbook:
        storage["zocalo.dispatcher.logbook_location"] = str(root / "book")
    stomp = {"host": "127.0.0.1", "port": port, "username": "", "password": "", "prefix": root.name}
    configuration = {
        "version": 1,
        "environments": {"default": {"plugins": ["stomp", "storage", "transport"]}},
        "stomp": {"plugin": "stomp", **stomp},
        "storage": {"plugin": "storage", **storage},
        "transport": {"plugin": "transport", "default": "StompTransport"},
    }
    file = root / "site.yml"
    file.write_text(json.dumps(configuration))
    return file


def command(who: str, file: Path) -> list[str]:
    """How a Dispatcher is started, as its users start it."""
    if who == "zoctools":
        return [sys.executable, "-m", "zoctools", "--config", str(file), "service", "Dispatcher"]
    python = peer_python()
    assert python is not None
    return [str(Path(python).parent / "zocalo.service"), "-s", "Dispatcher"]


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants so far."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def run_case(case: str, port: int, count: int) -> dict[str, float]:
    """Start one Dispatcher, have it start `count` recipes, and return what that cost."""
    who, _, logbook = case.partition("+")
    with tempfile.TemporaryDirectory(prefix="bench") as directory:
        root = Path(directory)
        file = site(root, port, bool(logbook))
        link = StompTransport(StompSettings((("127.0.0.1", port),), namespace=root.name))
        link.connect()
        link.subscribe(link.queue("step.1"), acknowledge=False, prefetch=1000)
        environment = {**os.environ, "ZOCALO_CONFIG": str(file)}
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command(who, file), env=environment, stdout=quiet, stderr=quiet)
        try:
            _dispatch(link, WARM_UP)
            cpu, began = cpu_seconds(process.pid), time.perf_counter()
            _dispatch(link, count)
            took, spent = time.perf_counter() - began, cpu_seconds(process.pid) - cpu
        finally:
            for one in reversed(family(process.pid)):
                os.kill(one, signal.SIGKILL)
            process.wait()
            link.close()
    return {"cpu ms": 1000 * spent / count, "recipes/s": count / took}


def _dispatch(link: StompTransport, count: int) -> None:
    """Ask for recipes and wait until the first message of each is here."""
    body = request()
    for _ in range(count):
        link.send(Outgoing(link.queue("processing_recipe"), body))
    arrived = 0
    while arrived < count:
        arrived += isinstance(link.inbox.get(timeout=60), Delivery)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=800)
    parser.add_argument("--disk", action="store_true", help="keep broker store and logbook on disk, not in memory")
    parser.add_argument("--case", nargs=3, metavar=("CASE", "PORT", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, port, count = options.case
        print(json.dumps(run_case(case, int(port), int(count))))
        return
    if not options.disk and Path("/dev/shm").is_dir():
        os.environ["TMPDIR"] = tempfile.tempdir = "/dev/shm"
    broker = ActiveMQ.start("minimal")
    tempfile.tempdir = None
    try:
        _measure(broker.stomp_port, options)
    finally:
        broker.stop()


def _measure(port: int, options: argparse.Namespace) -> None:
    installed = [case for case in CASES if case.startswith("zoctools") or peer_python()]
    cases = [
        Case(case, (sys.executable, __file__, "--case", case, str(port), str(options.messages))) for case in installed
    ]
    results = run_interleaved(cases, options.rounds)
    print(
        conditions(
            broker="ActiveMQ 5.17, KahaDB on " + ("disk" if options.disk else "tmpfs") + ", connector stomp://",
            recipes=options.messages,
            peer="zocalo, as installed, as zocalo.service runs it" if len(installed) > 2 else "not installed",
        )
    )
    print_table("One recipe dispatched", results, ("cpu ms", "recipes/s"))
    print_verdicts(TARGETS, results)


if __name__ == "__main__":
    main()
