"""Running a wrapper as a task: the recipe always hears how it went, in order, and so does the status."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support.waiting import eventually
from zoctools import task as tasks
from zoctools.errors import BadFile, LinkLost, SendRefused, TimedOut
from zoctools.hosts import Host
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.stop import Stop
from zoctools.task import Sender, Task, TaskFile
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.memory import MemoryBroker, MemoryTransport
from zoctools.wrapper import Failed, Stopped, Wrapper

OUTPUTS = {
    name: number
    for number, name in enumerate(
        (
            "starting",
            "updates",
            "result-individual-file",
            "result-all-files",
            "success",
            "failure",
            "completed",
            "extra",
        ),
        start=2,
    )
}
SECRET_WORDS = "the task's own reason"


def envelope(**node) -> dict:
    nodes = {"1": {"queue": "q", "output": OUTPUTS, **node}}
    nodes |= {str(number): {"queue": "heard", "name": name} for name, number in OUTPUTS.items()}
    recipe = Recipe({**nodes, "start": [[1, []]]})
    return Step(recipe, 1, payload={"from": "service"}, path=[7], environment={"ID": "the-id"}).to_json()


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


class World:
    """A broker in memory, a task on it, and everything anybody else hears of the task."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.broker = MemoryBroker(refuse=lambda name: "no entry" if name.endswith("forbidden") else "")
        self.transport = self.linked()
        self.other = self.linked()
        self.other.subscribe(self.other.topic("transient.status"), acknowledge=False, prefetch=1000)

    def linked(self) -> MemoryTransport:
        transport = MemoryTransport(self.broker, "zocalo")
        transport.connect()
        return transport

    def task(self, make: type[Wrapper], *, name: str = "test", patience: float = 30.0, **node) -> Task:
        file = TaskFile.read(write(self.directory / "recipewrapper", envelope(**node)))
        return Task(name, make, file, self.transport, patience=patience)

    def run(self, make: type[Wrapper], **node):
        return self.task(make, **node).run()

    def messages(self) -> list[tuple[str, object]]:
        """Return (output, payload) of everything sent to the recipe, in order."""
        if not self.other.link.connected:
            self.other.connect()
        found = self.other.browse(self.other.queue("heard")).messages
        bodies = [json.loads(message.body) for message in found]
        return [(body["recipe"][str(body["recipe-pointer"])]["name"], body["payload"]) for body in bodies]

    def outputs(self) -> list[str]:
        return [output for output, _payload in self.messages()]

    def statuses(self) -> list[dict]:
        found = []
        while not self.other.inbox.empty():
            event = self.other.inbox.get()
            if isinstance(event, Delivery):
                found.append(json.loads(event.body))
        return found


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


class Good(Wrapper):
    def run(self) -> bool:
        self.update("half")
        self.record_file(Path("/d/a.log"), "log", 2)
        self.record_file(Path("/d/b.mtz"))
        self.record_all_files([Path("/d/a.log"), Path("/d/b.mtz")])
        self.send_to("extra", {"seen": self.payload, "parameters": dict(self.parameters)})
        assert self.send_to("nowhere", 1) == 0
        return True


def test_the_recipe_hears_of_a_good_task_in_order(world):
    outcome = world.run(Good, job_parameters={"n": 1})
    assert outcome.success
    assert world.messages() == [
        ("starting", "Starting processing"),
        ("updates", "half"),
        (
            "result-individual-file",
            {"file_path": "/d", "file_name": "a.log", "file_type": "log", "importance_rank": 2},
        ),
        ("result-individual-file", {"file_path": "/d", "file_name": "b.mtz", "file_type": "result"}),
        ("result-all-files", {"filelist": ["/d/a.log", "/d/b.mtz"]}),
        ("extra", {"seen": {"from": "service"}, "parameters": {"n": 1}}),
        ("success", "Finished processing"),
        ("completed", "Finished processing"),
    ]


def test_messages_of_a_task_carry_the_recipe_on(world):
    world.run(Good)
    message = world.other.browse(world.other.queue("heard")).messages[0]
    body = json.loads(message.body)
    assert message.headers["workflows-recipe"] == "True"
    assert body["environment"] == {"ID": "the-id"}
    assert body["recipe-path"] == [7, 1]


