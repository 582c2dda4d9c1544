"""Requests to start recipes, and the files they are saved in while the broker is away.

A drop file is ``<directory>/<uuid4>`` holding ``{"headers": {…}, "message": {…}}``; the programs of the existing
world write and read the same. Ours appear whole or not at all, and one is never sent by two processes at once.
"""

from __future__ import annotations

import errno
import fcntl
import getpass
import json
import os
import re
import socket
import stat
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoctools import headers, text
from zoctools.errors import BadFile, ConfigError, SendRefused, Unsendable, UsageError
from zoctools.recipe import envelope
from zoctools.transport.contract import Outgoing, Transport

QUEUE = "processing_recipe"
"""The queue of the Dispatcher."""
MAX_FILE = 16_000_000
"""Bytes of a drop file we are willing to send."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_RECIPE_ID = re.compile(r"[A-Za-z0-9-]{3,64}")


class Skipped(Exception):
    """A file that is left where it is; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message to the Dispatcher, with its headers."""

    headers: Mapping[str, str]
    message: Mapping[str, Any]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the recipes are filled in with."""
        parameters = self.message.get("parameters")
        return parameters if isinstance(parameters, Mapping) else {}

    @property
    def recipe_id(self) -> str:
        """The recipe ID the Dispatcher will give it, when the request names one."""
        guid = self.parameters.get("guid")
        return guid if isinstance(guid, str) else ""

    @property
    def recipes(self) -> tuple[str, ...]:
        """The names of the recipes asked for."""
        names = self.message.get("recipes")
        return tuple(str(name) for name in names) if isinstance(names, list) else ()

    def outgoing(self, transport: Transport) -> Outgoing:
        """Return it as a message to the Dispatcher's queue, stamped with the time of sending."""
        stamped = {**self.headers, headers.SENT_AT: f"{time.time():.3f}"}
        return Outgoing(transport.queue(QUEUE), envelope.encode(dict(self.message)), stamped)


def new_request(
    recipes: tuple[str, ...], parameters: Mapping[str, Any], custom_recipe: Mapping[str, Any] | None = None
) -> Request:
    """Return a request in the name of whoever runs this program, with a recipe ID of its own unless it has one.

    Raises `UsageError` for a name that cannot be a recipe's and for a ``guid`` that cannot be a recipe ID.
    """
    for name in recipes:
        if not _NAME.fullmatch(name):
            raise UsageError(f"not the name of a recipe: {name[:130]!r}", "names are letters, digits, '.', '_' and '-'")
    guid = parameters.get("guid") or str(uuid.uuid4())
    if not _RECIPE_ID.fullmatch(guid):
        raise UsageError(f"not a recipe ID: {guid[:70]!r}", "a recipe ID is letters, digits and '-', at least three")
    message: dict[str, Any] = {"recipes": list(recipes), "parameters": {**parameters, "guid": guid}}
    if custom_recipe is not None:
        message["custom_recipe"] = dict(custom_recipe)
    who = {"zocalo.go.user": _user(), "zocalo.go.host": socket.gethostname()}
    return Request({name: text.one_line(value, 255) for name, value in who.items()}, message)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def save(request: Request, directory: Path) -> Path:
    """Save a request as a new drop file and return its path, once it is on the disk.

    Readers of the directory see no half-written file. Raises `BadFile` when it cannot be saved.
    """
    content = json.dumps({"headers": dict(request.headers), "message": dict(request.message)}, indent=2) + "\n"
    path = directory / str(uuid.uuid4())
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _write_new(place, path.name, content.encode("ascii"))
            os.fsync(place)
        finally:
            os.close(place)
    except OSError as error:
        raise BadFile(f"{directory}: the request cannot be saved: {error.strerror}") from error
    return path


