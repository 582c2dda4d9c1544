"""The site configuration, typed: what it says, and where each value came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


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