def failing(error: BaseException | None) -> type[Wrapper]:
    class Failing(Wrapper):
        def run(self) -> bool:
            if error is not None:
                raise error
            return False

    return Failing


@pytest.mark.parametrize(
    ("error", "why", "status"),
    [
        (None, "Processing failed", 6),
        (Failed(SECRET_WORDS), SECRET_WORDS, 6),
        (Failed(), "Processing failed", 6),
        (ValueError(SECRET_WORDS), SECRET_WORDS, 7),
        (ValueError(), "ValueError", 7),
        (SystemExit(3), "the wrapper left with exit code 3", 7),
        (SystemExit(0), "the wrapper left with exit code 0", 7),
        (KeyboardInterrupt(), "stopped by Ctrl-C", 6),
        (MemoryError(), "MemoryError", 7),
    ],
)
def test_however_a_task_fails_the_recipe_hears_why(world, error, why, status):
    outcome = world.run(failing(error))
    assert (outcome.success, outcome.why) == (False, why)
    assert world.messages() == [
        ("starting", "Starting processing"),
        ("failure", why),
        ("completed", "Finished processing"),
    ]
    assert world.statuses()[-1]["status"] == status


def test_a_wrapper_that_cannot_even_be_made_fails_the_task(world):
    class Unmakeable(Wrapper):
        def __init__(self, *_args) -> None:
            raise RuntimeError("no")

    assert not world.run(Unmakeable).success
    assert world.outputs() == ["failure", "completed"]


def test_a_wrapper_without_run_fails_the_task(world):
    assert "has no run method" in world.run(Wrapper).why


def test_the_status_tells_the_life_of_a_task(world, monkeypatch):
    monkeypatch.setenv("JOB_ID", "4711")

    class Renaming(Wrapper):
        def run(self) -> bool:
            self.rename("another name")
            return True

    world.run(Renaming, name="xia2", wrapper={"task_information": "i03 \x1b[2J"})
    statuses = world.statuses()
    assert [status["status"] for status in statuses] == [1, 4, 4, 6]
    assert [status["task"] for status in statuses] == ["xia2 (i03 \\x1b[2J)"] * 2 + ["another name"] * 2
    assert statuses[1] == {
        "host": Host.of_this_process().status,
        "task": "xia2 (i03 \\x1b[2J)",
        "status": 4,
        "statustext": "processing",
        "workflows": "3.7",
        "zoctools": statuses[1]["zoctools"],
        "cluster_JOB_ID": "4711",
        "zoc": {"busy_for": statuses[1]["zoc"]["busy_for"], "recipe_ID": "the-id"},
    }


def test_the_status_is_repeated_while_the_task_works(world, monkeypatch):
    monkeypatch.setattr(tasks, "PERIOD", 0.05)

    class Long(Wrapper):
        def run(self) -> bool:
            heard = []
            eventually(lambda: heard.extend(world.statuses()) or len(heard) >= 5)
            return True

    assert world.run(Long).success


def test_log_records_carry_the_recipe_and_the_task(world):
    task = world.task(Good, name="xia2")
    fields = task.fields()
    assert fields["recipe_ID"] == "the-id"
    assert fields["workflows_task"] == "xia2"
    assert fields["workflows_host"] == Host.of_this_process().status
    assert {"workflows_status", "workflows_statustext"} <= set(fields)


def test_without_a_file_a_wrapper_runs_and_only_the_status_is_sent(world):
    class Alone(Wrapper):
        def run(self) -> bool:
            assert self.parameters == {}
            self.update("said to nobody")
            return True

    assert Task("alone", Alone, None, world.transport).run().success
    assert world.messages() == []
    assert [status["status"] for status in world.statuses()] == [1, 4, 6]


