"""One host name in its four spellings.

The status broadcast names a process ``uk.ac.diamond.cs04r-sc-com09-02.1222995``: the DNS name reversed, then
the process ID. Logs name the host ``cs04r-sc-com09-02.diamond.ac.uk``; people say ``cs04r-sc-com09-02``.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Host:
    """A host name, most significant part last as in DNS, and a process on it when known."""

    dns: str
    pid: int | None = None

    @classmethod
    def of_this_process(cls) -> Host:
        """The host we run on, and our process."""
        return cls(socket.gethostname(), os.getpid())

    @classmethod
    def from_status(cls, text: str) -> Host:
        """Read the spelling of the status broadcast, with or without a process ID."""
        parts = text.split(".")
        pid = None
        if len(parts) > 1 and parts[-1].isdecimal():
            pid = int(parts.pop())
        return cls(".".join(reversed(parts)), pid)

    @property
    def reversed(self) -> str:
        """``uk.ac.diamond.node7``: as in the status broadcast, without the process."""
        return ".".join(reversed(self.dns.split(".")))

    @property
    def short(self) -> str:
        """``node7``: what people say."""
        return self.dns.split(".")[0]

    @property
    def domain(self) -> str:
        """``diamond.ac.uk``, or nothing on a host without one."""
        return self.dns.partition(".")[2]

    @property
    def status(self) -> str:
        """``uk.ac.diamond.node7.2245``: the key of the status broadcast and of the shutdown command."""
        return self.reversed if self.pid is None else f"{self.reversed}.{self.pid}"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every way this host may be written by a person or a log, for matching."""
        with_pid = (self.status, f"{self.short}.{self.pid}") if self.pid is not None else ()
        return (self.reversed, self.dns, self.short, *with_pid)
