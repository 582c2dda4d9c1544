"""What is simulated: a detector, a crystal in a beam, and where each reflection falls.

The frame of reference is the detector's: x along its fast axis, y along its slow axis, z along the beam, lengths in
millimetres, reciprocal lengths in 1/Å. The rotation axis is +x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOWEST_RESOLUTION = 40.0
"""Å: reflections nearer to the beam fall behind the beam stop."""
STILL_WIDTH = 0.25
"""Degrees a crystal may be off its reflecting position and still give a spot on a still."""
EDGE = 4
"""Pixels along the detector's edges that get no spot."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector made of modules with gaps between them; sizes are (fast, slow), in pixels, `pixel` in mm."""

    name: str
    size: tuple[int, int]
    module: tuple[int, int] = (487, 195)
    gap: tuple[int, int] = (7, 17)
    pixel: float = 0.172
    sensor: float = 0.32
    count_cutoff: int = 1_048_575

    def gaps(self) -> NDArray[np.bool_]:
        """Return a (slow, fast) array that is true between the modules."""
        fast, slow = (
            np.arange(size) % (module + gap) >= module
            for size, module, gap in zip(self.size, self.module, self.gap, strict=True)
        )
        return np.asarray(slow[:, None] | fast[None, :])


DETECTORS = {
    "pilatus-300k": Detector("PILATUS 300K, S/N 03-0101", (487, 619)),
    "pilatus-2m": Detector("PILATUS 2M, S/N 24-0107", (1475, 1679)),
    "pilatus-6m": Detector("PILATUS 6M, S/N 60-0104", (2463, 2527), sensor=0.45),
}


@dataclass(frozen=True, slots=True)
class Experiment:
    """One data collection.

    `wavelength` and `d_min` in Å, `cell` is an orthogonal unit cell in Å, `b_factor` in Å², angles in degrees,
    `exposure` in seconds. `strength` scales the spots: 60 is a weak crystal, 1500 a strong one, 0 none at all.
    `ice` is the height of the ice rings in counts. The same `seed` gives the same images, bit for bit.
    """

    detector: Detector = DETECTORS["pilatus-2m"]
    wavelength: float = 0.97625
    d_min: float = 1.5
    cell: tuple[float, float, float] = (78.9, 78.9, 37.0)
    b_factor: float = 25.0
    strength: float = 400.0
    ice: float = 0.0
    spot_sigma: float = 0.95
    mosaicity: float = 0.08
    start_angle: float = 0.0
    width: float = 0.1
    exposure: float = 0.1
    flux: float = 1.2e12
    seed: int = 0

    @property
    def distance(self) -> float:
        """Detector distance in mm: the middle of the side edge lies at `d_min`."""
        two_theta = 2 * math.asin(self.wavelength / (2 * self.d_min))
        return self.detector.size[0] * self.detector.pixel / 2 / math.tan(two_theta)

    @property
    def beam_centre(self) -> tuple[float, float]:
        """Where the beam meets the detector, in pixels; a little off the middle, as on any beamline."""
        return self.detector.size[0] / 2 + 3.4, self.detector.size[1] / 2 - 5.2

    def angle(self, number: int) -> float:
        """Return the rotation angle at which image `number` begins; the first image is 1."""
        return self.start_angle + (number - 1) * self.width


