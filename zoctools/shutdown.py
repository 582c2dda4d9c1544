"""Asks services to stop, and finds out from the status broadcasts whether they did.

The command is a message on the topic ``command`` that every service hears and compares with itself; nobody
answers. What can be known afterwards is what the services say of themselves, so that is what is watched.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from zoctools import broadcast
from zoctools.broadcast import Broadcast
from zoctools.errors import UsageError
from zoctools.hosts import Host
from zoctools.recipe import envelope
from zoctools.service.status import Status
from zoctools.text import one_line
from zoctools.transport.contract import Delivery, Outgoing, Transport

COMMANDS = "command"
STATUS = "transient.status"
NOBODY = "none"
"""Spelling of the service name for processes that run no service."""
SILENCE = 20.0
"""Seconds without a status after which a process that was heard before is gone; they speak every 6."""


@dataclass(frozen=True, slots=True)
class Command:
    """One shutdown command: for a process by its host and ID, or for all instances of a service class."""

    host: str = ""
    service: str | None = None

    def __str__(self) -> str:
        return self.host or (self.service if self.service is not None else "processes without a service")

    def outgoing(self, transport: Transport) -> Outgoing:
        """Return it as a message to everybody."""
        filters = {"host": self.host} if self.host else {"service": self.service}
        body = envelope.encode({"command": "shutdown", **filters})
        return Outgoing(transport.topic(COMMANDS), body, persistent=False)


@dataclass(slots=True)
class _Heard:
    service: str | None
    status: int
    at: float
    is_task: bool = False


@dataclass(slots=True)
class Watch:
    """What was heard of every process. `now` is of `time.monotonic`."""

    heard: dict[str, _Heard] = field(default_factory=dict)

    def take(self, said: Broadcast, now: float) -> None:
        """Take in one status. A wrapper of ours obeys a command that names its host, and is no service."""
        before = self.heard.get(said.host)
        known = before.service if before else None
        self.heard[said.host] = _Heard(said.service_class or known, said.status, now, bool(said.task))

    def running(self) -> list[str]:
        """Return the processes that have not said they leave."""
        return sorted(host for host, last in self.heard.items() if not _leaving(last.status))

    def of_service(self, service: str | None) -> list[str]:
        """Return the running processes of a service class (None: of no service)."""
        heard = self.heard
        return [host for host in self.running() if heard[host].service == service and not heard[host].is_task]

    def state(self, host: str, now: float) -> str:
        """Return ``stopped``, ``silent``, ``running`` or ``not heard`` for a process."""
        last = self.heard.get(host)
        if last is None:
            return "not heard"
        if _leaving(last.status):
            return "stopped"
        return "running" if now - last.at < SILENCE else "silent"


def _leaving(status: int) -> bool:
    return status in (Status.TEARDOWN, Status.END)


def for_host(word: str, watch: Watch, here: Host) -> Command:
    """Return the command for a process named as people do: ``node7.2245``, or with any form of its domain.

    A name that was heard decides. Else one with a single dot is of our own domain, as it always was, and on a
    machine without a domain it is complete. Raises `UsageError` for what cannot be a process.
    """
    named = Host.from_status(word)
    if named.pid is None or not named.dns or len(word) > broadcast.MAX_TEXT or not word.isprintable():
        raise UsageError(f"not a process: {one_line(word, 80)!r}", "name it HOST.PID, as 'zoc status' shows it")
    backwards = ".".join([*reversed(word.split(".")[:-1]), str(named.pid)])
    matching = [host for host in watch.running() if word in Host.from_status(host).spellings or backwards == host]
    if len(matching) == 1:
        return Command(host=matching[0])
    if word.count(".") == 1 and here.domain:
        return Command(host=f"{Host(here.domain).reversed}.{word}")
    return Command(host=word)


def for_service(name: str, watch: Watch) -> Command:
    """Return the command for a service class; a name in other capitals is that of the one class heard with it."""
    if name.casefold() == NOBODY:
        return Command(service=None)
    if not name or len(name) > broadcast.MAX_TEXT or not name.isprintable():
        raise UsageError(f"not the name of a service: {one_line(name, 80)!r}")
    classes = {last.service for last in watch.heard.values() if last.service}
    alike = [known for known in classes if known.casefold() == name.casefold()]
    return Command(service=alike[0] if name not in classes and len(alike) == 1 else name)


def targets(commands: Iterable[Command], watch: Watch) -> list[str]:
    """Return the processes the commands are for, as far as they are known."""
    hosts = [
        host for command in commands for host in ([command.host] if command.host else watch.of_service(command.service))
    ]
    return list(dict.fromkeys(hosts))


def listen(transport: Transport, watch: Watch, until: float) -> None:
    """Take in statuses from the transport's inbox until a moment of `time.monotonic`, at least what waits there."""
    while True:
        try:
            event = transport.inbox.get(timeout=max(until - time.monotonic(), 0.001))
        except queue.Empty:
            return
        if isinstance(event, Delivery):
            try:
                said = broadcast.read(broadcast.decode(event.body))
            except broadcast.Malformed:
                continue
            watch.take(said, time.monotonic())
        if time.monotonic() >= until:
            return
