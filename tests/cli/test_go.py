"""`zoc go`: what is sent, what stands on stdout, and what becomes of a request while the broker is away."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.fakebroker import FakeBroker
from zoctools.cli import go as module
from zoctools.cli.context import Session, open_stomp
from zoctools.cli.go import go
from zoctools.errors import LoginRefused, SendRefused, TimedOut, Unreachable
from zoctools.settings import Settings, StompSettings
from zoctools.transport.contract import Destination
from zoctools.transport.memory import MemoryBroker, MemoryTransport

Run = Callable[..., Result]
REQUESTS = Destination.queue("zocalo.processing_recipe")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


@pytest.fixture
def run(broker: MemoryBroker, drop: Path, tmp_path: Path) -> Run:
    """Call `zoc go`; with ``opener`` on another transport, without a drop directory with ``storage={}``."""

    def call(*words: str, opener: Any = None, storage: dict[str, str] | None = None, **invoke: Any) -> Result:
        kept = {"zocalo.go.fallback_location": str(drop), "zocalo.recipe_directory": str(tmp_path / "recipes")}
        settings = Settings(
            environments=("live",),
            stomp=StompSettings((("broker", 61613),), namespace="zocalo"),
            storage=kept if storage is None else storage,
        )
        session = Session(opener=opener or (lambda s: MemoryTransport(broker, s.namespace)), _settings=settings)
        return CliRunner().invoke(go, words, obj=session, **invoke)

    return call


def sent(broker: MemoryBroker) -> list[tuple[dict[str, str], dict[str, Any]]]:
    transport = MemoryTransport(broker)
    transport.connect()
    found = transport.browse(REQUESTS).messages
    transport.close()
    return [(dict(delivery.headers), json.loads(delivery.body)) for delivery in found]


def test_stdout_is_the_recipe_id_and_nothing_else(run: Run, broker: MemoryBroker) -> None:
    result = run("-r", "archive-cbfs", "-r", "second", "-s", "event=end=x", "5073790")
    assert result.exit_code == 0
    identifier = result.stdout.strip()
    assert result.stdout == f"{uuid.UUID(identifier)}\n"
    assert "submitted" in result.stderr
    assert "live (broker:61613)" in result.stderr
    ((headers, message),) = sent(broker)
    assert message == {
        "recipes": ["archive-cbfs", "second"],
        "parameters": {"event": "end=x", "ispyb_dcid": 5073790, "guid": identifier},
    }
    assert headers["zocalo.go.user"]
    assert headers["zocalo.go.host"]
    assert headers["persistent"] == "true"
    assert abs(float(headers["zoc_sent_at"]) - time.time()) < 60
    assert "workflows-recipe" not in headers


def test_reprocessing_needs_no_recipe(run: Run, broker: MemoryBroker) -> None:
    assert run("-p", "1234", "-a", "77").exit_code == 0
    ((_, message),) = sent(broker)
    assert message["recipes"] == []
    assert message["parameters"]["ispyb_process"] == 1234
    assert message["parameters"]["ispyb_autoprocscalingid"] == 77
    assert "ispyb_dcid" not in message["parameters"]


def test_a_recipe_from_a_file_or_standard_input(run: Run, broker: MemoryBroker, tmp_path: Path) -> None:
    recipe = {"1": {"queue": "somewhere", "output": 2}, "2": {"queue": "else"}, "start": [[1, {"x": None}]]}
    path = tmp_path / "my.json"
    path.write_text(json.dumps(recipe))
    assert run("-n", "-f", str(path)).exit_code == 0
    assert run("--no-dcid", "-f", "-", input=json.dumps(recipe)).exit_code == 0
    for _, message in sent(broker):
        custom = message["custom_recipe"]
        assert custom["start"] == [[1, {"x": None}]]
        assert custom["1"]["queue"] == "somewhere"
        assert set(message["parameters"]) == {"guid"}


def test_standard_input_without_end_is_refused(run: Run, broker: MemoryBroker) -> None:
    with Path("/dev/zero").open("rb") as endless:
        result = run("-n", "-f", "-", input=endless)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "standard input: larger than 16 MB" in result.stderr
    assert sent(broker) == []


def test_a_given_recipe_id_is_kept(run: Run, broker: MemoryBroker) -> None:
    assert run("-n", "-r", "x", "-s", "guid=abc-123").stdout == "abc-123\n"
    assert sent(broker)[0][1]["parameters"]["guid"] == "abc-123"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-r", "ok", "-5"], "not a data collection ID: '-5'"),
        (["-r", "ok", "abc"], "not a data collection ID: 'abc'"),
        (["-r", "ok", "99999999999999999999"], "not a data collection ID"),
        (["-r", "ok", "0"], "not a data collection ID"),
        (["-r", "ok", "1_000"], "not a data collection ID"),
        (["-r", "ok", "٤٢"], "not a data collection ID"),
        (["-r", "ok", "4.2"], "not a data collection ID"),
        (["-r", "ok", ""], "not a data collection ID"),
        (["-r", "ok", "1", "2"], "one ID can be given"),
        (["-r", "ok"], "a data collection ID is missing"),
        (["-p", "x"], "not a processing job ID"),
        (["-r", "ok", "-a", "0", "1"], "not an auto processing scaling ID"),
        (["1"], "no recipes named"),
        (["-n"], "no recipes named"),
        (["-n", "-r", "ok", "1"], "do not go together"),
        (["-n", "-p", "-r", "ok"], "do not go together"),
        (["-n", "-r", "ok", "-s", "broken"], "not KEY=VALUE: 'broken'"),
        (["-n", "-r", "ok", "-s", "=x"], "not KEY=VALUE"),
        (["-n", "-r", "../secret"], "not the name of a recipe"),
        (["-n", "-r", "/etc/x"], "not the name of a recipe"),
        (["-n", "-r", "a\x1bb"], "not the name of a recipe"),
        (["-n", "-r", ""], "not the name of a recipe"),
        (["-n", "-r", "ok", "-s", "guid=../x"], "not a recipe ID"),
        (["-n", "-f", "/nonexistent.json"], "nonexistent.json"),
    ],
)
def test_what_cannot_be_used_exits_with_2(run: Run, broker: MemoryBroker, words: list[str], expected: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert expected in result.stderr
    assert (result.stdout, sent(broker)) == ("", [])
    assert "\x1b" not in result.stderr


def test_a_recipe_file_that_is_wrong_is_not_sent(run: Run, broker: MemoryBroker, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    for content in ("", "{", '{"1": {"queue": "x", "output": 9}, "start": [[1, []]]}', "[]"):
        path.write_text(content)
        result = run("-n", "-f", str(path))
        assert (result.exit_code, result.stdout, sent(broker)) == (2, "", [])
        assert "bad.json" in result.stderr


def test_a_recipe_nobody_finds_is_warned_about_and_sent(run: Run, broker: MemoryBroker, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "here.json").write_text("{}")
    result = run("-n", "-r", "here", "-r", "nowhere")
    assert result.exit_code == 0
    assert "there is no recipe 'nowhere'" in result.stderr
    assert "'here'" not in result.stderr
    assert len(sent(broker)) == 1


def test_json_says_what_was_done(run: Run) -> None:
    said = json.loads(run("-r", "x", "42", "--json").stdout)
    assert said["schema"] == "zoc.go/1"
    (item,) = said["items"]
    assert item["submitted"] is True
    assert (item["environment"], item["broker"]) == ("live", "broker:61613")
    assert item["recipe_id"] == item["parameters"]["guid"]


def test_a_dry_run_asks_the_broker_and_sends_nothing(run: Run, broker: MemoryBroker) -> None:
    result = run("-r", "x", "42", "--dry-run")
    assert (result.exit_code, result.stdout, sent(broker)) == (0, "", [])
    assert "nothing was sent" in result.stderr
    broker.stop()
    assert run("-r", "x", "42", "--dry-run").exit_code == 4


def saved(drop: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in drop.iterdir()]


def test_drop_saves_without_asking_the_broker(run: Run, broker: MemoryBroker, drop: Path) -> None:
    broker.stop()
    result = run("-r", "x", "42", "--drop")
    assert result.exit_code == 0
    (content,) = saved(drop)
    assert content["message"]["parameters"]["guid"] == result.stdout.strip()
    assert "saved, NOT submitted" in result.stderr
    assert run("-r", "x", "42", "--drop", storage={}).exit_code == 2


def refusing(error: Exception) -> Callable[[StompSettings], Any]:
    class Refusing(MemoryTransport):
        def send(self, message: Any) -> None:
            raise error

    return lambda settings: Refusing(MemoryBroker(), settings.namespace)


def unreachable(_settings: StompSettings) -> Any:
    class Away(MemoryTransport):
        def connect(self) -> None:
            raise LoginRefused("broker:61613 refuses the login")

    return Away(MemoryBroker())


@pytest.mark.parametrize(
    "opener",
    [
        refusing(SendRefused("not allowed")),
        refusing(TimedOut("no confirmation")),
        refusing(Unreachable("gone")),
        unreachable,
        lambda settings: open_stomp(StompSettings((("127.0.0.1", 1),))),
    ],
    ids=["refused", "timed-out", "lost", "login", "no-listener"],
)
def test_a_broker_that_is_away_means_saved_not_submitted(run: Run, drop: Path, opener: Any) -> None:
    result = run("-r", "x", "42", opener=opener)
    assert result.exit_code == 3
    assert "saved, NOT submitted" in result.stderr
    assert "Traceback" not in result.stderr
    (content,) = saved(drop)
    assert content["message"]["parameters"] == {"ispyb_dcid": 42, "guid": result.stdout.strip()}
    assert set(content["headers"]) == {"zocalo.go.user", "zocalo.go.host"}
    item = json.loads(run("-r", "x", "42", "--json", opener=opener).stdout)["items"][0]
    assert item["submitted"] is False
    assert Path(item["saved_to"]).parent == drop


def test_without_a_drop_directory_it_exits_with_4(run: Run, broker: MemoryBroker, tmp_path: Path) -> None:
    broker.stop()
    result = run("-r", "x", "42", storage={})
    assert (result.exit_code, result.stdout) == (4, "")
    result = run("-r", "x", "42", storage={"zocalo.go.fallback_location": str(tmp_path / "missing")})
    assert (result.exit_code, result.stdout) == (4, "")
    assert "cannot be saved" in result.stderr


def test_a_broker_that_accepts_and_never_answers(run: Run, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 2.0)
    with FakeBroker([]) as silent:
        address = StompSettings((("127.0.0.1", silent.port), ("127.0.0.1", silent.port)))
        result = run("-r", "x", "42", opener=lambda s: open_stomp(_addressed(s, address)))
    assert (result.exit_code, len(saved(drop))) == (3, 1)


def _addressed(wanted: StompSettings, at: StompSettings) -> StompSettings:
    return StompSettings(at.hosts, connect_timeout=wanted.connect_timeout, settle_timeout=wanted.settle_timeout)


def test_a_transport_that_hangs_for_ever_is_given_up(run: Run, drop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    release = threading.Event()
    sends: list[Any] = []

    class Hanging(MemoryTransport):
        def connect(self) -> None:
            release.wait(60)

        def send(self, message: Any) -> None:
            sends.append(message)

    result = run("-r", "x", "42", opener=lambda settings: Hanging(MemoryBroker()))
    assert (result.exit_code, len(saved(drop))) == (3, 1)
    release.set()
    for thread in threading.enumerate():
        if thread.name == "zoc-go":
            thread.join(20)
    assert sends == []
