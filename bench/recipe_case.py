"""Recipe operations of zoctools: prints one JSON object of figures in microseconds."""

from __future__ import annotations

import json

from recipe_shapes import measure
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step

HEADERS = {"workflows-recipe": "True"}


def hop(body: bytes) -> None:
    step = Step.from_message(HEADERS, body)
    step.send(step.payload)


figures = measure(
    load=Recipe.from_text,
    validate=Recipe.validate,
    substitute=lambda text, values: Recipe.from_text(text).substituted(values),
    substitute_again=lambda loaded, text, values: loaded.substituted(values),
    merge=lambda one, other: Recipe.from_text(one).merged(Recipe.from_text(other)),
    hop=hop,
)
print(json.dumps(figures))
