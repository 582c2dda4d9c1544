"""What every command shares: the global options, the settings, a link to the broker, and how errors leave.

A command returns its exit code (nothing means done). `run` calls one and turns whatever happens into words on
stderr and an exit code; `Command.main` goes through it too, so a test runner sees exactly what a shell sees.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.exceptions import Exit, NoArgsIsHelpError

from zoctools import text
from zoctools.errors import ExitCode, UsageError, ZocError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from zoctools.config import Settings, StompSettings
    from zoctools.transport.contract import Transport

BROKEN_PIPE = 141
"""What a shell reports for a program that wrote to a closed pipe."""
UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of writing that are nobody's defect."""


def open_stomp(settings: StompSettings) -> Transport:
    """Return a transport, not yet connected, to the broker of these settings."""
    from zoctools.transport.stomp import StompTransport

    return StompTransport(settings)


@dataclass
class Session:
    """One call of `zoc`: what the global options said, and what is opened because of them."""

    environments: list[str] = field(default_factory=list)
    config_path: str | None = None
    color: str = "auto"
    stomp: Mapping[str, Any] = field(default_factory=dict)
    """Broker options of the old command names: host, port, username, password, prefix."""
    opener: Callable[[StompSettings], Transport] = open_stomp
    _settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        """The site configuration, read on first use; raises `ConfigError`. Its warnings go to stderr."""
        if self._settings is None:
            from zoctools import config

            self._settings = config.load(self.config_path, self.environments, stomp=self.stomp)
            for warning in self._settings.warnings:
                click.echo(f"zoc: warning: {text.one_line(warning)}", err=True)
        return self._settings

    @contextmanager
    def transport(self, *, changing: bool, within: float | None = None) -> Iterator[Transport]:
        """A connected transport, closed at the end; `within` bounds connecting and each settle, in seconds.

        `changing` says whether messages will be changed: such a command never falls back to the local stack.
        Raises `ConfigError`, `Unreachable` or `LoginRefused`.
        """
        stomp = self.settings.broker(changing=changing)
        if within is not None:
            share = max(within / len(stomp.hosts), 0.1)
            stomp = replace(
                stomp,
                connect_timeout=min(stomp.connect_timeout, share),
                settle_timeout=min(stomp.settle_timeout, within),
            )
        transport = self.opener(stomp)
        try:
            transport.connect()
            yield transport
        finally:
            transport.close()

    def colour(self) -> bool:
        """Whether stdout shall be coloured: `--color`, then NO_COLOR, a dumb terminal, and whether it is one."""
        if self.color != "auto":
            return self.color == "always"
        return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and sys.stdout.isatty()

    def require_changes_allowed(self, command: str) -> None:
        """Raise `UsageError` where everything that changes something is switched off."""
        if readonly_wanted():
            raise UsageError(f"'{command}' changes things, and ZOC_READONLY is set", "unset ZOC_READONLY to allow it")
        if self.settings.readonly:
            where = self.settings.origin("zoctools.readonly")
            raise UsageError(f"'{command}' changes things, and this site is read-only ({where})")


def readonly_wanted() -> bool:
    """Whether ZOC_READONLY switches off everything that changes something."""
    return os.environ.get("ZOC_READONLY", "") not in ("", "0")


def session_of(ctx: click.Context) -> Session:
    """Return the session of the running command, made on first use."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()
    session: Session = root.obj
    return session


def pass_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give the session to a command as its first argument."""

    @functools.wraps(function)
    def with_session(*args: Any, **kwargs: Any) -> Any:
        return function(session_of(click.get_current_context()), *args, **kwargs)

    return with_session


def _add_environments(ctx: click.Context, _param: click.Parameter, value: Sequence[str]) -> None:
    session_of(ctx).environments.extend(value)


def _set_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        session_of(ctx).config_path = value


