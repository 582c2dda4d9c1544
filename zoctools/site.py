"""Reads the site configuration file: version 1, plug-in configurations, environments, includes.

The format is that of `zocalo` 1.x: https://zocalo.readthedocs.io/en/latest/configuration.html. Everything is read
and checked at once, files that plug-ins are kept in included; nothing is applied here, `zoctools.config` does that.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoctools.errors import ConfigError

if TYPE_CHECKING:
    import yaml

MAX_FILE = 1_000_000
"""Bytes of one configuration file."""
MAX_VALUES = 100_000
"""Values in one file with every alias written out."""
MAX_WRITTEN = 10_000
"""Values as they are written in one file: the reader takes seconds for more."""
MAX_DEPTH = 50
"""Mappings and lists inside each other."""
MAX_INCLUDES = 100
MAX_ALIASES = 100
RESERVED = ("version", "environments", "include")


@dataclass(frozen=True, slots=True)
class Plugin:
    """One plug-in configuration: `kind` is the plug-in it is for, `file` and `key` say where it stands."""

    key: str
    kind: str
    options: Mapping[str, Any] = field(repr=False)
    file: Path

    def origin(self, option: str = "") -> str:
        """Return ``file: key.option``, as errors and `zoc config show --origin` name a value."""
        return f"{self.file}: {self.key}.{option}" if option else f"{self.file}: {self.key}"


@dataclass(slots=True)
class Site:
    """What a configuration file and all it refers to say."""

    file: Path
    plugins: dict[str, Plugin] = field(default_factory=dict)
    environments: dict[str, tuple[str, ...]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def read_site(path: Path) -> Site:
    """Read a site configuration; raises `ConfigError` naming file, key and reason."""
    site = Site(path)
    environments: dict[str, tuple[Any, Path]] = {}
    _read_into(site, environments, path, ())
    names = {key: plugin.key for key, plugin in site.plugins.items()}
    for name in environments:
        site.environments[name] = _expand(name, environments, names, ())
    return site


def _read_into(site: Site, environments: dict[str, tuple[Any, Path]], path: Path, above: tuple[Path, ...]) -> None:
    """Add a file and what it includes; a file outranks what it includes, a later include an earlier one."""
    place = _place(path)
    if place in above:
        raise ConfigError(f"{path}: include: the file includes itself, through {above[-1].name}")
    if len(above) >= MAX_INCLUDES:
        raise ConfigError(f"{path}: include: more than {MAX_INCLUDES} files deep")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a site configuration is a mapping, with 'version: 1'")
    version = content.get("version")
    if type(version) is not int or version != 1:
        raise ConfigError(
            f"{path}: version: must be 1, is {version!r}" if "version" in content else f"{path}: version: is missing",
            "write 'version: 1' at the top",
        )
    for other in _included(content.get("include"), path):
        _read_into(site, environments, other, (*above, place))
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"{path}: {key!r}: a name must be text", "put it in quotes")
        if key in RESERVED:
            continue
        if key in site.plugins:
            site.warnings.append(f"{path}: {key}: replaces the one in {site.plugins[key].file}")
        site.plugins[key] = _plugin(key, value, path)
    for name, value in _environments(content.get("environments"), path).items():
        if name in environments:
            site.warnings.append(f"{path}: environments.{name}: replaces the one in {environments[name][1]}")
        environments[name] = (value, path)


def _place(path: Path) -> Path:
    """Return where a file really is."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _included(value: Any, path: Path) -> list[Path]:
    if value is None:
        return []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: include: must be a file name or a list of them")
    return [beside(path, name) for name in names]


def beside(path: Path, name: str) -> Path:
    """Return the file `name` as a file at `path` means it: relative to its directory, ``~`` expanded."""
    try:
        return path.parent / Path(name).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {name}: no such home directory") from error


def _plugin(key: str, value: Any, path: Path) -> Plugin:
    if isinstance(value, str):
        referred = beside(path, value)
        content = read_yaml(referred, f"{path}: {key}: ")
        if not isinstance(content, dict) or "plugin" not in content:
            raise ConfigError(f"{referred}: must be a mapping with 'plugin: NAME' (it is {key!r} of {path})")
        path, value = referred, content
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {key}: must be a plug-in configuration (a mapping) or the name of a file with one")
    kind = value.get("plugin")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}: {key}: 'plugin: NAME' is missing", "say which plug-in it configures")
    for option in value:
        if not isinstance(option, str):
            raise ConfigError(f"{path}: {key}: {option!r}: a key must be text", "put it in quotes")
    return Plugin(key, kind, {option: item for option, item in value.items() if option != "plugin"}, path)


def _environments(value: Any, path: Path) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: environments: must be a mapping of names to plug-ins")
    for name in value:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}: environments: {name!r}: a name must be text", "put it in quotes")
    return value


