"""The rules a recipe must keep: an acyclic graph in which every node is reached and every output can be sent.

Every walk is linear in the size of the recipe and keeps its own stack, so that no recipe can exhaust ours.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zoctools.errors import RecipeError
from zoctools.recipe.parameters import below
from zoctools.text import one_line

if TYPE_CHECKING:
    from zoctools.recipe.recipe import Recipe

MAX_NODES = 1000
LINKS = ("output", "error")
"""The keys of a node that lead to other nodes."""
_OPEN, _DONE = 1, 2


def validate(recipe: Recipe) -> None:
    """Raise `RecipeError` for the first rule a recipe breaks, in the order the existing validator checks them."""
    _check_start(recipe)
    _check_error(recipe)
    if len(recipe.nodes) > MAX_NODES:
        raise recipe.fault(f"more than {MAX_NODES:,} nodes".replace(",", " "))
    reached = _walk(recipe)
    for number in recipe.nodes:
        if number not in reached:
            raise recipe.fault(f"node {number} is never reached from start")
    _check_sendable(recipe)


def is_number(link: object) -> bool:
    """Whether a link is a node number as JSON has them: an integer, and not ``true``."""
    return isinstance(link, int) and not isinstance(link, bool)


def links_of(recipe: Recipe, number: int) -> list[int]:
    """Return the nodes a node leads to, by its outputs and then its ``error``, in order, as often as they are named."""
    node = recipe.nodes[number]
    found: list[int] = []
    for kind in LINKS:
        if kind in node:
            plain = _plain_links(node[kind], recipe.nodes)
            found += _flat(recipe, node[kind], f"node {number}: {kind}") if plain is None else plain
    return found


def _plain_links(links: Any, nodes: Mapping[int, object]) -> list[int] | None:
    """Return what `_flat` yields for links in the usual forms; None for others, and where one is wrong."""
    found: list[int] = []
    for value in links.values() if type(links) is dict else (links,):
        for link in value if type(value) is list else (value,):
            if type(link) is not int or link not in nodes:
                return None
            found.append(link)
    return found


def _flat(recipe: Recipe, links: Any, place: str) -> Iterator[int]:
    """Yield the node numbers of a link value: a number, a list of them, or objects of names around these."""
    stack: list[tuple[Any, str]] = [(links, place)]
    while stack:
        value, here = stack.pop()
        if isinstance(value, dict):
            stack += [(inner, f"{here} {_name(name)}") for name, inner in reversed(value.items())]
        elif value is not None:
            for link in value if isinstance(value, list) else (value,):
                if not is_number(link):
                    raise recipe.fault(f"{_shown(link)} is not a node number", here)
                if link not in recipe.nodes:
                    raise recipe.fault(f"{link} is not defined", here)
                yield link


def _name(name: object) -> str:
    return f"'{one_line(name, 60)}'"


def _shown(value: Any) -> str:
    return one_line(json.dumps(value), 60) if isinstance(value, (str, int, float)) or value is None else "this"


def _check_start(recipe: Recipe) -> None:
    if not recipe:
        raise recipe.fault("the recipe is empty: no start node")
    if not recipe._start_given:
        raise recipe.fault("no start node", hint='add "start": [[1, []]]')
    if not recipe.start:
        raise recipe.fault("start is empty: no start node", hint='it must hold pairs: "start": [[1, []]]')
    for node, _payload in recipe.start:
        if node == "start":
            raise recipe.fault("start points to itself")


def _check_error(recipe: Recipe) -> None:
    """Check the top-level ``error``; the existing validator looks for the words inside a text, too."""
    if isinstance(recipe.error, (list, str)):
        for word, what in (("start", "start"), ("error", "itself")):
            if word in recipe.error:
                raise recipe.fault(f"error points to {what}")


def _roots(recipe: Recipe) -> Iterator[int]:
    for node, _payload in recipe.start:
        yield from _flat(recipe, [node], "start")
    if recipe.error is not None:
        if isinstance(recipe.error, dict):
            raise recipe.fault("error must be a node number or a list of them")
        yield from _flat(recipe, recipe.error, "error")


def _walk(recipe: Recipe) -> dict[int, int]:
    """Return every node reached, having seen each node and each link once; raises `RecipeError` on a cycle."""
    state: dict[int, int] = {}
    for root in _roots(recipe):
        if state.get(root) == _DONE:
            continue
        path = [root]
        state[root] = _OPEN
        todo = [iter(links_of(recipe, root))]
        while todo:
            link = next(todo[-1], None)
            if link is None:
                todo.pop()
                state[path.pop()] = _DONE
            elif link not in state:
                state[link] = _OPEN
                path.append(link)
                todo.append(iter(links_of(recipe, link)))
            elif state[link] == _OPEN:
                raise recipe.fault(f"cycle {_arrows([*path[path.index(link) :], link])}")
    return state


def _arrows(numbers: list[int]) -> str:
    shown = numbers if len(numbers) <= 20 else [*numbers[:10], "...", *numbers[-9:]]
    return " -> ".join(str(number) for number in shown)


def _check_sendable(recipe: Recipe) -> None:
    """Refuse what the rules above let pass and no sender can use."""
    for number, node in recipe.nodes.items():
        output = node.get("output")
        for name, value in output.items() if isinstance(output, dict) else ():
            if value is None or isinstance(value, dict):
                raise recipe.fault(
                    f"{'null' if value is None else 'an object'} leads to no node, and a sender could not use it",
                    f"node {number}: output {_name(name)}",
                    "leave the output out, or give it a node number or a list of them",
                )
        for kind in ("queue", "topic"):
            if node.get(kind) and not isinstance(node[kind], str):
                raise recipe.fault(f"{kind} must be text", f"node {number}")


def depth(value: Any) -> int:
    """Return how deep objects and lists nest in a JSON value."""
    deepest = 0
    level: list[Any] = [value]
    while level:
        inside: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inside += [inner for inner in item.values() if isinstance(inner, (dict, list))]
            elif isinstance(item, list):
                inside += [inner for inner in item if isinstance(inner, (dict, list))]
        deepest += isinstance(level[0], (dict, list))
        level = inside
    return deepest


def keys_given_twice(text: str) -> list[tuple[str, str]]:
    """Return (place, key) of every key that stands twice in one object of a JSON text."""
    twice: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            # Kept alive in the table: an object that another replaces must not lend it its identity.
            twice[id(built)] = (built, [key for key, number in counts.items() if number > 1])
        return built

    try:
        value = json.loads(text, object_pairs_hook=build)
    except RecursionError:
        raise RecipeError("nested too deep") from None
    if not twice:
        return []
    found = [(place, key) for place, item in walk(value) if id(item) in twice for key in twice.pop(id(item))[1]]
    return found + [("an object that another one replaces", key) for _, keys in twice.values() for key in keys]


def walk(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value inside a recipe's JSON with its place, in order, itself first: ``node 1: parameters.x[2]``."""
    stack: list[tuple[str, Any]] = [(place, value)]
    while stack:
        here, item = stack.pop()
        yield here, item
        pairs: Iterable[tuple[Any, Any]] = ()
        if isinstance(item, dict):
            pairs = item.items()
        elif isinstance(item, (list, tuple)):
            pairs = enumerate(item)
        stack += reversed([(below(here, key) if here else _top(key), inner) for key, inner in pairs])


def _top(key: object) -> str:
    name = one_line(key, 60)
    return name if name in ("start", "error") else f"node {name}"
