"""Validation: each way an image can be wrong ends in one sentence on its output, and never in a dead service."""

from __future__ import annotations

import errno
import importlib.util
import os
import random
import re
from pathlib import Path

import pytest

from zocservices import minicbf
from zocservices.validation import Validation
from zoctools import testing
from zoctools.demo.experiment import DETECTORS, Experiment
from zoctools.demo.images import Simulation
from zoctools.demo.minicbf import write_image
from zoctools.errors import UsageError


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    experiment = Experiment(detector=DETECTORS["pilatus-300k"], wavelength=0.92, strength=100)
    path = tmp_path_factory.mktemp("images") / "good_00001.cbf"
    write_image(path, Simulation(experiment).image(), experiment)
    return path.read_bytes()


@pytest.fixture
def unsigned(good: bytes) -> bytes:
    """The same without a checksum over its pixels, as some detectors write it."""
    return re.sub(rb"Content-MD5[^\r]*\r\n", b"", good)


@pytest.fixture
def judge(tmp_path):
    """Return what Validation says about a file of this content: nothing when it is good, else the reason."""

    def judged(content: bytes, **parameters) -> str:
        path = tmp_path / "image_00001.cbf"
        path.write_bytes(content)
        return reason_of(path, **parameters)

    return judged


def reason_of(path: Path, **parameters) -> str:
    outcome = testing.run(Validation, {"file": str(path), "file-number": 1}, parameters=parameters)
    assert outcome.ending == "done", outcome.error
    if not outcome.sent:
        return ""
    (sent,) = outcome.sent
    assert sent.to == "validation_error"
    assert sent.payload == {**parameters, "file": str(path), "reason": sent.payload["reason"]}
    assert any(record.levelname == "ERROR" for record in outcome.log)
    return sent.payload["reason"]


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new)


def test_a_good_image_is_passed_in_silence(good, unsigned, judge):
    assert judge(good) == ""
    assert judge(unsigned) == ""


@pytest.mark.parametrize(
    ("ispyb_wavelength", "fine"),
    [
        (0.92, True),
        ("0.92", True),
        (0.92 * 1.019, True),
        (0.92 / 1.019, True),
        (0.92 * 1.03, False),
        (0.89, False),
        (0, True),
        (None, True),
        ("None", True),
        ("{ispyb_dc_info[wavelength]}", True),
    ],
)
def test_the_wavelength_is_compared_with_the_database(good, judge, ispyb_wavelength, fine):
    reason = judge(good, ispyb_wavelength=ispyb_wavelength)
    assert (reason == "") is fine
    assert fine or "0.92 Å, but" in reason


@pytest.mark.parametrize(("wavelength", "fine"), [("0.91000", True), ("0.93000", True), ("0.90900", False)])
def test_one_beamline_has_a_wavelength_of_its_own(good, judge, wavelength, fine):
    image = changed(good, b"Wavelength 0.92000 A", f"Wavelength {wavelength} A".encode())
    reason = judge(image, beamline="i04-1")
    assert (reason == "") is fine
    assert fine or "i04-1 has 0.91 to 0.93" in reason
    assert judge(image, beamline="i03") == ""
    assert judge(image, beamline="i04-1", dc_comments="Simulated datacollection of i04-1") == ""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"Wavelength 0.00000 A", "is 0"),
        (b"Wavelength -1.0000 A", "is -1"),
        (b"Wavelength 1e99999 A", "is inf"),
        (b"Wavelength ....... A", "not a number"),
        (b"Wavelength unknown A", "no wavelength"),
        (b"Energy    12700 eV  ", "no wavelength"),
    ],
)
def test_a_wavelength_that_cannot_be_is_an_error(good, judge, line, says):
    assert says in judge(changed(good, b"Wavelength 0.92000 A", line))


