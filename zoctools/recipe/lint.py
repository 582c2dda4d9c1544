"""What is doubtful about a recipe though it may run: findings for its author, each with a code.

`CODES` says what each code means. A recipe that is not valid gets the rule it breaks as a finding, and the rest too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from zoctools.errors import RecipeError
from zoctools.recipe import templates, validation
from zoctools.recipe.installed import Consumer
from zoctools.recipe.recipe import Recipe
from zoctools.text import one_line

CODES: Mapping[str, str] = {
    "invalid": "the recipe breaks a rule of the format and will not be started",
    "duplicate-key": "a key stands twice in one object; the last one counts",
    "not-a-number": "NaN or Infinity, which is not valid JSON for most programs",
    "node-name": "a node's name is not a number of 1 or more",
    "nowhere": "a node has neither queue nor topic: what is sent to it is lost",
    "bad-template": "a template that cannot be filled in: the request becomes a dead letter",
    "queue-template": "whoever starts the recipe chooses the queue",
    "unfilled": "nobody fills the placeholder in: it is sent on as it is written",
    "unfilled-replace": "nobody knows the parameter: it becomes null",
    "queue-name": "a comma, a wildcard or a character that brokers treat in their own way",
    "no-consumer": "no service we know consumes the queue",
    "never-sent": "the service never sends to the output",
    "sent-twice": "an output leads to the same node more than once",
    "unused-error": "nothing ever sends to error nodes",
    "delay": "transport-delay is no number of seconds",
}
KNOWN_PREFIX = "ispyb_"
ALWAYS_KNOWN = ("guid",)
_ODD = re.compile(r"[\s,*>/:#?]|[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One doubt: `code` as in `CODES`, the node (None: the recipe as a whole), and a sentence with the place."""

    code: str
    node: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known of the world a recipe will run in.

    `parameters` are the names a request will carry (``ispyb_…`` and ``guid`` are always known). Without `services`
    nothing is said of queues nobody consumes; `queues` are consumed by programs we do not know.
    """

    parameters: Collection[str] = ()
    services: tuple[Consumer, ...] = ()
    queues: Collection[str] = ()

    def fills(self, name: str) -> bool:
        """Whether a request will carry a parameter."""
        return name.startswith(KNOWN_PREFIX) or name in ALWAYS_KNOWN or name in self.parameters

    def consumers(self, queue: object) -> list[Consumer]:
        """The services that consume a queue."""
        return [service for service in self.services if queue in service.queues]


def lint(text: str | bytes, source: str = "", surroundings: Surroundings | None = None) -> list[Finding]:
    """Return what is doubtful about a recipe's text, node by node in the order of their numbers."""
    try:
        recipe = Recipe.from_text(text, source)
    except RecipeError as error:
        return [Finding("invalid", None, _without(source, error.message))]
    return lint_recipe(recipe, surroundings)


def lint_recipe(recipe: Recipe, surroundings: Surroundings | None = None) -> list[Finding]:
    """Return what is doubtful about a recipe."""
    around = surroundings or Surroundings()
    found = [*_of_recipe(recipe), *_of_start(recipe, around)]
    for number in sorted(recipe.nodes):
        found += _of_node(recipe, number, around)
    return found


def _without(source: str, message: str) -> str:
    return message.removeprefix(f"{one_line(source)}: ")


def _of_recipe(recipe: Recipe) -> Iterator[Finding]:
    try:
        recipe.validate()
    except RecipeError as error:
        yield Finding("invalid", None, _without(recipe.source, error.message))
    for place, key in recipe.keys_given_twice():
        what = f"node {key} given twice" if not place and key.isdecimal() else f"{key!r} given twice"
        yield Finding("duplicate-key", _number_in(place), f"{place}: {what}" if place else what)
    if recipe.error is not None:
        yield Finding("unused-error", None, "error: nothing ever sends to error nodes")


def _number_in(place: str) -> int | None:
    found = re.match(r"node (-?[0-9]+)", place)
    return int(found[1]) if found else None


def _of_start(recipe: Recipe, around: Surroundings) -> Iterator[Finding]:
    for number, payload in recipe.start:
        node = number if isinstance(number, int) else None
        for code, text in _of_values(payload, "start", around, ()):
            yield Finding(code, node, text)


