"""The site configuration, typed: what it says, and where each value came from.

`load` reads the file (`zoctools.site`), applies the environments, and returns `Settings`. Which broker is used:
an option, ``-e``, the file in ``ZOCALO_CONFIG``, and last, for commands that only look, the local stack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoctools import plugins
from zoctools.errors import ConfigError
from zoctools.settings import (
    LOCAL,
    Account,
    GraylogSettings,
    SchedulerSettings,
    Settings,
    SmtpSettings,
    StompSettings,
    TlsSettings,
    TracingSettings,
    Value,
)
from zoctools.site import Plugin, Site, beside, near, read_site, read_text, readable_by_others

__all__ = ["Settings", "StompSettings", "TlsSettings", "check", "environment_names", "load", "redacted"]

HIDDEN = "********"
_TIMES = {"heartbeat": 10.0, "connect-timeout": 10.0, "settle-timeout": 30.0}
"""Seconds that hold where the broker's plug-in does not say others."""


def environment_names(path: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names `-e` takes; raises `ConfigError` for a configuration that cannot be read."""
    file = _file(path, environ)
    names = sorted(read_site(file[0]).environments) if file else []
    return names if LOCAL in names or not _local_state(environ).exists() else [*names, LOCAL]


def load(
    path: str | Path | None = None,
    environments: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    stomp: Mapping[str, Any] | None = None,
) -> Settings:
    """Return the settings of a file (else `ZOCALO_CONFIG`, else none) with its environments applied in order.

    Environments: those given, else ``ZOCALO_DEFAULT_ENV``, else ``default`` where defined. `stomp` are options
    of the old command names (host, port, username, password, prefix) and outrank everything. Raises `ConfigError`.
    """
    file = _file(path, environ)
    site = read_site(file[0]) if file else Site(Path())
    if file:
        _check(site)
    names, named_by = _wanted(environments, environ, site)
    local_named = LOCAL in names and LOCAL not in site.environments
    builder = _Builder(site, environ)
    for name in names:
        if name == LOCAL and local_named:
            continue
        if name not in site.environments:
            known = ", ".join(sorted(site.environments)) or "none"
            where = f"{site.file} has: {known}" if file else "ZOCALO_CONFIG is not set"
            raise ConfigError(f"{named_by}: there is no environment {name!r}{near(name, site.environments)}", where)
        for key in site.environments[name]:
            builder.apply(site.plugins[key])
    if local_named or not (builder.has_broker or stomp or (environments and file)):
        builder.apply_local(_local_state(environ), required=local_named)
    builder.apply_options(stomp or {})
    settings = builder.settings(tuple(names), file[0] if file else None)
    chosen = {"file": (str(file[0]), file[1])} if file else {}
    chosen |= {"environment": (settings.environment, named_by)} if names else {}
    values = {key: Value(key, value, origin) for key, (value, origin) in chosen.items()}
    return replace(settings, values={**values, **settings.values})


def check(path: Path) -> list[str]:
    """Read a file, every plug-in and every environment of it; returns warnings, raises `ConfigError`."""
    site = read_site(path)
    _check(site)
    for name in site.environments:
        load(path, [name], {})
    return site.warnings


def _file(path: str | Path | None, environ: Mapping[str, str]) -> tuple[Path, str] | None:
    if path:
        return Path(path).expanduser(), "--config"
    named = environ.get("ZOCALO_CONFIG")
    return (Path(named).expanduser(), "$ZOCALO_CONFIG") if named else None


def _wanted(environments: Sequence[str], environ: Mapping[str, str], site: Site) -> tuple[list[str], str]:
    if environments:
        return list(dict.fromkeys(environments)), "-e"
    if environ.get("ZOCALO_DEFAULT_ENV"):
        return [environ["ZOCALO_DEFAULT_ENV"]], "$ZOCALO_DEFAULT_ENV"
    return (["default"] if "default" in site.environments else []), "default"


def _local_state(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_STATE_HOME")
    base = Path(home) if home else Path("~/.local/state").expanduser()
    return base / "zoctools" / "local.json"


def _check(site: Site) -> None:
    for plugin in site.plugins.values():
        site.warnings += plugins.check(plugin)
    site.warnings[:] = dict.fromkeys(site.warnings)


class _Builder:
    """Applies plug-in configurations one after the other; of each plug-in the last one counts, `storage` is merged."""

    def __init__(self, site: Site, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._warnings = site.warnings
        self._options: dict[str, dict[str, Any]] = {}
        self._origins: dict[str, str] = {}
        self._files: dict[str, Path] = {}
        self._local = False

    @property
    def has_broker(self) -> bool:
        """Whether a broker is configured so far."""
        return "stomp" in self._options or "pika" in self._options

    def apply(self, plugin: Plugin) -> None:
        """Let a plug-in configuration outrank earlier ones of its kind."""
        merged = self._options.get(plugin.kind, {}) if plugin.kind == "storage" else {}
        if plugin.kind != "storage":
            self._origins = {key: at for key, at in self._origins.items() if not key.startswith(f"{plugin.kind}.")}
        self._options[plugin.kind] = {**merged, **plugin.options}
        self._files[plugin.kind] = plugin.file
        for name in plugin.options:
            self._origins[f"{plugin.kind}.{name}"] = plugin.origin(name)

    def apply_local(self, state: Path, *, required: bool) -> None:
        """Use the stack of this machine when it runs; `required` makes its absence an error."""
        if not state.exists():
            if required:
                raise ConfigError(f"no local stack runs here: there is no {state}")
            return
        try:
            said = json.loads(read_text(state))
            options = {"host": said["host"], "port": said["stomp_port"], "username": said.get("username", "")}
            options |= {"password": said.get("password", ""), "prefix": said.get("namespace", "")}
            local = [
                Plugin("stomp", "stomp", options, state),
                Plugin("storage", "storage", said.get("storage", {}), state),
            ]
            for plugin in local:
                plugins.check(plugin)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{state}: does not describe a local stack: {error}", "remove the file") from error
        for plugin in local:
            self.apply(plugin)
        self._local = True

    def apply_options(self, stomp: Mapping[str, Any]) -> None:
        """Let the options of the old command names outrank everything."""
        if not stomp:
            return
        old = {"host": "localhost", "port": 61613, "username": "admin", "password": "password", "prefix": ""}
        base = self._options.get("stomp", {})
        taken = [name for name in old if name not in stomp]
        if taken and not base:
            self._warnings.append(f"no broker is configured: taking the old default of {', '.join(taken)}")
        self._options["stomp"] = {**old, **base, **stomp}
        if "host" in stomp or "port" in stomp:
            self._options["stomp"].pop("hosts", None)
        if "password" in stomp:
            self._options["stomp"].pop("password-file", None)
        for name in old:
            if name in stomp or name not in base:
                self._origins[f"stomp.{name}"] = f"option --stomp-{name}" if name in stomp else "old default"
        self._local = False

    def settings(self, names: tuple[str, ...], file: Path | None) -> Settings:
        """Return what all that was applied amounts to."""
        ours = self._options.get("zoctools", {})
        expected = ours.get("expected", {})
        return Settings(
            environments=names,
            file=file,
            stomp=self._stomp(),
            transport=self._transport(),
            pika=self._account("pika"),
            storage=dict(self._options.get("storage", {})),
            graylog=self._made("graylog", GraylogSettings, "protocol", "host", "port"),
            logging=self._options.get("logging"),
            jmx=self._account("jmx"),
            rabbitmqapi=self._account("rabbitmqapi"),
            slurm=self._made("slurm", SchedulerSettings, "url", "api_version", "user", "user_token"),
            iris=self._made("iris", SchedulerSettings, "url", "api_version", "user", "user_token"),
            smtp=self._made("smtp", SmtpSettings, "host", "port", sender="from"),
            opentelemetry=self._made("opentelemetry", TracingSettings, "host", "port", "timeout"),
            readonly=bool(ours.get("readonly", False)),
            expected=dict(expected) if isinstance(expected, Mapping) else dict.fromkeys(expected, 1),
            queues=tuple(ours.get("queues", ())),
            collections=self._path("zoctools", "collections"),
            templated_queues=tuple(ours["templated-queues"]) if "templated-queues" in ours else None,
            allowed_roots=tuple(beside(self._files["zoctools"], root) for root in ours.get("allowed-roots", ())),
            local=self._local,
            values=self._shown(),
            warnings=tuple(dict.fromkeys(self._warnings)),
        )

    def _made(self, kind: str, shape: Any, *keys: str, **renamed: str) -> Any:
        options = self._options.get(kind)
        if options is None:
            return None
        wanted = {**{key: key for key in keys}, **renamed}
        return shape(**{name: options[key] for name, key in wanted.items() if key in options})

    def _path(self, kind: str, key: str) -> Path | None:
        value = self._options.get(kind, {}).get(key)
        return beside(self._files[kind], value) if value else None

    def _transport(self) -> str:
        configured = self._options.get("transport", {}).get("default")
        stored = self._options.get("storage", {}).get("zocalo.default_transport")
        return str(configured or stored or "")

    def _password(self, kind: str) -> str:
        options = self._options[kind]
        path = self._path(kind, "password-file")
        typed = self._origins.get(f"{kind}.password", "").startswith("option")
        if kind == "stomp" and self._environ.get("ZOC_STOMP_PASSWORD") and not typed:
            self._origins["stomp.password"] = "$ZOC_STOMP_PASSWORD"
            return self._environ["ZOC_STOMP_PASSWORD"]
        if path is None:
            return str(options.get("password", ""))
        where = self._origins[f"{kind}.password-file"]
        lines = read_text(path, f"{where}: ").splitlines()
        if not lines or not lines[0].strip():
            raise ConfigError(f"{where}: {path} holds no password on its first line")
        if readable_by_others(path):
            self._warnings.append(f"{path}: holds a password and can be read by others; 'chmod 600' it")
        self._origins[f"{kind}.password"] = str(path)
        return lines[0].strip()

    def _account(self, kind: str) -> Account | None:
        options = self._options.get(kind)
        if options is None:
            return None
        port = options.get("port", 0)
        return Account(
            host=options.get("host", ""),
            port=port if isinstance(port, int) else int(port.split(",")[0]),
            url=options.get("base_url", ""),
            username=options["username"],
            password=self._password(kind),
            vhost=options.get("vhost", "/"),
        )

    def _stomp(self) -> StompSettings | None:
        options = self._options.get("stomp")
        if options is None:
            return None
        hosts = options.get("hosts") or [f"{options['host']}:{options['port']}"]
        return StompSettings(
            hosts=tuple(_host_and_port(item) for item in hosts),
            username=options["username"],
            password=self._password("stomp"),
            namespace=options["prefix"].rstrip("."),
            tls=self._tls(options),
            **{name.replace("-", "_"): float(options.get(name, seconds)) for name, seconds in _TIMES.items()},
        )

    def _tls(self, options: Mapping[str, Any]) -> TlsSettings | None:
        if not options.get("tls", any(key.startswith("tls-") for key in options)):
            return None
        verify = bool(options.get("tls-verify", True))
        if not verify:
            self._warnings.append(f"{self._origins['stomp.tls-verify']}: the broker's certificate is NOT verified")
        ca, certificate, key = (self._path("stomp", f"tls-{name}") for name in ("ca", "certificate", "key"))
        return TlsSettings(ca=ca, certificate=certificate, key=key, verify=verify)

    def _shown(self) -> dict[str, Value]:
        shown = {}
        for kind, options in self._options.items():
            for name, value in options.items():
                key = f"{kind}.{name}"
                shown[key] = Value(key, redacted(kind, name, value), self._origins[key])
        if "stomp" in self._options:
            for name, seconds in _TIMES.items():
                shown.setdefault(f"stomp.{name}", Value(f"stomp.{name}", seconds, "default"))
        for kind in ("stomp", "jmx", "rabbitmqapi"):
            key = f"{kind}.password"
            if key in self._origins and key not in shown:
                shown[key] = Value(key, HIDDEN, self._origins[key])
        return shown


def redacted(kind: str, name: str, value: Any) -> Any:
    """Return a value as it may be shown: secrets hidden, at any depth."""
    if isinstance(value, Mapping):
        return {key: redacted(kind, str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(kind, name, item) for item in value]
    return HIDDEN if value not in ("", None) and plugins.is_secret(kind, name) else value


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    return (host, int(port)) if colon else (text, 61613)
