"""A bare STOMP client on one blocking socket: the limit our transport is measured against.

It does no more than the work needs: TCP_NODELAY, TCP_QUICKACK, one growing buffer scanned by content-length, all
frames of one step in one write. With `confirm` it does what our settle does: a receipt for each SEND before ACK and
COMMIT go out, and a receipt for the COMMIT.
"""

from __future__ import annotations

import itertools
import json
import socket
import time
import uuid
from collections import deque

Frame = tuple[str, dict[str, str], bytes]


class Client:
    """A connected client; frames in and out, nothing else."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._messages: deque[Frame] = deque()
        self._transaction = 0
        self.write(b"CONNECT\naccept-version:1.1\nhost:/\nheart-beat:0,0\n\n\0")
        assert self.read()[0] == "CONNECTED"

    def write(self, frames: bytes) -> None:
        self._socket.sendall(frames)

    def give_up_after(self, seconds: float) -> None:
        """Raise TimeoutError when nothing arrives for this long."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        """Send what is pending and disconnect."""
        self._socket.settimeout(None)
        self.write(b"DISCONNECT\nreceipt:bye\n\n\0")
        while self.read()[1].get("receipt-id") != "bye":
            pass
        self._socket.close()

    def read(self) -> Frame:
        """Return the next frame."""
        while True:
            frame = self._take()
            if frame is not None:
                return frame
            data = self._socket.recv(262_144)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not data:
                raise ConnectionError("the broker closed the connection")
            self._buffer += data

    def _take(self) -> Frame | None:
        buffer = self._buffer
        start = 0
        while start < len(buffer) and buffer[start] in b"\r\n":
            start += 1
        end = buffer.find(b"\n\n", start)
        if end < 0:
            return None
        command, *lines = buffer[start:end].decode().split("\n")
        headers = dict(line.split(":", 1) for line in lines)
        length = headers.get("content-length")
        body = end + 2
        stop = body + int(length) if length is not None else buffer.find(b"\0", body)
        if stop < body or stop >= len(buffer):
            return None
        frame = (command, headers, bytes(buffer[body:stop]))
        del buffer[: stop + 1]
        return frame

    def subscribe(self, destination: str, prefetch: int, ack: str = "client-individual") -> None:
        self.write(
            f"SUBSCRIBE\nid:1\ndestination:{destination}\nack:{ack}\nactivemq.prefetchSize:{prefetch}\n\n\0".encode()
        )

    def receipt(self, receipt: str) -> None:
        """Wait for one receipt; messages that come before it are kept for `message`."""
        while (frame := self.read())[0] == "MESSAGE":
            self._messages.append(frame)
        assert (frame[0], frame[1].get("receipt-id")) == ("RECEIPT", receipt), frame

    def message(self) -> Frame:
        """Return the next message."""
        frame = self._messages.popleft() if self._messages else self.read()
        assert frame[0] == "MESSAGE", frame
        return frame

    def fill(self, queue: str, body: bytes, count: int) -> None:
        """Queue `count` copies of a recipe message; returns when the broker has the last."""
        head = f"SEND\ndestination:/queue/{queue}\npersistent:true\nworkflows-recipe:True\ncontent-length:{len(body)}\n"
        frame = head.encode() + b"\n" + body + b"\0"
        for _ in range(count - 1):
            self.write(frame)
        receipt = uuid.uuid4().hex
        self.write(head.encode() + f"receipt:{receipt}\n\n".encode() + body + b"\0")
        self.receipt(receipt)

    def settle(self, ack: str, queue: str, body: bytes, confirm: bool) -> None:
        """Acknowledge one message and send another in one transaction."""
        self._transaction += 1
        tx = self._transaction
        begin = f"BEGIN\ntransaction:{tx}\n\n\0".encode()
        asked = f"receipt:s{tx}\n" if confirm else ""
        send = (
            f"SEND\ndestination:/queue/{queue}\npersistent:true\nworkflows-recipe:True\ntransaction:{tx}\n"
            f"{asked}content-length:{len(body)}\n\n"
        ).encode()
        confirmed = f"receipt:c{tx}\n" if confirm else ""
        commit = (
            f"ACK\nmessage-id:{ack}\nsubscription:1\ntransaction:{tx}\n\n\0COMMIT\ntransaction:{tx}\n{confirmed}\n\0"
        ).encode()
        if not confirm:
            self.write(begin + send + body + b"\0" + commit)
            return
        self.write(begin + send + body + b"\0")
        self.receipt(f"s{tx}")
        self.write(commit)
        self.receipt(f"c{tx}")


def envelope(size: int) -> bytes:
    """A recipe envelope of about `size` bytes whose pointer stands at node 1 and whose output is node 2."""
    node = {"service": "Hop", "parameters": {f"parameter-{n}": f"value {n}" for n in range(12)}}
    recipe = {
        "1": {**node, "queue": "hop.in", "output": 2},
        "2": {**node, "queue": "hop.out", "output": 3},
        **{str(n): {**node, "queue": f"hop.{n}", "output": n + 1} for n in range(3, 6)},
        "6": {**node, "queue": "hop.6"},
        "start": [[1, []]],
    }
    message = {
        "environment": {"ID": "5e0c0c0a-0000-4000-8000-0000000000aa"},
        "payload": {},
        "recipe": recipe,
        "recipe-path": [],
        "recipe-pointer": 1,
    }
    number = 0
    payload: dict[str, str] = message["payload"]  # type: ignore[assignment]
    while len(json.dumps(message)) < size:
        payload[f"key-{number}"] = f"a short value {number}"
        number += 1
    return json.dumps(message).encode()


def hop(port: int, source: str, target: str, count: int, prefetch: int, confirm: bool) -> dict[str, float]:
    """Move `count` messages from one queue to the next, one transaction each; returns the figures. 0: without end."""
    client = Client(port)
    client.subscribe(f"/queue/{source}", prefetch)
    started = cpu = 0.0
    for number in itertools.count():
        _, headers, body = client.message()
        if number == 0:
            started, cpu = time.perf_counter(), time.process_time()
        if count and number == count:
            break
        message = json.loads(body)
        message["recipe-path"].append(message["recipe-pointer"])
        message["recipe-pointer"] = 2
        client.settle(headers["message-id"], target, json.dumps(message).encode(), confirm)
    took = time.perf_counter() - started
    return {"msg/s": count / took, "cpu us/msg": 1e6 * (time.process_time() - cpu) / count}
