"""The old names without the published tools: the table, and what cannot be compared."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from zoctools.cli import oldnames
from zoctools.cli.main import TABLE

ROOT = Path(__file__).parents[2]


def test_every_old_name_is_a_console_script_of_a_command_there_is() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"zoc", *oldnames.TOOLS}
    for home in scripts.values():
        module, _, attribute = home.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))
    assert {tool.command.split()[0] for tool in oldnames.TOOLS.values()} <= {entry.name for entry in TABLE}


@pytest.mark.parametrize("name", sorted(oldnames.TOOLS))
def test_every_old_name_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--help", "-?"):
        with pytest.raises(SystemExit) as left:
            oldnames.main(name, [word])
        assert left.value.code == 0
        assert f"An old name of 'zoc {oldnames.TOOLS[name].command}'" in capsys.readouterr().out


def test_nothing_configured_is_not_localhost_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert oldnames.main("zoc.go", ["-r", "x", "42"]) == 2
    said = capsys.readouterr()
    assert "no broker is configured" in said.err
    assert "Submitted" not in said.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-t", "PikaTransport"], "AMQP comes later"),
        (["-t", "NoTransport"], "there is no transport 'NoTransport'"),
        (["--stomp-port", "abc"], "not a port"),
        (["--stomp-conf", "/nonexistent.ini"], "cannot be read"),
    ],
)
def test_brokers_that_cannot_be(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert oldnames.main("zoc.go", ["-r", "x", *words, "42"]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("identifier", ["../../../../etc/hostname", "x", "", "archive-cbfs", "42ee2fdd/../../x"])
def test_show_recipe_id_takes_only_ids(identifier: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert oldnames.main("zoc.show_recipeID", [identifier]) == 2
    assert "not a recipe ID" in capsys.readouterr().err


def test_the_same_options_become_the_same_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(oldnames, "run", lambda cli, words, session, name: calls.append(words) or 0)
    oldnames.main("zoc.status_monitor", ["-s", "A", "--service=B", "--host", "x.*", "--raw", "-e", "live"])
    assert calls == [["status", "--service=A", "--service=B", "--host=x.*", "--ndjson", "--environment=live"]]
