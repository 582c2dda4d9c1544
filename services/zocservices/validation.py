"""Validation: is this image what the experiment meant to record?"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zocservices import filesystem, minicbf
from zocservices.minicbf import Broken
from zoctools.errors import UsageError
from zoctools.service.service import Reject, Retry, Service
from zoctools.text import one_line

if TYPE_CHECKING:
    from zoctools.recipe.step import Step

TOLERANCE = 0.02
"""How far the wavelength in the file may be from the one in the database, as a fraction."""
FIXED_WAVELENGTH = {"i04-1": (0.91, 0.93)}
"""Beamlines that have but one wavelength, and the range it is in, in Å."""
SIMULATED = "Simulated datacollection"
"""What the comment of a simulated data collection begins with; its wavelength may be anybody's."""
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".cxi")


class Validation(Service):
    """Checks mini-CBF images: readable, complete, consistent, and taken at the wavelength the database says.

    The message names the ``file``; parameters are ``beamline``, ``ispyb_wavelength``, ``dc_comments``. A bad image
    gives ``{"file", "reason", ...parameters}`` on the output ``validation_error`` (default); a good one nothing.
    """

    name = "Validation"
    queue = "validation"
    outputs = ("validation_error",)

    def start(self) -> None:
        """Refuse to start where images cannot be read at all."""
        if importlib.util.find_spec("fabio") is None:
            raise UsageError(
                "the Validation service reads images with fabio, which is not installed",
                "pip install 'zoctools[images]'",
            )
        super().start()

    def process(self, step: Step, payload: Any) -> None:
        """Check one image."""
        file = payload.get("file") if isinstance(payload, dict) else None
        if not isinstance(file, str) or not file.startswith("/"):
            raise Reject(f"the message names no file by its absolute path: {one_line(repr(file), 200)}")
        path = Path(file)
        if path.suffix.lower() in HDF5_SUFFIXES:
            raise Reject(f"{one_line(file, 300)} is HDF5, which Validation does not support yet")
        try:
            header = minicbf.checked_header(path)
            check_wavelength(header.wavelength, step.parameters)
        except Broken as error:
            self.log.error("%s failed validation: %s", one_line(file, 300), error)
            step.default_output = "validation_error"
            step.send_to("validation_error", {**step.parameters, "file": file, "reason": str(error)})
            return
        except OSError as error:
            if error.errno in filesystem.AWAY:
                raise Retry(f"cannot read {one_line(file, 300)}: {error.strerror}", delay=60) from error
            raise
        self.log.info("%s is valid: %d x %d pixels", one_line(file, 300), header.columns, header.rows)


def check_wavelength(wavelength: float, parameters: Mapping[str, Any]) -> None:
    """Compare the wavelength of an image, in Å, with what the parameters say it must be; raises `Broken`.

    A wavelength the database does not know is not compared; one that is no number is a `Reject`.
    """
    if not (math.isfinite(wavelength) and wavelength > 0):
        raise Broken(f"the wavelength is {wavelength:g} Å")
    allowed = FIXED_WAVELENGTH.get(str(parameters.get("beamline")))
    if allowed and not str(parameters.get("dc_comments") or "").startswith(SIMULATED):
        low, high = allowed
        if not low <= wavelength <= high:
            raise Broken(f"the wavelength is {wavelength:g} Å; {parameters['beamline']} has {low:g} to {high:g} Å")
    expected = expected_wavelength(parameters.get("ispyb_wavelength"))
    if expected is not None and abs(wavelength - expected) > TOLERANCE * expected:
        raise Broken(f"the wavelength is {wavelength:g} Å, but {expected:g} Å in the database")


def expected_wavelength(value: Any) -> float | None:
    """Return the wavelength of the database in Å; None where it is not known: absent, null, 0 or a placeholder."""
    if value in (None, "", "None") or (isinstance(value, str) and value.startswith("{")):
        return None
    try:
        expected = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        expected = math.nan
    if not (math.isfinite(expected) and expected >= 0):
        raise Reject(f"parameter ispyb_wavelength is not a wavelength: {one_line(repr(value), 80)}")
    return expected or None
