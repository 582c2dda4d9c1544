"""A server that speaks just enough STOMP to let a client in, and then says what a test tells it to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence

CONNECTED = b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0\n"


AWAIT = b""


class FakeBroker:
    """Answers the n-th connection with the n-th of `scripts`, the last one serving all further; then listens on.

    A script is a list of byte strings, sent once the client has said something; None closes, AWAIT waits for the
    client's next word.
    """

    def __init__(self, *scripts: Sequence[bytes | None]) -> None:
        self.accepted = 0
        self._scripts = scripts
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> FakeBroker:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
            self.accepted += 1
            threading.Thread(target=self._play, args=(connection, script), daemon=True).start()

    @staticmethod
    def _play(connection: socket.socket, script: Sequence[bytes | None]) -> None:
        with contextlib.suppress(OSError):
            connection.recv(65536)
            for said in script:
                if said == AWAIT:
                    connection.recv(65536)
                elif said is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                else:
                    connection.sendall(said)
            while connection.recv(65536):
                pass