def _expand(
    name: str, environments: Mapping[str, tuple[Any, Path]], plugins: Mapping[str, str], seen: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the plug-in configurations of an environment in the order in which they apply."""
    value, path = environments[name]
    where = f"{path}: environments.{name}"
    if value is None:
        return ()
    if isinstance(value, str):
        if value in (*seen, name):
            raise ConfigError(f"{where}: the aliases go in a circle: {' -> '.join((*seen, name, value))}")
        if len(seen) >= MAX_ALIASES:
            raise ConfigError(f"{where}: more than {MAX_ALIASES} aliases of aliases")
        if value not in environments:
            raise ConfigError(f"{where}: there is no environment {value!r}{near(value, environments)}")
        return _expand(value, environments, plugins, (*seen, name))
    if isinstance(value, dict):
        order = sorted(str(group) for group in value if group != "plugins")
        groups = [*order, *(["plugins"] if "plugins" in value else [])]
        listed = [item for group in groups for item in _listed(value.get(group), f"{where}.{group}")]
    else:
        listed = _listed(value, where)
    for item in listed:
        if item in RESERVED:
            raise ConfigError(f"{where}: {item!r} is a reserved word, not a plug-in configuration")
        if item not in plugins:
            raise ConfigError(f"{where}: there is no plug-in configuration {item!r}{near(item, plugins)}")
    return tuple(dict.fromkeys(listed))


def _listed(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(item, str) for item in names):
        raise ConfigError(f"{where}: must be a list of plug-in configurations")
    return names


def near(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for a name close to a known one, else nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def readable_by_others(path: Path) -> bool:
    """Whether people other than the owner may read a file."""
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def _without_waiting(path: str, flags: int) -> int:
    """Open a file so that a pipe nobody writes to cannot hold us up."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_text(path: Path, referrer: str = "") -> str:
    """Return the text of a small regular file; raises `ConfigError`, the message beginning with `referrer`."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{referrer}{path}: is not a file")
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{referrer}{path}: cannot be read: {reason}") from error
    if len(data) > MAX_FILE:
        raise ConfigError(f"{referrer}{path}: is larger than 1 MB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{referrer}{path}: byte {error.start} is not UTF-8") from error


def read_yaml(path: Path, referrer: str = "") -> Any:
    """Return what a YAML file says: safe types only, no key twice, no alias bomb; raises `ConfigError`."""
    text = read_text(path, referrer)
    import yaml

    loader = yaml.SafeLoader("")
    try:
        loader = _bounded_loader(path)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, path)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f"{error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ConfigError(f"{path}:{line or ' '}{_problem(error, text)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{path}: a value cannot be read: {error}") from error
    finally:
        loader.dispose()


def _bounded_loader(path: Path) -> type[yaml.SafeLoader]:
    """Return a loader that stops, with a `ConfigError`, as soon as a file is deeper or longer than one can be."""
    import yaml

    class BoundedLoader(yaml.SafeLoader):
        depth = written = 0

        def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
            self.written += 1
            if self.written > MAX_WRITTEN:
                raise ConfigError(f"{path}: more than {MAX_WRITTEN} values")
            if self.depth >= MAX_DEPTH:
                raise ConfigError(f"{path}: is nested too deeply")
            self.depth += 1
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

    return BoundedLoader


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    lines = text.splitlines()
    number = error.problem_mark.line if error.problem_mark else -1
    if 0 <= number < len(lines) and "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
        return "a tab in the indentation; YAML wants spaces"
    return " ".join(part for part in (error.context, error.problem) if part) or "not YAML"


def _check_nodes(root: yaml.Node, path: Path) -> None:
    """Refuse keys given twice, values that contain themselves, and aliases that multiply beyond reason.

    Children are weighed before their parents without recursion; an alias weighs what it stands for.
    """
    import yaml

    weights: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, ready = stack.pop()
        if id(node) in weights:
            continue
        parts = _parts(node)
        if ready:
            open_nodes.discard(id(node))
            weights[id(node)] = 1 + sum(weights[id(part)] for part in parts)
            if weights[id(node)] > MAX_VALUES:
                raise ConfigError(f"{path}:{node.start_mark.line + 1}: more than {MAX_VALUES} values with its aliases")
            continue
        if id(node) in open_nodes:
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: an alias contains itself")
        open_nodes.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, path)
        stack.append((node, True))
        stack.extend((part, False) for part in parts)


def _parts(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _check_keys(node: yaml.MappingNode, path: Path) -> None:
    seen: set[Hashable] = set()
    for key, _value in node.value:
        if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key.value, str):
            continue
        if key.value in seen:
            raise ConfigError(f"{path}:{key.start_mark.line + 1}: the key {key.value!r} is given twice")
        seen.add(key.value)
