"""Realistic detector images, made the same way every time.

A `Simulation` knows the background, the dead and the hot pixels of one experiment; it makes stills and the images of
a sweep. Real data processing programs accept, index and integrate them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zoctools.demo.experiment import (
    Experiment,
    Floats,
    Reflections,
    error_function,
    on_detector,
    random_rotation,
)

GAP, DEAD, HOT = -1, -2, 1_000_000
"""Pixel values of what cannot count: between modules, broken, stuck."""
DEAD_PIXELS, HOT_PIXELS = 40, 20
ICE_RINGS = (3.8954, 3.669, 3.438, 2.666, 2.249, 2.0723, 1.9477, 1.9185, 1.8835, 1.7219)
"""Å; the first three are the strongest."""
ICE_SIGMA = 0.0009
"""Width of an ice ring in 1/d²."""
ICE_SPOTS = 40
PATCH = 5
"""Pixels around its centre over which a spot is spread."""
SHADOW = 0.04
"""What the beam stop lets through."""


@dataclass(frozen=True, slots=True)
class Spot:
    """The truth about one spot: centre in pixels, expected counts, resolution and background under it.

    `live` is false where a dead pixel, a gap or the beam stop is within two pixels.
    """

    x: float
    y: float
    counts: float
    d: float
    background: float
    live: bool

    @property
    def snr(self) -> float:
        """How far it stands out of the noise: counts over their uncertainty with 13 pixels of background."""
        return self.counts / math.sqrt(self.counts + 13 * self.background)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image: counts as (slow, fast) 32-bit integers, its number from 1, the angle it begins at and its width."""

    number: int
    data: NDArray[np.int32]
    spots: tuple[Spot, ...]
    start_angle: float
    width: float


class Simulation:
    """Makes the images of one experiment. Setting it up costs about as much as one image."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._reflections = Reflections.of(experiment) if experiment.strength > 0 else None
        self._resolution, self._in_shadow, self._background = _background(experiment)
        self._marks = _marks(experiment)

    def still(self, number: int = 1) -> Frame:
        """Return a still of a crystal in an orientation of its own."""
        rng = np.random.default_rng([self.experiment.seed, 3, number])
        rotation = random_rotation(rng)
        recorded = self._reflections.recorded_still(self.experiment, rotation) if self._reflections else None
        return self._expose(number, rng, recorded, self.experiment.start_angle, 0.0)

    def image(self, number: int = 1) -> Frame:
        """Return image `number` of the sweep."""
        rng = np.random.default_rng([self.experiment.seed, 4, number])
        recorded = self._reflections.recorded_sweep(self.experiment, number) if self._reflections else None
        return self._expose(number, rng, recorded, self.experiment.angle(number), self.experiment.width)

    def sweep(self, images: int) -> Iterator[Frame]:
        """Yield the first `images` images of the sweep."""
        for number in range(1, images + 1):
            yield self.image(number)

    def _expose(
        self, number: int, rng: np.random.Generator, recorded: tuple[Floats, Floats] | None, angle: float, width: float
    ) -> Frame:
        places, counts = self._on_detector(recorded)
        if self.experiment.ice > 0:
            ice_places, ice_counts = _ice_spots(self.experiment, rng)
            places, counts = np.concatenate([places, ice_places]), np.concatenate([counts, ice_counts])
        mean = self._background.copy()
        _add_spots(mean, places, counts, self.experiment.spot_sigma)
        data = rng.poisson(mean).astype(np.int32)
        marked = self._marks != 0
        data[marked] = self._marks[marked]
        return Frame(number, data, tuple(self._truth(places, counts)), angle, width)

    def _on_detector(self, recorded: tuple[Floats, Floats] | None) -> tuple[Floats, Floats]:
        if recorded is None:
            return np.empty((0, 2)), np.empty(0)
        beams, counts = recorded
        places, inside = on_detector(self.experiment, beams)
        return places[inside], counts[inside] * np.where(self._shaded(places[inside]), SHADOW, 1.0)

    def _shaded(self, places: Floats) -> NDArray[np.bool_]:
        columns, rows = places.astype(int).T
        return np.asarray(self._in_shadow[rows, columns])

    def _truth(self, places: Floats, counts: Floats) -> Iterator[Spot]:
        unusable = (self._marks != 0) | self._in_shadow
        for (x, y), count in zip(places.tolist(), counts.tolist(), strict=True):
            column, row = int(x), int(y)
            around = unusable[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            background, d = float(self._background[row, column]), float(self._resolution[row, column])
            yield Spot(x, y, count, d, background, not bool(around.any()))


def _background(experiment: Experiment) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return, per pixel, resolution in Å, whether the beam stop shades it, and the expected counts without spots.

    Air scatter, the solvent ring at 3.6 Å, a flat part, and ice rings when asked for.
    """
    detector = experiment.detector
    x, y = (
        (np.arange(size) + 0.5 - centre) * detector.pixel
        for size, centre in zip(detector.size, experiment.beam_centre, strict=True)
    )
    radius = np.hypot(x[None, :], y[:, None])
    two_theta = np.arctan2(radius, experiment.distance)
    inverse_d = 2 * np.sin(two_theta / 2) / experiment.wavelength
    solvent = 1.6 * np.exp(-(((inverse_d - 1 / 3.6) / 0.07) ** 2) / 2)
    counts = 9 * np.exp(-inverse_d / 0.06) + solvent + 0.35 + 0.6 * np.exp(-inverse_d / 0.35)
    counts *= np.cos(two_theta) ** 3
    in_shadow = (radius < 2.5) | ((np.abs(x)[None, :] < 1.2) & (y[:, None] > 0))
    if experiment.ice > 0:
        for position, d in enumerate(ICE_RINGS):
            height = experiment.ice * (1.0 if position < 3 else 0.45)
            counts += height * np.exp(-(((inverse_d**2 - 1 / d**2) / ICE_SIGMA) ** 2) / 2)
    counts[in_shadow] *= SHADOW
    return 1 / np.maximum(inverse_d, 1e-6), in_shadow, counts


