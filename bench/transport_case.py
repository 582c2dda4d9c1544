"""One round of sending or receiving over one connection of ours: `transport_case.py PORT WHAT CLIENT SIZE N`.

WHAT is `send` or `receive`; CLIENT is `raw`, `zoctools` (each send confirmed), `zoctools-hundred` (a hundred sends a
settle). Prints CPU microseconds of this process per message as JSON. Receiving includes decoding the JSON body.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from raw import Client, envelope
from zoctools.config import StompSettings
from zoctools.recipe.envelope import decode, encode
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.stomp import StompTransport

QUEUE = "bench.transport"


def main() -> None:
    port, what, client, size, count = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    body = envelope(size)
    if what == "receive":
        Client(port).fill(QUEUE, body, count + 100)
        work = _received_raw(port) if client == "raw" else _received(port)
    elif client == "raw":
        work = _sent_raw(port, body)
    else:
        work = _sent(port, body, 100 if client == "zoctools-hundred" else 1)
    work(100)
    started, cpu = time.perf_counter(), time.process_time()
    work(count)
    figures = {
        "cpu us/msg": 1e6 * (time.process_time() - cpu) / count,
        "msg/s": count / (time.perf_counter() - started),
    }
    print(json.dumps(figures))


def _sent_raw(port: int, body: bytes) -> Callable[[int], None]:
    client = Client(port)
    message = json.loads(body)

    def work(count: int) -> None:
        for number in range(count):
            content = json.dumps(message).encode()
            head = f"SEND\ndestination:/queue/{QUEUE}\npersistent:true\ncontent-length:{len(content)}\n"
            asked = "receipt:last\n" if number == count - 1 else ""
            client.write(f"{head}{asked}\n".encode() + content + b"\0")
        client.receipt("last")

    return work


def _sent(port: int, body: bytes, batch: int) -> Callable[[int], None]:
    transport = _connected(port)
    message = json.loads(body)

    def work(count: int) -> None:
        for _ in range(count // batch):
            sends = [Outgoing(transport.queue(QUEUE), encode(message), {}) for _ in range(batch)]
            transport.settle([], sends)

    return work


def _received_raw(port: int) -> Callable[[int], None]:
    client = Client(port)
    client.subscribe(f"/queue/{QUEUE}", 1000, ack="auto")

    def work(count: int) -> None:
        for _ in range(count):
            json.loads(client.message()[2])

    return work


def _received(port: int) -> Callable[[int], None]:
    transport = _connected(port)
    transport.subscribe(transport.queue(QUEUE), acknowledge=False, prefetch=1000)

    def work(count: int) -> None:
        while count:
            event = transport.inbox.get()
            if isinstance(event, Delivery):
                decode(event.body)
                count -= 1

    return work


def _connected(port: int) -> StompTransport:
    transport = StompTransport(StompSettings(hosts=(("127.0.0.1", port),)))
    transport.connect()
    return transport


if __name__ == "__main__":
    main()
