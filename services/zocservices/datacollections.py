"""What is known of data collections, from one file each: for sites and demonstrations without an ISPyB database.

``<directory>/<data collection ID>.json`` is an object with the parameters that ISPyB's filter would add
(``ispyb_beamline``, ``ispyb_image_pattern``, ``ispyb_dc_info``, ...). ``{guid}`` in one of its texts stands for the
recipe ID, so that a working directory can be one of its own for each run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from zoctools.logbook import data_collection_id
from zoctools.service.service import Reject, Retry
from zoctools.text import one_line

MAX_FILE = 10_000_000
"""Bytes of a file we are willing to read."""
_PREFIX = "ispyb_"


class CollectionFiles:
    """A directory of such files, with the two hooks a Dispatcher has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def ready_for_processing(self, message: dict[str, Any], parameters: dict[str, Any]) -> bool:
        """Whether the data collection has ended, where the request asks for that: its ``runStatus`` is known.

        A file that does not speak of ``runStatus`` at all says that there is nothing to wait for.
        """
        if not parameters.get("ispyb_wait_for_runstatus") or not parameters.get("ispyb_dcid"):
            return True
        known = self._known(_dcid(parameters))
        if known is None:
            return False
        details = known.get("ispyb_dc_info")
        return not isinstance(details, dict) or details.get("runStatus", "not kept") not in (None, "")

    def fill(self, message: dict[str, Any], parameters: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Add what is known of the data collection to the parameters; raises `Reject` when nothing is."""
        if not parameters.get("ispyb_dcid"):
            return message, parameters
        dcid = _dcid(parameters)
        known = self._known(dcid)
        if known is None:
            raise Reject(f"data collection {dcid} is not known: there is no {dcid}.json in {one_line(self.directory)}")
        guid = str(parameters.get("guid", ""))
        added = {name: _filled(value, guid) for name, value in known.items() if name.startswith(_PREFIX)}
        details = added.get("ispyb_dc_info")
        if isinstance(details, dict):
            added["ispyb_dc_info"] = {**details, "uuid": guid}
        return message, {**parameters, **added, "ispyb_dcid": dcid}

    def _known(self, dcid: int) -> dict[str, Any] | None:
        """Return what is known of a data collection; None when there is no file."""
        path = self.directory / f"{dcid}.json"
        try:
            with open(path, "rb", opener=_without_waiting) as file:
                content = file.read(MAX_FILE + 1) or b""
        except FileNotFoundError:
            if self.directory.is_dir():
                return None
            raise Retry(f"the directory of data collections {one_line(self.directory)} is not there") from None
        except OSError as error:
            raise Retry(f"{one_line(path)}: {error.strerror or error}") from None
        if len(content) > MAX_FILE:
            raise Reject(f"{one_line(path)} is larger than {MAX_FILE // 1_000_000} MB")
        try:
            known = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Reject(f"{one_line(path)} is not JSON: {one_line(error, 200)}") from None
        if not isinstance(known, dict):
            raise Reject(f"{one_line(path)} does not hold an object")
        return known


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a named pipe that nobody writes to is empty instead of a wait."""
    return os.open(path, flags | os.O_NONBLOCK)


def _dcid(parameters: dict[str, Any]) -> int:
    dcid = data_collection_id(parameters["ispyb_dcid"])
    if dcid is None:
        raise Reject(f"ispyb_dcid is not a data collection ID: {one_line(repr(parameters['ispyb_dcid']), 80)}")
    return dcid


def _filled(value: Any, guid: str) -> Any:
    return value.replace("{guid}", guid) if isinstance(value, str) else value
