"""What every command shares: global options, exit codes, errors, JSON, tables, colours, the question."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from zoctools.cli import output
from zoctools.cli.context import Session, command, group, pass_session, run
from zoctools.cli.main import zoc
from zoctools.errors import ExitCode, LoginRefused, TimedOut, Unreachable, UsageError, ZocError

ZOC = [sys.executable, "-m", "zoctools"]


def failing(error: BaseException) -> click.Command:
    @command("failing")
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ZocError("no match"), 1, "zoc: no match"),
        (UsageError("bad", "do this"), 2, "zoc: bad\nhint: do this"),
        (Unreachable("gone"), 4, "zoc: gone"),
        (LoginRefused("who are you"), 4, "zoc: who are you"),
        (TimedOut("late"), 5, "zoc: late"),
        (KeyboardInterrupt(), 130, "zoc: interrupted"),
        (click.Abort(), 130, "zoc: interrupted"),
        (click.UsageError("strange"), 2, "zoc: strange"),
        (KeyError("x"), 70, "zoc: internal error: KeyError: 'x'"),
        (ZocError("evil \x1b[2J\nline"), 1, "zoc: evil \\x1b[2J\\nline"),
    ],
)
def test_errors_become_one_line_and_an_exit_code(error: BaseException, code: int, said: str) -> None:
    result = CliRunner().invoke(failing(error), [])
    assert result.exit_code == code
    assert result.stderr.strip().startswith(said)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("error", [KeyError("x"), ZocError("no match")])
def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setenv("ZOC_DEBUG", "1")
    result = CliRunner().invoke(failing(error), [])
    assert "Traceback" in result.stderr
    assert "zoc: " in result.stderr


def test_what_a_command_returns_is_its_exit_code() -> None:
    for returned, code in ((None, 0), (ExitCode.PARTLY, 3), (0, 0)):

        @command("returning")
        def returning(returned: ExitCode | int | None = returned) -> ExitCode | int | None:
            return returned

        assert CliRunner().invoke(returning, []).exit_code == code


@pytest.mark.parametrize(
    "words",
    [
        ["-e", "live", "--config", "f", "--color", "never", "noun", "verb"],
        ["noun", "-e", "live", "--config", "f", "--color", "never", "verb"],
        ["noun", "verb", "--environment=live", "--config=f", "--color=never"],
        ["--config", "f", "noun", "-e", "live", "verb", "--color", "never"],
    ],
)
def test_global_options_stand_anywhere(words: list[str]) -> None:
    seen: list[Session] = []

    @group("top")
    def top() -> None:
        """Top."""

    @top.group("noun")
    def noun() -> None:
        """Noun."""

    @noun.command("verb")
    @pass_session
    def verb(session: Session) -> None:
        """Verb."""
        seen.append(session)

    assert CliRunner().invoke(top, words).exit_code == 0
    assert (seen[0].environments, seen[0].config_path, seen[0].color) == (["live"], "f", "never")


def test_environments_add_up_in_order() -> None:
    seen: list[Session] = []

    @command("verb")
    @pass_session
    def verb(session: Session) -> None:
        seen.append(session)

    CliRunner().invoke(verb, ["-e", "a", "-e", "b"])
    assert seen[0].environments == ["a", "b"]


@pytest.mark.parametrize(
    "words", [["nosuch"], ["statsu"], ["--nosuch"], ["config", "nosuch"], ["config", "check", "-x"]]
)
def test_wrong_usage_exits_with_2_and_says_where_help_is(words: list[str]) -> None:
    result = CliRunner().invoke(zoc, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("zoc: ")
    assert "hint: see 'zoc" in result.stderr


def test_a_mistyped_command_is_answered_with_the_nearest() -> None:
    assert "did you mean 'config'?" in CliRunner().invoke(zoc, ["confg"]).stderr


def test_readonly_removes_and_refuses_what_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert re.search(r"^  go ", CliRunner().invoke(zoc, ["--help"]).stdout, re.MULTILINE)
    monkeypatch.setenv("ZOC_READONLY", "1")
    assert not re.search(r"^  go ", CliRunner().invoke(zoc, ["--help"]).stdout, re.MULTILINE)
    result = CliRunner().invoke(zoc, ["go", "-n", "-r", "x"])
    assert (result.exit_code, "ZOC_READONLY" in result.stderr) == (2, True)
    monkeypatch.delenv("ZOC_READONLY")
    path = tmp_path / "site.yml"
    path.write_text("version: 1\nz: {plugin: zoctools, readonly: true}\nenvironments: {default: [z]}\n")
    result = CliRunner().invoke(zoc, ["--config", str(path), "go", "-n", "-r", "x"])
    assert (result.exit_code, f"read-only ({path}: z.readonly)" in result.stderr) == (2, True)


@dataclass
class Row:
    name: str
    value: float
    where: Path
    when: datetime


def test_json_is_strict_and_safe(capsys: pytest.CaptureFixture[str]) -> None:
    moment = datetime.fromtimestamp(0).astimezone()
    rows = [Row("\x1b]0;x\x07\x7f\x9b\ud800", math.nan, Path("/x"), moment), {"bytes": b"\xff", "set": {2, 1}}]
    output.print_json("zoc.test/1", rows, complete=False, taken_at=0)
    said = capsys.readouterr().out
    assert all(character == "\n" or " " <= character < "\x7f" for character in said)
    whole = json.loads(said)
    assert list(whole) == ["schema", "taken_at", "complete", "items"]
    assert (whole["schema"], whole["complete"]) == ("zoc.test/1", False)
    assert datetime.fromisoformat(whole["taken_at"]) == moment
    assert whole["items"][0]["value"] is None
    assert whole["items"][0]["name"] == "\x1b]0;x\x07\x7f\x9b\ud800"
    assert whole["items"][1] == {"bytes": "\\xff", "set": [1, 2]}


def test_tables_are_aligned_and_clean() -> None:
    lines = output.table_lines(["name", "count"], [["evil\x1b[2J\nx", 5], ["b", 1234], [None, None]])
    assert lines == ["NAME            COUNT", "evil\\x1b[2J\\nx      5", "b                1234", ""]


def test_times_have_an_offset() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", output.local_time(0))
    assert datetime.fromisoformat(output.iso_time(1.5)).timestamp() == 1.5


def test_a_question_needs_a_terminal_or_yes() -> None:
    output.confirm("really?", yes=True)
    with pytest.raises(UsageError) as caught:
        output.confirm("stop 3 services on live?", yes=False)
    assert "stop 3 services on live?" in caught.value.message
    assert "--yes" in caught.value.hint


@pytest.mark.parametrize(
    ("color", "environ", "coloured"),
    [
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {}, False),
        ("auto", {}, False),
    ],
)
def test_colour_when_not_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, color: str, environ: dict[str, str], coloured: bool
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert Session(color=color).colour() is coloured


def test_a_closed_pipe_is_quiet() -> None:
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    done = subprocess.run([*ZOC, "--help"], stdout=reader.stdin, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*ZOC, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["zoc: cannot write the output: No space left on device"]


def test_a_terminal_that_cannot_show_a_character() -> None:
    program = "from zoctools.cli import output\nfrom zoctools.cli.context import command, run\n"
    program += "@command('x')\ndef x(): output.print_line('\\u2026 \\ud800')\nrun(x, [])"
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60)
    assert done.stdout == "\\u2026 \\ud800\n", done.stderr


def test_run_answers_completion_requests(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_ZOC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "zoc conf")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run(zoc, []) == 0
    assert capsys.readouterr().out == "plain,config\n"


def test_completion_knows_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "site.yml"
    path.write_text("version: 1\nenvironments: {live: , lab: , test: }\n")
    option = next(parameter for parameter in zoc.params if parameter.name == "environment")

    def complete(start: str) -> list[str]:
        context = click.Context(zoc, obj=Session(config_path=str(path)))
        return [item.value for item in option.shell_complete(context, start)]

    assert complete("l") == ["lab", "live"]
    path.write_text("broken: [")
    assert complete("l") == []