def test_truncated_files(good, unsigned, judge):
    assert judge(b"") == "it is empty"
    assert judge(good[:400]) == "it ends within its header"
    for length in (len(good) // 2, len(good) - 500):
        assert judge(good[:length]).startswith("it is truncated")
        assert judge(unsigned[:length]).startswith("it is truncated")


def test_files_that_are_something_else(judge):
    assert judge(random.Random(1).randbytes(10_000)) == "it is not a CBF file"
    assert judge(b"###CBF: VERSION 1.5\r\n" + b"# x\r\n" * 50_000) == "no image begins in its first 65536 bytes"
    assert judge(b"\x89HDF\r\n\x1a\n" + bytes(1000)) == "it is HDF5, not CBF"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"Fastest-Dimension: 487", b"Fastest-Dimension: 480", "480 x 619 pixels are not 301453"),
        (b"Number-of-Elements: 301453", b"Number-of-Elements: 301452", "pixels are not 301452"),
        (b"Fastest-Dimension: 487", b"Fastest-Dimension: 4x7", "not a number"),
        (b"X-Binary-Size-Second-Dimension", b"X-Binary-Other", "no X-Binary-Size-Second-Dimension"),
        (b"x-CBF_BYTE_OFFSET", b"x-CBF_PACKED", "not byte offset"),
    ],
)
def test_header_and_dimensions_must_agree(good, judge, old, new, says):
    assert says in judge(changed(good, old, new))


@pytest.mark.parametrize(
    ("rows", "says"), [(618, "more pixels than the 487 x 618"), (620, "fewer pixels than the 487 x 620")]
)
def test_the_pixels_are_counted(unsigned, judge, rows, says):
    image = changed(unsigned, b"Second-Dimension: 619", f"Second-Dimension: {rows}".encode())
    assert says in judge(changed(image, b"Elements: 301453", f"Elements: {487 * rows}".encode()))


def test_pixels_that_were_damaged_are_noticed(good, unsigned, judge):
    middle = len(good) // 2
    assert judge(good[:middle] + b"\x05\x06\x07" + good[middle + 3 :]) == "the checksum of its pixels is wrong"
    middle = len(unsigned) // 2
    damaged = unsigned[:middle] + b"\x80\x00\x80" * 3000 + unsigned[middle + 9000 :]
    assert "fewer pixels" in judge(damaged)
    start = unsigned.index(minicbf.STARTER) + 4
    for noise in range(5):
        judge(unsigned[:start] + random.Random(noise).randbytes(len(unsigned) - start))


def test_a_value_cut_off_at_the_end_is_noticed(unsigned, judge):
    size = int(re.search(rb"X-Binary-Size: (\d+)", unsigned)[1])
    start = unsigned.index(minicbf.STARTER) + 4
    for cut in (b"\x80", b"\x80\x00\x80", b"\x80\x00\x80\x00\x00\x00\x80"):
        pixels = unsigned[start : start + size - len(cut)] + cut
        assert "fewer pixels" in judge(unsigned[:start] + pixels + unsigned[start + size :])


def huge(path: Path, header: bytes) -> Path:
    with path.open("wb") as file:
        file.write(header)
        file.truncate(50 * 1024**3)
    return path


def test_a_header_of_blanks_is_judged_like_any_other(judge):
    blanks = b" " * 60_000
    for line in (b"X-Binary-Size: a" + blanks + b"b\n", b"# Wavelength" + blanks + b"b\n"):
        assert "compression is not byte offset" in judge(b"###CBF: VERSION 1.5\n" + line + minicbf.STARTER)
    complete = b"# Wavelength" + blanks + b"b\nx-CBF_BYTE_OFFSET\nX-Binary-Size: 4  \r\n"
    complete += b"X-Binary-Number-of-Elements: 4\n"
    complete += b"X-Binary-Size-Fastest-Dimension: 2\nX-Binary-Size-Second-Dimension: 2\n"
    assert "names no wavelength" in judge(b"###CBF: VERSION 1.5\n" + complete + minicbf.STARTER + bytes(4))


