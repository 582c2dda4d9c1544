"""Writes images as mini-CBF files, the way a PILATUS detector does: one file per image, complete when it appears."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from zoctools.demo.experiment import Experiment
from zoctools.demo.images import Frame


def write_image(path: Path, frame: Frame, experiment: Experiment, taken: datetime | None = None) -> None:
    """Write one image under a hidden name beside `path`, then rename it: nobody ever sees half a file.

    `taken` is the time in its header, now when absent. Raises `OSError` when it cannot be written.
    """
    from fabio.cbfimage import CbfImage

    header = {
        "_array_data.header_convention": "PILATUS_1.2",
        "_array_data.header_contents": header_text(frame, experiment, taken or datetime.now()),
    }
    unfinished = path.with_name(f".{path.name}.part")
    try:
        CbfImage(data=frame.data, header=header).write(str(unfinished))
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise


def write_images(template: str, frames: Iterable[Frame], experiment: Experiment) -> Iterator[Path]:
    """Write each frame to `template` filled with its number (``data_%05d.cbf``) and yield the path once it is there."""
    for frame in frames:
        path = Path(template % frame.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, frame, experiment)
        yield path


def header_text(frame: Frame, experiment: Experiment, taken: datetime) -> str:
    """Return the header lines of convention PILATUS 1.2, each beginning with ``#``."""
    detector = experiment.detector
    metres = f"{detector.pixel / 1000:.3e}"
    beam_x, beam_y = experiment.beam_centre
    lines = (
        f"Detector: {detector.name}",
        taken.isoformat(timespec="milliseconds"),
        f"Pixel_size {metres} m x {metres} m",
        f"Silicon sensor, thickness {detector.sensor / 1000:.6f} m",
        f"Exposure_time {experiment.exposure - 0.0023:.7f} s",
        f"Exposure_period {experiment.exposure:.7f} s",
        "Tau = 199.1e-09 s",
        f"Count_cutoff {detector.count_cutoff} counts",
        f"Threshold_setting: {12398.42 / experiment.wavelength / 2:.0f} eV",
        f"Wavelength {experiment.wavelength:.5f} A",
        f"Detector_distance {experiment.distance / 1000:.5f} m",
        f"Beam_xy ({beam_x:.2f}, {beam_y:.2f}) pixels",
        f"Flux {experiment.flux:.4e} ph/s",
        f"Start_angle {frame.start_angle:.4f} deg.",
        f"Angle_increment {frame.width:.4f} deg.",
        "Oscillation_axis OMEGA",
    )
    return "".join(f"\r\n# {line}" for line in lines)
