"""A small facility in a temporary directory: its site configuration, and the programs that run there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.activemq import ActiveMQ
from support.waiting import eventually
from zoctools.config import StompSettings
from zoctools.transport.contract import Delivery
from zoctools.transport.stomp import StompTransport

ZOC = Path(sys.executable).parent / "zoc"


@dataclass
class Site:
    """Directories, a configuration file that old and new tools read, and every process started here."""

    base: Path
    broker: ActiveMQ
    namespace: str
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in ("recipes", "logbook", "drop", "collections", "data"):
            (self.base / folder).mkdir(parents=True)
        (self.base / "site.yaml").write_text(
            "version: 1\n"
            "environments: {default: test, test: [stomp, transport, storage, jmx, zoctools]}\n"
            f"stomp: {{plugin: stomp, host: 127.0.0.1, port: {self.broker.stomp_port},"
            f" username: '', password: '', prefix: {self.namespace}}}\n"
            "transport: {plugin: transport, default: StompTransport}\n"
            f"jmx: {{plugin: jmx, host: 127.0.0.1, port: {self.broker.jolokia_port},"
            " base_url: api/jolokia, username: '', password: ''}\n"
            "storage:\n  plugin: storage\n"
            f"  zocalo.recipe_directory: {self.base}/recipes\n"
            f"  zocalo.dispatcher.logbook_location: {self.base}/logbook\n"
            f"  zocalo.go.fallback_location: {self.base}/drop\n"
            f"zoctools: {{plugin: zoctools, collections: {self.base}/collections}}\n"
        )

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the programs that run here."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ZOC", "PYTHON"))}
        return {**inherited, "ZOCALO_CONFIG": str(self.base / "site.yaml"), **self.environment}

    def recipe(self, name: str, nodes: Mapping[str, Any]) -> None:
        """Put a recipe into the recipe directory."""
        (self.base / "recipes" / f"{name}.json").write_text(json.dumps(nodes))

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program that ends with the site; what it says goes to a file of its own."""
        log = self.base / f"{len(self.processes)}-{Path(command[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [str(part) for part in command],
                env=self.variables,
                cwd=self.base,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def run(self, *command: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; the test fails unless it exits with `code`."""
        done = subprocess.run(
            [str(part) for part in command],
            env=self.variables,
            cwd=self.base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, f"{command} -> {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def logs(self) -> str:
        """Everything the programs said."""
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')}" for log in sorted(self.base.glob("*.log")))

    def link(self) -> StompTransport:
        """A connected transport of our own."""
        transport = StompTransport(StompSettings((("127.0.0.1", self.broker.stomp_port),), namespace=self.namespace))
        transport.connect()
        return transport

    def stop(self) -> None:
        """End every process, and what they left behind."""
        for process in self.processes:
            try:
                os.killpg(process.pid, 9)
            except ProcessLookupError:
                continue
            process.wait()


def next_message(transport: StompTransport, timeout: float = 60.0, what: str = "a message") -> Delivery:
    """Return the next delivery of a transport."""

    def taken() -> Delivery | None:
        event = None if transport.inbox.empty() else transport.inbox.get_nowait()
        return event if isinstance(event, Delivery) else None

    return eventually(taken, timeout, what)
