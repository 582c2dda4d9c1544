"""A service that dies by SIGKILL at a chosen step of a settle: ``python killed.py PORT SOURCE TARGET STEP``.

A settle writes twice. Steps: 0 before the first write, 1 after it, 2 before the second, 3 after it; 4 lives.
"""

from __future__ import annotations

import os
import signal
import sys

from zoctools.config import StompSettings
from zoctools.transport.contract import Delivery, Destination, Outgoing
from zoctools.transport.stomp import StompTransport
from zoctools.transport.wire import Wire

port, source, target, step = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
transport = StompTransport(StompSettings((("127.0.0.1", port),)))
transport.connect()
transport.subscribe(Destination.queue(source))
while not isinstance(delivery := transport.inbox.get(timeout=60), Delivery):
    pass

writes = 0
send = Wire.send


def dying(wire: Wire, data: bytes) -> None:
    """Write, and die where told to."""
    global writes
    if step == 2 * writes:
        os.kill(os.getpid(), signal.SIGKILL)
    send(wire, data)
    if step == 2 * writes + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    writes += 1


Wire.send = dying  # type: ignore[method-assign]
transport.settle([delivery], [Outgoing(Destination.queue(target), b"out")])
Wire.send = send  # type: ignore[method-assign]
transport.close()
