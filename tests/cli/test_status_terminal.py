"""`zoc status` as a program: on a terminal, in a pipe, and beside a real broker."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.activemq import ActiveMQ, free_port
from support.fakestatus import AWKWARD, HOSTILE, our_service, publish, workflows_service, wrapper_task
from zoctools.errors import LinkLost
from zoctools.settings import StompSettings
from zoctools.transport.stomp import StompTransport

ZOC = (sys.executable, "-m", "zoctools")
LEAVE_SCREEN = b"\x1b[?1049l"
ENTER_SCREEN = b"\x1b[?1049h"


def site(folder: Path, port: int) -> dict[str, str]:
    """Environment variables of a site whose broker is on this port."""
    file = folder / "site.yml"
    stomp = {"plugin": "stomp", "host": "127.0.0.1", "port": port, "username": "", "password": "", "prefix": "shown"}
    file.write_text(
        json.dumps({"version": 1, "broker": stomp, "environments": {"live": ["broker"], "default": "live"}})
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZOC", "TEXTUAL", "NO_COLOR"))}
    return {**kept, "ZOCALO_CONFIG": str(file), "TERM": "xterm-256color", "TEXTUAL_ANIMATIONS": "none"}


@pytest.fixture
def busy_site(activemq: ActiveMQ, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A site whose services speak all the time, among rubbish."""
    settings = StompSettings((("127.0.0.1", activemq.stomp_port),), namespace="shown")
    transport = StompTransport(settings)
    transport.connect()
    stop = threading.Event()

    def repeat() -> None:
        with contextlib.suppress(LinkLost):
            while not stop.wait(0.1):
                publish(transport, workflows_service(), wrapper_task(), our_service(), *HOSTILE, *AWKWARD)

    thread = threading.Thread(target=repeat)
    thread.start()
    yield site(tmp_path, activemq.stomp_port)
    stop.set()
    thread.join()
    transport.close()


class Terminal:
    """A program on a pseudo terminal, and every byte it wrote there."""

    def __init__(self, words: tuple[str, ...], environment: dict[str, str]) -> None:
        self.written = b""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def read_until(self, wanted: bytes, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while wanted not in self.written:
            assert time.monotonic() < deadline, self.written[-2000:]
            if not self.read():
                break
        assert wanted in self.written, self.written[-2000:]

    def read(self) -> bool:
        """Take what is there; returns whether the other end is still open."""
        if not select.select([self.master], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.master, 65_536)
        except OSError:
            return False
        self.written += data
        return bool(data)

    def ends(self, seconds: float = 30.0) -> int:
        deadline = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
        while self.read() and select.select([self.master], [], [], 0)[0]:
            pass
        return self.process.wait(1)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(busy_site: dict[str, str]) -> Iterator[Terminal]:
    """The live screen on a terminal of 80 by 24, with rows on it."""
    shown = Terminal((*ZOC, "status"), busy_site)
    try:
        shown.read_until(b"Dispatcher")
        yield shown
    finally:
        shown.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_the_terminal_as_it_was(terminal: Terminal, number: signal.Signals) -> None:
    terminal.process.send_signal(number)
    assert terminal.ends() == 128 + number
    assert terminal.written.rindex(LEAVE_SCREEN) > terminal.written.rindex(ENTER_SCREEN)


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_one_key_leaves(terminal: Terminal, key: bytes) -> None:
    terminal.type(key)
    assert terminal.ends() == 0
    assert LEAVE_SCREEN in terminal.written


def test_it_ends_with_its_terminal(busy_site: dict[str, str]) -> None:
    shown = Terminal((*ZOC, "status"), busy_site)
    try:
        shown.read_until(b"Dispatcher")
    finally:
        os.close(shown.master)
        try:
            assert shown.process.wait(60) == 128 + signal.SIGHUP
        finally:
            shown.process.kill()
            shown.process.wait()


def test_no_byte_of_a_hostile_name_reaches_the_terminal(terminal: Terminal) -> None:
    terminal.read_until(b"\\x1b]0;pwn")
    terminal.type(b"\r")
    terminal.read_until(b"for the first time")
    terminal.type(b"q")
    terminal.ends()
    for attack in (b"\x1b]0;pwn", b"\x1b[2J\r\n", b"\xc2\x9b31m", b"\x1b]52", "\u202e".encode()):
        assert attack not in terminal.written, attack


def test_a_broker_that_is_not_there_is_waited_for_in_sight(tmp_path: Path) -> None:
    shown = Terminal((*ZOC, "status"), site(tmp_path, free_port()))
    try:
        shown.read_until(b"Connecting to 127.0.0.1")
        shown.read_until(b"next try in")
        shown.type(b"q")
        assert shown.ends() == 0
    finally:
        shown.close()


def test_a_broker_that_goes_away_is_waited_for_in_sight(
    private_activemq: Callable[..., ActiveMQ], tmp_path: Path
) -> None:
    broker = private_activemq("minimal")
    shown = Terminal((*ZOC, "status"), site(tmp_path, broker.stomp_port))
    try:
        shown.read_until(b"Nobody has spoken yet")
        broker.kill()
        shown.read_until(b"OUR LINK IS DOWN")
        shown.written = b""
        broker.restart()
        shown.read_until(b"Nobody has spoken yet")
        shown.type(b"q")
        assert shown.ends() == 0
        assert b"was lost" not in shown.written
    finally:
        shown.close()


def test_a_dumb_terminal_gets_the_table_instead(busy_site: dict[str, str]) -> None:
    shown = Terminal((*ZOC, "status"), {**busy_site, "TERM": "dumb"})
    try:
        shown.read_until(b"cannot show the screen")
        assert shown.ends(60) == 0
    finally:
        shown.close()
    assert b"Dispatcher" in shown.written
    assert b"\x1b" not in shown.written


def test_once_beside_a_real_broker(busy_site: dict[str, str]) -> None:
    done = subprocess.run((*ZOC, "status", "--listen", "2"), env=busy_site, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["Dispatcher", "node7.2245", "processing"] in [row[:3] for row in rows]
    assert ["dummy", "vm.2569", "processing"] in [row[:3] for row in rows]
    assert "malformed broadcasts left out" in done.stderr


def test_a_pipe_that_closes_is_no_complaint(busy_site: dict[str, str]) -> None:
    stream = subprocess.Popen(
        (*ZOC, "status", "--ndjson"),
        env=busy_site,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert stream.stdout is not None and stream.stderr is not None
    try:
        assert "event" in json.loads(stream.stdout.readline())
        stream.stdout.close()
        assert stream.wait(30) == 141
        assert stream.stderr.read() == b""
    finally:
        if stream.poll() is None:
            stream.kill()
            stream.wait()
        stream.stderr.close()


def test_nobody_there_is_one_line_and_code_4(tmp_path: Path) -> None:
    environment = site(tmp_path, free_port())
    done = subprocess.run((*ZOC, "status", "--once"), env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (4, "")
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr
