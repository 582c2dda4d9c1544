"""What the generic wrapper is asked to do: the ``job_parameters`` of a node, read and checked.

Every error names the node and the key. Texts may hold ``{name}``: it is replaced by what the job parameters, then the
message, hold under that name. A value put into a command stays one word, whatever spaces or quotes are in it; a command
that is ``{name}`` alone becomes as many words as the list it stands for. ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoctools.errors import RecipeError
from zoctools.recipe.step import Step
from zoctools.settings import Settings
from zoctools.text import one_line

LOG_SUFFIXES = (".log", ".txt", ".out", ".err")
LONGEST = 3.2e7
"""Seconds, about a year: a longer timeout is a mistake."""

_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_ALONE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Success:
    """When a run counts as a success: all of it must hold.

    ``exit_codes`` (0), ``required_files`` and ``forbidden_files`` in the working directory, ``required_texts`` and
    ``forbidden_texts`` anywhere in the output.
    """

    exit_codes: tuple[int, ...] = (0,)
    required_files: tuple[str, ...] = ()
    forbidden_files: tuple[str, ...] = ()
    required_texts: tuple[str, ...] = ()
    forbidden_texts: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts to look for in the output."""
        return self.required_texts + self.forbidden_texts


@dataclass(frozen=True, slots=True)
class FilePattern:
    """Which files of the working directory are results: ``pattern`` as a shell's, ``**`` for any directories.

    ``file_type`` is ``log`` for names that look like logs and else ``result`` when it is not given.
    """

    pattern: str
    file_type: str = ""
    importance_rank: int | None = None

    def type_of(self, path: Path) -> str:
        """Return the type under which a file is recorded."""
        return self.file_type or ("log" if path.suffix.lower() in LOG_SUFFIXES else "result")


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run.

    ``command`` is a list of words, or text that is split into words as a shell would but without any shell; with
    ``"shell": true`` the text goes to ``/bin/sh``, values in it as shell variables, which no value can break out of.
    ``working_directory`` is created; without it the program runs where we do. ``environment`` adds variables, null
    removes one. ``timeout`` is in seconds. ``stdout`` and ``stderr`` name files in the working directory, by default
    NAME.out and NAME.err after the program or ``program_name``; the same name twice puts both into one file.
    ``files`` are recorded, and copied to ``results_directory`` when there is one.
    """

    words: tuple[str, ...]
    name: str
    directory: Path
    environment: Mapping[str, str]
    timeout: float | None
    success: Success
    outputs: tuple[Path, ...]
    files: tuple[FilePattern, ...]
    results_directory: Path | None

    @classmethod
    def of(cls, step: Step, settings: Settings | None = None, environ: Mapping[str, str] = os.environ) -> Job:
        """Read the job of a step; raises `RecipeError` naming node and key."""
        return _Reader(step, settings, environ).job()


class _Reader:
    """Reads one node's job parameters."""

    def __init__(self, step: Step, settings: Settings | None, environ: Mapping[str, str]) -> None:
        found = step.node.get("job_parameters")
        self._given: Mapping[str, Any] = found if isinstance(found, dict) else {}
        self._node = step.pointer
        self._settings = settings
        self._environ = environ
        message = step.payload if isinstance(step.payload, dict) else {}
        self._values = {"recipe_ID": step.recipe_ID, **message, **self._given}

    def job(self) -> Job:
        words = self._command()
        name = self._text("program_name") or ("command" if self._given.get("shell") else Path(words[0]).name)
        if "/" in name or name in ("", ".", ".."):
            raise self._fault("program_name", f"is not a name: {one_line(name, 80)}")
        directory = self._directory("working_directory") or Path.cwd()
        return Job(
            words=words,
            name=name,
            directory=directory,
            environment=self._variables(),
            timeout=self._timeout(),
            success=self._success(),
            outputs=self._outputs(directory, name),
            files=self._files(),
            results_directory=self._directory("results_directory"),
        )

    def _command(self) -> tuple[str, ...]:
        command, shell = self._given.get("command"), self._given.get("shell", False)
        if not isinstance(shell, bool):
            raise self._fault("shell", "must be true or false")
        if shell:
            if not isinstance(command, str) or not command.strip():
                raise self._fault("command", "must be text for a shell")
            return "/bin/sh", "-c", self._sound("command", self._script(command))
        if isinstance(command, str):
            try:
                pieces: Sequence[Any] = shlex.split(command)
            except ValueError as error:
                raise self._fault("command", f"cannot be split into words: {error}") from None
        elif isinstance(command, list):
            pieces = command
        else:
            raise self._fault("command", "must be a list of words or text")
        words = [word for piece in pieces for word in self._words(piece)]
        if not words or not words[0]:
            raise self._fault("command", "names no program")
        return tuple(self._sound("command", word) for word in words)

    def _script(self, command: str) -> str:
        """Return the text for a shell, the values set as variables ahead of it.

        Wherever the author wrote ``{name}``, in quotes or a here-document too, the shell sees a variable there, and
        never reads what the value holds.
        """
        values: list[str] = []

        def variable(value: str) -> str:
            values.append(value)
            return f'"$zoc_{len(values)}"'

        script = self._filled("command", command, variable)
        return "".join(f"zoc_{number}={shlex.quote(value)}; " for number, value in enumerate(values, 1)) + script

    def _words(self, piece: Any) -> list[str]:
        if isinstance(piece, (int, float)) and not isinstance(piece, bool):
            return [str(piece)]
        if not isinstance(piece, str):
            raise self._fault("command", f"has a word that is neither text nor a number: {one_line(repr(piece), 80)}")
        alone = _ALONE.fullmatch(piece)
        if alone and isinstance(values := self._values.get(alone[1]), list):
            return [self._plain("command", alone[1], value) for value in values]
        return [self._filled("command", piece)]

    def _filled(self, key: str, text: str, quoted: Callable[[str], str] = str) -> str:
        """Return `text` with the values of its fields in it; what is no field, such as ``{print $1}``, stays."""

        def value(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            if match[1] not in self._values:
                raise self._fault(key, f"{match[0]} is neither a job parameter nor in the message")
            return quoted(self._plain(key, match[1], self._values[match[1]]))

        return _FIELD.sub(value, text)

    def _plain(self, key: str, name: str, value: Any) -> str:
        if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return str(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        raise self._fault(key, f"{{{name}}} is neither text nor a number")

    def _text(self, key: str) -> str:
        value = self._given.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._fault(key, "must be text")
        return self._sound(key, self._filled(key, value))

    def _directory(self, key: str) -> Path | None:
        text = self._text(key)
        if not text:
            return None
        if not text.startswith("/") or ".." in text.split("/"):
            raise self._fault(key, f"must be an absolute path: {one_line(text, 200)}")
        directory = Path(text)
        if self._settings is not None and not self._settings.may_write(directory):
            raise self._fault(key, f"is outside the directories this site allows: {one_line(text, 200)}")
        return directory

    def _variables(self) -> dict[str, str]:
        found = dict(self._environ)
        for name, value in self._object("environment").items():
            if not _VARIABLE.fullmatch(name):
                raise self._fault("environment", f"{one_line(name, 80)!r} cannot be the name of a variable")
            found.pop(name, None)
            if value is not None:
                text = (
                    self._filled("environment", value)
                    if isinstance(value, str)
                    else self._plain("environment", name, value)
                )
                found[name] = self._sound("environment", text)
        return found

    def _timeout(self) -> float | None:
        value = self._given.get("timeout")
        if value is None:
            return None
        try:
            seconds = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            seconds = math.nan
        if not 0 < seconds <= LONGEST:
            raise self._fault("timeout", f"must be a number of seconds: {one_line(repr(value), 80)}")
        return seconds

    def _success(self) -> Success:
        given = self._object("success")
        allowed = Success.__slots__
        for key in given:
            if key not in allowed:
                raise self._fault(f"success.{one_line(key, 40)}", f"is not one of {', '.join(allowed)}")
        codes = given.get("exit_codes", [0])
        codes = codes if isinstance(codes, list) else [codes]
        if not codes or not all(isinstance(code, int) and not isinstance(code, bool) for code in codes):
            raise self._fault("success.exit_codes", "must be a list of whole numbers")
        texts = {key: self._texts(f"success.{key}", given.get(key, [])) for key in allowed if key != "exit_codes"}
        for key in ("required_files", "forbidden_files"):
            texts[key] = tuple(self._inside(f"success.{key}", name) for name in texts[key])
        return Success(tuple(codes), **texts)

    def _outputs(self, directory: Path, name: str) -> tuple[Path, ...]:
        names = (self._text("stdout") or f"{name}.out", self._text("stderr") or f"{name}.err")
        paths = [directory / self._inside(key, text) for key, text in zip(("stdout", "stderr"), names, strict=True)]
        return tuple(dict.fromkeys(paths))

    def _files(self) -> tuple[FilePattern, ...]:
        given = self._given.get("files", [])
        if not isinstance(given, list):
            raise self._fault("files", "must be a list")
        return tuple(self._file(f"files[{position}]", entry) for position, entry in enumerate(given))

    def _file(self, key: str, entry: Any) -> FilePattern:
        entry = {"pattern": entry} if isinstance(entry, str) else entry
        if not isinstance(entry, dict) or not isinstance(entry.get("pattern"), str) or not entry["pattern"]:
            raise self._fault(key, "must be a pattern, or an object with one")
        unknown = set(entry) - {"pattern", "file_type", "importance_rank"}
        if unknown:
            raise self._fault(
                f"{key}.{one_line(min(unknown), 40)}", "is not one of pattern, file_type, importance_rank"
            )
        kind, rank = entry.get("file_type", ""), entry.get("importance_rank")
        if not isinstance(kind, str):
            raise self._fault(f"{key}.file_type", "must be text")
        if rank is not None and (not isinstance(rank, int) or isinstance(rank, bool)):
            raise self._fault(f"{key}.importance_rank", "must be a whole number")
        return FilePattern(self._inside(key, self._filled(key, entry["pattern"])), kind, rank)

    def _object(self, key: str) -> Mapping[str, Any]:
        value = self._given.get(key, {})
        if not isinstance(value, dict):
            raise self._fault(key, "must be an object")
        return value

    def _texts(self, key: str, value: Any) -> tuple[str, ...]:
        entries = [value] if isinstance(value, str) else value
        if not isinstance(entries, list) or not all(isinstance(entry, str) and entry for entry in entries):
            raise self._fault(key, "must be a list of texts")
        return tuple(self._sound(key, self._filled(key, entry)) for entry in entries)

    def _inside(self, key: str, name: str) -> str:
        """Return a path within the working directory as it is."""
        if name.startswith("/") or ".." in name.split("/") or not self._sound(key, name):
            raise self._fault(key, f"must lie within the working directory: {one_line(name, 200)}")
        return name

    def _sound(self, key: str, text: str) -> str:
        """Return text that the operating system can take."""
        try:
            encoded = os.fsencode(text)
        except UnicodeEncodeError:
            encoded = b"\0"
        if b"\0" in encoded:
            raise self._fault(key, "holds a character that no program can be given")
        return text

    def _fault(self, key: str, why: str) -> RecipeError:
        return RecipeError(f"node {self._node}: job_parameters.{key} {why}")
