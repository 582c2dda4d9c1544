"""A recipe from its request to its end: our Dispatcher and FileWatcher as processes, on a real ActiveMQ."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.activemq import ActiveMQ
from support.peers import peer_script
from support.waiting import eventually
from zoctools.logbook import Logbook
from zoctools.recipe.step import Step
from zoctools.settings import StompSettings
from zoctools.transport.contract import Outgoing
from zoctools.transport.stomp import StompTransport

pytestmark = pytest.mark.live

WATCH = {
    "1": {
        "queue": "filewatcher",
        "parameters": {
            "pattern": "{directory}/img_%05d.cbf",
            "pattern-start": "1",
            "pattern-end": "{last}",
            "timeout": "{timeout}",
            "burst-limit": 7,
        },
        "output": {"first": 2, "every": 3, "select-3": 4, "finally": 5, "timeout": 6},
    },
    **{str(number): {"queue": f"seen.{number}"} for number in range(2, 7)},
    "start": [[1, []]],
}


class Facility:
    """A site configuration, a broker, and the processes that were started."""

    def __init__(self, broker: ActiveMQ, root: Path) -> None:
        self.root = root
        self.book = Logbook(root / "book")
        self.data = root / "data"
        self.data.mkdir()
        (root / "recipes").mkdir()
        (root / "recipes" / "watch.json").write_text(json.dumps(WATCH))
        self.file = root / "site.yml"
        stomp = {"host": "127.0.0.1", "port": broker.stomp_port, "username": "", "password": "", "prefix": root.name}
        storage = {
            "zocalo.recipe_directory": str(root / "recipes"),
            "zocalo.dispatcher.logbook_location": str(self.book.root),
        }
        site = {
            "version": 1,
            "environments": {"default": {"plugins": ["stomp", "storage", "transport"]}},
            "stomp": {"plugin": "stomp", **stomp},
            "storage": {"plugin": "storage", **storage},
            "transport": {"plugin": "transport", "default": "StompTransport"},
        }
        self.file.write_text(json.dumps(site))
        self.link = StompTransport(StompSettings((("127.0.0.1", broker.stomp_port),), namespace=root.name))
        self.link.connect()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, service: str) -> subprocess.Popen[bytes]:
        with (self.root / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", "zoctools", "--config", str(self.file), "service", service]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def ask(self, request: Any) -> None:
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.link.send(Outgoing(self.link.queue("processing_recipe"), body, {"zocalo.go.user": "gda"}))

    def payloads(self, queue: str) -> list[Any]:
        messages = self.link.browse(self.link.queue(queue)).messages
        return [Step.from_message(message.headers, message.body).payload for message in messages]

    def write(self, *numbers: int) -> None:
        for number in numbers:
            (self.data / f"img_{number:05d}.cbf").write_bytes(b"x")

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(30)
        self.link.close()


@pytest.fixture(scope="module")
def broker() -> Iterator[ActiveMQ]:
    started = ActiveMQ.start("minimal")
    yield started
    started.stop()


@pytest.fixture
def facility(broker: ActiveMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facility]:
    made = Facility(broker, tmp_path_factory.mktemp("facility"))
    yield made
    made.close()


def test_files_are_announced_once_each_however_often_the_watcher_is_killed(facility: Facility) -> None:
    facility.start("Dispatcher")
    parameters = {"directory": str(facility.data), "last": 40, "timeout": 600, "guid": "abc-1", "ispyb_dcid": 5}
    facility.ask({"recipes": ["watch"], "parameters": parameters})
    for last in (1, 9, 10, 25, 40):
        watcher = facility.start("FileWatcher")
        facility.write(*range(1, last + 1))
        eventually(lambda last=last: len(facility.payloads("seen.3")) >= last, 60)
        if last < 40:
            watcher.send_signal(signal.SIGKILL)
    eventually(lambda: facility.payloads("seen.5"), 60)
    assert [payload["file-number"] for payload in facility.payloads("seen.3")] == [*range(1, 41)]
    assert [payload["file-number"] for payload in facility.payloads("seen.4")] == [1, 21, 40]
    assert facility.payloads("seen.5") == [{"files-expected": 40, "files-seen": 40, "success": True}]
    assert facility.payloads("seen.6") == []
    record = facility.book.read("abc-1")
    assert record.recipe["1"]["parameters"]["pattern"] == f"{facility.data}/img_%05d.cbf"
    assert [line.recipe_ID for line in facility.book.of_collection(5)] == ["abc-1"]


def test_a_watch_times_out_and_malformed_requests_stop_nobody(facility: Facility) -> None:
    dispatcher = facility.start("Dispatcher")
    facility.start("FileWatcher")
    for request in (b"not json", [], {"recipes": ["../watch"]}, {"recipes": ["watch"], "parameters": {"guid": 5}}, {}):
        facility.ask(request)
    facility.write(1, 2)
    parameters = {"directory": str(facility.data), "last": 3, "timeout": 0}
    facility.ask({"recipes": ["watch"], "parameters": parameters})
    eventually(lambda: facility.payloads("seen.5"), 60)
    assert facility.payloads("seen.5") == [{"files-expected": 3, "files-seen": 2, "success": False}]
    assert [payload["file-number"] for payload in facility.payloads("seen.6")] == [3]
    letters = facility.link.browse(facility.link.queue("processing_recipe").dead_letters).messages
    assert len(letters) == 5
    assert all(letter.headers["zoc_error"] for letter in letters)
    assert dispatcher.poll() is None


def test_the_published_go_starts_a_recipe_here(facility: Facility) -> None:
    facility.start("Dispatcher")
    command = [str(peer_script("zocalo.go")), "-r", "watch", "-s", "last=1", "-s", "timeout=600"]
    command += ["-s", f"directory={facility.data}", "-s", "guid=from-peer", "5073790"]
    environment = {"ZOCALO_CONFIG": str(facility.file), "PATH": "/usr/bin:/bin", "HOME": str(facility.root)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (watch,) = eventually(lambda: facility.link.browse(facility.link.queue("filewatcher")).messages, 60)
    step = Step.from_message(watch.headers, watch.body)
    assert (step.recipe_ID, step.parameters["pattern-end"]) == ("from-peer", "1")
    eventually(lambda: facility.book.root.is_dir() and facility.book.months())
    assert facility.book.read("from-peer").header["zocalo.go.user"]
    assert time.strftime("%Y-%m") in {month.name for month in facility.book.months()}
