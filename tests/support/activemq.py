"""A private ActiveMQ for tests: own directory, free ports on loopback, ended by its own process ID.

`ActiveMQ.start("full")` returns when the broker answers a STOMP login. Configurations are in ``activemq_conf/``:
``minimal``, ``full`` (with Jolokia), ``auth`` (logins and TLS); or the path of any other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from support import certificates

CONFIGURATIONS = Path(__file__).with_name("activemq_conf")
HOME = Path("/usr/share/activemq")
JARS = Path("/usr/share/java")
OPTIONAL_JARS = ("xstream", "xpp3", "jettison")
"""Statistics replies and advisories need these on the class path."""
WEB_JARS = (
    *(f"jetty9-{part}" for part in ("server", "servlet", "http", "io", "security", "util", "util-ajax")),
    "servlet-api",
    "jolokia-core",
    "json-simple",
)
READY_WITHIN = 60.0
Login = tuple[str, str]


def free_port() -> int:
    """Return a port nobody listens on now; whoever binds it must be ready to try another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require() -> None:
    """Skip the test when ActiveMQ is not installed; fail it in continuous integration."""
    missing = [str(path) for path in (HOME / "bin/activemq.jar", JARS / "xstream.jar") if not path.exists()]
    missing += [name for name in ("java", "keytool", "openssl") if shutil.which(name) is None]
    if not missing:
        return
    reason = f"ActiveMQ cannot be started, missing: {', '.join(missing)} (see deploy/install-activemq.sh)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _free_ports() -> dict[str, int]:
    return {name: free_port() for name in ("stomp", "stomps", "stomps.client", "jolokia")}


@dataclass
class ActiveMQ:
    """One broker. `restart` comes back on the same ports with the same data."""

    configuration: Path
    base: Path
    scheduler: bool
    tcp_nodelay: bool
    login: Login | None
    ports: dict[str, int] = field(default_factory=_free_ports)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        config: Literal["minimal", "full", "auth"] | Path = "full",
        *,
        scheduler: bool = True,
        tcp_nodelay: bool = True,
        login: Login | None = None,
    ) -> ActiveMQ:
        """Start a broker and wait until it answers."""
        require()
        path = config if isinstance(config, Path) else CONFIGURATIONS / f"{config}.xml"
        if config == "auth":
            login = ("admin", "adminpw")
        base = Path(tempfile.mkdtemp(prefix="zoc-activemq-"))
        broker = cls(path, base, scheduler, tcp_nodelay, login)
        try:
            broker._lay_out()
            broker._run()
        except BaseException:
            broker.stop()
            raise
        return broker

    @property
    def stomp_port(self) -> int:
        """STOMP without TLS."""
        return self.ports["stomp"]

    @property
    def stomps_port(self) -> int:
        """STOMP over TLS; the ``auth`` configuration alone."""
        return self.ports["stomps"]

    @property
    def stomps_client_port(self) -> int:
        """STOMP over TLS for those with a client certificate; the ``auth`` configuration alone."""
        return self.ports["stomps.client"]

    @property
    def jolokia_port(self) -> int:
        """Jolokia's REST interface at ``/api/jolokia``; the ``full`` configuration alone."""
        return self.ports["jolokia"]

    @property
    def ca(self) -> Path:
        """The certificate to trust the ``auth`` broker by; it is valid for ``localhost``."""
        return self.base / "conf/broker.pem"

    @property
    def client_certificate(self) -> tuple[Path, Path]:
        """Certificate and key of a client the ``auth`` broker trusts."""
        return self.base / "conf/client.pem", self.base / "conf/client.key"

    @property
    def log(self) -> str:
        """What the broker printed so far."""
        path = self.base / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """End the broker with SIGKILL, as a crash would; its directory stays."""
        self._end(signal.SIGKILL)

    def terminate(self) -> None:
        """End the broker with SIGTERM; its directory stays."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again after `kill` or `terminate` (ending it first when it still runs): same ports, same data."""
        self.terminate()
        self._run(may_move=False)

    def freeze(self) -> None:
        """Stop the broker in its tracks: its sockets stay open and nobody answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen broker go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the broker and remove its directory."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.base, ignore_errors=True)

    def _lay_out(self) -> None:
        for folder in ("conf", "data", "tmp", "lib/optional", "lib/web"):
            (self.base / folder).mkdir(parents=True)
        for folder, jars in (("optional", OPTIONAL_JARS), ("web", WEB_JARS)):
            for jar in jars:
                (self.base / f"lib/{folder}/{jar}.jar").symlink_to(JARS / f"{jar}.jar")
        shutil.copy(CONFIGURATIONS / "log4j.properties", self.base / "conf")
        shutil.copy(self.configuration, self.base / "conf/activemq.xml")
        if self.configuration.name == "auth.xml":
            certificates.make_for_broker(self.base / "conf")
        if os.geteuid() == 0:
            for path in (self.base, *self.base.rglob("*")):
                shutil.chown(path, "nobody", "nogroup") if not path.is_symlink() else None

    def _command(self) -> list[str]:
        as_nobody = ["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        guarded = ["setpriv", "--pdeathsig", "KILL", *as_nobody] if shutil.which("setpriv") else []
        properties = {
            "activemq.home": HOME,
            "activemq.base": self.base,
            "activemq.conf": self.base / "conf",
            "activemq.data": self.base / "data",
            "java.io.tmpdir": self.base / "tmp",
            "log4j.configuration": f"file:{self.base}/conf/log4j.properties",
            "scheduler": str(self.scheduler).lower(),
            "stomp.options": "?transport.tcpNoDelay=true" if self.tcp_nodelay else "",
            **{f"{name}.port": port for name, port in self.ports.items()},
        }
        java = ["java", "-Xms32m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        options = [f"-D{name}={value}" for name, value in properties.items()]
        start = ["-jar", str(HOME / "bin/activemq.jar"), "start", f"xbean:file:{self.base}/conf/activemq.xml"]
        return [*guarded, *java, *options, *start]

    def _run(self, may_move: bool = True) -> None:
        for attempt in range(3):
            with (self.base / "broker.log").open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(), cwd=self.base, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            if self._answers():
                return
            self._end(signal.SIGKILL)
            if "Address already in use" not in self.log or not may_move or attempt == 2:
                break
            self.ports = _free_ports()
        pytest.fail(f"ActiveMQ ({self.configuration.name}) did not start:\n{self.log[-4000:]}")

    def _answers(self) -> bool:
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                return False
            if self._logs_in() and self._serves_figures():
                return True
            time.sleep(0.05)
        return False

    def _logs_in(self) -> bool:
        login = "login:{}\npasscode:{}\n".format(*self.login) if self.login else ""
        frame = f"CONNECT\naccept-version:1.2\nhost:localhost\n{login}\n\0".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.stomp_port), 5) as probe:
                probe.sendall(frame)
                return probe.recv(4096).startswith(b"CONNECTED")
        except OSError:
            return False

    def _serves_figures(self) -> bool:
        if self.configuration.name != "full.xml":
            return True
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.jolokia_port}/api/jolokia/version", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)
