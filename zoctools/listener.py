"""Hears the status broadcasts: connects, reconnects, and feeds whatever arrives to a board."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from queue import Empty

from zoctools.board import Change, StatusBoard
from zoctools.errors import LoginRefused, ZocError
from zoctools.service.heartbeat import TOPIC
from zoctools.transport.contract import Event, Link, Transport

BATCH_EVERY = 0.05
"""Seconds for which broadcasts may gather before they are taken in together."""

FIRST_WAIT = 1.0
LONGEST_WAIT = 30.0


def subscribe(transport: Transport) -> None:
    """Ask for the status broadcasts, and for those the broker kept for late listeners."""
    transport.subscribe(transport.topic(TOPIC), acknowledge=False, prefetch=1000, retroactive=True)


def hear(transport: Transport, board: StatusBoard, seconds: float) -> None:
    """Feed the board for a while with what an open transport brings."""
    for _event, _change in events(transport, board, time.monotonic() + seconds):
        pass


Heard = tuple[Event | None, Change]


def events(transport: Transport, board: StatusBoard, until: float | None = None) -> Iterator[Heard]:
    """Feed the board and yield each event with what it changed, None after a second of silence; until `until`."""
    while until is None or time.monotonic() < until:
        try:
            rest = 1.0 if until is None else min(max(until - time.monotonic(), 0.001), 1.0)
            event = transport.inbox.get(timeout=rest)
        except Empty:
            yield None, Change.NOTHING
            continue
        yield event, board.take(event)


class StatusListener:
    """A thread that keeps a board fed until it is stopped, whatever becomes of the broker.

    `on_refused` is called once, from the thread, when the login is refused: trying again would not help.
    """

    def __init__(
        self,
        transport: Transport,
        board: StatusBoard,
        broker: str,
        on_refused: Callable[[ZocError], None] = lambda error: None,
    ) -> None:
        self._transport = transport
        self._board = board
        self._broker = broker
        self._on_refused = on_refused
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-listener", daemon=True)

    def start(self) -> None:
        """Begin to connect and to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and leave the broker; waits a moment at most."""
        self._stopped.set()
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._transport.close()

    def _run(self) -> None:
        if not self._connect():
            return
        inbox = self._transport.inbox
        while not self._stopped.is_set():
            try:
                self._board.take(inbox.get(timeout=0.5))
                for _ in range(inbox.qsize()):
                    self._board.take(inbox.get_nowait())
            except Empty:
                continue
            self._stopped.wait(BATCH_EVERY)

    def _connect(self) -> bool:
        """Connect for the first time, trying until it works; the transport itself looks after the link later."""
        attempt, since = 1, time.monotonic()
        self._board.set_link(Link(False, 0, self._broker, since, attempt))
        while not self._stopped.is_set():
            try:
                self._transport.connect()
                subscribe(self._transport)
                self._board.set_link(self._transport.link)
                return True
            except LoginRefused as error:
                self._on_refused(error)
                return False
            except ZocError as error:
                wait = min(FIRST_WAIT * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.8, 1.2)
                attempt += 1
                again = time.monotonic() + wait
                self._board.set_link(Link(False, 0, self._broker, since, attempt, again, error.message))
                self._stopped.wait(wait)
        return False
