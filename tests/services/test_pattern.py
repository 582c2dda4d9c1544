"""Runs of numbered files, as recipes name them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zocservices.pattern import MOST_FILES, Pattern
from zoctools import Reject


def parameters(pattern="/d/x_%05d.cbf", start="1", end="3", **more):
    return {"pattern": pattern, "pattern-start": start, "pattern-end": end, **more}


@pytest.mark.parametrize(
    ("text", "number", "path"),
    [
        ("/d/x_%05d.cbf", 7, "/d/x_00007.cbf"),
        ("/d/x_%d.cbf", 7, "/d/x_7.cbf"),
        ("/d/x_%4d.cbf", 7, "/d/x_   7.cbf"),
        ("/d/x_%05d.cbf", 1234567, "/d/x_1234567.cbf"),
        ("/d/100%%_%03d", 7, "/d/100%_007"),
        ("/d/{visit}_%02d", 7, "/d/{visit}_07"),
    ],
)
def test_the_number_is_put_where_the_pattern_says(text, number, path):
    assert Pattern.from_parameters(parameters(text)).file(number) == path
    assert text % number == path


@pytest.mark.parametrize(("start", "end"), [("1", "3"), (1, 3), (" 1", "3 "), ("0001", 3)])
def test_numbers_may_be_text(start, end):
    pattern = Pattern.from_parameters(parameters(start=start, end=end))
    assert (pattern.first, pattern.last) == (1, 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pattern": "/d/x.cbf"}, "0 places"),
        ({"pattern": "/d/%d_%d"}, "2 places"),
        ({"pattern": "/d/%s_%s"}, "neither %d"),
        ({"pattern": "/d/%(x)d"}, "neither %d"),
        ({"pattern": "/d/%999999999d"}, "neither %d"),
        ({"pattern": "/d/%.3d"}, "neither %d"),
        ({"pattern": "/d/%"}, "neither %d"),
        ({"pattern": "x_%d"}, "not an absolute path"),
        ({"pattern": ""}, "missing"),
        ({"pattern": None}, "missing"),
        ({"pattern": ["/d/%d"]}, "missing"),
        ({"start": 5, "end": 4}, "after pattern-end"),
        ({"start": 1, "end": 10**9}, "are a mistake"),
        ({"start": 1, "end": MOST_FILES + 1}, "are a mistake"),
        ({"start": None}, "pattern-start"),
        ({"start": "{ispyb_image_first}"}, "pattern-start"),
        ({"start": -1}, "pattern-start"),
        ({"start": True}, "pattern-start"),
        ({"start": 1.0}, "pattern-start"),
        ({"end": "9" * 5000}, "pattern-end"),
        ({"end": 10**5000}, "pattern-end"),
        ({"end": "٣"}, "pattern-end"),
    ],
)
def test_what_is_no_pattern_is_rejected_with_a_sentence(given, says):
    with pytest.raises(Reject, match=says) as caught:
        Pattern.from_parameters(parameters(**given))
    assert len(caught.value.why) < 400
    assert "\n" not in caught.value.why


def test_a_missing_bound_is_named():
    with pytest.raises(Reject, match="pattern-end is missing"):
        Pattern.from_parameters({"pattern": "/d/%d", "pattern-start": 1})


@settings(derandomize=True, deadline=None)
@given(st.text(alphabet="%d05sx(){}/\x1b ", max_size=20), st.integers(0, 10**6))
def test_whatever_is_accepted_means_what_it_means_to_python(text, number):
    try:
        pattern = Pattern.from_parameters(parameters("/" + text))
    except Reject:
        return
    assert pattern.file(number) == ("/" + text) % number
