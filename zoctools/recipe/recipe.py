"""A recipe: which service gets which message next.

The file is a JSON object: numbered nodes, ``start`` (a list of [node, payload] pairs) and perhaps ``error``. What a
node does not tell the library is carried untouched. Formats and rules: sections 5 to 5.3 of the wire format.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoctools.errors import BadFile, RecipeError
from zoctools.recipe import envelope, parameters, validation
from zoctools.text import one_line

MAX_FILE = 16_000_000
"""Bytes of a recipe file we are willing to read."""
MAX_DEPTH = 500
"""How deep a recipe file may nest objects and lists."""
_NO_OUTPUT: list[int] = []


class Recipe:
    """A recipe; immutable by convention, so that nodes may be shared between recipes.

    `nodes` maps node numbers to their objects, with a scalar ``output`` made a list as the existing loader does;
    `start` holds (node, payload) pairs; `error` is None, a node number or a list of them, and nothing ever sends
    there. `source` names where it came from, for messages.
    """

    __slots__ = ("_planned", "_start_given", "_text", "_valid", "_wire", "error", "nodes", "source", "start")

    def __init__(self, nodes: Mapping[str | int, Any], source: str = "") -> None:
        """Take the JSON object of a recipe; raises `RecipeError` where it does not have the shape of one."""
        self.source = source
        self.nodes: dict[int, dict[str, Any]] = {}
        self.start: list[tuple[int, Any]] = []
        self.error: Any = None
        self._start_given = False
        self._text: str | None = None
        self._valid = False
        self._planned: tuple[dict[int, parameters.Plan], parameters.Plan, parameters.Plan] | None = None
        self._wire: str | None = None
        if not isinstance(nodes, Mapping):
            raise self.fault("a recipe must be an object")
        for name, value in nodes.items():
            if name == "start":
                self.start = self._pairs(value)
                self._start_given = True
            elif name == "error":
                self.error = value
            else:
                number = name if type(name) is int else self._number(name)
                if not isinstance(value, dict):
                    raise self.fault(f"node {number} must be an object")
                output = value.get("output", _NO_OUTPUT)
                self.nodes[number] = value if isinstance(output, (list, dict)) else {**value, "output": [output]}

    @classmethod
    def from_text(cls, text: str | bytes, source: str = "") -> Recipe:
        """Read a recipe from JSON text; raises `RecipeError` with line and column where it is not JSON."""
        words = read_text(text, source)
        recipe = cls(read_json(words, source), source)
        recipe._text = words
        return recipe

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe file; raises `BadFile` where it cannot be read, `RecipeError` where it is not a recipe."""
        return cls.from_text(read_file(Path(path)), str(path))

    @classmethod
    def on_the_wire(cls, value: Any, text: str) -> Recipe:
        """The recipe of a message, decoded, with its JSON text: passed on, it is not written anew."""
        recipe = cls(value)
        recipe._wire = text
        return recipe

    def validate(self, strict: bool = False) -> None:
        """Raise `RecipeError` unless every rule of the format holds and every output can be sent.

        `strict` also refuses a key given twice in the text the recipe was read from, of which the last counts.
        """
        if strict:
            for place, key in self.keys_given_twice():
                what = f"node {key} given twice" if not place and key.isdecimal() else f"{key!r} given twice"
                raise self.fault(what, place)
        validation.validate(self)
        self._valid = True

    def keys_given_twice(self) -> list[tuple[str, str]]:
        """Return (place, key) of every key that stands twice in one object of the text the recipe was read from."""
        return validation.keys_given_twice(self._text) if self._text is not None else []

    def merged(self, other: Recipe) -> Recipe:
        """Return both recipes as one: ours keeps its numbers, the other's nodes are numbered after them.

        Both must be valid unless one of them is empty: raises `RecipeError`. The inputs are not touched.
        """
        if not other:
            return self
        if not self:
            return other
        for recipe in (self, other):
            if not recipe._valid:
                recipe.validate()
        first = max(1, *self.nodes) + 1
        renumbered = {number: first + offset for offset, number in enumerate(other.nodes)}
        merged = Recipe({}, self.source)
        merged.nodes = dict(self.nodes)
        for number, node in other.nodes.items():
            links = {name: renumber(node[name], renumbered) for name in validation.LINKS if name in node}
            merged.nodes[renumbered[number]] = {**node, **links}
        merged.start = [*self.start, *((renumbered[number], payload) for number, payload in other.start)]
        merged._start_given = True
        merged._valid = len(merged.nodes) <= validation.MAX_NODES
        merged.error = _joined_errors(self.error, renumber(other.error, renumbered))
        return merged

    def substituted(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with its templates filled in from `values`.

        Raises `RecipeError` naming node and field where one cannot be; see `zoctools.recipe.parameters`.
        """
        nodes, payloads, error = self._plans()
        filling = parameters.Filling(values, self.source)
        filled = Recipe({}, self.source)
        filled.nodes = {number: filling.fill(plan, f"node {number}") for number, plan in nodes.items()}
        numbers = [number for number, _payload in self.start]
        filled.start = list(zip(numbers, filling.fill(payloads, "start"), strict=True))
        filled._start_given = self._start_given
        (filled.error,) = filling.fill(error, "error")
        return filled

    def _plans(self) -> tuple[dict[int, parameters.Plan], parameters.Plan, parameters.Plan]:
        """What there is to fill in: in the nodes, in the payloads of the start, in the error; found once."""
        if self._planned is None:
            self._planned = (
                {number: parameters.plan(node) for number, node in self.nodes.items()},
                parameters.plan([payload for _number, payload in self.start]),
                parameters.plan([self.error]),
            )
        return self._planned

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as it stands on the wire: text keys, ``start`` a list of [node, payload] lists."""
        value: dict[str, Any] = {str(number): node for number, node in self.nodes.items()}
        if self._start_given:
            value["start"] = [list(pair) for pair in self.start]
        if self.error is not None:
            value["error"] = self.error
        return value

    @property
    def wire(self) -> str:
        """The recipe as JSON text, as it travels in every message; made once."""
        if self._wire is None:
            self._wire = envelope.to_text(self.to_json())
        return self._wire

    def pretty(self) -> str:
        """Return the recipe as JSON text for people to read."""
        return json.dumps(self.to_json(), indent=2, default=str)

    def destinations(self, number: int, output: str | None = None) -> tuple[int, ...]:
        """Return the nodes an output of a node leads to: the unnamed one, or the one named; none where it has none.

        Raises `RecipeError` for an output that leads to no node.
        """
        value = self.nodes[number].get("output")
        if output is not None:
            value = value.get(output, ()) if isinstance(value, dict) else ()
        elif value is None or isinstance(value, dict):
            value = ()
        found = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for destination in found:
            if not validation.is_number(destination) or destination not in self.nodes:
                place = f"node {number}: output" + (f" {output!r}" if output is not None else "")
                raise self.fault(f"{one_line(destination, 40)} is not a node that can be sent to", place)
        return found

    def fault(self, what: str, place: str = "", hint: str = "") -> RecipeError:
        """Return the error that says what is wrong with this recipe, and where: ``file: node 3: what``."""
        return RecipeError(one_line(": ".join(part for part in (self.source, place, what) if part), 600), hint)

    def _number(self, name: str | int) -> int:
        """The number of a node. Its name is whatever Python's ``int`` reads, as in the existing loader."""
        try:
            return int(name)
        except (TypeError, ValueError):
            raise self.fault(
                f"{one_line(name, 40)!r}: node names must be numbers", hint="put notes into a node, under 'comment'"
            ) from None

    def _pairs(self, value: Any) -> list[tuple[int, Any]]:
        if not isinstance(value, list) or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in value):
            raise self.fault("start must be [[node, payload], ...]")
        return [(pair[0], pair[1]) for pair in value]

    def __bool__(self) -> bool:
        return bool(self.nodes or self._start_given or self.error is not None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recipe):
            return NotImplemented
        return (self.nodes, self.start, self.error) == (other.nodes, other.start, other.error)

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[int]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        return f"Recipe({self.source or self.to_json()!r})"


