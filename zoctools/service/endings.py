"""How a handler can end, and what each ending means for the message: pure decisions, nothing is sent here."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from zoctools import headers, text
from zoctools.errors import ZocError
from zoctools.recipe.envelope import BadMessage
from zoctools.service import copies
from zoctools.service.copies import Cause, Place
from zoctools.service.service import Probe, Reject, Retry, Service, Unavailable
from zoctools.transport.contract import Delivery, Outgoing

MAX_TEXT = 2000
MAX_DELAY = 7 * 86400.0
DEATHS = f"delivered {copies.MAX_DEATHS} times to a service that went away before finishing"


@dataclass(frozen=True, slots=True)
class Done:
    """The handler returned."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message can never be handled."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Later:
    """The message shall come again after `delay` seconds."""

    why: str
    delay: float


@dataclass(frozen=True, slots=True)
class Away:
    """Something shared is away: `what`, and how to see whether it is back."""

    what: str
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt failed."""

    cause: Cause


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody interrupted the handler to leave; the message goes back as it came."""


Unfinished = Rejected | Later | Away | Failed | Interrupted
Ending = Done | Unfinished


def ending_of(error: BaseException) -> Unfinished:
    """Return what an exception that left a handler means.

    `SystemExit` is a failed attempt like any other: a library that calls `sys.exit` must not stop a service.
    """
    if isinstance(error, Reject):
        return Rejected(Cause(_words(error.why), "Reject", _traceback_of(error.__cause__)))
    if isinstance(error, Retry):
        return Later(_words(error.why), error.delay)
    if isinstance(error, Unavailable):
        return Away(_words(error.what), error.probe)
    if isinstance(error, BadMessage):
        return Rejected(Cause(_words(f"{error.reason}: {error.why}"), error.reason))
    if isinstance(error, KeyboardInterrupt):
        return Interrupted()
    return Failed(Cause(describe(error), type(error).__name__, _traceback_of(error)))


def describe(error: BaseException) -> str:
    """Return an exception in one line; never raises, whatever the exception's own methods do."""
    name = type(error).__name__
    try:
        words = text.one_line(error, MAX_TEXT)
    except Exception:
        return f"{name} (it cannot be shown)"
    return f"{name}: {words}" if words else name


def _words(value: object) -> str:
    try:
        return text.one_line(value, MAX_TEXT)
    except Exception:
        return f"a {type(value).__name__} that cannot be shown"


def _traceback_of(error: BaseException | None) -> str:
    if error is None:
        return ""
    try:
        return "".join(traceback.format_exception(error, limit=-30))
    except Exception:
        return ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a service's class says about failures; times in seconds."""

    max_attempts: int = 3
    retry_delays: Sequence[float] = (1.0, 10.0)
    retry_for: float = 86400.0
    counts_deaths: bool = True

    @classmethod
    def of(cls, service: Service) -> Rules:
        """The rules of a service."""
        delays = tuple(float(delay) for delay in service.retry_delays)
        return cls(int(service.max_attempts), delays, float(service.retry_for), service.counts_deaths)


@dataclass(frozen=True, slots=True)
class Moment:
    """When it is decided, where, and how far this delay is varied (1.0: not at all); `now` is epoch seconds."""

    now: float
    place: Place
    spread: float = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """The copy that takes a message's place, the outcome in one word for log and status, and why.

    Outcomes: ``retry``, ``failed`` (an attempt), ``unavailable``, ``interrupted``, ``died`` (handed back with one death
    more), ``dead`` (a dead letter).
    """

    outcome: str
    copy: Outgoing
    why: str


def verdict(delivery: Delivery, ending: Unfinished, rules: Rules, moment: Moment) -> Verdict:
    """Return what becomes of a message whose handler ended like this."""
    match ending:
        case Rejected(cause):
            return condemned(delivery, cause, moment)
        case Later(why, delay):
            return _later(delivery, why, delay, rules, moment)
        case Away(what):
            return Verdict("unavailable", copies.copy(delivery, delay=copies.STEP_ASIDE), what)
        case Failed(cause):
            return _failed(delivery, cause, rules, moment)
        case Interrupted():
            return Verdict("interrupted", copies.copy(delivery, delay=copies.STEP_ASIDE), "interrupted")


def condemned(delivery: Delivery, cause: Cause, moment: Moment, counters: dict[str, str] | None = None) -> Verdict:
    """Return the end of a message: its dead letter."""
    letter = copies.dead_letter(delivery, cause, moment.place, moment.now, counters)
    return Verdict("dead", letter, cause.error)


def death_verdict(delivery: Delivery, moment: Moment) -> Verdict:
    """Return what becomes of a message marked as delivered before: the same with one death more, or its end.

    A delay the broker did not keep is asked for again.
    """
    deaths = copies.counter(delivery, headers.DEATHS) + 1
    counters = {headers.DEATHS: str(deaths)}
    if deaths >= copies.MAX_DEATHS:
        return condemned(delivery, Cause(DEATHS, "deaths"), moment, counters)
    delay = max(copies.due(delivery, moment.now) - moment.now, 0.0)
    return Verdict("died", copies.copy(delivery, counters, delay), f"death {deaths} of {copies.MAX_DEATHS}")


def _later(delivery: Delivery, why: str, delay: float, rules: Rules, moment: Moment) -> Verdict:
    since = min(copies.instant(delivery, headers.RETRY_SINCE) or moment.now, moment.now)
    counters = {headers.RETRY_SINCE: f"{since:.3f}"}
    wait = _bounded(delay)
    if moment.now + wait - since > rules.retry_for:
        given_up = Cause(f"given up after {text.duration(moment.now - since)} of retries: {why}", "Retry")
        return condemned(delivery, given_up, moment, counters)
    return Verdict("retry", copies.copy(delivery, counters, wait), why)


def _failed(delivery: Delivery, cause: Cause, rules: Rules, moment: Moment) -> Verdict:
    attempts = copies.counter(delivery, headers.ATTEMPTS) + 1
    counters = {headers.ATTEMPTS: str(attempts)}
    if attempts >= rules.max_attempts:
        return condemned(delivery, cause, moment, counters)
    delays = rules.retry_delays or (0.0,)
    wait = _bounded(delays[min(attempts, len(delays)) - 1] * moment.spread)
    return Verdict("failed", copies.copy(delivery, counters, wait), cause.error)


def _bounded(delay: float) -> float:
    """Return a delay a broker can keep; nonsense (negative, NaN) is none."""
    return min(delay, MAX_DELAY) if delay > 0 else 0.0


def unsettled(error: ZocError) -> Cause:
    """Return the cause of a message whose settle was refused: our reason, or the broker's own words."""
    return Cause(text.one_line(error.message, MAX_TEXT), type(error).__name__)
