"""The grammar of templates: ``{name}``, ``{name[key]}``, ``{name:05d}``, ``{name!r}``, ``{$REPLACE:name}``.

A text is taken apart once, and what it names is looked up when it is filled in. Attributes are no part of the grammar.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

REPLACE = "{$REPLACE"
CONVERSIONS = ("r", "s", "a")
_SPEC_LEVELS = 2
_CACHED_LENGTH = 4096


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
            yield from inner_fields(part)


def inner_fields(field: Field | Fault) -> Iterator[Field | Fault]:
    """Yield the fields in the specification of a field, and in theirs."""
    stack: list[str | Field | Fault] = list(reversed(field.spec)) if isinstance(field, Field) else []
    while stack:
        part = stack.pop()
        if isinstance(part, Field):
            stack += reversed(part.spec)
        if not isinstance(part, str):
            yield part
