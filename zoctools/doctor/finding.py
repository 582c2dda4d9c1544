"""What one check found: a word, a sentence, and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from zoctools.errors import ExitCode, Unreachable, ZocError

OURS = "transient.doctor."
"""How the throw-away queues of the checks begin, within the namespace."""


AWAY = "does it run, and is its address right? 'zoc config show --origin' says where that comes from"


class Word(Enum):
    """The verdict of a check; ``?`` is what could not be looked at, and is no failure."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's: the verdict, what was looked at, what was seen, what to do about it.

    `code` is what a FAIL makes of the exit code; `figures` are for programs that read the JSON.
    """

    word: Word
    what: str
    detail: str
    hint: str = ""
    code: ExitCode = ExitCode.NO
    figures: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether something is wrong that has to be mended."""
        return self.word is Word.FAIL


def ok(what: str, detail: str, **figures: float | int | str) -> Finding:
    """All is well."""
    return Finding(Word.OK, what, detail, figures=figures)


def warn(what: str, detail: str, hint: str, **figures: float | int | str) -> Finding:
    """It works, and deserves attention."""
    return Finding(Word.WARN, what, detail, hint, figures=figures)


def fail(what: str, detail: str, hint: str, code: ExitCode = ExitCode.NO) -> Finding:
    """It does not work."""
    return Finding(Word.FAIL, what, detail, hint, code)


def unknown(what: str, detail: str, hint: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(Word.UNKNOWN, what, detail, hint)


def of_error(what: str, error: ZocError) -> Finding:
    """A check that ended with an error; a server that is away without a hint gets one."""
    server = error.exit_code in (ExitCode.UNREACHABLE, ExitCode.TIMED_OUT)
    hint = error.hint or (AWAY if isinstance(error, Unreachable) else "")
    return fail(what, error.message, hint, ExitCode.UNREACHABLE if server else ExitCode.NO)
