"""`zoc shutdown`: ask services to stop and, with `--wait`, see that they did."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Command, Session, pass_session
from zoctools.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from zoctools import shutdown as core
    from zoctools.transport.contract import Transport

LISTEN = 7.0
"""Seconds in which every living service has spoken once."""
WAIT = 60.0


class ShutdownCommand(Command):
    """Reads ``--wait`` with and without its number of seconds."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Give a bare ``--wait`` its default."""
        words: list[str] = []
        for place, word in enumerate(args):
            if place and args[place - 1] == "--wait" and re.fullmatch(r"[0-9]+(\.[0-9]+)?", word):
                words[-1] = f"--wait={word}"
            else:
                words.append(f"--wait={WAIT:g}" if word == "--wait" else word)
        return super().parse_args(ctx, words)


@dataclass(frozen=True, slots=True)
class Item:
    """One process: ``asked`` to stop, or its state after waiting."""

    process: str
    service: str | None
    state: str


@click.command("shutdown", cls=ShutdownCommand, changing=True)
@click.argument("hosts", nargs=-1, metavar="[HOST.PID]...")
@click.option(
    "-s", "--service", "services", multiple=True, metavar="CLASS", help="Stop every instance of a service class."
)
@click.option("--wait", type=click.FloatRange(0, 86400), metavar="[SECONDS]", help="Watch until they are gone (60 s).")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be stopped, and stop nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each process.")
@pass_session
def shutdown(
    session: Session,
    hosts: tuple[str, ...],
    services: tuple[str, ...],
    wait: float | None,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> ExitCode:
    """Ask services to stop: single processes by HOST.PID, or all instances of a service class.

    They finish the message they work on first. '-s none' means processes that run no service. With --wait the
    exit code is 0 once all are gone, 5 when some still run at the end, 1 when none of them was ever heard.

    \b
    Examples:
      zoc shutdown cs04r-sc-com09-02.1222995
      zoc shutdown -s FileWatcher --wait 120 --yes
    """
    from zoctools import shutdown as core
    from zoctools.hosts import Host

    if not hosts and not services:
        raise UsageError("nothing named to shut down", "name processes as HOST.PID, or a service with -s CLASS")
    watch = core.Watch()
    commands = [core.for_host(host, watch, Host.of_this_process()) for host in hosts]
    ask = bool(services) and not yes and not dry_run
    if ask:
        output.require_answer(f"stop services on {session.settings.title}", yes=yes)
    with session.transport(changing=True) as transport:
        if ask or dry_run or wait is not None:
            _listen(transport, watch)
            commands = [core.for_host(host, watch, Host.of_this_process()) for host in hosts]
        commands += [core.for_service(name, watch) for name in services]
        processes = core.targets(commands, watch)
        if dry_run:
            if not processes:
                output.say(f"zoc: none was heard on {session.settings.title}: nobody would be asked to stop")
                return _report([], as_json, ExitCode.NO)
            return _report(_items(processes, watch, "would be asked"), as_json)
        if ask:
            question = f"stop {_counted(commands, watch)} on {session.settings.title}?"
            output.confirm(question, yes=yes)
        for order in commands:
            transport.send(order.outgoing(transport))
            output.say(f"asked to stop on {session.settings.title}: {order}")
        if wait is None:
            return _report(_items(processes, watch, "asked"), as_json)
        _wait(transport, watch, processes, wait)
    now = time.monotonic()
    items = [Item(process, _service(watch, process), watch.state(process, now)) for process in processes]
    _report(items, as_json)
    return _verdict(items)


def _listen(transport: Transport, watch: core.Watch) -> None:
    from zoctools import shutdown as core

    transport.subscribe(transport.topic(core.STATUS), acknowledge=False, retroactive=True)
    output.say(f"listening for {text.duration(LISTEN)} to what runs")
    core.listen(transport, watch, time.monotonic() + LISTEN)


def _wait(transport: Transport, watch: core.Watch, processes: Sequence[str], seconds: float) -> None:
    from zoctools import shutdown as core

    deadline = time.monotonic() + seconds
    while (now := time.monotonic()) < deadline:
        if all(watch.state(process, now) in ("stopped", "silent") for process in processes):
            return
        core.listen(transport, watch, min(now + 0.25, deadline))


def _service(watch: core.Watch, process: str) -> str | None:
    heard = watch.heard.get(process)
    return heard.service if heard else None


def _items(processes: Sequence[str], watch: core.Watch, state: str) -> list[Item]:
    return [Item(process, _service(watch, process), state) for process in processes]


def _counted(commands: Sequence[core.Command], watch: core.Watch) -> str:
    parts = []
    for order in commands:
        if order.host:
            parts.append(order.host)
        else:
            parts.append(f"{text.count(len(watch.of_service(order.service)), 'instance')} of {order}")
    return ", ".join(parts)


def _report(items: Sequence[Item], as_json: bool, code: ExitCode = ExitCode.DONE) -> ExitCode:
    if as_json:
        output.print_json("zoc.shutdown/1", items)
    else:
        for item in items:
            output.print_line(f"{item.state}: {item.process}{f' ({item.service})' if item.service else ''}")
    return code


def _verdict(items: Sequence[Item]) -> ExitCode:
    states = [item.state for item in items]
    if "running" in states:
        output.say(f"zoc: {text.count(states.count('running'), 'process', 'processes')} still running")
        return ExitCode.TIMED_OUT
    if not any(state in ("stopped", "silent") for state in states):
        output.say("zoc: none of them was heard, before or after")
        return ExitCode.NO
    return ExitCode.PARTLY if "not heard" in states else ExitCode.DONE
