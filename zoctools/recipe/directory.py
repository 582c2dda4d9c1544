"""Where recipes are kept: one ``NAME.json`` for each, in one directory."""

from __future__ import annotations

import difflib
import os
import re
import sysconfig
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

from zoctools.errors import ConfigError, RecipeError
from zoctools.recipe.recipe import Recipe
from zoctools.text import one_line

if TYPE_CHECKING:
    from zoctools.config import Settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SETTING = "the setting zocalo.recipe_directory names the directory of recipes"
_REMEMBERED = 500
_remembered: OrderedDict[str, tuple[tuple[int, ...], Recipe]] = OrderedDict()


def is_recipe_name(name: object) -> bool:
    """Whether a name can be one of a recipe: letters, digits, dot, underscore and hyphen, and no path."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def recipes_dir(settings: Settings | None = None) -> Path:
    """Return the directory of recipes: the configured one, else that of the source tree, else the installed one.

    Raises `ConfigError` when there is none.
    """
    configured = settings.recipe_directory if settings is not None else None
    if configured is not None:
        return configured
    tree = Path(__file__).parents[2]
    if (tree / "pyproject.toml").is_file() and (tree / "recipes").is_dir():
        return tree / "recipes"
    for scheme in (sysconfig.get_default_scheme(), sysconfig.get_preferred_scheme("user")):
        installed = Path(sysconfig.get_path("data", scheme)) / "share" / "zoctools" / "recipes"
        if installed.is_dir():
            return installed
    raise ConfigError("there is no directory of recipes", _SETTING)


def recipe_names(directory: Path) -> list[str]:
    """Return the names of the recipes in a directory, sorted; raises `ConfigError` when it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            stems = [entry.name[:-5] for entry in entries if entry.name.endswith(".json") and _is_file(entry)]
    except OSError as error:
        raise ConfigError(f"{one_line(directory)} cannot be read: {error.strerror or error}", _SETTING) from None
    return sorted(name for name in stems if is_recipe_name(name))


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def recipe_file(directory: Path, name: object) -> Path:
    """Return the file of a recipe; raises `RecipeError` for a bad name, and for one nobody has.

    The file is inside the directory even where the name is somebody else's choice, links included.
    """
    if not is_recipe_name(name):
        raise RecipeError(
            f"{one_line(name, 80)!r} is a bad recipe name", "letters, digits, '.', '_' and '-', at most 128 characters"
        )
    try:
        file = (directory / f"{name}.json").resolve()
        if not file.is_relative_to(directory.resolve()):
            raise RecipeError(f"recipe {name!r} is a link that leads out of {one_line(directory)}")
        found = file.is_file()
    except (OSError, RuntimeError) as error:
        raise RecipeError(f"recipe {name!r} in {one_line(directory)} cannot be read: {error}") from None
    if not found:
        known = recipe_names(directory)
        near = difflib.get_close_matches(str(name), known, 1)
        hint = f"did you mean {near[0]!r}?" if near else "'zoc recipe list' shows the recipes there are"
        raise RecipeError(f"there is no recipe {name!r} in {one_line(directory)}", hint)
    return file


def load(directory: Path, name: object) -> Recipe:
    """Return a recipe by its name, valid; raises `RecipeError` or `BadFile`.

    A file is read once for as long as it does not change; the recipe is shared and must not be changed.
    """
    path = f"{directory}/{name}.json"
    known = _remembered.get(path) if isinstance(name, str) else None
    if known is not None and known[0] == _stamp(path):
        return known[1]
    file = recipe_file(directory, name)
    stamp = _stamp(str(file))
    recipe = Recipe.from_file(file)
    recipe.validate()
    _remembered[path] = (stamp, recipe)
    while len(_remembered) > _REMEMBERED:
        _remembered.popitem(last=False)
    return recipe


def _stamp(path: str) -> tuple[int, ...]:
    """Return what changes when a file does; nothing when there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev
