"""Filling in the templates of a recipe from parameters.

The rules are those of Python's ``str.format`` over the parameters, in one pass over every key and value; a name
nobody knows stays as it is written. Two things are refused that ``str.format`` does: attributes (``{a.b}``), through
which a template reaches into Python, and results without bounds. Source: section 5.2 of the wire format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoctools.errors import RecipeError
from zoctools.recipe.templates import (
    CONVERSIONS,
    Fault,
    Field,
    Template,
    compiled,
    inner_fields,
    is_replacement,
    is_template,
    replaced_by,
)
from zoctools.text import one_line

MAX_WIDTH = 1000
"""The largest number a format specification may hold: ``{x:>1000}``."""
MAX_TEXT = 1_000_000
"""Characters one filled-in text may have."""
MAX_TOTAL = 16_000_000
"""Characters, with 8 for each number and container, that all fillings of one recipe may add up to."""
_NUMBERS = re.compile(r"\d+")


class Unfillable(ValueError):
    """A template that cannot be filled in: why, and the key or index at which it stands."""

    def __init__(self, why: str, key: str | int | None = None) -> None:
        super().__init__(why)
        self.key = key


class _Missing(Unfillable):
    """A name nobody knows, or a key that is missing below a known name."""


@dataclass(frozen=True, slots=True)
class Slot:
    """An object or list that filling in changes.

    `texts` are its templates: the key, the parts, and whether the template is a replacement. `inner` are the slots
    directly inside, by key; `keys` says whether a key is itself a template.
    """

    container: Any
    texts: tuple[tuple[Any, Template, bool], ...]
    inner: tuple[tuple[Any, int], ...]
    keys: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done to fill in an object or list: its slots, inner ones first; made once."""

    root: Any
    slots: tuple[Slot, ...]


def plan(root: Any) -> Plan:
    """Return what has to be done to fill in an object or list."""
    numbers: dict[int, int] = {}
    slots: list[Slot] = []
    for container in inner_first(root):
        texts = []
        inner = []
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(item, str) and is_template(item):
                replaces = is_replacement(item)
                texts.append((key, replaced_by(item) if replaces else compiled(item), replaces))
            elif id(item) in numbers:
                inner.append((key, numbers[id(item)]))
        keys = isinstance(container, dict) and any(isinstance(key, str) and is_template(key) for key in container)
        if texts or inner or keys:
            numbers[id(container)] = len(slots)
            slots.append(Slot(container, tuple(texts), tuple(inner), keys))
    return Plan(root, tuple(slots))


