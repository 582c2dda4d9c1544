"""Runs all checks at once, each with its own limit, and gives the findings in a fixed order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from zoctools.doctor import site
from zoctools.doctor.broker import LIMIT, STATUS_LIMIT, BrokerChecks, Opener
from zoctools.doctor.finding import Finding, fail, of_error, unknown
from zoctools.errors import ConfigError, ExitCode, LinkLost, SendRefused, ZocError
from zoctools.queues import Jolokia, source_of
from zoctools.settings import Settings

SLACK = 2.0
"""Seconds more than its limit before a check counts as stuck; its own words are better than ours."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at, and for how long."""

    what: str
    look: Callable[[], Finding]
    limit: float = LIMIT


class Running:
    """A check in a thread of its own, left behind when it hangs: a dead file system answers to nothing."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._deadline = time.monotonic() + check.limit + SLACK
        self._finding: Finding | None = None
        self._thread = threading.Thread(target=self._run, name=f"doctor {check.what}", daemon=True)
        self._thread.start()

    def finding(self) -> Finding:
        """Wait for what it finds."""
        self._thread.join(max(self._deadline - time.monotonic(), 0))
        if self._finding is not None:
            return self._finding
        limit = self._check.limit
        return fail(self._check.what, f"no answer within {limit:g} s", "it hangs; the rest was looked at")

    def _run(self) -> None:
        what = self._check.what
        try:
            self._finding = self._check.look()
        except SendRefused as error:
            self._finding = unknown(what, f"our login may not do this: {error.message}")
        except LinkLost as error:
            self._finding = fail(what, error.message, error.hint, ExitCode.UNREACHABLE)
        except ZocError as error:
            self._finding = of_error(what, error)
        except Exception as error:
            self._finding = fail(what, f"the check itself failed: {type(error).__name__}: {error}", "report this")


def examine(settings: Settings, opener: Opener) -> Iterator[Finding]:
    """Look at everything and yield the findings in order, each as soon as it and those before it are there.

    Sends only to queues of its own, and nothing at all where the site is read-only; what it sent it takes back.
    """
    figures = source_of(settings)
    namespace = settings.stomp.namespace if settings.stomp else ""
    on_site = [
        Check("recipes", lambda: site.recipes(settings)),
        Check("logbook", lambda: site.logbook(settings)),
        Check("drop files", lambda: site.drop_files(settings)),
        Check("queue figures", lambda: site.queue_figures(figures), 2 * LIMIT),
        Check("dead letters", lambda: site.dead_letters(figures, namespace)),
    ]
    running = [Running(check) for check in on_site]
    yield site.configuration(settings)
    try:
        checks = BrokerChecks(settings.broker(changing=False), opener, figures)
    except ConfigError as error:
        yield of_error("login", error)
        yield from _not_tried("there is no broker")
    else:
        yield from _of_broker(checks, settings.readonly)
        if isinstance(figures, Jolokia):
            _remove(figures, checks.queues)
    yield from (each.finding() for each in running)


def exit_code(findings: Sequence[Finding]) -> ExitCode:
    """Return what the findings come to: 4 when a server cannot be reached, 1 when something else is wrong."""
    codes = {finding.code for finding in findings if finding.failed}
    if ExitCode.UNREACHABLE in codes:
        return ExitCode.UNREACHABLE
    return ExitCode.NO if codes else ExitCode.DONE


def _of_broker(checks: BrokerChecks, readonly: bool) -> Iterator[Finding]:
    login = Running(Check("login", checks.login)).finding()
    yield login
    if login.failed:
        yield from _not_tried("the broker does not take us")
        return
    listening = Running(Check("services", checks.services, STATUS_LIMIT))
    if readonly:
        yield from (unknown(what, "not tried: this site is read-only") for what in _SENDING)
    else:
        looks = (checks.round_trip, checks.scheduler, checks.dead_letter_queues)
        sending = [Running(Check(what, look)) for what, look in zip(_SENDING, looks, strict=True)]
        yield from (each.finding() for each in sending)
    yield listening.finding()


_SENDING = ("round trip", "scheduler", "dead letter queues")


def _not_tried(why: str) -> Iterator[Finding]:
    yield from (unknown(what, f"not tried: {why}") for what in (*_SENDING, "services"))


def _remove(figures: Jolokia, queues: Sequence[str]) -> None:
    """Remove the queues we used, where we may; a broker removes unused ones by itself after a while."""
    with contextlib.suppress(ZocError):
        name = figures.broker().name
        for queue in queues:
            figures.remove(name, queue)
