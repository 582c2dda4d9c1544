"""Logging of a process that serves a Zocalo: which fields every record has, and where records go.

Fields added to every record, as the existing services have them at Graylog:

* ``recipe_ID``: while a message of a recipe is being handled;
* ``workflows_host``, ``workflows_status``, ...: the last status broadcast of a service process.

A handled message is logged by the logger `HANDLED` with ``zoc_queue``, ``zoc_node``, ``zoc_wait`` and
``zoc_duration`` (seconds) and ``zoc_outcome`` (``done``, ``held``, ``failed``, ``retry``, ``unavailable``, ``died``,
``dead``, ``lost``).
"""

from __future__ import annotations

import logging
import logging.config
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from zoctools import text
from zoctools.errors import ConfigError

if TYPE_CHECKING:
    from zoctools.settings import GraylogSettings, Settings

HANDLED = "zoctools.handled"
"""Logger of one record per handled message; not shown on a console unless asked for."""

_recipe_ID: ContextVar[str] = ContextVar("recipe_ID", default="")


@contextmanager
def recipe(recipe_ID: str) -> Iterator[None]:
    """Give all records of this context the recipe ID; an empty one gives none."""
    token = _recipe_ID.set(recipe_ID)
    try:
        yield
    finally:
        _recipe_ID.reset(token)


class Context(logging.Filter):
    """Adds the recipe ID, and the fields of the process, to every record; lets all pass."""

    def __init__(self, fields: Callable[[], Mapping[str, Any]] = dict) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Add what the record does not have already."""
        known = record.__dict__
        for name, value in self._fields().items():
            known.setdefault(name, value)
        recipe_ID = _recipe_ID.get()
        if recipe_ID:
            known.setdefault("recipe_ID", recipe_ID)
        return True


class Console(logging.Formatter):
    """``12:04:31.250 WARNING archiver: the message``; foreign text is made safe, further lines are indented."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as it may be shown on a terminal."""
        return text.clean(super().format(record)).replace("\n", "\n    ")


def set_up(
    settings: Settings | None, verbosity: int = 0, fields: Callable[[], Mapping[str, Any]] = dict
) -> logging.Logger:
    """Send the records of this process to stderr and, when configured, to Graylog; returns the root logger.

    `verbosity` 0 shows what services say (information and above), 1 every handled message too, 2 everything.
    `fields` returns what every record shall have. A `logging` section of the configuration, in the form of
    `logging.config.dictConfig`, replaces our handlers; raises `ConfigError` when it is wrong.
    """
    root = logging.getLogger()
    configured = settings.logging if settings is not None else None
    if configured:
        _configure(configured, verbosity)
    else:
        _to_stderr(root, verbosity)
    graylog = settings.graylog if settings is not None else None
    if graylog is not None:
        root.addHandler(graylog_handler(graylog))
    everything = verbosity > 0 or bool(configured) or graylog is not None
    logging.getLogger(HANDLED).setLevel(logging.NOTSET if everything else logging.WARNING)
    for handler in _handlers():
        handler.filters = [*(known for known in handler.filters if not isinstance(known, Context)), Context(fields)]
    logging.captureWarnings(True)
    return root


def _to_stderr(root: logging.Logger, verbosity: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(Console())
    if not verbosity:
        handler.addFilter(lambda record: record.name != HANDLED or record.levelno > logging.INFO)
    for earlier in [known for known in root.handlers if isinstance(known.formatter, Console)]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
    for noisy in ("stomp.py", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.INFO if verbosity > 2 else logging.WARNING)


def graylog_handler(settings: GraylogSettings) -> logging.Handler:
    """Return a handler that sends GELF to Graylog through graypy."""
    make = graylog_tcp if settings.protocol.upper() == "TCP" else graylog_udp
    return make(host=settings.host, port=settings.port)


def graylog_udp(*, host: str, port: int) -> logging.Handler:
    """Return graypy's UDP handler; the host is looked up once, not per record."""
    import graypy

    handler: logging.Handler = graypy.GELFUDPHandler(_address(host), port, level_names=True)
    return handler


def graylog_tcp(*, host: str, port: int) -> logging.Handler:
    """Return graypy's TCP handler; the host is looked up once, not per connection."""
    import graypy

    handler: logging.Handler = graypy.GELFTCPHandler(_address(host), port, level_names=True)
    return handler


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return host


class Downgrade(logging.Filter):
    """Reduces the level of records between `reduce_to` and `only_below` to `reduce_to`; lets all pass."""

    def __init__(self, reduce_to: str = "WARNING", *, only_below: str = "CRITICAL") -> None:
        super().__init__()
        levels = logging.getLevelNamesMapping()
        self._name, self._level, self._below = reduce_to, levels[reduce_to], levels[only_below]

    def filter(self, record: logging.LogRecord) -> bool:
        """Reduce the level of a record that is in between."""
        if self._level < record.levelno < self._below:
            record.levelno, record.levelname = self._level, self._name
        return True


_OURS = {
    "zocalo.configuration.plugin_logging.GraylogUDPHandler": graylog_udp,
    "zocalo.configuration.plugin_logging.GraylogTCPHandler": graylog_tcp,
    "zocalo.configuration.plugin_logging.DowngradeFilter": Downgrade,
}
"""Factories that configurations of the existing tools name, and what stands for them here."""


def _with_ours(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: _OURS.get(entry, entry) if key == "()" and isinstance(entry, str) else _with_ours(entry)
            for key, entry in value.items()
        }
    return [_with_ours(entry) for entry in value] if isinstance(value, list) else value


def _configure(section: Mapping[str, Any], verbosity: int) -> None:
    """Apply a `logging` section as the existing tools do: the base, then one ``verbose`` entry per ``-v``."""
    steps = [{"version": 1, "disable_existing_loggers": False, **section}]
    steps[0].pop("plugin", None)
    further = steps[0].pop("verbose", None) or []
    if not isinstance(further, list) or not all(isinstance(step, Mapping) for step in further):
        raise ConfigError("logging.verbose: must be a list of logging configurations")
    steps += [{"version": 1, "incremental": True, **step} for step in further[:verbosity]]
    for step in steps:
        try:
            logging.config.dictConfig(_with_ours(step))
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            cause = f": {text.one_line(error.__cause__, 200)}" if error.__cause__ else ""
            raise ConfigError(f"logging: {text.one_line(error, 200)}{cause}") from error


def _handlers() -> list[logging.Handler]:
    """Return every handler that is attached to any logger, each once."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    found = [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]
    return list(dict.fromkeys(found))
