"""Children are started, restarted, ended, and never left behind. Real processes; no broker."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from support.waiting import eventually
from zoctools.service import children
from zoctools.service.children import Plan, Supervisor, exit_code, pause, told

PYTHON = sys.executable


def plan(script, *arguments, **options):
    return Plan(
        lambda number, again: [PYTHON, "-c", script, *arguments, str(number), str(again)], os.environ, **options
    )


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(("deaths", "seconds"), [(1, 0.1), (2, 0.2), (3, 0.4), (6, 3.2), (7, 5.0), (10_000, 5.0)])
def test_the_pause_doubles_up_to_five_seconds(deaths, seconds):
    assert pause(deaths) == pytest.approx(seconds)


def test_how_a_child_ended_in_words():
    assert told(3) == "exit code 3"
    assert told(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert told(-200) == "killed by signal 200"
    assert exit_code(-signal.SIGKILL) == 137


@pytest.mark.parametrize(("codes", "result"), [("0 0", 0), ("0 7", 7), ("4 0", 4)])
def test_the_exit_code_is_that_of_the_first_child_that_failed(codes, result):
    script = "import sys; sys.exit(int(sys.argv[1].split()[int(sys.argv[2])]))"
    assert Supervisor(plan(script, codes, instances=2)).run() == result


def test_a_child_killed_by_a_signal_is_told_as_a_shell_does():
    assert Supervisor(plan("import os; os.kill(os.getpid(), 9)")).run() == 137


@pytest.mark.parametrize("code", [0, 2, 4])
def test_ends_that_a_restart_would_only_repeat_are_final(code, tmp_path):
    script = "import sys, pathlib; pathlib.Path(sys.argv[1]).open('a').write('x'); sys.exit(int(sys.argv[2]))"
    starts = tmp_path / "starts"
    assert Supervisor(plan(script, str(starts), str(code), restart=True)).run() == code
    assert starts.read_text() == "x"


def test_a_child_that_dies_is_started_again_and_the_world_is_told(tmp_path):
    script = """
import os, pathlib, sys
starts = pathlib.Path(sys.argv[1])
starts.open("a").write(sys.argv[3] + " ")
if len(starts.read_text().split()) < 3:
    os.kill(os.getpid(), 11)
"""
    words = []
    starts = tmp_path / "starts"
    assert Supervisor(plan(script, str(starts), restart=True), words.append).run() == 0
    assert starts.read_text() == "False True True "
    assert len(words) == 2
    assert "killed by SIGSEGV; started again in" in words[0]


SLEEPER = """
import os, pathlib, signal, sys, time
def leave(number, frame):
    if "stubborn" not in sys.argv[1]:
        sys.exit(0)
signal.signal(signal.SIGTERM, leave)
pathlib.Path(sys.argv[1], sys.argv[2]).write_text(str(os.getpid()))
while True:
    time.sleep(0.05)
"""


def _run_with_signals(directory, send, instances=2):
    """Run sleepers and call `send` from another thread once they are there."""

    def when_ready():
        eventually(lambda: len(list(directory.iterdir())) == instances)
        eventually(lambda: all(path.read_text() for path in directory.iterdir()))
        send()

    thread = threading.Thread(target=when_ready)
    thread.start()
    try:
        return Supervisor(plan(SLEEPER, str(directory), instances=instances, restart=True)).run()
    finally:
        thread.join()
        assert not any(alive(int(path.read_text())) for path in directory.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_all_is_well(number, tmp_path):
    assert _run_with_signals(tmp_path, lambda: os.kill(os.getpid(), number)) == 0


def test_a_second_signal_within_a_second_is_the_same_request(tmp_path):
    supervisor = Supervisor(plan(SLEEPER, str(tmp_path)))
    supervisor._on_signal(15, None)
    supervisor._on_signal(15, None)
    assert supervisor._asks == 1


def test_no_child_is_left_when_the_parent_itself_fails(tmp_path, monkeypatch):
    def fail(waking, patience):
        eventually(lambda: len(list(tmp_path.iterdir())) == 2 and all(p.read_text() for p in tmp_path.iterdir()))
        raise RuntimeError("in the parent")

    monkeypatch.setattr(children, "_drain", fail)
    with pytest.raises(RuntimeError):
        Supervisor(plan(SLEEPER, str(tmp_path), instances=2)).run()
    assert not any(alive(int(path.read_text())) for path in tmp_path.iterdir())


def test_handlers_of_signals_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    Supervisor(plan("")).run()
    assert signal.getsignal(signal.SIGTERM) is before
