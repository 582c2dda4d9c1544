"""The simulated detector: real programs must take its images for real ones, and the same seed must give the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime

import fabio
import numpy as np
import pytest

from zoctools.demo.experiment import DETECTORS, Experiment
from zoctools.demo.images import DEAD, GAP, HOT, Simulation, Spot
from zoctools.demo.minicbf import write_image, write_images

SMALL = DETECTORS["pilatus-300k"]


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation(Experiment(detector=SMALL, strength=1500, seed=11))


def stands_alone(spot: Spot, others: Sequence[Spot]) -> bool:
    return sum(abs(other.x - spot.x) < 8 and abs(other.y - spot.y) < 8 for other in others) == 1


def test_same_seed_gives_the_same_pixels_and_another_seed_does_not(simulation):
    again = Simulation(Experiment(detector=SMALL, strength=1500, seed=11))
    other = Simulation(Experiment(detector=SMALL, strength=1500, seed=12))
    assert np.array_equal(simulation.image(3).data, again.image(3).data)
    assert np.array_equal(simulation.still(3).data, again.still(3).data)
    assert not np.array_equal(simulation.image(3).data, other.image(3).data)
    assert not np.array_equal(simulation.image(3).data, simulation.image(4).data)


def test_the_images_are_the_ones_other_tests_were_tuned_on(simulation):
    fingerprints = {
        kind: hashlib.sha256(frame.data.astype("<i4").tobytes()).hexdigest()[:16]
        for kind, frame in (("sweep", simulation.image(1)), ("still", simulation.still(1)))
    }
    assert fingerprints == {"sweep": "7e01d784e0d0390a", "still": "11fff39302ffb70e"}


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_detector_gives_an_image_of_its_size_with_gaps_dead_and_hot_pixels(name):
    detector = DETECTORS[name]
    data = Simulation(Experiment(detector=detector, strength=0)).still().data
    columns, rows = detector.size
    assert data.shape == (rows, columns)
    assert data.dtype == np.int32
    module_columns, module_rows = detector.module
    assert (data[module_rows : module_rows + detector.gap[1]] == GAP).all()
    assert (data[:, module_columns : module_columns + detector.gap[0]] == GAP).all()
    assert (data == DEAD).any()
    assert (data == HOT).any()
    assert data[data >= 0].max() == HOT


@pytest.mark.parametrize("kind", ["image", "still"])
def test_spots_stand_out_where_the_truth_says(simulation, kind):
    frame = getattr(simulation, kind)(2)
    strong = [spot for spot in frame.spots if spot.live and spot.snr > 10 and stands_alone(spot, frame.spots)]
    assert len(strong) >= 20
    for spot in strong:
        row, column = int(spot.y), int(spot.x)
        found = frame.data[row - 2 : row + 3, column - 2 : column + 3].sum() - 25 * spot.background
        assert abs(found - spot.counts) < 6 * math.sqrt(spot.counts + 25 * spot.background) + 0.1 * spot.counts


def test_a_blank_image_has_background_but_no_spots():
    frame = Simulation(Experiment(detector=SMALL, strength=0)).image()
    assert frame.spots == ()
    assert 0.2 < frame.data[(frame.data >= 0) & (frame.data != HOT)].mean() < 5


def test_ice_makes_rings_and_spots_on_them():
    ice = Simulation(Experiment(detector=SMALL, strength=0, ice=8, seed=4)).still()
    clear = Simulation(Experiment(detector=SMALL, strength=0, seed=4)).still()
    counting = (clear.data >= 0) & (clear.data != HOT)
    assert ice.data[counting].sum() > 1.05 * clear.data[counting].sum()
    assert ice.spots
    assert all(min(abs(spot.d - ring) for ring in (3.8954, 3.669, 3.438, 2.666, 2.249)) < 0.05 for spot in ice.spots)


def test_a_reflection_passes_through_neighbouring_images_of_a_sweep():
    whole = Simulation(Experiment(detector=SMALL, strength=1500, width=4.0, seed=2)).image(1)
    slices = Simulation(Experiment(detector=SMALL, strength=1500, width=0.5, seed=2)).sweep(8)
    in_slices = sum(spot.counts for frame in slices for spot in frame.spots)
    assert in_slices == pytest.approx(sum(spot.counts for spot in whole.spots), rel=0.15)


def test_an_independent_reader_finds_pixels_and_header(simulation, tmp_path):
    experiment = simulation.experiment
    frame = simulation.image(5)
    path = tmp_path / "data_00005.cbf"
    write_image(path, frame, experiment, datetime(2026, 11, 23, 8, 37, 23))
    with fabio.open(path) as image:
        assert np.array_equal(image.data, frame.data)
        header = image.header["_array_data.header_contents"]
        assert image.header["_array_data.header_convention"] == "PILATUS_1.2"
    lines = [line.removeprefix("# ").strip() for line in header.splitlines() if line.strip()]
    assert lines == [
        "Detector: PILATUS 300K, S/N 03-0101",
        "2026-11-23T08:37:23.000",
        "Pixel_size 1.720e-04 m x 1.720e-04 m",
        "Silicon sensor, thickness 0.000320 m",
        "Exposure_time 0.0977000 s",
        "Exposure_period 0.1000000 s",
        "Tau = 199.1e-09 s",
        "Count_cutoff 1048575 counts",
        "Threshold_setting: 6350 eV",
        "Wavelength 0.97625 A",
        f"Detector_distance {experiment.distance / 1000:.5f} m",
        "Beam_xy (246.90, 304.30) pixels",
        "Flux 1.2000e+12 ph/s",
        "Start_angle 0.4000 deg.",
        "Angle_increment 0.1000 deg.",
        "Oscillation_axis OMEGA",
    ]


def test_the_side_edge_lies_at_d_min():
    experiment = Experiment(d_min=1.8)
    half_width = experiment.detector.size[0] * experiment.detector.pixel / 2
    two_theta = math.atan(half_width / experiment.distance)
    assert experiment.wavelength / (2 * math.sin(two_theta / 2)) == pytest.approx(1.8)


def test_images_appear_whole_and_in_order(simulation, tmp_path):
    template = str(tmp_path / "new" / "x_%04d.cbf")
    for number, path in enumerate(write_images(template, simulation.sweep(3), simulation.experiment), start=1):
        assert path.name == f"x_{number:04d}.cbf"
        assert sorted(p.name for p in path.parent.iterdir()) == [f"x_{n:04d}.cbf" for n in range(1, number + 1)]
        with fabio.open(path) as image:
            assert image.data.shape == (619, 487)


def test_what_could_not_be_written_leaves_nothing_behind(simulation, tmp_path):
    frame = simulation.image(1)
    (tmp_path / "taken.cbf").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_image(tmp_path / "taken.cbf", frame, simulation.experiment)
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.cbf"]
