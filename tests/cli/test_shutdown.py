"""`zoc shutdown`: the commands on the wire, the names people use, and seeing that they stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.fakestatus import our_service, workflows_service, wrapper_task
from support.waiting import eventually
from zoctools import broadcast
from zoctools import shutdown as core
from zoctools.cli import shutdown as module
from zoctools.cli.context import Session
from zoctools.cli.shutdown import shutdown
from zoctools.errors import LinkLost, UsageError
from zoctools.hosts import Host
from zoctools.settings import Settings, StompSettings
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.memory import MemoryBroker, MemoryTransport

Run = Callable[..., Result]
LEFT = {"status": -2, "statustext": "shutdown"}


def heard(*messages: dict[str, Any], at: float = 0.0) -> core.Watch:
    watch = core.Watch()
    for message in messages:
        watch.take(broadcast.read(message), at)
    return watch


def host(word: str, watch: core.Watch, here: str = "ws1.site.ac") -> str:
    return core.for_host(word, watch, Host(here)).host


def test_a_process_is_named_as_people_do() -> None:
    watch = heard(workflows_service("ac.site.node7.2245"), workflows_service("vm.99"))
    for word in ("node7.2245", "ac.site.node7.2245", "node7.site.ac.2245"):
        assert host(word, watch) == "ac.site.node7.2245"
    assert host("vm.99", watch) == "vm.99"


def test_a_process_nobody_heard_of_is_of_our_domain_unless_we_have_none() -> None:
    assert host("node9.1", core.Watch()) == "ac.site.node9.1"
    assert host("vm.2245", core.Watch(), here="vm") == "vm.2245"
    assert host("ac.other.node9.1", core.Watch()) == "ac.other.node9.1"


def test_a_name_that_two_processes_have_is_not_guessed() -> None:
    watch = heard(workflows_service("ac.site.node7.5"), workflows_service("org.site.node7.5"))
    assert host("node7.5", watch) == "ac.site.node7.5"
    assert host("node7.5", watch, here="vm") == "node7.5"


@pytest.mark.parametrize("word", ["", "node7", "node7.x", ".5", "5", "a\x1b.5", "x" * 300 + ".5"])
def test_what_cannot_be_a_process(word: str) -> None:
    with pytest.raises(UsageError, match="not a process"):
        host(word, core.Watch())


def test_a_service_in_other_capitals_is_the_one_heard() -> None:
    watch = heard(workflows_service(name="Dispatcher"))
    assert core.for_service("dispatcher", watch).service == "Dispatcher"
    assert core.for_service("mailer", watch).service == "mailer"
    assert core.for_service("None", watch).service is None


def test_states() -> None:
    watch = heard(workflows_service("a.1"), workflows_service("b.2", **LEFT), wrapper_task("c.3"))
    assert [watch.state(name, 1.0) for name in ("a.1", "b.2", "c.3")] == ["running", "stopped", "running"]
    assert watch.state("d.4", 1.0) == "not heard"
    assert watch.state("a.1", core.SILENCE + 1) == "silent"
    assert watch.running() == ["a.1", "c.3"]


def test_a_task_is_seen_to_stop_and_is_not_a_process_without_a_service() -> None:
    watch = heard(wrapper_task("c.3"), wrapper_task("d.4", status=6))
    assert [watch.state(name, 1.0) for name in ("c.3", "d.4")] == ["running", "stopped"]
    assert watch.of_service(None) == []


def test_a_service_that_dies_stays_of_its_class() -> None:
    watch = heard(workflows_service("a.1"), workflows_service("a.1", service=None, serviceclass=None, status=7))
    assert watch.of_service("Dispatcher") == ["a.1"]
    assert heard(workflows_service("b.1", service=None, serviceclass=None, status=-1)).of_service(None) == ["b.1"]


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def commands(broker: MemoryBroker) -> Callable[[], list[Any]]:
    """What was said on the command topic."""
    transport = MemoryTransport(broker, "zocalo")
    transport.connect()
    transport.subscribe(transport.topic("command"), acknowledge=False)

    def taken() -> list[Any]:
        said = []
        while not transport.inbox.empty():
            event = transport.inbox.get()
            if isinstance(event, Delivery):
                said.append(json.loads(event.body))
        return said

    return taken


@pytest.fixture
def run(broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(module, "LISTEN", 0.5)

    def call(*words: str) -> Result:
        settings = Settings(environments=("live",), stomp=StompSettings((("broker", 61613),), namespace="zocalo"))
        session = Session(opener=lambda s: MemoryTransport(broker, s.namespace), _settings=settings)
        return CliRunner().invoke(shutdown, words, obj=session)

    return call


@pytest.fixture
def services(broker: MemoryBroker) -> Iterator[Callable[..., None]]:
    """Services that speak every 50 ms and obey the command topic, unless they are deaf."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def live(status: dict[str, Any], deaf: bool) -> None:
        transport = MemoryTransport(broker, "zocalo")
        transport.connect()
        transport.subscribe(transport.topic("command"), acknowledge=False)

        def say(**more: Any) -> None:
            body = json.dumps({**status, **more}).encode()
            transport.broadcast(Outgoing(transport.topic("transient.status"), body, expires_in=15))

        def obeys() -> bool:
            event = transport.inbox.get() if not transport.inbox.empty() else None
            if deaf or not isinstance(event, Delivery):
                return False
            order = json.loads(event.body)
            names = {"host": status["host"], "service": status["serviceclass"]}
            return all(names[key] == order[key] for key in order if key != "command")

        try:
            while not over.wait(0.05):
                if obeys():
                    say(**LEFT)
                    return
                say()
        except LinkLost:
            return

    def start(*statuses: dict[str, Any], deaf: bool = False) -> None:
        for status in statuses:
            threads.append(threading.Thread(target=live, args=(status, deaf)))
            threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join(20)


