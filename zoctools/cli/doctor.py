"""`zoc doctor`: what is reachable and healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Session, command, pass_session
from zoctools.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from zoctools.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "FAIL": "red", "?": ""}
WIDTH = 20


@command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each check.")
@pass_session
def doctor(session: Session, as_json: bool) -> ExitCode:
    """Look at everything a Zocalo needs, and say what is wrong and what to do.

    All checks run at once and take a few seconds. Each line is a verdict (ok, warn, FAIL, or ? for what cannot be
    seen), what was looked at, and what was seen. Messages are sent to throw-away queues only, and taken back.

    Exit code 0 when nothing failed (warnings do not count), 1 when something did, 4 when a server cannot be reached
    or refuses the login.

    \b
    Examples:
      zoc doctor
      zoc doctor -e live --json
    """
    from zoctools.doctor.examination import examine, exit_code
    from zoctools.doctor.finding import of_error

    findings: list[Finding] = []
    try:
        settings = session.settings
    except ConfigError as error:
        findings.append(of_error("configuration", error))
        if not as_json:
            _print(findings[0], session.colour())
    else:
        for finding in examine(settings, session.opener):
            findings.append(finding)
            if not as_json:
                _print(finding, session.colour())
    if as_json:
        output.print_json("zoc.doctor/1", [_item(finding) for finding in findings])
    return exit_code(findings)


def _print(finding: Finding, colour: bool) -> None:
    word = output.painted(f"{finding.word.value:<5}", COLOURS[finding.word.value], wanted=colour)
    click.echo(f"{word} {finding.what:<{WIDTH}} {text.one_line(finding.detail)}", color=colour)
    if finding.hint:
        click.echo(f"{'':5} {'':{WIDTH}} {text.one_line(finding.hint)}")


def _item(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.what,
        "verdict": finding.word.value,
        "detail": finding.detail,
        "hint": finding.hint,
        **finding.figures,
    }
