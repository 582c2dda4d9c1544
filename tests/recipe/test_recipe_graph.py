"""Recipes drawn: the same drawing every time, each node once, and no foreign byte in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings

from support.recipes import valid_recipes
from zoctools.recipe import graph
from zoctools.recipe.recipe import Recipe

RECIPE = Recipe(
    {
        "1": {"queue": "watch", "service": "Watcher", "output": {"first": 2, "every": [3, 2], "finally": 9}},
        "2": {"queue": "two", "topic": "news", "output": 3, "transport-delay": 120},
        "3": {"queue": "three"},
        "4": {},
        "start": [[1, []], [3, []]],
    }
)


def test_the_tree_names_each_node_once_and_then_points_back() -> None:
    assert graph.text(RECIPE).splitlines() == [
        "start",
        "├─ 1 watch  (Watcher)",
        "│  ├─ first → 2 two and topic news  (after 120 s)",
        "│  │  └─ 3 three",
        "│  ├─ every → 3 three  (see above)",
        "│  ├─ every → 2 two and topic news  (see above)",
        "│  └─ finally → 9 (not defined)",
        "└─ 3 three  (see above)",
        "never sent to: 4 (nowhere to go)",
    ]


def test_dot() -> None:
    lines = graph.dot(RECIPE).splitlines()
    assert lines[0] == "digraph recipe {"
    assert '  n2 [label="2\\ntwo and topic news"];' in lines
    assert '  n1 -> n2 [label="first"];' in lines
    assert "  start -> n1;" in lines
    assert "  n2 -> n3;" in lines
    assert lines[-1] == "}"


def test_mermaid() -> None:
    lines = graph.mermaid(RECIPE).splitlines()
    assert lines[0] == "flowchart TD"
    assert '  n2["2<br/>two and topic news"]' in lines
    assert '  n1 -- "first" --> n2' in lines
    assert "  n2 --> n3" in lines


@pytest.mark.parametrize("kind", graph.FORMATS)
def test_hostile_names_cannot_leave_their_place(kind: str) -> None:
    name = 'a"];\n evil [label="\x1b]0;pwn\x07\u202e<script>\\'
    recipe = Recipe(
        {"-1": {"queue": name, "service": name, "output": {name: ["2", 3]}}, "start": [[-1, []], [name, 1]]}
    )
    drawn = graph.FORMATS[kind](recipe)
    assert all(line.isprintable() for line in drawn.splitlines())
    if kind == "dot":
        assert not any(line.strip().startswith("evil") for line in drawn.splitlines())
    if kind == "mermaid":
        assert "<script>" not in drawn
        assert all(line.count('"') in (0, 2) for line in drawn.splitlines())


@pytest.mark.parametrize("kind", graph.FORMATS)
def test_a_cycle_and_a_long_chain_can_be_drawn(kind: str) -> None:
    nodes: dict[str, Any] = {str(number): {"queue": "q", "output": number + 1} for number in range(1, 900)}
    recipe = Recipe({**nodes, "900": {"queue": "q", "output": 1}, "start": [[1, []]]})
    assert graph.FORMATS[kind](recipe).count("\n") > 900


@settings(derandomize=True, deadline=None, max_examples=50)
@given(recipe=valid_recipes())
def test_every_node_of_a_valid_recipe_is_drawn(recipe: Any) -> None:
    made = Recipe(recipe)
    drawn = [line for line in graph.text(made).splitlines() if "(see above)" not in line]
    for number in made.nodes:
        assert len([line for line in drawn if re.search(rf"(^|─ |→ |: ){number} ", line)]) == 1
