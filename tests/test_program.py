"""Running a program: real children, real signals, and nothing of them left behind."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support.waiting import eventually
from zoctools import program
from zoctools.program import Output, Program, Unstartable


@pytest.fixture
def start(tmp_path):
    """Start a shell script as a program: ``start("echo hello")``; it is ended with the test."""
    started: list[Program] = []

    def starting(script: str, *, errors: bool = True, watch_for=(), limit: int = 10**9, **options) -> Program:
        outputs = [Output(tmp_path / name, watch_for, limit) for name in ("out", "err")[: 1 + errors]]
        options = {"directory": tmp_path, "environment": dict(os.environ), **options}
        running = Program(
            ["/bin/sh", "-c", script], output=outputs[0], errors=outputs[1] if errors else None, **options
        )
        running.outputs = outputs  # type: ignore[attr-defined]
        started.append(running)
        return running

    yield starting
    for running in started:
        running.end()


def gone(pid: int) -> bool:
    """Whether no process of this ID does anything any more."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def pid_in(path: Path) -> int:
    return int(eventually(lambda: path.exists() and path.read_text().strip()))


def test_output_and_errors_go_to_their_files(start, tmp_path):
    ended = start("echo one; echo two >&2; exit 3").wait()
    assert (ended.status, ended.exit_code) == (3, 3)
    assert (tmp_path / "out").read_text() == "one\n"
    assert (tmp_path / "err").read_text() == "two\n"
    assert str(ended).startswith("exit status 3 after")


def test_output_and_errors_may_share_a_file(start, tmp_path):
    start("echo one; echo two >&2; echo three", errors=False).wait()
    assert (tmp_path / "out").read_text() == "one\ntwo\nthree\n"


def test_the_program_has_nothing_to_read_and_a_group_of_its_own(start, tmp_path):
    running = start(
        "cat; ps -o pgid= -p $$; pwd; echo $COLOUR", environment={"COLOUR": "red", "PATH": os.environ["PATH"]}
    )
    assert running.wait().status == 0
    group, directory, colour = (tmp_path / "out").read_text().split()
    assert (int(group), directory, colour) == (running.pid, str(tmp_path), "red")


@pytest.mark.parametrize(
    ("words", "directory", "says"),
    [
        (["/no/such/program"], None, "No such file"),
        (["/etc/passwd"], None, "Permission denied"),
        (["/bin/sh"], "/no/such/directory", "No such file"),
        (["/bin/\0sh"], None, "null byte"),
        (["/bin/sh", "x" * 10_000_000], None, "too long"),
        (["esc\x1b[2J"], None, "No such file"),
    ],
)
def test_what_cannot_be_started_is_said_in_one_line(tmp_path, words, directory, says):
    output = Output(tmp_path / "out")
    with pytest.raises(Unstartable, match=says) as caught:
        Program(words, directory=Path(directory or tmp_path), environment={}, output=output)
    assert "\x1b" not in caught.value.message
    output.close()


def test_a_program_out_of_time_is_ended_with_all_it_started(start, tmp_path):
    running = start("sleep 600 & echo $! > child; echo begun; wait")
    child = pid_in(tmp_path / "child")
    ended = running.wait(timeout=0.5)
    assert ended.status is None
    assert ended.exit_code == 124
    assert str(ended).startswith("ran out of time after")
    assert gone(running.pid)
    eventually(lambda: gone(child))
    assert (tmp_path / "out").read_text() == "begun\n"


def test_a_program_that_ignores_sigterm_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "GRACE", 0.5)
    running = start("trap '' TERM; echo begun > begun; sleep 600 & sleep 600; sleep 600")
    eventually((tmp_path / "begun").exists)
    ended = running.end()
    assert ended.status == -signal.SIGKILL
    assert ended.exit_code == 137
    assert "SIGKILL" in str(ended)
    assert gone(running.pid)


def test_in_a_hurry_nobody_waits_for_a_program_that_ignores_sigterm(start, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "GRACE", 3600)
    running = start("trap '' TERM; echo begun > begun; while :; do sleep 1; done", hurry=lambda: True)
    eventually((tmp_path / "begun").exists)
    assert running.end().status == -signal.SIGKILL