def renumber(links: Any, numbers: Mapping[int, int]) -> Any:
    """Return an ``output`` or ``error`` value with its node numbers translated, in the same form."""
    if isinstance(links, list):
        return [numbers[link] for link in links]
    if isinstance(links, dict):
        return {name: renumber(value, numbers) for name, value in links.items()}
    return links if links is None else numbers[links]


def _joined_errors(ours: Any, theirs: Any) -> Any:
    if ours is None or theirs is None:
        return theirs if ours is None else ours
    return [*(ours if isinstance(ours, list) else [ours]), *(theirs if isinstance(theirs, list) else [theirs])]


def read_file(path: Path) -> bytes:
    """Return the bytes of a recipe file; raises `BadFile`, and `RecipeError` by its size before reading it."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadFile(f"{one_line(path)}: not a file")
        if found.st_size > MAX_FILE:
            raise RecipeError(f"{one_line(path)}: larger than {MAX_FILE // 1_000_000} MB, which no recipe is")
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise BadFile(f"{one_line(path)}: {error.strerror or error}") from None
    except ValueError as error:
        raise BadFile(f"{one_line(path)}: {error}") from None


def read_text(text: str | bytes, source: str = "") -> str:
    """Return the text of a recipe, bounded in size; raises `RecipeError`."""
    prefix = f"{one_line(source)}: " if source else ""
    if len(text) > MAX_FILE:
        raise RecipeError(f"{prefix}larger than {MAX_FILE // 1_000_000} MB, which no recipe is")
    try:
        return text if isinstance(text, str) else text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{prefix}byte {error.start} is not UTF-8") from None


def read_json(text: str, source: str = "") -> Any:
    """Return the value of a recipe's JSON text, bounded in depth; raises `RecipeError` with line and column."""
    prefix = f"{one_line(source)}: " if source else ""
    if not text.strip():
        raise RecipeError(f"{prefix}the recipe is empty")
    try:
        value = envelope.from_text(text)
    except json.JSONDecodeError as error:
        raise RecipeError(f"{prefix}line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise RecipeError(f"{prefix}{error}") from None
    # Brackets inside texts are counted too: few brackets prove that nothing is deep, many prove nothing.
    if text.count("[") + text.count("{") > MAX_DEPTH and validation.depth(value) > MAX_DEPTH:
        raise RecipeError(f"{prefix}{envelope.TOO_DEEP}: more than {MAX_DEPTH} objects and lists inside each other")
    return value
