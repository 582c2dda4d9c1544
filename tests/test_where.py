"""The filter language."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.errors import UsageError
from zoctools.where import Where

FIELDS = ("service", "host", "busy", "waits")
ROW = {"service": "Dispatcher", "host": "uk.ac.site.node7.2245 node7", "busy": 82.5, "waits": None}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("", True),
        ("dispatch", True),
        ("DISPATCH", True),
        ("archiver", False),
        ("!archiver", True),
        ("!dispatch", False),
        ("service:disp", True),
        ("host:disp", False),
        ("!host:disp", True),
        ("service:disp node7", True),
        ("service:disp node8", False),
        ("service:=dispatcher", True),
        ("service:=disp", False),
        ("busy:>80", True),
        ("busy:<80", False),
        ("busy:>=80", False),
        ("service:>80", False),
        ("waits:=", True),
        ("service:=", False),
        ("waits:x", False),
        ('"site.node7.2245 node7"', True),
        ('"!archiver"', False),
        ('host:"2245 node7"', True),
        ('"service:disp"', False),
        ('service:"=dispatcher"', False),
        ('""', True),
    ],
)
def test_an_expression_holds_when_every_word_does(expression: str, holds: bool) -> None:
    if expression == "busy:>=80":
        with pytest.raises(UsageError, match="not a number"):
            Where.parse(expression, FIELDS)
        return
    assert Where.parse(expression, FIELDS).matches(ROW) is holds


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("colour:red", "'colour'"),
        ('host:"x', "double quote"),
        ("!", "nothing after it"),
        ("host:", "nothing after 'host:'"),
        ("busy:>lots", "'lots'"),
        ("busy:>nan", "'nan'"),
        ("x" * 1001, "longer"),
        ("\x1b[2J:x", r"'\\x1b\[2j'"),
    ],
)
def test_what_is_wrong_with_an_expression_is_named(expression: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint.replace("\\\\", "\\\\+")):
        Where.parse(expression, FIELDS)


@settings(derandomize=True, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(expression: str) -> None:
    try:
        where = Where.parse(expression, FIELDS)
    except UsageError:
        return
    assert where.matches(ROW) in (True, False)


@settings(derandomize=True, deadline=None)
@given(st.text(st.characters(exclude_characters='"'), min_size=1, max_size=20))
def test_a_quoted_word_means_itself(word: str) -> None:
    where = Where.parse(f'"{word}"', FIELDS)
    assert where.matches({"host": f"a{word}b"})
