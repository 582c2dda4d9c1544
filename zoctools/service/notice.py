"""What a supervising parent says while a child is not running: a status broadcast over a link of its own.

The link is opened when there is something to say and closed when all is well, by a thread: the parent itself never
waits for a broker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from zoctools.errors import ZocError
from zoctools.service.heartbeat import broadcast
from zoctools.service.status import Status, Vitals
from zoctools.transport.contract import Transport


class Notice:
    """Says in the status that the service is in error, and why, until told that it is not."""

    def __init__(self, vitals: Vitals, opener: Callable[[], Transport]) -> None:
        self._vitals = vitals
        self._opener = opener
        self._words: SimpleQueue[str | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def say(self, words: str) -> None:
        """Broadcast status 7 with these words; without any, that this process has gone from the status."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="notice", daemon=True)
            self._thread.start()
        self._words.put(words)

    def close(self) -> None:
        """Say that all is over, if anything was ever said."""
        if self._thread is not None:
            self._words.put(None)
            self._thread.join(timeout=3)

    def _run(self) -> None:
        transport: Transport | None = None
        words: str | None = ""
        while words is not None:
            words = self._words.get()
            if words and transport is None:
                transport = self._opened()
            if transport is None:
                continue
            self._vitals.wait_for("child", words or "")
            broadcast(transport, self._vitals.statement(Status.ERROR if words else Status.TEARDOWN))
            if not words:
                transport.close()
                transport = None

    def _opened(self) -> Transport | None:
        with suppress(ZocError):
            transport = self._opener()
            transport.connect()
            return transport
        return None
