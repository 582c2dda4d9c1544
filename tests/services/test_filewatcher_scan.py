import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zocservices import filescan
from zocservices.filescan import LISTING_LIFE, MOST_CALLS, Scanner
from zocservices.filesystem import Calls, FileSystems, Hanging, mount_point
from zocservices.pattern import Pattern
from zocservices.watch import ListedFiles, NumberedFiles


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def numbered(directory: Path, last: int, name: str = "img_%05d.cbf") -> NumberedFiles:
    pattern = {"pattern": f"{directory}/{name}", "pattern-start": 1, "pattern-end": last}
    return NumberedFiles(Pattern.from_parameters(pattern))


def make(directory: Path, numbers: range) -> None:
    for number in numbers:
        (directory / f"img_{number:05d}.cbf").touch()


def naive(paths: list[str]) -> int:
    """What the look is measured against: one question for each file, in order."""
    return next((index for index, path in enumerate(paths) if not Path(path).is_file()), len(paths))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data())
def test_any_look_finds_what_asking_one_by_one_finds(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("scan")
    total = data.draw(st.integers(1, 120))
    kinds = data.draw(
        st.lists(st.sampled_from("ffffffffffffffffffff-ldn"), min_size=total, max_size=total), label="what is there"
    )
    folders = data.draw(st.sampled_from([("a",), ("a", "b"), tuple("abcdefg")]))
    paths = []
    for number, kind in enumerate(kinds):
        folder = root / folders[number % len(folders)]
        folder.mkdir(exist_ok=True)
        path = folder / f"f%{number}"
        paths.append(str(path))
        if kind == "f":
            path.touch()
        elif kind == "l":
            (folder / "real").touch()
            path.symlink_to("real")
        elif kind == "n":
            path.symlink_to("nowhere")
        elif kind == "d":
            path.mkdir()
    scanner, first = Scanner(), 0
    while first < total:
        limit = min(total, first + data.draw(st.sampled_from([1, 7, 40, 1000]), label="limit"))
        found = scanner.count(ListedFiles(paths), first, limit, Calls())
        assert found == naive(paths[first:limit])
        if first + found < limit:
            break
        first += found


def test_many_files_cost_few_calls(tmp_path: Path) -> None:
    make(tmp_path, range(1, 3001))
    calls = Calls()
    assert Scanner().count(numbered(tmp_path, 4000), 0, 4000, calls) == 3000
    assert calls.number < 60


def test_a_gap_blocks_what_is_behind_it(tmp_path: Path) -> None:
    make(tmp_path, range(1, 1001))
    (tmp_path / "img_00500.cbf").unlink()
    assert Scanner().count(numbered(tmp_path, 1000), 0, 1000, Calls()) == 499


def test_a_file_that_is_not_there_costs_one_call(tmp_path: Path) -> None:
    calls = Calls()
    assert Scanner().count(numbered(tmp_path, 1_000_000), 0, 1_000_000, calls) == 0
    assert calls.number == 1


def test_what_was_listed_is_not_asked_for_again_until_the_listing_is_old(tmp_path: Path) -> None:
    make(tmp_path, range(1, 1001))
    clock = Clock()
    scanner, files = Scanner(clock), numbered(tmp_path, 1000)
    assert scanner.count(files, 0, 500, Calls()) == 500
    calls = Calls()
    assert scanner.count(files, 500, 1000, calls) == 500
    assert calls.number == 0
    (tmp_path / "img_00600.cbf").unlink()
    clock.now += LISTING_LIFE + 1
    assert scanner.count(files, 500, 1000, Calls()) == 99


def test_a_name_missing_from_an_old_listing_is_asked_for(tmp_path: Path) -> None:
    make(tmp_path, range(1, 101))
    scanner, files = Scanner(Clock()), numbered(tmp_path, 200)
    assert scanner.count(files, 0, 200, Calls()) == 100
    make(tmp_path, range(101, 151))
    assert scanner.count(files, 100, 200, Calls()) == 50


def test_small_bursts_in_a_large_directory_do_not_list_it_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, range(1, 2001))
    listings = []
    list_directory = filescan._ordinary_files
    monkeypatch.setattr(filescan, "_ordinary_files", lambda path: listings.append(path) or list_directory(path))
    scanner, files, calls = Scanner(Clock()), numbered(tmp_path, 2000), Calls()
    for first in range(0, 2000, 20):
        assert scanner.count(files, first, first + 20, calls) == 20
    assert len(listings) == 1
    assert calls.number < 150


