"""STOMP 1.0, 1.1 and 1.2 on the wire: frames to bytes, bytes to frames. Pure: no sockets, no clocks.

A frame is a command, headers and a body: ``COMMAND\\nname:value\\n...\\n\\nBODY\\0``. From STOMP 1.1 on, backslash,
colon and newline in headers are escaped (1.2: carriage return too), except in CONNECT and CONNECTED. Between frames
stand newlines, which are heart-beats. Source: the STOMP specifications 1.0 to 1.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from zoctools.text import one_line

VERSIONS = ("1.0", "1.1", "1.2")
HEARTBEAT = b"\n"
_PLAIN_COMMANDS = frozenset(("CONNECT", "CONNECTED"))
_EOL = b"\r\n"


class FrameError(ValueError):
    """Bytes that are not STOMP, or more of them than we are willing to take. The connection cannot go on."""


class Frame(NamedTuple):
    """One frame. Of a header that is repeated, `headers` holds the first, as the specification says."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a peer may make us hold: headers in a frame, bytes of a line, of all lines together, of a body."""

    headers: int = 1000
    line: int = 65_536
    head: int = 1_048_576
    body: int = 104_857_600


# --- encoding ---------------------------------------------------------------------------------------------------------


def escape(text: str, version: str = "1.2") -> str:
    """Return a header name or value as it is written in a frame of this STOMP version."""
    if version == "1.0":
        return text
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text:
        text = text.replace("\n", "\\n")
    if ":" in text:
        text = text.replace(":", "\\c")
    if "\r" in text and version != "1.1":
        text = text.replace("\r", "\\r")
    return text


def header_lines(headers: Iterable[tuple[str, str]], version: str = "1.2") -> str:
    """Return headers as the lines of a frame, each with its newline."""
    return "".join([f"{escape(name, version)}:{escape(value, version)}\n" for name, value in headers])


def encode(command: str, headers: Mapping[str, str], body: bytes = b"", version: str = "1.2") -> bytes:
    """Return the bytes of a frame. ``content-length`` is added when there is a body and it is not among the headers."""
    lines = header_lines(headers.items(), "1.0" if command in _PLAIN_COMMANDS else version)
    return assemble(f"{command}\n{lines}", body, "content-length" not in headers and bool(body))


def assemble(head: str, body: bytes, with_length: bool = True) -> bytes:
    """Return a frame made of a ready head (command and header lines, each with its newline) and a body.

    The fast path: whoever sends many frames alike builds the constant part of `head` once.
    """
    length = f"content-length:{len(body)}\n\n" if with_length else "\n"
    return b"".join(((head + length).encode("utf-8", "surrogatepass"), body, b"\0\n"))


# --- decoding ---------------------------------------------------------------------------------------------------------


def unescape(text: str, version: str = "1.2") -> str:
    """Return an escaped header name or value as it was; raises `FrameError` for an escape STOMP does not know."""
    if "\\\\" not in text and "\\" not in (plain := text.replace("\\c", ":")):
        return plain
    pieces = text.split("\\\\")
    for index, piece in enumerate(pieces):
        if "\\" in piece:
            plain = piece.replace("\\n", "\n").replace("\\c", ":")
            if version != "1.1":
                plain = plain.replace("\\r", "\r")
            if "\\" in plain:
                raise FrameError(f"unknown escape in header {one_line(text, 60)!r}")
            pieces[index] = plain
    return "\\".join(pieces)


