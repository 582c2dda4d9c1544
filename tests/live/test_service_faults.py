"""What happens to messages when services and brokers die: real processes, a real ActiveMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support import faulty
from support.waiting import eventually
from zoctools import headers
from zoctools.errors import ZocError
from zoctools.service.children import Plan, Supervisor
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.stomp import StompTransport

PROGRAM = Path(faulty.__file__)
LIVES = 60.0


def command(port, service="Faulty", *more):
    return [sys.executable, str(PROGRAM), service, str(port), *map(str, more)]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Scene:
    """A broker, our own link to it, and the services of a test."""

    def __init__(self, broker):
        self.port = broker.stomp_port
        self.link = StompTransport(faulty.settings(self.port))
        self.link.connect()
        self.purge()
        self.processes = []
        self.heard = []
        self.began = time.time() * 1000
        for topic in ("transient.status", "events"):
            self.link.subscribe(self.link.topic(topic), acknowledge=False)

    def start(self, service="Faulty", *more):
        process = subprocess.Popen(command(self.port, service, *more), stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def put(self, *messages):
        for message in messages:
            self.link.send(Outgoing(self.link.queue("in"), json.dumps(message).encode()))

    def broadcasts(self):
        while not self.link.inbox.empty():
            event = self.link.inbox.get()
            if isinstance(event, Delivery) and int(event.headers["timestamp"]) >= self.began:
                self.heard.append(json.loads(event.body))
        return self.heard

    def sleeping(self):
        return [message["sleeping"] for message in self.broadcasts() if "sleeping" in message]

    def statuses(self, pid):
        return [message["status"] for message in self.broadcasts() if message.get("host", "").endswith(f".{pid}")]

    def look(self, queue):
        try:
            return list(self.link.browse(self.link.queue(queue)).messages)
        except ZocError:
            return []

    def bodies(self, queue):
        return [json.loads(message.body) for message in self.look(queue)]

    def letters(self):
        return list(self.link.browse(self.link.queue("in").dead_letters).messages)

    def purge(self):
        for destination in (self.link.queue("in"), self.link.queue("out"), self.link.queue("in").dead_letters):
            while self.link.browse(destination).messages:
                subscription = self.link.subscribe(destination, prefetch=1000)
                taken = eventually(lambda subscription=subscription: self.delivered(subscription))
                self.link.settle(taken, [], closing=[subscription])

    def delivered(self, subscription):
        return [e for e in self.drained() if isinstance(e, Delivery) and e.subscription == subscription]

    def drained(self):
        events = []
        while not self.link.inbox.empty():
            events.append(self.link.inbox.get())
        return events

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self.link.close()


@pytest.fixture
def scene(activemq):
    made = Scene(activemq)
    yield made
    made.end()


@pytest.fixture
def own_scene(private_activemq):
    broker = private_activemq("full")
    made = Scene(broker)
    made.broker = broker
    yield made
    made.end()


def supervised(scene, instances=1):
    """Run a supervisor of faulty services in a process of its own."""
    script = f"""
import os, sys
from zoctools.service.children import Plan, Supervisor
command = {command(scene.port)!r} + [str(os.getpid())]
sys.exit(Supervisor(Plan(lambda number, again: command, os.environ, {instances}, True)).run())
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    scene.processes.append(process)
    return process


def test_a_message_that_kills_is_condemned_and_those_behind_it_are_served(scene):
    scene.put({"do": "segfault"}, *({"good": number} for number in range(100)))
    parent = supervised(scene)
    eventually(lambda: len(scene.bodies("out")) == 100, LIVES)
    (letter,) = eventually(scene.letters, LIVES)
    assert json.loads(letter.body) == {"do": "segfault"}
    assert letter.headers["zoc_error"] == "delivered 5 times to a service that went away before finishing"
    assert letter.headers["zoc_dead_deaths"] == "5"
    assert letter.headers["original-destination"] == "/queue/faults.in"
    assert sorted(body["good"] for body in scene.bodies("out")) == list(range(100))
    parent.terminate()
    assert parent.wait(LIVES) == 0


def test_sigkill_in_the_middle_of_a_message_loses_nothing(scene):
    scene.put({"do": "sleep", "seconds": 600}, {"good": 1})
    first = scene.start()
    eventually(scene.sleeping, LIVES)
    second = scene.start()
    eventually(lambda: {"good": 1} in scene.bodies("out"), LIVES)
    first.kill()
    eventually(lambda: second.pid in scene.sleeping(), LIVES)
    assert scene.letters() == []
    (message,) = scene.look("in")
    assert message.headers[headers.DEATHS] == "1"


def test_sigterm_finishes_the_message_hands_back_the_rest_and_says_good_bye(scene):
    scene.put({"do": "sleep", "seconds": 1.5}, *({"good": number} for number in range(5)))
    process = scene.start("Eager")
    eventually(scene.sleeping, LIVES)
    process.terminate()
    process.send_signal(signal.SIGINT)
    assert process.wait(LIVES) == 0
    assert scene.bodies("out") == [{"do": "sleep", "seconds": 1.5}]
    eventually(lambda: scene.bodies("in") == [{"good": number} for number in range(5)])
    assert not any("redelivered" in message.headers for message in scene.look("in"))
    eventually(lambda: scene.statuses(process.pid)[-1] == -2)


