"""Foreign text is shown, never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools import text

HOSTILE = st.text(alphabet=st.characters(), max_size=200)


@settings(derandomize=True, deadline=None)
@given(HOSTILE)
def test_cleaned_text_holds_nothing_a_terminal_obeys(foreign: str) -> None:
    cleaned = text.clean(foreign)
    assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in cleaned)
    assert all(unicodedata.bidirectional(c) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI") for c in cleaned)
    cleaned.encode()


@settings(derandomize=True, deadline=None)
@given(HOSTILE, st.integers(min_value=1, max_value=80))
def test_one_line_is_one_line_of_its_width(foreign: str, width: int) -> None:
    line = text.one_line(foreign, width)
    assert len(line.splitlines()) <= 1
    assert len(line) <= width


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("plain", "plain"),
        ("\x1b]0;pwn\x07", "\\x1b]0;pwn\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\x0db"),
        ("\u202eevil", "\\u202eevil"),
        ("naïve 日本 😀", "naïve 日本 😀"),
    ],
)
def test_control_characters_become_visible(foreign: str, shown: str) -> None:
    assert text.clean(foreign) == shown


def test_bytes_that_are_not_utf8_are_shown_as_such() -> None:
    assert text.from_bytes(b"ok \xff\x1b") == "ok \\xff\\x1b"


def test_only_the_start_of_a_long_body_is_looked_at() -> None:
    assert text.from_bytes(b"x" * 100, limit=10) == "x" * 10


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3, "0 s"),
        (0.44, "0.4 s"),
        (59.4, "59 s"),
        (59.6, "1 m 00 s"),
        (160, "2 m 40 s"),
        (11_100, "3 h 05 m"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert text.duration(seconds) == said


def test_counts_agree_with_their_noun() -> None:
    assert [text.count(1, "message"), text.count(0, "message"), text.count(12_345, "entry", "entries")] == [
        "1 message",
        "0 messages",
        "12 345 entries",
    ]
