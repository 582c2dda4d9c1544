"""Two thousand messages in, two thousand out, while services and the broker are killed, stopped and frozen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import faulty
from support.activemq import ActiveMQ
from support.waiting import eventually
from zoctools.errors import ZocError
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.stomp import StompTransport

MESSAGES = 2000
PATIENCE = 100.0


class Crowd:
    """Services at work on one broker, and a reader of what they send."""

    def __init__(self, broker: ActiveMQ) -> None:
        self.broker = broker
        self.services = [self.new_service() for _ in range(2)]
        self.link = StompTransport(faulty.settings(broker.stomp_port))
        self.link.connect()
        self.seen: list[int] = []
        self.pending: list[Delivery] = []

    def new_service(self) -> subprocess.Popen[bytes]:
        program = [sys.executable, str(Path(faulty.__file__)), "Eager", str(self.broker.stomp_port)]
        return subprocess.Popen(program, stderr=subprocess.DEVNULL)

    def put_all(self) -> None:
        queue = self.link.queue("in")
        for first in range(0, MESSAGES, 100):
            batch = [Outgoing(queue, json.dumps({"number": n}).encode()) for n in range(first, first + 100)]
            self.link.settle([], batch)
        self.link.subscribe(self.link.queue("out"), prefetch=100)

    def collect(self) -> list[int]:
        """Take what has come out; what a lost link takes back comes again."""
        while not self.link.inbox.empty():
            event = self.link.inbox.get()
            if isinstance(event, Delivery):
                self.pending.append(event)
        self.pending = [delivery for delivery in self.pending if delivery.link == self.link.link.number]
        if self.pending:
            try:
                self.link.settle(self.pending, [])
            except ZocError:
                assert self.link.wait_connected(PATIENCE)
            else:
                self.seen += [json.loads(delivery.body)["number"] for delivery in self.pending]
                self.pending = []
        return self.seen

    def reach(self, count: int) -> None:
        eventually(lambda: len(self.collect()) >= count, PATIENCE, f"{count} messages at the end")

    def end(self) -> None:
        for service in self.services:
            service.kill()
            service.wait()
        self.link.close()


@pytest.fixture
def crowd(private_activemq: Callable[..., ActiveMQ]) -> Iterator[Crowd]:
    made = Crowd(private_activemq("full"))
    yield made
    made.end()


@pytest.mark.timeout(400)
def test_whatever_is_killed_meanwhile_as_many_come_out_as_went_in(crowd: Crowd) -> None:
    crowd.put_all()
    crowd.reach(100)
    crowd.services[0].kill()
    crowd.services.append(crowd.new_service())
    crowd.reach(400)
    crowd.broker.kill()
    crowd.broker.restart()
    crowd.reach(700)
    crowd.broker.freeze()
    crowd.services[1].kill()
    crowd.broker.thaw()
    crowd.services.append(crowd.new_service())
    crowd.reach(1100)
    crowd.broker.terminate()
    crowd.broker.restart()
    crowd.reach(MESSAGES)
    assert sorted(crowd.seen) == list(range(MESSAGES))
    assert crowd.link.browse(crowd.link.queue("in")).looked_at == 0
    assert crowd.link.browse(crowd.link.queue("in").dead_letters).looked_at == 0