class Filling:
    """Fills in templates from one set of parameters and keeps count of how much it produced."""

    __slots__ = ("_left", "_source", "_values")

    def __init__(self, values: Mapping[str, Any], source: str = "") -> None:
        self._values = values
        self._source = source
        self._left = MAX_TOTAL

    def fill(self, plan: Plan, place: str) -> Any:
        """Return an object or list with every template in it filled in, keys included; what has none is shared.

        Raises `RecipeError` naming `place` and the field below it.
        """
        done: list[Any] = []
        for slot in plan.slots:
            try:
                done.append(self._slot(slot, done))
            except Unfillable as error:
                where = path_of(plan.root, slot.container, place)
                raise self._error(error, where if error.key is None else below(where, error.key)) from None
        return done[-1] if done else plan.root

    def _slot(self, slot: Slot, done: list[Any]) -> Any:
        """Return one object or list filled in, those inside it being done."""
        container = slot.container
        filled: Any = container.copy() if isinstance(container, dict) else list(container)
        for key, template, replaces in slot.texts:
            try:
                filled[key] = self._replacement(template) if replaces else self._text(template)
            except Unfillable as error:
                raise Unfillable(str(error), key) from None
        for key, number in slot.inner:
            filled[key] = done[number]
        if slot.keys:
            return {self._key(key): item for key, item in filled.items()}
        return tuple(filled) if isinstance(container, tuple) else filled

    def _key(self, key: Any) -> Any:
        if not isinstance(key, str) or not is_template(key):
            return key
        try:
            name = self._replacement(replaced_by(key)) if is_replacement(key) else self._text(compiled(key))
        except Unfillable as error:
            raise Unfillable(str(error), key) from None
        if isinstance(name, (dict, list)):
            raise Unfillable("an object or list cannot be a key", key)
        return name

    def _text(self, template: Template) -> str:
        parts: list[str] = []
        length = 0
        for part in template:
            words = part if isinstance(part, str) else self._field(part)
            length += len(words)
            if length > MAX_TEXT:
                raise Unfillable(f"the result is longer than {MAX_TEXT:,} characters".replace(",", " "))
            parts.append(words)
        self._count(length)
        return "".join(parts)

    def _field(self, field: Field | Fault) -> str:
        if isinstance(field, Fault):
            raise Unfillable(field.why)
        known = field.name in self._values
        if field.plain:
            value = self._values[field.name] if known else f"{{{field.name}}}"
            return value if isinstance(value, str) else _formatted(value, "")
        value = _converted(self._lookup(field), field.conversion) if known else _kept(field)
        spec = self._text(field.spec) if field.spec else ""
        if spec and not known and field.conversion is None:
            raise Unfillable(f"{one_line(field.name, 60)!r} is not known, and cannot be formatted")
        return value if not spec and isinstance(value, str) else _formatted(value, spec)

    def _lookup(self, field: Field) -> Any:
        """Return the value a field names."""
        if field.name not in self._values:
            raise _Missing(f"{one_line(field.name, 60)!r} is not known")
        value = self._values[field.name]
        for key in field.keys:
            try:
                value = value[key]
            except KeyError:
                raise _Missing(f"{one_line(field.name, 60)!r} has no item {one_line(key, 60)!r}") from None
            except IndexError:
                raise Unfillable(f"{one_line(field.name, 60)!r} has no item number {one_line(key, 20)}") from None
            except TypeError:
                raise Unfillable(
                    f"{one_line(field.name, 60)!r} holds nothing by the name {one_line(key, 60)!r}"
                ) from None
        return value

    def _replacement(self, template: Template) -> Any:
        """Return a copy of the parameter named, of the last one if there are several; null when a key is missing."""
        found: list[Any] = []
        for part in template:
            try:
                if not isinstance(part, str):
                    found.append(self._replaced(part))
            except _Missing:
                return None
        if not found:
            raise Unfillable("names no parameter")
        return self._copied(found[-1])

    def _replaced(self, field: Field | Fault) -> Any:
        """Return the value of a field. A specification has no effect, but what it names must be there."""
        values = []
        for part in (field, *inner_fields(field)):
            if isinstance(part, Fault):
                raise Unfillable(part.why)
            values.append(_converted(self._lookup(part), part.conversion))
        return values[0]

    def _copied(self, value: Any) -> Any:
        """Return a JSON value with its objects and lists copied, counted before it is."""
        if not isinstance(value, (dict, list, tuple)):
            self._count(_size(value))
            return value
        done: dict[int, Any] = {}
        for container in inner_first(value, self._count):
            if isinstance(container, dict):
                done[id(container)] = {key: done.get(id(item), item) for key, item in container.items()}
            else:
                done[id(container)] = type(container)(done.get(id(item), item) for item in container)
        return done[id(value)]

    def _count(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise Unfillable(f"filled in, the recipe is larger than {MAX_TOTAL // 1_000_000} MB")

    def _error(self, error: Unfillable, place: str) -> RecipeError:
        where = f"{self._source}: " if self._source else ""
        return RecipeError(one_line(f"{where}{place}: {error}", 600))


def _kept(field: Field) -> str:
    """Return a field nobody knows as it is written, without conversion and specification."""
    if field.conversion not in (None, *CONVERSIONS):
        raise Unfillable(f"!{field.conversion} is not a conversion: r, s and a are")
    if any(isinstance(key, int) for key in field.keys):
        raise Unfillable(f"{one_line(field.name, 60)!r} is not known, and has no numbered items")
    text = "{" + field.name + "".join(f"[{key}]" for key in field.keys) + "}"
    return text.encode("ascii", "backslashreplace").decode() if field.conversion == "a" else text


def _converted(value: Any, conversion: str | None) -> Any:
    if conversion is None:
        return value
    if conversion not in CONVERSIONS:
        raise Unfillable(f"!{conversion} is not a conversion: r, s and a are")
    try:
        if conversion == "s":
            return str(value)
        return repr(value) if conversion == "r" else ascii(value)
    except (RecursionError, ValueError) as error:
        raise Unfillable(f"cannot be made text: {one_line(error, 200)}") from None


def _formatted(value: Any, spec: str) -> str:
    if any(len(number) > 6 or int(number) > MAX_WIDTH for number in _NUMBERS.findall(spec)):
        raise Unfillable(f"{one_line(spec, 40)!r} asks for more than {MAX_WIDTH} characters")
    try:
        return format(value, spec)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Unfillable(f"cannot be formatted: {one_line(error, 200)}") from None


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 8


def inner_first(root: Any, count: Callable[[int], None] | None = None) -> list[Any]:
    """Return every object and list inside a JSON value, inner before outer; `count` is told the size of each."""
    found: list[Any] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        container, complete = stack.pop()
        if complete:
            found.append(container)
            continue
        if id(container) in seen:
            continue
        seen.add(id(container))
        inside = container.values() if isinstance(container, dict) else container
        if count is not None:
            count(8 + sum(map(_size, container)) + (sum(map(_size, inside)) if isinstance(container, dict) else 0))
        stack.append((container, True))
        stack += [(item, False) for item in inside if isinstance(item, (dict, list, tuple))]
    return found


def below(place: str, key: object) -> str:
    """Return how a message names what stands at `key` below `place`: ``node 1: parameters.x[2]``."""
    if isinstance(key, int):
        return f"{place}[{key}]"
    name = one_line(key, 60)
    return f"{place}: {name}" if place.startswith("node ") and ":" not in place else f"{place}.{name}"


def path_of(root: Any, container: Any, place: str) -> str:
    """Return how a message names an object or list inside `root`, which itself is called `place`."""
    stack: list[tuple[str, Any]] = [(place, root)]
    while stack:
        here, item = stack.pop()
        if item is container:
            return here
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        stack += [(below(here, key), inner) for key, inner in pairs if isinstance(inner, (dict, list, tuple))]
    return place
