"""`zoc status`: what every service and task is doing; a live screen, a table, or JSON."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Session, command, pass_session
from zoctools.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from zoctools.snapshot import Instance, Snapshot
    from zoctools.transport.contract import Link

LISTEN = 7.0
"""Seconds: a service speaks every 6 s at least."""

Wanted = Callable[[Mapping[str, Any]], bool] | None
"""Whether a row, given as field to value, is shown; None shows all."""


@command("status")
@click.option("--once", is_flag=True, help="Listen for a while and print a table; the default off a terminal.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.option("--ndjson", is_flag=True, help="Print each broadcast as a line of JSON as it comes, without end.")
@click.option(
    "--listen", type=click.FloatRange(0.1, 86400), metavar="SECONDS", help=f"How long to listen ({LISTEN:g})."
)
@click.option("--where", "expression", metavar="EXPR", default="", help="Only what matches: text, !text, field:value.")
@click.option("-s", "--service", "classes", multiple=True, metavar="CLASS", help="Only this service class, or 'none'.")
@click.option("--host", "host_pattern", metavar="REGEX", default="", help="Only hosts that match, in any spelling.")
@pass_session
def status(
    session: Session,
    once: bool,
    as_json: bool,
    ndjson: bool,
    listen: float | None,
    expression: str,
    classes: tuple[str, ...],
    host_pattern: str,
) -> ExitCode | int:
    """Show what every service and task is doing.

    On a terminal this is a live screen: '?' in it explains the keys. Elsewhere, and with --once, it listens for a
    while and prints what it heard. --where takes words that must all hold: text anywhere in the row, !text for its
    absence, field:value; fields are service, class, task, host, state, text, age, busy, version, waits, recipe and
    queue, and field:>5, field:<5 and field:=whole compare.

    Exit code 1 when nothing was heard, or nothing that matches.

    \b
    Examples:
      zoc status
      zoc status --once --where 'state:processing busy:>80'
      zoc status --json -s Dispatcher
      zoc status --ndjson --where '!task:=' | head
    """
    if ndjson and (once or as_json):
        raise UsageError("--ndjson and --once or --json exclude each other")
    wanted = selection(expression, classes, host_pattern)
    if ndjson:
        return _stream(session, wanted, listen)
    if not (once or as_json or listen):
        if _screen_possible():
            return _live(session, wanted)
        if os.environ.get("TERM") == "dumb" and sys.stdout.isatty():
            output.say("this terminal (TERM=dumb) cannot show the screen: listening once")
    return _listen_once(session, wanted, listen or LISTEN, as_json)


def selection(expression: str, classes: Sequence[str], host_pattern: str) -> Wanted:
    """Return what decides whether a row is shown; raises `UsageError`."""
    from zoctools.snapshot import FIELDS
    from zoctools.where import Where

    where = Where.parse(expression, FIELDS)
    names = {"" if name == "none" else name for name in classes}
    try:
        pattern = re.compile(host_pattern, re.IGNORECASE)
    except re.error as error:
        raise UsageError(f"--host: not a regular expression: {error}") from None
    if not (where.terms or names or host_pattern):
        return None

    def wanted(row: Mapping[str, Any]) -> bool:
        if names and row["class"] not in names:
            return False
        spellings = (row["host"] or "").split()
        return where.matches(row) and any(pattern.search(spelling) for spelling in spellings or [""])

    return wanted


def _picked(shot: Snapshot, rows: Iterable[Instance], wanted: Wanted) -> list[Instance]:
    return [row for row in rows if wanted is None or wanted(shot.record(row))]


def _screen_possible() -> bool:
    """Whether there is a terminal that can be drawn on and typed at; a browser's driver counts as one."""
    if os.environ.get("TEXTUAL_DRIVER"):
        return True
    if os.environ.get("TERM", "dumb") == "dumb":
        return False
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _live(session: Session, wanted: Wanted) -> int:
    from zoctools.tui.app import run_status

    settings = session.settings.broker(changing=False)
    return run_status(session.opener(settings), session.settings.title, settings.broker, wanted)


