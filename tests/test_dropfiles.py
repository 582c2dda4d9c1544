"""Drop files: whole or not there, and never sent twice."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from zoctools import dropfiles
from zoctools.errors import BadFile, ConfigError
from zoctools.transport.contract import Destination
from zoctools.transport.memory import MemoryBroker, MemoryTransport

REQUEST = dropfiles.Request({"zocalo.go.user": "me"}, {"recipes": ["x"], "parameters": {"guid": "abc"}})


def connected(broker: MemoryBroker) -> MemoryTransport:
    transport = MemoryTransport(broker)
    transport.connect()
    return transport


def test_a_saved_request_is_read_back(tmp_path: Path) -> None:
    path = dropfiles.save(REQUEST, tmp_path)
    assert [path] == list(tmp_path.iterdir())
    assert path.read_text().endswith("}\n")
    assert json.loads(path.read_text()) == {"headers": dict(REQUEST.headers), "message": dict(REQUEST.message)}
    with dropfiles.claimed(path) as request:
        assert request == REQUEST
        assert (request.recipe_id, request.recipes) == ("abc", ("x",))


def test_where_files_cannot_be_nameless_a_hidden_name_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "O_TMPFILE", os.O_WRONLY | os.O_DIRECTORY)
    path = dropfiles.save(REQUEST, tmp_path)
    assert [path] == list(tmp_path.iterdir())
    assert json.loads(path.read_text())["message"]["recipes"] == ["x"]


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be saved"):
        dropfiles.save(REQUEST, tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot be read"):
        dropfiles.waiting(tmp_path / "missing")


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys; from pathlib import Path; from zoctools import dropfiles\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "request = dropfiles.Request({}, {'x': 'y' * 1000})\n"
        "try: dropfiles.save(request, Path(sys.argv[1]))\n"
        "except dropfiles.BadFile as error: raise SystemExit(7)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], timeout=60)
    assert done.returncode == 7
    assert list(tmp_path.iterdir()) == []


def test_waiting_gives_the_oldest_first_and_no_hidden_names(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "middle", "old", ".half-written")):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert [path.name for path in dropfiles.waiting(tmp_path)] == ["old", "middle", "new"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not-json"),
        (b'{"headers": {}, "mess', "not-json"),
        (b"\xff\xfe", "not-utf-8"),
        (b"[]", "not a saved request"),
        (b'{"headers": {}}', "not a saved request"),
        (b'{"headers": {}, "message": []}', "not a saved request"),
        (b'{"headers": [], "message": {}}', "'headers'"),
        (b'{"headers": {"a": 1}, "message": {}}', "'headers'"),
        (b"[" * 100_000, "nested too deep"),
    ],
)
def test_files_that_are_no_requests_are_skipped_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(dropfiles.Skipped, match=reason), dropfiles.claimed(path):
        pass
    assert path.exists()


def test_things_that_are_no_files_are_skipped(tmp_path: Path) -> None:
    real = dropfiles.save(REQUEST, tmp_path)
    (tmp_path / "link").symlink_to(real)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(5_000_000_000)
    for name, reason in (
        ("link", "symbolic link"),
        ("folder", "a directory"),
        ("pipe", "not a regular file"),
        ("huge", "larger than 16 MB"),
        ("missing", "sent or removed meanwhile"),
    ):
        with pytest.raises(dropfiles.Skipped, match=reason), dropfiles.claimed(tmp_path / name):
            pass


def test_a_claimed_file_is_not_given_to_another_process(tmp_path: Path) -> None:
    path = dropfiles.save(REQUEST, tmp_path)
    program = (
        "import sys; from pathlib import Path; from zoctools import dropfiles\n"
        "try:\n    with dropfiles.claimed(Path(sys.argv[1])): pass\n"
        "except dropfiles.Skipped as skipped: raise SystemExit(str(skipped))"
    )
    other = [sys.executable, "-c", program, str(path)]
    with dropfiles.claimed(path):
        done = subprocess.run(other, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr.strip()) == (1, "another pickup is sending it")
    assert subprocess.run(other, timeout=60).returncode == 0


def test_a_file_replaced_or_sent_while_we_waited_is_skipped(tmp_path: Path) -> None:
    path = dropfiles.save(REQUEST, tmp_path)
    broker = MemoryBroker()
    transport = connected(broker)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        with pytest.raises(dropfiles.Skipped, match="another pickup"):
            dropfiles.resend(path, transport)
    dropfiles.resend(path, transport)
    with pytest.raises(dropfiles.Skipped, match="sent or removed"):
        dropfiles.resend(path, transport)
    assert transport.browse(Destination.queue(dropfiles.QUEUE)).of == 1


def test_many_pickups_at_once_send_each_request_once(tmp_path: Path) -> None:
    broker = MemoryBroker()
    count = 40
    for number in range(count):
        dropfiles.save(dropfiles.Request({}, {"parameters": {"guid": f"id-{number}"}}), tmp_path)

    def work() -> None:
        transport = connected(broker)
        for path in dropfiles.waiting(tmp_path):
            try:
                dropfiles.resend(path, transport)
            except dropfiles.Skipped:
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = connected(broker).browse(Destination.queue(dropfiles.QUEUE)).messages
    assert sorted(json.loads(message.body)["parameters"]["guid"] for message in found) == sorted(
        f"id-{number}" for number in range(count)
    )
    assert list(tmp_path.iterdir()) == []


def test_headers_that_steer_the_broker_do_not_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    headers = {"zocalo.go.host": "h", "own": "kept", "transaction": "t", "receipt": "r", "AMQ_SCHEDULED_DELAY": "9"}
    path.write_text(json.dumps({"headers": headers, "message": {}}))
    with dropfiles.claimed(path) as request:
        assert request.headers == {"zocalo.go.host": "h", "own": "kept"}


def test_a_header_no_broker_carries_keeps_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps({"headers": {"bad\nname": "x"}, "message": {}}))
    with pytest.raises(dropfiles.Skipped, match="cannot be sent"):
        dropfiles.resend(path, connected(MemoryBroker()))
    assert path.exists()
