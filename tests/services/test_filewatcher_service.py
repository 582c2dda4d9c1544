import itertools
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zocservices import filewatcher
from zocservices.filewatcher import FileWatcher
from zocservices.watch import STATUS, Announcements, is_selected
from zoctools import testing
from zoctools.testing import Harness, Outcome

OUTPUTS = ("first", "every", "last", "any", "timeout", "error", "finally")


def run(payload: Any = None, *, output: Any = None, parameters: dict[str, Any]) -> Outcome:
    """Have one message handled, at a node with these outputs; with all the usual ones when none are named."""
    node = {"output": dict.fromkeys(OUTPUTS, 2) if output is None else output}
    return testing.run(FileWatcher, payload, node=node, parameters=parameters)


def watching(parameters: dict[str, Any], output: Any) -> Harness:
    """Give a file watcher one message whose checkpoints come back to it."""
    harness = Harness(FileWatcher)
    harness.put(parameters=parameters, node={"queue": "filewatcher", "output": output})
    return harness


def pattern(directory: Path, first: int, last: int, **more: Any) -> dict[str, Any]:
    return {"pattern": f"{directory}/img_%05d.cbf", "pattern-start": str(first), "pattern-end": str(last), **more}


def make(directory: Path, *numbers: int) -> None:
    for number in numbers:
        (directory / f"img_{number:05d}.cbf").touch()


def to(outcome: Outcome, output: str) -> list[Any]:
    return [sent.payload for sent in outcome.sent if sent.to == output]


def without_time(payload: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in payload.items() if key != "file-seen-at"}


def checkpoint(**changes: Any) -> dict[str, Any]:
    return {STATUS: {"seen-files": 0, "start-time": time.time(), **changes}}


def test_files_of_a_pattern_are_announced_with_these_payloads(tmp_path: Path) -> None:
    make(tmp_path, 5, 6, 7)
    before = time.time()
    outcome = run(parameters=pattern(tmp_path, 5, 7))
    assert outcome.ending == "done"
    first, second, third = to(outcome, "every")
    assert list(first) == ["file", "file-number", "file-pattern-index", "file-seen-at"]
    assert without_time(second) == {"file": f"{tmp_path}/img_00006.cbf", "file-number": 2, "file-pattern-index": 6}
    assert before <= first["file-seen-at"] <= time.time()
    assert to(outcome, "first") == [first]
    assert to(outcome, "last") == [third]
    assert to(outcome, "any") == [{"files-expected": 3, "files-seen": 3}]
    assert to(outcome, "finally") == [{"files-expected": 3, "files-seen": 3, "success": True}]
    assert {sent.to for sent in outcome.sent} == {"every", "first", "last", "any", "finally"}


