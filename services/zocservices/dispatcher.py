"""Dispatcher: turns a request into a filled-in recipe, and starts it."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zocservices.datacollections import CollectionFiles
from zocservices.request import Request, custom_recipe, recipe_names
from zoctools import headers, logs
from zoctools.errors import BadFile, ConfigError, RecipeError
from zoctools.logbook import Line, Logbook, Record, line_of
from zoctools.recipe import directory
from zoctools.recipe.envelope import encode
from zoctools.recipe.parameters import is_template
from zoctools.recipe.recipe import Recipe
from zoctools.service import copies
from zoctools.service.service import Reject, Retry, Service, Unavailable
from zoctools.text import count, one_line
from zoctools.transport.contract import Destination, Outgoing, namespaced

if TYPE_CHECKING:
    from zoctools.recipe.step import Step

READY_PLUGINS = "zocalo.services.dispatcher.ready_for_processing"
"""Entry points ``f(message, parameters) -> bool``: whether a request can be dealt with now."""
FILTER_PLUGINS = "zocalo.services.dispatcher.filters"
"""Entry points ``f(message, parameters) -> (message, parameters)``; they may change what they are given."""
NOT_READY_DELAY = 2.0
"""Seconds until a request that is not ready is looked at again."""

Filter = Callable[[dict[str, Any], dict[str, Any]], tuple[dict[str, Any], dict[str, Any]]]
Check = Callable[[dict[str, Any], dict[str, Any]], object]


class FilterFailed(Exception):
    """A filter of somebody else's raised, or returned what no filter returns."""


