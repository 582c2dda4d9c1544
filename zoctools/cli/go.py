"""`zoc go`: start recipes. stdout is the recipe ID, so that a script can follow what it started."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Command, Session, assigned, pass_session
from zoctools.errors import BadFile, ConfigError, ExitCode, Unreachable, UsageError, ZocError

if TYPE_CHECKING:
    from zoctools.dropfiles import Request

PATIENCE = 8.0
"""Seconds until a broker that does not answer counts as away."""
LEAVING = 1.0
"""Seconds for leaving the broker in peace once it has the request."""
MAX_ID = 2**63 - 1


class GoCommand(Command):
    """Reads ``-5`` as the data collection ID somebody meant, and says that it is none."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse negative numbers before they are taken for options."""
        words = args[: args.index("--")] if "--" in args else args
        for word in words:
            if re.fullmatch(r"-[0-9]+", word):
                raise UsageError(f"not a data collection ID: {word!r}", "it is a whole number from 1 upwards")
        return super().parse_args(ctx, args)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: the item of `--json`."""

    recipe_id: str
    recipes: tuple[str, ...]
    recipe_file: str | None
    parameters: dict[str, Any]
    environment: str
    broker: str
    submitted: bool
    saved_to: str | None = None
    reason: str | None = None


@click.command("go", cls=GoCommand, changing=True)
@click.argument("dcid", nargs=-1)
@click.option("-r", "--recipe", "recipes", multiple=True, metavar="NAME", help="Recipe to run; may be repeated.")
@click.option("-f", "--file", "recipe_file", metavar="FILE", help="Run the recipe in this file ('-': standard input).")
@click.option("-n", "--no-dcid", is_flag=True, help="Run without a data collection.")
@click.option("-p", "--reprocessing", is_flag=True, help="The ID is that of a processing job, not a data collection.")
@click.option("-a", "--autoprocscalingid", metavar="ID", help="An auto processing scaling ID for the recipes.")
@click.option(
    "-s", "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a parameter; may be repeated."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the message before it is sent.")
@click.option("--dry-run", is_flag=True, help="Check everything, the broker's answer included, and send nothing.")
@click.option("--drop", is_flag=True, help="Save the request for 'zoc pickup' instead of sending it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the recipe ID.")
@pass_session
def go(
    session: Session,
    dcid: tuple[str, ...],
    recipes: tuple[str, ...],
    recipe_file: str | None,
    no_dcid: bool,
    reprocessing: bool,
    autoprocscalingid: str | None,
    assignments: tuple[str, ...],
    verbose: bool,
    dry_run: bool,
    drop: bool,
    as_json: bool,
) -> ExitCode:
    """Start recipes for a data collection and print the recipe ID.

    When the broker cannot be reached the request is saved to a file that 'zoc pickup' sends later: "saved, NOT
    submitted", exit code 3. The recipe ID is the same then.

    \b
    Examples:
      zoc go -r archive-cbfs 5073790
      zoc go -r mimas -s event=end -s ispyb_wait_for_runstatus=1 5073790
      zoc go -f my-recipe.json --no-dcid
      zoc go -p 1234
    """
    from zoctools import dropfiles

    parameters: dict[str, Any] = {**assigned(assignments)}
    identifier = _identifier(dcid, no_dcid=no_dcid, reprocessing=reprocessing)
    if identifier is not None:
        parameters["ispyb_process" if reprocessing else "ispyb_dcid"] = identifier
    if autoprocscalingid is not None:
        parameters["ispyb_autoprocscalingid"] = _number(autoprocscalingid, "an auto processing scaling ID")
    if not (recipes or recipe_file or reprocessing):
        raise UsageError("no recipes named", "name one with -r NAME, or give a recipe file with -f FILE")
    request = dropfiles.new_request(recipes, parameters, _custom(recipe_file))
    _warn_unknown(session, recipes)
    if verbose:
        output.say(output.json_text(request.message, indent=2))
    what = _described(recipes, recipe_file, identifier, reprocessing=reprocessing)
    if dry_run:
        return _try(session, what, drop=drop)
    saved_to, reason = (_set_aside(session, request, what), None) if drop else _submit(session, request, what)
    settings = session.settings
    outcome = Outcome(
        request.recipe_id,
        recipes,
        recipe_file,
        dict(request.parameters),
        settings.environment,
        settings.stomp.broker if settings.stomp else "",
        submitted=saved_to is None,
        saved_to=saved_to,
        reason=reason,
    )
    if as_json:
        output.print_json("zoc.go/1", [outcome])
    else:
        output.print_line(request.recipe_id)
    return ExitCode.PARTLY if reason else ExitCode.DONE


def _identifier(given: tuple[str, ...], *, no_dcid: bool, reprocessing: bool) -> int | None:
    if no_dcid:
        if given:
            raise UsageError("--no-dcid and a data collection ID do not go together")
        if reprocessing:
            raise UsageError("--no-dcid and --reprocessing do not go together")
        return None
    kind = "a processing job ID" if reprocessing else "a data collection ID"
    if len(given) > 1:
        raise UsageError(f"one ID can be given at a time, not {len(given)}")
    if not given:
        raise UsageError(f"{kind} is missing", "give one, or --no-dcid to run without")
    return _number(given[0], kind)


def _number(word: str, kind: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", word) or not 0 < int(word) <= MAX_ID:
        raise UsageError(f"not {kind}: {word[:80]!r}", "it is a whole number from 1 upwards")
    return int(word)


def _custom(recipe_file: str | None) -> dict[str, Any] | None:
    if recipe_file is None:
        return None
    from zoctools.recipe.recipe import MAX_FILE, Recipe

    if recipe_file == "-":
        recipe = Recipe.from_text(sys.stdin.buffer.read(MAX_FILE + 1), "standard input")
    else:
        recipe = Recipe.from_file(Path(recipe_file))
    recipe.validate()
    return recipe.to_json()


def _warn_unknown(session: Session, recipes: Sequence[str]) -> None:
    """Say which recipes are not where this site keeps them; the Dispatcher decides, it may see another directory."""
    directory = session.settings.recipe_directory
    if directory is None or not directory.is_dir():
        return
    for name in recipes:
        if not (directory / f"{name}.json").is_file():
            output.warn(f"there is no recipe {name!r} in {directory}")


def _described(recipes: Sequence[str], recipe_file: str | None, identifier: int | None, *, reprocessing: bool) -> str:
    names = [*recipes, *([f"the recipe in {recipe_file}"] if recipe_file else [])]
    which = " and ".join(names) or "the recipe of the processing job"
    if identifier is None:
        return f"{which} without a data collection"
    return f"{which} for {'processing job' if reprocessing else 'data collection'} {identifier}"


def _try(session: Session, what: str, *, drop: bool) -> ExitCode:
    if drop:
        directory = _drop_directory(session)
        if not directory.is_dir():
            raise ConfigError(f"{directory}: there is no such directory to save requests in")
        output.say(f"dry run: would save {what} in {directory}; nothing was saved")
        return ExitCode.DONE
    with session.transport(changing=True, within=PATIENCE):
        output.say(f"dry run: {session.settings.title} answers; would run {what}; nothing was sent")
    return ExitCode.DONE


def _submit(session: Session, request: Request, what: str) -> tuple[str | None, str | None]:
    """Send the request; when the broker is away save it and return where, and why."""
    session.settings.broker(changing=True)
    try:
        _send(session, request)
    except ZocError as error:
        if error.exit_code not in (ExitCode.UNREACHABLE, ExitCode.TIMED_OUT):
            raise
        if session.settings.drop_directory is None:
            raise
        try:
            saved_to = _save(session, request)
        except BadFile as unsaved:
            raise Unreachable(f"{error.message}; {unsaved.message}", "nothing was submitted, nothing saved") from error
        output.say(f"zoc: {text.one_line(error.message)}")
        _say_saved(session, what, saved_to)
        return saved_to, error.message
    output.say(f"{what} on {session.settings.title}: submitted")
    return None, None


def _send(session: Session, request: Request) -> None:
    """Send with a confirmation, in a thread of its own, because looking up a host name has no time limit.

    Raises `Unreachable` when it takes too long; nothing is sent after that but what is already on its way.
    """
    failures: list[BaseException] = []
    given_up = threading.Event()
    finished = threading.Event()

    def work() -> None:
        try:
            with session.transport(changing=True, within=PATIENCE / 2) as transport:
                if not given_up.is_set():
                    transport.send(request.outgoing(transport))
                    finished.set()
        except BaseException as error:
            failures.append(error)
        finally:
            finished.set()

    sender = threading.Thread(target=work, name="zoc-go", daemon=True)
    sender.start()
    if not finished.wait(PATIENCE):
        given_up.set()
        raise Unreachable(f"{session.settings.title} does not answer")
    if failures:
        raise failures[0]
    sender.join(LEAVING)


def _set_aside(session: Session, request: Request, what: str) -> str:
    saved_to = _save(session, request)
    _say_saved(session, what, saved_to)
    return saved_to


def _say_saved(session: Session, what: str, saved_to: str) -> None:
    output.say(f"{what} on {session.settings.title}: saved, NOT submitted; 'zoc pickup' sends {saved_to}")


def _save(session: Session, request: Request) -> str:
    from zoctools import dropfiles

    return str(dropfiles.save(request, _drop_directory(session)))


def _drop_directory(session: Session) -> Path:
    directory = session.settings.drop_directory
    if directory is None:
        raise ConfigError(
            "there is no directory to save requests in",
            "set zocalo.go.fallback_location in the 'storage' plug-in",
        )
    return directory
