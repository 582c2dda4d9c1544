"""Filling in the templates of a recipe: ``{name}``, ``{name[key]}``, ``{name:05d}``, ``{$REPLACE:name}``.

The rules are those of Python's ``str.format`` over the parameters, in one pass over every key and value; a name
nobody knows stays as it is written. Two things are refused that ``str.format`` does: attributes (``{a.b}``), through
which a template reaches into Python, and results without bounds. Source: section 5.2 of the wire format.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from zoctools.errors import RecipeError
from zoctools.text import one_line

MAX_WIDTH = 1000
"""The largest number a format specification may hold: ``{x:>1000}``."""
MAX_TEXT = 1_000_000
"""Characters one filled-in text may have."""
MAX_TOTAL = 16_000_000
"""Characters, with 8 for each number and container, that all fillings of one recipe may add up to."""
REPLACE = "{$REPLACE"
CONVERSIONS = ("r", "s", "a")
_SPEC_LEVELS = 2
_CACHED_LENGTH = 4096


class Unfillable(ValueError):
    """A template that cannot be filled in: why, and the key or index at which it stands."""

    def __init__(self, why: str, key: str | int | None = None) -> None:
        super().__init__(why)
        self.key = key


class _Missing(Unfillable):
    """A name nobody knows, or a key that is missing below a known name."""


@dataclass(frozen=True, slots=True)
class Field:
    """One placeholder: `name` and the `keys` taken of it, a conversion (one of `CONVERSIONS`), a specification.

    It is `plain` when it has none of these but a name, as most have.
    """

    name: str
    keys: tuple[str | int, ...]
    conversion: str | None
    spec: Template
    plain: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """A part of a template that cannot be filled in, whatever the parameters are."""

    why: str


Template = tuple[str | Field | Fault, ...]
_INDEX = re.compile(r"\[([^\]]*)\]")
_NUMBERS = re.compile(r"\d+")


def is_template(text: str) -> bool:
    """Whether filling in could change a text."""
    return "{" in text or "}" in text


def is_replacement(text: str) -> bool:
    """Whether a text stands for a parameter itself, not for its text: ``{$REPLACE:name}``."""
    return text.startswith(REPLACE) and text.endswith("}")


def compiled(text: str) -> Template:
    """Return the parts of a template; what is wrong with it is a `Fault` among them."""
    return _compiled_once(text) if len(text) <= _CACHED_LENGTH else _compile(text, _SPEC_LEVELS)


@lru_cache(maxsize=4096)
def _compiled_once(text: str) -> Template:
    return _compile(text, _SPEC_LEVELS)


def _compile(text: str, levels: int) -> Template:
    if levels < 0:
        return (Fault("placeholders are nested too deep"),)
    parts: list[str | Field | Fault] = []
    try:
        for literal, name, spec, conversion in string.Formatter().parse(text):
            if literal:
                parts.append(literal)
            if name is not None:
                parts.append(_field(name, spec or "", conversion, levels))
    except ValueError as error:
        parts.append(Fault(f"{error} (a brace meant as such is written twice)"))
    return tuple(parts)


def _field(written: str, spec: str, conversion: str | None, levels: int) -> Field | Fault:
    end = min((written.find(mark) for mark in ".[" if mark in written), default=len(written))
    name, rest = written[:end], written[end:]
    keys: list[str | int] = []
    while rest:
        if rest.startswith("."):
            return Fault("attributes are not allowed")
        index = _INDEX.match(rest)
        if index is None or not index[1]:
            return Fault(f"{{{written}}} is not a name with [keys] behind it")
        keys.append(int(index[1]) if index[1].isdecimal() else index[1])
        rest = rest[index.end() :]
    if not written or name.isdecimal():
        return Fault(f"{{{written}}} has no name, and there are no numbered parameters")
    plain = not (keys or conversion or spec)
    return Field(name, tuple(keys), conversion, _compile(spec, levels - 1) if spec else (), plain)


def replaced_by(text: str) -> Template:
    """Return the parts of a replacement, ``{$REPLACE:name}``; the character after ``$REPLACE`` does not matter."""
    return compiled("{" + text[len(REPLACE) + 1 : -1] + "}")


def fields(text: str) -> Iterator[Field | Fault]:
    """Yield the fields of a template or replacement, those in specifications included."""
    for part in replaced_by(text) if is_replacement(text) else compiled(text):
        if not isinstance(part, str):
            yield part
            yield from _inner(part)


class Filling:
    """Fills in templates from one set of parameters and keeps count of how much it produced."""

    __slots__ = ("_left", "_source", "_values")

    def __init__(self, values: Mapping[str, Any], source: str = "") -> None:
        self._values = values
        self._source = source
        self._left = MAX_TOTAL

    def fill(self, value: Any, place: str) -> Any:
        """Return a JSON value with every template in it filled in, keys included; what has none is shared.

        Raises `RecipeError` naming `place` and the field below it.
        """
        if isinstance(value, str):
            try:
                return self._filled(value) if is_template(value) else value
            except Unfillable as error:
                raise self._error(error, place) from None
        if not isinstance(value, (dict, list, tuple)):
            return value
        done: dict[int, Any] = {}
        for container in reversed(containers(value)):
            try:
                done[id(container)] = self._container(container, done)
            except Unfillable as error:
                where = path_of(value, container, place)
                raise self._error(error, where if error.key is None else below(where, error.key)) from None
        return done[id(value)]

    def _container(self, container: Any, done: dict[int, Any]) -> Any:
        """Return one object or list filled in, those inside it being done; itself when nothing changed."""
        if isinstance(container, dict):
            filled, changed = {}, False
            for key, item in container.items():
                name, new = self._key(key), self._item(item, key, done)
                changed = changed or new is not item or name is not key
                filled[name] = new
            return filled if changed else container
        items = [self._item(item, index, done) for index, item in enumerate(container)]
        if all(new is item for new, item in zip(items, container, strict=True)):
            return container
        return tuple(items) if isinstance(container, tuple) else items

    def _item(self, item: Any, key: str | int, done: dict[int, Any]) -> Any:
        if not isinstance(item, str):
            return done.get(id(item), item)
        return self._filled(item, key) if is_template(item) else item

    def _key(self, key: Any) -> Any:
        if not isinstance(key, str) or not is_template(key):
            return key
        name = self._filled(key, key)
        if isinstance(name, (dict, list)):
            raise Unfillable("an object or list cannot be a key", key)
        return name

    def _filled(self, text: str, key: str | int | None = None) -> Any:
        try:
            return self._replacement(text) if is_replacement(text) else self._text(compiled(text))
        except Unfillable as error:
            raise Unfillable(str(error), key) from None

    def _text(self, template: Template) -> str:
        parts: list[str] = []
        length = 0
        for part in template:
            if isinstance(part, str):
                words = part
            else:
                value = self._values.get(part.name) if isinstance(part, Field) and part.plain else None
                words = value if isinstance(value, str) else self._field(part)
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

    def _replacement(self, text: str) -> Any:
        """Return a copy of the parameter named, of the last one if there are several; null when a key is missing."""
        found: list[Any] = []
        for part in replaced_by(text):
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
        for part in (field, *_inner(field)):
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
        for container in reversed(containers(value, self._count)):
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


def _inner(field: Field | Fault) -> Iterator[Field | Fault]:
    """Yield the fields in the specification of a field, and in theirs."""
    stack: list[str | Field | Fault] = list(reversed(field.spec)) if isinstance(field, Field) else []
    while stack:
        part = stack.pop()
        if isinstance(part, Field):
            stack += reversed(part.spec)
        if not isinstance(part, str):
            yield part


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else 8


def containers(root: Any, count: Callable[[int], None] | None = None) -> list[Any]:
    """Return every object and list inside a JSON value, outer before inner; `count` is told the size of each."""
    found: list[Any] = []
    seen: set[int] = set()
    stack = [root]
    while stack:
        container = stack.pop()
        if id(container) in seen:
            continue
        seen.add(id(container))
        found.append(container)
        inside = container.values() if isinstance(container, dict) else container
        if count is not None:
            count(8 + sum(map(_size, container)) + (sum(map(_size, inside)) if isinstance(container, dict) else 0))
        stack += [item for item in inside if isinstance(item, (dict, list, tuple))]
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
