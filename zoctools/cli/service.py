"""`zoc service`: run a service, or several instances of it, and list what is installed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import ListingCommand, Session, pass_session
from zoctools.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from zoctools.service.process import Start

CHILD = "ZOC_SERVICE_CHILD"
"""Set by a supervising parent for its children: JSON with its process ID and the broker options it was given."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asked for."""

    name: str
    queue: str | None
    tag: str | None
    instances: int
    restart: bool
    wait: bool
    liveness: bool
    liveness_port: int
    liveness_address: str
    liveness_timeout: float
    verbose: int


def _complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from importlib.metadata import entry_points

    from click.shell_completion import CompletionItem

    names = sorted(entry.name for entry in entry_points(group="zoctools.services"))
    return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]


@click.command("service", cls=ListingCommand, changing=True)
@click.argument("name", required=False, shell_complete=_complete_name)
@click.option("--list", "list_them", is_flag=True, help="List the installed services.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
@click.option("--queue", metavar="QUEUE", help="Consume this queue in place of the service's main one.")
@click.option(
    "--instances", type=click.IntRange(1, 1000), default=1, metavar="N", help="Run so many processes of it (1)."
)
@click.option("--restart", is_flag=True, help="Start a process again that ends other than asked to.")
@click.option("--wait", is_flag=True, help="Keep trying while the broker cannot be reached.")
@click.option("--tag", metavar="TEXT", help="Show this in the status, to tell this start from others.")
@click.option("--liveness", is_flag=True, help="Answer HTTP: 200 while the main loop responds, else 503.")
@click.option(
    "--liveness-port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="PORT",
    help="Where to answer; further instances take the ports that follow (8000).",
)
@click.option("--liveness-address", default="127.0.0.1", metavar="ADDRESS", help="Address to answer on (127.0.0.1).")
@click.option(
    "--liveness-timeout",
    type=click.FloatRange(0.1, 86400),
    default=30.0,
    metavar="SECONDS",
    help="Time the main loop may take; a message is allowed to take as long (30).",
)
@click.option("-v", "--verbose", count=True, help="Log every message handled; twice: everything.")
@pass_session
def service(session: Session, name: str | None, list_them: bool, as_json: bool, **options: Any) -> int:
    """Run the service NAME until it is stopped by a signal or by 'zoc shutdown'.

    NAME may be written in any case and shortened as long as it is unique. SIGTERM and Ctrl-C let it finish its
    message first; a second one, more than a second later, ends it at once. The broker then delivers again.

    \b
    Examples:
      zoc service --list
      zoc service FileWatcher --instances 3 --restart
      zoc service archiver --queue archive.test -v
    """
    if list_them:
        if name is not None:
            raise UsageError("--list takes no NAME")
        return _list(as_json)
    if name is None:
        raise UsageError("no service named", "'zoc service --list' says which are installed")
    if as_json:
        raise UsageError("--json goes with --list")
    asked = Asked(name, **options)
    child = json.loads(os.environ.pop(CHILD, "{}"))
    if child.get("stomp"):
        session.stomp = child["stomp"]
    if not child and (asked.restart or asked.instances > 1):
        return _supervise(session, asked)
    return _run(session, asked, child.get("parent"))


def _list(as_json: bool) -> int:
    from zoctools.service import registry

    items = registry.listed()
    if as_json:
        output.print_json("zoc.service/1", [asdict(item) for item in items])
    else:
        rows = [(item.name, item.queue, text.one_line(item.problem or item.summary, 100)) for item in items]
        output.print_table(("service", "queue", "what it does"), rows)
    return ExitCode.PARTLY if any(item.problem for item in items) else ExitCode.DONE


def _run(session: Session, asked: Asked, parent: int | None) -> int:
    from zoctools.service import process, registry

    found = registry.load(asked.name)
    transport = session.opener(session.settings.broker(changing=True))
    return process.run(found, transport, session.settings, _start(asked, parent))


def _start(asked: Asked, parent: int | None) -> Start:
    from zoctools.service.liveness import Liveness
    from zoctools.service.process import Start

    liveness = None
    if asked.liveness:
        liveness = Liveness(asked.liveness_port, asked.liveness_timeout, asked.liveness_address)
    return Start(asked.queue, asked.tag, asked.verbose, asked.wait, parent, liveness)


def _supervise(session: Session, asked: Asked) -> int:
    from zoctools import logs
    from zoctools.service import process, registry
    from zoctools.service.children import Plan, Supervisor
    from zoctools.service.notice import Notice

    found = registry.load(asked.name)
    broker = session.settings.broker(changing=True)
    vitals = process.vitals_of(found, asked.tag)
    logs.set_up(session.settings, asked.verbose, lambda: vitals.fields)
    child = json.dumps({"parent": os.getpid(), "stomp": dict(session.stomp)})
    plan = Plan(
        lambda number, again: _child_command(session, asked, number, again),
        {**os.environ, CHILD: child},
        asked.instances,
        asked.restart,
    )
    notice = Notice(vitals, lambda: session.opener(broker))
    try:
        return Supervisor(plan, notice.say).run()
    finally:
        notice.close()


def _child_command(session: Session, asked: Asked, number: int, again: bool) -> Sequence[str]:
    """Return the command line of a child; one that is restarted waits for the broker, for nobody else would."""
    words = [sys.executable, "-P", "-m", "zoctools", "service"]
    words += [word for name in session.environments for word in ("-e", name)]
    words += ["--config", session.config_path] if session.config_path else []
    for option, value in (("--queue", asked.queue), ("--tag", asked.tag)):
        words += [option, value] if value is not None else []
    words += ["--wait"] if asked.wait or again else []
    words += ["-v"] * asked.verbose
    if asked.liveness:
        port = asked.liveness_port + number if asked.liveness_port else 0
        words += ["--liveness", "--liveness-port", str(port), "--liveness-address", asked.liveness_address]
        words += ["--liveness-timeout", str(asked.liveness_timeout)]
    return [*words, "--", asked.name]