def test_messages_wait_for_the_broker_and_keep_their_order(world):
    class Through(Wrapper):
        def run(self) -> bool:
            world.broker.stop()
            back = threading.Timer(1.0, world.broker.start)
            back.start()
            for number in range(5):
                self.update(number)
            back.join()
            return True

    assert world.run(Through).success
    assert world.messages()[1:] == [
        *[("updates", number) for number in range(5)],
        ("success", "Finished processing"),
        ("completed", "Finished processing"),
    ]


@pytest.mark.parametrize("done", [True, False])
def test_a_message_whose_confirmation_was_lost_is_sent_again(world, done):
    class Cut(Wrapper):
        def run(self) -> bool:
            world.transport.cut_next_settle(done=done)
            threading.Timer(0.3, world.transport.restore_link).start()
            self.update("precious")
            return True

    assert world.run(Cut).success
    assert world.outputs().count("updates") in ((2, 1) if done else (1,))
    assert world.outputs()[-2:] == ["success", "completed"]


def test_when_the_broker_stays_away_the_task_says_so_and_fails(world, caplog):
    class Lost(Wrapper):
        def run(self) -> bool:
            world.broker.stop()
            return True

    outcome = world.task(Lost, patience=0.5).run()
    assert not outcome.success
    assert "nothing could be sent to completed" in caplog.text


def test_what_the_broker_refuses_is_an_error_of_the_task(world):
    class Forbidden(Wrapper):
        def run(self) -> bool:
            self.step.send_message("forbidden", "x")
            return True

    assert "no entry" in world.run(Forbidden).why
    assert world.outputs() == ["starting", "failure", "completed"]


def test_what_cannot_be_sent_is_an_error_of_the_task(world):
    class Unsayable(Wrapper):
        def run(self) -> bool:
            self.update(object())
            return True

    assert not world.run(Unsayable).success
    assert world.outputs() == ["starting", "failure", "completed"]


def test_a_shutdown_command_that_names_the_process_stops_the_task(world):
    class Long(Wrapper):
        def run(self) -> bool:
            host = Host.of_this_process().status
            commands = (
                "nonsense",
                {"command": "shutdown", "service": "Archiver"},
                {"command": "shutdown", "host": "another.1"},
                {"command": "shutdown", "host": host, "service": "Archiver"},
                {"command": "dance", "host": host},
                {"command": "shutdown", "host": host},
            )
            for command in commands:
                body = json.dumps(command).encode()
                world.other.broadcast(Outgoing(world.other.topic("command"), body, persistent=False))
                if command != commands[-1]:
                    time.sleep(0.05)
            time.sleep(60)
            return True

    class Ready(Long):
        def run(self) -> bool:
            eventually(lambda: world.transport._subscriptions)
            return super().run()

    outcome = world.run(Ready)
    assert outcome.why == "stopped by a shutdown command"
    assert world.outputs() == ["starting", "failure", "completed"]
    assert world.statuses()[-1]["status"] == 6