def test_files_of_a_list_are_announced_with_these_payloads(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    files = [f"{tmp_path}/img_00001.cbf", f"{tmp_path}/img_00002.cbf"]
    outcome = run(parameters={"list": files})
    first, second = to(outcome, "every")
    assert list(first) == ["file", "file-list-index", "file-seen-at"]
    assert without_time(second) == {"file": files[1], "file-list-index": 2}
    assert to(outcome, "finally") == [{"files-expected": 2, "files-seen": 2, "success": True}]


def test_numbered_selected_and_periodic_outputs(tmp_path: Path) -> None:
    make(tmp_path, *range(1, 11))
    output = {"4": 2, "select-3": 3, "every-4": 4, "select-1": 5, "every-1": 6, "11": 7, "first": []}
    outcome = run(output=output, parameters=pattern(tmp_path, 1, 10))
    announced = {name: [payload["file-number"] for payload in to(outcome, name)] for name in output}
    assert announced == {
        "4": [4],
        "select-3": [1, 6, 10],
        "every-4": [1, 5, 9],
        "select-1": [10],
        "every-1": list(range(1, 11)),
        "11": [],
        "first": [],
    }


def test_a_node_that_wants_nothing_is_sent_nothing(tmp_path: Path) -> None:
    make(tmp_path, 1)
    for output in ({}, 2, [2, 3]):
        assert run(output=output, parameters=pattern(tmp_path, 1, 1)).sent == []


@pytest.mark.parametrize(
    ("wanted", "total", "chosen"),
    [(3, 10, [1, 6, 10]), (5, 100, [1, 26, 51, 76, 100]), (1, 10, [10]), (1, 1, [1]), (5, 3, [1, 2, 3])],
)
def test_the_selection_of_the_existing_file_watcher(wanted: int, total: int, chosen: list[int]) -> None:
    assert [number for number in range(1, total + 1) if is_selected(number, wanted, total)] == chosen


@settings(derandomize=True, deadline=None, max_examples=300)
@given(total=st.integers(1, 400), wanted=st.integers(1, 60))
def test_a_selection_is_of_the_size_asked_for_even_and_ends_with_the_last(total: int, wanted: int) -> None:
    chosen = [number for number in range(1, total + 1) if is_selected(number, wanted, total)]
    assert chosen[-1] == total
    assert len(chosen) == min(wanted, total)
    if 1 < wanted < total:
        steps = {after - before for before, after in itertools.pairwise(chosen)}
        assert chosen[0] == 1
        assert max(steps) - min(steps) <= 1


@settings(derandomize=True, deadline=None)
@given(total=st.integers(1, 300), period=st.integers(1, 50))
def test_a_period_begins_with_the_first(total: int, period: int) -> None:
    announcements = Announcements({f"every-{period}": [2]}, total)
    assert [number for number in range(1, total + 1) if any(announcements.of(number))] == [*range(1, total + 1, period)]


def test_a_gap_blocks_and_the_pass_ends_with_a_checkpoint(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 4)
    outcome = run(parameters=pattern(tmp_path, 1, 4))
    assert [payload["file-number"] for payload in to(outcome, "every")] == [1, 2]
    assert to(outcome, "finally") == []
    (kept,) = [sent for sent in outcome.sent if sent.to == "checkpoint"]
    status = kept.payload[STATUS]
    assert status["seen-files"] == 2
    assert status["start-time"] <= status["last-seen"] <= time.time()
    assert kept.delay == 0


def test_a_pass_that_finds_nothing_comes_back_after_a_second_or_the_burst_wait(tmp_path: Path) -> None:
    for wait, delay in ((None, 1.0), (0.2, 1.0), ("20", 20.0)):
        parameters = pattern(tmp_path, 1, 2, **({} if wait is None else {"burst-wait": wait}))
        (sent,) = run(parameters=parameters).sent
        assert (sent.to, sent.delay) == ("checkpoint", delay)
        assert set(sent.payload[STATUS]) == {"seen-files", "start-time"}


def test_a_watch_goes_on_where_the_existing_file_watcher_left_it(tmp_path: Path) -> None:
    make(tmp_path, 1, 2, 3, 4)
    status = checkpoint(**{"seen-files": 2, "start-time": 1.5, "last-seen": time.time(), "image-count": None})
    outcome = run(status, parameters=pattern(tmp_path, 1, 9))
    assert [payload["file-number"] for payload in to(outcome, "every")] == [3, 4]
    (kept,) = to(outcome, "checkpoint")
    assert kept[STATUS]["start-time"] == 1.5
    assert kept[STATUS]["image-count"] is None


def test_a_burst_is_limited_and_goes_on_at_once(tmp_path: Path) -> None:
    make(tmp_path, *range(1, 8))
    harness = watching(pattern(tmp_path, 1, 7, **{"burst-limit": "3"}), {"every": 2})
    harness.settle()
    assert [len(to(outcome, "every")) for outcome in harness.outcomes] == [3, 3, 1]
    assert [payload["file-number"] for payload in harness.messages("node-2")] == [*range(1, 8)]


def test_one_settle_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filewatcher, "MOST_MESSAGES", 10)
    make(tmp_path, *range(1, 31))
    harness = watching(pattern(tmp_path, 1, 30, **{"burst-limit": 1000}), {"every": 2, "every-2": 2})
    harness.settle()
    assert all(len(outcome.sent) <= 13 for outcome in harness.outcomes)
    assert [payload["file-number"] for payload in harness.messages("node-2")] == [
        number for n in range(1, 31) for number in ([n, n] if n % 2 else [n])
    ]


