"""The broker's state machine under a clock of its own, with its effects carried out the simplest way."""

from __future__ import annotations

from zoctools.broker.consumers import Wanted
from zoctools.broker.destinations import QueueFigures
from zoctools.broker.effects import Handed
from zoctools.broker.messages import Message, Sent
from zoctools.broker.queues import Queues, Refuse


class Machine:
    """`queues` with a `clock` that stands still, a `store` like a disk, and what was `handed` out."""

    def __init__(self, *, scheduler: bool = True, refuse: Refuse | None = None, kept: dict[int, Message] | None = None):
        self.now = 1_000_000.0
        self.store: dict[int, Message] = dict(kept or {})
        self.handed: list[Handed] = []
        self.queues = Queues(lambda: self.now, name="test", scheduler=scheduler, refuse=refuse)
        self.queues.restore(self.store.values())
        self.carry_out()

    def carry_out(self) -> list[Handed]:
        """Carry out what the last step brought about; returns what it handed out."""
        effects = self.queues.take_effects()
        assert not effects.stored.keys() & self.store.keys()
        assert set(effects.removed) <= self.store.keys()
        self.store |= effects.stored
        for number in effects.removed:
            del self.store[number]
        self.handed += effects.handed
        return effects.handed

    def send(self, queue: str, body: bytes = b"x", **headers: str) -> list[Handed]:
        """Send a persistent message to a queue; returns what was handed out."""
        self.queues.send(sent(queue, body, persistent="true", **headers))
        return self.carry_out()

    def consumer(self, queue: str, **wanted: object) -> int:
        """Connect and subscribe under the name ``s``; returns the connection."""
        connection = self.queues.connect()
        destination = queue if queue.startswith("/") else f"/queue/{queue}"
        self.queues.subscribe(connection, Wanted("s", destination, **wanted))  # type: ignore[arg-type]
        return connection

    def settle(self, handed: Handed, *sends: Sent) -> list[Handed]:
        """Acknowledge one delivery and send; returns what was handed out."""
        self.queues.settle(handed.connection, [(handed.subscription, handed.tag)], sends)
        return self.carry_out()

    def advance(self, seconds: float) -> list[Handed]:
        """Let time pass; returns what was handed out."""
        self.now += seconds
        self.queues.tick()
        return self.carry_out()

    def figures(self, queue: str) -> QueueFigures:
        """The figures of a queue."""
        return next(figures for figures in self.queues.figures() if figures.name == queue)

    def bodies(self, queue: str) -> list[bytes]:
        """What a browser sees in a queue."""
        seen = self.queues.browse(f"/queue/{queue}", limit=1_000_000)
        return [shown.message.body for shown in seen.messages]


def sent(queue: str, body: bytes = b"x", **headers: str) -> Sent:
    """A SEND to a queue, or to anything given by its full destination."""
    return Sent(queue if queue.startswith("/") else f"/queue/{queue}", headers, body)


def bodies(handed: list[Handed]) -> list[bytes]:
    """The bodies of what was handed out."""
    return [one.message.body for one in handed]