class Dispatcher(Service):
    """Starts recipes: reads the request, fills the recipes in with its parameters, and sends the first messages.

    A request is ``{"recipes": [names], "custom_recipe": {...}, "parameters": {...}}``, plain or in a recipe. Each
    start is recorded in the logbook.
    """

    name = "Dispatcher"
    queue = "processing_recipe"
    outputs = ()
    accepts_plain_messages = True

    def start(self) -> None:
        """Find recipes, logbook, collections and plug-ins; raises `ConfigError` for what cannot be used."""
        settings = self.settings
        self._recipes = directory.recipes_dir(settings)
        self._logbook = self._opened_logbook(settings.logbook_location if settings else None)
        self._chosen_queues = settings.templated_queues if settings else None
        self._checks: dict[str, Check] = dict(_plugins(READY_PLUGINS))
        self._filters: dict[str, Filter] = dict(_plugins(FILTER_PLUGINS))
        self._collections = CollectionFiles(settings.collections) if settings and settings.collections else None
        super().start()

    def process(self, step: Step, payload: Any) -> None:
        """Deal with one request: start its recipes, or send it back until it is ready."""
        began = time.monotonic()
        request = Request.of(payload)
        parent = step.recipe_ID or step.headers.get(headers.PARENT, "")
        if step.recipe_ID:
            self.log.info("this recipe starts another, with recipe ID %s", request.recipe_ID)
        with logs.recipe(request.recipe_ID):
            if not self._is_ready(request):
                self._put_off(step, request)
                return
            message, parameters = self._filtered(request)
            recipe = self._recipe(message, parameters)
            started = self._start(step, recipe, request.recipe_ID)
            names = recipe_names(message) + (["custom recipe"] if custom_recipe(message) else [])
            record = Record(
                request.recipe_ID, step.headers, request.message, _parsed(message, parameters), recipe.to_json()
            )
            line = line_of(record, parameters, names, parent_recipe_ID=parent, supplied=request.supplied)
            self._note(record, line)
            took = time.monotonic() - began
            log = self.log.info if started else self.log.warning
            what = f"{', '.join(names)} with {count(started, 'message')}"
            log("Processed incoming message in %.4f seconds, started %s", took, what, extra=_fields(line))

    # Is it time

    def _is_ready(self, request: Request) -> bool:
        message, parameters = self._own(request)
        checks: list[Check] = list(self._checks.values())
        if self._collections is not None:
            checks.insert(0, self._collections.ready_for_processing)
        return all(check(message, parameters) for check in checks)

    def _put_off(self, step: Step, request: Request) -> None:
        """Send a request back to our queue for a while or, when that has lasted too long, to whom it names."""
        now = time.time()
        until = request.waiting_until(now)
        if until > now:
            self.log.info("not ready yet")
            self._send_again(step, request.expiring(until))
        elif request.error_queue:
            self.log.info("never became ready, handed to %s", one_line(request.error_queue, 200))
            kept = {name: value for name, value in _kept(step).items() if name != headers.RECIPE}
            self._send(step, request.error_queue, request.expiring(until), kept)
        else:
            raise Reject("the request never became ready for processing, and names no dispatcher_error_queue")

    def _send_again(self, step: Step, message: dict[str, Any]) -> None:
        """Send a request to our queue as it came, in its recipe and with its headers."""
        body = message if step.recipe is None else {**step.to_json(), "payload": message}
        self._send(step, self.queue or "processing_recipe", body, _kept(step), NOT_READY_DELAY)

    def _send(self, step: Step, queue: str, body: Any, kept: Mapping[str, str], delay: float = 0.0) -> None:
        destination = Destination.queue(namespaced(self.namespace, queue))
        step.outbox.append(Outgoing(destination, encode(body), kept, delay))

    # What is asked for

    def _own(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return message and parameters that plug-ins may change."""
        if not self._checks and not self._filters:
            return dict(request.message), dict(request.parameters)
        return copy.deepcopy(dict(request.message)), copy.deepcopy(dict(request.parameters))

    def _filtered(self, request: Request) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return message and parameters once every filter had its say; raises what filters raise, or `FilterFailed`."""
        message, parameters = self._own(request)
        message["recipe"] = {}
        if self._collections is not None:
            message, parameters = self._collections.fill(message, parameters)
        for name, apply in self._filters.items():
            try:
                message, parameters = apply(message, parameters)
            except (Reject, Retry, Unavailable):
                raise
            except Exception as error:
                raise FilterFailed(f"filter {name}: {type(error).__name__}: {one_line(error, 500)}") from error
            if not isinstance(message, dict) or not isinstance(parameters, dict):
                raise FilterFailed(f"filter {name} did not return a message and parameters")
        return message, parameters

    def _recipe(self, message: dict[str, Any], parameters: dict[str, Any]) -> Recipe:
        """Return all recipes asked for as one, filled in; raises `Reject`."""
        try:
            recipe = _of_filters(message)
            given = custom_recipe(message)
            if given is not None:
                custom = Recipe(given, "custom recipe")
                custom.validate()
                recipe = recipe.merged(custom)
            for name in recipe_names(message):
                recipe = recipe.merged(directory.load(self._recipes, name))
            if not recipe:
                raise Reject("the request names no recipe: neither recipes nor custom_recipe")
            filled = recipe.substituted(parameters)
        except (RecipeError, BadFile) as error:
            raise Reject(error.message) from None
        self._refuse_chosen_queues(recipe, filled)
        return filled

    def _refuse_chosen_queues(self, recipe: Recipe, filled: Recipe) -> None:
        """Raise `Reject` where a parameter chose a queue or topic that may not be chosen."""
        if self._chosen_queues is None:
            return
        for number, node in recipe.nodes.items():
            for kind in ("queue", "topic"):
                name, chosen = node.get(kind), filled.nodes[number].get(kind)
                if isinstance(name, str) and is_template(name) and chosen not in self._chosen_queues:
                    raise Reject(
                        f"node {number}: {kind} {one_line(name, 80)!r} is a template, and this site does not let "
                        f"parameters choose {one_line(chosen, 80)!r}"
                    )

    def _start(self, step: Step, recipe: Recipe, recipe_ID: str) -> int:
        try:
            return step.start(recipe, {"ID": recipe_ID})
        except (RecipeError, TypeError, ValueError) as error:
            raise Reject(f"the recipe cannot be started: {one_line(error, 300)}") from None

    # What was done

    def _opened_logbook(self, location: Path | None) -> Logbook | None:
        if location is None:
            self.log.info("no logbook: zocalo.dispatcher.logbook_location is not configured")
            return None
        try:
            location.mkdir(mode=0o775, parents=True, exist_ok=True)
        except OSError as error:
            self.log.error("the logbook %s cannot be made, requests go on: %s", one_line(location), error)
        if not os.access(location, os.R_OK | os.W_OK | os.X_OK):
            self.log.error("the logbook %s cannot be written, requests go on", one_line(location))
        return Logbook(location)

    def _note(self, record: Record, line: Line) -> None:
        """Write to the logbook; what goes wrong there is no fault of the request."""
        if self._logbook is None:
            return
        try:
            self._logbook.write(record, line)
        except (OSError, ValueError) as error:
            self.log.warning("not written to the logbook: %s", one_line(error, 300))


def _plugins(group: str) -> list[tuple[str, Any]]:
    """Return the plug-ins of a group by name, in the order they are installed; raises `ConfigError`."""
    return [(entry.name, _loaded(entry)) for entry in entry_points(group=group)]


def _loaded(entry: EntryPoint) -> Any:
    try:
        found = entry.load()
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error, 300)}"
        raise ConfigError(f"dispatcher plug-in {entry.name!r} ({entry.value}) cannot be loaded: {why}") from error
    if not callable(found):
        raise ConfigError(f"dispatcher plug-in {entry.name!r} ({entry.value}) cannot be called")
    return found


def _of_filters(message: dict[str, Any]) -> Recipe:
    """Return the recipe that filters made, which is none as a rule; it may be the object of another library."""
    made = message.get("recipe")
    made = getattr(made, "recipe", made)
    if not isinstance(made, dict) or not made:
        return Recipe({})
    recipe = Recipe(made, "recipe of a filter")
    recipe.validate()
    return recipe


def _parsed(message: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return a request as the filters left it, for the logbook, which has a section of its own for the recipe."""
    return {name: value for name, value in message.items() if name != "recipe"} | {"parameters": parameters}


def _kept(step: Step) -> dict[str, str]:
    """Return the headers of a request that it keeps when it is sent again."""
    return copies.sendable(headers.for_send(step.headers))


def _fields(line: Line) -> dict[str, Any]:
    """Return an index line as fields of a log record."""
    return {
        "dcid": line.dcid,
        "recipes": list(line.recipes),
        "beamline": line.beamline,
        "visit": line.visit,
        "request_user": line.user,
        "request_host": line.host,
        "parent_recipe_ID": line.parent_recipe_ID,
        "supplied_recipe_ID": line.supplied,
    }
