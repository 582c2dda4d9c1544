"""What the linter says, and when it is silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from support.recipes import templates, valid_recipes, wild_recipes
from zoctools.recipe import installed, lint
from zoctools.recipe.installed import Consumer
from zoctools.recipe.lint import Surroundings
from zoctools.recipe.recipe import Recipe

REPOSITORY = Path(__file__).parents[2]
WATCHER = Consumer("Watcher", ("filewatcher", "watch.two"), ("first", "select-*"), ("payload",))
AROUND = Surroundings(("known",), (WATCHER, Consumer("Open", ("open",))), ("elsewhere",))


def found(recipe: Any, around: Surroundings = AROUND) -> list[tuple[str, int | None]]:
    text = recipe if isinstance(recipe, str) else json.dumps(recipe)
    return [(finding.code, finding.node) for finding in lint.lint(text, "f.json", around)]


def one_node(**node: Any) -> dict[str, Any]:
    return {"1": {"queue": "open", **node}, "2": {"queue": "open"}, "start": [[1, []], [2, []]]}


def test_a_good_recipe_has_no_findings() -> None:
    recipe = {
        "1": {"queue": "filewatcher", "output": {"first": 2, "select-5": [2, 3], "{known}": 2}, "transport-delay": 2},
        "2": {"queue": "elsewhere", "parameters": {"a": "{ispyb_x} {guid} {known:>5}", "b": "{$REPLACE:ispyb_x}"}},
        "3": {"topic": "news", "transport-delay": "{known}"},
        "start": [[1, {"x": "{known}"}]],
    }
    assert found(recipe) == []


@pytest.mark.parametrize(
    ("recipe", "findings"),
    [
        ("[", [("invalid", None)]),
        ({"1": {"queue": "open", "output": 9}, "start": [[1, []]]}, [("invalid", None)]),
        ('{"1": {"queue": "open", "a": 1, "a": 2}, "start": [[1, []]]}', [("duplicate-key", 1)]),
        ('{"1": {"queue": "open"}, "1": {"queue": "open"}, "start": [[1, []]]}', [("duplicate-key", None)]),
        (one_node(x=[float("nan")], y={"z": float("inf")}), [("not-a-number", 1)] * 2),
        ('{"1": {"queue": "open"}, "start": [[1, 1e999]]}', [("not-a-number", 1)]),
        ({"-1": {"queue": "open"}, "start": [[-1, []]]}, [("node-name", -1)]),
        ({"1": {}, "start": [[1, []]]}, [("nowhere", 1)]),
        (one_node(queue="{known}"), [("queue-template", 1)]),
        (one_node(queue="q.{known}", topic="{known}"), [("queue-template", 1)] * 2),
        (one_node(queue="{unknown}"), [("queue-template", 1), ("unfilled", 1)]),
        (one_node(queue="a,b"), [("queue-name", 1)]),
        (one_node(queue="a.>"), [("queue-name", 1)]),
        (one_node(queue="a b"), [("queue-name", 1)]),
        (one_node(queue="nobody"), [("no-consumer", 1)]),
        (one_node(queue="filewatcher", output={"firts": 2, "select-x": 2}), [("never-sent", 1)]),
        (one_node(queue="filewatcher", output=2), []),
        (one_node(output={"whatever": 2}), []),
        (one_node(output=[2, 2]), [("sent-twice", 1)]),
        (one_node(error=2), [("unused-error", 1)]),
        ({**one_node(), "error": [2]}, [("unused-error", None)]),
        (one_node(**{"transport-delay": "soon"}), [("delay", 1)]),
        (one_node(**{"transport-delay": -1}), [("delay", 1)]),
        (one_node(p="{unknown} {unknown}"), [("unfilled", 1)]),
        (one_node(p={"{unknown}": 1}), [("unfilled", 1)]),
        (one_node(p="{unknown:5}"), [("unfilled", 1)]),
        (one_node(p="{known:{width}}"), [("unfilled", 1)]),
        (one_node(p="{payload}"), [("unfilled", 1)]),
        (one_node(queue="watch.two", p="{payload}"), []),
        (one_node(p="{$REPLACE:unknown}"), [("unfilled-replace", 1)]),
        (one_node(p="{known.x}"), [("bad-template", 1)]),
        (one_node(p="{known!z}"), [("bad-template", 1)]),
        (one_node(p="{"), [("bad-template", 1)]),
        ({"1": {"queue": "open"}, "start": [[1, {"x": "{unknown}"}]]}, [("unfilled", 1)]),
    ],
)
def test_each_doubt_is_found(recipe: Any, findings: list[tuple[str, int | None]]) -> None:
    assert found(recipe) == findings


def test_a_finding_says_where_and_what() -> None:
    finding = lint.lint(json.dumps(one_node(parameters={"a": [{"b": "{\x1b\u202e}"}]})), "f.json")[0]
    assert finding.text == r"node 1: parameters.a[0].b: nobody fills in {\x1b\u202e}"


def test_without_services_nothing_is_said_of_consumers() -> None:
    assert found(one_node(queue="nobody", output={"x": 2}), Surroundings()) == []


@settings(derandomize=True, deadline=None)
@given(recipe=valid_recipes(templates()), wild=wild_recipes())
def test_every_finding_has_a_code_and_fits_a_line(recipe: Any, wild: Any) -> None:
    for text in (json.dumps(recipe), json.dumps(wild)):
        for finding in lint.lint(text, "f.json", AROUND):
            assert finding.code in lint.CODES
            assert finding.text.isprintable()


def test_the_recipes_we_ship_are_without_doubt_but_for_what_the_mailer_fills_in() -> None:
    files = sorted((REPOSITORY / "recipes").glob("*.json"))
    assert "archive-cbfs.json" in [file.name for file in files]
    around = Surroundings(("payload", "pprint_payload"))
    for file in files:
        Recipe.from_file(file).validate(strict=True)
        assert lint.lint(file.read_bytes(), file.name, around) == []


SOURCE = '''
import no_such_module_at_all

class Watcher(Service):
    """Never imported."""
    name = "Watcher"
    queue: str | None = "filewatcher"
    outputs = ("first", "select-*")
    placeholders = ["payload"]
    computed = open("/nowhere")

    def start(self):
        self.consume(self.queue, self.process)
        self.consume("second.queue", self.other, prefetch=2)
        self.consume("second.queue", self.other)
'''


def test_what_a_service_declares_is_read_without_importing_it() -> None:
    assert installed.declared(SOURCE, "Watcher") == Consumer(
        "Watcher", ("filewatcher", "second.queue"), ("first", "select-*"), ("payload",)
    )
    assert installed.declared(SOURCE, "Nobody") is None


def test_installed_services_that_cannot_be_read_are_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib.metadata import EntryPoint

    (tmp_path / "found_service.py").write_text(SOURCE)
    (tmp_path / "broken_service.py").write_text("class Watcher(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    values = ["found_service:Watcher", "broken_service:Watcher", "no_such_module.at_all:X", "found_service:Nobody"]
    entries = [EntryPoint(str(index), value, installed.GROUP) for index, value in enumerate(values)]
    monkeypatch.setattr(installed, "entry_points", lambda group: entries)
    assert [service.name for service in installed.services()] == ["Watcher"]