def test_files_that_appear_later_are_seen_in_time(tmp_path: Path) -> None:
    harness = watching(pattern(tmp_path, 1, 2), {"finally": 2})
    harness.advance(5)
    assert harness.messages("node-2") == []
    make(tmp_path, 1, 2)
    harness.advance(5)
    assert harness.messages("node-2") == [{"files-expected": 2, "files-seen": 2, "success": True}]
    assert len(harness.outcomes) == 7


def test_the_first_file_and_later_ones_have_their_own_timeouts(tmp_path: Path) -> None:
    now = time.time()
    times = {"timeout": 100, "timeout-first": "500"}
    waiting = run(checkpoint(**{"start-time": now - 400}), parameters=pattern(tmp_path, 1, 3, **times))
    assert [sent.to for sent in waiting.sent] == ["checkpoint"]
    over = run(checkpoint(**{"start-time": now - 501}), parameters=pattern(tmp_path, 1, 3, **times))
    missing = {"file": f"{tmp_path}/img_00001.cbf", "file-number": 1, "file-pattern-index": 1, "success": False}
    assert [(sent.to, sent.payload) for sent in over.sent] == [
        ("timeout", missing),
        ("finally", {"files-expected": 3, "files-seen": 0, "success": False}),
    ]
    status = checkpoint(**{"start-time": now - 10_000, "seen-files": 1, "last-seen": now - 101})
    later = run(status, parameters=pattern(tmp_path, 1, 3, **times))
    assert [sent.to for sent in later.sent] == ["timeout", "any", "finally"]
    assert later.sent[0].payload["file-number"] == 2
    assert later.sent[1].payload == {"files-expected": 3, "files-seen": 1}


def test_a_timeout_in_a_list_names_the_entry(tmp_path: Path) -> None:
    outcome = run(checkpoint(**{"start-time": 0}), parameters={"list": ["/none/x"], "timeout": 5})
    assert to(outcome, "timeout") == [{"file": "/none/x", "file-list-index": 1, "success": False}]


def test_a_timeout_is_a_warning_unless_the_recipe_says_it_is_normal(tmp_path: Path) -> None:
    for flag, level in ((False, logging.WARNING), (True, logging.INFO)):
        parameters = pattern(tmp_path, 1, 3, **{"log-timeout-as-info": flag})
        outcome = run(checkpoint(**{"start-time": 0}), parameters=parameters)
        assert [record.levelno for record in outcome.log if "timed out" in record.getMessage()] == [level]


def test_a_host_whose_clock_is_ahead_makes_no_time_negative(tmp_path: Path) -> None:
    make(tmp_path, 1)
    status = checkpoint(**{"start-time": time.time() + 5000})
    outcome = run(status, parameters=pattern(tmp_path, 1, 1))
    (record,) = [record for record in outcome.log if "found" in record.getMessage()]
    assert record.__dict__["delay"] == 0.0
    future = checkpoint(**{"start-time": time.time() + 5000})
    assert [sent.to for sent in run(future, parameters=pattern(tmp_path, 2, 2)).sent] == ["checkpoint"]


