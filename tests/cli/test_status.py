"""`zoc status` without a screen: the table, JSON, and the stream."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.fakestatus import AWKWARD, HOSTILE, our_service, publish, workflows_service, wrapper_task
from zoctools.cli.context import Session
from zoctools.cli.status import status
from zoctools.errors import LinkLost
from zoctools.settings import Settings, StompSettings
from zoctools.transport.memory import MemoryBroker, MemoryTransport

Run = Callable[..., Result]


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def run(broker: MemoryBroker) -> Run:
    """Call `zoc status` on a broker in this process."""

    def call(*words: str, opener: Callable[[StompSettings], Any] | None = None) -> Result:
        stomp = StompSettings((("broker", 61613),), namespace="zocalo")
        settings = Settings(environments=("live",), stomp=stomp)
        session = Session(opener=opener or (lambda stomp: MemoryTransport(broker, stomp.namespace)), _settings=settings)
        return CliRunner().invoke(status, words, obj=session)

    return call


@pytest.fixture
def speaking(broker: MemoryBroker) -> Iterator[Callable[..., None]]:
    """Let somebody broadcast these messages again and again, until the test ends."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def speak(*messages: dict[str, Any] | bytes) -> None:
        transport = MemoryTransport(broker, "zocalo")
        transport.connect()

        def repeat() -> None:
            with contextlib.suppress(LinkLost):
                while not stop.wait(0.05):
                    publish(transport, *messages)

        threads.append(threading.Thread(target=repeat))
        threads[-1].start()

    yield speak
    stop.set()
    for thread in threads:
        thread.join()


def test_the_table_shows_who_spoke(run: Run, speaking: Callable[..., None]) -> None:
    speaking(workflows_service(), wrapper_task(), our_service(waiting_for="mail server"))
    result = run("--once", "--listen", "0.5")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["SERVICE", "HOST", "STATE", "AGE", "BUSY", "VERSION", "WAITS", "FOR"]
    assert [line[:3] for line in lines[1:]] == [
        ["Dispatcher", "node7.2245", "processing"],
        ["dummy", "vm.2569", "processing"],
        ["Mailer", "node9.77", "waiting"],
    ]
    assert lines[3][-2:] == ["mail", "server"]
    assert "listened to live (broker:61613) for 0.5 s: 2 services and 1 task on 3 hosts" in result.stderr


def test_off_a_terminal_it_listens_once(run: Run, speaking: Callable[..., None]) -> None:
    speaking(workflows_service())
    result = run("--listen", "0.3")
    assert result.exit_code == 0
    assert "Dispatcher" in result.stdout


def test_json_says_everything(run: Run, speaking: Callable[..., None]) -> None:
    speaking(workflows_service(), our_service())
    result = run("--once", "--json", "--listen", "0.5")
    whole = json.loads(result.stdout)
    assert (whole["schema"], whole["complete"]) == ("zoc.status/1", True)
    theirs, ours = whole["items"]
    assert theirs["host"] == "ac.site.node7.2245"
    assert (theirs["node"], theirs["status"], theirs["state"], theirs["busy"]) == ("node7", 4, "processing", 0.75)
    assert theirs["versions"] == {"zocalo": "1.6.0", "workflows": "3.5"}
    assert theirs["message"]["tag"] == "mytag"
    assert (ours["queues"], ours["handled"], ours["wait_p95"]) == (["mailnotification"], 12, 0.25)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("-s", "Mailer"), {"Mailer"}),
        (("-s", "Mailer", "-s", "Dispatcher"), {"Mailer", "Dispatcher"}),
        (("-s", "none"), {""}),
        (("--host", r"node\d+\.site"), {"Mailer", "Dispatcher"}),
        (("--host", "node7$"), {"Dispatcher"}),
        (("--where", "!task:= "), {""}),
        (("--where", "busy:>50"), {"Dispatcher"}),
        (("--where", "queue:mailnotification host:node9"), {"Mailer"}),
    ],
)
def test_what_is_not_wanted_is_left_out(
    run: Run, speaking: Callable[..., None], options: tuple[str, ...], shown: set[str]
) -> None:
    speaking(workflows_service(), wrapper_task(), our_service())
    result = run("--json", "--listen", "0.5", *options)
    assert {item["service_class"] for item in json.loads(result.stdout)["items"]} == shown


def test_nothing_heard_is_a_no(run: Run) -> None:
    result = run("--once", "--listen", "0.2")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nobody spoke" in result.stderr


def test_nothing_that_matches_is_a_no(run: Run, speaking: Callable[..., None]) -> None:
    speaking(workflows_service())
    result = run("--once", "--listen", "0.5", "--where", "Archiver")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 service on 1 host, 0 shown" in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--json", "--ndjson"), "exclude each other"),
        (("--where", "colour:red"), "'colour'"),
        (("--host", "("), "not a regular expression"),
        (("--listen", "0"), "range"),
    ],
)
def test_options_that_make_no_sense_are_refused(run: Run, options: tuple[str, ...], complaint: str) -> None:
    result = run(*options)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_hostile_broadcasts_are_counted_and_reach_no_terminal(run: Run, speaking: Callable[..., None]) -> None:
    speaking(*HOSTILE, *AWKWARD, workflows_service())
    for options in ((), ("--json",)):
        result = run("--listen", "0.5", "--once") if not options else run("--listen", "0.5", *options)
        assert result.exit_code == 0
        assert "Dispatcher" in result.stdout
        assert "malformed broadcasts left out" in result.stderr
        said = result.stdout + result.stderr
        assert all(character.isprintable() or character == "\n" for character in said)
        assert "\u202e" not in said


def test_the_stream_tells_each_broadcast_and_what_it_changed(run: Run, broker: MemoryBroker) -> None:
    transport = MemoryTransport(broker, "zocalo")
    transport.connect()
    messages = [workflows_service(), workflows_service(status=2), workflows_service(status=2)]

    def open_and_speak(stomp: StompSettings) -> MemoryTransport:
        listening = MemoryTransport(broker, stomp.namespace)
        threading.Timer(0.3, lambda: publish(transport, *messages)).start()
        return listening

    result = run("--ndjson", "--listen", "1.2", opener=open_and_speak)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    told = [(record["event"], record["state"]) for record in records if record["event"] != "link"]
    assert told == [("new", "processing"), ("state", "idle"), ("again", "idle")]
    assert result.exit_code == 0


def test_a_link_lost_meanwhile_is_said(run: Run, broker: MemoryBroker, speaking: Callable[..., None]) -> None:
    speaking(workflows_service())

    def open_and_lose(stomp: StompSettings) -> MemoryTransport:
        threading.Timer(0.4, broker.stop).start()
        return MemoryTransport(broker, stomp.namespace)

    result = run("--json", "--listen", "1", opener=open_and_lose)
    assert result.exit_code == 4
    assert json.loads(result.stdout)["complete"] is False
    assert "link to the broker was lost" in result.stderr
