"""`zoc recipe`: every verb as a shell sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from zoctools.cli.context import Session
from zoctools.cli.recipe import recipe
from zoctools.logbook import Logbook, Record
from zoctools.recipe import installed
from zoctools.recipe.installed import Consumer
from zoctools.settings import Settings

Run = Callable[..., Result]
GOOD = {
    "1": {
        "queue": "watch",
        "service": "Watcher",
        "parameters": {"p": "{x}", "q": "{$REPLACE:l}"},
        "output": {"first": 2},
    },
    "2": {"queue": "mail"},
    "start": [[1, []]],
}
RECIPE_ID = "42ee2fdd-589b-4f5e-b13f-3e00c819dab4"


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed on this machine is no matter of these tests."""
    monkeypatch.setattr(installed, "services", list)


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    directory = tmp_path / "recipes"
    directory.mkdir()
    (directory / "good.json").write_text(json.dumps(GOOD))
    return directory


@pytest.fixture
def run(recipes: Path, tmp_path: Path) -> Run:
    """Call `zoc recipe` where `recipes` is configured, and a logbook."""

    def call(*words: str, stdin: str | None = None, queues: tuple[str, ...] = ()) -> Result:
        storage = {
            "zocalo.recipe_directory": str(recipes),
            "zocalo.dispatcher.logbook_location": str(tmp_path / "logbook"),
        }
        session = Session(_settings=Settings(storage=storage, queues=queues))
        return CliRunner().invoke(recipe, words, obj=session, input=stdin)

    return call


def items(result: Result) -> list[dict[str, Any]]:
    """The items of a `--json` answer, its frame checked."""
    whole = json.loads(result.stdout)
    assert list(whole) == ["schema", "taken_at", "complete", "items"]
    assert whole["schema"].startswith("zoc.recipe.")
    assert whole["complete"] is True
    return whole["items"]


def test_list_shows_what_there_is_and_what_is_wrong_with_it(run: Run, recipes: Path) -> None:
    (recipes / "torn.json").write_text("{")
    (recipes / "not a recipe name.json").write_text("{}")
    result = run("list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["RECIPE", "good", "torn"]
    assert "watch, mail" in lines[1]
    assert "line 1, column 2" in lines[2]
    assert "2 recipes in" in result.stderr
    found = items(run("list", "--json"))
    assert [(item["name"], item["nodes"], item["queues"]) for item in found] == [
        ("good", 2, ["watch", "mail"]),
        ("torn", 0, []),
    ]
    assert found[0]["error"] is None
    assert found[1]["error"].startswith("line 1, column 2")


def test_list_of_a_directory_that_is_not_there(run: Run, recipes: Path) -> None:
    (recipes / "good.json").unlink()
    recipes.rmdir()
    result = run("list")
    assert result.exit_code == 2
    assert "cannot be read: No such file" in result.stderr


def test_show_by_name_by_file_and_from_standard_input(run: Run, recipes: Path) -> None:
    shown = {**GOOD}
    for result in (
        run("show", "good"),
        run("show", str(recipes / "good.json")),
        run("show", "-", stdin=json.dumps(GOOD)),
    ):
        assert result.exit_code == 0
        assert json.loads(result.stdout) == shown
    item = items(run("show", "--json", "good"))[0]
    assert (item["name"], item["file"], item["recipe"]) == ("good", str(recipes / "good.json"), shown)


def test_show_what_nobody_has(run: Run) -> None:
    result = run("show", "goood")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no recipe 'goood'" in result.stderr
    assert "did you mean 'good'?" in result.stderr


def test_validate_what_is_not_there_is_a_mistake_of_the_caller(run: Run) -> None:
    assert run("validate", "goood").exit_code == 2
    assert run("validate", "nowhere.json").exit_code == 2


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "nowhere.json", ""])
def test_show_reads_nothing_but_recipes(run: Run, recipes: Path, name: str) -> None:
    (recipes.parent / "secret.json").write_text(json.dumps(GOOD))
    result = run("show", name)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.fixture
def logged(tmp_path: Path) -> Record:
    record = Record(RECIPE_ID, {"h": "1"}, {"recipes": ["good"]}, {"parameters": {}}, {"1": {"queue": "\x1b[2J"}})
    Logbook(tmp_path / "logbook").write(record)
    return record


@pytest.mark.parametrize("word", [RECIPE_ID, RECIPE_ID[:8]])
def test_show_an_id_from_the_logbook(run: Run, logged: Record, word: str) -> None:
    result = run("show", word)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Recipe {RECIPE_ID} (")
    titles = ["Incoming message header:", "Incoming message body:", "Parsed message body:", "Recipe object:"]
    assert [line for line in result.stdout.splitlines() if line.endswith(":")] == titles
    assert "\x1b" not in result.stdout
    item = items(run("show", "--json", word))[0]
    assert (item["recipe_ID"], item["incoming"], item["recipe"]) == (RECIPE_ID, logged.incoming, logged.recipe)


def test_show_only_the_request(run: Run, logged: Record) -> None:
    result = run("show", "--only-incoming", RECIPE_ID)
    assert "Incoming message body:" in result.stdout
    assert "Recipe object:" not in result.stdout
    assert "recipe" not in items(run("show", "--only-incoming", "--json", RECIPE_ID))[0]
    assert run("show", "--only-incoming", "good").exit_code != 0


def test_show_an_id_nobody_knows(run: Run, logged: Record) -> None:
    result = run("show", "00000000-589b-4f5e-b13f-3e00c819dab4")
    assert result.exit_code == 1
    assert "no recipe 00000000-589b-4f5e-b13f-3e00c819dab4 in the logbook" in result.stderr


def test_validate_names_what_is_wrong_and_says_so_with_its_exit_code(run: Run, tmp_path: Path) -> None:
    bad, twice = tmp_path / "bad.json", tmp_path / "twice.json"
    bad.write_text('{"1": {"output": {"every": [9]}}, "start": [[1, []]]}')
    twice.write_text('{"1": {}, "1": {}, "start": [[1, []]]}')
    assert run("validate", "good").exit_code == 0
    assert run("validate", "good").stdout == ""
    result = run("validate", "good", str(bad), str(twice))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{bad}: node 1: output 'every': 9 is not defined",
        f"{twice}: node 1 given twice",
    ]
    assert "3 recipes: 2 not valid" in result.stderr
    assert [item["valid"] for item in items(run("validate", "--json", "good", str(bad)))] == [True, False]


