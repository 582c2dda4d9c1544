"""`zoc config`: what is configured, where each value comes from, and whether a file is right."""

from __future__ import annotations

import os
from pathlib import Path

import click

from zoctools import config as configuration
from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Session, group, pass_session
from zoctools.errors import ConfigError, ExitCode


@group("config")
def config() -> None:
    """What is configured, and where it comes from."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; it always holds the origins.")
@pass_session
def show(session: Session, origin: bool, as_json: bool) -> None:
    """Show the settings in use: those of the file with its environments applied. Secrets are not shown.

    \b
    Examples:
      zoc config show
      zoc -e live config show --origin
    """
    settings = session.settings
    values = sorted(settings.values.values(), key=lambda value: value.key)
    if as_json:
        output.print_json("zoc.config.show/1", values)
        return
    output.say(f"file: {settings.file or 'none'}; broker: {settings.title}")
    rows = [(value.key, _shown(value.value), *([value.origin] if origin else [])) for value in values]
    if rows:
        output.print_table(["key", "value", *(["origin"] if origin else [])], rows, colour=session.colour())


@config.command("check")
@click.argument("file", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each finding.")
@pass_session
def check(session: Session, file: str | None, as_json: bool) -> ExitCode:
    """Check a configuration FILE: every plug-in, every environment, every file it refers to.

    Without FILE, the one in use. Exits with 0 when all is well, 1 when there are warnings, 2 when it cannot be used.

    \b
    Examples:
      zoc config check
      zoc config check /etc/zocalo/site.yml
    """
    named = file or session.config_path or os.environ.get("ZOCALO_CONFIG")
    if not named:
        raise ConfigError("there is no configuration to check", "name a FILE, or set ZOCALO_CONFIG")
    path = Path(named).expanduser()
    findings, code = _findings(path)
    if as_json:
        output.print_json("zoc.config.check/1", findings)
        return code
    for finding in findings:
        output.print_line(f"{finding['level']}: {text.one_line(finding['message'])}")
        if finding["hint"]:
            output.print_line(f"    {text.one_line(finding['hint'])}")
    output.say(f"{path}: {_verdict(findings, code)}")
    return code


def _findings(path: Path) -> tuple[list[dict[str, str]], ExitCode]:
    try:
        warnings = configuration.check(path)
    except ConfigError as error:
        return [{"level": "error", "message": error.message, "hint": error.hint}], ExitCode.USAGE
    found = [{"level": "warning", "message": warning, "hint": ""} for warning in warnings]
    return found, ExitCode.NO if found else ExitCode.DONE


def _verdict(findings: list[dict[str, str]], code: ExitCode) -> str:
    if code == ExitCode.USAGE:
        return "cannot be used"
    return f"usable, with {text.count(len(findings), 'warning')}" if findings else "all is well"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else output.json_text(value)
