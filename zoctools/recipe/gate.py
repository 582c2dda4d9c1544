"""The one gate before every handler: what a message body must be to be one step of a recipe.

A hop needs the pointer and one node, but the recipe travels in every message. The recipes of the last messages are
therefore kept with their text: where the same text comes again, it is neither decoded nor, when sent on, written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoctools.errors import RecipeError
from zoctools.recipe import envelope
from zoctools.recipe.envelope import BadMessage
from zoctools.recipe.recipe import Recipe

_KEPT = 8
_KEPT_LENGTH = 250_000
_recent: tuple[Recipe, ...] = ()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A recipe message, opened. `recipe` may be shared with other messages: it must not be changed."""

    recipe: Recipe
    pointer: int
    path: tuple[int, ...]
    environment: dict[str, Any]
    payload: Any


def opened(body: bytes) -> Envelope:
    """Open the body of a recipe message; raises `BadMessage` (not-utf-8, not-json, bad-envelope)."""
    if not body:
        raise BadMessage("bad-envelope", "the body is empty")
    recipe, values = _members(envelope.to_unicode(body))
    for key in ("recipe", "recipe-pointer"):
        if key not in values:
            raise BadMessage("bad-envelope", f"{key} is missing")
    if recipe is None:
        recipe = _recipe(values["recipe"], "")
    pointer = _pointer(values["recipe-pointer"])
    if pointer not in recipe.nodes:
        raise BadMessage("bad-envelope", f"recipe-pointer: the recipe has no node {pointer}")
    environment = values.get("environment", {})
    if not isinstance(environment, dict):
        raise BadMessage("bad-envelope", "environment must be an object")
    return Envelope(recipe, pointer, _path(values.get("recipe-path", [])), environment, values.get("payload"))


def _members(text: str) -> tuple[Recipe | None, dict[str, Any]]:
    """Return the members of an envelope, and its recipe where its text could be told apart from the rest."""
    recipes: list[Recipe] = []

    def read_recipe(position: int) -> tuple[None, int]:
        recipe, end = _recipe_at(text, position)
        recipes.append(recipe)
        return None, end

    try:
        values = envelope.read_object(text, "recipe", read_recipe)
        return (recipes[-1] if recipes else None), values
    except ValueError:
        pass
    try:
        decoded = envelope.from_text(text)
    except ValueError as error:
        raise BadMessage("not-json", f"the body is not JSON: {error}") from None
    if not isinstance(decoded, dict):
        raise BadMessage("bad-envelope", f"the body is a {type(decoded).__name__}, not an object")
    return None, decoded


def _recipe_at(text: str, position: int) -> tuple[Recipe, int]:
    """Return the recipe whose JSON begins at `position`, and where it ends.

    A JSON object ends where its brace closes: where the text of one goes on as one we know, it is that one.
    """
    global _recent
    for known in _recent:
        if text.startswith(known.wire, position):
            return known, position + len(known.wire)
    value, end = envelope.value_at(text, position)
    recipe = _recipe(value, text[position:end])
    if end - position <= _KEPT_LENGTH:
        _recent = (recipe, *_recent[: _KEPT - 1])
    return recipe, end


def _recipe(value: Any, text: str) -> Recipe:
    try:
        return Recipe.on_the_wire(value, text) if text else Recipe(value)
    except RecipeError as error:
        raise BadMessage("bad-envelope", f"recipe: {error.message}") from None


def _pointer(value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadMessage("bad-envelope", "recipe-pointer must be a node number") from None


def _path(value: Any) -> tuple[int, ...]:
    if value == []:
        return ()
    try:
        if not isinstance(value, list) or any(isinstance(number, bool) for number in value):
            raise TypeError
        return tuple([int(number) for number in value])
    except (TypeError, ValueError, OverflowError):
        raise BadMessage("bad-envelope", "recipe-path must be a list of node numbers") from None