def test_validate_standard_input(run: Run) -> None:
    assert run("validate", "-", stdin=json.dumps(GOOD)).exit_code == 0
    result = run("validate", "-", stdin="")
    assert (result.exit_code, result.stdout) == (1, "standard input: the recipe is empty\n")


def test_validate_needs_no_configuration_for_a_file(recipes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOCALO_CONFIG", str(recipes / "no such configuration"))
    assert CliRunner().invoke(recipe, ["validate", str(recipes / "good.json")]).exit_code == 0


def test_validate_a_file_that_is_not_there_or_too_large(run: Run, tmp_path: Path) -> None:
    assert run("validate", str(tmp_path / "none.json")).exit_code == 2
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(200_000_000)
    result = run("validate", str(tmp_path / "large.json"))
    assert result.exit_code == 1
    assert "larger than 16 MB" in result.stdout


def test_lint(run: Run, recipes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run("lint", "good")
    file = recipes / "good.json"
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}: node 1: parameters.p: nobody fills in {{x}} [unfilled]",
        f"{file}: node 1: parameters.q: nobody knows 'l', so it becomes null [unfilled-replace]",
    ]
    parameters = tmp_path / "parameters.json"
    parameters.write_text('{"l": [1]}')
    assert run("lint", "good", "-s", "x", "--parameters", str(parameters)).exit_code == 0
    assert run("lint", "good", "--ignore", "unfilled", "--ignore", "unfilled-replace").exit_code == 0
    found = items(run("lint", "--json", "good"))
    assert [(item["code"], item["node"]) for item in found] == [("unfilled", 1), ("unfilled-replace", 1)]
    monkeypatch.setattr(installed, "services", lambda: [Consumer("Watcher", ("watch",), ("last",))])
    codes = [item["code"] for item in items(run("lint", "--json", "good", "-s", "x=1", "-s", "l"))]
    assert codes == ["never-sent", "no-consumer"]
    assert len(items(run("lint", "--json", "good", "-s", "x", "-s", "l", queues=("mail",)))) == 1


def test_graph(run: Run) -> None:
    assert run("graph", "good").stdout == "start\n└─ 1 watch  (Watcher)\n   └─ first → 2 mail\n"
    assert run("graph", "good", "--format", "dot").stdout.startswith("digraph recipe {")
    assert run("graph", "good", "--format", "mermaid").stdout.startswith("flowchart TD")
    assert items(run("graph", "--json", "good")) == [
        {"from": "start", "output": None, "to": 1},
        {"from": 1, "output": "first", "to": 2},
    ]


def test_expand(run: Run, tmp_path: Path) -> None:
    parameters = tmp_path / "request.json"
    parameters.write_text('{"parameters": {"l": [1, 2], "x": "outranked"}, "recipes": []}')
    result = run("expand", "good", "-s", "x=a=b", "--parameters", str(parameters))
    assert json.loads(result.stdout)["1"]["parameters"] == {"p": "a=b", "q": [1, 2]}
    assert result.stderr == ""
    result = run("expand", "good", "good")
    assert list(json.loads(result.stdout)) == ["1", "2", "3", "4", "start"]
    assert result.stderr == "not filled in: x, l\n"
    item = items(run("expand", "--json", "good"))[0]
    assert item["not_filled_in"] == ["x", "l"]
    assert item["recipe"]["1"]["parameters"] == {"p": "{x}", "q": None}


def test_expand_names_what_cannot_be_filled_in(run: Run) -> None:
    text = json.dumps({"1": {"queue": "q", "x": "{a.__class__}"}, "start": [[1, []]]})
    result = run("expand", "-", "-s", "a=1", stdin=text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "standard input: node 1: x: attributes are not allowed" in result.stderr


@pytest.mark.parametrize(
    ("content", "words"), [("[1]", "parameters must be an object"), ("{", "not JSON"), ("[" * 100_000, "not JSON")]
)
def test_expand_with_a_bad_file_of_parameters(run: Run, tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "parameters.json"
    file.write_text(content)
    result = run("expand", "good", "--parameters", str(file))
    assert result.exit_code == 2
    assert words in result.stderr


def test_expand_with_what_is_no_assignment(run: Run) -> None:
    result = run("expand", "good", "-s", "x")
    assert result.exit_code == 2
    assert "not KEY=VALUE" in result.stderr


def test_no_control_byte_of_a_recipe_reaches_the_terminal(run: Run) -> None:
    text = json.dumps(
        {"1": {"queue": "\x1b]0;pwn\x07", "service": "\x9b31m\u202e", "x": "{\x7f}"}, "start": [[1, "\x1b[2J"]]},
        ensure_ascii=False,
    ).replace("\x7f", "\\u007f")
    for words in (
        ["show", "-"],
        ["graph", "-"],
        ["lint", "-"],
        ["expand", "-"],
        ["validate", "-"],
        ["show", "--json", "-"],
    ):
        result = run(*words, stdin=text)
        for line in result.output.splitlines():
            assert line.isprintable(), (words, line)
