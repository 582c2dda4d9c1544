"""Reading and evaluating selectors; what they mean beside ActiveMQ is in the conformance suite."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.broker.selector import MAX_DEPTH, MAX_LENGTH, BadSelector, parse

HEADERS = {"a": "1", "b": "two", "c": "", "quote": "it's", "long": "x" * 10_000, "path": r"C:\data", "$_1": "odd"}


def matches(selector: str, **headers: str) -> bool:
    """Evaluate over the usual headers and some more."""
    return parse(selector).matches({**HEADERS, **headers}.get)


@pytest.mark.parametrize(
    "selector",
    [
        "a = 1",
        "a=1.0",
        "a = '1'",
        "a <> 2",
        "b <> 2",
        "$_1 = 'odd'",
        "c = ''",
        "quote = 'it''s'",
        "a >= 1 and a <= 1 AND NOT a < 1 aNd NoT a > 1",
        "a = 2 OR a = 3 OR a = 1",
        "a = 2 OR a = 1 AND b = 'two'",
        "NOT NOT a = 1",
        "a BETWEEN 0 AND 2",
        "a NOT BETWEEN 2 AND 3",
        "+1 = a",
        "-2 < a",
        "a < 1e3",
        "a > .5",
        "a = 1L",
        "missing IS NULL AND a IS NOT NULL",
        "missing = 1 OR a = 1",
        "a IN ('1', '2')",
        "a IN (1)",
        "b NOT IN ('one')",
        "b LIKE 't%'",
        "b LIKE '%'",
        "c LIKE '%'",
        "b LIKE '%w%'",
        "b LIKE 't_o'",
        "b LIKE '%%two%%'",
        "path LIKE 'C:\\%'",
        "long LIKE '%x%x%x%'",
        "TRUE AND NOT FALSE",
        "flag = TRUE",
        "((((a = 1))))",
        "  a\n=\t1  ",
    ],
)
def test_selects(selector: str) -> None:
    assert matches(selector, flag="true")


@pytest.mark.parametrize(
    "selector",
    [
        "a = 2",
        "A = 1",
        "a = '01'",
        "b = 2",
        "b > 0",
        "missing = 1",
        "missing <> 1",
        "NOT missing = 1",
        "missing = 1 AND a = 1",
        "missing LIKE '%'",
        "missing NOT LIKE 'x'",
        "missing IN ('a')",
        "missing NOT IN ('a')",
        "missing BETWEEN 1 AND 2",
        "b LIKE 't'",
        "b LIKE 'two_'",
        "b LIKE '%w'",
        "b LIKE 'TWO'",
        "b LIKE 'tw%wo'",
        "b LIKE 't.o'",
        "FALSE",
    ],
)
def test_does_not_select(selector: str) -> None:
    assert not matches(selector)


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("", "found its end"),
        ("a", "expected a comparison"),
        ("a =", "found its end"),
        ("a = 1 b", "expected AND, OR or the end, found 'b' at character 7"),
        ("= 1", "expected a header"),
        ("a = 'open", 'cannot read it from "\'open"'),
        ("a = 1 OR", "found its end"),
        ("(a = 1", "expected )"),
        ("a = 1)", "found ')'"),
        ("a IN ()", "expected a header, a number or a 'text'"),
        ("a IN ('x' 'y')", "expected )"),
        ("a LIKE b", "expected a 'text'"),
        ("a LIKE 'x' ESCAPE 'ab'", "ESCAPE needs one character"),
        ("a > 'x'", "texts cannot be ordered"),
        ("a IS 1", "expected NULL"),
        ("NOT", "found its end"),
        ("zocalo.go.host = 'i04'", 'cannot read it from ".go.host'),
        ("zoc-error = 'x'", "expected a comparison"),
        ("a = 1; DROP TABLE", "cannot read it from '; DROP"),
        ("a = __import__('os')", "expected AND, OR or the end"),
        ("a = 1.2.3", "cannot read it"),
        ("a = " + "9" * 500, "expected a header"),
        ("\x1b[31m = 1", r"\x1b[31m"),
        ("(" * (MAX_DEPTH + 1) + "a = 1" + ")" * (MAX_DEPTH + 1), "nested more than"),
        ("a = 1 OR " * MAX_LENGTH + "a = 1", "too long"),
    ],
)
def test_says_what_is_wrong(selector: str, words: str) -> None:
    with pytest.raises(BadSelector) as error:
        parse(selector)
    assert words in error.value.message
    assert "\x1b" not in error.value.message


def test_hints_at_hyphens_in_names() -> None:
    with pytest.raises(BadSelector) as error:
        parse("zoc-error = 'x'")
    assert "hyphen" in error.value.hint


def test_the_deepest_and_longest_that_is_allowed() -> None:
    assert matches("(" * MAX_DEPTH + "a = 1" + ")" * MAX_DEPTH)
    assert matches("NOT " * 2000 + "a = 1")
    assert matches(" OR ".join(["a = 2"] * 900 + ["a = 1"]))


def test_a_hostile_pattern_ends() -> None:
    assert not matches("long LIKE '" + "%x" * 2000 + "y'")
    assert not matches("long LIKE '" + "%_" * 2000 + "y'")


_operands = st.sampled_from(["a", "b", "missing", "1", "2.5", "-3", "'two'", "'it''s'"])
_numbers = st.sampled_from(["a", "missing", "1", "2.5"])
_comparisons = st.one_of(
    st.builds("{} {} {}".format, _operands, st.sampled_from(["=", "<>"]), _operands),
    st.builds("{} {} {}".format, _numbers, st.sampled_from(["<", ">", "<=", ">="]), _numbers),
    st.builds("{} {}".format, _operands, st.sampled_from(["IS NULL", "IS NOT NULL", "LIKE '%w_'", "IN ('two', 1)"])),
)
_selectors = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds("({}) AND ({})".format, inner, inner),
        st.builds("({}) OR ({})".format, inner, inner),
        st.builds("NOT ({})".format, inner),
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None)
@given(_selectors, _selectors)
def test_obeys_the_laws_of_three_valued_logic(one: str, other: str) -> None:
    assert matches(f"NOT (({one}) AND ({other}))") == matches(f"NOT ({one}) OR NOT ({other})")
    assert matches(f"NOT NOT ({one})") == matches(one)
    assert not (matches(one) and matches(f"NOT ({one})"))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet="ab01 '()=<>%_.,-+eEANDORNTIKLSU\n\0é", max_size=60))
def test_any_text_is_read_or_refused(selector: str) -> None:
    with contextlib.suppress(BadSelector):
        assert parse(selector).matches(HEADERS.get) in (True, False)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(alphabet="ab%_\\n\n", max_size=8), st.text(alphabet="ab_\\n\n", max_size=8))
def test_like_finds_what_a_slow_matcher_finds(pattern: str, text: str) -> None:
    def slow(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "%":
            return any(slow(pattern[1:], text[start:]) for start in range(len(text) + 1))
        return bool(text) and pattern[0] in ("_", text[0]) and slow(pattern[1:], text[1:])

    assert matches(f"x LIKE '{pattern}'", x=text) == slow(pattern, text)
