"""Services that misbehave, and a program that runs one of them: ``python faulty.py CLASS PORT [queue]``.

Plain messages say what to do; everything handled is passed on to the queue ``out``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

from zoctools import Service, Unavailable
from zoctools.config import StompSettings
from zoctools.service.process import Start, run
from zoctools.transport.stomp import StompTransport

NAMESPACE = "faults"


class Faulty(Service):
    """Does what the message says, and passes it on."""

    queue = "in"
    accepts_plain_messages = True
    retry_delays = (0.2, 0.2)

    def process(self, step, payload):
        match payload:
            case {"do": "segfault"}:
                ctypes.string_at(0)
            case {"do": "kill"}:
                os.kill(os.getpid(), signal.SIGKILL)
            case {"do": "exit"}:
                os._exit(3)
            case {"do": "raise"}:
                raise RuntimeError("as told")
            case {"do": "sleep", "seconds": seconds}:
                step.broadcast_message("events", {"sleeping": os.getpid()})
                self._runtime._transport.broadcast(step.outbox.pop())
                time.sleep(seconds)
            case {"do": "away"}:
                raise Unavailable("the other thing")
        step.send_message("out", payload)


class Eager(Faulty):
    """Takes many at a time."""

    prefetch = 10


class Stuck(Faulty):
    """Never returns, not even when asked to leave."""

    def process(self, step, payload):
        step.broadcast_message("events", {"sleeping": os.getpid()})
        self._runtime._transport.broadcast(step.outbox.pop())
        while True:
            time.sleep(1)


def settings(port: int, **options) -> StompSettings:
    """Return the settings everybody in these tests uses."""
    return StompSettings((("127.0.0.1", port),), namespace=NAMESPACE, **options)


if __name__ == "__main__":
    name, port, *more = sys.argv[1:]
    parent = int(more[0]) if more else None
    service = {"Faulty": Faulty, "Eager": Eager, "Stuck": Stuck}[name]
    sys.exit(run(service, StompTransport(settings(int(port))), None, Start(wait=True, parent=parent)))