def _set_color(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        session_of(ctx).color = value


def _complete_environment(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from zoctools import config

    try:
        names = config.environment_names(session_of(ctx).config_path)
    except ZocError:
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def global_options() -> list[click.Parameter]:
    """Return the options every command takes, before and after its name."""
    return [
        click.Option(
            ["-e", "--environment"],
            multiple=True,
            metavar="ENV",
            expose_value=False,
            is_eager=True,
            callback=_add_environments,
            shell_complete=_complete_environment,
            help="Use this environment of the site configuration; may be repeated.",
        ),
        click.Option(
            ["--config"],
            metavar="FILE",
            type=click.Path(),
            expose_value=False,
            is_eager=True,
            callback=_set_config,
            help="Site configuration to read instead of $ZOCALO_CONFIG.",
        ),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            expose_value=False,
            is_eager=True,
            callback=_set_color,
            help="When to colour the output.",
        ),
    ]


def _shared(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a command or noun, with what all of them have."""
    settings = {
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        **(wanted.get("context_settings") or {}),
    }
    return {**wanted, "params": [*(wanted.get("params") or []), *global_options()], "context_settings": settings}


class Command(click.Command):
    """A command with the global options; one that is `changing` is refused where the site is read-only."""

    def __init__(self, *args: Any, changing: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **_shared(kwargs))
        self.changing = changing

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, if it may run here."""
        if self.changing:
            session_of(ctx).require_changes_allowed(ctx.command_path)
        return super().invoke(ctx)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run as a program and exit; what a test runner calls."""
        sys.exit(run(self, _words(args), extra.get("obj"), prog_name or self.name or "zoc"))


def assigned(assignments: Sequence[str]) -> dict[str, str]:
    """Return what options ``-s KEY=VALUE`` say, the last of each key; raises `UsageError`."""
    values: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"not KEY=VALUE: {assignment[:80]!r}", "give -s as -s name=value")
        values[key] = value
    return values


class ListingCommand(Command):
    """A changing command that with its option ``list_them`` only looks, and so may run anywhere."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command where it may run; list anywhere."""
        return click.Command.invoke(self, ctx) if ctx.params["list_them"] else super().invoke(ctx)


class Group(click.Group):
    """A noun with its verbs; changing verbs are not listed where ZOC_READONLY is set."""

    command_class = Command
    group_class = type
    """Nouns inside a noun are of the same class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **_shared(kwargs))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs that may be used here."""
        names = super().list_commands(ctx)
        if not readonly_wanted():
            return names
        return [name for name in names if not getattr(self.commands[name], "changing", False)]

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run as a program and exit; what a test runner calls."""
        sys.exit(run(self, _words(args), extra.get("obj"), prog_name or self.name or "zoc"))


def _words(args: Sequence[str] | None) -> list[str]:
    return sys.argv[1:] if args is None else list(args)


def command(name: str, *, changing: bool = False, **kwargs: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a function a command of this name; `changing` ones alter queues, messages or services."""
    return click.command(name, cls=Command, changing=changing, **kwargs)


def group(name: str, **kwargs: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a noun with verbs, each added with ``@noun.command("verb")``."""
    return click.group(name, cls=Group, **kwargs)


def run(cli: click.Command, words: Sequence[str], session: Session | None = None, prog_name: str = "zoc") -> int:
    """Run a command line and return its exit code; every error has been said on stderr by then."""
    completing = os.environ.get("_ZOC_COMPLETE") if prog_name == "zoc" else None
    if completing:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, prog_name, "_ZOC_COMPLETE", completing)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _call(cli, list(words), session or Session(), prog_name)
        sys.stdout.flush()
    except BrokenPipeError:
        _abandon_output()
        return BROKEN_PIPE
    except OSError as error:
        _say_error(f"cannot write the output: {error.strerror}", "")
        _abandon_output()
        return ExitCode.NO
    return code


def as_program(call: Callable[[], int]) -> NoReturn:
    """Call what returns an exit code, and exit with it; an impatient second Ctrl-C ends us without a traceback."""
    import signal

    try:
        code = call()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        os._exit(ExitCode.INTERRUPTED)
    sys.exit(code)


def _call(cli: click.Command, words: list[str], session: Session, prog_name: str) -> int:
    try:
        with cli.make_context(prog_name, words, obj=session) as ctx:
            result = cli.invoke(ctx)
        return int(result) if isinstance(result, int) else ExitCode.DONE
    except Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, EOFError, click.Abort):
        _traceback_wanted()
        click.echo("zoc: interrupted", err=True)
        return ExitCode.INTERRUPTED
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise
        return _internal(error)
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        hint = ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            hint = f"see '{error.ctx.command_path} --help'"
        _say_error(error.format_message(), hint)
        return ExitCode.USAGE
    except ZocError as error:
        _traceback_wanted()
        _say_error(error.message, error.hint)
        return error.exit_code
    except Exception as error:
        return _internal(error)


def _internal(error: Exception) -> ExitCode:
    _traceback_wanted()
    hint = "this is a defect of zoctools; ZOC_DEBUG=1 shows the traceback"
    _say_error(f"internal error: {type(error).__name__}: {error}", hint)
    return ExitCode.INTERNAL


def _say_error(message: str, hint: str) -> None:
    click.echo(f"zoc: {text.one_line(message)}", err=True)
    if hint:
        click.echo(f"hint: {text.one_line(hint)}", err=True)


def _traceback_wanted() -> None:
    if os.environ.get("ZOC_DEBUG", "") not in ("", "0"):
        import traceback

        click.echo(text.clean(traceback.format_exc()), err=True, nl=False)


def _abandon_output() -> None:
    """Nobody takes what we write: be quiet about the rest of it, also when Python closes stdout at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