def _listen_once(session: Session, wanted: Wanted, seconds: float, as_json: bool) -> ExitCode:
    from zoctools.board import StatusBoard
    from zoctools.listener import hear, subscribe

    board = StatusBoard()
    with session.transport(changing=False) as transport:
        subscribe(transport)
        hear(transport, board, seconds)
    shot = board.snapshot()
    rows = _picked(shot, shot.instances, wanted)
    lost = shot.lost_at is not None
    if as_json:
        items = (item(shot, instance) for instance in rows)
        output.print_json("zoc.status/1", items, complete=not lost, taken_at=shot.taken_at)
    elif rows:
        output.print_table(HEADINGS, (_cells(shot, row) for row in rows), colour=session.colour())
    output.say(f"listened to {session.settings.title} for {seconds:g} s: {_summary(shot, len(rows))}")
    if shot.counts.malformed:
        said = text.count(shot.counts.malformed, "malformed broadcast")
        output.warn(f"{said} left out, the last one {shot.counts.malformed_sample}")
    if shot.counts.refused:
        output.warn(f"the broker refused something: {shot.counts.refused_sample}")
    if lost:
        output.warn("the link to the broker was lost meanwhile: this is not all")
        return ExitCode.UNREACHABLE
    return ExitCode.DONE if rows else ExitCode.NO


def _summary(shot: Snapshot, shown: int) -> str:
    if not shot.instances:
        return "nobody spoke"
    tasks = sum(bool(instance.task) for instance in shot.instances)
    heard = [text.count(len(shot.instances) - tasks, "service"), *([text.count(tasks, "task")] if tasks else [])]
    hosts = len({instance.said.node for instance in shot.instances})
    rest = f", {shown} shown" if shown != len(shot.instances) else ""
    return f"{' and '.join(heard)} on {text.count(hosts, 'host')}{rest}"


HEADINGS = ("service", "host", "state", "age", "busy", "version", "waits for")


def _cells(shot: Snapshot, row: Instance) -> tuple[str, ...]:
    busy = "" if row.said.busy is None else f"{100 * row.said.busy:.0f} %"
    name = text.one_line(row.label or "-", 60)
    state = text.one_line(shot.word(row))
    age = text.duration(shot.age(row))
    return (name, text.one_line(row.process, 60), state, age, busy, row.said.version, row.said.waiting_for)


def item(shot: Snapshot, row: Instance) -> dict[str, Any]:
    """Return a row as JSON says it; times are ISO 8601, spans in seconds, `busy` from 0 to 1."""
    said = row.said
    age = shot.age(row)
    return {
        "host": row.host,
        "node": said.node,
        "service": row.service,
        "service_class": row.service_class,
        "task": row.task,
        "status": row.status,
        "state": shot.word(row),
        "status_text": said.status_text,
        "age": round(age, 3),
        "heard_at": output.iso_time(shot.taken_at - age),
        "busy": said.busy,
        "versions": said.versions,
        "skew": row.skew,
        "waiting_for": said.waiting_for,
        "recipe_id": said.recipe_id,
        "queues": said.queues,
        "busy_for": said.busy_for,
        "wait_p95": said.wait_p95,
        "handled": said.handled,
        "failed": said.failed,
        "message": row.fields(),
    }


def _stream(session: Session, wanted: Wanted, seconds: float | None) -> ExitCode:
    """Print broadcasts, forgotten instances and the state of our own link, one JSON object each, until `seconds`."""
    from zoctools.board import Change, StatusBoard
    from zoctools.broadcast import decode
    from zoctools.listener import events, subscribe
    from zoctools.transport.contract import Delivery, Link

    board = StatusBoard()
    heard = False
    swept = time.monotonic()
    with session.transport(changing=False) as transport:
        subscribe(transport)
        until = None if seconds is None else swept + seconds
        for event, change in events(transport, board, until):
            if isinstance(event, Link):
                output.print_ndjson({"event": "link", "time": output.iso_time(), **_link_item(event)})
            elif isinstance(event, Delivery) and change is not Change.NOTHING:
                shot = board.snapshot([decode(event.body)["host"]])
                heard = _print_rows(change.value, shot, shot.instances, wanted) or heard
            if time.monotonic() - swept >= 1.0:
                swept = time.monotonic()
                _print_rows("forgotten", board.snapshot(()), board.forget(), wanted)
    return ExitCode.DONE if heard else ExitCode.NO


def _print_rows(event: str, shot: Snapshot, rows: Iterable[Instance], wanted: Wanted) -> bool:
    shown = _picked(shot, rows, wanted)
    for row in shown:
        output.print_ndjson({"event": event, "time": output.iso_time(shot.taken_at), **item(shot, row)})
    return bool(shown)


def _link_item(link: Link) -> dict[str, Any]:
    return {"connected": link.connected, "broker": link.broker, "attempt": link.attempt, "error": link.error}
