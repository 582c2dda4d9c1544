"""Every error a user can meet: one line that says what is wrong, a hint what to do, and an exit code."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status of every ``zoc`` command means."""

    DONE = 0
    NO = 1
    """The answer is no: no match, dead letters exist, a checked thing fails its check."""
    USAGE = 2
    """Wrong usage, or a file or ID the user named cannot be used."""
    PARTLY = 3
    """Some items were done, some were not; the counts are printed."""
    UNREACHABLE = 4
    """A server cannot be reached, refuses the login, or answers nonsense."""
    TIMED_OUT = 5
    INTERNAL = 70
    """A defect of zoctools itself; never mistaken for an answer."""
    INTERRUPTED = 130


class ZocError(Exception):
    """Base of all errors shown to users.

    `message` is one line naming what is wrong and where; `hint` is one line saying what to do about it.
    """

    exit_code = ExitCode.NO

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ZocError):
    """Options or arguments that cannot be used together, or at all."""

    exit_code = ExitCode.USAGE


class BadFile(ZocError):
    """A file the user named is missing, unreadable or does not hold what it should."""

    exit_code = ExitCode.USAGE


class ConfigError(ZocError):
    """The site configuration is wrong; the message names file and key."""

    exit_code = ExitCode.USAGE


class RecipeError(ZocError):
    """A recipe is wrong; the message names file, node and key where they are known."""

    exit_code = ExitCode.USAGE


class Unreachable(ZocError):
    """A server does not answer, or what it answers makes no sense."""

    exit_code = ExitCode.UNREACHABLE


class LoginRefused(ZocError):
    """A server refuses who we say we are; trying again will not help."""

    exit_code = ExitCode.UNREACHABLE


class TimedOut(ZocError):
    """Something expected did not happen in its time."""

    exit_code = ExitCode.TIMED_OUT


class TransportError(ZocError):
    """Something between us and the broker went wrong."""

    exit_code = ExitCode.UNREACHABLE


class LinkLost(TransportError):
    """The link to the broker is down, or went down before the broker confirmed.

    What was being settled counts as not done: the broker will deliver it again.
    """


class StaleDelivery(LinkLost):
    """A delivery that came over an earlier link: the broker has taken it back and will deliver it again."""


class SendRefused(TransportError):
    """The broker refused a message; `message` holds the broker's own words. Nothing was settled."""


class Unsendable(ZocError):
    """A message that must not be put on the wire: too large, or a header no broker would carry unharmed."""

    exit_code = ExitCode.USAGE
