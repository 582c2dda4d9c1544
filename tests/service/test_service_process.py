"""One service in one process: how it starts, what it says, how it leaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import urllib.request
from dataclasses import dataclass, field

import pytest

from support.waiting import eventually
from zoctools import Service, logs
from zoctools.errors import LoginRefused, Unreachable, UsageError
from zoctools.hosts import Host
from zoctools.service.liveness import Liveness
from zoctools.service.process import SAME_REQUEST, Signals, Start, run
from zoctools.transport.contract import Outgoing
from zoctools.transport.memory import MemoryBroker, MemoryTransport


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger(logs.HANDLED).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


@dataclass
class World:
    """A broker, and somebody who listens to the status and gives commands."""

    broker: MemoryBroker = field(default_factory=MemoryBroker)
    heard: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.link = MemoryTransport(self.broker, "zocalo")
        self.link.connect()
        self.link.subscribe(self.link.topic("transient.status"), acknowledge=False)

    def statuses(self):
        while not self.link.inbox.empty():
            event = self.link.inbox.get()
            if hasattr(event, "body"):
                self.heard.append(json.loads(event.body))
        return [message["status"] for message in self.heard]

    def command(self, **words):
        body = json.dumps({"command": "shutdown", **words}).encode()
        self.link.send(Outgoing(self.link.topic("command"), body, persistent=False))

    def while_it_runs(self, action):
        """Call `action` from another thread once the service is idle."""

        def act():
            eventually(lambda: 2 in self.statuses())
            action()

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        return thread

    def transport(self):
        return MemoryTransport(self.broker, "zocalo")


class Quiet(Service):
    """Takes messages and does nothing."""

    name = "Quiet one"
    queue = "quiet"

    def process(self, step, payload):
        pass


def test_it_runs_until_the_command_and_says_so_all_along():
    world = World()
    world.while_it_runs(lambda: world.command(service="Quiet"))
    assert run(Quiet, world.transport(), None, Start(tag="mine")) == 0
    statuses = world.statuses()
    assert 1 in statuses[:2]
    assert 2 in statuses
    assert statuses[-1] == -2
    last = world.heard[-1]
    assert last["host"] == Host.of_this_process().status
    assert (last["service"], last["serviceclass"], last["tag"]) == ("Quiet one", "Quiet", "mine")
    assert last["mem-uss"] > 1_000_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_leave_in_peace(number):
    world = World()
    world.while_it_runs(lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert run(Quiet, world.transport(), None, Start()) == 0
    assert world.statuses()[-1] == -2
    assert signal.getsignal(number) is before


def test_a_service_that_cannot_start_says_error_and_ends():
    class Broken(Quiet):
        def start(self):
            raise RuntimeError("no scratch directory")

    class Wrong(Quiet):
        def start(self):
            raise UsageError("no queue given")

    world = World()
    assert run(Broken, world.transport(), None, Start()) == 1
    assert world.statuses()[-2:] == [7, -2]
    with pytest.raises(UsageError, match="no queue given"):
        run(Wrong, world.transport(), None, Start())
    assert world.statuses()[-2:] == [7, -2]


def test_without_a_broker_it_ends_unless_told_to_wait():
    world = World()
    world.broker.stop()
    with pytest.raises(Unreachable):
        run(Quiet, world.transport(), None, Start())
    threading.Timer(0.3, world.broker.start).start()
    world.while_it_runs(lambda: world.command(host=Host.of_this_process().status))
    assert run(Quiet, world.transport(), None, Start(wait=True)) == 0


def test_waiting_for_a_broker_ends_with_a_signal():
    world = World()
    world.broker.stop()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert run(Quiet, world.transport(), None, Start(wait=True)) == 0


def test_a_refused_login_ends_it_even_when_told_to_wait():
    class Refusing(MemoryTransport):
        def connect(self):
            raise LoginRefused("User name [x] or password is invalid")

    with pytest.raises(LoginRefused):
        run(Quiet, Refusing(MemoryBroker()), None, Start(wait=True))


def test_the_liveness_endpoint_answers_while_it_runs(unused_port):
    world = World()
    answers = []

    def ask():
        with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/", timeout=60) as answer:
            answers.append(answer.status)
        world.command(service="Quiet")

    world.while_it_runs(ask)
    assert run(Quiet, world.transport(), None, Start(liveness=Liveness(unused_port))) == 0
    assert answers == [200]


@pytest.fixture
def unused_port():
    """Return a port nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_only_a_signal_that_comes_later_is_a_second_one(monkeypatch):
    left = []
    asked = []
    clock = [100.0]
    monkeypatch.setattr("zoctools.service.process.time.monotonic", lambda: clock[0])
    signals = Signals(left.append)
    signals.tell(asked.append)
    signals._on_signal(15, None)
    signals._on_signal(15, None)
    clock[0] += SAME_REQUEST + 0.1
    assert (asked, left) == (["SIGTERM"], [])
    signals._on_signal(2, None)
    assert left == [130]
