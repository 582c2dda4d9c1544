"""One status broadcast, read: who speaks, what it does, and every field it sent.

Services and wrappers publish a JSON object on the topic ``transient.status``. The codes and keys are those of
`workflows` 3.7 and `zocalo` 1.6, and one key ``zoc`` of ours. Whatever arrives is either read or refused with
a reason; the size of what is kept is bounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoctools.hosts import Host
from zoctools.service.status import Status

MAX_BODY = 16_384
MAX_TEXT = 200
MAX_VERSION = 40
MAX_QUEUES = 20


WORDS: Mapping[int, str] = {
    Status.TEARDOWN: "left",
    Status.NONE: "no service",
    Status.NEW: "new",
    Status.STARTING: "starting",
    Status.IDLE: "idle",
    Status.TIMER: "timer",
    Status.PROCESSING: "processing",
    Status.SHUTDOWN: "stopping",
    Status.END: "ended",
    Status.ERROR: "error",
}
"""What we call the states: by number, because the text ``shutdown`` is sent for two of them."""

BUSY = (Status.STARTING, Status.TIMER, Status.PROCESSING, Status.SHUTDOWN)


class Malformed(Exception):
    """A broadcast that cannot be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What one status message says; texts are as sent, cut to `MAX_TEXT`, and not yet safe to show.

    `busy` is the part of the last seconds spent working, 0 to 1; the `zoc` fields are None or empty where the
    sender is not ours.
    """

    host: str
    status: int
    status_text: str = ""
    service: str = ""
    service_class: str = ""
    task: str = ""
    busy: float | None = None
    versions: Mapping[str, str] | None = None
    container: str = ""
    waiting_for: str = ""
    recipe_id: str = ""
    queues: tuple[str, ...] = ()
    busy_for: float | None = None
    wait_p95: float | None = None
    handled: float | None = None
    failed: float | None = None

    @property
    def node(self) -> str:
        """The machine as people say it, or the pod on Kubernetes."""
        return self.container or Host.from_status(self.host).short

    @property
    def version(self) -> str:
        """The version people ask about: of the layer that runs the service."""
        versions = self.versions or {}
        return next((versions[name] for name in ("zoctools", "dlstbx", "zocalo", "workflows") if name in versions), "")


def decode(body: bytes) -> dict[str, Any]:
    """Return the object of a broadcast; raises `Malformed` unless it names a host and a state."""
    if len(body) > MAX_BODY:
        raise Malformed(f"longer than {MAX_BODY} bytes")
    try:
        message = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    except (ValueError, RecursionError):
        raise Malformed("not JSON") from None
    if not isinstance(message, dict):
        raise Malformed("not a JSON object")
    host = message.get("host")
    if not isinstance(host, str) or not host:
        raise Malformed("no host")
    if len(host) > MAX_TEXT:
        raise Malformed(f"host name longer than {MAX_TEXT} characters")
    status = message.get("status")
    if not isinstance(status, int) or isinstance(status, bool) or not -1000 < status < 1000:
        raise Malformed("no status code")
    return message


def read(message: Mapping[str, Any]) -> Broadcast:
    """Return what a decoded broadcast says; a field of the wrong type counts as not sent."""
    zoc = message.get("zoc")
    ours = zoc if isinstance(zoc, dict) else {}
    queues = ours.get("queues")
    return Broadcast(
        host=message["host"],
        status=message["status"],
        status_text=_text(message.get("statustext")),
        service=_text(message.get("service")),
        service_class=_text(message.get("serviceclass")),
        task=_text(message.get("task")),
        busy=_busy(message.get("utilization")),
        versions=_versions(message),
        container=_container(message),
        waiting_for=_text(ours.get("waiting_for")),
        recipe_id=_text(ours.get("recipe_ID")),
        queues=tuple(_text(queue) for queue in queues[:MAX_QUEUES]) if isinstance(queues, list) else (),
        busy_for=_number(ours.get("busy_for")),
        wait_p95=_number(ours.get("wait_p95")),
        handled=_number(ours.get("handled")),
        failed=_number(ours.get("failed")),
    )


def says_it_waits(message: Mapping[str, Any]) -> bool:
    """Whether a decoded broadcast names something it waits for."""
    zoc = message.get("zoc")
    return isinstance(zoc, dict) and _text(zoc.get("waiting_for")) != ""


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _busy(utilization: object) -> float | None:
    if not isinstance(utilization, dict):
        return None
    shares = [_number(utilization.get(str(int(state)))) for state in BUSY]
    return min(max(sum(share for share in shares if share is not None), 0.0), 1.0)


def _versions(message: Mapping[str, Any]) -> dict[str, str]:
    names = ("zoctools", "dlstbx", "zocalo", "workflows")
    sent = {name: message.get(name) for name in names}
    texts = {name: value for name, value in sent.items() if isinstance(value, str)}
    return {name: value.removeprefix(f"{name} ")[:MAX_VERSION] for name, value in texts.items()}


def _container(message: Mapping[str, Any]) -> str:
    node = _text(message.get("container_node")).partition(".")[0]
    tag = _text(message.get("tag"))
    return f"{node}.{tag}" if node and tag else node