def test_a_huge_file_is_never_read_whole(good, tmp_path):
    header = good[: good.index(minicbf.STARTER) + 4]
    assert "bytes follow the image" in reason_of(huge(tmp_path / "long.cbf", good))
    liar = re.sub(rb"X-Binary-Size: \d+", b"X-Binary-Size: 53687000000", header)
    assert "487 x 619 pixels are not 53687000000 bytes" in reason_of(huge(tmp_path / "liar.cbf", liar))
    for old, new in ((b"Dimension: 487", b"Dimension: 100000"), (b"Dimension: 619", b"Dimension: 100000")):
        liar = changed(liar, old, new)
    liar = changed(liar, b"Elements: 301453", b"Elements: 10000000000")
    assert "is not the size of an image" in reason_of(huge(tmp_path / "large.cbf", liar))
    assert "no image begins" in reason_of(huge(tmp_path / "blank.cbf", b"###CBF: VERSION 1.5\r\n"))


def test_what_is_no_file(tmp_path):
    (tmp_path / "pipe.cbf").touch()
    os.mkfifo(tmp_path / "fifo.cbf")
    (tmp_path / "dangling.cbf").symlink_to(tmp_path / "nowhere")
    (tmp_path / "directory.cbf").mkdir()
    assert reason_of(tmp_path / "nowhere.cbf") == "there is no such file"
    assert reason_of(tmp_path / "dangling.cbf") == "there is no such file"
    assert reason_of(tmp_path / "pipe.cbf" / "x.cbf") == "there is no such file"
    assert reason_of(tmp_path / "directory.cbf") == "it is not a regular file"
    assert reason_of(tmp_path / "fifo.cbf") == "it is not a regular file"
    assert "name cannot be used" in reason_of(tmp_path / "nul\0.cbf")


def test_a_name_with_control_characters_is_logged_safely(good, tmp_path):
    path = tmp_path / "esc\x1b]0;x\x07.cbf"
    path.write_bytes(good[:1000])
    outcome = testing.run(Validation, {"file": str(path)})
    assert outcome.sent[0].payload["file"] == str(path)
    assert not any("\x1b" in words for words in outcome.words)


@pytest.mark.parametrize("payload", [None, [], "x.cbf", {}, {"file": None}, {"file": 5}, {"file": "relative.cbf"}])
def test_a_message_that_names_no_file_is_rejected(payload):
    outcome = testing.run(Validation, payload)
    assert outcome.ending == "reject"
    assert "names no file" in outcome.error


@pytest.mark.parametrize("name", ["/d/x_master.h5", "/d/x.nxs", "/d/X.HDF5"])
def test_hdf5_is_rejected_with_a_sentence(name):
    outcome = testing.run(Validation, {"file": name})
    assert outcome.ending == "reject"
    assert "not support yet" in outcome.error


@pytest.mark.parametrize("wavelength", ["blue", -1, float("nan"), True, [1], 10**400])
def test_a_database_wavelength_that_is_none_is_rejected(good, tmp_path, wavelength):
    (tmp_path / "x.cbf").write_bytes(good)
    outcome = testing.run(Validation, {"file": f"{tmp_path}/x.cbf"}, parameters={"ispyb_wavelength": wavelength})
    assert outcome.ending == "reject"
    assert "ispyb_wavelength" in outcome.error


@pytest.mark.parametrize(
    ("number", "ending"),
    [(errno.EIO, "retry"), (errno.ESTALE, "retry"), (errno.EHOSTUNREACH, "retry"), (errno.EACCES, "failed")],
)
def test_a_file_that_cannot_be_read_now_says_nothing_about_the_image(good, tmp_path, monkeypatch, number, ending):
    (tmp_path / "x.cbf").write_bytes(good)

    def away(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(minicbf, "_without_waiting", away)
    outcome = testing.run(Validation, {"file": f"{tmp_path}/x.cbf"})
    assert (outcome.ending, outcome.sent) == (ending, [])


def test_without_its_extra_the_service_refuses_to_start(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(UsageError, match="fabio, which is not installed") as caught:
        testing.Harness(Validation)
    assert "zoctools[images]" in caught.value.hint