def test_a_list_of_nothing_is_a_success() -> None:
    for listed in ([None], []):
        outcome = run(parameters={"list": listed})
        assert [tuple(sent) for sent in outcome.sent] == [
            ("finally", {"files-expected": 0, "files-seen": 0, "success": True}, None)
        ]


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_entry_ends_the_watch_with_an_error(tmp_path: Path, nothing: object) -> None:
    make(tmp_path, 1, 2)
    files = [f"{tmp_path}/img_00001.cbf", nothing, f"{tmp_path}/img_00002.cbf"]
    outcome = run(parameters={"list": files})
    assert to(outcome, "error") == [{"file": nothing, "file-list-index": 2, "success": False}]
    assert to(outcome, "any") == [{"files-expected": 3, "files-seen": 1}]
    assert to(outcome, "finally") == [{"files-expected": 3, "files-seen": 1, "success": False}]
    first = run(parameters={"list": [nothing, "/none"]})
    assert [sent.to for sent in first.sent] == ["error", "finally"]


def test_a_dangling_link_is_not_there_and_an_empty_file_is(tmp_path: Path) -> None:
    (tmp_path / "img_00001.cbf").touch()
    (tmp_path / "img_00002.cbf").symlink_to("nowhere")
    outcome = run(parameters=pattern(tmp_path, 1, 2))
    assert len(to(outcome, "every")) == 1


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "nothing to watch"),
        ({"pattern": ""}, "nothing to watch"),
        ({"hdf5": "/x.h5"}, "HDF5"),
        ({"pattern": "/x.cbf", "pattern-start": 1, "pattern-end": 2}, "places for the number"),
        ({"pattern": "/x%s%s", "pattern-start": 1, "pattern-end": 2}, "pattern has a %"),
        ({"pattern": "/x%0999999999d", "pattern-start": 1, "pattern-end": 2}, "pattern has a %"),
        ({"pattern": 5, "pattern-start": 1, "pattern-end": 2}, "pattern is missing or not text"),
        ({"pattern": "/x%d", "pattern-start": 3, "pattern-end": 2}, "pattern-start is 3"),
        ({"pattern": "/x%d", "pattern-start": 1, "pattern-end": 10**9}, "1000000000 files"),
        ({"pattern": "/x%d", "pattern-start": None, "pattern-end": 2}, "pattern-start is not a whole number"),
        ({"pattern": "/x%d", "pattern-end": 2}, "pattern-start is missing"),
        ({"pattern": "/x%d", "pattern-start": "{first}", "pattern-end": 2}, "pattern-start is not a whole number"),
        ({"list": "/x"}, "list is not a list"),
        ({"list": {"a": 1}}, "list is not a list"),
        ({"list": ["/x", 5]}, "entry 2 is not text"),
        ({"list": ["x"]}, "entry 1 is not an absolute path"),
        ({"list": ["/x"], "timeout": "soon"}, "timeout is not a number"),
        ({"list": ["/x"], "timeout": -1}, "timeout is not a number"),
        ({"list": ["/x"], "timeout-first": [1]}, "timeout-first is not a number"),
        ({"list": ["/x"], "burst-limit": 0}, "burst-limit is not a number"),
        ({"list": ["/x"], "burst-limit": True}, "burst-limit is not a number"),
        ({"list": ["/x"], "burst-wait": "nan"}, "burst-wait is not a number"),
    ],
)
def test_what_cannot_be_watched_is_rejected_with_a_sentence(parameters: dict[str, Any], words: str) -> None:
    outcome = run(parameters=parameters)
    assert outcome.ending == "reject"
    assert words in outcome.error


@pytest.mark.parametrize("output", ["every-0", "every-", "every-x", "select-0", "select--1", "select-1.5"])
def test_outputs_that_name_no_number_are_rejected(output: str) -> None:
    outcome = run(output={output: 2}, parameters={"list": ["/none/x"]})
    assert outcome.ending == "reject"
    assert output in outcome.error


