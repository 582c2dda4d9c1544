"""The dispatcher's logbook: one file for every recipe started, and an index of each month.

A recipe's file is ``<logbook>/<YYYY-MM>/<first two characters of the recipe ID>/<the rest>``, the month in local
time; its four sections of JSON are those of section 10.1 of the wire format, so that the existing tools read it.
``<YYYY-MM>/index.ndjson`` holds one line for each file: what one searches for when the recipe ID is not known.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import Any

from zoctools.errors import BadFile, UsageError, ZocError
from zoctools.text import count, one_line

INDEX = "index.ndjson"
MAX_FILE = 200_000_000
"""Bytes of a logbook file we are willing to read."""
MAX_LINE = 16_384
"""Characters of an index line; a longer one is not ours."""
MAX_NAME = 200
"""Characters of each text in an index line."""
MAX_RECIPES = 50
"""Recipe names in an index line."""
SECTIONS = ("Incoming message header", "Incoming message body", "Parsed message body", "Recipe object")
SHORTEST_PREFIX = 8
"""Hexadecimal digits of a recipe ID that must be given at least."""

_quoted = json.encoder.encode_basestring_ascii
_key = itemgetter(0)
_RECIPE_ID = re.compile(r"[0-9A-Za-z-]{3,64}")
_PREFIX = re.compile(rf"(?=(?:-?[0-9a-f]){{{SHORTEST_PREFIX},}})[0-9a-f-]{{{SHORTEST_PREFIX},64}}", re.IGNORECASE)
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


def is_recipe_id(value: object) -> bool:
    """Whether `value` can be a recipe ID: 3 to 64 letters, digits and hyphens, and so a harmless file name."""
    return isinstance(value, str) and _RECIPE_ID.fullmatch(value) is not None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an index: which recipe was started when, for what and by whom. What is not known is empty."""

    time: str
    """ISO 8601 with offset."""
    recipe_ID: str
    dcid: int | None = None
    recipes: tuple[str, ...] = ()
    beamline: str = ""
    visit: str = ""
    user: str = ""
    host: str = ""
    parent_recipe_ID: str = ""
    """The recipe that asked for this one."""
    supplied: bool = False
    """Whether the request brought the recipe ID along; if not, the dispatcher made it."""

    def to_json(self) -> dict[str, Any]:
        """Return the line as it stands in the index."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def parse(cls, text: str) -> Line | None:
        """Read a line of an index; None for one that is torn or was never a line of ours."""
        if len(text) > MAX_LINE:
            return None
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(value, dict) or not is_recipe_id(value.get("recipe_ID")):
            return None
        recipes = value.get("recipes")
        dcid = value.get("dcid")
        words = {name: _word(value.get(name)) for name in ("beamline", "visit", "user", "host", "parent_recipe_ID")}
        return cls(
            time=_word(value.get("time")),
            recipe_ID=value["recipe_ID"],
            dcid=dcid if isinstance(dcid, int) and not isinstance(dcid, bool) else None,
            recipes=tuple(_word(name) for name in recipes[:MAX_RECIPES]) if isinstance(recipes, list) else (),
            supplied=value.get("supplied") is True,
            **words,
        )


def _word(value: object) -> str:
    return "" if value is None else one_line(value, MAX_NAME)


@dataclass(frozen=True, slots=True)
class Record:
    """What the dispatcher did with one request: the four sections of a logbook file, and its line in the index."""

    recipe_ID: str
    header: Mapping[str, Any] = field(default_factory=dict)
    incoming: Any = None
    """The request as it came, with the recipe ID among its parameters."""
    parsed: Any = None
    """The request once every filter had its say."""
    recipe: Any = None
    """The recipe as it was started."""
    path: Path | None = None

    def to_text(self) -> str:
        """Return the text of the logbook file; raises `ValueError` for values nested too deep."""
        values = (self.header, self.incoming, self.parsed, self.recipe)
        try:
            return "\n".join(f"{title}:\n{neat(value)}\n" for title, value in zip(SECTIONS, values, strict=True))
        except RecursionError:
            raise ValueError("nested too deep for the logbook") from None


def neat(value: Any, margin: str = "") -> str:
    """Return `value` as JSON for people, the same as ``json.dumps`` with an indent of 2 and sorted keys gives.

    What is not JSON is shown as its text, keys too. Raises `RecursionError` for what is nested too deep.
    """
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is dict:
        if not value:
            return "{}"
        inner = margin + "  "
        items = sorted({str(key): item for key, item in value.items()}.items(), key=_key)
        rows = [f"{inner}{_quoted(key)}: {neat(item, inner)}" for key, item in items]
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if kind is list or kind is tuple:
        if not value:
            return "[]"
        inner = margin + "  "
        return "[\n" + ",\n".join([inner + neat(item, inner) for item in value]) + f"\n{margin}]"
    if kind is int or (kind is float and isfinite(value)):
        return repr(value)
    if value is None or kind is bool or kind is float:
        return json.dumps(value)
    return neat(dict(value), margin) if isinstance(value, Mapping) else _quoted(str(value))


class Logbook:
    """A directory of logbook files. Several dispatchers may write to it at once, and others read meanwhile."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # Writing

    def write(self, record: Record, line: Line | None = None, now: float | None = None) -> Path:
        """Write a recipe's file, whole or not at all, and its line in the index; returns the file's path.

        A file of the same recipe ID is replaced. Raises `OSError`, and `ValueError` for what cannot be a logbook file.
        """
        if not is_recipe_id(record.recipe_ID):
            raise ValueError(f"not a recipe ID: {one_line(record.recipe_ID, 80)!r}")
        month = self.root / time.strftime("%Y-%m", time.localtime(now))
        path = _path(month, record.recipe_ID)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o775, parents=True, exist_ok=True)
        _write_whole(path, record.to_text().encode("utf-8", "backslashreplace"))
        if line is not None:
            _append(month / INDEX, line)
        return path

    # Reading

    def months(self) -> list[Path]:
        """Return the directories of the months, newest first; raises `BadFile` when the logbook cannot be read."""
        try:
            with os.scandir(self.root) as entries:
                names = [entry.name for entry in entries if _MONTH.fullmatch(entry.name)]
        except OSError as error:
            raise BadFile(
                f"the logbook {one_line(self.root)} cannot be read: {error.strerror or error}",
                "the setting zocalo.dispatcher.logbook_location names it",
            ) from None
        return [self.root / name for name in sorted(names, reverse=True)]

    def find(self, recipe_ID: str) -> Path:
        """Return the newest file of a recipe ID, or of the one recipe ID that begins with the prefix given.

        Raises `UsageError` for what is no recipe ID and for a prefix of several, `ZocError` when there is none.
        """
        if not is_recipe_id(recipe_ID):
            raise UsageError(
                f"{one_line(recipe_ID, 80)!r} is not a recipe ID", "a recipe ID has 3 to 64 letters, digits and hyphens"
            )
        months = self.months()
        for month in months:
            path = _path(month, recipe_ID)
            if path.is_file():
                return path
        found = _beginning_with(months, recipe_ID.lower()) if _PREFIX.fullmatch(recipe_ID) else {}
        if len(found) > 1:
            several = ", ".join(sorted(found)[:3]) + (", …" if len(found) > 3 else "")
            raise UsageError(f"{recipe_ID} is the beginning of {count(len(found), 'recipe ID')}: {several}")
        if not found:
            raise ZocError(
                f"no recipe {one_line(recipe_ID, 80)} in the logbook {one_line(self.root)}",
                f"{count(len(months), 'month')} looked through; a beginning of a recipe ID needs "
                f"{SHORTEST_PREFIX} hexadecimal digits",
            )
        return next(iter(found.values()))

    def of_collection(self, dcid: int) -> Iterator[Line]:
        """Yield the index lines of a data collection, newest first. Recipes started before there was an index, and
        those of other dispatchers, have none."""
        wanted = str(dcid)
        for line in self.lines(containing=wanted):
            if line.dcid == dcid:
                yield line

    def lines(self, containing: str = "") -> Iterator[Line]:
        """Yield index lines, newest first; of those without the text `containing` none is even parsed."""
        for month in self.months():
            try:
                texts = (month / INDEX).read_bytes().split(b"\n")
            except OSError:
                continue
            key = containing.encode("utf-8", "surrogatepass")
            for text in reversed(texts):
                if not text or key not in text:
                    continue
                line = Line.parse(text.decode("utf-8", "replace"))
                if line is not None:
                    yield line

    def read(self, recipe_ID: str) -> Record:
        """Return what the logbook says of a recipe; raises as `find` and `read_file` do."""
        return read_file(self.find(recipe_ID))