class FrameReader:
    """Turns bytes, cut anywhere, into frames.

    `version` is the one agreed on and may be set at any time between frames; while it is "1.0" nothing is unescaped.
    After a `FrameError` the reader is of no further use.
    """

    def __init__(self, version: str = "1.2", limits: Limits | None = None) -> None:
        self.version = version
        self.limits = limits or Limits()
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        self._head: tuple[str, dict[str, str], int] | None = None

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete yet."""
        return self._size

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they arrived; return the frames they completed. Raises `FrameError`."""
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if not self._may_be_complete(data):
                return []
            data = b"".join(self._parts)
        frames: list[Frame] = []
        position = self._read(data, frames)
        rest = data[position:]
        self._parts = [rest] if rest else []
        self._size = len(rest)
        return frames

    def _may_be_complete(self, newest: bytes) -> bool:
        """Whether it is worth looking again: large frames would else be searched once for every piece of them."""
        if self._needed:
            return self._size >= self._needed
        if self._head is None:
            return b"\0" in newest or self._size > self.limits.head
        return b"\0" in newest or self._size > self._head[2] + self.limits.body

    def _read(self, data: bytes, frames: list[Frame]) -> int:
        """Append every complete frame in `data`; return where the first incomplete one begins."""
        position, end = 0, len(data)
        while True:
            if self._head is None:
                while position < end and data[position] in _EOL:
                    position += 1
                if position == end:
                    return position
                self._head = self._read_head(data, position)
                if self._head is None:
                    return position
            command, headers, body_at = self._head
            body_end = self._find_body_end(data, position, body_at, headers)
            if body_end is None:
                return position
            frames.append(Frame(command, headers, data[position + body_at : body_end]))
            position = body_end + 1
            self._head = None
            self._needed = 0

    def _find_body_end(self, data: bytes, start: int, body_at: int, headers: dict[str, str]) -> int | None:
        """Return where the NUL behind the body stands, or None while it has not arrived."""
        declared = headers.get("content-length")
        begin = start + body_at
        if declared is None:
            end = data.find(0, begin)
            length = (len(data) if end < 0 else end) - begin
            if length > self.limits.body:
                raise FrameError(f"a body of more than {self.limits.body} bytes")
            return None if end < 0 else end
        length = self._length(declared)
        end = begin + length
        if end >= len(data):
            self._needed = body_at + length + 1
            return None
        if data[end] != 0:
            raise FrameError(f"the body is longer than its content-length of {length}")
        return end

    def _length(self, declared: str) -> int:
        text = declared.strip()
        if not (text.isascii() and text.isdecimal()) or len(text) > 18:
            raise FrameError(f"content-length is {one_line(declared, 40)!r}")
        if int(text) > self.limits.body:
            raise FrameError(f"a body of {int(text)} bytes; at most {self.limits.body} are taken")
        return int(text)

    def _read_head(self, data: bytes, start: int) -> tuple[str, dict[str, str], int] | None:
        """Return command, headers and where the body begins after `start`, or None while the blank line is missing."""
        unix = data.find(b"\n\n", start)
        dos = data.find(b"\n\r\n", start, len(data) if unix < 0 else unix + 1)
        end, body_at = (unix, unix + 2) if dos < 0 else (dos, dos + 3)
        head = data[start:end] if end >= 0 else data[start : start + self.limits.head + 1]
        if b"\0" in head:
            start_of_it = head.split(b"\0", 1)[0][:60].decode("utf-8", "replace")
            raise FrameError(f"not a STOMP frame: {one_line(start_of_it, 60)!r}")
        if len(head) > self.limits.head:
            raise FrameError(f"headers of more than {self.limits.head} bytes")
        if end < 0:
            return None
        command, headers = self._parse(head)
        return command, headers, body_at - start

    def _parse(self, head: bytes) -> tuple[str, dict[str, str]]:
        text = head.decode("utf-8", "replace")
        lines = text.split("\n")
        if len(lines) > self.limits.headers + 1:
            raise FrameError(f"more than {self.limits.headers} headers")
        if len(head) > self.limits.line and max(map(len, head.split(b"\n"))) > self.limits.line:
            raise FrameError(f"a header line of more than {self.limits.line} bytes")
        if "\r" in text:
            lines = [line.removesuffix("\r") for line in lines]
        command = lines.pop(0)
        if not (command.isascii() and command.isalpha()):
            raise FrameError(f"not a STOMP command: {one_line(command, 60)!r}")
        pairs = [line.split(":", 1) for line in lines]
        if "\\" in text and self.version != "1.0" and command not in _PLAIN_COMMANDS:
            for index, line in enumerate(lines):
                if "\\" in line:
                    pairs[index] = [unescape(part, self.version) for part in pairs[index]]
        try:
            headers = dict(pairs)
        except ValueError:
            bad = next(pair[0] for pair in pairs if len(pair) < 2)
            raise FrameError(f"a header line without a colon: {one_line(bad, 60)!r}") from None
        return command, headers if len(headers) == len(pairs) else dict(reversed(pairs))
