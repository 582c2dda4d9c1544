"""`zoc wrap`: run one task of a recipe, as a cluster job does."""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import ListingCommand, Session, pass_session
from zoctools.errors import ExitCode, Unreachable, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from zoctools.task import Outcome
    from zoctools.transport.contract import Transport

WAIT = 1800.0
"""Seconds for which ``--wait`` keeps trying."""
PAUSE = 5.0


def _complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from importlib.metadata import entry_points

    from click.shell_completion import CompletionItem

    names = sorted(entry.name for entry in entry_points(group="zoctools.wrappers"))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


@click.command("wrap", cls=ListingCommand, changing=True)
@click.argument("name", required=False, shell_complete=_complete_name)
@click.option("--list", "list_them", is_flag=True, help="List the installed wrappers.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print JSON.")
@click.option(
    "--recipewrapper",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The task: the file written by whoever submitted the job. Without it nothing is sent but the status.",
)
@click.option("--pass-status", is_flag=True, help="Exit as the wrapped program did, where it did not exit with 0.")
@click.option("--wait", is_flag=True, help="Keep trying for half an hour while the broker cannot be reached.")
@click.option("-v", "--verbose", count=True, help="Log more; twice: everything.")
@pass_session
def wrap(
    session: Session,
    name: str | None,
    list_them: bool,
    as_json: bool,
    recipewrapper: Path | None,
    pass_status: bool,
    wait: bool,
    verbose: int,
) -> int:
    """Run the wrapper NAME on the task in a recipewrapper file and tell the recipe how it went.

    Ctrl-C, SIGTERM and 'zoc shutdown' end the task and the program it runs; the recipe is told that it failed.

    Exit code 0: the task succeeded; 1: it failed; 2: the file or NAME is wrong; 4: the broker was away before
    anything was started.

    \b
    Examples:
      zoc wrap command --recipewrapper .recipewrap
      zoc wrap --list
    """
    if list_them:
        if name is not None:
            raise UsageError("--list takes no NAME")
        return _list(as_json)
    if name is None:
        raise UsageError("no wrapper named", "'zoc wrap --list' says which are installed")
    if as_json:
        raise UsageError("--json goes with --list")
    from zoctools import logs, wrapper
    from zoctools.task import Task, TaskFile

    found = wrapper.load(name)
    file = TaskFile.read(recipewrapper) if recipewrapper is not None else None
    with contextlib.suppress(AttributeError, OSError, ValueError):
        faulthandler.enable()
        faulthandler.register(signal.SIGUSR2)
    with ExitStack() as stack:
        transport = _connected(session, stack, WAIT if wait else 0.0)
        task = Task(name, found, file, transport, session.settings)
        logs.set_up(session.settings, verbose, task.fields)
        outcome = task.run()
    return _exit_code(outcome, pass_status)


def _connected(session: Session, stack: ExitStack, patience: float) -> Transport:
    deadline = time.monotonic() + patience
    said = False
    while True:
        try:
            return stack.enter_context(session.transport(changing=True))
        except Unreachable as error:
            if time.monotonic() >= deadline:
                raise
            if not said:
                output.warn(f"{error.message}; trying again")
                said = True
        time.sleep(PAUSE)


def _exit_code(outcome: Outcome, pass_status: bool) -> int:
    if pass_status and outcome.program:
        return outcome.program
    if outcome.success:
        return ExitCode.DONE
    return ExitCode.INTERRUPTED if outcome.interrupted else ExitCode.NO


def _list(as_json: bool) -> int:
    from zoctools import wrapper

    items = wrapper.listed()
    if as_json:
        output.print_json("zoc.wrap/1", items)
    else:
        rows = [(item.name, text.one_line(item.problem or item.summary, 100)) for item in items]
        output.print_table(("wrapper", "what it does"), rows)
    return ExitCode.PARTLY if any(item.problem for item in items) else ExitCode.DONE
