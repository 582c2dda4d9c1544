"""Which queues the installed services consume, read from their source: no service is imported.

A service class says it in its body: ``queue = "images"``, literal names in ``self.consume("...")``, and, for whoever
checks recipes, ``outputs = ("first", "select-*")`` (patterns as in file names: the only outputs it ever sends to; an
unnamed output is always right), and ``placeholders = ("payload",)`` (templates it fills in itself).
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

GROUP = "zoctools.services"


@dataclass(frozen=True, slots=True)
class Consumer:
    """A service as recipes see it. `outputs` None: it does not say which outputs it sends to."""

    name: str
    queues: tuple[str, ...]
    outputs: tuple[str, ...] | None = None
    placeholders: tuple[str, ...] = ()


def services() -> list[Consumer]:
    """Return the installed services that say which queues they consume."""
    found = [_consumer(entry) for entry in entry_points(group=GROUP)]
    return [consumer for consumer in found if consumer is not None and consumer.queues]


def _consumer(entry: EntryPoint) -> Consumer | None:
    module, _, name = entry.value.partition(":")
    try:
        spec = importlib.util.find_spec(module.strip())
        if spec is None or spec.origin is None:
            return None
        return declared(Path(spec.origin).read_text("utf-8"), name.partition("[")[0].strip())
    except (ImportError, OSError, ValueError, SyntaxError):
        return None


def declared(source: str, name: str) -> Consumer | None:
    """Return what the class `name` declares in the source of its module; None when it is not there."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            values = dict(_assignments(statement.body))
            queue = values.get("queue")
            queues = [*([queue] if isinstance(queue, str) else []), *_consumed(statement)]
            outputs = _texts(values["outputs"]) if "outputs" in values else None
            return Consumer(name, tuple(dict.fromkeys(queues)), outputs, _texts(values.get("placeholders", ())))
    return None


def _assignments(body: Iterable[ast.stmt]) -> Iterator[tuple[str, object]]:
    for statement in body:
        if isinstance(statement, ast.Assign):
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target, value = statement.target, statement.value
        else:
            continue
        if isinstance(target, ast.Name):
            with suppress(ValueError):
                yield target.id, ast.literal_eval(value)


def _consumed(service: ast.ClassDef) -> Iterator[str]:
    """Yield the literal queue names of every ``….consume("name", …)``."""
    for call in ast.walk(service):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "consume":
            first = call.args[0] if call.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (tuple, list)) else ()
