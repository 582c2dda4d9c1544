"""The published `StompTransport`, sending or receiving; by the peers' Python: `peer_transport.py PORT WHAT SIZE N`."""

from __future__ import annotations

import json
import sys
import threading
import time

from workflows.transport.stomp_transport import StompTransport

from raw import Client, envelope

QUEUE = "bench.transport"


def main() -> None:
    port, what, size, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    StompTransport.defaults["--stomp-port"] = port
    StompTransport.defaults["--stomp-host"] = "127.0.0.1"
    body = envelope(size)
    if what == "receive":
        Client(port).fill(QUEUE, body, count + 100)
    transport = StompTransport()
    transport.connect()
    took = (receive if what == "receive" else send)(transport, body, count)
    print(json.dumps(took), flush=True)


def send(transport: StompTransport, body: bytes, count: int) -> dict[str, float]:
    message = json.loads(body)
    for _ in range(100):
        transport.send(QUEUE, message)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        transport.send(QUEUE, message)
    figures = _figures(started, cpu, count)
    transport.disconnect()
    return figures


def receive(transport: StompTransport, body: bytes, count: int) -> dict[str, float]:
    done = threading.Event()
    marks: list[tuple[float, float]] = []
    seen = 0

    def on_message(header, message) -> None:
        nonlocal seen
        seen += 1
        if seen in (100, count + 100):
            marks.append((time.perf_counter(), time.process_time()))
        if seen == count + 100:
            done.set()

    transport.subscribe(QUEUE, on_message)
    done.wait(100)
    (started, cpu), (ended, cpu_ended) = marks
    return {"cpu us/msg": 1e6 * (cpu_ended - cpu) / count, "msg/s": count / (ended - started)}


def _figures(started: float, cpu: float, count: int) -> dict[str, float]:
    return {"cpu us/msg": 1e6 * (time.process_time() - cpu) / count, "msg/s": count / (time.perf_counter() - started)}


if __name__ == "__main__":
    main()
