"""The plug-ins of the site configuration and their keys, in one table; those marked `ours` are additions.

`zocalo` 1.x ignores keys it does not know, so one file serves both. Text where a number stands is refused, and a
number where text is wanted too: ``password: 12345`` is not what its author thinks once YAML has read it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zoctools.errors import ConfigError
from zoctools.site import Plugin, near, readable_by_others

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]*")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _is_ports(value: Any) -> bool:
    if isinstance(value, str):
        return all(part.strip().isdecimal() and 0 < int(part) < 65536 for part in value.split(","))
    return _is_port(value)


def _is_namespace(value: Any) -> bool:
    return isinstance(value, str) and _NAMESPACE.fullmatch(value) is not None


def _is_host(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and value.isprintable() and "/" not in value


def _is_hosts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_host_and_port(item) for item in value)


def _host_and_port(item: Any) -> bool:
    if not isinstance(item, str):
        return False
    host, colon, port = item.rpartition(":")
    return _is_host(host) and port.isdecimal() and _is_port(int(port)) if colon else _is_host(item)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_mail(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[^@\s]+@[^@\s]+", value) is not None


def _is_expected(value: Any) -> bool:
    if isinstance(value, Mapping):
        counts = value.values()
        return all(isinstance(name, str) for name in value) and all(type(n) is int and n >= 0 for n in counts)
    return _is_texts(value)


TEXT = (_is_text, "text")
HOST = (_is_host, "a host name")
HOSTS = (_is_hosts, "a list of 'host:port'")
PORT = (_is_port, "a number from 1 to 65535")
PORTS = (_is_ports, "a port, or several as text with commas")
NUMBER = (_is_number, "a number greater than 0")
FLAG = (lambda value: isinstance(value, bool), "true or false")
TEXTS = (_is_texts, "a list of text")
MAIL = (_is_mail, "a mail address")
MAPPING = (lambda value: isinstance(value, Mapping), "a mapping")
EXPECTED = (_is_expected, "a list of service names, or a mapping of names to how many")
NAMESPACE = (_is_namespace, "letters, digits, '.', '_' and '-'")
PROTOCOL = (lambda value: value in ("UDP", "TCP"), "UDP or TCP")
TRANSPORT = (
    lambda value: value in ("StompTransport", "PikaTransport", "OfflineTransport"),
    "StompTransport, PikaTransport or OfflineTransport",
)
ANYTHING = (lambda _value: True, "anything")


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a plug-in: what it takes, whether it must be there, and what it means where it is ours."""

    takes: tuple[Callable[[Any], bool], str]
    required: bool = False
    secret: bool = False
    ours: str = ""
    unless: str = ""
    """A key of ours that makes a required one unnecessary."""


_SCHEDULER = {
    "url": Key(TEXT, required=True),
    "api_version": Key(TEXT, required=True),
    "user": Key(TEXT),
    "user_token": Key(TEXT, secret=True),
}