def read_file(path: Path) -> Record:
    """Return a logbook file as its sections; raises `BadFile`.

    Files of the existing dispatcher are read too: what they say of the recipe among the parsed parameters is not one.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadFile(f"{one_line(path)}: larger than {MAX_FILE // 1_000_000} MB")
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise BadFile(f"{one_line(path)}: {error.strerror or error}") from None
    sections = split_sections(text)
    if not sections:
        raise BadFile(f"{one_line(path)}: not a logbook file", "it has no section such as 'Recipe object:'")
    values = {title: _section(path, title, body) for title, body in sections.items()}
    header = values.get(SECTIONS[0])
    return Record(
        recipe_ID=path.parent.name + path.name,
        header=header if isinstance(header, dict) else {},
        incoming=values.get(SECTIONS[1]),
        parsed=values.get(SECTIONS[2]),
        recipe=values.get(SECTIONS[3]),
        path=path,
    )


def split_sections(text: str) -> dict[str, str]:
    """Return title -> text of a logbook file: a title is a line that begins with no space and ends in a colon."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        if line.endswith(":") and not line.startswith(" ") and line != ":":
            lines = sections.setdefault(line[:-1], [])
            lines.clear()
        elif sections:
            lines.append(line)
    return {title: "\n".join(body).strip() for title, body in sections.items()}


