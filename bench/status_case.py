"""One measurement of bench/status.py: a publisher, a monitor, and the CPU the monitor took. Prints JSON figures.

status_case.py CLIENT PORT RATE SERVICES SECONDS; the other names are the child processes it starts for itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from measure import HERE, peer_python
from raw import Client

TOPIC = "zocalo.transient.status"
WARM_UP = 4.0
"""Seconds for the monitor to start and to have heard most services once."""


def body(number: int) -> bytes:
    """A broadcast as `workflows` 3.5 sends it."""
    service = f"Service{number % 40}"
    sent = {"host": f"ac.site.node{number % 200}.{10_000 + number}", "service": service, "serviceclass": service}
    sent |= {"status": 4 if number % 3 else 2, "statustext": "processing", "tag": "mytag"}
    return json.dumps({**sent, "utilization": {"2": 0.25, "4": 0.75}, "workflows": "3.5", "zocalo": "1.6.0"}).encode()


def publish(port: int, rate: int, services: int) -> None:
    """Broadcast at a rate, in steps of 20 ms, until stdin closes; then print how many were sent in how long."""
    client = Client(port)
    bodies = [body(number) for number in range(services)]
    began, sent = time.monotonic(), 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        due = int((time.monotonic() - began) * rate)
        expires = int(time.time() * 1000) + 15_000
        head = f"SEND\ndestination:/topic/{TOPIC}\nexpires:{expires}\n".encode()
        frames = [
            b"%scontent-length:%d\n\n%s\0" % (head, len(text), text)
            for text in (bodies[number % services] for number in range(sent, due))
        ]
        client.write(b"".join(frames))
        sent = due
        time.sleep(0.02)
    print(json.dumps({"published/s": sent / (time.monotonic() - began)}))


def watch_raw(port: int) -> None:
    """The bare socket: parse, decode, remember."""
    client = Client(port)
    client.subscribe(f"/topic/{TOPIC}", 1000, "auto")
    known: dict[str, object] = {}
    while True:
        _command, headers, text = client.message()
        message = json.loads(text)
        known[message["host"]] = (headers["timestamp"], message)


def watch_board(port: int) -> None:
    """Ours, without a screen; a snapshot is taken four times a second, as a screen does."""
    from zoctools.board import StatusBoard
    from zoctools.listener import StatusListener

    board = StatusBoard()
    StatusListener(_transport(port), board, "bench").start()
    while True:
        time.sleep(0.25)
        board.snapshot()


def watch_screen(port: int) -> None:
    """Ours, with its screen."""
    from zoctools.tui.app import run_status

    run_status(_transport(port), "bench", "bench", None)


def _transport(port: int):  # type: ignore[no-untyped-def]
    from zoctools.settings import StompSettings
    from zoctools.transport.stomp import StompTransport

    return StompTransport(StompSettings((("127.0.0.1", port),), namespace="zocalo"))


def command(client: str, port: str) -> Sequence[str]:
    """The command line of a monitor."""
    if client == "workflows":
        return (str(peer_python()), str(HERE / "peer_status.py"), port)
    return (sys.executable, __file__, f"watch {client.removeprefix('zoctools ')}", port)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(client: str, port: str, rate: str, services: str, seconds: float) -> dict[str, float]:
    """Run publisher and monitor, and return the monitor's figures."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    said = bytearray()
    threading.Thread(target=_drain, args=(master, said), daemon=True).start()
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    monitor = subprocess.Popen(
        command(client, port), stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    source = subprocess.Popen(
        (sys.executable, __file__, "publish", port, rate, services), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        time.sleep(WARM_UP)
        before, began = cpu_seconds(monitor.pid), time.monotonic()
        time.sleep(seconds)
        used, took = cpu_seconds(monitor.pid) - before, time.monotonic() - began
        output, _ = source.communicate(b"stop", timeout=20)
        if monitor.poll() is not None:
            raise SystemExit(f"the monitor {client} ended: {bytes(said[-1000:]).decode(errors='replace')}")
        published = json.loads(output)["published/s"]
        return {"cpu us/status": 1e6 * used / (published * took), "cpu %": 100 * used / took, "published/s": published}
    finally:
        for process in (monitor, source):
            if process.poll() is None:
                process.kill()
            process.wait()
        os.close(slave)


def _drain(master: int, said: bytearray) -> None:
    """Read what the monitor writes, as a terminal does; the last of it is kept."""
    while True:
        try:
            said += os.read(master, 65_536)
        except OSError:
            return
        del said[:-10_000]


def main() -> None:
    what, port, *rest = sys.argv[1:]
    if what == "publish":
        publish(int(port), int(rest[0]), int(rest[1]))
    elif what.startswith("watch "):
        {"raw": watch_raw, "board": watch_board, "screen": watch_screen}[what.removeprefix("watch ")](int(port))
    else:
        print(json.dumps(measure(what, port, rest[0], rest[1], float(rest[2]))))


if __name__ == "__main__":
    main()
