"""The doctor: what each check finds on a broker that is well, and on those that are not."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.activemq import ActiveMQ, free_port
from support.fakestatus import publish, workflows_service
from zoctools.cli.context import Session
from zoctools.cli.doctor import doctor
from zoctools.doctor.examination import Check, Running, examine, exit_code
from zoctools.doctor.finding import Finding, Word, ok
from zoctools.errors import ExitCode
from zoctools.queues import Jolokia
from zoctools.service.status import Status
from zoctools.settings import Account, Settings, StompSettings
from zoctools.transport.memory import MemoryBroker, MemoryTransport
from zoctools.transport.stomp import StompTransport

CHECKS = [
    "configuration",
    "login",
    "round trip",
    "scheduler",
    "dead letter queues",
    "services",
    "recipes",
    "logbook",
    "drop files",
    "queue figures",
    "dead letters",
]
Look = Callable[..., dict[str, Finding]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody speaks, do not wait for the whole period of a status."""
    monkeypatch.setattr("zoctools.doctor.broker.STATUS_LIMIT", 1.5)


def storage(folder: Path) -> dict[str, str]:
    """Directories that are as they should be."""
    for name in ("recipes", "logbook", "drop"):
        (folder / name).mkdir()
    (folder / "recipes" / "a.json").write_text("{}")
    return {
        "zocalo.recipe_directory": str(folder / "recipes"),
        "zocalo.dispatcher.logbook_location": str(folder / "logbook"),
        "zocalo.go.fallback_location": str(folder / "drop"),
    }


