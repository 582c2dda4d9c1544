"""The only way out: data to stdout as JSON or plain tables, words to stderr, and the question before a change."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

import click

from zoctools import text
from zoctools.errors import ExitCode, UsageError, ZocError


class Declined(ZocError):
    """The user was asked and said no; nothing was changed."""

    exit_code = ExitCode.NO


def iso_time(epoch: float | None = None) -> str:
    """Return a moment (epoch seconds; None is now) as ISO 8601 local time with its offset, to the millisecond."""
    moment = datetime.now() if epoch is None else datetime.fromtimestamp(epoch)
    return moment.astimezone().isoformat(timespec="milliseconds")


def local_time(epoch: float | None = None) -> str:
    """Return a moment as people read it: ``2026-11-23 08:34:40 +0000``."""
    moment = datetime.now() if epoch is None else datetime.fromtimestamp(epoch)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def plain(value: Any) -> Any:
    """Return `value` as what JSON can say: data classes become objects, NaN becomes null, bytes become text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value) if item.repr}
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return value.astimezone().isoformat(timespec="milliseconds")
    if isinstance(value, bytes):
        return text.from_bytes(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, Iterable) and not isinstance(value, Path):
        return [plain(item) for item in value]
    return str(value)


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return strict JSON in ASCII, with no control byte in it, so that any terminal and any parser can take it."""
    return json.dumps(plain(value), indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def print_json(schema: str, items: Iterable[Any], *, complete: bool = True, taken_at: float | None = None) -> None:
    """Print the one object of every `--json`: ``{schema, taken_at, complete, items}``.

    `schema` names command and version of the items' shape, such as ``zoc.go/1``; `complete` is false when
    something that should have been looked at was not.
    """
    whole = {"schema": schema, "taken_at": iso_time(taken_at), "complete": complete, "items": list(items)}
    click.echo(json_text(whole, indent=2))


def print_ndjson(record: Any) -> None:
    """Print one record of a stream as one line of JSON, at once."""
    click.echo(json_text(record))
    sys.stdout.flush()


def print_line(line: str = "") -> None:
    """Print one line of data; foreign text in it is made safe."""
    click.echo(text.clean(line))


def say(message: str) -> None:
    """Say something to the person at the terminal: stderr."""
    click.echo(text.clean(message), err=True)


def warn(message: str) -> None:
    """Say what deserves attention."""
    click.echo(f"zoc: warning: {text.one_line(message)}", err=True)


def painted(value: str, colour: str, *, wanted: bool, bold: bool = False) -> str:
    """Return cleaned text in a colour of click's (``red``, ``green``, ``yellow``, …), or as it is when not wanted."""
    safe = text.clean(value)
    return click.style(safe, fg=colour or None, bold=bold or None) if wanted else safe


def table_lines(headings: Sequence[str], rows: Iterable[Sequence[object]], *, colour: bool = False) -> list[str]:
    """Return the lines of a table without borders: columns aligned, two spaces between, numbers to the right."""
    body = [tuple("" if cell is None else text.one_line(cell) for cell in row) for row in rows]
    source = list(zip(*body, strict=True)) if body else [()] * len(headings)
    widths = [
        max([len(heading), *(len(cell) for cell in column)]) for heading, column in zip(headings, source, strict=True)
    ]
    to_right = [bool(column) and all(_is_number(cell) for cell in column) for column in source]

    def line(cells: Sequence[str]) -> str:
        placed = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, to_right, strict=True)
        )
        return "  ".join(placed).rstrip()

    title = line([heading.upper() for heading in headings])
    return [click.style(title, bold=True) if colour else title, *(line(cells) for cells in body)]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, colour: bool = False) -> None:
    """Print a table; see `table_lines`."""
    for line in table_lines(headings, rows, colour=colour):
        click.echo(line, color=colour)


def _is_number(cell: str) -> bool:
    return cell == "" or cell.replace(" ", "").replace(".", "", 1).lstrip("-").isdecimal()


def require_answer(change: str, *, yes: bool) -> None:
    """Raise `UsageError` where a change needs `--yes` because nobody can be asked."""
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"not done without an answer: {change}", "there is no terminal to ask on: give --yes")


def confirm(question: str, *, yes: bool) -> None:
    """Ask before a change, on stderr; the question names environment, broker and counts.

    Raises `Declined` when the answer is no, and `UsageError` where nobody can be asked and `--yes` is not given.
    """
    require_answer(question, yes=yes)
    if not yes and not click.confirm(text.one_line(question), err=True):
        raise Declined("nothing was changed")