def test_threads_of_a_wrapper_may_send(world):
    class Threads(Wrapper):
        def run(self) -> bool:
            threads = [threading.Thread(target=self.update, args=(number,)) for number in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return True

    assert world.run(Threads).success
    assert sorted(payload for output, payload in world.messages() if output == "updates") == list(range(20))


# Files


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the body is empty"),
        ("not json", "not JSON"),
        ("[1]", "not an object"),
        ({**envelope(), "recipe-pointer": 99}, "no node 99"),
        ({key: value for key, value in envelope().items() if key != "recipe"}, "recipe is missing"),
        ({**envelope(), "environment": None}, "environment must be an object"),
        ({**envelope(), "environment": {}}, "environment has no ID"),
        ({**envelope(), "environment": {"ID": 5}}, "environment has no ID"),
        (envelope(job_parameters=[1]), "job_parameters must be an object"),
        ("[" * 100_000, "recipewrapper file"),
    ],
)
def test_a_file_that_is_no_task_is_refused_in_one_line(tmp_path, content, says):
    with pytest.raises(BadFile, match=says) as caught:
        TaskFile.read(write(tmp_path / "recipewrapper", content))
    assert str(tmp_path) in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["nowhere", ".", "nul\0"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(BadFile, match="cannot be read"):
        TaskFile.read(tmp_path / name)


def test_a_pipe_nobody_writes_to_is_refused(tmp_path):
    os.mkfifo(tmp_path / "recipewrapper")
    with pytest.raises(BadFile, match="the body is empty"):
        TaskFile.read(tmp_path / "recipewrapper")


def test_a_file_with_bytes_that_are_no_text_is_refused(tmp_path):
    (tmp_path / "recipewrapper").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(BadFile, match="not UTF-8"):
        TaskFile.read(tmp_path / "recipewrapper")


# Sending


class Broken:
    """A transport whose settles fail as told, and a clock that its waiting advances."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.now = 0.0
        self.sent = 0
        self.stop = Stop(self.clock)

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait_connected(self, timeout: float) -> bool:
        self.now += timeout
        return True

    def settle(self, _acks, sends) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        self.sent += len(sends)

    def sender(self, patience: float = 1950.0) -> Sender:
        return Sender(self, self.stop, patience=patience, clock=self.clock, sleep=self.sleep)  # type: ignore[arg-type]


MESSAGE = Outgoing(MemoryTransport(MemoryBroker()).queue("x"), b"{}")


@pytest.mark.parametrize("error", [LinkLost("gone"), TimedOut("no answer")])
def test_sending_is_tried_for_half_an_hour(error):
    short = Broken(*[error] * 100)
    short.sender().post(MESSAGE)
    assert short.sent == 1
    long = Broken(*[error] * 100_000)
    with pytest.raises(type(error)):
        long.sender().post(MESSAGE)
    assert 1900 < long.now < 2000
    assert len(long.errors) > 99_000


def test_patience_is_for_one_absence_not_for_each_message():
    broken = Broken(*[LinkLost("gone")] * 100_000)
    sender = broken.sender(patience=100)
    for _ in range(5):
        with pytest.raises(LinkLost):
            sender.post(MESSAGE)
    assert broken.now < 110


def test_after_the_broker_came_back_patience_begins_anew():
    broken = Broken(*[LinkLost("gone")] * 10)
    sender = broken.sender(patience=60)
    sender.post(MESSAGE)
    broken.errors = [LinkLost("gone")] * 10
    sender.post(MESSAGE)
    assert broken.sent == 2


def test_what_is_refused_is_not_tried_again():
    broken = Broken(SendRefused("no"))
    with pytest.raises(SendRefused):
        broken.sender().post(MESSAGE)
    assert broken.now == 0


def test_a_stopped_task_waits_for_the_broker_only_shortly():
    broken = Broken(*[LinkLost("gone")] * 100_000)
    broken.stop.request("stopped")
    with pytest.raises(LinkLost):
        broken.sender().post(MESSAGE)
    assert broken.now < 2 * tasks.PATIENCE_WHEN_STOPPED
    broken.stop.request("stopped")
    before = broken.now
    with pytest.raises(LinkLost):
        broken.sender().post(MESSAGE)
    assert broken.now == before


# Stopping


def test_a_stop_asked_for_early_is_raised_where_it_first_may():
    stop = Stop()
    stop.request("asked early")
    seen = []
    with pytest.raises(Stopped, match="asked early"), stop.possible():
        seen.append("never reached")
    assert seen == []


def test_a_held_stop_is_raised_at_the_end_of_the_block():
    stop = Stop()
    seen = []
    with pytest.raises(Stopped), stop.possible():
        with stop.held():
            with stop.held():
                stop.request("asked")
                seen.append("inner")
            seen.append("outer")
        seen.append("after")
    assert seen == ["inner", "outer"]


def test_signals_are_requests_and_handlers_are_put_back():
    earlier = signal.getsignal(signal.SIGTERM)
    stop = Stop()
    with stop.signals():
        with pytest.raises(Stopped, match="stopped by SIGTERM"), stop.possible():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        os.kill(os.getpid(), signal.SIGINT)
        assert eventually(lambda: stop.requests == 2)
    assert signal.getsignal(signal.SIGTERM) is earlier


# Real processes

CHILD = """
import json, logging, signal, sys
from pathlib import Path
from zoctools import program
from zoctools.command_wrapper import CommandWrapper
from zoctools.task import Task, TaskFile
from zoctools.transport.memory import MemoryBroker, MemoryTransport
logging.basicConfig(level=logging.INFO)
broker = MemoryBroker()
transport = MemoryTransport(broker, "zocalo")
transport.connect()
program.GRACE = float(sys.argv[1])
outcome = Task("command", CommandWrapper, TaskFile.read(Path("recipewrapper")), transport).run()
bodies = [json.loads(message.body) for message in transport.browse(transport.queue("heard")).messages]
names = [(body["recipe"][str(body["recipe-pointer"])]["name"], body["payload"]) for body in bodies]
print(json.dumps({"heard": names, "why": outcome.why, "program": outcome.program, "interrupted": outcome.interrupted}))
"""


@pytest.fixture
def real(tmp_path):
    """Run the generic wrapper in a process of its own: ``real("sleep 600", grace=1)``; it ends with the test."""
    started: list[subprocess.Popen] = []

    def run(command: str, grace: float = 10.0) -> subprocess.Popen:
        parameters = {"command": ["sh", "-c", command], "working_directory": str(tmp_path)}
        write(tmp_path / "recipewrapper", envelope(job_parameters=parameters))
        command_line = [sys.executable, "-c", CHILD, str(grace)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command_line, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


@pytest.mark.parametrize(
    ("number", "why"), [(signal.SIGTERM, "stopped by SIGTERM"), (signal.SIGINT, "stopped by Ctrl-C")]
)
def test_a_stopped_wrapper_ends_its_program_and_tells_the_recipe(real, tmp_path, number, why):
    process = real("sleep 600 & echo $! > child; echo $$ > pid; wait")
    pids = [pid_in(tmp_path / name) for name in ("child", "pid")]
    process.send_signal(number)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    result = json.loads(said)
    assert result["heard"] == [
        ["starting", "Starting processing"],
        ["failure", why],
        ["completed", "Finished processing"],
    ]
    assert result["interrupted"] is (number == signal.SIGINT)
    assert all(gone(pid) for pid in pids)


def test_a_program_that_ignores_sigterm_is_killed_when_the_wrapper_is_stopped(real, tmp_path):
    process = real("trap '' TERM; echo $$ > pid; while :; do sleep 1; done", grace=1.0)
    pid = pid_in(tmp_path / "pid")
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert [output for output, _payload in json.loads(said)["heard"]] == ["starting", "failure", "completed"], errors
    assert gone(pid)


def test_a_second_stop_does_not_wait_for_a_program_that_ignores_the_first(real, tmp_path):
    process = real("trap 'echo > asked' TERM; echo $$ > pid; while :; do sleep 1; done", grace=3600.0)
    pid = pid_in(tmp_path / "pid")
    process.send_signal(signal.SIGTERM)
    eventually((tmp_path / "asked").exists)
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert json.loads(said)["heard"][1] == ["failure", "stopped by SIGTERM"], errors
    assert gone(pid)


def test_a_wrapper_is_stopped_while_its_program_floods(real, tmp_path):
    process = real("echo $$ > pid; yes")
    pid = pid_in(tmp_path / "pid")
    process.send_signal(signal.SIGTERM)
    said, errors = process.communicate(timeout=60)
    assert json.loads(said)["heard"][1] == ["failure", "stopped by SIGTERM"], errors
    assert len(errors) < 50_000
    assert gone(pid)


def test_logs_say_what_was_run(real):
    process = real("echo hello; exit 3")
    said, errors = process.communicate(timeout=60)
    assert json.loads(said)["program"] == 3
    assert "hello" in errors
    assert "exit status 3" in errors


def test_a_stop_during_an_absence_of_the_broker_ends_the_task(world, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(tasks, "PATIENCE_WHEN_STOPPED", 0.5)

    class Away(Wrapper):
        def run(self) -> bool:
            world.broker.stop()
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
            self.update("waits for ever")
            return True

    outcome = world.task(Away, patience=3600).run()
    assert outcome.why == "stopped by SIGTERM"
    assert "nothing could be sent to failure" in caplog.text
