"""The filter language of `--where` and of the `/` key: words that must all hold.

``text`` stands anywhere in the row, ``field:value`` in that field; case never matters. ``field:=value`` is the
whole value, ``field:>5`` and ``field:<5`` compare numbers. A leading ``!`` inverts, double quotes hold words
together: ``!idle host:cs04r busy:>80 "waits for"``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from zoctools.errors import UsageError
from zoctools.text import one_line

MAX_LENGTH = 1000
"""Characters of an expression we are willing to read."""

Value = str | float | None
"""What a field of a row may hold; None is not known, and matches only where it is asked to be absent."""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition; `field` is empty when any will do, `operator` is one of ``:`` ``=`` ``>`` ``<``."""

    value: str
    field: str = ""
    operator: str = ":"
    inverted: bool = False

    def holds(self, row: Mapping[str, Value]) -> bool:
        """Whether a row meets this condition."""
        values = row.values() if not self.field else (row.get(self.field),)
        return any(self._meets(value) for value in values) is not self.inverted

    def _meets(self, value: Value) -> bool:
        if value is None:
            return self.operator == "=" and not self.value
        if self.operator in "<>":
            if not isinstance(value, (int, float)):
                return False
            limit = float(self.value)
            return value > limit if self.operator == ">" else value < limit
        text = (value if isinstance(value, str) else f"{value:g}").casefold()
        return text == self.value if self.operator == "=" else self.value in text


@dataclass(frozen=True, slots=True)
class Where:
    """A whole expression; without terms everything matches."""

    terms: tuple[Term, ...] = ()

    @classmethod
    def parse(cls, expression: str, fields: Collection[str]) -> Where:
        """Read an expression over rows with these fields; raises `UsageError` naming the word that is wrong."""
        if len(expression) > MAX_LENGTH:
            raise UsageError(f"the filter is longer than {MAX_LENGTH} characters")
        return cls(tuple(_term(word, head, fields) for word, head in _words(expression)))

    def matches(self, row: Mapping[str, Value]) -> bool:
        """Whether every term holds for a row given as field name to value."""
        return all(term.holds(row) for term in self.terms)

    def uses(self, field: str) -> bool:
        """Whether the answer can depend on this field."""
        return any(term.field in ("", field) for term in self.terms)


def _words(expression: str) -> list[tuple[str, int]]:
    """Split at spaces outside quotes; with each word goes the position in it of the first quote, or its length."""
    words: list[tuple[str, int]] = []
    word: list[str] = []
    quote: int | None = None
    inside = False
    for character in f"{expression} ":
        if character == '"':
            inside = not inside
            quote = len(word) if quote is None else quote
        elif inside or not character.isspace():
            word.append(character)
        elif word or quote is not None:
            words.append(("".join(word), len(word) if quote is None else quote))
            word, quote = [], None
    if inside:
        raise UsageError(f"the filter has a double quote that is not closed: {one_line(expression, 60)}")
    return [(text, head) for text, head in words if text]


def _term(word: str, head: int, fields: Collection[str]) -> Term:
    inverted = head > 0 and word.startswith("!")
    start = 1 if inverted else 0
    colon = word.find(":", start, head)
    if colon < 0:
        value = word[start:]
        if not value:
            raise UsageError(
                "the filter has a '!' with nothing after it", "write !text to leave out what has that text"
            )
        return Term(value.casefold(), inverted=inverted)
    field, value = word[start:colon].casefold(), word[colon + 1 :]
    if field not in fields:
        raise UsageError(
            f"the filter names a field that does not exist: {one_line(field, 40)!r}",
            f"fields are {', '.join(sorted(fields))}; put text with a colon in double quotes",
        )
    operator = ":"
    if value[:1] in ("=", ">", "<") and head > colon + 1:
        operator, value = value[0], value[1:]
    if operator in "<>" and not _is_number(value):
        raise UsageError(f"the filter compares {field} with {one_line(value, 40)!r}, which is not a number")
    if not value and operator == ":":
        raise UsageError(f"the filter has nothing after '{field}:'", f"{field}:= finds those where it is empty")
    return Term(value.casefold(), field, operator, inverted)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