def _section(path: Path, title: str, body: str) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{one_line(path)}: section {one_line(title, 60)!r} is not JSON: {error}") from None


def _path(month: Path, recipe_ID: str) -> Path:
    return month / recipe_ID[:2] / recipe_ID[2:]


def _beginning_with(months: list[Path], prefix: str) -> dict[str, Path]:
    """Return recipe ID -> newest file of those that begin with `prefix`, given in lower case."""
    found: dict[str, Path] = {}
    for month in months:
        with suppress(OSError), os.scandir(month / prefix[:2]) as entries:
            for entry in entries:
                if entry.name.lower().startswith(prefix[2:]) and is_recipe_id(prefix[:2] + entry.name):
                    found.setdefault(prefix[:2] + entry.name, Path(entry.path))
    return found


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file so that its name never stands for half of it, even when the machine stops."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        with suppress(OSError):
            scratch.unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _append(index: Path, line: Line) -> None:
    """Add a line in one write, so that lines of several dispatchers do not mix; a torn last line is ended first."""
    text = json.dumps(line.to_json()).encode("ascii") + b"\n"
    descriptor = os.open(index, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o664)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            text = b"\n" + text
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


def line_of(record: Record, parameters: Mapping[str, Any], recipes: list[str], **more: Any) -> Line:
    """Return the index line of a record: who asked (from its header), for which data collection (its parameters)."""
    dcid = parameters.get("ispyb_dcid", parameters.get("dcid"))
    header = record.header
    return Line(
        time=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        recipe_ID=record.recipe_ID,
        dcid=data_collection_id(dcid),
        recipes=tuple(_word(name) for name in recipes[:MAX_RECIPES]),
        beamline=_word(parameters.get("ispyb_beamline")),
        visit=_word(parameters.get("ispyb_visit")),
        user=_word(header.get("zocalo.go.user", header.get("dlstbx.go.user"))),
        host=_word(header.get("zocalo.go.host", header.get("dlstbx.go.host"))),
        **more,
    )


def data_collection_id(value: object) -> int | None:
    """Return a data collection ID given as a number or as digits; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    return value if isinstance(value, int) and 0 <= value < 10**18 else None
