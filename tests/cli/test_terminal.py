"""The commands as somebody at a terminal meets them: Ctrl-C, questions, pipes, a broker that is away."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoctools import dropfiles

ZOC = [sys.executable, "-P", "-m", "zoctools"]


@dataclass
class Terminal:
    """A program on a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    said: bytes = b""

    def until(self, words: str, pressing: str = "", timeout: float = 60.0) -> None:
        """Read until it says `words`; press keys once a second meanwhile, as people do when nothing happens."""
        deadline = time.monotonic() + timeout
        pressed = 0.0
        while words.encode() not in self.said:
            now = time.monotonic()
            assert now < deadline, f"{words!r} not in {self.said!r}"
            if pressing and now > pressed + 1.0:
                self.type(pressing)
                pressed = now
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.said += os.read(self.master, 65536)
                except OSError as gone:
                    raise AssertionError(f"{words!r} not in {self.said!r}") from gone

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.master, text.encode())

    def ends(self) -> int:
        """Return its exit code."""
        return self.process.wait(60)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.master)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site whose broker is away, with one saved request."""
    (tmp_path / "drop").mkdir()
    dropfiles.save(dropfiles.Request({}, {"recipes": ["x"]}), tmp_path / "drop")
    path = tmp_path / "site.yml"
    path.write_text(
        "version: 1\nb: {plugin: stomp, host: 127.0.0.1, port: 1, username: '', password: '', prefix: zocalo}\n"
        f"s: {{plugin: storage, zocalo.go.fallback_location: {tmp_path}/drop}}\n"
        "environments: {default: live, live: [b, s], bare: [b]}\n"
    )
    return path


def on_terminal(terminals: list[Terminal], site: Path, *words: str) -> Terminal:
    master, slave = pty.openpty()
    environ = {**os.environ, "ZOCALO_CONFIG": str(site), "TERM": "xterm"}
    process = subprocess.Popen(
        [*ZOC, *words],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environ,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(slave)
    terminals.append(Terminal(process, master))
    return terminals[-1]


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def in_a_pipe(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "ZOCALO_CONFIG": str(site)}
    return subprocess.run(
        [*ZOC, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, timeout=60, check=False
    )


def test_ctrl_c_at_a_question(terminals: list[Terminal], site: Path) -> None:
    terminal = on_terminal(terminals, site, "pickup")
    terminal.until("send 1 saved request to default (127.0.0.1:1)?")
    terminal.until("zoc: interrupted", pressing="\x03")
    assert terminal.ends() == 130
    assert b"Traceback" not in terminal.said


def test_ctrl_c_while_waiting(terminals: list[Terminal], site: Path) -> None:
    terminal = on_terminal(terminals, site, "pickup", "--yes")
    terminal.until("waiting 1 m 00 s")
    terminal.until("zoc: interrupted", pressing="\x03")
    assert terminal.ends() == 130
    assert len(list((site.parent / "drop").iterdir())) == 1


def test_an_impatient_ctrl_c_shows_no_traceback(terminals: list[Terminal], site: Path) -> None:
    terminal = on_terminal(terminals, site, "pickup", "--yes")
    terminal.until("waiting 1 m 00 s")
    while terminal.process.poll() is None:
        terminal.type("\x03")
        if select.select([terminal.master], [], [], 0.01)[0]:
            with contextlib.suppress(OSError):
                terminal.said += os.read(terminal.master, 65536)
    assert terminal.ends() == 130
    assert b"Traceback" not in terminal.said


def test_no_at_a_question_changes_nothing(terminals: list[Terminal], site: Path) -> None:
    terminal = on_terminal(terminals, site, "pickup")
    terminal.until("[y/N]")
    terminal.type("n\n")
    terminal.until("zoc: nothing was changed")
    assert terminal.ends() == 1


def test_an_interrupt_without_a_terminal(site: Path) -> None:
    process = subprocess.Popen(
        [*ZOC, "pickup", "--yes"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ZOCALO_CONFIG": str(site)},
        start_new_session=True,
    )
    assert process.stderr is not None
    while "waiting" not in (line := process.stderr.readline()):
        assert line, "it ended before it waited"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert (process.returncode, said) == (130, "zoc: interrupted\n")


def test_tables_on_a_terminal_have_a_bold_title_and_nothing_else(terminals: list[Terminal], site: Path) -> None:
    terminal = on_terminal(terminals, site, "config", "show")
    terminal.until("storage.zocalo.go.fallback_location")
    assert b"\x1b[1mKEY" in terminal.said
    assert "\x1b" not in in_a_pipe(site, "config", "show").stdout
    assert "\x1b[1mKEY" in in_a_pipe(site, "config", "show", "--color", "always").stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["go", "-r", "x", "42"], 3),
        (["go", "-e", "bare", "-r", "x", "42"], 4),
        (["go", "--dry-run", "-r", "x", "42"], 4),
        (["pickup", "--yes", "--wait", "0"], 4),
        (["shutdown", "a.1"], 4),
        (["shutdown", "-s", "X", "--yes", "--wait"], 4),
    ],
)
def test_a_broker_that_is_away(site: Path, words: list[str], code: int) -> None:
    done = in_a_pipe(site, *words)
    assert done.returncode == code, done.stderr
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == (1 if code == 3 else 0)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["config", "show"], 0),
        (["config", "check"], 0),
        (["go", "--drop", "-r", "x", "42"], 0),
        (["go", "-r", "x", "42"], 3),
        (["pickup", "--dry-run"], 0),
    ],
)
def test_json_in_a_pipe_is_one_object(site: Path, words: list[str], code: int) -> None:
    site.chmod(0o600)
    done = in_a_pipe(site, *words, "--json")
    assert done.returncode == code, done.stderr
    assert list(json.loads(done.stdout)) == ["schema", "taken_at", "complete", "items"]


def test_a_script_gets_the_recipe_id_through_a_pipe(site: Path) -> None:
    script = f'set -o pipefail; id=$({" ".join(ZOC)} go --drop -r x 42 2>/dev/null | cat) && echo "[$id]"'
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "ZOCALO_CONFIG": str(site)},
        timeout=60,
    )
    assert done.returncode == 0
    assert len(done.stdout.strip()) == 38
