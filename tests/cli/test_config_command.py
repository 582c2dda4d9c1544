"""`zoc config`: what it shows, and what it says of a wrong file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zoctools.cli.main import zoc

SITE = """version: 1
broker: {plugin: stomp, host: broker.example.org, port: 61613, username: u, password: swordfish, prefix: zocalo}
store: {plugin: storage, zocalo.recipe_directory: "/re\\x1bcipes", nested: {api_key: inner, x: [1]}}
environments: {live: [broker, store], default: []}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yml"
    path.write_text(SITE)
    path.chmod(0o600)
    return path


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(zoc, [str(word) for word in words])


def test_show(site: Path) -> None:
    result = run("--config", site, "config", "show", "-e", "live")
    assert result.exit_code == 0
    lines = [line.split(None, 1) for line in result.stdout.splitlines()]
    assert lines[0] == ["KEY", "VALUE"]
    assert dict(lines[1:]) == {  # type: ignore[arg-type]
        "environment": "live",
        "file": str(site),
        "stomp.connect-timeout": "10.0",
        "stomp.heartbeat": "10.0",
        "stomp.host": "broker.example.org",
        "stomp.password": "********",
        "stomp.port": "61613",
        "stomp.prefix": "zocalo",
        "stomp.settle-timeout": "30.0",
        "stomp.username": "u",
        "storage.nested": '{"api_key": "********", "x": [1]}',
        "storage.zocalo.recipe_directory": "/re\\x1bcipes",
    }
    assert "broker: live (broker.example.org:61613)" in result.stderr


def test_show_with_origins(site: Path) -> None:
    result = run("--config", site, "-e", "live", "config", "show", "--origin")
    assert f"{site}: broker.host" in result.stdout
    assert re.search(r"^environment +live +-e$", result.stdout, re.MULTILINE)
    assert re.search(r"^file +\S+ +--config$", result.stdout, re.MULTILINE)
    assert re.search(r"^stomp.heartbeat +10.0 +default$", result.stdout, re.MULTILINE)
    said = json.loads(run("--config", site, "-e", "live", "config", "show", "--json").stdout)
    assert said["schema"] == "zoc.config.show/1"
    assert {"key": "stomp.password", "value": "********", "origin": f"{site}: broker.password"} in said["items"]
    assert "swordfish" not in json.dumps(said)


def test_show_of_nothing() -> None:
    result = run("config", "show")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "file: none" in result.stderr


def test_check_exits_with_0_1_or_2(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("config", "check", site).exit_code == 0
    site.chmod(0o644)
    result = run("config", "check", site)
    assert result.exit_code == 1
    assert f"warning: {site}: holds broker.password" in result.stdout
    monkeypatch.setenv("ZOCALO_CONFIG", str(site))
    assert run("config", "check").exit_code == 1
    site.write_text(SITE.replace("61613", "abc"))
    result = run("config", "check", "--json")
    assert result.exit_code == 2
    (item,) = json.loads(result.stdout)["items"]
    assert item["level"] == "error"
    assert "broker.port: must be a number from 1 to 65535, is 'abc'" in item["message"]


def test_check_needs_a_file() -> None:
    result = run("config", "check")
    assert result.exit_code == 2
    assert "ZOCALO_CONFIG" in result.stderr


def test_a_configuration_that_cannot_be_read_stops_every_command(tmp_path: Path) -> None:
    for words in (["config", "show"], ["go", "-n", "-r", "x"], ["pickup"], ["shutdown", "a.1"]):
        result = run("--config", tmp_path / "missing.yml", *words)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"zoc: {tmp_path}/missing.yml: cannot be read")
