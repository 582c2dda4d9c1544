"""Reading and checking recipes: the bad inputs of group A, each with the words its author needs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.recipes import json_values, valid_recipes
from zoctools.errors import BadFile, RecipeError
from zoctools.recipe import validation
from zoctools.recipe.recipe import MAX_FILE, Recipe

BAD = {
    "A1 empty file": ("", "f.json: the recipe is empty"),
    "A1 blanks": (" \n", "f.json: the recipe is empty"),
    "A2 torn": ("{", "f.json: line 1, column 2"),
    "A2 torn later": ('{"1": {},\n  "start": [[1, []]', "f.json: line 2, column"),
    "A3 null": ("null", "f.json: a recipe must be an object"),
    "A4 list": ("[]", "f.json: a recipe must be an object"),
    "A4 text": ('"recipe"', "f.json: a recipe must be an object"),
    "A5 no node": ("{}", "no start node"),
    "no start": ('{"1": {}}', "f.json: no start node"),
    "start empty": ('{"1": {}, "start": []}', "f.json: start is empty"),
    "A6 name": ('{"abc": {}}', "'abc': node names must be numbers"),
    "A6 fraction": ('{"1.5": {}}', "'1.5': node names must be numbers"),
    "A8 twice": ('{"1": {}, "1": {}, "start": [[1, []]]}', "f.json: node 1 given twice"),
    "A8 start twice": ('{"1": {}, "start": [[1, []]], "start": [[1, []]]}', "f.json: 'start' given twice"),
    "A8 inside": (
        '{"1": {"parameters": {"x": {"y": 1, "y": 2}}}, "start": [[1, []]]}',
        "node 1: parameters.x: 'y' given",
    ),
    "A9 number": ('{"1": 5}', "f.json: node 1 must be an object"),
    "A9 text": ('{"1": "queue"}', "f.json: node 1 must be an object"),
    "A10 start": ('{"1": {}, "start": 5}', "f.json: start must be [[node, payload], ...]"),
    "A11 flat": ('{"1": {}, "start": [1]}', "f.json: start must be [[node, payload], ...]"),
    "A11 flatter": ('{"1": {}, "start": [1, []]}', "f.json: start must be [[node, payload], ...]"),
    "start text": ('{"1": {}, "start": [["1", []]]}', 'f.json: start: "1" is not a node number'),
    "start itself": ('{"1": {}, "start": [["start", []]]}', "f.json: start points to itself"),
    "start nowhere": ('{"1": {}, "start": [[2, []]]}', "f.json: start: 2 is not defined"),
    "A12 cycle": ('{"1": {"output": 2}, "2": {"output": 1}, "start": [[1, []]]}', "f.json: cycle 1 -> 2 -> 1"),
    "A12 loop": ('{"1": {"output": 1}, "start": [[1, []]]}', "f.json: cycle 1 -> 1"),
    "A12 error": ('{"1": {"error": 2}, "2": {"output": 1}, "start": [[1, []]]}', "f.json: cycle 1 -> 2 -> 1"),
    "A13 absent": ('{"1": {"output": 9}, "start": [[1, []]]}', "f.json: node 1: output: 9 is not defined"),
    "A13 named": ('{"3": {"output": {"every": [9]}}, "start": [[3, []]]}', "node 3: output 'every': 9 is not defined"),
    "A14 text": ('{"1": {"output": {"a": "1"}}, "start": [[1, []]]}', "node 1: output 'a': \"1\" is not a node number"),
    "A15 true": ('{"1": {"output": true}, "start": [[1, []]]}', "node 1: output: true is not a node number"),
    "output null": ('{"1": {"output": null}, "start": [[1, []]]}', "node 1: output: null is not a node number"),
    "output 2.0": ('{"1": {"output": 2.0}, "start": [[1, []]]}', "node 1: output: 2.0 is not a node number"),
    "output lists": ('{"1": {"output": [[1]]}, "start": [[1, []]]}', "node 1: output: this is not a node number"),
    "A16 unreached": ('{"1": {}, "2": {}, "start": [[1, []]]}', "f.json: node 2 is never reached"),
    "unsendable null": (
        '{"1": {"output": {"a": null}}, "start": [[1, []]]}',
        "node 1: output 'a': null leads to no node",
    ),
    "unsendable object": (
        '{"1": {"output": {"a": {"b": 2}}}, "2": {}, "start": [[1, []]]}',
        "node 1: output 'a': an object leads to no node",
    ),
    "unsendable queue": ('{"1": {"queue": 5}, "start": [[1, []]]}', "node 1: queue must be text"),
    "error word": ('{"1": {}, "start": [[1, []]], "error": "restart"}', "error points to start"),
    "error itself": ('{"1": {}, "start": [[1, []]], "error": ["error"]}', "error points to itself"),
    "error object": ('{"1": {}, "start": [[1, []]], "error": {"a": 1}}', "error must be a node number"),
    "A20 deep": ("[" * 100_000, "f.json: nested too deep"),
    "A20 deep object": ('{"a":' * 100_000, "f.json: nested too deep"),
    "A20 rather deep": ('{"1": {"x": ' + "[" * 600 + "]" * 600 + '}, "start": [[1, []]]}', "f.json: nested too deep"),
    "byte order mark": ('\ufeff{"1": {}}', "f.json: line 1, column 1"),
    "control characters": ('{"1": {"output": {"\\u001b[2J": 9}}, "start": [[1, []]]}', r"node 1: output '\x1b[2J'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_recipe_is_refused_in_words(case: str) -> None:
    text, words = BAD[case]
    with pytest.raises(RecipeError) as caught:
        Recipe.from_text(text, "f.json").validate(strict=True)
    assert words in caught.value.message
    assert caught.value.message.startswith("f.json: ")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) <= 600


@pytest.mark.parametrize(
    "text",
    [
        '{"-1": {"queue": "a"}, "start": [[-1, []]]}',
        '{" 2 ": {}, "1_0": {}, "start": [[2, []], [10, []]]}',
        '{"0": {}, "start": [[0, []]]}',
        '{"1": {}, "start": [[1, []]]}',
        '{"1": {"queue": "{anything}"}, "start": [[1, NaN]]}',
        '{"1": {"output": [2, 2]}, "2": {}, "start": [[1, []]]}',
        '{"1": {}, "2": {}, "start": [[1, []]], "error": 2}',
        '{"1": {"error": null}, "start": [[1, []]]}',
    ],
)
def test_what_the_existing_dispatcher_runs_is_valid(text: str) -> None:
    Recipe.from_text(text).validate(strict=True)


def test_of_a_key_given_twice_the_last_counts_unless_strict() -> None:
    recipe = Recipe.from_text('{"1": {"queue": "a"}, "1": {"queue": "b"}, "start": [[1, []]]}')
    recipe.validate()
    assert recipe.nodes[1] == {"queue": "b"}


def test_a_key_given_twice_is_found_in_what_another_key_replaces() -> None:
    text = '{"1": {"x": 1, "x": 2}, "1": {"queue": "a"}, "start": [[1, []]]}'
    assert sorted(key for _, key in Recipe.from_text(text).keys_given_twice()) == ["1", "x"]


def test_an_output_is_read_as_the_existing_loader_does() -> None:
    recipe = Recipe({"1": {"output": 2}, "2": {"output": {"a": 3}}, "3": {}, "start": [[1, []]]})
    assert recipe.nodes[1]["output"] == [2]
    assert recipe.nodes[2]["output"] == {"a": 3}


def test_what_is_given_is_not_changed() -> None:
    given_recipe = {"1": {"output": 2}, "2": {}, "start": [[1, []]]}
    before = json.dumps(given_recipe)
    Recipe(given_recipe).validate()
    assert json.dumps(given_recipe) == before


def diamonds(layers: int) -> dict[str, Any]:
    """Two ways through each of so many layers: 2 to the power of `layers` paths."""
    recipe: dict[str, Any] = {"start": [[1, []]]}
    for layer in range(layers):
        first = 3 * layer + 1
        recipe[str(first)] = {"output": [first + 1, first + 2]}
        recipe[str(first + 1)] = recipe[str(first + 2)] = {"output": first + 3}
    recipe[str(3 * layers + 1)] = {}
    return recipe


def test_validation_looks_at_each_node_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    original = validation.links_of

    def counting(recipe: Recipe, number: int) -> list[int]:
        looked_at.append(number)
        return original(recipe, number)

    monkeypatch.setattr(validation, "links_of", counting)
    Recipe(diamonds(200)).validate()
    assert sorted(looked_at) == list(range(1, 602))


def chain(length: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {str(number): {"output": number + 1} for number in range(1, length)}
    return {**nodes, str(length): {}, "start": [[1, []]]}


def test_a_chain_may_have_a_thousand_nodes_and_no_more() -> None:
    Recipe(chain(1000)).validate()
    with pytest.raises(RecipeError, match="more than 1 000 nodes"):
        Recipe(chain(2000)).validate()


def test_a_long_cycle_is_named_in_short() -> None:
    nodes = chain(900)
    nodes["900"] = {"output": 1}
    with pytest.raises(RecipeError) as caught:
        Recipe(nodes).validate()
    assert "cycle 1 -> 2 -> " in caught.value.message
    assert "..." in caught.value.message
    assert caught.value.message.endswith("899 -> 900 -> 1")


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as sparse:
        sparse.truncate(200_000_000)
    with pytest.raises(RecipeError, match="larger than 16 MB"):
        Recipe.from_file(file)


def test_a_large_text_is_refused() -> None:
    with pytest.raises(RecipeError, match="larger than 16 MB"):
        Recipe.from_text(" " * (MAX_FILE + 1))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("nothing.json", "No such file"), (".", "not a file"), ("pipe", "not a file")):
        with pytest.raises(BadFile, match=words):
            Recipe.from_file(tmp_path / name)


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(RecipeError, match="byte 2 is not UTF-8"):
        Recipe.from_text(b'{"\xff": 1}')


@settings(derandomize=True, deadline=None)
@given(value=valid_recipes())
def test_a_recipe_survives_being_written_and_read(value: Any) -> None:
    recipe = Recipe.from_text(json.dumps(value))
    again = Recipe.from_text(json.dumps(recipe.to_json()))
    assert json.dumps(again.to_json(), sort_keys=True) == json.dumps(recipe.to_json(), sort_keys=True)
    assert json.dumps(json.loads(recipe.wire), sort_keys=True) == json.dumps(recipe.to_json(), sort_keys=True)
    assert list(again.nodes) == list(recipe.nodes)


@settings(derandomize=True, deadline=None)
@given(text=st.one_of(st.text(max_size=60), json_values.map(json.dumps), st.binary(max_size=40)))
def test_no_text_brings_anything_but_a_recipe_error(text: str | bytes) -> None:
    try:
        Recipe.from_text(text).validate(strict=True)
    except RecipeError as error:
        assert error.message
