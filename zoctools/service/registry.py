"""Which services are installed, and which one a name on the command line means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from zoctools.errors import UsageError
from zoctools.service.service import Service
from zoctools.text import one_line

GROUP = "zoctools.services"


@dataclass(frozen=True, slots=True)
class Listed:
    """One installed service as ``zoc service --list`` shows it; `problem` says why it cannot be loaded."""

    name: str
    queue: str = ""
    summary: str = ""
    problem: str = ""


def installed() -> dict[str, EntryPoint]:
    """Return the entry points of the group ``zoctools.services`` by name, sorted."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def meant(name: str, names: Sequence[str]) -> str:
    """Return which of `names` is meant: exactly, but for case, or as a unique prefix, first with case, then without.

    Raises `UsageError` with what there is.
    """
    for candidates in (
        [known for known in names if known == name],
        [known for known in names if known.lower() == name.lower()],
        [known for known in names if known.startswith(name)],
        [known for known in names if known.lower().startswith(name.lower())],
    ):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise UsageError(f"'{one_line(name, 60)}' may mean {_either(candidates)}", "write more of the name")
    raise UsageError(
        f"there is no service '{one_line(name, 60)}'",
        f"installed are: {', '.join(names)}" if names else "no services are installed",
    )


def load(name: str) -> type[Service]:
    """Return the service class a name means; raises `UsageError`."""
    entries = installed()
    return _loaded(entries[meant(name, list(entries))])


def listed(entries: Iterable[EntryPoint] | None = None) -> list[Listed]:
    """Return all installed services; one that cannot be loaded is listed with the reason."""
    found = []
    for entry in installed().values() if entries is None else entries:
        try:
            service = _loaded(entry)
        except UsageError as error:
            found.append(Listed(entry.name, problem=error.message))
            continue
        summary = (service.__doc__ or "").strip().partition("\n")[0]
        found.append(Listed(entry.name, service.queue or "", summary))
    return found


def _loaded(entry: EntryPoint) -> type[Service]:
    try:
        service = entry.load()
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(error, 300)}"
        raise UsageError(f"service {entry.name} cannot be loaded from {entry.value}: {what}") from error
    if not (isinstance(service, type) and issubclass(service, Service)):
        raise UsageError(f"service {entry.name}: {entry.value} is not a zoctools service class")
    return service


def _either(candidates: Sequence[str]) -> str:
    return f"{', '.join(candidates[:-1])} or {candidates[-1]}"
