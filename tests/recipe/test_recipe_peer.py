"""The published `workflows` package and ours make the same of a recipe, or both refuse it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.peers import peer_python
from support.recipes import json_values, parameters, templates, valid_recipes, wild_recipes
from zoctools.errors import RecipeError
from zoctools.recipe.recipe import Recipe

SCRIPT = Path(__file__).parents[1] / "support" / "peer" / "peer_recipes.py"
REPOSITORY = Path(__file__).parents[2]
Ask = Callable[..., Any]
REFUSED = "refused"


@pytest.fixture(scope="module")
def theirs() -> Iterator[Ask]:
    """Ask the published package: returns the recipe it ends with, or `REFUSED`."""
    child = subprocess.Popen(
        [str(peer_python()), str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    assert child.stdin and child.stdout

    def ask(recipe: str, **request: Any) -> Any:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps({"recipe": recipe, **request}) + "\n")
        child.stdin.flush()
        answer = json.loads(child.stdout.readline())
        return REFUSED if "error" in answer else comparable(answer["recipe"])

    yield ask
    child.stdin.close()
    child.stdout.close()
    child.wait(30)


def comparable(recipe: Any) -> str:
    """One text for equal recipes: keys sorted, NaN equal to itself."""
    return json.dumps(json.loads(json.dumps(recipe)), sort_keys=True)


def ours(recipe: str, validate: bool = False, other: str | None = None, parameters: Any = None) -> Any:
    try:
        made = Recipe.from_text(recipe)
        if validate:
            made.validate()
        if other is not None:
            made = made.merged(Recipe.from_text(other))
        if parameters is not None:
            made = made.substituted(parameters)
        return comparable(made.to_json())
    except RecipeError:
        return REFUSED


@settings(derandomize=True, deadline=None, max_examples=250)
@given(recipe=wild_recipes())
def test_both_find_the_same_recipes_valid(theirs: Ask, recipe: Any) -> None:
    text = json.dumps(recipe)
    assert ours(text, validate=True) == theirs(text, validate=True)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(recipe=valid_recipes())
def test_both_read_a_valid_recipe_alike(theirs: Ask, recipe: Any) -> None:
    text = json.dumps(recipe)
    assert ours(text, validate=True) == theirs(text, validate=True) != REFUSED


@settings(derandomize=True, deadline=None, max_examples=120)
@given(one=valid_recipes(), other=valid_recipes())
def test_both_merge_alike(theirs: Ask, one: Any, other: Any) -> None:
    first, second = json.dumps(one), json.dumps(other)
    assert ours(first, other=second) == theirs(first, other=second) != REFUSED


@settings(derandomize=True, deadline=None, max_examples=800)
@given(template=templates(), values=parameters)
def test_both_fill_in_a_template_alike(theirs: Ask, template: str, values: Any) -> None:
    text = json.dumps({"1": {"parameters": {"field": template}}, "start": [[1, []]]})
    assert ours(text, parameters=values) == theirs(text, parameters=values)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(recipe=valid_recipes(st.one_of(templates(), st.text(max_size=5))), values=parameters)
def test_both_fill_in_a_whole_recipe_alike(theirs: Ask, recipe: Any, values: Any) -> None:
    text = json.dumps(recipe)
    assert ours(text, parameters=values) == theirs(text, parameters=values)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(payload=st.one_of(json_values, st.lists(json_values)))
def test_both_keep_what_they_do_not_know(theirs: Ask, payload: Any) -> None:
    text = json.dumps({"1": {"comment": payload, "start": payload}, "start": [[1, payload]]})
    assert ours(text, validate=True) == theirs(text, validate=True) != REFUSED


def test_the_published_package_finds_every_recipe_we_ship_valid(theirs: Ask) -> None:
    files = sorted((REPOSITORY / "recipes").glob("*.json"))
    assert files
    for file in files:
        text = file.read_text("utf-8")
        assert ours(text, validate=True) == theirs(text, validate=True) != REFUSED, file.name
