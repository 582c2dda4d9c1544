"""A run of numbered files, as recipes name it: ``pattern``, ``pattern-start`` and ``pattern-end``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoctools.service.service import Reject
from zoctools.text import one_line

MOST_FILES = 1_000_000
"""More files than this in one pattern are a mistake."""

_CONVERSION = re.compile(r"%(0?)([1-9][0-9]?)?d")


@dataclass(frozen=True, slots=True)
class Pattern:
    """Files numbered `first` to `last`, both included: ``/dls/i03/…/data_%05d.cbf``."""

    before: str
    after: str
    fill: str
    width: int
    first: int
    last: int

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Pattern:
        """Read the three parameters of a recipe node; raises `Reject` with a sentence for anything that is no pattern.

        The pattern holds ``%d`` or ``%05d`` once, ``%%`` stands for a percent sign, and it is an absolute path.
        """
        text = parameters.get("pattern")
        if not isinstance(text, str) or not text:
            raise Reject("parameter pattern is missing or not text")
        if not text.startswith("/"):
            raise Reject(f"parameter pattern is not an absolute path: {one_line(text, 200)}")
        before, fill, width, after = _split(text)
        first = whole_number(parameters, "pattern-start")
        last = whole_number(parameters, "pattern-end")
        if first > last:
            raise Reject(f"pattern-start is {first}, after pattern-end, {last}")
        if last - first >= MOST_FILES:
            raise Reject(f"the pattern names {last - first + 1} files; more than {MOST_FILES} are a mistake")
        return cls(before, after, fill, width, first, last)

    def file(self, number: int) -> str:
        """Return the path of one file."""
        return f"{self.before}{str(number).rjust(self.width, self.fill)}{self.after}"


def whole_number(parameters: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Return a parameter that is a whole number of 0 or more, given as a number or as text; raises `Reject`."""
    value = parameters.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < 10**15:
            return value
        raise Reject(f"parameter {key} is {'negative' if value < 0 else 'far too large'}")
    if key not in parameters and default is None:
        raise Reject(f"parameter {key} is missing")
    raise Reject(f"parameter {key} is not a whole number: {one_line(repr(value), 80)}")


def _split(text: str) -> tuple[str, str, int, str]:
    literals, conversions, position = [""], [], 0
    while (percent := text.find("%", position)) >= 0:
        literals[-1] += text[position:percent]
        if text.startswith("%%", percent):
            literals[-1] += "%"
            position = percent + 2
            continue
        match = _CONVERSION.match(text, percent)
        if match is None:
            raise Reject(f"parameter pattern has a % that is neither %d, %05d nor %%: {one_line(text, 200)}")
        conversions.append(match)
        literals.append("")
        position = match.end()
    literals[-1] += text[position:]
    if len(conversions) != 1:
        raise Reject(f"parameter pattern has {len(conversions)} places for the number, not one: {one_line(text, 200)}")
    fill = "0" if conversions[0][1] else " "
    return literals[0], fill, int(conversions[0][2] or 0), literals[1]
