"""The hop service as its author would write it with zoctools: `our_hop.py PORT COUNT PREFETCH`.

It prints its figures when message COUNT + 1 arrives; with COUNT 0 it runs until it is ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from zoctools import Service, Step
from zoctools.config import StompSettings
from zoctools.service import process
from zoctools.transport.stomp import StompTransport

PORT, COUNT, PREFETCH = (int(argument) for argument in sys.argv[1:4])


class Hop(Service):
    """Takes a message and sends it on."""

    queue = "hop.in"
    prefetch = PREFETCH
    seen = 0

    def process(self, step: Step, payload: Any) -> None:
        if self.seen == 0:
            self.started, self.cpu = time.perf_counter(), time.process_time()
        if COUNT and self.seen == COUNT:
            took = time.perf_counter() - self.started
            cpu = time.process_time() - self.cpu
            print(json.dumps({"msg/s": COUNT / took, "cpu us/msg": 1e6 * cpu / COUNT}), flush=True)
            os._exit(0)
        self.seen += 1
        step.send(payload)


if __name__ == "__main__":
    transport = StompTransport(StompSettings(hosts=(("127.0.0.1", PORT),)))
    sys.exit(process.run(Hop, transport, None, process.Start()))