@pytest.fixture
def speaker() -> Iterator[Callable[..., None]]:
    """Somebody who broadcasts a status again and again over a transport, until the test ends."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def start(transport: Any, *messages: dict[str, Any]) -> None:
        transport.connect()

        def repeat() -> None:
            while not stop.wait(0.2):
                publish(transport, *(messages or [workflows_service()]))
            transport.close()

        threads.append(threading.Thread(target=repeat))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def look(settings: Settings, opener: Callable[[StompSettings], Any]) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine(settings, opener)}


def words(found: dict[str, Finding]) -> dict[str, str]:
    return {what: finding.word.value for what, finding in found.items()}


def memory(broker: MemoryBroker, **options: Any) -> tuple[Settings, Callable[[StompSettings], MemoryTransport]]:
    stomp = StompSettings((("memory", 1),), namespace="zocalo")
    return Settings(stomp=stomp, **options), lambda stomp: MemoryTransport(broker, stomp.namespace)


def test_a_real_broker_that_is_well(activemq: ActiveMQ, tmp_path: Path, speaker: Callable[[Any], None]) -> None:
    stomp = StompSettings((("127.0.0.1", activemq.stomp_port),), namespace="doctored")
    jmx = Account(host="127.0.0.1", port=activemq.jolokia_port, url="api/jolokia")
    speaker(StompTransport(stomp))
    found = look(Settings(stomp=stomp, jmx=jmx, storage=storage(tmp_path)), StompTransport)
    assert list(found) == CHECKS
    assert words(found) == dict.fromkeys(CHECKS, "ok")
    assert exit_code(list(found.values())) is ExitCode.DONE
    assert [each.name for each in Jolokia(jmx, 20).queues() if "transient.doctor" in each.name] == []
    assert list((tmp_path / "logbook").iterdir()) == []


def test_a_broker_with_neither_scheduler_nor_tcp_nodelay(
    private_activemq: Callable[..., ActiveMQ], tmp_path: Path
) -> None:
    broker = private_activemq("full", scheduler=False, tcp_nodelay=False)
    stomp = StompSettings((("127.0.0.1", broker.stomp_port),), namespace="zocalo")
    jmx = Account(host="127.0.0.1", port=broker.jolokia_port, url="api/jolokia")
    found = look(Settings(stomp=stomp, jmx=jmx, storage=storage(tmp_path)), StompTransport)
    assert found["scheduler"].word is Word.FAIL
    assert "no scheduler" in found["scheduler"].detail
    assert found["round trip"].word is Word.WARN
    assert "tcpNoDelay" in found["round trip"].detail
    assert exit_code(list(found.values())) is ExitCode.NO


def test_a_broker_that_mixes_dead_letters(private_activemq: Callable[..., ActiveMQ]) -> None:
    stomp_only = private_activemq("minimal")
    stomp = StompSettings((("127.0.0.1", stomp_only.stomp_port),), namespace="zocalo")
    found = look(Settings(stomp=stomp), StompTransport)
    assert found["login"].word is Word.OK
    verdict = found["dead letter queues"]
    mixed = "individualDeadLetterStrategy" not in stomp_only.configuration.read_text()
    assert verdict.word is (Word.FAIL if mixed else Word.OK)
    assert found["queue figures"].word is Word.UNKNOWN


def test_nobody_listening_is_unreachable_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    stomp = StompSettings((("127.0.0.1", free_port()),))
    found = look(Settings(stomp=stomp, storage=storage(tmp_path)), StompTransport)
    assert found["login"].word is Word.FAIL
    assert {found[what].word for what in ("round trip", "scheduler", "dead letter queues", "services")} == {
        Word.UNKNOWN
    }
    assert found["recipes"].word is Word.OK
    assert exit_code(list(found.values())) is ExitCode.UNREACHABLE


def test_servers_that_are_away_come_with_what_to_do() -> None:
    jmx = Account(host="127.0.0.1", port=free_port(), url="api/jolokia")
    found = look(Settings(stomp=StompSettings((("127.0.0.1", free_port()),)), jmx=jmx), StompTransport)
    for what in ("login", "queue figures"):
        assert (found[what].word, "config show --origin" in found[what].hint) == (Word.FAIL, True)


def test_who_left_is_no_running_service(speaker: Callable[..., None]) -> None:
    broker = MemoryBroker()
    settings, opener = memory(broker)
    speaker(opener(settings.stomp), workflows_service(status=Status.TEARDOWN))
    verdict = look(settings, opener)["services"]
    assert (verdict.word, verdict.figures["heard"]) == (Word.WARN, 0)
    speaker(opener(settings.stomp), workflows_service("a.1"), workflows_service("a.2"))
    verdict = look(settings, opener)["services"]
    assert verdict.detail.startswith("2 processes of 1 service class spoke")


def test_a_wrong_login_is_said_in_the_brokers_words(private_activemq: Callable[..., ActiveMQ]) -> None:
    broker = private_activemq("auth")
    stomp = StompSettings((("127.0.0.1", broker.stomp_port),), username="admin", password="wrong")
    found = look(Settings(stomp=stomp), StompTransport)
    assert found["login"].word is Word.FAIL
    assert exit_code(list(found.values())) is ExitCode.UNREACHABLE


def test_who_may_not_write_gets_question_marks() -> None:
    broker = MemoryBroker(refuse=lambda destination: "User reader is not authorized to write")
    found = look(*memory(broker))
    for what in ("round trip", "scheduler", "dead letter queues"):
        assert found[what].word is Word.UNKNOWN, found[what]
        assert "not authorized" in found[what].detail
    assert not any(finding.failed for finding in found.values())


def test_a_read_only_site_is_sent_nothing(tmp_path: Path) -> None:
    sent: list[str] = []
    broker = MemoryBroker(refuse=lambda destination: sent.append(destination) or "")  # type: ignore[func-returns-value]
    found = look(*memory(broker, readonly=True, storage=storage(tmp_path)))
    assert sent == []
    assert found["round trip"].word is Word.UNKNOWN
    assert "read-only" in found["round trip"].detail
    assert words(found)["logbook"] == "ok"


def test_directories_that_are_not_there_or_not_empty(tmp_path: Path) -> None:
    places = storage(tmp_path)
    (tmp_path / "logbook").rmdir()
    (tmp_path / "recipes" / "a.json").unlink()
    request = tmp_path / "drop" / "5d2ea0b2-0000-4000-8000-000000000000"
    request.write_text(json.dumps({"headers": {}, "message": {"recipes": ["x"], "parameters": {}}}))
    os.utime(request, (time.time() - 3700,) * 2)
    found = look(*memory(MemoryBroker(), storage=places))
    assert (found["logbook"].word, found["recipes"].word, found["drop files"].word) == (Word.FAIL, Word.WARN, Word.WARN)
    assert "logbook: no such file or directory" in found["logbook"].detail
    assert "1 request in" in found["drop files"].detail
    assert "1 h 01 m old" in found["drop files"].detail


def test_a_check_that_hangs_is_left_behind() -> None:
    release = threading.Event()
    hung = Running(Check("logbook", lambda: (release.wait(60), ok("logbook", "late"))[1], limit=-1.9))
    finding = hung.finding()
    release.set()
    assert (finding.word, finding.what) == (Word.FAIL, "logbook")
    assert "no answer within" in finding.detail


def test_a_check_that_fails_itself_ends_nothing() -> None:
    finding = Running(Check("logbook", lambda: ok("logbook", "x" / 2))).finding()  # type: ignore[operator]
    assert finding.word is Word.FAIL
    assert "TypeError" in finding.detail


def command(settings: Settings, opener: Callable[[StompSettings], Any], *options: str) -> Result:
    return CliRunner().invoke(doctor, options, obj=Session(opener=opener, _settings=settings))


def test_the_command_prints_a_line_for_each_check(tmp_path: Path) -> None:
    settings, opener = memory(MemoryBroker(), storage=storage(tmp_path))
    result = command(settings, opener)
    lines = [line for line in result.stdout.splitlines() if not line.startswith("      ")]
    assert [line[6:26].strip() for line in lines] == CHECKS
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_the_command_speaks_json(tmp_path: Path) -> None:
    settings, opener = memory(MemoryBroker(), storage=storage(tmp_path))
    whole = json.loads(command(settings, opener, "--json").stdout)
    assert whole["schema"] == "zoc.doctor/1"
    assert [item["check"] for item in whole["items"]] == CHECKS
    assert next(item for item in whole["items"] if item["check"] == "round trip")["settle_seconds"] > 0


def test_a_configuration_that_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "site.yml").write_text("version: 2\n")
    result = CliRunner().invoke(doctor, ["--config", str(tmp_path / "site.yml")])
    assert result.exit_code == 1
    assert result.stdout.startswith("FAIL  configuration")
