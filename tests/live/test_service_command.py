"""`zoc service` as people and supervisors use it, on a real ActiveMQ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from support.activemq import free_port
from support.waiting import eventually
from zoctools.config import StompSettings
from zoctools.transport.contract import Delivery
from zoctools.transport.stomp import StompTransport

LIVES = 60.0
NAMESPACE = "command"


class Site:
    """A configuration file for a broker, the `zoc` commands started with it, and what their status says."""

    def __init__(self, directory, port):
        self.file = directory / "site.yml"
        self.file.write_text(
            "version: 1\n"
            f"here: {{plugin: stomp, host: 127.0.0.1, port: {port}, username: '', password: '', prefix: {NAMESPACE}}}\n"
            "environments: {default: {plugins: [here]}}\n"
        )
        self.port = port
        self.link = None
        self.processes = []
        self.heard = []

    def zoc(self, *words):
        environ = {**os.environ, "ZOCALO_CONFIG": str(self.file)}
        command = [sys.executable, "-m", "zoctools", "service", *words]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True)
        self.processes.append(process)
        return process

    def statuses(self):
        if self.link is None:
            self.began = time.time() * 1000
            self.link = StompTransport(StompSettings((("127.0.0.1", self.port),), namespace=NAMESPACE))
            self.link.connect()
            self.link.subscribe(self.link.topic("transient.status"), acknowledge=False)
        while not self.link.inbox.empty():
            event = self.link.inbox.get()
            if isinstance(event, Delivery) and int(event.headers["timestamp"]) >= self.began:
                self.heard.append(json.loads(event.body))
        return self.heard

    def idle(self):
        """Process IDs of the services that were idle at least once."""
        return {int(said["host"].rpartition(".")[2]) for said in self.statuses() if said["status"] == 2}

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        if self.link is not None:
            self.link.close()


@pytest.fixture
def site(activemq, tmp_path):
    made = Site(tmp_path, activemq.stomp_port)
    made.statuses()
    yield made
    made.end()


@pytest.fixture
def nowhere(tmp_path):
    made = Site(tmp_path, free_port())
    yield made
    made.end()


def test_ctrl_c_ends_it_in_peace_and_stdout_stays_empty(site):
    process = site.zoc("samplec", "--tag", "by hand")
    eventually(site.idle, LIVES)
    assert site.heard[-1]["tag"] == "by hand"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=LIVES)
    assert process.returncode == 0
    assert out == ""
    assert "Message consumer takes messages from command.transient.destination" in err
    assert "leaving: SIGINT" in err
    assert "Traceback" not in err


def test_instances_are_restarted_the_parent_says_so_and_all_end_with_it(site):
    port = free_port()
    parent = site.zoc("SampleConsumer", "--instances", "2", "--restart", "--liveness", "--liveness-port", str(port))
    eventually(lambda: len(site.idle()) == 2, LIVES)
    children = site.idle()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIVES) as answer:
        assert answer.status == 200
    os.kill(next(iter(children)), signal.SIGKILL)
    said = eventually(lambda: [said for said in site.statuses() if said["status"] == 7], LIVES)
    assert said[0]["host"].endswith(f".{parent.pid}")
    assert said[0]["serviceclass"] == "SampleConsumer"
    assert "killed by SIGKILL; started again in" in said[0]["zoc"]["waiting_for"]
    eventually(lambda: len(site.idle()) == 3, LIVES)
    parent.terminate()
    _, err = parent.communicate(timeout=LIVES)
    assert parent.returncode == 0, err
    gone = {int(said["host"].rpartition(".")[2]) for said in site.statuses() if said["status"] == -2}
    assert site.idle() - children <= gone


@pytest.mark.parametrize("options", [(), ("--instances", "2"), ("--restart",)])
def test_without_a_broker_it_is_one_line_and_exit_code_4(nowhere, options):
    process = nowhere.zoc("SampleConsumer", *options)
    out, err = process.communicate(timeout=LIVES)
    assert process.returncode == 4
    assert out == ""
    assert f"zoc: cannot reach broker 127.0.0.1:{nowhere.port}" in err
    assert "Traceback" not in err


def test_told_to_wait_it_keeps_trying_until_it_is_stopped(nowhere):
    process = nowhere.zoc("SampleConsumer", "--wait")
    assert "trying again in" in process.stderr.readline()
    process.terminate()
    process.communicate(timeout=LIVES)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("Nobody",), "there is no service 'Nobody'"),
        (("Sample",), "'Sample' may mean SampleConsumer, SampleProducer"),
        ((), "no service named"),
        (("SampleConsumer", "--json"), "--json goes with --list"),
        (("SampleConsumer", "--list"), "--list takes no NAME"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(nowhere, words, said):
    process = nowhere.zoc(*words)
    out, err = process.communicate(timeout=LIVES)
    assert (process.returncode, out) == (2, "")
    assert said in err


def test_the_list_says_name_queue_and_purpose(nowhere):
    out, _ = nowhere.zoc("--list").communicate(timeout=LIVES)
    (line,) = [line for line in out.splitlines() if line.startswith("SampleConsumer")]
    assert "transient.destination" in line
    out, _ = nowhere.zoc("--list", "--json").communicate(timeout=LIVES)
    listed = json.loads(out)
    assert listed["schema"] == "zoc.service/1"
    assert {"name", "queue", "summary", "problem"} == set(listed["items"][0])
