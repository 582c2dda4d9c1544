"""`zoc pickup`: resend the requests that `zoc go` saved while the broker was away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Session, command, pass_session
from zoctools.errors import BadFile, ConfigError, ExitCode, LinkLost, ZocError

if TYPE_CHECKING:
    from zoctools.dropfiles import Request
    from zoctools.transport.contract import Transport

RECONNECT = 30.0
"""Seconds to wait for a lost link before the rest is left for the next pickup."""


@dataclass(frozen=True, slots=True)
class Item:
    """What became of one file: ``sent``, ``skipped`` with the reason, ``not sent``, or ``would be sent``."""

    file: str
    state: str
    reason: str = ""
    recipe_id: str = ""
    recipes: tuple[str, ...] = ()
    user: str = ""
    host: str = ""

    @classmethod
    def of(cls, path: Path, state: str, request: Request) -> Item:
        """The item of a file whose request could be read."""
        headers = request.headers
        user, host = headers.get("zocalo.go.user", ""), headers.get("zocalo.go.host", "")
        return cls(str(path), state, "", request.recipe_id, request.recipes, user, host)

    @property
    def line(self) -> str:
        """It in words."""
        recipes = ",".join(self.recipes) or "no recipe names"
        what = self.reason or f"{recipes} from {self.user or 'somebody'} at {self.host or 'an unknown host'}"
        return f"{self.state}: {self.file}: {text.one_line(what, 400)}"


@command("pickup", changing=True)
@click.option("-d", "--delay", type=click.FloatRange(0, 3600), default=2.0, help="Seconds between two requests (2).")
@click.option("-w", "--wait", type=click.FloatRange(0, 86400), default=60.0, help="Seconds to wait at first (60).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each file.")
@pass_session
def pickup(session: Session, delay: float, wait: float, yes: bool, dry_run: bool, as_json: bool) -> ExitCode:
    """Send the requests saved while the broker was away, oldest first, and delete each once the broker has it.

    A file that cannot be sent is left where it is, with the reason. Two pickups at once never send a request twice.

    \b
    Examples:
      zoc pickup --dry-run
      zoc pickup --yes --wait 0
    """
    from zoctools import dropfiles

    directory = session.settings.drop_directory
    if directory is None:
        raise ConfigError(
            "there is no directory of saved requests",
            "it is set by zocalo.go.fallback_location in the 'storage' plug-in",
        )
    say_line = output.say if as_json else output.print_line

    def report(item: Item) -> None:
        say_line(item.line)

    files = dropfiles.waiting(directory)
    output.say(f"{text.count(len(files), 'file')} in {directory}")
    if dry_run:
        items, failure = [_looked_at(path) for path in files], None
        for item in items:
            report(item)
    else:
        items, failure = _sent(session, files, report, delay=delay, wait=wait, yes=yes)
    if as_json:
        output.print_json("zoc.pickup/1", items, complete=failure is None)
    code = _exit_code(items, failure)
    if failure is not None:
        left = len(files) - len(items)
        output.say(f"zoc: {text.one_line(failure.message)}; {text.count(left, 'file')} not tried")
    if files and not dry_run:
        done = sum(item.state == "sent" for item in items)
        output.say(f"{done} of {text.count(len(files), 'request')} sent to {session.settings.title}")
    return code


def _exit_code(items: list[Item], failure: ZocError | None) -> ExitCode:
    bad = failure is not None or any(item.state not in ("sent", "would be sent") for item in items)
    if failure is not None and not any(item.state == "sent" for item in items):
        return failure.exit_code
    return ExitCode.PARTLY if bad else ExitCode.DONE


def _looked_at(path: Path) -> Item:
    from zoctools import dropfiles

    try:
        with dropfiles.claimed(path) as request:
            return Item.of(path, "would be sent", request)
    except dropfiles.Skipped as skipped:
        return Item(str(path), "skipped", str(skipped))


def _sent(
    session: Session, files: list[Path], report: Callable[[Item], None], *, delay: float, wait: float, yes: bool
) -> tuple[list[Item], ZocError | None]:
    """Send the files; returns what became of those tried, and what ended it before all were."""
    if not files:
        return [], None
    session.settings.broker(changing=True)
    output.confirm(f"send {text.count(len(files), 'saved request')} to {session.settings.title}?", yes=yes)
    if wait:
        output.say(f"waiting {text.duration(wait)}")
        time.sleep(wait)
    items: list[Item] = []
    try:
        with session.transport(changing=True) as transport:
            for number, path in enumerate(files):
                if number:
                    time.sleep(delay)
                items.append(_resent(path, transport))
                report(items[-1])
    except ZocError as failure:
        return items, failure
    return items, None


def _resent(path: Path, transport: Transport) -> Item:
    from zoctools import dropfiles

    try:
        try:
            return Item.of(path, "sent", dropfiles.resend(path, transport))
        except LinkLost:
            if not transport.wait_connected(RECONNECT):
                raise
            return Item.of(path, "sent", dropfiles.resend(path, transport))
    except dropfiles.Skipped as skipped:
        return Item(str(path), "skipped", str(skipped))
    except BadFile as kept:
        return Item(str(path), "sent, kept", kept.message)