def test_a_directory_that_may_not_be_listed_is_looked_at_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, range(1, MOST_CALLS + 501))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(filescan, "_ordinary_files", refuse)
    scanner, files, calls = Scanner(), numbered(tmp_path, MOST_CALLS + 500), Calls()
    first = scanner.count(files, 0, files.count, calls)
    assert 0 < first < files.count
    assert calls.trouble == f"Permission denied: {tmp_path}/"
    assert first + scanner.count(files, first, files.count, Calls()) == files.count


def test_memory_is_bounded(tmp_path: Path) -> None:
    scanner = Scanner()
    folders = [tmp_path / str(number) for number in range(filescan.MOST_DIRECTORIES + 20)]
    for folder in folders:
        folder.mkdir()
        make(folder, range(1, 2))
    paths = [f"{folder}/img_00001.cbf" for folder in folders]
    assert scanner.count(ListedFiles(paths), 0, len(paths), Calls()) == len(paths)
    assert len(scanner._directories) <= filescan.MOST_DIRECTORIES


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\udcff\ud800"])
def test_names_no_file_system_has_are_missing(tmp_path: Path, name: str) -> None:
    assert Scanner().count(ListedFiles([f"{tmp_path}/{name}"]), 0, 1, Calls()) == 0


def test_the_number_may_stand_in_the_directory(tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"run {number}").mkdir()
        (tmp_path / f"run {number}" / "100%.cbf").touch()
    files = numbered(tmp_path, 9, "run %d/100%%.cbf")
    assert Scanner().count(files, 0, 9, Calls()) == 5
    assert files.place(4) == {"file": f"{tmp_path}/run 5/100%.cbf", "file-number": 5, "file-pattern-index": 5}


def test_the_cost_of_calls_is_known(tmp_path: Path) -> None:
    calls = Calls()
    assert calls.status(str(tmp_path)) is not None
    assert (calls.number, calls.slowest_call, calls.current) == (1, f"stat {tmp_path}", None)
    assert calls.total == calls.slowest > 0


def test_what_a_file_system_answers_besides_yes_and_no_is_kept(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    calls = Calls()
    assert not calls.is_file(str(tmp_path / "loop"))
    assert "loop" in calls.trouble


def test_a_call_that_hangs_is_told_left_behind_and_not_repeated_until_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zocservices.filesystem.NOTICE_AFTER", 0.0)
    monkeypatch.setattr("zocservices.filesystem._LOOK_EVERY", 0.01)
    notices: list[str] = []
    systems, back = FileSystems(notices.append, patience=0.05), threading.Event()

    def hang(calls: Calls) -> None:
        calls.make("stat", lambda _: back.wait(30), "/dls/i03/x")

    with pytest.raises(Hanging, match="stat /dls/i03/x, for"):
        systems.do("/dls/i03", hang)
    assert "stat /dls/i03/x, for" in notices[-1]
    with pytest.raises(Hanging):
        systems.do("/dls/i03", lambda calls: pytest.fail("the file system was touched"))
    assert systems.do("/dls/i04", lambda calls: "fine") == "fine"
    assert "stat /dls/i03/x, for" in notices[-1]
    back.set()
    for thread in threading.enumerate():
        if thread.name == "files of /dls/i03":
            thread.join(30)
    assert systems.do("/dls/i03", lambda calls: "again") == "again"
    assert notices[-1] == ""


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        FileSystems(print, 30).do("/", lambda calls: 1 / 0)


def test_the_mount_point_is_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "mounts"
    table.write_text(
        "/dev/a / ext4 rw 0 0\nnfs:/x /dls/i03 nfs rw 0 0\nnfs:/y /dls/i03/da\\040ta nfs rw 0 0\nrubbish\n"
    )
    assert mount_point("/dls/i03/x_%05d.cbf", table) == "/dls/i03"
    assert mount_point("/dls/i03/da ta/../da ta/x", table) == "/dls/i03/da ta"
    assert mount_point("/dls/i033/x", table) == "/"
    assert mount_point("/dls/i03/x/y", tmp_path / "none") == "/dls/i03"
