"""A TCP proxy that breaks links on command: a test stands it between a client and a broker.

Client-to-broker bytes are called *up*, broker-to-client bytes *down*.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from enum import Enum


class Mode(Enum):
    """What the proxy does with new and existing connections."""

    PASS = "pass"
    BLACKHOLE = "accept everything, forward nothing, close nothing"
    REFUSE = "close new connections at once"


class Proxy:
    """Forwards ``127.0.0.1:port`` to `target`, also a port on loopback."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.mode = Mode.PASS
        self.accepted = 0
        self.up = bytearray()
        self.down = bytearray()
        self._cut_up: int | None = None
        self._cut_down: int | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def forget(self) -> None:
        """Forget what was recorded in `up` and `down`."""
        with self._lock:
            self.up.clear()
            self.down.clear()

    def cut_up_after(self, count: int) -> None:
        """Forward `count` more bytes of the client, then reset the connection; what exceeds is never forwarded."""
        with self._lock:
            self._cut_up = count

    def cut_down_after(self, count: int) -> None:
        """Forward `count` more bytes of the broker, then reset the connection."""
        with self._lock:
            self._cut_down = count

    def drop(self) -> None:
        """Reset every connection now."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._reset(pair)

    def close(self) -> None:
        """Stop listening and reset every connection."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        self._thread.join(5)

    @staticmethod
    def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
        for side in pair:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self.mode is Mode.REFUSE:
                client.close()
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self.target), 5)
            except OSError:
                client.close()
                continue
            for side in (client, broker):
                side.settimeout(None)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, broker))
            threading.Thread(target=self._pump, args=(client, broker), name="proxy pump", daemon=True).start()

    def _pump(self, client: socket.socket, broker: socket.socket) -> None:
        try:
            while not self._closed:
                readable, _, _ = select.select([client, broker], [], [], 0.5)
                for source in readable:
                    upwards = source is client
                    data = source.recv(65536)
                    if not data or not self._forward(data, broker if upwards else client, upwards):
                        return
        except OSError:
            return
        finally:
            with self._lock:
                if (client, broker) in self._pairs:
                    self._pairs.remove((client, broker))
            self._reset((client, broker))
            client.close()
            broker.close()

    def _forward(self, data: bytes, sink: socket.socket, upwards: bool) -> bool:
        if self.mode is Mode.BLACKHOLE:
            return True
        keep = True
        with self._lock:
            left = self._cut_up if upwards else self._cut_down
            if left is not None:
                keep = len(data) < left
                data = data[:left]
                remaining = None if not keep else left - len(data)
                if upwards:
                    self._cut_up = remaining
                else:
                    self._cut_down = remaining
            (self.up if upwards else self.down).extend(data)
        sink.sendall(data)
        return keep
