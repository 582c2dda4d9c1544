"""Filling in templates: the table of the wire format, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from support.recipes import parameters as parameter_sets
from support.recipes import templates, valid_recipes
from zoctools.errors import RecipeError
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.templates import compiled

VALUES: dict[str, Any] = {
    "x": "3",
    "y": 7,
    "f": 2.5,
    "l": [1, 2],
    "d": {"b": "B", "l": [10, 20], "é": 1},
    "n": None,
    "t": True,
    "brace": "{x}",
    "a": "text",
    "huge": "h" * 600_000,
}


def filled(template: Any, values: dict[str, Any] | None = None) -> Any:
    recipe = Recipe({"1": {"parameters": {"field": template}}, "start": [[1, []]]})
    return recipe.substituted(VALUES if values is None else values).nodes[1]["parameters"]["field"]


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("plain", "plain"),
        ("{x}", "3"),
        ("{x}{y} and {x}", "37 and 3"),
        ("{l}", "[1, 2]"),
        ("{d}", "{'b': 'B', 'l': [10, 20], 'é': 1}"),
        ("{n}{t}", "NoneTrue"),
        ("{zz}", "{zz}"),
        ("{zz[a][b]}", "{zz[a][b]}"),
        ("{zz!r}", "{zz}"),
        ("{zz!r:>6}", "  {zz}"),
        ("{é!a}", "{\\xe9}"),
        ("{d[b]}", "B"),
        ("{d[l][1]}", "20"),
        ("{d[é]}", "1"),
        ("{a[0]}", "t"),
        ("{y:05d}", "00007"),
        ("{f:.2f}", "2.50"),
        ("{x!r}", "'3'"),
        ("{y:>{x}}", "  7"),
        ("{{x}}", "{x}"),
        ("{{{x}}}", "{3}"),
        ("{brace}", "{x}"),
        ("{$REPLACE:l}", [1, 2]),
        ("{$REPLACE:d[l]}", [10, 20]),
        ("{$REPLACE:d[b]}", "B"),
        ("{$REPLACE:y}", 7),
        ("{$REPLACE:n}", None),
        ("{$REPLACE:nokey}", None),
        ("{$REPLACE:d[nokey]}", None),
        ("{$REPLACE:d[l][x]}", RecipeError),
        ("{$REPLACE?l}", [1, 2]),
        ("{$REPLACE:y:05d}", 7),
        ("{$REPLACE:l}{x}", "3"),
        ("{$REPLACE:y!r}", "7"),
        (["{x}", ["{y}", 5]], ["3", ["7", 5]]),
        ({"{x}": {"{y}": "{zz}"}}, {"3": {"7": "{zz}"}}),
        ({"{x}": 1, "3": 2}, {"3": 2}),
        ({"{$REPLACE:x}": 1}, {"3": 1}),
    ],
)
def test_the_table_of_the_wire_format(template: Any, result: Any) -> None:
    if result is RecipeError:
        with pytest.raises(RecipeError):
            filled(template)
    else:
        assert filled(template) == result


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{a.__class__.__mro__}", "attributes are not allowed"),
        ("{a.__init__.__globals__[x]}", "attributes are not allowed"),
        ("{missing.x}", "attributes are not allowed"),
        ("{d[b].x}", "attributes are not allowed"),
        ("{$REPLACE:a.__class__}", "attributes are not allowed"),
        ("{y:{a.__class__}}", "attributes are not allowed"),
        ("{a:>300000000}", "asks for more than 1000 characters"),
        ("{a:>{width}}", "asks for more than 1000 characters"),
        ("{f:.300000000f}", "asks for more than 1000 characters"),
        ("{huge}{huge}", "longer than 1 000 000 characters"),
        ("{missing:>10}", "'missing' is not known"),
        ("{missing[0]}", "'missing' is not known"),
        ("{", "Single '{'"),
        ("}", "Single '}'"),
        ("{x", "expected '}'"),
        ("{}", "has no name"),
        ("{0}", "no numbered parameters"),
        ("{d[nokey]}", "'d' has no item 'nokey'"),
        ("{l[5]}", "'l' has no item number 5"),
        ("{l[x]}", "'l' holds nothing by the name 'x'"),
        ("{y[0]}", "'y' holds nothing by the name '0'"),
        ("{d[]}", "not a name with [keys]"),
        ("{x!q}", "!q is not a conversion"),
        ("{missing!q}", "!q is not a conversion"),
        ("{l:5d}", "cannot be formatted"),
        ("{x:{y:{x:{y:{x}}}}}", "nested too deep"),
        ("{$REPLACE:}", "has no name"),
        ("{$REPLACE:{x}}", "names no parameter"),
        ("{$REPLACE:l[9]}", "'l' has no item number 9"),
        ({"{$REPLACE:l}": 1}, "cannot be a key"),
    ],
)
def test_what_cannot_be_filled_in_names_node_and_field(template: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        filled(template, {**VALUES, "width": 300_000_000})
    assert caught.value.message.startswith("node 1: parameters.field")
    assert words in caught.value.message


def test_an_error_names_the_field_deep_inside() -> None:
    recipe = Recipe({"2": {"parameters": {"a": [{"b": ["", "{}"]}]}}, "start": [[2, []]]}, "f.json")
    with pytest.raises(RecipeError, match=r"^f\.json: node 2: parameters\.a\[0\]\.b\[1\]: \{\} has no name"):
        recipe.substituted({})
    recipe = Recipe({"2": {}, "start": [[2, {"p": "{}"}]]})
    with pytest.raises(RecipeError, match=r"^start\[0\]\.p: \{\} has no name"):
        recipe.substituted({})


def test_queues_outputs_and_starts_are_filled_in_too() -> None:
    recipe = Recipe({"1": {"queue": "q.{x}", "output": {"{x}": 2}}, "2": {}, "start": [[1, ["{y}"]]], "error": [2]})
    assert recipe.substituted(VALUES).to_json() == {
        "1": {"queue": "q.3", "output": {"3": 2}},
        "2": {},
        "start": [[1, ["7"]]],
        "error": [2],
    }


def test_a_replacement_is_a_copy() -> None:
    values: dict[str, Any] = {"l": [{"a": 1}]}
    result = filled("{$REPLACE:l}", values)
    result[0]["a"] = 2
    assert values == {"l": [{"a": 1}]}


def test_all_fillings_together_are_bounded() -> None:
    values = {"long": "x" * 900_000, "list": ["y" * 900_000]}
    for template in ("{long}", "{$REPLACE:list}", "{$REPLACE:long}", "{list}"):
        recipe = Recipe({"1": {"parameters": [template] * 100}, "start": [[1, []]]})
        with pytest.raises(RecipeError, match="larger than 16 MB"):
            recipe.substituted(values)


def test_deep_values_neither_recurse_nor_raise_anything_else() -> None:
    deep: Any = "{x}"
    for _ in range(100_000):
        deep = [deep]
    recipe = Recipe({"1": {"deep": deep}, "start": [[1, []]]})
    found = recipe.substituted({"x": "found"}).nodes[1]["deep"]
    for _ in range(100_000):
        found = found[0]
    assert found == "found"
    with pytest.raises(RecipeError, match=r"cannot be (formatted|made text)"):
        filled("{deep}", {"deep": deep})


def test_what_is_not_changed_is_shared_and_the_input_is_left_alone() -> None:
    recipe = Recipe({"1": {"same": {"a": [1, 2]}, "other": "{x}"}, "start": [[1, []]]})
    filled_in = recipe.substituted(VALUES)
    assert filled_in.nodes[1]["same"] is recipe.nodes[1]["same"]
    assert recipe.nodes[1]["other"] == "{x}"


def test_a_part_that_stands_in_two_places_is_filled_in_at_both() -> None:
    part = {"x": "{x}"}
    recipe = Recipe({"1": {"a": [part], "b": part, "c": {"d": [part]}}, "start": [[1, part]]})
    three = {"x": "3"}
    assert recipe.substituted(VALUES).nodes[1] == {"a": [three], "b": three, "c": {"d": [three]}}
    copied = filled("{$REPLACE:v}", {"v": {"a": [part], "b": part}})
    copied["b"]["x"] = copied["a"][0]["x"] = "changed"
    assert part == {"x": "{x}"}


@settings(derandomize=True, deadline=None)
@given(value=valid_recipes(templates()), values=parameter_sets)
def test_filling_in_changes_no_input_and_raises_nothing_else(value: Any, values: Any) -> None:
    recipe = Recipe(value)
    before = json.dumps([recipe.to_json(), values])
    try:
        recipe.substituted(values)
    except RecipeError as error:
        assert error.message.isprintable()
    assert json.dumps([recipe.to_json(), values]) == before


def test_templates_are_compiled_once() -> None:
    template = "{x} compiled once {y}"
    assert compiled(template) is compiled(template)
