"""The thread that tells the world how this service is: every 6 s, on change, and while a handler blocks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zoctools.errors import ZocError
from zoctools.recipe.envelope import encode
from zoctools.service.status import EXPIRY, Status, Vitals
from zoctools.transport.contract import Outgoing, Transport

TOPIC = "transient.status"
MEMORY_FOR = 10.0
"""Seconds for which a figure of our memory is good enough; the kernel walks all our pages for it."""


class Heartbeat:
    """Broadcasts the vitals until it is stopped; a lost link only makes it silent."""

    def __init__(self, vitals: Vitals, transport: Transport) -> None:
        self._vitals = vitals
        self._transport = transport
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to broadcast."""
        self._thread.start()

    def say(self, status: Status) -> None:
        """Broadcast a status now, and none that came before it any more."""
        self._vitals.enter(status)
        broadcast(self._transport, self._vitals.statement(status))

    def stop(self) -> None:
        """Broadcast that the process is going, and nothing after it."""
        self._stopped.set()
        self._vitals.wake()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.say(Status.TEARDOWN)

    def _beat(self) -> None:
        while not self._stopped.is_set():
            message = self._vitals.announce()
            if message is not None:
                broadcast(self._transport, message)
            self._vitals.wait()


def broadcast(transport: Transport, message: Mapping[str, Any]) -> None:
    """Send one status; it is forgotten after 15 s, and when the link is down."""
    try:
        body = encode(dict(message))
        transport.broadcast(Outgoing(transport.topic(TOPIC), body, expires_in=EXPIRY, persistent=False))
    except ZocError:
        return


def batch_job(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return which cluster job we are, as the existing services say it: Grid Engine's variables, or SLURM's."""
    variables = os.environ if environ is None else environ
    found = {
        "cluster_JOB_ID": variables.get("JOB_ID") or variables.get("SLURM_JOB_ID"),
        "cluster_SGE_CELL": variables.get("SGE_CELL"),
    }
    return {key: value for key, value in found.items() if value}


class Memory:
    """How many bytes this process alone holds (its unique set size), asked of the kernel at most every 10 s."""

    def __init__(self, source: Path = Path("/proc/self/smaps_rollup"), clock: Callable[[], float] = time.monotonic):
        self._source = source
        self._clock = clock
        self._known: int | None = None
        self._asked: float | None = None

    def __call__(self) -> int | None:
        """Return the figure; None where the kernel does not tell."""
        now = self._clock()
        if self._asked is None or now - self._asked >= MEMORY_FOR:
            self._asked = now
            self._known = private_bytes(self._source)
        return self._known


def private_bytes(source: Path) -> int | None:
    """Return the sum of all ``Private_...`` lines of a ``smaps`` file, in bytes."""
    try:
        lines = source.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    sizes = [line.split() for line in lines if line.startswith("Private_")]
    return 1024 * sum(int(words[1]) for words in sizes if len(words) > 1 and words[1].isdecimal())
