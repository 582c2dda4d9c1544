"""Merging recipes: numbers, links, starts and errors; the inputs are left alone."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings

from support.recipes import valid_recipes
from zoctools.errors import RecipeError
from zoctools.recipe.recipe import Recipe


def test_ours_keeps_its_numbers_and_the_other_is_numbered_after_them() -> None:
    ours = Recipe({"1": {"queue": "a", "output": 5}, "5": {"queue": "b"}, "start": [[1, {"x": 1}]]})
    other = Recipe(
        {
            "3": {"queue": "d", "error": {"bad": [8]}},
            "2": {"queue": "c", "output": {"first": 3, "every": [3, 8]}},
            "8": {"topic": "t"},
            "start": [[2, []], [8, None]],
        }
    )
    assert ours.merged(other).to_json() == {
        "1": {"queue": "a", "output": [5]},
        "5": {"queue": "b"},
        "6": {"queue": "d", "error": {"bad": [8]}},
        "7": {"queue": "c", "output": {"first": 6, "every": [6, 8]}},
        "8": {"topic": "t"},
        "start": [[1, {"x": 1}], [7, []], [8, None]],
    }


def test_numbering_goes_on_at_two_even_below_zero() -> None:
    merged = Recipe({"-4": {}, "start": [[-4, []]]}).merged(Recipe({"-4": {}, "start": [[-4, []]]}))
    assert list(merged.nodes) == [-4, 2]


@pytest.mark.parametrize(
    ("ours", "theirs", "joined"),
    [(None, None, None), (1, None, 1), (None, [1], [2]), (1, 1, [1, 2]), ([1], 1, [1, 2]), ([1, 1], [1], [1, 1, 2])],
)
def test_errors_are_joined(ours: Any, theirs: Any, joined: Any) -> None:
    def with_error(error: Any) -> Recipe:
        return Recipe({"1": {}, "start": [[1, []]], **({"error": error} if error is not None else {})})

    assert with_error(ours).merged(with_error(theirs)).error == joined


def test_an_empty_recipe_adds_nothing() -> None:
    recipe = Recipe({"1": {}, "start": [[1, []]]})
    assert Recipe({}).merged(recipe) == recipe == recipe.merged(Recipe({}))
    assert not Recipe({}).merged(Recipe({}))


def test_neither_may_be_invalid() -> None:
    good = Recipe({"1": {}, "start": [[1, []]]}, "good")
    bad = Recipe({"1": {"output": 9}, "start": [[1, []]]}, "bad")
    for one, other in ((good, bad), (bad, good)):
        with pytest.raises(RecipeError, match=r"^bad: node 1: output: 9 is not defined"):
            one.merged(other)


@settings(derandomize=True, deadline=None)
@given(one=valid_recipes(), other=valid_recipes(), third=valid_recipes())
def test_merging_changes_no_input_and_gives_a_valid_recipe(one: Any, other: Any, third: Any) -> None:
    recipes = [Recipe(value) for value in (one, other, third)]
    before = [json.dumps(copy.deepcopy(recipe.to_json())) for recipe in recipes]
    merged = recipes[0].merged(recipes[1]).merged(recipes[2])
    Recipe(merged.to_json()).validate()
    assert len(merged.nodes) == sum(len(recipe.nodes) for recipe in recipes)
    assert len(merged.start) == sum(len(recipe.start) for recipe in recipes)
    assert [json.dumps(recipe.to_json()) for recipe in recipes] == before
