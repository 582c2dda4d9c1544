"""`zoc recipe`: look at recipes, check them, draw them, fill them in; and what the logbook says of one that ran."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoctools import text
from zoctools.cli import output
from zoctools.cli.context import Session, assigned, group, pass_session, session_of
from zoctools.errors import BadFile, ExitCode, RecipeError, ZocError
from zoctools.recipe import directory, graph, installed, templates, validation
from zoctools.recipe import lint as linting
from zoctools.recipe.recipe import MAX_FILE, Recipe, read_file

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from zoctools.logbook import Record


_LIKE_AN_ID = re.compile(r"(T-)?[0-9a-f-]{8,64}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Named:
    """What the user named: a recipe's text, and where it came from."""

    name: str
    source: str
    content: bytes

    def recipe(self) -> Recipe:
        """The recipe; raises `RecipeError`."""
        return Recipe.from_text(self.content, self.source)


def _find(session: Session, word: str) -> Named:
    """Return what a word names: ``-`` is standard input, then the recipe of that name, then the file.

    A word that looks like a file is one, so that files can be checked without any configuration. Raises `BadFile`,
    `RecipeError` or `ConfigError`.
    """
    if word == "-":
        return Named(word, "standard input", sys.stdin.buffer.read(MAX_FILE + 1))
    path = Path(word).expanduser()
    if "/" not in word and not word.endswith(".json") and directory.is_recipe_name(word):
        base = directory.recipes_dir(session.settings)
        if (base / f"{word}.json").is_file() or not path.is_file():
            try:
                file = directory.recipe_file(base, word)
            except RecipeError as error:
                raise BadFile(error.message, error.hint) from None
            return Named(word, str(file), read_file(file))
    return Named(word, word, read_file(path))


def _complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    try:
        names = directory.recipe_names(directory.recipes_dir(session_of(ctx).settings))
    except ZocError:
        names = []
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or [CompletionItem(incomplete, type="file")]


def _words(required: bool = True) -> Any:
    return click.argument("names", nargs=-1, required=required, metavar="NAME|FILE...", shell_complete=_complete)


@group("recipe")
def recipe() -> None:
    """Recipes: which service gets which message next.

    A recipe is named by its NAME in the directory of recipes, or by its FILE; '-' is standard input.
    """


@recipe.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def list_recipes(session: Session, as_json: bool) -> None:
    """List the recipes of this site: how many nodes, the queues they use, and what is wrong with them.

    \b
    Examples:
      zoc recipe list
      zoc -e live recipe list --json
    """
    base = directory.recipes_dir(session.settings)
    items = [_listed(base, name) for name in directory.recipe_names(base)]
    if as_json:
        output.print_json("zoc.recipe.list/1", items)
        return
    rows = [(item["name"], item["nodes"], item["error"] or ", ".join(item["queues"])) for item in items]
    if rows:
        output.print_table(["recipe", "nodes", "queues"], rows, colour=session.colour())
    output.say(f"{text.count(len(items), 'recipe')} in {base}")


def _listed(base: Path, name: str) -> dict[str, Any]:
    nodes, queues, error = 0, [], None
    try:
        found = Recipe.from_file(directory.recipe_file(base, name))
        nodes = len(found.nodes)
        named = [node.get(kind) for node in found.nodes.values() for kind in ("queue", "topic")]
        queues = list(dict.fromkeys(queue for queue in named if isinstance(queue, str) and queue))
        found.validate()
    except ZocError as problem:
        error = problem.message.removeprefix(f"{base / name}.json: ")
    return {"name": name, "file": str(base / f"{name}.json"), "nodes": nodes, "queues": queues, "error": error}


@recipe.command("show")
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE|ID...", shell_complete=_complete)
@click.option("--only-incoming", is_flag=True, help="Of the logbook, show only the request as it came.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each.")
@pass_session
def show(session: Session, names: tuple[str, ...], only_incoming: bool, as_json: bool) -> None:
    """Show a recipe, or what the logbook says of the recipe with this ID: the request, and the recipe it became.

    An ID may be cut to its first 8 digits. NAME and FILE come first where something is both.

    \b
    Examples:
      zoc recipe show archive-cbfs
      zoc recipe show 42ee2fdd-589b-4f5e-b13f-3e00c819dab4
      zoc recipe show --only-incoming 42ee2fdd
    """
    found = [_recipe_or_record(session, word, only_incoming) for word in names]
    if as_json:
        output.print_json("zoc.recipe.show/1", [_item(one, only_incoming) for one in found])
        return
    for one in found:
        if isinstance(one, Named):
            output.print_line(one.recipe().pretty().replace("\x7f", "\\u007f"))
        else:
            _print_record(one, only_incoming)