@pytest.mark.parametrize(
    "status",
    [
        [],
        "x",
        {"seen-files": -1},
        {"seen-files": 5},
        {"seen-files": "1"},
        {"seen-files": True},
        {"start-time": None},
        {"start-time": "0"},
        {"start-time": float("nan")},
        {"last-seen": [0]},
    ],
)
def test_a_checkpoint_that_cannot_be_is_rejected(status: object) -> None:
    outcome = run({STATUS: status}, parameters={"list": ["/none/x"]})
    assert (outcome.ending, STATUS in outcome.error) == ("reject", True)


@pytest.mark.parametrize("payload", [None, [], "x", 5, {}, {STATUS: None}])
def test_any_other_payload_begins_a_watch(payload: object) -> None:
    assert [sent.to for sent in run(payload, parameters={"list": ["/none/x"]}).sent] == ["checkpoint"]


def test_parameters_the_recipe_left_open_have_their_defaults(tmp_path: Path) -> None:
    parameters = pattern(tmp_path, 1, 1, **{"timeout": None, "burst-wait": "None", "burst-limit": ""})
    assert [sent.delay for sent in run(parameters=parameters).sent] == [1.0]


def test_a_pass_says_what_the_file_system_was_like(tmp_path: Path) -> None:
    make(tmp_path, 1, 2)
    outcome = run(parameters=pattern(tmp_path, 1, 2, **{"expected-per-image-delay": "0.0"}))
    (record,) = [record.__dict__ for record in outcome.log if "found" in record.getMessage()]
    assert record["stat-time-max"] >= record["stat-time-mean"] > 0
    assert record["slowest-call"].startswith(("stat /", "list /"))
    assert record["files-late-max"] >= record["files-late-min"] >= 0
    assert tmp_path.is_relative_to(record["files-root"])
    assert record["unexpected_delay"] == record["delay"]


def test_nonsense_for_the_expected_delay_is_ignored(tmp_path: Path) -> None:
    make(tmp_path, 1)
    outcome = run(parameters=pattern(tmp_path, 1, 1, **{"expected-per-image-delay": "None"}))
    assert outcome.ending == "done"


def test_names_that_could_harm_a_terminal_are_announced_exactly_and_logged_harmlessly(tmp_path: Path) -> None:
    file = tmp_path / "x\x1b]0;pwn\x07"
    file.touch()
    outcome = run(parameters={"list": [str(file)]})
    assert to(outcome, "every")[0]["file"] == str(file)
    assert all("\x1b" not in words for words in outcome.words if "found" in words)


def test_why_a_file_cannot_be_seen_is_logged(tmp_path: Path) -> None:
    (tmp_path / "img_00001.cbf").symlink_to("img_00001.cbf")
    outcome = run(checkpoint(**{"start-time": 0}), parameters=pattern(tmp_path, 1, 1))
    assert any("symbolic links" in words for words in outcome.words)


def test_while_a_file_system_hangs_the_status_says_so_and_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zocservices.filesystem.NOTICE_AFTER", 0.0)
    monkeypatch.setattr("zocservices.filesystem._LOOK_EVERY", 0.01)
    monkeypatch.setattr(filewatcher, "PATIENCE", 0.05)
    monkeypatch.setattr(filewatcher, "mount_point", lambda path: path[:2])
    make(tmp_path, 1)
    back = threading.Event()
    stat = filewatcher.Calls.status

    def hang(calls: Any, path: str) -> Any:
        return calls.make("stat", lambda _: back.wait(60), path) if path.startswith("/h") else stat(calls, path)

    monkeypatch.setattr(filewatcher.Calls, "status", hang)
    harness = Harness(FileWatcher)
    try:
        harness.put(parameters={"list": ["/hung/x"]})
        harness.settle()
        assert harness.outcomes[0].ending == "retry"
        assert "file system /h does not answer: stat /hung/x" in harness.outcomes[0].error
        assert "stat /hung/x" in harness.vitals.waiting_for
        harness.put(parameters=pattern(tmp_path, 1, 1))
        harness.settle()
        assert harness.outcomes[1].ending == "done"
        assert "stat /hung/x" in harness.vitals.waiting_for
    finally:
        back.set()
