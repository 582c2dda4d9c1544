"""`zoc wrap`: its exit codes, what it refuses, and what the recipe hears."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zoctools import wrapper
from zoctools.cli import wrap as module
from zoctools.cli.context import Session
from zoctools.cli.wrap import wrap
from zoctools.errors import Unreachable
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.settings import Settings, StompSettings
from zoctools.transport.memory import MemoryBroker, MemoryTransport

Run = Callable[..., Result]


class Away(MemoryTransport):
    """A broker that cannot be reached the first few times."""

    failures = 0

    def connect(self) -> None:
        if Away.failures:
            Away.failures -= 1
            raise Unreachable("cannot reach broker:61613: connection refused", "is the broker running?")
        super().connect()


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def run(broker: MemoryBroker) -> Run:
    def call(*words: object, readonly: bool = False) -> Result:
        settings = Settings(stomp=StompSettings((("broker", 61613),), namespace="zocalo"), readonly=readonly)
        session = Session(opener=lambda s: Away(broker, s.namespace), _settings=settings)
        return CliRunner().invoke(wrap, [str(word) for word in words], obj=session)

    return call


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Write a recipewrapper file for the generic wrapper: ``file("exit 3")``."""

    def written(script: str = "true", **job_parameters: Any) -> Path:
        parameters = {"command": ["sh", "-c", script], "working_directory": str(tmp_path / "work"), **job_parameters}
        outputs = {"starting": 2, "success": 3, "failure": 4, "completed": 5}
        nodes: dict[str, Any] = {"1": {"queue": "q", "job_parameters": parameters, "output": outputs}}
        nodes |= {str(number): {"queue": name} for name, number in outputs.items()}
        step = Step(Recipe({**nodes, "start": [[1, []]]}), 1, environment={"ID": "the-id"})
        path = tmp_path / "recipewrapper"
        path.write_text(json.dumps(step.to_json()))
        return path

    return written


def heard(broker: MemoryBroker) -> dict[str, Any]:
    """Return what the recipe was told, by output."""
    transport = MemoryTransport(broker, "zocalo")
    transport.connect()
    found = {}
    for name in ("starting", "success", "failure", "completed"):
        for message in transport.browse(transport.queue(name)).messages:
            found[name] = json.loads(message.body)["payload"]
    return found


def test_a_good_task_exits_with_0(run, file, broker):
    result = run("command", "--recipewrapper", file("echo hello"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "hello" in result.stderr
    assert set(heard(broker)) == {"starting", "success", "completed"}


@pytest.mark.parametrize(
    ("script", "options", "code"),
    [
        ("exit 3", [], 1),
        ("exit 3", ["--pass-status"], 3),
        ("kill -9 $$", ["--pass-status"], 137),
        ("exit 0", ["--pass-status"], 0),
    ],
)
def test_the_exit_code_says_how_the_task_went(run, file, script, options, code):
    assert run("command", "--recipewrapper", file(script), *options).exit_code == code


def test_a_program_that_was_happy_with_a_failed_task_does_not_exit_with_0(run, file, broker):
    path = file("exit 0", success={"required_files": ["never"]})
    assert run("command", "--recipewrapper", path, "--pass-status").exit_code == 1
    assert "never is missing" in heard(broker)["failure"]


def test_a_wrong_parameter_fails_the_task_and_the_recipe_hears_why(run, file, broker):
    result = run("command", "--recipewrapper", file(timeout="soon"))
    assert result.exit_code == 1
    assert heard(broker)["failure"].startswith("node 1: job_parameters.timeout must be a number of seconds")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("content", ["", "not json", "{}", "[]"])
def test_a_bad_file_exits_with_2_before_the_broker_is_asked(run, tmp_path, content, broker):
    broker.stop()
    (tmp_path / "bad").write_text(content)
    result = run("command", "--recipewrapper", tmp_path / "bad")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"zoc: {tmp_path}/bad is no recipewrapper file: ")


def test_a_missing_file_exits_with_2(run, tmp_path):
    assert run("command", "--recipewrapper", tmp_path / "nowhere").exit_code == 2


def test_an_unknown_wrapper_exits_with_2_and_says_which_there_are(run):
    result = run("nonsense\x1b[2J")
    assert result.exit_code == 2
    assert "installed are: command, dummy" in result.stderr
    assert "\x1b" not in result.stderr


def test_no_wrapper_exits_with_2(run):
    assert run().exit_code == 2


def test_a_broker_that_is_away_exits_with_4_and_nothing_is_run(run, file, tmp_path):
    Away.failures = 1
    result = run("command", "--recipewrapper", file("touch ran"))
    assert result.exit_code == 4
    assert "cannot reach broker:61613" in result.stderr
    assert not (tmp_path / "work").exists()


def test_with_wait_it_keeps_trying(run, file, monkeypatch, broker):
    monkeypatch.setattr(module, "PAUSE", 0.01)
    Away.failures = 5
    result = run("command", "--recipewrapper", file(), "--wait")
    assert result.exit_code == 0
    assert result.stderr.count("trying again") == 1
    assert "success" in heard(broker)


def test_even_waiting_ends(run, file, monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.01)
    monkeypatch.setattr(module, "WAIT", 0.05)
    Away.failures = 10_000
    assert run("command", "--recipewrapper", file(), "--wait").exit_code == 4
    Away.failures = 0


def test_a_read_only_site_runs_no_task_but_lists_the_wrappers(run, file):
    assert run("command", "--recipewrapper", file(), readonly=True).exit_code == 2
    assert run("--list", readonly=True).exit_code == 0


def test_the_list_names_every_wrapper_and_what_it_does(run):
    assert run("--list").stdout.splitlines()[0].split()[0] == "WRAPPER"
    items = json.loads(run("--list", "--json").stdout)["items"]
    assert {"command", "dummy"} <= {item["name"] for item in items}
    assert all(item["summary"] and not item["problem"] for item in items)
    assert run("--list", "command").exit_code == 2
    assert run("command", "--json").exit_code == 2


class Entry:
    """An installed wrapper that is none."""

    name, value = "broken", "nowhere:Nothing"

    def load(self) -> object:
        raise ImportError("no module named nowhere")


class Wrong(Entry):
    name, value = "wrong", "os:getcwd"

    def load(self) -> object:
        return object


def test_wrappers_that_cannot_be_loaded_are_listed_with_the_reason(run, monkeypatch):
    monkeypatch.setattr(wrapper, "installed", lambda: {"broken": Entry(), "wrong": Wrong()})
    result = run("--list")
    assert result.exit_code == 3
    assert "no module named nowhere" in result.stdout
    assert "not a zoctools wrapper class" in result.stdout
    assert run("broken").exit_code == 2


def test_without_a_file_nothing_is_sent_but_the_status(run, broker):
    assert run("command").exit_code == 1
    assert heard(broker) == {}