def _write_new(place: int, name: str, content: bytes) -> None:
    """Write a file that has no name before it is complete; where the file system cannot, one with a dotted name."""
    hidden = ""
    try:
        file = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=place)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            raise
        hidden = f".{name}.tmp"
        file = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=place)
    try:
        with os.fdopen(file, "wb", closefd=False) as stream:
            stream.write(content)
        os.fsync(file)
        if hidden:
            os.rename(hidden, name, src_dir_fd=place, dst_dir_fd=place)
        else:
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=place, follow_symlinks=True)
    except BaseException:
        if hidden:
            with suppress(OSError):
                os.unlink(hidden, dir_fd=place)
        raise
    finally:
        os.close(file)


def waiting(directory: Path) -> list[Path]:
    """Return the entries of a drop directory, oldest first; hidden names are files still being written.

    Raises `ConfigError` for a directory that cannot be read.
    """
    found = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with suppress(FileNotFoundError):
                        found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    except OSError as error:
        raise ConfigError(
            f"{directory}: the directory of saved requests cannot be read: {error.strerror}",
            "it is set by zocalo.go.fallback_location in the 'storage' plug-in",
        ) from error
    return [directory / name for _, name in sorted(found)]


@contextmanager
def claimed(path: Path) -> Iterator[Request]:
    """Hold a drop file for ourselves and give the request in it; another process that wants it is told no.

    The claim is a lock on the file: it ends with this process, however that ends. Raises `Skipped`.
    """
    file = _open(path)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise Skipped("another pickup is sending it") from None
            raise Skipped(f"cannot be locked: {error.strerror}") from error
        if not _still_there(path, file):
            raise Skipped("it was sent or removed meanwhile")
        yield _read(file)
    finally:
        os.close(file)


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        kind = path.lstat().st_mode
        if stat.S_ISLNK(kind):
            raise Skipped("it is a symbolic link")
        if not stat.S_ISREG(kind):
            raise Skipped("it is a directory" if stat.S_ISDIR(kind) else "it is not a regular file")
        try:
            return os.open(path, os.O_RDWR | flags)  # locks of NFS want a file open for writing
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        raise Skipped("it was sent or removed meanwhile") from None
    except OSError as error:
        raise Skipped(f"cannot be opened: {error.strerror}") from error


def _still_there(path: Path, file: int) -> bool:
    try:
        named = path.lstat()
    except OSError:
        return False
    held = os.fstat(file)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _read(file: int) -> Request:
    size = os.fstat(file).st_size
    if size > MAX_FILE:
        raise Skipped(f"it is larger than {MAX_FILE // 1_000_000} MB")
    try:
        with os.fdopen(file, "rb", closefd=False) as stream:
            content = stream.read(MAX_FILE)
        held = envelope.decode(content)
    except envelope.BadMessage as error:
        raise Skipped(f"{error.reason}: {error.why}") from None
    except OSError as error:
        raise Skipped(f"cannot be read: {error.strerror}") from error
    if not isinstance(held, dict) or not isinstance(held.get("message"), dict):
        raise Skipped("it is not a saved request: an object with 'headers' and 'message'")
    given = held.get("headers", {})
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise Skipped("its 'headers' are not an object of texts")
    return Request({name: value for name, value in given.items() if headers.life(name) in _TRAVELS}, held["message"])


_TRAVELS = (headers.Life.MESSAGE, headers.Life.QUEUE)


def resend(path: Path, transport: Transport) -> Request:
    """Send a drop file and delete it once the broker has it.

    Raises `Skipped` for a file that is left alone, what `Transport.send` raises, and `BadFile` when the file was
    sent and cannot be deleted.
    """
    with claimed(path) as request:
        try:
            transport.send(request.outgoing(transport))
        except Unsendable as error:
            raise Skipped(f"cannot be sent: {error.message}") from error
        except SendRefused as error:
            raise Skipped(f"the broker refuses it: {error.message}") from error
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise BadFile(f"{path}: was sent, but cannot be deleted: {error.strerror}", "delete it by hand") from error
        return request
