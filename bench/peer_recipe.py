"""Recipe operations of the published `workflows` package; run by the peers' Python, prints as `recipe_case.py` does."""

from __future__ import annotations

import json

from workflows.recipe import Recipe, RecipeWrapper

from recipe_shapes import measure


class Transport:
    """Encodes what is sent, as `workflows` transports do, and drops it."""

    def send(self, queue, message, **headers):
        return json.dumps(message)


def hop(body: bytes) -> None:
    wrapper = RecipeWrapper(message=json.loads(body), transport=Transport())
    wrapper.send(wrapper.payload)


figures = measure(
    load=Recipe,
    validate=Recipe.validate,
    substitute=lambda text, values: Recipe(text).apply_parameters(values),
    substitute_again=lambda loaded, text, values: Recipe(text).apply_parameters(values),
    merge=lambda one, other: Recipe(one).merge(Recipe(other)),
    hop=hop,
)
print(json.dumps(figures))
