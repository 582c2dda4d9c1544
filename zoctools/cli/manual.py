"""Writes the man pages and the shell completions from the commands: ``python -m zoctools.cli.manual man completions``.

Both are committed, so that a package has them without running anything; a test checks that they are current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from inspect import cleandoc
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from zoctools import plugins
from zoctools.cli.main import zoc
from zoctools.cli.oldnames import TOOLS
from zoctools.errors import ExitCode

EXIT_CODES = {
    ExitCode.DONE: "Done.",
    ExitCode.NO: "The answer is no: no match, dead letters exist, a checked thing fails its check.",
    ExitCode.USAGE: "Wrong usage, or a file or ID that was named cannot be used.",
    ExitCode.PARTLY: "Some items were done, some were not; 'zoc go': saved, NOT submitted.",
    ExitCode.UNREACHABLE: "A server cannot be reached, refuses the login, or answers nonsense.",
    ExitCode.TIMED_OUT: "Something expected did not happen in its time.",
    ExitCode.INTERNAL: "A defect of zoctools itself.",
    ExitCode.INTERRUPTED: "Interrupted.",
}

ENVIRONMENT = {
    "ZOCALO_CONFIG": "The site configuration file.",
    "ZOCALO_DEFAULT_ENV": "The environment of the site configuration used when no -e is given; else 'default'.",
    "ZOC_STOMP_PASSWORD": "Password for the STOMP broker; outranks the one of the site configuration.",
    "ZOC_READONLY": "When set, commands that change something are refused and not listed.",
    "ZOC_DEBUG": "When set to 1, errors come with their traceback.",
    "NO_COLOR": "When set, output is not coloured.",
    "XDG_STATE_HOME": "Where the state of the local stack is kept, in zoctools/; ~/.local/state when not set.",
}

FORMATTING = (
    "Data goes to standard output, everything else to standard error. Tables have no borders, and no colours unless "
    "standard output is a terminal; --color changes that.",
    "--json prints one object: 'schema' names the shape and its version, 'taken_at' is the moment, 'complete' is false "
    "when something could not be looked at, 'items' is a list. Keys are in snake_case, times are ISO 8601 with offset. "
    "--ndjson prints one object a line, for streams.",
    "Control characters in anything that came from a message are shown as \\x1b and the like.",
)

LOCAL = (
    "The broker is the one of the environment given with -e, else of the default environment of the site "
    "configuration. Only when there is no site configuration, commands that look use the stack that runs on this "
    "machine; commands that change something use it only with '-e local'."
)

Page = tuple[str, str]


def pages() -> Iterator[Page]:
    """Give name and content of every man page."""
    context = click.Context(zoc, info_name="zoc", **zoc.context_settings)
    yield "zoc.1", _page(zoc, context, _topics())
    yield from _below(zoc, context)


def _below(group: click.Group, context: click.Context) -> Iterator[Page]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            inner = click.Context(command, parent=context, info_name=name)
            yield f"{inner.command_path.replace(' ', '-')}.1", _page(command, inner, _see_also(context))
            if isinstance(command, click.Group):
                yield from _below(command, inner)


def completions() -> Iterator[Page]:
    """Give name and content of the completion script of every shell."""
    for shell, name in (("bash", "zoc.bash"), ("zsh", "_zoc"), ("fish", "zoc.fish")):
        made = get_completion_class(shell)
        if made is None:
            raise LookupError(f"click knows no completion for {shell}")
        script = made(zoc, {}, "zoc", "_ZOC_COMPLETE")
        yield name, (script.source_template % script.source_vars()).strip() + "\n"


def _page(command: click.Command, context: click.Context, more: Sequence[str]) -> str:
    path = context.command_path
    lines = [f'.TH "{path.replace(" ", "-").upper()}" "1" "" "zoctools" "zoctools"', ".SH NAME"]
    lines.append(f"{_roff(path.replace(' ', '-'))} \\- {_roff(_first_sentence(command))}")
    lines += [".SH SYNOPSIS", f".B {_roff(path)}", _roff(" ".join(command.collect_usage_pieces(context)))]
    lines += [".SH DESCRIPTION", *_paragraphs(command.help or "")]
    options = [param for param in command.get_params(context) if isinstance(param, click.Option)]
    records = [record for option in options if (record := option.get_help_record(context))]
    if records:
        lines.append(".SH OPTIONS")
        for names, meaning in records:
            lines += [".TP", f".B {_roff(names)}", _roff(meaning)]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                lines += [".TP", f".B {_roff(f'{path} {name}')}", _roff(_first_sentence(inner))]
    return "\n".join([*lines, *more]) + "\n"


def _topics() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code.value}", _roff(meaning)]
    lines.append(".SH ENVIRONMENT")
    for variable, meaning in ENVIRONMENT.items():
        lines += [".TP", f".B {variable}", _roff(meaning)]
    lines.append(".SH FORMATTING")
    for paragraph in FORMATTING:
        lines += [".PP", _roff(paragraph)]
    lines += [".SH CONFIGURATION", ".PP", _roff(LOCAL), ".PP"]
    lines.append(_roff("The site configuration is that of zocalo 1.x. These keys of its plug-ins are ours:"))
    for kind, keys in plugins.PLUGINS.items():
        for name, key in keys.items():
            if key.ours:
                lines += [".TP", f".B {_roff(f'{kind}: {name}')}", _roff(f"{key.ours} ({key.takes[1]}).")]
    lines += [".SH OLD NAMES", ".PP"]
    lines.append(_roff("The names of the older tools take the options those took, and print the lines scripts read:"))
    for name, tool in TOOLS.items():
        lines += [".TP", f".B {_roff(name)}", _roff(f"as 'zoc {tool.command}'.")]
    return lines


def _see_also(parent: click.Context) -> list[str]:
    name = parent.command_path.replace(" ", "-")
    return [".SH SEE ALSO", f".BR {_roff(name)} (1) for exit codes, environment and formatting"]


def _first_sentence(command: click.Command) -> str:
    first = cleandoc(command.help or "").split("\n\n")[0].replace("\n", " ").strip()
    return first.split(". ")[0].rstrip(".")


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for paragraph in cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            kept = paragraph.lstrip("\b\n").split("\n")
            lines += [".PP", ".nf", *(_roff(line) for line in kept), ".fi"]
        else:
            lines += [".PP", _roff(" ".join(paragraph.split()))]
    return lines


def _roff(text: str) -> str:
    """Return text as roff takes it: backslashes and hyphens literal, no line read as a request."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def write(directory: Path, files: Iterator[Page]) -> None:
    """Make a directory hold exactly these files."""
    directory.mkdir(exist_ok=True)
    wanted = dict(files)
    for old in directory.iterdir():
        if old.name not in wanted:
            old.unlink()
    for name, content in wanted.items():
        (directory / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]), pages())
    write(Path(sys.argv[2]), completions())
