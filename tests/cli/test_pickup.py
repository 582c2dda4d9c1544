"""`zoc pickup`: oldest first, bad files kept with the reason, nothing deleted that was not sent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zoctools import dropfiles
from zoctools.cli import pickup as module
from zoctools.cli.context import Session
from zoctools.cli.pickup import pickup
from zoctools.errors import LinkLost
from zoctools.settings import Settings, StompSettings
from zoctools.transport.contract import Destination
from zoctools.transport.memory import MemoryBroker, MemoryTransport

Run = Callable[..., Result]


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker(refuse=lambda destination: "forbidden" if "bad" in destination else None)


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


@pytest.fixture
def run(broker: MemoryBroker, drop: Path) -> Run:
    """Call `zoc pickup` without its pauses."""

    def call(*words: str, namespace: str = "zocalo", opener: Any = None, storage: Any = None) -> Result:
        settings = Settings(
            environments=("live",),
            stomp=StompSettings((("broker", 61613),), namespace=namespace),
            storage={"zocalo.go.fallback_location": str(drop)} if storage is None else storage,
        )
        session = Session(opener=opener or (lambda s: MemoryTransport(broker, s.namespace)), _settings=settings)
        return CliRunner().invoke(pickup, ["--wait", "0", "--delay", "0", *words], obj=session)

    return call


def save(drop: Path, name: str, age: float) -> Path:
    request = dropfiles.Request({"zocalo.go.user": "u", "zocalo.go.host": "h"}, {"parameters": {"guid": name}})
    path = dropfiles.save(request, drop)
    os.utime(path, (10_000 - age, 10_000 - age))
    return path


def sent(broker: MemoryBroker) -> list[str]:
    transport = MemoryTransport(broker)
    transport.connect()
    found = transport.browse(Destination.queue("zocalo.processing_recipe")).messages
    assert all(delivery.headers["zocalo.go.host"] == "h" for delivery in found)
    return [json.loads(delivery.body)["parameters"]["guid"] for delivery in found]


def test_sends_the_oldest_first_and_deletes_what_was_sent(run: Run, broker: MemoryBroker, drop: Path) -> None:
    for age, name in ((1, "new"), (3, "old"), (2, "middle")):
        save(drop, name, age)
    result = run("--yes")
    assert result.exit_code == 0
    assert sent(broker) == ["old", "middle", "new"]
    assert list(drop.iterdir()) == []
    assert "3 of 3 requests sent to live (broker:61613)" in result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_bad_files_are_kept_with_the_reason_and_the_others_sent(run: Run, broker: MemoryBroker, drop: Path) -> None:
    save(drop, "good", 5)
    (drop / "half").write_text('{"headers": {}, "mess')
    (drop / "folder").mkdir()
    (drop / ".hidden.tmp").write_text("")
    (drop / "link").symlink_to("/etc/passwd")
    result = run("--yes", "--json")
    assert result.exit_code == 3
    states = {Path(item["file"]).name: (item["state"], item["reason"]) for item in json.loads(result.stdout)["items"]}
    assert states.pop("half")[0] == "skipped"
    assert states.pop("folder") == ("skipped", "it is a directory")
    assert states.pop("link") == ("skipped", "it is a symbolic link")
    assert [state for state, _ in states.values()] == ["sent"]
    assert sent(broker) == ["good"]
    assert sorted(path.name for path in drop.iterdir()) == [".hidden.tmp", "folder", "half", "link"]


def test_it_asks_and_without_a_terminal_needs_yes(run: Run, broker: MemoryBroker, drop: Path) -> None:
    save(drop, "x", 1)
    result = run()
    assert result.exit_code == 2
    assert "send 1 saved request to live (broker:61613)?" in result.stderr
    assert sent(broker) == []
    assert len(list(drop.iterdir())) == 1


def test_a_dry_run_says_what_would_be_sent(run: Run, broker: MemoryBroker, drop: Path) -> None:
    save(drop, "x", 1)
    (drop / "bad").write_text("{")
    result = run("--dry-run", "--json")
    assert result.exit_code == 3
    assert sorted(item["state"] for item in json.loads(result.stdout)["items"]) == ["skipped", "would be sent"]
    assert sent(broker) == []
    assert len(list(drop.iterdir())) == 2


def test_nothing_waiting_is_done(run: Run, broker: MemoryBroker) -> None:
    broker.stop()
    result = run()
    assert result.exit_code == 0
    assert json.loads(run("--json").stdout)["items"] == []


def test_no_directory_configured_or_there(run: Run) -> None:
    assert run(storage={}).exit_code == 2
    assert run(storage={"zocalo.go.fallback_location": "/nonexistent/drop"}).exit_code == 2


def test_a_broker_that_is_away_keeps_everything(run: Run, broker: MemoryBroker, drop: Path) -> None:
    save(drop, "x", 1)
    broker.stop()
    result = run("--yes")
    assert result.exit_code == 4
    assert len(list(drop.iterdir())) == 1


def test_what_the_broker_refuses_is_kept(run: Run, drop: Path) -> None:
    save(drop, "x", 1)
    result = run("--yes", namespace="bad")
    assert result.exit_code == 3
    assert "the broker refuses it" in result.stdout
    assert len(list(drop.iterdir())) == 1


def losing(broker: MemoryBroker, after: int, *, comes_back: bool) -> Callable[[StompSettings], MemoryTransport]:
    """A transport whose link is lost at the send after so many."""

    class Losing(MemoryTransport):
        sends = 0

        def send(self, message: Any) -> None:
            self.sends += 1
            if self.sends == after + 1 or (self.sends > after and not comes_back):
                raise LinkLost("the link went")
            super().send(message)

        def wait_connected(self, timeout: float) -> bool:
            return comes_back

    return lambda settings: Losing(broker, settings.namespace)


def test_a_link_that_comes_back_loses_and_doubles_nothing(run: Run, broker: MemoryBroker, drop: Path) -> None:
    for age, name in ((3, "a"), (2, "b"), (1, "c")):
        save(drop, name, age)
    result = run("--yes", opener=losing(broker, 1, comes_back=True))
    assert (result.exit_code, sent(broker), list(drop.iterdir())) == (0, ["a", "b", "c"], [])


def test_a_link_that_stays_away_leaves_the_rest(run: Run, broker: MemoryBroker, drop: Path) -> None:
    for age, name in ((3, "a"), (2, "b"), (1, "c")):
        save(drop, name, age)
    result = run("--yes", "--json", opener=losing(broker, 1, comes_back=False))
    assert result.exit_code == 3
    assert json.loads(result.stdout)["complete"] is False
    assert "2 files not tried" in result.stderr
    assert (sent(broker), len(list(drop.iterdir()))) == (["a"], 2)


def test_the_pauses_are_those_asked_for(run: Run, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    for age in range(3):
        save(drop, str(age), age)
    assert run("--yes", "--wait", "60", "--delay", "2").exit_code == 0
    assert pauses == [60, 2, 2]
