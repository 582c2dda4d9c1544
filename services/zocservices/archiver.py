"""Archiver: tells the archive which files a data collection has written."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zocservices import filesystem, icat
from zocservices.pattern import Pattern, whole_number
from zoctools.service.service import Reject, Retry, Service
from zoctools.text import count, one_line

if TYPE_CHECKING:
    from zoctools.recipe.step import Step

LARGEST_FILE = 3 * 1024**4
"""Bytes; the archive takes nothing larger."""
LATEST = 6e10
"""Seconds since 1970, before or after: years that have four digits."""
MOST_FILES_IN_ONE = 50_000
"""A drop file with more entries than this is split even where the recipe names no limit: it must fit in a message."""
INDUSTRIAL_CODES = ("ic", "il", "in", "sw")
VISIT_SHARED_ROOT = {"mx": "i02-2"}
"""Beamlines whose visits are not under their own name: ``/dls/mx/data/…`` is VMXi's."""
NOT_WRITABLE_NOW = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS}) | filesystem.AWAY

_VISIT = re.compile(r"[a-z]{2}[0-9]+-[0-9]+", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where files belong: the visit, its beamline, and the data set, which is the directory within the visit."""

    visit: str
    beamline: str
    dataset: str

    @classmethod
    def of(cls, location: str, parameters: Mapping[str, Any]) -> Origin:
        """Read it from a path ``/dls/BEAMLINE/data/YEAR/VISIT/…``; the node's ``visit`` and ``beamline`` win.

        Raises `Reject` when neither says it, and for a directory that XML cannot name.
        """
        parts = location.split("/")
        place = next((index for index, part in enumerate(parts[:-1]) if _VISIT.fullmatch(part)), 5)
        in_path = parts[place] if place < len(parts) - 1 else ""
        visit = _name(parameters.get("visit") or in_path, "visit", location)
        root = parts[place - 3] if place >= 3 and in_path else ""
        beamline = _name(parameters.get("beamline") or VISIT_SHARED_ROOT.get(root, root), "beamline", location)
        dataset = "/".join(part for part in parts[place + 1 : -1] if part) or "topdir"
        if not icat.speakable(dataset):
            raise Reject(f"the directory holds characters that XML cannot express: {one_line(location, 200)}")
        return cls(visit, beamline, dataset)

    @property
    def industrial(self) -> bool:
        """Whether the visit is paid for, and its data stay out of the archive unless the site says otherwise."""
        return self.visit[:2].lower() in INDUSTRIAL_CODES


@dataclass(slots=True)
class Found:
    """What one pass over the files gave."""

    files: list[icat.DataFile] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    hole: bool = False
    """A file was found after a missing one."""

    @property
    def failed(self) -> int:
        """How many files were not archived."""
        return len(self.missing) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Part:
    """The files of one drop file: what was found, which part of a split job it is (0: not split), and the rest."""

    origin: Origin
    found: Found
    number: int
    rest: dict[str, Any] | None


class Archiver(Service):
    """Writes ICAT XML drop files for the files of a pattern or a list.

    Queues ``archive.pattern`` and ``archive.filelist``. Outputs: ``dropfile`` (default), ``missing_files``,
    ``missing_files_within``, ``all_files_missing``. A job of more than ``limit-files`` files is split: one drop
    file each, the rest sent back to the queue.
    """

    name = "Archiver"
    outputs = ("dropfile", "missing_files", "missing_files_within", "all_files_missing")

    def start(self) -> None:
        """Take both kinds of job."""
        self.consume("archive.pattern", self.archive_pattern)
        self.consume("archive.filelist", self.archive_list)

    def archive_pattern(self, step: Step, payload: Any) -> None:
        """Archive the files ``pattern`` with the numbers ``pattern-start`` to ``pattern-end``."""
        pattern = Pattern.from_parameters(step.parameters)
        progress = payload if isinstance(payload, dict) else {}
        first = whole_number(progress, "archive-pattern-start", pattern.first)
        origin = Origin.of(pattern.file(pattern.first), step.parameters)
        if self._excluded(origin):
            return
        numbers = iter(range(first, pattern.last + 1))
        found = self._look(map(pattern.file, numbers), limit(step))
        following = next(numbers, None)
        part = whole_number(progress, "archive-multipart", 0)
        rest = None if following is None else {"archive-pattern-start": following}
        if found.hole:
            self.log.error("files are missing from within the pattern: %s", listed(found.missing))
            step.send_to("missing_files_within", found.missing)
        self._report(step, Part(origin, found, part, rest))

    def archive_list(self, step: Step, payload: Any) -> None:
        """Archive the files named in ``filelist``, of the message or of the recipe node."""
        progress = payload if isinstance(payload, dict) else {}
        names = file_names(progress.get("filelist", step.parameters.get("filelist")))
        origin = Origin.of(names[0], step.parameters)
        if self._excluded(origin):
            return
        waiting = iter(names)
        found = self._look(waiting, limit(step))
        following = list(waiting)
        part = whole_number(progress, "archive-multipart", 0)
        self._report(step, Part(origin, found, part, {"filelist": following} if following else None))

    def _excluded(self, origin: Origin) -> bool:
        allowed = (self.settings.storage if self.settings else {}).get("zocalo.archiver.allowed_industrial_visit_codes")
        codes = {str(code).lower() for code in allowed} if isinstance(allowed, (list, tuple)) else set()
        if not origin.industrial or origin.visit[:2].lower() in codes:
            return False
        self.log.info("%s is an industrial visit: nothing is archived", origin.visit)
        return True

    def _look(self, names: Iterator[str], most: int) -> Found:
        """Look at files, each once, until `most` of them are found."""
        found = Found()
        while len(found.files) < most:
            name = next(names, None)
            if name is None:
                break
            try:
                found.files.append(data_file(name))
                found.hole = found.hole or bool(found.missing)
            except FileNotFoundError:
                found.missing.append(name)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in filesystem.AWAY:
                    raise Retry(f"cannot read {one_line(name, 200)}: {error.strerror}", delay=60) from error
                found.refused.append((name, str(error)))
        return found

    def _report(self, step: Step, part: Part) -> None:
        found = part.found
        number = part.number or (1 if part.rest else 0)
        self._log_failures(found, step.parameters)
        if found.missing:
            step.send_to("missing_files", found.missing)
            if not found.files and part.number <= 1:
                step.send_to("all_files_missing", found.missing)
        if part.rest:
            self.log.info("reached the limit of %s, splitting the job", count(len(found.files), "file"))
            step.checkpoint({"archive-multipart": number + 1, **part.rest})
        content = icat.xml(part.origin.visit, part.origin.beamline, part.origin.dataset, found.files)
        path = drop_path(step.parameters, part.origin, number)
        if path and self.settings and not self.settings.may_write(path):
            raise Reject(f"drop file {path} is outside the directories this site allows")
        if found.files:
            queue = step.parameters.get("dropfile-queue")
            if queue:
                step.send_message(queue_name(queue), content, namespaced=False)
            if path:
                self._write(path, content)
        elif path:
            self.log.info("no file found, so no drop file %s", path)
        step.default_output = "dropfile"
        step.send_to("dropfile", {"success": len(found.files), "failed": found.failed, "xml": content.decode("ascii")})
        self.log.info("%d files archived", len(found.files))

    def _write(self, path: Path, content: bytes) -> None:
        try:
            written = icat.write_drop_file(path, content)
        except OSError as error:
            if error.errno in NOT_WRITABLE_NOW:
                raise Retry(f"cannot write drop file {path}: {error.strerror}", delay=60) from error
            raise
        self.log.info("written drop file %s", written)

    def _log_failures(self, found: Found, parameters: Mapping[str, Any]) -> None:
        if found.missing:
            self.log.info("not found: %s", listed(found.missing))
        warn_files = self.log.info if parameters.get("log-file-warnings-as-info") else self.log.warning
        for name, why in found.refused[:100]:
            warn_files("could not archive %s: %s", one_line(name, 300), one_line(why, 300))
        if found.failed:
            warn = self.log.info if parameters.get("log-summary-warning-as-info") else self.log.warning
            warn("failed to archive %s", count(found.failed, "file"))


def limit(step: Step) -> int:
    """Return how many files one drop file may hold; ``limit-files`` 0 is as many as fit. Raises `Reject`."""
    wanted = whole_number(step.parameters, "limit-files", 0)
    return min(wanted or MOST_FILES_IN_ONE, MOST_FILES_IN_ONE)


def file_names(value: Any) -> list[str]:
    """Return a list of absolute paths; raises `Reject` for anything else, an empty list included."""
    if not isinstance(value, list):
        raise Reject(f"filelist is not a list of files but {type(value).__name__}")
    if not value:
        raise Reject("filelist is an empty list of files")
    for position, name in enumerate(value, start=1):
        if not isinstance(name, str) or not name.startswith("/"):
            raise Reject(f"entry {position} of filelist is not an absolute path: {one_line(repr(name), 200)}")
    return value


def data_file(name: str) -> icat.DataFile:
    """Look at one file. Raises `OSError` when it is not there, `ValueError` when the archive cannot take it."""
    if not icat.speakable(name):
        raise ValueError("its name holds characters that XML cannot express")
    status = os.stat(name)  # noqa: PTH116  (a Path per file doubles the cost)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > LARGEST_FILE:
        raise ValueError(f"it has {status.st_size} bytes; the archive takes at most {LARGEST_FILE}")
    if abs(status.st_mtime) > LATEST:
        raise ValueError("its time of modification is thousands of years away")
    return icat.DataFile(name, status.st_size, status.st_mtime)


def drop_path(parameters: Mapping[str, Any], origin: Origin, part: int) -> Path | None:
    """Return where the drop file is to be written, None when none is wanted.

    ``dropfile`` is a path, or ``dropfile-dir`` and ``dropfile-filename`` together are; ``{visit_id}``,
    ``{beamline}``, ``{timestamp}`` and ``{multipart}`` in them are filled in. Raises `Reject` for a path that is
    not absolute or climbs out of its directory.
    """
    template = parameters.get("dropfile")
    if template == "{dropfile_override}":
        template = None
    directory, name = parameters.get("dropfile-dir"), parameters.get("dropfile-filename")
    if not template and directory and name:
        template = f"{directory}/{name}"
    if not template:
        return None
    values = {
        "visit_id": origin.visit,
        "beamline": origin.beamline,
        "timestamp": datetime.now().strftime("%Y%m%d-%H%M%S"),
        "multipart": f"-{part}" if part else "",
    }
    try:
        text = icat.filled(str(template), values)
    except ValueError as error:
        raise Reject(f"drop file name {one_line(str(template), 200)}: {error}") from None
    if not text.startswith("/") or ".." in text.split("/") or text.endswith("/") or not text.isprintable():
        raise Reject(f"drop file name {one_line(text, 200)} is not an absolute path to a file in its directory")
    return Path(text)


def queue_name(value: Any) -> str:
    """Return the name of a queue; raises `Reject` for what cannot be one."""
    if not isinstance(value, str) or not value.isprintable() or any(character in value for character in " ,>*/"):
        raise Reject(f"parameter dropfile-queue is not the name of a queue: {one_line(repr(value), 80)}")
    return value


def listed(names: list[str], most: int = 20) -> str:
    """Return file names for a log line, the number of those left out at the end."""
    shown = ", ".join(one_line(name, 300) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _name(value: Any, what: str, location: str) -> str:
    if not isinstance(value, str) or not value:
        raise Reject(f"the {what} is not given and cannot be read from {one_line(location, 200)}")
    if not _NAME.fullmatch(value):
        raise Reject(f"parameter {what} is not a name: {one_line(repr(value), 80)}")
    return value