PLUGINS: Mapping[str, Mapping[str, Key]] = {
    "stomp": {
        "host": Key(HOST, required=True, unless="hosts"),
        "port": Key(PORT, required=True, unless="hosts"),
        "username": Key(TEXT, required=True),
        "password": Key(TEXT, required=True, secret=True, unless="password-file"),
        "prefix": Key(NAMESPACE, required=True),
        "hosts": Key(HOSTS, ours="brokers to try in turn, as 'host:port'; outranks host and port"),
        "password-file": Key(TEXT, ours="file whose first line is the password; outranks password"),
        "tls": Key(FLAG, ours="encrypt the link; the broker must prove who it is"),
        "tls-ca": Key(TEXT, ours="PEM file of the authority that signed the broker's certificate"),
        "tls-certificate": Key(TEXT, ours="PEM file of our own certificate"),
        "tls-key": Key(TEXT, ours="PEM file of the key of our own certificate"),
        "tls-verify": Key(FLAG, ours="false accepts any certificate: for tests only"),
        "heartbeat": Key(NUMBER, ours="seconds between heart-beats, 10 when not given"),
        "connect-timeout": Key(NUMBER, ours="seconds to wait for a connection, 10 when not given"),
        "settle-timeout": Key(NUMBER, ours="seconds to wait for a confirmation, 30 when not given"),
    },
    "pika": {
        "host": Key(HOST, required=True),
        "port": Key(PORTS, required=True),
        "username": Key(TEXT, required=True),
        "password": Key(TEXT, required=True, secret=True),
        "vhost": Key(TEXT, required=True),
    },
    "transport": {"default": Key(TRANSPORT, required=True)},
    "storage": {},
    "graylog": {
        "protocol": Key(PROTOCOL, required=True),
        "host": Key(HOST, required=True),
        "port": Key(PORT, required=True),
    },
    "logging": {},
    "jmx": {
        "host": Key(HOST, required=True),
        "port": Key(PORT, required=True),
        "base_url": Key(TEXT, required=True),
        "username": Key(TEXT, required=True),
        "password": Key(TEXT, required=True, secret=True, unless="password-file"),
        "password-file": Key(TEXT, ours="file whose first line is the password; outranks password"),
    },
    "rabbitmqapi": {
        "base_url": Key(TEXT, required=True),
        "username": Key(TEXT, required=True),
        "password": Key(TEXT, required=True, secret=True, unless="password-file"),
        "vhost": Key(TEXT),
        "password-file": Key(TEXT, ours="file whose first line is the password; outranks password"),
    },
    "slurm": _SCHEDULER,
    "iris": _SCHEDULER,
    "smtp": {"host": Key(HOST, required=True), "port": Key(PORT, required=True), "from": Key(MAIL)},
    "opentelemetry": {
        "host": Key(HOST, required=True),
        "port": Key(PORT, required=True),
        "timeout": Key(NUMBER),
    },
    "zoctools": {
        "readonly": Key(FLAG, ours="true removes every command and key that changes something"),
        "expected": Key(EXPECTED, ours="services that must run: a list of names, or names and how many"),
        "queues": Key(TEXTS, ours="queues that are consumed by programs zoctools does not know"),
        "collections": Key(TEXT, ours="directory of '<dcid>.json' files with what is known of a data collection"),
        "templated-queues": Key(TEXTS, ours="queues that parameters of a recipe may choose; any when not given"),
        "allowed-roots": Key(TEXTS, ours="directories that recipes may write to; anywhere when not given"),
    },
}
OPEN = ("storage", "logging")
"""Plug-ins that take any key."""
_SECRET_WORD = re.compile(r"passw|passcode|secret|token(?!s)|api_?key|credential", re.IGNORECASE)


def is_secret(kind: str, option: str) -> bool:
    """Whether a value must never be shown."""
    key = PLUGINS.get(kind, {}).get(option)
    return key.secret if key else option.rpartition("-")[2] != "file" and bool(_SECRET_WORD.search(option))


def check(plugin: Plugin) -> list[str]:
    """Check one plug-in configuration against the table; returns warnings, raises `ConfigError`."""
    keys = PLUGINS.get(plugin.kind)
    if keys is None:
        guess = near(plugin.kind, PLUGINS)
        return [*_exposed(plugin), f"{plugin.origin('plugin')}: {plugin.kind!r} is not a plug-in of zoctools{guess}"]
    warnings = _exposed(plugin)
    for name, key in keys.items():
        if name in plugin.options:
            _check_value(plugin, name, key)
        elif key.required and key.unless not in plugin.options:
            raise ConfigError(f"{plugin.origin(name)}: is missing; it must be {key.takes[1]}")
    if plugin.kind not in OPEN:
        unknown = [name for name in plugin.options if name not in keys]
        warnings += [
            f"{plugin.origin(name)}: plug-in {plugin.kind!r} has no such key{near(name, keys)}" for name in unknown
        ]
    if plugin.kind == "logging":
        _check_logging(plugin)
    return warnings


def _check_value(plugin: Plugin, name: str, key: Key) -> None:
    value = plugin.options[name]
    holds, wanted = key.takes
    if holds(value):
        return
    shown = "" if key.secret else f", is {str(value)[:60]!r}"
    wants_text = key.takes in (TEXT, HOST, NAMESPACE) and not isinstance(value, (str, list, Mapping))
    hint = f"put it in quotes: {name}: '…'" if wants_text and value is not None else ""
    raise ConfigError(f"{plugin.origin(name)}: must be {wanted}{shown}", hint)


def _check_logging(plugin: Plugin) -> None:
    if "version" in plugin.options and plugin.options["version"] != 1:
        raise ConfigError(f"{plugin.origin('version')}: must be 1")
    for name in ("handlers", "loggers", "formatters", "filters", "root"):
        if not isinstance(plugin.options.get(name, {}), Mapping):
            raise ConfigError(f"{plugin.origin(name)}: must be a mapping")
    verbose = plugin.options.get("verbose", [])
    if not isinstance(verbose, list) or not all(isinstance(level, Mapping) for level in verbose):
        raise ConfigError(f"{plugin.origin('verbose')}: must be a list of mappings")


def _exposed(plugin: Plugin) -> list[str]:
    secrets = [name for name, value in plugin.options.items() if value and is_secret(plugin.kind, name)]
    if secrets and readable_by_others(plugin.file):
        return [f"{plugin.file}: holds {plugin.key}.{secrets[0]} and can be read by others; 'chmod 600' it"]
    return []
