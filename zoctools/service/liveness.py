"""The liveness endpoint: an orchestrator asks over HTTP whether the main loop still looks up from its work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from zoctools.errors import UsageError

PATIENCE_OF_A_CLIENT = 10.0


@dataclass(frozen=True, slots=True)
class Liveness:
    """Where to answer, and how many seconds the main loop may take; a long message is allowed to take as long."""

    port: int = 8000
    timeout: float = 30.0
    address: str = "127.0.0.1"


class Endpoint:
    """Answers every GET: 200 ``ok`` when the loop answered within the timeout, else 503, always in time.

    `look_up` asks the loop for a sign of life and returns the event that is set with it. Requests that come while
    one is being answered wait for the same sign, so that they cannot pile up in the loop.
    """

    def __init__(self, liveness: Liveness, look_up: Callable[[], threading.Event]) -> None:
        """Bind the port; raises `UsageError` when that cannot be done."""
        self._timeout = liveness.timeout
        self._look_up = look_up
        self._lock = threading.Lock()
        self._asked: threading.Event | None = None
        try:
            self._server = _Server((liveness.address, liveness.port), _handler(self.alive))
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"cannot listen on {liveness.address}:{liveness.port} for liveness requests: {error}",
                "choose another port with --liveness-port",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="liveness", daemon=True)

    @property
    def port(self) -> int:
        """The port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def alive(self) -> bool:
        """Return whether the loop gave a sign of life within the timeout."""
        with self._lock:
            if self._asked is None or self._asked.is_set():
                self._asked = self._look_up()
            asked = self._asked
        return asked.wait(self._timeout)


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _handler(alive: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_OF_A_CLIENT

        def do_GET(self) -> None:
            """Answer one request; any path will do."""
            living = alive()
            body = b"ok\n" if living else b"the main loop does not answer\n"
            self.send_response(200 if living else 503)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: orchestrators ask every few seconds."""

    return Handler