def test_a_program_may_tidy_up_when_it_is_ended(start, tmp_path):
    running = start("trap 'echo tidied; exit 5' TERM; echo begun > begun; sleep 600 & wait")
    eventually((tmp_path / "begun").exists)
    assert running.end().status == 5
    assert (tmp_path / "out").read_text() == "tidied\n"


def test_what_a_program_leaves_running_is_ended_and_cannot_hold_us(start, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "LINGER", 0.3)
    running = start("(trap '' TERM; sleep 600; echo late) & echo $! > child; echo done")
    assert running.wait().status == 0
    child = pid_in(tmp_path / "child")
    eventually(lambda: gone(child))
    assert (tmp_path / "out").read_text() == "done\n"


def test_a_program_killed_by_somebody_else(start):
    running = start("kill -SEGV $$")
    ended = running.wait()
    assert (ended.status, ended.exit_code) == (-signal.SIGSEGV, 139)
    assert "SIGSEGV" in str(ended)


def test_ending_twice_gives_the_same_answer(start):
    running = start("exit 4")
    assert running.wait().status == running.end().status == running.end().status == 4


def test_a_flood_is_kept_up_to_the_limit_and_held_in_no_memory(start, tmp_path):
    running = start("head -c 50000000 /dev/zero | tr '\\0' 'x'; echo; echo the end", limit=1_000_000)
    assert running.wait().status == 0
    (output, _errors) = running.outputs
    assert (tmp_path / "out").stat().st_size == 1_000_000
    assert "was cut" in output.trouble
    assert output.tail().endswith("the end")
    assert len(output.tail()) < 20_000


def test_a_program_that_floods_for_ever_is_still_ended_in_time(start, tmp_path):
    running = start("yes", limit=1000)
    assert running.wait(timeout=1).status is None
    assert (tmp_path / "out").stat().st_size == 1000


def test_the_tail_is_short_and_safe_to_show(start):
    running = start(r"""i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done; printf '\033[2J\377\007 end\n'""")
    running.wait()
    lines = running.outputs[0].tail().splitlines()
    assert len(lines) == program.TAIL_LINES
    assert lines[-1] == r"\x1b[2J\xff\x07 end"


def test_texts_are_noticed_wherever_they_fall(tmp_path):
    output = Output(tmp_path / "out", ["Giving up", "né", "absent"])
    for byte in b"x" * 100 + "... Giving up, née".encode() + b"y" * 40_000:
        output.take(bytes([byte]))
    output.close()
    assert output.seen == {"Giving up", "né"}


def test_a_full_disk_loses_output_but_not_the_program(tmp_path):
    (tmp_path / "out").symlink_to("/dev/full")
    output = Output(tmp_path / "out", ["seen"])
    running = Program(["/bin/sh", "-c", "echo seen; exit 0"], directory=tmp_path, environment={}, output=output)
    assert running.wait().status == 0
    output.close()
    assert "No space left" in output.trouble
    assert output.seen == {"seen"}


def test_output_cut_short_by_a_limit_of_the_system_is_said(tmp_path):
    output = Output(tmp_path / "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        output.take(b"x" * 1500)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        output.close()
    assert "is not complete: File too large" in output.trouble


def test_an_exception_while_waiting_leaves_nothing_behind(tmp_path):
    """As a wrapper does it: whatever interrupts the waiting, the program is ended in the end."""
    script = (
        "import sys; from pathlib import Path; from zoctools.program import *\n"
        "running = Program(['/bin/sh', '-c', 'echo $$ > pid; sleep 600'], directory=Path('.'), environment={}, "
        "output=Output(Path('out')))\n"
        "try:\n    running.wait()\nfinally:\n    print(running.end().status)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    inner = pid_in(tmp_path / "pid")
    child.send_signal(signal.SIGINT)
    said, _errors = child.communicate(timeout=60)
    assert said.split() == [b"-15"]
    assert gone(inner)


def test_programs_can_be_run_from_threads(start):
    statuses: list[int | None] = []
    threads = [threading.Thread(target=lambda: statuses.append(start("exit 7").wait().status)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [7] * 4
