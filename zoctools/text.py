"""Makes foreign text safe to show: no control bytes reach a terminal, no line grows without end."""

from __future__ import annotations

_PICTURES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}
_BIDI = {code: f"\\u{code:04x}" for code in (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
_SEPARATORS = {code: f"\\u{code:04x}" for code in (0x2028, 0x2029)}
_SURROGATES = {code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)}
_VISIBLE = _PICTURES | _BIDI | _SEPARATORS | _SURROGATES
_ONE_LINE = _VISIBLE | {ord("\n"): "\\n", ord("\t"): " "}


def clean(text: object) -> str:
    """Return `text` with control, bidirectional and unencodable characters made visible; keeps newline and tab."""
    return str(text).translate(_VISIBLE)


def one_line(text: object, width: int = 0) -> str:
    """Return `text` cleaned onto one line, cut to `width` characters with an ellipsis when `width` is given."""
    line = (str(text)[: 4 * width] if width else str(text)).translate(_ONE_LINE)
    if width and len(line) > width:
        return line[: max(width - 1, 0)] + "…"
    return line


def from_bytes(body: bytes, limit: int = 0) -> str:
    """Return `body` as cleaned text, bytes that are not UTF-8 as ``\\xNN``; at most `limit` bytes are looked at."""
    return clean((body[:limit] if limit else body).decode("utf-8", "backslashreplace"))


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun: ``1 message``, ``2 messages``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}".replace(",", " ")


def duration(seconds: float) -> str:
    """Return a span of time as people say it: ``0.4 s``, ``12 s``, ``2 m 40 s``, ``3 h 05 m``, ``2 d 4 h``."""
    if seconds < 0:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