def test_a_second_signal_leaves_at_once_and_the_message_comes_again(scene):
    scene.put({"any": "thing"})
    process = scene.start("Stuck")
    eventually(scene.sleeping, LIVES)
    process.terminate()
    eventually(lambda: 4 in scene.statuses(process.pid), LIVES)

    def again():
        process.terminate()
        return process.poll() is not None

    eventually(again, LIVES)
    assert process.returncode == 128 + signal.SIGTERM
    assert scene.bodies("in") == [{"any": "thing"}]


def test_rolling_restarts_condemn_no_good_message(scene):
    total = 150
    scene.put(*({"good": number} for number in range(total)))
    for turn in range(10):
        processes = [scene.start("Eager" if turn % 2 else "Faulty") for _ in range(2)]
        eventually(lambda pids={p.pid for p in processes}: pids <= _hosts(scene), LIVES)
        wanted = len(scene.bodies("out")) + 10
        eventually(lambda wanted=wanted: len(scene.bodies("out")) >= min(wanted, total), LIVES)
        for process in processes:
            process.terminate()
        assert [process.wait(LIVES) for process in processes] == [0, 0]
    scene.start()
    eventually(lambda: len(scene.bodies("out")) >= total, LIVES)
    assert sorted(body["good"] for body in scene.bodies("out")) == list(range(total))
    assert scene.letters() == []


def test_a_child_ends_with_its_parent(scene):
    parent = supervised(scene, instances=2)
    eventually(lambda: len(_hosts(scene)) == 2, LIVES)
    children = _hosts(scene)
    assert all(alive(pid) for pid in children)
    parent.kill()
    parent.wait()
    eventually(lambda: not any(alive(pid) for pid in children), LIVES)
    assert all(-2 in scene.statuses(pid) for pid in children)


def _hosts(scene):
    return {int(m["host"].rpartition(".")[2]) for m in scene.broadcasts() if m.get("status") == 2}


def test_the_shutdown_command_ends_a_child_and_it_is_not_started_again(scene):
    plan = Plan(lambda number, again: command(scene.port, "Faulty", os.getpid()), os.environ, 1, True)
    codes = []
    supervisor = Supervisor(plan)

    def stop():
        eventually(lambda: _hosts(scene), LIVES)
        body = b'{"command": "shutdown", "service": "Faulty"}'
        scene.link.broadcast(Outgoing(scene.link.topic("command"), body, persistent=False))

    thread = threading.Thread(target=stop)
    thread.start()
    codes.append(supervisor.run())
    thread.join()
    assert codes == [0]


def _served(scene, *more):
    before = len(scene.bodies("out"))
    scene.put(*more)
    eventually(lambda: len(scene.bodies("out")) == before + len(more), LIVES)


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_a_service_outlives_its_broker(own_scene, how):
    scene = own_scene
    process = scene.start()
    _served(scene, {"before": 1})
    getattr(scene.broker, how)()
    scene.broker.restart()
    assert scene.link.wait_connected(LIVES)
    _served(scene, {"idle": 1})
    scene.put({"do": "sleep", "seconds": 1.0})
    eventually(scene.sleeping, LIVES)
    getattr(scene.broker, how)()
    scene.broker.restart()
    assert scene.link.wait_connected(LIVES)
    eventually(lambda: {"do": "sleep", "seconds": 1.0} in scene.bodies("out"), LIVES)
    assert process.poll() is None
    assert scene.letters() == []
    process.terminate()
    assert process.wait(LIVES) == 0


def test_a_broker_killed_under_load_loses_nothing(own_scene):
    scene = own_scene
    total = 400
    scene.put(*({"good": number} for number in range(total)))
    processes = [scene.start(), scene.start("Eager")]
    eventually(lambda: len(scene.look("out")) > 20, LIVES)
    scene.broker.kill()
    scene.broker.restart()
    assert scene.link.wait_connected(LIVES)
    eventually(lambda: {body["good"] for body in scene.bodies("out")} == set(range(total)), LIVES)
    assert scene.letters() == []
    assert [process.poll() for process in processes] == [None, None]


def test_a_service_carries_on_when_a_frozen_broker_thaws(own_scene):
    scene = own_scene
    process = scene.start()
    _served(scene, {"before": 1})
    scene.broker.freeze()
    threading.Timer(2.0, scene.broker.thaw).start()
    _served(scene, {"after": 1})
    assert process.poll() is None


def test_a_broker_without_scheduler_loses_no_retry(private_activemq):
    scene = Scene(private_activemq("minimal", scheduler=False))
    try:
        scene.start()
        scene.put({"do": "raise"}, {"good": 1})
        (letter,) = eventually(scene.letters, LIVES)
        assert letter.headers["zoc_dead_attempts"] == "3"
        eventually(lambda: scene.bodies("out") == [{"good": 1}], LIVES)
        eventually(lambda: any("no scheduler" in m["zoc"]["waiting_for"] for m in scene.broadcasts() if "zoc" in m))
    finally:
        scene.end()
