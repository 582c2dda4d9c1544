"""Checks of one mini-CBF image file, cheapest first: whatever is wrong with it ends in one sentence.

Nothing is read before its size is known to be sane, so that neither a huge nor a lying file costs memory.
Format: CIF 1.1 with a binary section (IUCr imgCIF), DECTRIS header convention PILATUS 1.2.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zoctools.text import one_line

HEADER_LIMIT = 65_536
"""Bytes within which the pixels must begin."""
STARTER = b"\x0c\x1a\x04\xd5"
"""Stands between the header and the pixels."""
TRAILER_LIMIT = 65_536
"""Bytes that may follow the pixels."""
MOST_PIXELS = 50_000_000
"""More than any detector that writes this format."""
BYTES_PER_PIXEL = 7
"""What the byte-offset compression of 32-bit values needs at worst."""
PADDING = 8
CBF_MARK, HDF5_MARK = b"###CBF", b"\x89HDF\r\n\x1a\n"

# No two repetitions may be able to share the same characters: a header of blanks alone would take hours.
_FIELD = re.compile(r"^(X-Binary-[A-Za-z-]+|Content-MD5):([^\r\n]*)", re.MULTILINE)
_WAVELENGTH = re.compile(r"^# *Wavelength *(?:[:=] *)?([0-9.eE+-]+) *A", re.MULTILINE)


class Broken(Exception):
    """The file is not a good image; the text says why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the header says: the size of the image in pixels, of its compressed form in bytes, where that begins."""

    columns: int
    rows: int
    binary_size: int
    binary_start: int
    checksum: str
    text: str

    @property
    def wavelength(self) -> float:
        """The wavelength in Å; raises `Broken` when the header does not say it, or says nonsense."""
        match = _WAVELENGTH.search(self.text)
        if match is None:
            raise Broken("the header names no wavelength")
        try:
            return float(match[1])
        except ValueError:
            raise Broken(f"the wavelength is not a number: {one_line(match[1], 40)}") from None


def checked_header(path: Path) -> Header:
    """Check one file down to its pixels and return its header; raises `Broken`, or `OSError` while it cannot be read.

    A file that is not there at all is broken, too.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Broken("it is not a regular file")
            header = _header(file, status.st_size)
            _check_pixels(file, header)
    except (FileNotFoundError, NotADirectoryError):
        raise Broken("there is no such file") from None
    except IsADirectoryError:
        raise Broken("it is not a regular file") from None
    except ValueError as error:
        raise Broken(f"its name cannot be used: {error}") from None
    return header


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe without a writer is opened too instead of waiting for one."""
    return os.open(path, flags | os.O_NONBLOCK)


def _header(file: BinaryIO, size: int) -> Header:
    if size == 0:
        raise Broken("it is empty")
    head = file.read(HEADER_LIMIT)
    if not head.startswith(CBF_MARK):
        raise Broken("it is HDF5, not CBF" if head.startswith(HDF5_MARK) else "it is not a CBF file")
    end = head.find(STARTER)
    if end < 0:
        why = (
            "it ends within its header" if size < HEADER_LIMIT else f"no image begins in its first {HEADER_LIMIT} bytes"
        )
        raise Broken(why)
    text = head[:end].decode("latin-1")
    fields = {name: value.strip() for name, value in _FIELD.findall(text)}
    if "x-CBF_BYTE_OFFSET" not in text:
        raise Broken("its compression is not byte offset")
    columns, rows, elements, binary_size = (
        _number(fields, f"X-Binary-{name}")
        for name in ("Size-Fastest-Dimension", "Size-Second-Dimension", "Number-of-Elements", "Size")
    )
    if columns * rows != elements:
        raise Broken(f"header and dimensions disagree: {columns} x {rows} pixels are not {elements}")
    if not 0 < elements <= MOST_PIXELS:
        raise Broken(f"{columns} x {rows} is not the size of an image")
    if not 0 < binary_size <= BYTES_PER_PIXEL * elements:
        raise Broken(f"header and dimensions disagree: {columns} x {rows} pixels are not {binary_size} bytes")
    start = end + len(STARTER)
    if size < start + binary_size:
        raise Broken(f"it is truncated: {size} of at least {start + binary_size} bytes are there")
    if size > start + binary_size + TRAILER_LIMIT:
        raise Broken(f"{size - start - binary_size} bytes follow the image")
    return Header(columns, rows, binary_size, start, fields.get("Content-MD5", ""), text)


def _check_pixels(file: BinaryIO, header: Header) -> None:
    """Check the sum over the pixels, and that there are as many as the header says, no more and no fewer.

    Zero bytes decode to one pixel each: with some put behind, the decoder never runs over the end, and a value
    cut off at the end swallows some of them.
    """
    from fabio.compression import decByteOffset

    file.seek(header.binary_start)
    packed = file.read(header.binary_size)
    if len(packed) < header.binary_size:
        raise Broken("it became shorter while it was read")
    found = base64.b64encode(hashlib.md5(packed, usedforsecurity=False).digest()).decode("ascii")
    if header.checksum not in ("", found):
        raise Broken("the checksum of its pixels is wrong")
    expected = header.columns * header.rows
    pixels = len(decByteOffset(packed + bytes(PADDING), size=expected + PADDING + 1, dtype="int32")) - PADDING
    if pixels != expected:
        many = "more" if pixels > expected else "fewer"
        raise Broken(f"it holds {many} pixels than the {header.columns} x {header.rows} its header says")


def _number(fields: dict[str, str], name: str) -> int:
    value = fields.get(name)
    if value is None:
        raise Broken(f"the header has no {name}")
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise Broken(f"{name} is not a number: {one_line(value, 40)}")
    return int(value)