def _of_node(recipe: Recipe, number: int, around: Surroundings) -> Iterator[Finding]:
    node = recipe.nodes[number]
    place = f"node {number}"
    if number < 1:
        yield Finding("node-name", number, f"{place}: node names should be 1 or more")
    if not node.get("queue") and not node.get("topic"):
        yield Finding("nowhere", number, f"{place} has nowhere to go: it has neither queue nor topic")
    services = around.consumers(node.get("queue"))
    own = tuple(name for service in services for name in service.placeholders)
    doubts = [
        *_of_destination(node, place, around, services),
        *_of_outputs(node, place, services),
        *_of_values(node, place, around, own),
    ]
    for code, text in doubts:
        yield Finding(code, number, text)


def _of_destination(
    node: Mapping[str, Any], place: str, around: Surroundings, services: list[Consumer]
) -> Iterator[tuple[str, str]]:
    for kind in ("queue", "topic"):
        name = node.get(kind)
        if not isinstance(name, str) or not name:
            continue
        shown = f"{place}: {kind} '{one_line(name, 60)}'"
        if templates.is_template(name):
            yield "queue-template", f"{shown}: whoever starts the recipe chooses the {kind}"
        elif "," in name:
            yield "queue-name", f"{shown}: ActiveMQ takes the comma to mean several"
        elif _ODD.search(name):
            yield "queue-name", f"{shown}: holds characters that brokers treat in their own way"
        elif kind == "queue" and around.services and not services and name not in around.queues:
            yield "no-consumer", f"{shown}: no service we know consumes it"
    delay = node.get("transport-delay", 0)
    numeric = isinstance(delay, (int, float)) and not isinstance(delay, bool)
    if not numeric and not (isinstance(delay, str) and templates.is_template(delay)):
        yield "delay", f"{place}: transport-delay must be a number of seconds, not {one_line(delay, 40)}"
    elif numeric and not delay >= 0:
        yield "delay", f"{place}: transport-delay must not be negative"
    if "error" in node:
        yield "unused-error", f"{place}: error: nothing ever sends to error nodes"


def _of_outputs(node: Mapping[str, Any], place: str, services: list[Consumer]) -> Iterator[tuple[str, str]]:
    output = node.get("output")
    named = output if isinstance(output, dict) else {}
    for name, links in named.items() if named else [("", output)]:
        here = f"{place}: output" + (f" '{one_line(name, 60)}'" if named else "")
        if isinstance(links, list) and len(set(map(repr, links))) < len(links):
            yield "sent-twice", f"{here} leads to the same node more than once"
    if not services or any(service.outputs is None for service in services):
        return
    patterns = [pattern for service in services for pattern in service.outputs or ()]
    for name in named:
        if not templates.is_template(name) and not any(fnmatchcase(name, pattern) for pattern in patterns):
            who = services[0].name
            yield (
                "never-sent",
                f"{place}: output '{one_line(name, 60)}': {who} never sends to it ({_several(patterns)})",
            )


def _several(patterns: Iterable[str]) -> str:
    names = sorted(set(patterns))
    return f"it sends to {', '.join(names)}" if names else "it sends to no named output"


def _of_values(value: Any, place: str, around: Surroundings, own: Collection[str]) -> Iterator[tuple[str, str]]:
    """Look at every key and value: numbers JSON does not know, templates and who fills them in."""
    for here, item in validation.walk(value, place):
        if isinstance(item, float) and not math.isfinite(item):
            yield "not-a-number", f"{here}: {json.dumps(item)} is not a valid JSON number"
        texts = [item] if isinstance(item, str) else list(item) if isinstance(item, dict) else ()
        for text in texts:
            if isinstance(text, str) and templates.is_template(text):
                yield from _of_template(text, here, around, own)


def _of_template(text: str, here: str, around: Surroundings, own: Collection[str]) -> Iterator[tuple[str, str]]:
    told: set[str] = set()
    for field in templates.fields(text):
        if isinstance(field, templates.Fault):
            yield "bad-template", f"{here}: {field.why}"
        elif field.conversion not in (None, *templates.CONVERSIONS):
            yield "bad-template", f"{here}: !{one_line(field.conversion, 10)} is not a conversion: r, s and a are"
        elif around.fills(field.name) or field.name in own or field.name in told:
            continue
        elif templates.is_replacement(text):
            yield "unfilled-replace", f"{here}: nobody knows '{one_line(field.name, 60)}', so it becomes null"
        elif field.conversion is None and field.spec:
            yield "unfilled", f"{here}: nobody fills in {{{one_line(field.name, 60)}}}, and so it cannot be formatted"
        else:
            yield "unfilled", f"{here}: nobody fills in {{{one_line(field.name, 60)}}}"
        told.add(getattr(field, "name", ""))