def test_the_commands_are_those_of_the_existing_world(run: Run, commands: Callable[[], list[Any]]) -> None:
    result = run("ac.site.node7.2245", "-s", "Dispatcher", "-s", "none", "--yes")
    assert result.exit_code == 0
    assert commands() == [
        {"command": "shutdown", "host": "ac.site.node7.2245"},
        {"command": "shutdown", "service": "Dispatcher"},
        {"command": "shutdown", "service": None},
    ]
    assert "asked: ac.site.node7.2245" in result.stdout


def test_nothing_named_is_wrong_usage(run: Run) -> None:
    assert run().exit_code == 2


def test_a_whole_service_needs_an_answer(run: Run, commands: Callable[[], list[Any]]) -> None:
    result = run("-s", "Dispatcher")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert commands() == []


def test_a_dry_run_says_who_would_be_asked(run: Run, commands: Any, services: Any) -> None:
    services(workflows_service("a.1"), workflows_service("b.2"), our_service("c.3"))
    result = run("-s", "dispatcher", "c.3", "--dry-run", "--json")
    assert result.exit_code == 0
    found = {item["process"]: item["service"] for item in json.loads(result.stdout)["items"]}
    assert found == {"a.1": "Dispatcher", "b.2": "Dispatcher", "c.3": "Mailer"}
    assert commands() == []


def test_a_dry_run_that_would_ask_nobody_says_so(run: Run, commands: Any, services: Any) -> None:
    services(workflows_service("a.1"))
    result = run("-s", "Archiver", "--dry-run")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobody would be asked to stop" in result.stderr
    assert commands() == []


@pytest.mark.parametrize("wait", [["--wait"], ["--wait", "30"], ["--wait=30"]])
def test_waiting_until_all_are_gone(run: Run, services: Any, wait: list[str]) -> None:
    services(workflows_service("a.1"), workflows_service("b.2"), our_service("c.3"))
    result = run("-s", "Dispatcher", *wait, "--yes")
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == ["stopped: a.1 (Dispatcher)", "stopped: b.2 (Dispatcher)"]


def test_those_that_do_not_stop_in_time(run: Run, services: Any) -> None:
    services(workflows_service("a.1"))
    services(workflows_service("b.2"), deaf=True)
    result = run("-s", "Dispatcher", "--wait", "2", "--yes", "--json")
    assert result.exit_code == 5
    states = {item["process"]: item["state"] for item in json.loads(result.stdout)["items"]}
    assert states == {"a.1": "stopped", "b.2": "running"}
    assert "1 process still running" in result.stderr


def test_a_process_that_was_never_there(run: Run) -> None:
    result = run("nobody.1", "--wait", "0.2")
    assert result.exit_code == 1
    assert "not heard: nobody.1" in result.stdout


def test_one_stopped_and_one_never_heard(run: Run, services: Any) -> None:
    services(workflows_service("a.1"))
    result = run("a.1", "nobody.1", "--wait", "3")
    assert result.exit_code == 3


def test_a_broker_that_is_away(run: Run, broker: MemoryBroker) -> None:
    broker.stop()
    assert run("a.1").exit_code == 4


def test_listening_counts_what_is_malformed_as_nothing(broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker)
    transport.connect()
    transport.subscribe(transport.topic(core.STATUS), acknowledge=False)
    for body in (b"not json", b"[]", json.dumps(our_service("a.1")).encode()):
        transport.broadcast(Outgoing(transport.topic(core.STATUS), body))
    watch = core.Watch()

    def listened() -> bool:
        core.listen(transport, watch, 0.0)
        return bool(watch.heard)

    eventually(listened)
    assert watch.running() == ["a.1"]
