"""What the site configuration amounts to, as typed settings; `zoctools.config` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoctools.errors import ConfigError

LOCAL = "local"
"""The environment name of the stack that runs on this machine."""


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to trust the broker. `ca` is a PEM file (None: the system's); `verify` off accepts anybody."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class StompSettings:
    """Where a STOMP broker is and who we are there.

    `hosts` are tried in turn. Times are in seconds; `heartbeat` is what we promise and ask for.
    """

    hosts: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = field(default="", repr=False)
    namespace: str = ""
    tls: TlsSettings | None = None
    heartbeat: float = 10.0
    connect_timeout: float = 10.0
    settle_timeout: float = 30.0

    @property
    def broker(self) -> str:
        """The broker as titles and errors name it: ``host:port``, or several joined by a comma."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


@dataclass(frozen=True, slots=True)
class Account:
    """A server with a login, as several plug-ins describe one; `url` where it is one, else host and port."""

    host: str = ""
    port: int = 0
    url: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    vhost: str = "/"


@dataclass(frozen=True, slots=True)
class GraylogSettings:
    """Where log records are sent."""

    protocol: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """A SLURM REST interface; `user_token` is a JWT or the file that holds one."""

    url: str
    api_version: str
    user: str = ""
    user_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Where mail is handed in; `sender` is who it is from."""

    host: str
    port: int
    sender: str = ""


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where OpenTelemetry traces go; `timeout` in seconds."""

    host: str
    port: int
    timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class Value:
    """One configured value as it may be shown (secrets hidden), and where it came from."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is configured for the environments in use."""

    environments: tuple[str, ...] = ()
    file: Path | None = None
    stomp: StompSettings | None = None
    transport: str = ""
    pika: Account | None = None
    storage: Mapping[str, Any] = field(default_factory=dict)
    graylog: GraylogSettings | None = None
    logging: Mapping[str, Any] | None = None
    jmx: Account | None = None
    rabbitmqapi: Account | None = None
    slurm: SchedulerSettings | None = None
    iris: SchedulerSettings | None = None
    smtp: SmtpSettings | None = None
    opentelemetry: TracingSettings | None = None
    readonly: bool = False
    expected: Mapping[str, int] = field(default_factory=dict)
    queues: tuple[str, ...] = ()
    collections: Path | None = None
    allowed_roots: tuple[Path, ...] = ()
    templated_queues: tuple[str, ...] | None = None
    """The queues and topics that a template in a recipe may lead to; None lets it choose any."""
    local: bool = False
    """Whether the broker is the stack on this machine."""
    values: Mapping[str, Value] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def environment(self) -> str:
        """The environments in use, joined by ``+``; empty when none is."""
        return "+".join(self.environments)

    @property
    def title(self) -> str:
        """Environment and broker host, for every title, question and summary: ``live (broker:61613)``."""
        broker = self.stomp.broker if self.stomp else "no broker"
        name = LOCAL if self.local else self.environment
        return f"{name} ({broker})" if name else broker

    @property
    def recipe_directory(self) -> Path | None:
        """Where recipe files are."""
        return self._directory("zocalo.recipe_directory")

    @property
    def logbook_location(self) -> Path | None:
        """Where the dispatcher records every recipe."""
        return self._directory("zocalo.dispatcher.logbook_location")

    @property
    def drop_directory(self) -> Path | None:
        """Where requests are saved while the broker is away."""
        return self._directory("zocalo.go.fallback_location")

    @property
    def deadletter_directory(self) -> Path | None:
        """Where exported dead letters are saved."""
        return self._directory("zocalo.dlq.purge_location")

    def _directory(self, key: str) -> Path | None:
        value = self.storage.get(key)
        if value in (None, ""):
            return None
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"{self.origin(f'storage.{key}')}: must be a directory, is {value!r}")
        return Path(value).expanduser()

    def may_write(self, path: Path) -> bool:
        """Whether a recipe may choose this place to write to: under an allowed root, where the site names any."""
        place = path.resolve()
        return not self.allowed_roots or any(place.is_relative_to(root.resolve()) for root in self.allowed_roots)

    def origin(self, key: str) -> str:
        """Return where a value came from: ``file: key``, an option, ``$VARIABLE``, or ``default``."""
        value = self.values.get(key)
        return value.origin if value else "default"

    def broker(self, *, changing: bool) -> StompSettings:
        """Return the broker to use; raises `ConfigError` when there is none, or not for a changing command.

        A script that lost its environment must not change what happens to run on this machine: the local stack
        takes changes only when it is named.
        """
        if self.transport == "PikaTransport" or (self.stomp is None and self.pika is not None):
            where = self.origin("transport.default") if self.transport else self.origin("pika.host")
            raise ConfigError(
                f"RabbitMQ is configured as the transport ({where}); zoctools sends and receives messages over "
                "STOMP only, AMQP comes later",
                "queue figures of RabbitMQ can be shown; for messages configure a broker with the 'stomp' plug-in",
            )
        if self.stomp is None:
            raise ConfigError(
                f"environment {self.environment!r} of {self.file} names no broker"
                if self.environments
                else f"{self.file} names no broker"
                if self.file
                else "no broker is configured",
                "add a 'stomp' plug-in to the environment"
                if self.file
                else "set ZOCALO_CONFIG to your site's configuration file, or give --config FILE",
            )
        if self.local and changing and LOCAL not in self.environments:
            raise ConfigError(
                f"only the local broker at {self.stomp.broker} is there, and it takes changes only when it is named",
                f"add '-e {LOCAL}' if you mean it, or set ZOCALO_CONFIG to your site's configuration file",
            )
        return self.stomp
