"""What the published `workflows` package makes of recipes: one JSON request a line, one JSON answer a line.

Run by the peers' Python. A request is {"recipe": text, "other": text?, "parameters": object?}: the recipe is loaded
and validated, merged with the other one, and filled in. The answer is {"recipe": ...} or {"error": "..."}.
"""

from __future__ import annotations

import json
import sys

from workflows.recipe import Recipe


def answer(request: dict) -> dict:
    try:
        recipe = Recipe(request["recipe"])
        if request.get("validate"):
            recipe.validate()
        if request.get("other") is not None:
            recipe = recipe.merge(Recipe(request["other"]))
        if request.get("parameters") is not None:
            recipe.apply_parameters(request["parameters"])
        return {"recipe": json.loads(json.dumps(recipe.recipe))}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
