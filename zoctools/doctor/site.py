"""Checks of what stands on disk and of what the management interface tells."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from zoctools import dropfiles, text
from zoctools.doctor.finding import OURS, Finding, fail, of_error, ok, unknown, warn
from zoctools.errors import ConfigError, ZocError
from zoctools.queues import SHARED_DEAD_LETTERS, Figures, QueueFigures, of_namespace
from zoctools.recipe.directory import recipes_dir
from zoctools.settings import Settings

FULL = 80
"""Per cent of a store of the broker from which producers will soon be blocked."""


def configuration(settings: Settings) -> Finding:
    """Which file and environment are in use, and what is odd in them."""
    what = "configuration"
    where = f"{settings.file}, environment {settings.environment or 'none'}" if settings.file else settings.title
    if settings.warnings:
        hint = "'zoc config check' lists all of them"
        return warn(what, f"{where}: {settings.warnings[0]}", hint, warnings=len(settings.warnings))
    return ok(what, where)


def queue_figures(figures: Figures | None) -> Finding:
    """Whether the management interface answers, and how full the broker is."""
    what = "queue figures"
    if figures is None:
        hint = "add the plug-in 'jmx' (ActiveMQ) or 'rabbitmqapi' to the site configuration"
        return unknown(what, "no management interface is configured", hint)
    try:
        broker, queues = figures.broker(), _queues(figures)
    except ZocError as error:
        return of_error(what, error)
    waiting = sum(queue.ready or 0 for queue in queues)
    detail = f"{figures.source}: {text.count(len(queues), 'queue')}, {text.count(waiting, 'message')} ready"
    stores = {"store": broker.store, "memory": broker.memory, "temp": broker.temp}
    full = {name: per_cent for name, per_cent in stores.items() if per_cent is not None and per_cent >= FULL}
    numbers = {"queues": len(queues), "ready": waiting}
    if full:
        said = ", ".join(f"{name} {per_cent} %" for name, per_cent in full.items())
        hint = "at 100 % the broker takes no more messages: drain what nobody consumes"
        return warn(what, f"{detail}; {said} full", hint, **numbers)
    return ok(what, detail, **numbers)


def dead_letters(figures: Figures | None, namespace: str) -> Finding:
    """Whether dead letters wait."""
    what = "dead letters"
    if figures is None:
        return unknown(what, "they cannot be counted without queue figures")
    try:
        every = _queues(figures)
    except ZocError:
        return unknown(what, "they cannot be counted while the queue figures fail")
    with_some = sorted(
        (queue for queue in (*of_namespace(every, namespace), *_shared(every)) if queue.dead_letters),
        key=lambda queue: -(queue.dead_letters or 0),
    )
    total = sum(queue.dead_letters or 0 for queue in with_some)
    if not total:
        return ok(what, "none", total=0)
    named = ", ".join(f"{queue.name} {queue.dead_letters}" for queue in with_some[:3])
    more = f" and {text.count(len(with_some) - 3, 'more queue')}" if len(with_some) > 3 else ""
    return warn(
        what,
        f"{total}: {named}{more}",
        "the cause is in the headers of each; put them back with the reinject of your Zocalo",
        total=total,
    )


def recipes(settings: Settings) -> Finding:
    """Whether recipes can be read."""
    what = "recipes"
    try:
        directory = recipes_dir(settings)
        names = [path for path in directory.iterdir() if path.suffix == ".json"]
    except ConfigError as error:
        return unknown(what, error.message, error.hint)
    except OSError as error:
        return fail(what, _said(error, directory), "is it on a file system of this machine?")
    if not names:
        return warn(what, f"there is no recipe in {directory}", "zocalo.recipe_directory should hold NAME.json files")
    return ok(what, f"{text.count(len(names), 'recipe')} in {directory}", recipes=len(names))


def logbook(settings: Settings) -> Finding:
    """Whether the dispatcher could record recipes from here."""
    what = "logbook"
    try:
        directory = settings.logbook_location
    except ConfigError as error:
        return of_error(what, error)
    if directory is None:
        return unknown(what, "no directory is configured", "it is zocalo.dispatcher.logbook_location")
    return _writable(what, directory, settings.readonly)


def drop_files(settings: Settings) -> Finding:
    """Whether requests wait that were saved while the broker was away."""
    what = "drop files"
    try:
        directory = settings.drop_directory
    except ConfigError as error:
        return of_error(what, error)
    if directory is None:
        return unknown(what, "no directory is configured", "it is zocalo.go.fallback_location")
    try:
        oldest = [path.stat().st_mtime for path in dropfiles.waiting(directory)]
    except OSError as error:
        return fail(what, _said(error, directory), "make the directory, or correct the setting")
    except ZocError as error:
        return of_error(what, error)
    if not oldest:
        return _writable(what, directory, settings.readonly, "none waiting; ")
    age = text.duration(time.time() - min(oldest))
    detail = f"{text.count(len(oldest), 'request')} in {directory}, the oldest {age} old"
    return warn(what, detail, "'zoc pickup' sends them", waiting=len(oldest))


def _queues(figures: Figures) -> tuple[QueueFigures, ...]:
    """All queues but those the other checks are using just now."""
    return tuple(queue for queue in figures.queues() if OURS not in queue.name)


def _shared(queues: tuple[QueueFigures, ...]) -> list[QueueFigures]:
    shared = [queue for queue in queues if queue.name == SHARED_DEAD_LETTERS]
    return [QueueFigures(queue.name, dead_letters=queue.depth) for queue in shared]


def _writable(what: str, directory: Path, readonly: bool, before: str = "") -> Finding:
    try:
        if readonly:
            os.scandir(directory).close()
            return ok(what, f"{before}{directory} can be read")
        with tempfile.TemporaryFile(dir=directory):
            return ok(what, f"{before}{directory} can be written")
    except PermissionError:
        return unknown(what, f"{before}{directory} cannot be written by us", "it may be by the user who runs services")
    except OSError as error:
        return fail(what, _said(error, directory), "is it on a file system of this machine?")


def _said(error: OSError, where: object) -> str:
    return f"{where}: {(error.strerror or 'not usable').lower()}"