def _marks(experiment: Experiment) -> NDArray[np.int32]:
    """Return an array that is zero where a pixel counts and else holds the value it always shows."""
    fast, slow = experiment.detector.size
    rng = np.random.default_rng([experiment.seed, 5])
    marks = np.zeros((slow, fast), np.int32)
    for value, amount in ((DEAD, DEAD_PIXELS), (HOT, HOT_PIXELS)):
        marks[rng.integers(0, slow, amount), rng.integers(0, fast, amount)] = value
    marks[experiment.detector.gaps()] = GAP
    return marks


def _ice_spots(experiment: Experiment, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return places and counts of spots from single ice crystals on the first five rings."""
    d = np.array(ICE_RINGS)[rng.integers(0, 5, ICE_SPOTS)]
    angle = rng.uniform(0, 2 * math.pi, ICE_SPOTS)
    two_theta = 2 * np.arcsin(experiment.wavelength / (2 * d))
    beams = np.stack([np.sin(two_theta) * np.cos(angle), np.sin(two_theta) * np.sin(angle), np.cos(two_theta)], axis=1)
    counts = rng.exponential(20 * experiment.ice, ICE_SPOTS)
    places, inside = on_detector(experiment, beams)
    return places[inside], counts[inside]


def _add_spots(mean: Floats, places: Floats, counts: Floats, sigma: float) -> None:
    """Add each spot to the expected counts: a Gaussian integrated over the pixels around its centre."""
    corner = np.floor(places).astype(int) - PATCH
    steps = np.arange(2 * PATCH + 2)
    edges = (corner[:, :, None] + steps - places[:, :, None]) / (sigma * math.sqrt(2))
    shares = np.diff(error_function(edges), axis=2) / 2 if len(places) else np.empty((0, 2, 2 * PATCH + 1))
    patches = counts[:, None, None] * shares[:, 1, :, None] * shares[:, 0, None, :]
    rows = corner[:, 1, None, None] + steps[None, :-1, None]
    columns = corner[:, 0, None, None] + steps[None, None, :-1]
    slow, fast = mean.shape
    inside = (rows >= 0) & (rows < slow) & (columns >= 0) & (columns < fast)
    np.add.at(mean.ravel(), (rows * fast + columns)[inside], patches[inside])
