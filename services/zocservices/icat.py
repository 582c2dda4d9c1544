"""The XML by which an archive learns of new files (ICAT, version 1.0 RC6), and the drop file that carries it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from xml.sax.saxutils import escape

HEAD = """<?xml version="1.0" ?>
<icat version="1.0 RC6" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:noNamespaceSchemaLocation="icatXSD.xsd">
  <study>
    <investigation>
      <!--Produced by zoctools-->
      <inv_number>{inv_number}</inv_number>
      <visit_id>{visit_id}</visit_id>
      <instrument>{instrument}</instrument>
      <title>dont need it</title>
      <inv_type>experiment</inv_type>
      <dataset>
        <name>{dataset}</name>
        <dataset_type>raw</dataset_type>
        <description>unknown</description>
"""
DATAFILE = """\
        <datafile>
          <name>{name}</name>
          <location>{location}</location>
          <description>unknown</description>
          <datafile_version>1.0</datafile_version>
          <datafile_create_time>{time}</datafile_create_time>
          <datafile_modify_time>{time}</datafile_modify_time>
          <file_size>{size}</file_size>
        </datafile>
"""
TAIL = """\
      </dataset>
    </investigation>
  </study>
</icat>
"""

_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One file to be archived: absolute path, bytes, and when it was last modified (epoch seconds)."""

    location: str
    size: int
    modified: float


def speakable(text: str) -> bool:
    """Whether XML 1.0 can hold `text` at all: it cannot hold most control characters, nor halves of surrogates."""
    return _UNSPEAKABLE.search(text) is None


def xml(visit: str, beamline: str, dataset: str, files: Sequence[DataFile]) -> bytes:
    """Return the XML that announces `files`, in ASCII; raises `ValueError` for names that XML cannot hold."""
    visit_id = visit.upper()
    parts = [
        HEAD.format(
            inv_number=_escaped(visit_id.partition("-")[0]),
            visit_id=_escaped(visit_id),
            instrument=_escaped(beamline),
            dataset=_escaped(dataset),
        )
    ]
    parts.extend(
        DATAFILE.format(
            name=_escaped(file.location.rpartition("/")[2]),
            location=_escaped(file.location),
            time=datetime.fromtimestamp(file.modified).strftime("%Y-%m-%dT%H:%M:%S"),
            size=file.size,
        )
        for file in files
    )
    parts.append(TAIL)
    return "".join(parts).encode("ascii", "xmlcharrefreplace")


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return `template` with each ``{name}`` replaced from `values`; ``{{`` and ``}}`` stand for braces.

    Nothing else has a meaning between braces: raises `ValueError` for it, and for a name that is not in `values`.
    """

    def value(match: re.Match[str]) -> str:
        text = match[0]
        if text in ("{{", "}}"):
            return text[0]
        if match[1] is None:
            raise ValueError(f"a lone {text}")
        if match[1] not in values:
            raise ValueError(f"{text} is none of {', '.join(f'{{{name}}}' for name in values)}")
        return values[match[1]]

    return _FIELD.sub(value, template)


def write_drop_file(path: Path, content: bytes) -> Path:
    """Write a drop file that appears whole or not at all, and return its path; raises `OSError`.

    One that waits there under the same name is never overwritten: the new one is then called ``name_2.xml``.
    """
    unfinished = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return _appear(unfinished, path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _appear(unfinished: Path, path: Path) -> Path:
    for attempt in range(1, 1000):
        target = path if attempt == 1 else path.with_name(f"{path.stem}_{attempt}{path.suffix}")
        try:
            _rename_to_free_name(unfinished, target)
        except FileExistsError:
            continue
        _sync_directory(target.parent)
        return target
    raise FileExistsError(errno.EEXIST, "too many drop files of this name are waiting", str(path))


def _rename_to_free_name(source: Path, target: Path) -> None:
    """Give a file its name unless the name is taken; a hard link does that in one step where links are possible."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from None
        source.rename(target)


def _sync_directory(directory: Path) -> None:
    """Make a new name survive a power cut; some network file systems cannot be asked to."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _escaped(text: str) -> str:
    if not speakable(text):
        raise ValueError(f"XML cannot hold the name {text!a}")
    return escape(text, {"\r": "&#13;", "\n": "&#10;", "\t": "&#9;"})
