"""The Archiver: what it says to the archive, and that nothing is ever lost on the way."""

from __future__ import annotations

import errno
import os
import re
import xml.etree.ElementTree as ElementTree
from datetime import datetime
from pathlib import Path

import pytest

from zocservices import archiver, icat
from zocservices.archiver import LARGEST_FILE, Archiver
from zoctools import testing
from zoctools.settings import Settings

PATTERN, LIST = "archive.pattern", "archive.filelist"


@pytest.fixture
def visit(tmp_path: Path) -> Path:
    directory = tmp_path / "dls" / "i03" / "data" / "2026" / "cm37235-2"
    (directory / "raw" / "thau").mkdir(parents=True)
    return directory


def images(visit: Path, *numbers: int) -> list[str]:
    paths = [visit / "raw" / "thau" / f"x_{number:04d}.cbf" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        path.write_bytes(b"x" * number)
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    return [str(path) for path in paths]


def of_pattern(visit: Path, first: int, last: int, payload=None, settings=None, **parameters) -> testing.Outcome:
    where = {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": str(first), "pattern-end": str(last)}
    return testing.run(Archiver, payload, queue=PATTERN, parameters=where | parameters, settings=settings)


def of_list(names, settings=None, **parameters) -> testing.Outcome:
    return testing.run(Archiver, {"filelist": names}, queue=LIST, parameters=parameters, settings=settings)


def sent_to(outcome: testing.Outcome, output: str):
    """Return what went to an output, None when nothing did."""
    found = [sent.payload for sent in outcome.sent if sent.to == output]
    assert len(found) < 2
    return found[0] if found else None


def archived(outcome: testing.Outcome) -> list[str]:
    root = ElementTree.fromstring(sent_to(outcome, "dropfile")["xml"])
    return [found.text or "" for found in root.iter("location")]


def test_the_xml_says_what_the_archive_wants_to_know(visit):
    location = images(visit, 1)[0]
    outcome = of_pattern(visit, 1, 1)
    assert outcome.ending == "done"
    message = sent_to(outcome, "dropfile")
    assert (message["success"], message["failed"]) == (1, 0)
    assert message["xml"].startswith(
        '<?xml version="1.0" ?>\n<icat version="1.0 RC6" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        'xsi:noNamespaceSchemaLocation="icatXSD.xsd">\n  <study>\n    <investigation>\n'
    )
    root = ElementTree.fromstring(message["xml"])
    investigation = root.find("study/investigation")
    assert {child.tag: child.text for child in investigation if child.tag != "dataset"} == {
        "inv_number": "CM37235",
        "visit_id": "CM37235-2",
        "instrument": "i03",
        "title": "dont need it",
        "inv_type": "experiment",
    }
    dataset = investigation.find("dataset")
    assert [(child.tag, child.text) for child in dataset if child.tag != "datafile"] == [
        ("name", "raw/thau"),
        ("dataset_type", "raw"),
        ("description", "unknown"),
    ]
    when = datetime.fromtimestamp(1_700_000_001).strftime("%Y-%m-%dT%H:%M:%S")
    assert [(child.tag, child.text) for child in dataset.find("datafile")] == [
        ("name", "x_0001.cbf"),
        ("location", location),
        ("description", "unknown"),
        ("datafile_version", "1.0"),
        ("datafile_create_time", when),
        ("datafile_modify_time", when),
        ("file_size", "1"),
    ]


def test_files_missing_at_the_end_are_told_apart_from_a_hole(visit):
    images(visit, 1, 2)
    outcome = of_pattern(visit, 1, 4)
    missing = [f"{visit}/raw/thau/x_0003.cbf", f"{visit}/raw/thau/x_0004.cbf"]
    assert sent_to(outcome, "missing_files") == missing
    assert sent_to(outcome, "missing_files_within") is None
    assert sent_to(outcome, "all_files_missing") is None
    assert sent_to(outcome, "dropfile")["failed"] == 2

    images(visit, 4)
    outcome = of_pattern(visit, 1, 4)
    assert sent_to(outcome, "missing_files_within") == missing[:1]
    assert sent_to(outcome, "missing_files") == missing[:1]
    assert any("missing from within the pattern" in words for words in outcome.words)


def test_when_all_are_missing_there_is_no_drop_file(visit, tmp_path):
    outcome = of_pattern(visit, 1, 2, dropfile=f"{tmp_path}/drop.xml", **{"dropfile-queue": "darc.dropzone"})
    assert len(sent_to(outcome, "all_files_missing")) == 2
    assert sent_to(outcome, "dropfile")["success"] == 0
    assert sent_to(outcome, "darc.dropzone") is None
    assert not (tmp_path / "drop.xml").exists()


def test_a_large_job_is_split_and_every_file_is_archived_once(visit, tmp_path):
    everything = images(visit, *range(1, 8))
    drops = tmp_path / "drops"
    drops.mkdir()
    extra = {
        "limit-files": "3",
        "dropfile-dir": str(drops),
        "dropfile-filename": "{visit_id}-{beamline}{multipart}.xml",
    }
    harness = testing.Harness(Archiver)
    where = {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": "1", "pattern-end": "7"}
    harness.put(None, queue=PATTERN, node={"parameters": where | extra, "output": {"dropfile": 2}})
    harness.settle()
    xml = [ElementTree.fromstring(message["xml"]) for message in harness.messages("node-2")]
    assert [[found.text for found in root.iter("location")] for root in xml] == [
        everything[:3],
        everything[3:6],
        everything[6:],
    ]
    assert [sent_to(outcome, "checkpoint") for outcome in harness.outcomes] == [
        {"archive-multipart": 2, "archive-pattern-start": 4},
        {"archive-multipart": 3, "archive-pattern-start": 7},
        None,
    ]
    assert sorted(path.name for path in drops.iterdir()) == [f"cm37235-2-i03-{number}.xml" for number in (1, 2, 3)]


def test_a_job_that_just_fits_is_not_split(visit):
    images(visit, 1, 2, 3)
    outcome = of_pattern(visit, 1, 3, **{"limit-files": 3})
    assert sent_to(outcome, "checkpoint") is None
    assert sent_to(outcome, "dropfile")["success"] == 3


def test_missing_files_do_not_count_towards_the_limit(visit):
    images(visit, 1, 5, 6)
    outcome = of_pattern(visit, 1, 6, **{"limit-files": 2})
    assert sent_to(outcome, "checkpoint") == {"archive-multipart": 2, "archive-pattern-start": 6}


def test_the_rest_of_a_split_job_never_says_that_all_are_missing(visit):
    outcome = of_pattern(visit, 1, 6, {"archive-multipart": 2, "archive-pattern-start": 5})
    assert len(sent_to(outcome, "missing_files")) == 2
    assert sent_to(outcome, "all_files_missing") is None


def test_a_list_is_split_too(visit):
    everything = images(visit, 1, 2, 3)
    outcome = of_list(everything, **{"limit-files": 2})
    assert archived(outcome) == everything[:2]
    assert sent_to(outcome, "checkpoint") == {"archive-multipart": 2, "filelist": everything[2:]}


def test_the_list_of_the_message_outranks_that_of_the_node(visit):
    one, two = images(visit, 1, 2)
    assert archived(of_list([two], filelist=[one])) == [two]
    outcome = testing.run(Archiver, [], queue=LIST, parameters={"filelist": [one]})
    assert archived(outcome) == [one]


def test_visit_and_beamline_of_the_node_outrank_those_of_the_path(visit):
    xml = sent_to(of_list(images(visit, 1), visit="nt1-9", beamline="i24"), "dropfile")["xml"]
    assert "<visit_id>NT1-9</visit_id>" in xml
    assert "<instrument>i24</instrument>" in xml


def test_a_path_of_the_shared_root_belongs_to_vmxi(tmp_path):
    directory = tmp_path / "mx" / "data" / "mx1" / "mx1-2"
    directory.mkdir(parents=True)
    (directory / "a.h5").touch()
    xml = sent_to(of_list([str(directory / "a.h5")]), "dropfile")["xml"]
    assert "<instrument>i02-2</instrument>" in xml
    assert "<name>topdir</name>" in xml


@pytest.mark.parametrize("code", ["ic", "il", "in", "sw"])
def test_industrial_visits_stay_out_unless_the_site_lets_them_in(tmp_path, code):
    directory = tmp_path / "i03" / "data" / "2026" / f"{code}1234-5"
    directory.mkdir(parents=True)
    (directory / "a.cbf").touch()
    outcome = of_list([str(directory / "a.cbf")], **{"dropfile-queue": "darc.dropzone"})
    assert (outcome.ending, outcome.sent) == ("done", [])
    allowed = Settings(storage={"zocalo.archiver.allowed_industrial_visit_codes": [code.upper()]})
    assert archived(of_list([str(directory / "a.cbf")], settings=allowed)) == [str(directory / "a.cbf")]


def test_the_drop_queue_gets_the_raw_xml_outside_the_namespace_with_the_acknowledgement(visit):
    images(visit, 1)
    harness = testing.Harness(Archiver)
    where = {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": 1, "pattern-end": 1}
    harness.put(None, queue=PATTERN, parameters={**where, "dropfile-queue": "darc.dropzone"})
    harness.settle()
    queue = testing.Destination.queue("darc.dropzone")
    (message,) = harness.world.browse(queue).messages
    assert ElementTree.fromstring(message.body).tag == "icat"
    assert harness.waiting(PATTERN) == []


def test_outputs_work_as_a_recipe_wires_them(visit):
    images(visit, 1, 3)
    harness = testing.Harness(Archiver)
    node = {
        "queue": PATTERN,
        "parameters": {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": 1, "pattern-end": 3},
        "output": {"missing_files_within": 2, "dropfile": 3},
    }
    harness.put(None, queue=PATTERN, node=node)
    harness.settle()
    assert harness.messages("node-2") == [[f"{visit}/raw/thau/x_0002.cbf"]]
    assert harness.messages("node-3")[0]["success"] == 2


def test_an_unnamed_output_gets_the_drop_file(visit):
    images(visit, 1)
    harness = testing.Harness(Archiver)
    where = {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": 1, "pattern-end": 2}
    harness.put(None, queue=PATTERN, node={"queue": PATTERN, "parameters": where, "output": 2})
    harness.settle()
    assert [message["failed"] for message in harness.messages("node-2")] == [1]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([], "empty list"),
        ("/a", "not a list"),
        ({"a": 1}, "not a list"),
        (None, "not a list"),
        (["/a", 5], "entry 2"),
        (["a"], "entry 1"),
    ],
)
def test_what_is_no_list_of_files_is_rejected(value, says):
    outcome = of_list(value, visit="cm1-1", beamline="i03")
    assert outcome.ending == "reject"
    assert says in outcome.error


def test_a_path_that_says_no_visit_is_rejected(tmp_path):
    (tmp_path / "a.cbf").touch()
    outcome = of_list(["/a.cbf"])
    assert outcome.ending == "reject"
    assert "visit is not given" in outcome.error


@pytest.mark.parametrize("visit_given", ["../../x", "a/b", "cm1-1\n", "", 5, "x" * 100, "<x>"])
def test_a_visit_that_is_no_name_is_rejected(visit_given):
    outcome = of_list(["/a.cbf"], visit=visit_given, beamline="i03")
    assert outcome.ending == "reject"


@pytest.mark.parametrize("limit", ["many", -1, [1], True])
def test_a_limit_that_is_no_number_is_rejected(visit, limit):
    assert of_pattern(visit, 1, 1, **{"limit-files": limit}).ending == "reject"


def test_names_with_awkward_characters_arrive_in_the_archive_as_they_are(visit):
    names = [
        str(visit / name) for name in ("a&b<c>.cbf", "q\"uo'te", "tab\there", "line\nbreak", "cr\rx", "é😀", " pad ")
    ]
    for name in names:
        Path(name).touch()
    outcome = of_list(names)
    assert archived(outcome) == names
    sent_to(outcome, "dropfile")["xml"].encode("ascii")


@pytest.mark.parametrize("name", ["esc\x1b[2J.cbf", "bell\x07", "\x00nul", "half\udc80", "nonchar\ufffe"])
def test_names_xml_cannot_hold_are_counted_as_failed_and_harm_nobody_else(visit, name):
    good = images(visit, 1)[0]
    if "\0" not in name:
        (visit / name).touch()
    outcome = of_list([str(visit / name), good])
    assert archived(outcome) == [good]
    assert sent_to(outcome, "dropfile")["failed"] == 1
    assert not any(re.search(r"[\x00-\x09\x0b-\x1f]", words) for words in outcome.words)


@pytest.mark.parametrize("character", ["\x01", "\x1b", "\ufffe"])
def test_a_directory_xml_cannot_name_is_rejected(visit, character):
    outcome = of_list([f"{visit}/{character}/x.cbf"])
    assert (outcome.ending, outcome.sent) == ("reject", [])
    assert "XML cannot express" in outcome.error


def test_a_time_no_calendar_holds_is_refused_and_harms_nobody_else(visit, monkeypatch):
    odd, good = images(visit, 1, 2)

    def status(name):
        found = os.lstat(name)
        return os.stat_result((*found[:8], 2**45, *found[9:])) if name == odd else found

    monkeypatch.setattr(archiver.os, "stat", status)
    outcome = of_list([odd, good])
    assert archived(outcome) == [good]
    assert sent_to(outcome, "dropfile")["failed"] == 1


def test_a_dangling_link_is_missing_and_a_directory_is_refused(visit):
    good = images(visit, 1)[0]
    (visit / "dangling.cbf").symlink_to(visit / "nowhere")
    (visit / "looped").symlink_to(visit / "looped")
    (visit / "link.cbf").symlink_to(good)
    names = [str(visit / name) for name in ("dangling.cbf", "looped", "raw", "link.cbf")]
    outcome = of_list(names)
    assert archived(outcome) == [names[3]]
    assert sent_to(outcome, "missing_files") == [names[0]]
    assert sent_to(outcome, "dropfile")["failed"] == 3


def test_files_too_large_for_the_archive_are_refused(visit, monkeypatch):
    location = images(visit, 1)[0]
    found = Path(location).stat()
    large = os.stat_result((*found[:6], LARGEST_FILE + 1, *found[7:10]))
    fits = os.stat_result((*found[:6], LARGEST_FILE, *found[7:10]))
    monkeypatch.setattr(os, "stat", lambda *_args, **_named: large)
    assert sent_to(of_list([location]), "dropfile")["failed"] == 1
    monkeypatch.setattr(os, "stat", lambda *_args, **_named: fits)
    assert f"<file_size>{LARGEST_FILE}</file_size>" in sent_to(of_list([location]), "dropfile")["xml"]


def test_failures_are_warnings_unless_the_recipe_says_otherwise(visit):
    def levels(**parameters):
        outcome = of_list([str(visit)], visit="cm1-1", beamline="i03", **parameters)
        return {
            record.levelname for record in outcome.log if "could not archive" in record.msg or "failed to" in record.msg
        }

    assert levels() == {"WARNING"}
    assert levels(**{"log-file-warnings-as-info": True, "log-summary-warning-as-info": True}) == {"INFO"}


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_file_system_that_is_away_brings_the_message_back_later(visit, monkeypatch, number):
    location = images(visit, 1)[0]

    def away(*_args, **_named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", away)
    outcome = of_list([location])
    assert outcome.ending == "retry"
    assert location in outcome.error


@pytest.mark.parametrize(
    "template",
    [
        "{visit_id.__class__}.xml",
        "{visit_id!r}.xml",
        "{visit_id:>99999999}.xml",
        "{unknown}.xml",
        "{}.xml",
        "{0}.xml",
        "{",
        "}",
        "../../escaped.xml",
        "a/../../escaped.xml",
        "line\nbreak.xml",
        "",
    ],
)
def test_a_drop_file_name_reaches_neither_python_nor_other_directories(visit, tmp_path, template):
    images(visit, 1)
    drops = tmp_path / "drops"
    drops.mkdir()
    outcome = of_pattern(visit, 1, 1, dropfile=f"{drops}/{template}")
    assert outcome.ending == "reject"
    assert not list(drops.iterdir())
    assert not list(tmp_path.glob("*.xml"))


def test_a_relative_drop_file_is_rejected(visit):
    images(visit, 1)
    assert of_pattern(visit, 1, 1, dropfile="drop.xml").ending == "reject"


def test_a_drop_file_outside_the_allowed_directories_is_rejected(visit, tmp_path):
    images(visit, 1)
    (tmp_path / "link").symlink_to("/")
    allowed = Settings(allowed_roots=(tmp_path / "drops",))
    for place in (tmp_path / "elsewhere.xml", tmp_path / "drops" / ".." / "x.xml"):
        assert of_pattern(visit, 1, 1, settings=allowed, dropfile=str(place)).ending == "reject"
    (tmp_path / "drops").mkdir()
    assert of_pattern(visit, 1, 1, settings=allowed, dropfile=f"{tmp_path}/drops/x.xml").ending == "done"


def test_the_override_left_unfilled_means_the_directory_and_name(visit, tmp_path):
    images(visit, 1)
    extra = {
        "dropfile": "{dropfile_override}",
        "dropfile-dir": str(tmp_path),
        "dropfile-filename": "{{x}}{timestamp}.xml",
    }
    assert of_pattern(visit, 1, 1, **extra).ending == "done"
    (name,) = (path.name for path in tmp_path.glob("*.xml"))
    assert re.fullmatch(r"\{x\}\d{8}-\d{6}\.xml", name)


def test_a_waiting_drop_file_is_never_overwritten(visit, tmp_path):
    images(visit, 1)
    for _ in range(3):
        assert of_pattern(visit, 1, 1, dropfile=f"{tmp_path}/drop.xml").ending == "done"
    assert sorted(path.name for path in tmp_path.glob("*.xml")) == ["drop.xml", "drop_2.xml", "drop_3.xml"]
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_loses_nothing(visit, tmp_path, monkeypatch):
    images(visit, 1)
    real = os.fsync

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    harness = testing.Harness(Archiver)
    where = {"pattern": f"{visit}/raw/thau/x_%04d.cbf", "pattern-start": 1, "pattern-end": 1}
    harness.put(None, queue=PATTERN, parameters={**where, "dropfile": f"{tmp_path}/drop.xml"})
    harness.settle()
    assert harness.outcomes[0].ending == "retry"
    assert "No space left" in harness.outcomes[0].error
    assert not list(tmp_path.glob("*.xml"))
    assert not list(tmp_path.glob(".*"))
    monkeypatch.setattr(os, "fsync", real)
    harness.advance(120)
    assert harness.outcomes[-1].ending == "done"
    assert (tmp_path / "drop.xml").exists()


def test_a_drop_directory_that_is_not_there_is_a_failed_attempt(visit, tmp_path):
    images(visit, 1)
    outcome = of_pattern(visit, 1, 1, dropfile=f"{tmp_path}/nowhere/drop.xml")
    assert outcome.ending == "failed"


def test_without_hard_links_a_drop_file_still_overwrites_nothing(tmp_path, monkeypatch):
    def impossible(*_args):
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(Path, "hardlink_to", impossible)
    first = icat.write_drop_file(tmp_path / "drop.xml", b"one")
    second = icat.write_drop_file(tmp_path / "drop.xml", b"two")
    assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")
    assert len(list(tmp_path.iterdir())) == 2


def test_each_file_is_looked_at_once(visit, monkeypatch):
    names = images(visit, *range(1, 51))
    looked: list[str] = []
    real = os.stat

    def counting(path, *args, **named):
        looked.append(str(path))
        return real(path, *args, **named)

    monkeypatch.setattr(os, "stat", counting)
    of_pattern(visit, 1, 50)
    assert [path for path in looked if path in names] == names


def test_without_a_limit_a_drop_file_still_fits_into_a_message(visit, monkeypatch):
    monkeypatch.setattr(archiver, "MOST_FILES_IN_ONE", 3)
    names = images(visit, 1, 2, 3, 4)
    for limit in ({}, {"limit-files": 0}, {"limit-files": 1000}):
        outcome = of_list(names, **limit)
        assert archived(outcome) == names[:3]
        assert sent_to(outcome, "checkpoint")["filelist"] == names[3:]


@pytest.mark.parametrize("queue", ["a,b", "a>", "*", 5, "with space", "/queue/x"])
def test_a_drop_queue_that_is_no_queue_is_rejected(visit, queue):
    images(visit, 1)
    assert of_pattern(visit, 1, 1, **{"dropfile-queue": queue}).ending == "reject"