@dataclass(frozen=True, slots=True)
class Reflections:
    """Reflections of a crystal: reciprocal vectors (n, 3) and the counts each would give if recorded in full."""

    vectors: Floats
    counts: Floats

    @classmethod
    def of(cls, experiment: Experiment) -> Reflections:
        """Return every reflection up to `d_min`, intensities drawn once for the seed, before any rotation."""
        limits = [int(length / experiment.d_min) for length in experiment.cell]
        indices = np.stack(np.meshgrid(*(np.arange(-top, top + 1) for top in limits), indexing="ij"), axis=-1)
        vectors = indices.reshape(-1, 3) / np.array(experiment.cell)
        inverse_d = np.sqrt((vectors**2).sum(axis=1))
        seen = (inverse_d > 1 / LOWEST_RESOLUTION) & (inverse_d < 1 / experiment.d_min)
        vectors, inverse_d = vectors[seen], inverse_d[seen]
        intensity = np.random.default_rng([experiment.seed, 1]).exponential(size=len(vectors))
        counts = experiment.strength * intensity * np.exp(-experiment.b_factor * inverse_d**2 / 2)
        orientation = random_rotation(np.random.default_rng([experiment.seed, 2]))
        return cls(vectors @ orientation.T, counts)

    def recorded_still(self, experiment: Experiment, rotation: Floats) -> tuple[Floats, Floats]:
        """Return diffracted beams (n, 3) and counts of a still with the crystal turned by `rotation`."""
        vectors = self.vectors @ rotation.T
        beams, length = _diffracted(vectors, experiment.wavelength)
        reach = np.maximum(np.hypot(vectors[:, 1], vectors[:, 2]), 0.001)
        off = np.degrees(np.abs(length - 1 / experiment.wavelength) / reach)
        partiality = np.exp(-((off / STILL_WIDTH) ** 2) / 2)
        kept = (partiality > 0.02) & (beams[:, 2] > 0)
        return beams[kept], self.counts[kept] * partiality[kept]

    def recorded_sweep(self, experiment: Experiment, number: int) -> tuple[Floats, Floats]:
        """Return diffracted beams (n, 3) and counts of image `number` of a rotation about +x."""
        vectors = self.vectors @ about_x(experiment.angle(number) + experiment.width / 2).T
        beams, length = _diffracted(vectors, experiment.wavelength)
        rate = np.abs(beams[:, 2] * vectors[:, 1] - beams[:, 1] * vectors[:, 2]) / length
        usable = (rate > 0.004) & (beams[:, 2] > 0)
        beams, counts = beams[usable], self.counts[usable]
        off = np.degrees((length[usable] - 1 / experiment.wavelength) / rate[usable])
        near = np.abs(off) < experiment.width / 2 + 6 * experiment.mosaicity
        beams, counts, off = beams[near], counts[near], off[near]
        half = experiment.width / 2
        partiality = _normal((off + half) / experiment.mosaicity) - _normal((off - half) / experiment.mosaicity)
        kept = partiality > 0.01
        return beams[kept], counts[kept] * partiality[kept]


def on_detector(experiment: Experiment, beams: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return where beams meet the detector, (n, 2) in pixels, and which of them fall inside its edges."""
    detector = experiment.detector
    places = experiment.distance * beams[:, :2] / beams[:, 2:] / detector.pixel + np.array(experiment.beam_centre)
    inside = ((places > EDGE) & (places < np.array(detector.size) - EDGE)).all(axis=1)
    return places, inside


def random_rotation(rng: np.random.Generator) -> Floats:
    """Return a rotation matrix drawn evenly from all of them (a random unit quaternion)."""
    w, x, y, z = _unit(rng.standard_normal(4))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def about_x(degrees: float) -> Floats:
    """Return the matrix of a right-handed rotation about +x."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


error_function: Callable[[Floats], Floats] = np.vectorize(math.erf, otypes=[np.float64])
"""erf of each element; numpy has none, and there are few elements."""


def _normal(values: Floats) -> Floats:
    """Return the cumulative normal distribution."""
    return 0.5 * (1 + error_function(values / math.sqrt(2)))


def _diffracted(vectors: Floats, wavelength: float) -> tuple[Floats, Floats]:
    beams = vectors + np.array([0.0, 0.0, 1 / wavelength])
    return beams, np.sqrt((beams**2).sum(axis=1))


def _unit(vector: Floats) -> Floats:
    return vector / np.sqrt((vector**2).sum())
