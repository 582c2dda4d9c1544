"""What the author of a wrapper subclasses: a program that runs as one task of a recipe, for minutes or hours.

    from zoctools import Wrapper

    class Count(Wrapper):
        def run(self) -> bool:
            directory = Path(self.parameters["directory"])
            self.update("counting")
            self.record_file(write_report(directory), "log")
            return True

`run` says whether the task succeeded. The recipe hears of it on the outputs of the task's node: ``starting``,
``updates``, ``result-individual-file``, ``result-all-files``, then ``success`` or ``failure``, and ``completed`` last,
whatever happened. Every message is sent at once, and again for half an hour when the broker is away.

A stop (SIGTERM, Ctrl-C, `zoc shutdown`) raises `Stopped` in `run`; what must not be interrupted belongs in a
``with self.undisturbed():`` block.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zoctools.errors import UsageError
from zoctools.text import one_line

if TYPE_CHECKING:
    from zoctools.recipe.step import Step
    from zoctools.settings import Settings

GROUP = "zoctools.wrappers"


class Failed(Exception):
    """The task failed for a reason known and foreseen; the text goes to the recipe's ``failure`` output."""


class Stopped(KeyboardInterrupt):
    """Somebody stopped the task; the text says who or what."""


class Surroundings(Protocol):
    """What runs a wrapper, and does what the wrapper asks for."""

    def rename(self, text: str) -> None:
        """Show another task name in the status."""

    def undisturbed(self) -> AbstractContextManager[object]:
        """A block that a stop does not interrupt."""

    @property
    def in_a_hurry(self) -> bool:
        """Whether the stop was asked for twice: leave at once."""


class Alone:
    """Surroundings of a wrapper that nobody runs, as in a test."""

    in_a_hurry = False

    def rename(self, text: str) -> None:
        """Show nothing anywhere."""

    def undisturbed(self) -> AbstractContextManager[object]:
        """Nobody disturbs."""
        return nullcontext()


class Wrapper:
    """One task of a recipe; subclass it and write `run`."""

    exit_code: int | None = None
    """What the wrapped program exited with, once it has; ``zoc wrap --pass-status`` exits with it, too."""

    def __init__(self, step: Step, settings: Settings | None = None, surroundings: Surroundings | None = None) -> None:
        """Made by whatever runs the wrapper; `step` stands at the task's node."""
        self.step = step
        self.settings = settings
        self.log = logging.getLogger(type(self).__module__)
        self._surroundings: Surroundings = surroundings or Alone()

    # What an author writes

    def run(self) -> bool:
        """Do the task and return whether it succeeded; `Failed` and any other exception mean that it did not."""
        raise NotImplementedError(f"{type(self).__name__} has no run method")

    # What an author is offered

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The ``job_parameters`` of the node; empty where it has none."""
        found = self.step.node.get("job_parameters")
        return found if isinstance(found, dict) else {}

    @property
    def payload(self) -> Any:
        """What the message that started the task carried."""
        return self.step.payload

    @property
    def in_a_hurry(self) -> bool:
        """Whether the task was told twice to stop."""
        return self._surroundings.in_a_hurry

    def rename(self, text: str) -> None:
        """Show `text` as the name of the task from now on."""
        self._surroundings.rename(text)

    def undisturbed(self) -> AbstractContextManager[object]:
        """Return a context in which a stop waits until it is left."""
        return self._surroundings.undisturbed()

    def send_to(self, output: str, payload: Any) -> int:
        """Send to an output of the task's own; returns the number of messages, 0 where the node has no such output."""
        return self.step.send_to(output, payload)

    def update(self, payload: Any) -> None:
        """Say how far the task is."""
        self.step.send_to("updates", payload)

    def record_file(self, path: Path, file_type: str = "result", importance_rank: int | None = None) -> None:
        """Announce one file of the results; `file_type` is ``result``, ``log``, ``graph`` or what the site uses."""
        record: dict[str, Any] = {"file_path": str(path.parent), "file_name": path.name, "file_type": file_type}
        if importance_rank is not None:
            record["importance_rank"] = importance_rank
        self.step.send_to("result-individual-file", record)

    def record_all_files(self, paths: Iterable[Path]) -> None:
        """Announce all files of the results together."""
        self.step.send_to("result-all-files", {"filelist": [str(path) for path in paths]})

    # What happens around `run`; override to add to it

    def prepare(self, payload: Any = "") -> None:
        """Say that the task begins."""
        self.step.send_to("starting", payload)

    def success(self, payload: Any = "") -> None:
        """Say that the task succeeded."""
        self.step.send_to("success", payload)

    def failure(self, payload: Any = "") -> None:
        """Say that the task failed; the payload is always text."""
        self.step.send_to("failure", str(payload))

    def done(self, payload: Any = "") -> None:
        """Say that the task is over, however it went."""
        self.step.send_to("completed", payload)


@dataclass(frozen=True, slots=True)
class Listed:
    """One installed wrapper as ``zoc wrap --list`` shows it; `problem` says why it cannot be loaded."""

    name: str
    summary: str = ""
    problem: str = ""


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of the group ``zoctools.wrappers`` by name, sorted."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def load(name: str) -> type[Wrapper]:
    """Return the wrapper class of this name; raises `UsageError` with what there is."""
    entries = installed()
    if name not in entries:
        there_are = f"installed are: {', '.join(entries)}" if entries else "no wrappers are installed"
        raise UsageError(f"there is no wrapper '{one_line(name, 60)}'", there_are)
    return _loaded(entries[name])


def listed() -> list[Listed]:
    """Return all installed wrappers; one that cannot be loaded is listed with the reason."""
    found = []
    for entry in installed().values():
        try:
            summary = (_loaded(entry).__doc__ or "").strip().partition("\n")[0]
        except UsageError as error:
            found.append(Listed(entry.name, problem=error.message))
        else:
            found.append(Listed(entry.name, summary))
    return found


def _loaded(entry: EntryPoint) -> type[Wrapper]:
    try:
        wrapper = entry.load()
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(error, 300)}"
        raise UsageError(f"wrapper {entry.name} cannot be loaded from {entry.value}: {what}") from error
    if not (isinstance(wrapper, type) and issubclass(wrapper, Wrapper)):
        raise UsageError(f"wrapper {entry.name}: {entry.value} is not a zoctools wrapper class")
    return wrapper
