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
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoctools.cli import output
from zoctools.cli.context import Session, run
from zoctools.cli.main import zoc
from zoctools.errors import ConfigError, ExitCode, UsageError, ZocError

if TYPE_CHECKING:
    from zoctools.settings import StompSettings
    from zoctools.transport.contract import Transport

NOTHING_GIVEN = 1
"""Exit code of the old tools for `sys.exit("text")`."""


class Option(NamedTuple):
    """One option of an old tool. `new` is the option of `zoc` it becomes; empty when the tool reads it itself."""

    flags: str
    new: str = ""
    takes: str = ""
    """Name of its value, when it has one; with a final ``…`` it may be repeated."""
    meaning: str = ""


COMMON = (
    Option("-e --environment", "--environment", "ENV…", "environment of the site configuration"),
    Option("-t --transport", "", "TRN", "StompTransport or OfflineTransport"),
    Option("--stomp-host", "", "HOST", "STOMP broker"),
    Option("--stomp-port", "", "PORT", "its port"),
    Option("--stomp-user", "", "USER", "its user name"),
    Option("--stomp-pass", "", "PASS", "its password"),
    Option("--stomp-prfx", "", "PRE", "namespace"),
    Option("--stomp-conf", "", "CNF", "file with a [stomp] section of these"),
    *(Option(f"--rabbit-{name}", "", name.upper(), "accepted, not used") for name in ("host", "port", "user", "pass")),
    *(Option(f"--rabbit-{name}", "", name.upper(), "accepted, not used") for name in ("vhost", "conf")),
)


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
    return call.run("--", name)


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
            Option("-v --verbose", "--verbose", "", "log every message handled"),
            Option("-d --debug", "--verbose", "", "log more"),
            Option("-r --restart", "--restart", "", "start the service again when it fails"),
            Option("--tag", "--tag", "TAG", "shown in the status"),
            Option("--liveness", "--liveness", "", "answer HTTP while the service is well"),
            Option("--liveness-port", "--liveness-port", "PORT", "where"),
            Option("--liveness-timeout", "--liveness-timeout", "SECONDS", "time the service may take"),
        ),
        _service,
    ),
    "zoc.shutdown": Tool(
        "shutdown",
        (Option("-s --service", "--service", "SVC…", "stop all instances of a service"),),
        _shutdown,
        "HOSTS",
        always=("--yes",),
    ),
}


def main(name: str, argv: Sequence[str] | None = None) -> int:
    """Run an old tool and return its exit code."""
    tool = TOOLS[name]
    given = _parser(name, tool).parse_args(argv)
    try:
        session = _session(given)
        return tool.face(given, Call(name, _words(tool, given), session))
    except ZocError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED


def _parser(name: str, tool: Tool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=name, description=f"An old name of 'zoc {tool.command}'.")
    parser.add_argument("-?", action="help", help=argparse.SUPPRESS)
    for option in (*tool.options, *COMMON):
        shape: dict[str, Any] = {"help": option.meaning}
        if not option.takes:
            shape["action"] = "store_true"
        elif option.takes.endswith("…"):
            shape |= {"action": "append", "default": [], "metavar": option.takes.rstrip("…")}
        else:
            shape |= {"metavar": option.takes}
        parser.add_argument(*option.flags.split(), **shape)
    if tool.arguments:
        parser.add_argument("arguments", nargs="*", metavar=tool.arguments)
    return parser


def _words(tool: Tool, given: argparse.Namespace) -> list[str]:
    words = [tool.command, *tool.always]
    for option in (*tool.options, *COMMON):
        value = getattr(given, option.flags.split()[-1].lstrip("-").replace("-", "_"))
        if not option.new or value in (None, False):
            continue
        for item in value if isinstance(value, list) else [value]:
            words += [option.new] if item is True else [f"{option.new}={item}"]
    return words


def _session(given: argparse.Namespace) -> Session:
    if given.transport == "PikaTransport":
        raise ConfigError("PikaTransport: zoctools sends and receives messages over STOMP only, AMQP comes later")
    if given.transport not in (None, "StompTransport", "OfflineTransport"):
        raise ConfigError(f"there is no transport {given.transport!r}: StompTransport or OfflineTransport")
    session = Session(environments=list(given.environment), stomp=_stomp(given))
    if given.transport == "OfflineTransport":
        session.stomp = {"host": "offline", "port": 61613, "username": "", "password": "", "prefix": ""}
        session.opener = _offline
    return session


def _stomp(given: argparse.Namespace) -> dict[str, Any]:
    """Return the broker the options name; one given on the command line outranks one of the file."""
    keys = {"host": "host", "port": "port", "user": "username", "pass": "password", "prfx": "prefix"}
    named: dict[str, Any] = _ini(Path(given.stomp_conf)) if given.stomp_conf else {}
    for option, key in keys.items():
        value = getattr(given, f"stomp_{option}")
        if value is not None:
            named[key] = value
    if "port" in named:
        if not (str(named["port"]).isdecimal() and 0 < int(named["port"]) < 65536):
            raise ConfigError(f"not a port: {named['port']!r}")
        named["port"] = int(named["port"])
    return named


def _ini(path: Path) -> dict[str, Any]:
    import configparser

    from zoctools.site import read_text

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(read_text(path), str(path))
    except configparser.Error as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    if not parser.has_section("stomp"):
        raise ConfigError(f"{path}: there is no section [stomp]")
    wanted = ("host", "port", "username", "password", "prefix")
    return {key: value for key, value in parser["stomp"].items() if key in wanted}


def _offline(_settings: StompSettings) -> Transport:
    """A transport that leads nowhere, for trying a command out."""
    from zoctools.transport.memory import MemoryBroker, MemoryTransport

    output.say("OfflineTransport: nothing leaves this machine")
    return MemoryTransport(MemoryBroker())


def _refuse(message: str) -> int:
    print(message, file=sys.stderr)
    return NOTHING_GIVEN


def go() -> None:
    """Entry point of ``zoc.go``."""
    sys.exit(main("zoc.go"))


def pickup() -> None:
    """Entry point of ``zoc.pickup``."""
    sys.exit(main("zoc.pickup"))


def service() -> None:
    """Entry point of ``zoc.service``."""
    sys.exit(main("zoc.service"))


def shutdown() -> None:
    """Entry point of ``zoc.shutdown``."""
    sys.exit(main("zoc.shutdown"))