def _recipe_or_record(session: Session, word: str, only_incoming: bool) -> Named | Record:
    try:
        if not only_incoming:
            return _find(session, word)
        unknown: ZocError = RecipeError(f"there is no recipe ID {word!r}")
    except (RecipeError, BadFile) as error:
        unknown = error
    from zoctools import logbook

    location = session.settings.logbook_location
    if not logbook.is_recipe_id(word) or location is None:
        raise unknown
    try:
        return logbook.Logbook(location).read(word)
    except ZocError as error:
        raise (error if _LIKE_AN_ID.fullmatch(word) else unknown) from None


def _item(one: Named | Record, only_incoming: bool) -> dict[str, Any]:
    if isinstance(one, Named):
        return {"name": one.name, "file": one.source, "recipe": one.recipe().to_json()}
    item = {"recipe_ID": one.recipe_ID, "file": str(one.path), "header": dict(one.header), "incoming": one.incoming}
    return item if only_incoming else {**item, "parsed": one.parsed, "recipe": one.recipe}


def _print_record(record: Record, only_incoming: bool) -> None:
    """Print a record under the headings of the logbook file, which scripts know."""
    from zoctools.logbook import SECTIONS

    written = time.ctime(record.path.stat().st_mtime) if record.path is not None else ""
    output.print_line(f"Recipe {record.recipe_ID} ({written})")
    values = (record.header, record.incoming, record.parsed, record.recipe)
    for title, value in list(zip(SECTIONS, values, strict=True))[: 2 if only_incoming else None]:
        output.print_line(f"\n{title}:\n{json.dumps(value, indent=2, sort_keys=True, default=str)}")


@recipe.command("validate")
@_words()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each file.")
@pass_session
def validate(session: Session, names: tuple[str, ...], as_json: bool) -> ExitCode:
    """Check recipes against every rule of the format; a key given twice is refused too.

    Exits with 0 when all are valid, 1 when one is not, 2 when a file cannot be read.

    \b
    Examples:
      zoc recipe validate recipes/*.json
      zoc recipe validate - < my-recipe.json
    """
    checked = [(word, *_problem(session, word)) for word in names]
    if as_json:
        items = [{"name": word, "valid": not error, "error": error or None} for word, error, _ in checked]
        output.print_json("zoc.recipe.validate/1", items)
    else:
        for _, error, _ in checked:
            if error:
                output.print_line(error)
        wrong = sum(1 for _, error, _ in checked if error)
        output.say(f"{text.count(len(checked), 'recipe')}: {f'{wrong} not valid' if wrong else 'all valid'}")
    return max(code for _, _, code in checked)


def _problem(session: Session, word: str) -> tuple[str, ExitCode]:
    try:
        _find(session, word).recipe().validate(strict=True)
    except RecipeError as error:
        return error.message, ExitCode.NO
    except BadFile as error:
        return error.message, ExitCode.USAGE
    return "", ExitCode.DONE


@recipe.command("lint", epilog="Codes: " + ", ".join(linting.CODES))
@_words()
@click.option("-s", "--set", "assignments", multiple=True, metavar="KEY[=VALUE]", help="A parameter requests carry.")
@click.option("--parameters", "parameter_file", metavar="FILE", help="JSON file of parameters that requests carry.")
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="CODE",
    help="Leave out the findings of a code.",
    type=click.Choice(list(linting.CODES)),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each finding.")
