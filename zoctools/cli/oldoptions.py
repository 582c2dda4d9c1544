"""The options of the old command names: how they are read, and the broker they name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import zoctools
from zoctools.cli import output
from zoctools.cli.context import Session
from zoctools.errors import ConfigError

if TYPE_CHECKING:
    from zoctools.settings import StompSettings
    from zoctools.transport.contract import Transport


class Option(NamedTuple):
    """One option of an old tool. `new` is the option of `zoc` it becomes; empty when the tool reads it itself."""

    flags: str
    new: str = ""
    takes: str = ""
    """Name of its value, when it has one; with a final ``…`` it may be repeated; ``+`` for a flag that counts."""
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


def parser(name: str, command: str, options: Sequence[Option], arguments: str) -> argparse.ArgumentParser:
    """Return the parser of an old tool; `arguments` is what its arguments are called, when it takes any."""
    made = argparse.ArgumentParser(prog=name, description=f"An old name of 'zoc {command}'.")
    made.add_argument("-?", action="help", help=argparse.SUPPRESS)
    made.add_argument("--version", action="version", version=f"zoctools {zoctools.__version__}")
    for option in (*options, *COMMON):
        shape: dict[str, Any] = {"help": option.meaning}
        if option.takes == "+":
            shape |= {"action": "count", "default": 0}
        elif not option.takes:
            shape["action"] = "store_true"
        elif option.takes.endswith("…"):
            shape |= {"action": "append", "default": [], "metavar": option.takes.rstrip("…")}
        else:
            shape |= {"metavar": option.takes}
        made.add_argument(*option.flags.split(), **shape)
    if arguments:
        made.add_argument("arguments", nargs="*", metavar=arguments)
    return made


def words(options: Sequence[Option], given: argparse.Namespace) -> list[str]:
    """Return the options of a `zoc` call that stand for those given."""
    made: list[str] = []
    for option in (*options, *COMMON):
        value = getattr(given, option.flags.split()[-1].lstrip("-").replace("-", "_"))
        if not option.new or value in (None, False):
            continue
        if value is True or option.takes == "+":
            made += [option.new] * value
        else:
            made += [f"{option.new}={item}" for item in (value if isinstance(value, list) else [value])]
    return made


def session(given: argparse.Namespace) -> Session:
    """Return a session with the broker that the options name; raises `ConfigError`."""
    if given.transport == "PikaTransport":
        raise ConfigError("PikaTransport: zoctools sends and receives messages over STOMP only, AMQP comes later")
    if given.transport not in (None, "StompTransport", "OfflineTransport"):
        raise ConfigError(f"there is no transport {given.transport!r}: StompTransport or OfflineTransport")
    made = Session(environments=list(given.environment), stomp=_stomp(given))
    if given.transport == "OfflineTransport":
        made.stomp = {"host": "offline", "port": 61613, "username": "", "password": "", "prefix": ""}
        made.opener = _offline
    return made


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
