"""Recipes for tests: strategies that make them, and a few in which every test can read what is wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

NAMES = ("x", "y", "list", "deep", "a b", "é", "nobody", "-1")
"""Names in templates; all but ``nobody`` may be parameters."""

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=8),
)
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.sampled_from(NAMES)), inner, max_size=3),
    ),
    max_leaves=6,
)
parameters = st.dictionaries(st.sampled_from([name for name in NAMES if name != "nobody"]), json_values, max_size=6)


def recipe_text(value: Any) -> str:
    """Return the JSON text of a recipe."""
    return json.dumps(value)


def _links(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    return st.one_of(numbers, st.lists(numbers, max_size=3))


def _outputs(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    named = st.dictionaries(st.sampled_from(["first", "every", "{x}"]), _links(numbers), max_size=2)
    return st.one_of(_links(numbers), named)


@st.composite
def valid_recipes(draw: st.DrawFn, texts: st.SearchStrategy[str] | None = None) -> dict[str, Any]:
    """Recipes that are valid: every node but the last may lead to later ones, and all that nobody leads to start."""
    words = texts if texts is not None else st.text(max_size=8)
    numbers = sorted(draw(st.sets(st.sampled_from([-3, 1, 2, 3, 4, 7, 10]), min_size=1, max_size=5)))
    recipe: dict[str, Any] = {}
    reached: set[int] = set()
    for index, number in enumerate(numbers):
        node: dict[str, Any] = {"queue": draw(words)}
        later = numbers[index + 1 :]
        if later and draw(st.booleans()):
            node["output"] = draw(_outputs(st.sampled_from(later)))
            reached |= set(_flat(node["output"]))
        if later and draw(st.integers(0, 3)) == 0:
            node["error"] = draw(_outputs(st.sampled_from(later)))
            reached |= set(_flat(node["error"]))
        if draw(st.booleans()):
            node["parameters"] = draw(
                st.dictionaries(words, st.one_of(words, json_values, st.lists(words, max_size=2)), max_size=3)
            )
        recipe[str(number)] = node
    starts = [number for number in numbers if number not in reached]
    recipe["start"] = [[number, draw(st.one_of(json_values, words))] for number in draw(st.permutations(starts))]
    if draw(st.integers(0, 3)) == 0:
        recipe["error"] = draw(st.lists(st.sampled_from(numbers), max_size=2))
    return {key: recipe[key] for key in draw(st.permutations(list(recipe)))}


def _flat(links: Any) -> list[int]:
    if isinstance(links, dict):
        return [link for inner in links.values() for link in _flat(inner)]
    return links if isinstance(links, list) else [links]


_odd_links = st.one_of(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["2", 2.5, "start", "x"]))


@st.composite
def wild_recipes(draw: st.DrawFn) -> Any:
    """Recipes that may break any rule which the published validator knows, in the forms on which we agree with it."""
    names = draw(
        st.lists(st.sampled_from(["1", "2", "3", "4", " 5 ", "-1", "1_0", "x", "1.5"]), max_size=5, unique=True)
    )
    recipe: dict[str, Any] = {}
    for name in names:
        node: dict[str, Any] = {}
        if draw(st.booleans()):
            node["output"] = draw(st.one_of(_outputs(_odd_links), st.none()))
        if draw(st.integers(0, 4)) == 0:
            node["error"] = draw(_outputs(_odd_links))
        recipe[name] = node
    pair = st.tuples(_odd_links, json_values).map(list)
    odd_start = st.sampled_from([[], 5, [1], [[1]], [["start", []]], [[1, [], 2]], {}])
    if draw(st.integers(0, 5)):
        recipe["start"] = draw(st.one_of(st.lists(pair, min_size=1, max_size=2), st.lists(pair, min_size=1), odd_start))
    if draw(st.integers(0, 5)) == 0:
        recipe["error"] = draw(st.lists(_odd_links, max_size=2))
    return recipe


@st.composite
def _specs(draw: st.DrawFn) -> str:
    pieces = st.sampled_from(
        ["<", ">", "^", "+", "0", "5", "12", "d", "s", "x", ".2", "f", ",", "{x}", "{nobody}", "{y}"]
    )
    return "".join(draw(st.lists(pieces, max_size=4)))


@st.composite
def fields(draw: st.DrawFn) -> str:
    """The inside of a placeholder: a name, keys, a conversion, a specification; no attributes."""
    text = draw(st.sampled_from(NAMES))
    for _ in range(draw(st.integers(0, 2))):
        text += f"[{draw(st.sampled_from([*NAMES, '0', '1', '5']))}]"
    if draw(st.integers(0, 3)) == 0:
        text += "!" + draw(st.sampled_from(["r", "s", "a", "q"]))
    if draw(st.integers(0, 3)) == 0:
        text += ":" + draw(_specs())
    return text


@st.composite
def templates(draw: st.DrawFn) -> str:
    """Texts with placeholders, good and bad."""
    if draw(st.integers(0, 3)) == 0:
        mark = draw(st.sampled_from([":", ":", "x"]))
        more = draw(st.sampled_from(["", "", "", "}{x", "}}", "}{nobody"]))
        return "{$REPLACE" + mark + draw(fields()) + more + "}"
    pieces = st.one_of(
        fields().map(lambda field: "{" + field + "}"),
        st.sampled_from(["", "text", "{{", "}}", "{{x}}"]),
        st.sampled_from(["", "", "", "{", "}", "{}", "{0}", "{x]}", "{x[}", "{x[0]y}", "{:5}", "{y:{x:{x:{x}}}}"]),
    )
    return "".join(draw(st.lists(pieces, max_size=4)))