@pass_session
def lint(
    session: Session,
    names: tuple[str, ...],
    assignments: tuple[str, ...],
    parameter_file: str | None,
    ignored: tuple[str, ...],
    as_json: bool,
) -> ExitCode:
    """Say what is doubtful about recipes though they may run: placeholders nobody fills in, queues nobody consumes,
    outputs a service never sends to, and more. Exits with 1 when there are findings.

    \b
    Examples:
      zoc recipe lint archive-cbfs
      zoc recipe lint --ignore no-consumer -s event mimas.json
    """
    known = [word.partition("=")[0] for word in assignments] + list(_from_file(parameter_file))
    services = tuple(installed.services())
    around = linting.Surroundings(known, services, session.settings.queues)
    findings = [
        (named, finding)
        for named in (_find(session, word) for word in names)
        for finding in linting.lint(named.content, named.source, around)
        if finding.code not in ignored
    ]
    if as_json:
        items = [
            {"name": named.name, "file": named.source, "code": finding.code, "node": finding.node, "text": finding.text}
            for named, finding in findings
        ]
        output.print_json("zoc.recipe.lint/1", items)
    else:
        for named, finding in findings:
            output.print_line(f"{text.one_line(named.source)}: {finding.text} [{finding.code}]")
        output.say(f"{text.count(len(names), 'recipe')}: {text.count(len(findings), 'finding')}")
    return ExitCode.NO if findings else ExitCode.DONE


@recipe.command("graph")
@click.argument("name", metavar="NAME|FILE", shell_complete=_complete)
@click.option("--format", "kind", type=click.Choice(list(graph.FORMATS)), default="text", help="How to draw it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one item for each connection.")
@pass_session
def draw(session: Session, name: str, kind: str, as_json: bool) -> None:
    """Draw a recipe: as a tree, or for Graphviz (dot) or Mermaid. Each node is drawn once.

    \b
    Examples:
      zoc recipe graph archive-cbfs
      zoc recipe graph archive-cbfs --format dot | dot -Tsvg > archive-cbfs.svg
    """
    found = _find(session, name).recipe()
    if as_json:
        output.print_json("zoc.recipe.graph/1", _connections(found))
    else:
        output.print_line(graph.FORMATS[kind](found))


def _connections(found: Recipe) -> Iterator[dict[str, Any]]:
    for number, _payload in found.start:
        yield {"from": "start", "output": None, "to": number}
    for number in found.nodes:
        for edge in graph.edges(found, number):
            yield {"from": number, "output": edge.output or None, "to": edge.node}


@recipe.command("expand")
@_words()
@click.option(
    "-s", "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Set a parameter; may be repeated."
)
@click.option("--parameters", "parameter_file", metavar="FILE", help="JSON file of parameters; -s outranks it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the recipe and what is not filled in.")
@pass_session
def expand(
    session: Session, names: tuple[str, ...], assignments: tuple[str, ...], parameter_file: str | None, as_json: bool
) -> None:
    """Fill in a recipe's placeholders and show it as the Dispatcher would start it; several are merged into one.

    What nobody fills in is left as it is and named on stderr.

    \b
    Examples:
      zoc recipe expand archive-cbfs -s ispyb_beamline=i03 --parameters 5073790.json
    """
    values = {**_from_file(parameter_file), **assigned(assignments)}
    whole = Recipe({})
    for word in names:
        found = _find(session, word).recipe()
        found.validate()
        whole = whole.merged(found)
    filled = whole.substituted(values)
    missing = _not_filled_in(whole, values)
    if as_json:
        item = {"names": names, "recipe": filled.to_json(), "not_filled_in": missing}
        output.print_json("zoc.recipe.expand/1", [item])
        return
    output.print_line(filled.pretty().replace("\x7f", "\\u007f"))
    if missing:
        output.say(f"not filled in: {', '.join(text.one_line(name, 60) for name in missing)}")


def _not_filled_in(found: Recipe, values: dict[str, Any]) -> list[str]:
    names: dict[str, None] = {}
    for _, item in validation.walk(found.to_json()):
        for word in [item] if isinstance(item, str) else item if isinstance(item, dict) else ():
            fields = templates.fields(word) if isinstance(word, str) and templates.is_template(word) else ()
            names.update({field.name: None for field in fields if isinstance(field, templates.Field)})
    return [name for name in names if name not in values]


def _from_file(name: str | None) -> dict[str, Any]:
    """Return the parameters of a JSON file: an object of them, or a request that holds one."""
    if name is None:
        return {}
    try:
        value = json.loads(read_file(Path(name).expanduser()))
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{text.one_line(name)}: not JSON: {text.one_line(error, 200)}") from None
    if isinstance(value, dict) and isinstance(value.get("parameters"), dict):
        value = value["parameters"]
    if not isinstance(value, dict):
        raise BadFile(f"{text.one_line(name)}: parameters must be an object")
    return value
