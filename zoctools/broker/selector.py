"""Selectors: which messages a consumer wants, in the part of SQL92 that JMS allows.

Comparisons with ``= <> < > <= >=``, ``BETWEEN``, ``IN``, ``LIKE`` (with ``ESCAPE``), ``IS [NOT] NULL``, joined by
``AND``, ``OR``, ``NOT`` and parentheses. Names are those of message headers, and what the broker knows besides
(``JMSXDeliveryCount``, ``JMSPriority``, ...). STOMP headers are text. Against a number they are read as numbers of its
kind, so ``5.0`` is no whole number and neither equal to 5 nor greater than 3, but greater than 3.0. A header that is
not there makes a comparison unknown, which selects nothing, also under ``NOT``. Source: JMS 1.1 section 3.8.1, and
what ActiveMQ makes of it over STOMP.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from zoctools.errors import UsageError
from zoctools.text import one_line

MAX_LENGTH = 10_000
MAX_DEPTH = 50

Value = str | int | float | None
Lookup = Callable[[str], Value]
_Operand = Callable[[Lookup], Value]
_Test = Callable[[Lookup], bool | None]
"""True, False, or None for unknown."""


class BadSelector(UsageError):
    """A selector that cannot be read; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A selector ready for use; `text` as its author wrote it."""

    text: str
    _test: _Test = field(repr=False, compare=False)

    def matches(self, lookup: Lookup) -> bool:
        """Whether a message is wanted; `lookup` gives the value of a header, None when there is none."""
        return self._test(lookup) is True


def parse(text: str) -> Selector:
    """Read a selector; raises `BadSelector`."""
    if len(text) > MAX_LENGTH:
        raise BadSelector(f"a selector of {len(text)} characters is too long", f"the limit is {MAX_LENGTH}")
    return Selector(text, _Parser(text).whole())


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*')
      | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[lL]?)(?![A-Za-z0-9_$.])
      | (?P<word>[A-Za-z_$][A-Za-z0-9_$]*)
      | (?P<sign><>|<=|>=|[=<>(),+-])
    )""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_MAX_DIGITS = 400
_KEYWORDS = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN", "LIKE", "ESCAPE", "IS", "NULL", "TRUE", "FALSE"})
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def keyword(self) -> str:
        """The word in capitals when it is a keyword, the sign when it is one, else nothing."""
        if self.kind == "sign":
            return self.text
        capitals = self.text.upper()
        return capitals if self.kind == "word" and capitals in _KEYWORDS else ""


def _tokens(text: str) -> list[_Token]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            rest = text[at:].lstrip()
            raise BadSelector(f"selector {_show(text)}: cannot read it from {_show(rest)}", _hint_at(rest))
        found.append(_Token(match.lastgroup, match.group(match.lastgroup), match.start(match.lastgroup)))
        at = match.end()
    return [*found, _Token("end", "", end)]


def _hint_at(rest: str) -> str:
    if rest.startswith("'"):
        return "the quote is never closed; a quote inside a text is written twice"
    if rest.startswith("."):
        return "the names of headers hold letters, digits, _ and $ only"
    return ""


def _show(text: str) -> str:
    return repr(one_line(text, 60))


class _Parser:
    """Recursive descent over the tokens; chains of AND and OR do not nest, so only `MAX_DEPTH` bounds the stack."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def whole(self) -> _Test:
        test = self._any()
        if self._peek().kind != "end":
            raise self._error("AND, OR or the end")
        return test

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *keywords: str) -> str:
        """The next keyword or sign when it is one of these, taken; else nothing."""
        keyword = self._peek().keyword
        if keyword and keyword in keywords:
            self._next += 1
            return keyword
        return ""

    def _expect(self, keyword: str) -> None:
        if not self._take(keyword):
            raise self._error(keyword)

    def _error(self, expected: str) -> BadSelector:
        token = self._peek()
        found = f"{_show(token.text)} at character {token.at + 1}" if token.kind != "end" else "its end"
        hint = ""
        if token.text in ("-", "+"):
            hint = "there is no arithmetic, and the name of a header with a hyphen cannot be written in a selector"
        return BadSelector(f"selector {_show(self._text)}: expected {expected}, found {found}", hint)

    def _any(self) -> _Test:
        tests = [self._all()]
        while self._take("OR"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else _any_of(tests)

    def _all(self) -> _Test:
        tests = [self._one()]
        while self._take("AND"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else _all_of(tests)

    def _one(self) -> _Test:
        negations = 0
        while self._take("NOT"):
            negations += 1
        test = self._nested() if self._take("(") else self._comparison()
        return _negated(test) if negations % 2 else test

    def _nested(self) -> _Test:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadSelector(f"selector {_show(self._text)} is nested more than {MAX_DEPTH} deep")
        test = self._any()
        self._expect(")")
        self._depth -= 1
        return test

    def _comparison(self) -> _Test:
        start = self._peek()
        truth = self._take("TRUE", "FALSE")
        if truth:
            return _constant(truth == "TRUE")
        operand = self._operand()
        sign = self._take("=", "<>", *_ORDERINGS)
        if sign:
            return self._compared(operand, sign, start)
        if self._take("IS"):
            wanted_null = not self._take("NOT")
            self._expect("NULL")
            return _is_null(operand, wanted_null)
        negative = bool(self._take("NOT"))
        if self._take("BETWEEN"):
            return self._between(operand, negative)
        test = self._membership(operand)
        return _negated(test) if negative else test

    def _compared(self, left: _Operand, sign: str, start: _Token) -> _Test:
        other = self._peek()
        if sign in ("=", "<>") and self._take("TRUE", "FALSE"):
            test = _equal(left, lambda _: other.text.lower())
            return test if sign == "=" else _negated(test)
        right = self._operand()
        if sign in _ORDERINGS:
            if "string" in (start.kind, other.kind):
                raise BadSelector(
                    f"selector {_show(self._text)}: texts cannot be ordered with {sign}",
                    "compare with a number, or use = and <>",
                )
            return _ordered(left, right, _ORDERINGS[sign])
        test = _equal(left, right)
        return test if sign == "=" else _negated(test)

    def _between(self, operand: _Operand, negative: bool) -> _Test:
        """As ActiveMQ, NOT BETWEEN is below or above: what is no number is neither between nor not between."""
        low = self._operand()
        self._expect("AND")
        high = self._operand()
        if negative:
            return _any_of([_ordered(operand, low, operator.lt), _ordered(operand, high, operator.gt)])
        return _all_of([_ordered(operand, low, operator.ge), _ordered(operand, high, operator.le)])

    def _membership(self, operand: _Operand) -> _Test:
        if self._take("IN"):
            self._expect("(")
            members = [self._constant()]
            while self._take(","):
                members.append(self._constant())
            self._expect(")")
            return _any_of([_equal(operand, _literal(member)) for member in members])
        if self._take("LIKE"):
            pattern = self._string()
            escape = self._string() if self._take("ESCAPE") else ""
            if len(escape) > 1:
                raise BadSelector(f"selector {_show(self._text)}: ESCAPE needs one character, not {_show(escape)}")
            return _like(operand, pattern, escape)
        raise self._error("a comparison")

    def _operand(self) -> _Operand:
        token = self._peek()
        if token.kind == "word" and not token.keyword:
            self._next += 1
            name = token.text
            return lambda lookup: lookup(name)
        return _literal(self._constant())

    def _constant(self) -> Value:
        if self._peek().kind == "string":
            return self._string()
        sign = self._take("-", "+")
        token = self._peek()
        value = _number(token.text.rstrip("lL")) if token.kind == "number" else None
        if value is None:
            raise self._error("a header, a number or a 'text'")
        self._next += 1
        return -value if sign == "-" else value

    def _string(self) -> str:
        token = self._peek()
        if token.kind != "string":
            raise self._error("a 'text'")
        self._next += 1
        return token.text[1:-1].replace("''", "'")


def _number(text: str) -> int | float | None:
    if len(text) > _MAX_DIGITS or not _NUMBER.fullmatch(text):
        return None
    return int(text) if text.lstrip("+-").isdecimal() else float(text)


def _comparable(one: Value, other: Value) -> tuple[Any, Any] | None:
    """Two values of one kind: a text beside a number is read as such a number; None when it cannot be."""
    if isinstance(one, str) and not isinstance(other, str):
        one = _read_like(other, one)
    elif isinstance(other, str) and not isinstance(one, str):
        other = _read_like(one, other)
    return None if one is None or other is None else (one, other)


def _read_like(example: Value, text: str) -> Value:
    number = _number(text)
    return None if isinstance(example, int) and not isinstance(number, int) else number


def _literal(value: Value) -> _Operand:
    return lambda _: value


def _constant(value: bool) -> _Test:
    return lambda _: value


def _negated(test: _Test) -> _Test:
    def negation(lookup: Lookup) -> bool | None:
        result = test(lookup)
        return None if result is None else not result

    return negation


def _all_of(tests: list[_Test]) -> _Test:
    def conjunction(lookup: Lookup) -> bool | None:
        unknown = False
        for test in tests:
            result = test(lookup)
            if result is False:
                return False
            unknown = unknown or result is None
        return None if unknown else True

    return conjunction


def _any_of(tests: list[_Test]) -> _Test:
    def disjunction(lookup: Lookup) -> bool | None:
        unknown = False
        for test in tests:
            result = test(lookup)
            if result:
                return True
            unknown = unknown or result is None
        return None if unknown else False

    return disjunction


def _is_null(operand: _Operand, wanted: bool) -> _Test:
    return lambda lookup: (operand(lookup) is None) is wanted


def _equal(left: _Operand, right: _Operand) -> _Test:
    def equality(lookup: Lookup) -> bool | None:
        one, other = left(lookup), right(lookup)
        if one is None or other is None:
            return None
        pair = _comparable(one, other)
        return pair is not None and bool(pair[0] == pair[1])

    return equality


def _ordered(left: _Operand, right: _Operand, holds: Callable[[Any, Any], bool]) -> _Test:
    def ordering(lookup: Lookup) -> bool | None:
        one, other = left(lookup), right(lookup)
        if one is None or other is None:
            return None
        pair = _comparable(one, other)
        return pair is not None and holds(*pair)

    return ordering


def _like(operand: _Operand, pattern: str, escape: str) -> _Test:
    fits = _glob(pattern, escape)

    def likeness(lookup: Lookup) -> bool | None:
        value = operand(lookup)
        return None if value is None else fits(str(value))

    return likeness


def _glob(pattern: str, escape: str) -> Callable[[str], bool]:
    """A matcher for ``%`` (anything) and ``_`` (one character).

    The pieces between the ``%`` are found one after the other, each as early as it goes: no backtracking, so a
    hostile pattern costs no more than the product of the two lengths.
    """
    pieces, piece, characters = [], "", iter(pattern)
    for character in characters:
        if character == escape:
            piece += re.escape(next(characters, ""))
        elif character == "%":
            pieces.append(piece)
            piece = ""
        else:
            piece += "." if character == "_" else re.escape(character)
    pieces.append(piece)
    if len(pieces) == 1:
        whole = re.compile(pieces[0], re.DOTALL)
        return lambda text: whole.fullmatch(text) is not None
    head, tail = re.compile(pieces[0], re.DOTALL), re.compile(pieces[-1] + r"\Z", re.DOTALL)
    middle = [re.compile(piece, re.DOTALL) for piece in pieces[1:-1] if piece]
    tail_length = len(re.sub(r"\\(.)", r"\1", pieces[-1], flags=re.DOTALL))

    def fits(text: str) -> bool:
        found = head.match(text)
        for part in middle:
            if found is None:
                return False
            found = part.search(text, found.end())
        return found is not None and tail.match(text, max(found.end(), len(text) - tail_length)) is not None

    return fits
