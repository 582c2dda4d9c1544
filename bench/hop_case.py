"""One round of one client moving recipe messages from queue hop.in to hop.out: `hop_case.py PORT WHAT CLIENT SIZE N`.

WHAT is `throughput` (N messages wait, the clock runs from the first to the confirmation of the last), or `latency`
(one message outstanding, the next 15 ms after it came back). CLIENT is `workflows`, `raw:PREFETCH`,
`raw-confirmed:PREFETCH` or `zoctools:PREFETCH`. Prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measure import HERE, peer_python
from raw import Client, envelope, hop

WARM_UP = 100


def client_command(client: str, port: int, count: int) -> list[str]:
    """Return the command that runs a client as a process of its own; with `count` 0 it runs until it is ended."""
    kind, _, prefetch = client.partition(":")
    if kind == "workflows":
        python = peer_python()
        if python is None:
            raise SystemExit("peer not installed")
        return [python, str(HERE / "peer_hop.py"), str(port), str(count)]
    if kind == "zoctools":
        return [sys.executable, str(HERE / "our_hop.py"), str(port), str(count), prefetch]
    return [sys.executable, str(Path(__file__)), str(port), "raw", client, "0", str(count)]


def throughput(port: int, client: str, size: int, count: int) -> dict[str, float]:
    """Let a client move `count` messages that wait already."""
    filler = Client(port)
    filler.fill("hop.in", envelope(size), count + 1)
    process = subprocess.run(client_command(client, port, count), stdout=subprocess.PIPE, text=True, check=False)
    _drain(port)
    figures: dict[str, float] = json.loads(process.stdout.strip().splitlines()[-1])
    return figures


def latency(port: int, client: str, size: int, count: int) -> dict[str, float]:
    """Send one message at a time through a running client; milliseconds from the send to its arrival."""
    driver = Client(port)
    driver.subscribe("/queue/hop.out", 1)
    body = envelope(size)
    head = f"SEND\ndestination:/queue/hop.in\npersistent:true\nworkflows-recipe:True\ncontent-length:{len(body)}\n\n"
    frame = head.encode() + body + b"\0"
    process = subprocess.Popen(client_command(client, port, 0), stdout=subprocess.DEVNULL, start_new_session=True)
    times = []
    try:
        for number in range(WARM_UP + count):
            started = time.perf_counter()
            driver.write(frame)
            _, headers, _ = driver.message()
            if number >= WARM_UP:
                times.append(1000 * (time.perf_counter() - started))
            driver.write(f"ACK\nmessage-id:{headers['message-id']}\nsubscription:1\n\n\0".encode())
            time.sleep(0.015)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the whole group: workflows leaves its service process behind
        process.wait()
    times.sort()
    return {"p50 ms": statistics.median(times), "p95 ms": times[int(0.95 * count)], "p99 ms": times[int(0.99 * count)]}


def _drain(port: int) -> None:
    """Take away whatever a round left in the queues."""
    for queue in ("hop.in", "hop.out"):
        client = Client(port)
        client.subscribe(f"/queue/{queue}", 1000)
        client.give_up_after(0.5)
        try:
            while True:
                _, headers, _ = client.message()
                client.write(f"ACK\nmessage-id:{headers['message-id']}\nsubscription:1\n\n\0".encode())
        except TimeoutError:
            client.close()


def main() -> None:
    port, what, client, size, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    if what == "raw":
        kind, _, prefetch = client.partition(":")
        figures = hop(port, "hop.in", "hop.out", count, int(prefetch), kind == "raw-confirmed")
    else:
        figures = (throughput if what == "throughput" else latency)(port, client, size, count)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
