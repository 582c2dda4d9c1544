"""What the Dispatcher is asked for: recipes by name or in the message itself, and the parameters to fill them with."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoctools.logbook import is_recipe_id
from zoctools.recipe.directory import is_recipe_name
from zoctools.service.service import Reject
from zoctools.text import one_line

EXPIRATION = "dispatcher_expiration"
TIMEOUT = 120.0
"""Seconds a request may wait until it is ready, unless it says so itself."""
MOST_RECIPES = 100
LONGEST = 3.2e9

_QUEUE = re.compile(r"[^\s,*>\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be dealt with. `supplied` says that it brought its recipe ID along."""

    message: Mapping[str, Any]
    parameters: Mapping[str, Any]
    recipe_ID: str
    supplied: bool

    @classmethod
    def of(cls, message: Any) -> Request:
        """Read a request, and give it a recipe ID if it has none; raises `Reject` with a sentence.

        The message given is not changed; ours has the recipe ID among its parameters.
        """
        if not isinstance(message, dict):
            raise Reject(f"a request must be an object with recipes and parameters, not {_kind(message)}")
        parameters = message.get("parameters", {})
        if not isinstance(parameters, dict):
            raise Reject(f"parameters must be an object, not {_kind(parameters)}")
        given = parameters.get("guid")
        if given is not None and not isinstance(given, str):
            raise Reject(f"guid must be text, a UUID, not {_kind(given)}")
        if given and not is_recipe_id(given):
            raise Reject(f"bad guid {one_line(given, 80)!r}: it must be a UUID, or 3 to 64 letters, digits and hyphens")
        recipe_names(message)
        custom_recipe(message)
        recipe_ID = given or str(uuid.uuid4())
        parameters = {**parameters, "guid": recipe_ID}
        return cls({**message, "parameters": parameters}, parameters, recipe_ID, bool(given))

    def waiting_until(self, now: float) -> float:
        """Return the epoch time at which waiting for it to become ready ends; raises `Reject`."""
        expiration = self.parameters.get(EXPIRATION)
        if expiration is not None:
            return _number(EXPIRATION, expiration)
        return now + _number("dispatcher_timeout", self.parameters.get("dispatcher_timeout", TIMEOUT))

    def expiring(self, at: float) -> dict[str, Any]:
        """Return the message to send back to the queue, in which the end of waiting is noted."""
        return {**self.message, "parameters": {**self.parameters, EXPIRATION: at}}

    @property
    def error_queue(self) -> str:
        """The queue that takes the request if it never becomes ready; empty for none. Raises `Reject`."""
        name = self.parameters.get("dispatcher_error_queue")
        if not name:
            return ""
        if not isinstance(name, str) or not _QUEUE.fullmatch(name):
            raise Reject(f"dispatcher_error_queue is not the name of a queue: {one_line(name, 80)!r}")
        return name


def recipe_names(message: Mapping[str, Any]) -> list[str]:
    """Return the recipes a request names; raises `Reject`."""
    names = message.get("recipes", [])
    if not isinstance(names, list):
        raise Reject(f"recipes must be a list of names, not {_kind(names)}")
    if len(names) > MOST_RECIPES:
        raise Reject(f"the request names {len(names)} recipes; more than {MOST_RECIPES} are a mistake")
    for name in names:
        if not is_recipe_name(name):
            raise Reject(f"bad recipe name {one_line(name, 80)!r}: letters, digits, '.', '_' and '-', and no path")
    return names


def custom_recipe(message: Mapping[str, Any]) -> dict[str | int, Any] | None:
    """Return the recipe that a request brings along; raises `Reject`."""
    given = message.get("custom_recipe")
    if not given:
        return None
    if not isinstance(given, dict):
        raise Reject(f"custom_recipe must be a recipe, not {_kind(given)}")
    return given


def _number(name: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= LONGEST:
        raise Reject(f"{name} is not a time in seconds: {one_line(repr(value), 80)}")
    return number


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
