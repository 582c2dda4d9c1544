"""The `zoc` command: which nouns there are. Each is loaded only when it is used."""

from __future__ import annotations

import importlib
import sys
from typing import Any, NamedTuple, cast

import click

import zoctools
from zoctools.cli.context import Group, Session, as_program, readonly_wanted, run, session_of


class Entry(NamedTuple):
    """One noun: where its command lives, what it does in a few words, and under which heading it is listed."""

    name: str
    home: str
    summary: str
    section: str
    changing: bool = False
    aliases: tuple[str, ...] = ()


TABLE = (
    Entry("service", "zoctools.cli.service:service", "run a service, list what is installed", "Run", changing=True),
    Entry("wrap", "zoctools.cli.wrap:wrap", "run one task of a recipe, as a cluster job does", "Run", changing=True),
    Entry("shutdown", "zoctools.cli.shutdown:shutdown", "stop services", "Run", changing=True),
    Entry("go", "zoctools.cli.go:go", "start recipes for a data collection", "Drive", changing=True),
    Entry(
        "pickup", "zoctools.cli.pickup:pickup", "send requests saved while the broker was away", "Drive", changing=True
    ),
    Entry("status", "zoctools.cli.status:status", "what every service and task is doing", "Watch"),
    Entry("recipe", "zoctools.cli.recipe:recipe", "look at recipes, check them, fill them in", "Drive"),
    Entry("doctor", "zoctools.cli.doctor:doctor", "what is reachable and healthy, and what to do", "Look after"),
    Entry("config", "zoctools.cli.config:config", "what is configured, and where it comes from", "Look after"),
)

SECTIONS = ("Run", "Drive", "Watch", "Repair", "Look after")


class LazyGroup(Group):
    """The nouns of `TABLE`; help and completion of their names load none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names that may be used here, as they are listed in the help."""
        return [entry.name for section in SECTIONS for entry in _entries(section)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the command of this name; None when there is none."""
        for entry in TABLE:
            if cmd_name == entry.name or cmd_name in entry.aliases:
                module, _, attribute = entry.home.partition(":")
                return cast(click.Command, getattr(importlib.import_module(module), attribute))
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a name nobody has is answered with the nearest one."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            guess = f"; did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"there is no command '{name}'{guess}")
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the names from the table alone; options as any command does."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        from click.shell_completion import CompletionItem

        names = self.list_commands(ctx)
        return [
            CompletionItem(entry.name, help=entry.summary)
            for entry in TABLE
            if entry.name in names and entry.name.startswith(incomplete)
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns by what people want to do."""
        width = max(len(entry.name) for entry in TABLE)
        for section in SECTIONS:
            rows = [(entry.name.ljust(width), entry.summary) for entry in _entries(section)]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def _entries(section: str) -> list[Entry]:
    hidden = readonly_wanted()
    return [entry for entry in TABLE if entry.section == section and not (hidden and entry.changing)]


@click.group(
    "zoc",
    cls=LazyGroup,
    epilog="The configuration is the file named in $ZOCALO_CONFIG. 'zoc COMMAND --help' says more; so does 'man zoc'.",
)
@click.version_option(zoctools.__version__, "--version", prog_name="zoc", message="%(prog)s %(version)s")
@click.pass_context
def zoc(ctx: click.Context) -> None:
    """Run, drive, watch and repair a Zocalo: the messaging system that analyses beamline data."""
    session_of(ctx)


def main() -> None:
    """Entry point of the console script."""
    as_program(lambda: run(zoc, sys.argv[1:], Session(), "zoc"))
