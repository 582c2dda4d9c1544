"""The old command names: a script that calls ``zocalo.go`` changes one word and calls ``zoc.go``.

`TOOLS` maps the options of each to those of a `zoc` call. What scripts read of the old tools (lines on stdout, the
exit code) is kept; errors and everything said to people are those of `zoc`. What the old tools did wrong is not
kept: nothing says "Submitted." when nothing was.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zoctools.cli import oldoptions, output
from zoctools.cli.context import Session, as_program, run
from zoctools.cli.main import zoc
from zoctools.cli.oldoptions import Option
from zoctools.errors import ConfigError, ExitCode, UsageError, ZocError
from zoctools.text import one_line

NOTHING_GIVEN = 1
"""Exit code of the old tools for `sys.exit("text")`."""


class Call:
    """A call of `zoc` on behalf of an old tool."""

    def __init__(self, name: str, words: list[str], session: Session) -> None:
        self._name = name
        self.words = words
        self.session = session

    def run(self, *more: str) -> int:
        """Run it; what it prints is printed."""
        return run(zoc, [*self.words, *more], self.session, self._name)

    def items(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        """Run it with ``--json`` and return its exit code and items; none when it failed before it could say."""
        with contextlib.redirect_stdout(io.StringIO()) as captured:
            code = self.run("--json", *more)
        said = captured.getvalue()
        return code, json.loads(said)["items"] if said else []


Face = Callable[[argparse.Namespace, Call], int]


@dataclass(frozen=True, slots=True)
class Tool:
    """One old tool: the `zoc` command it stands for, its options, and the face it shows to scripts."""

    command: str
    options: tuple[Option, ...]
    face: Face
    arguments: str = ""
    always: tuple[str, ...] = field(default=())


def _go(given: argparse.Namespace, call: Call) -> int:
    for assignment in given.set:
        if "=" not in assignment:
            return _refuse(f"Invalid variable specification '{assignment}'")
    if not (given.recipe or given.file or given.no_dcid or given.reprocessing):
        return _refuse("No recipes specified.")
    if given.no_dcid:
        call.words += ["--no-dcid"]
    elif len(given.arguments) > 1:
        return _refuse("Only a single data collection ID can be specified.")
    elif not given.arguments:
        return _refuse("You must either specify a data collection ID or option --no-dcid.")
    else:
        call.words += ["--reprocessing"] if given.reprocessing else []
        if given.autoprocscalingid and not given.reprocessing:
            call.words += ["--autoprocscalingid", given.autoprocscalingid]
    if given.recipe:
        print("Running recipes", given.recipe)
    if given.file and (given.no_dcid or not given.reprocessing):
        print("Running recipe from file", given.file)
    if given.no_dcid:
        print("without specified data collection.")
    elif not given.reprocessing:
        print("for data collection", given.arguments[0])
    return _submitted(given, call)


def _submitted(given: argparse.Namespace, call: Call) -> int:
    sys.stdout.flush()
    identifier = [] if given.no_dcid else given.arguments
    if given.dry_run:
        code = call.run("--", *identifier)
        if code == ExitCode.DONE:
            print("Not sending message (running with --dry-run)")
        return code
    code, items = call.items("--", *identifier)
    if not items:
        return code
    if items[0]["saved_to"]:
        print(f"Message successfully stored in {items[0]['saved_to']}")
        return ExitCode.DONE
    if given.reprocessing and not given.no_dcid:
        print(f"\nReprocessing task submitted for ID {int(given.arguments[0])}.")
    else:
        print("\nSubmitted.")
    return code


def _pickup(given: argparse.Namespace, call: Call) -> int:
    from zoctools import dropfiles

    directory = call.session.settings.drop_directory
    try:
        if directory is None:
            raise ConfigError("zocalo.go.fallback_location is not set in the 'storage' plug-in")
        files = dropfiles.waiting(directory)
    except ZocError as error:
        output.say(error.message)
        return _refuse("This program is only available to privileged users")
    print(f"Found {len(files)} files")
    if not files:
        return ExitCode.DONE
    if given.wait not in (None, "0"):
        print(f"Waiting {given.wait} seconds")
    print(f"Connecting to {given.transport or 'StompTransport'}...", flush=True)
    code, items = call.items()
    sent = [item for item in items if item["state"].startswith("sent")]
    for number, item in enumerate(sent, 1):
        print(f"Sending {item['file']} from host {item['host'] or None} with recipes {','.join(item['recipes'])}")
        print(f"Done ({number} of {len(files)})")
    return NOTHING_GIVEN if code == ExitCode.PARTLY else code


def _shutdown(given: argparse.Namespace, call: Call) -> int:
    if not given.arguments and not given.service:
        print("Need to specify one or more services to shut down.")
        print("Either specify service groups with -s or specify specific instances")
        print("as: hostname.pid")
        return NOTHING_GIVEN
    code, items = call.items("--", *given.arguments)
    if code == ExitCode.DONE:
        for item in items:
            print("Shutting down", item["process"])
        for service in given.service:
            print("Stopping all instances of", None if service.lower() == "none" else service)
    return code


def _service(given: argparse.Namespace, call: Call) -> int:
    from zoctools.service import registry

    names = list(registry.installed())
    if not given.service:
        print(f"zoc.service: error: Please specify a service name. Known services: {', '.join(names)}", file=sys.stderr)
        return ExitCode.USAGE
    try:
        name = registry.meant(given.service, names)
    except UsageError as error:
        return _refuse(f"{error.message}\nPlease specify a valid service name. Known services: {', '.join(names)}")
    call.words += ["-vv"] if given.debug else []
    return call.run("--", name)


def _wrap(given: argparse.Namespace, call: Call) -> int:
    if not given.wrap:
        return _refuse("A wrapper object must be specified.")
    return call.run("--", given.wrap)


def _status_monitor(_given: argparse.Namespace, call: Call) -> int:
    return call.run()


def _show_recipe_id(given: argparse.Namespace, call: Call) -> int:
    for identifier in given.arguments:
        if not re.fullmatch(r"(T-)?[0-9A-Fa-f][0-9A-Fa-f-]{7,40}", identifier):
            raise UsageError(f"not a recipe ID: {one_line(identifier, 80)!r}")
    return call.run("--", *given.arguments)


TOOLS: Mapping[str, Tool] = {
    "zoc.go": Tool(
        "go",
        (
            Option("-r --recipe", "--recipe", "RCP…", "recipe to run"),
            Option("-a --autoprocscalingid", "", "APSID", "auto processing scaling ID"),
            Option("-f --file", "--file", "FILE", "run the recipe in this file"),
            Option("-n --no-dcid", "", "", "run without a data collection"),
            Option("--drop", "--drop", "", "save instead of sending"),
            Option("-p --reprocessing", "", "", "the ID is that of a processing job"),
            Option("-s --set", "--set", "KEY=VALUE…", "set a parameter"),
            Option("-v --verbose", "--verbose", "", "show the message"),
            Option("--dry-run", "--dry-run", "", "send nothing"),
        ),
        _go,
        "dcid",
    ),
    "zoc.pickup": Tool(
        "pickup",
        (
            Option("-d --delay", "--delay", "SECONDS", "between two messages"),
            Option("-w --wait", "--wait", "SECONDS", "at first"),
            Option("-v --verbose", "", "", "accepted, not used"),
        ),
        _pickup,
        always=("--yes",),
    ),
    "zoc.service": Tool(
        "service",
        (
            Option("-s --service", "", "SVC", "service to run"),
            Option("-q --queue", "--queue", "QUEUE", "consume this queue in place of the service's main one"),
            Option("-v --verbose", "--verbose", "+", "log every message handled; twice: more"),
            Option("-d --debug", "", "", "log everything"),
            Option("-r --restart", "--restart", "", "start the service again when it fails"),
            Option("--tag", "--tag", "TAG", "shown in the status"),
            Option("--liveness", "--liveness", "", "answer HTTP while the service is well"),
            Option("--liveness-port", "--liveness-port", "PORT", "where"),
            Option("--liveness-timeout", "--liveness-timeout", "SECONDS", "time the service may take"),
        ),
        _service,
        always=("--liveness-address", "0.0.0.0"),
    ),
    "zoc.shutdown": Tool(
        "shutdown",
        (Option("-s --service", "--service", "SVC…", "stop all instances of a service"),),
        _shutdown,
        "HOSTS",
        always=("--yes",),
    ),
    "zoc.wrap": Tool(
        "wrap",
        (
            Option("--wrap", "", "WRAP", "wrapper to run"),
            Option("--recipewrapper", "--recipewrapper", "RW", "file with the task"),
            Option("-v --verbose", "--verbose", "+", "say more"),
        ),
        _wrap,
    ),
    "zoc.status_monitor": Tool(
        "status",
        (
            Option("-s --service", "--service", "SVC…", "only this service class, or 'none'"),
            Option("--host", "--host", "REGEX", "only hosts that match"),
            Option("-n --no-border", "", "", "accepted, not used"),
            Option("--raw", "--ndjson", "", "print each broadcast"),
        ),
        _status_monitor,
    ),
    "zoc.show_recipeID": Tool(
        "recipe show",
        (Option("--only-incoming", "--only-incoming", "", "only the request as it came"),),
        _show_recipe_id,
        "ID",
    ),
}


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Run an old tool and return its exit code."""
    tool = TOOLS[name]
    given = oldoptions.parser(name, tool.command, tool.options, tool.arguments).parse_args(argv)
    try:
        session = oldoptions.session(given)
        words = [*tool.command.split(), *tool.always, *oldoptions.words(tool.options, given)]
        return tool.face(given, Call(name, words, session))
    except ZocError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
        return error.exit_code


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return NOTHING_GIVEN


def go() -> None:
    """Entry point of ``zoc.go``."""
    as_program(lambda: main("zoc.go"))


def pickup() -> None:
    """Entry point of ``zoc.pickup``."""
    as_program(lambda: main("zoc.pickup"))


def service() -> None:
    """Entry point of ``zoc.service``."""
    as_program(lambda: main("zoc.service"))


def shutdown() -> None:
    """Entry point of ``zoc.shutdown``."""
    as_program(lambda: main("zoc.shutdown"))


def wrap() -> None:
    """Entry point of ``zoc.wrap``."""
    as_program(lambda: main("zoc.wrap"))


def status_monitor() -> None:
    """Entry point of ``zoc.status_monitor``."""
    as_program(lambda: main("zoc.status_monitor"))


def show_recipe_id() -> None:
    """Entry point of ``zoc.show_recipeID``."""
    as_program(lambda: main("zoc.show_recipeID"))
