"""Status broadcasts as the published packages and our own services send them."""

from __future__ import annotations

import json
import time
from typing import Any

from zoctools.transport.contract import Outgoing, Transport


def workflows_service(host: str = "ac.site.node7.2245", name: str = "Dispatcher", **fields: Any) -> dict[str, Any]:
    """A service of the published packages, as measured."""
    return {
        "host": host,
        "service": name,
        "serviceclass": name,
        "status": 4,
        "statustext": "processing",
        "tag": "mytag",
        "utilization": {"2": 0.25, "4": 0.75},
        "workflows": "3.5",
        "zocalo": "1.6.0",
        **fields,
    }


def wrapper_task(host: str = "vm.2569", task: str = "dummy", **fields: Any) -> dict[str, Any]:
    """A wrapped task of the published packages, as measured."""
    sent = {"host": host, "task": task, "status": 4, "statustext": "processing", "workflows": "3.5", "zocalo": "1.6.0"}
    return {**sent, **fields}


def our_service(host: str = "ac.site.node9.77", name: str = "Mailer", waiting_for: str = "") -> dict[str, Any]:
    """A service of ours."""
    zoc = {"busy_for": 0.0, "wait_p95": 0.25, "handled": 12, "failed": 1, "queues": ["mailnotification"]}
    zoc |= {"recipe_ID": "", "waiting_for": waiting_for}
    sent = {"workflows": "3.7", "zoctools": "0.1.0", "status": 2, "statustext": "idle", "zoc": zoc}
    return {"host": host, "service": name, "serviceclass": name, "utilization": {"2": 1.0}, **sent}


HOSTILE: tuple[bytes, ...] = (
    b"not json",
    json.dumps({"service": "x", "status": 2}).encode(),
    json.dumps({"host": None, "status": 2}).encode(),
    json.dumps({"host": "h" * 10_240, "status": 2}).encode(),
    json.dumps({"host": "a.1", "status": "x"}).encode(),
    b"\xff\x00\xfe",
    b"[" * 5000,
)
"""Bodies that must be counted, and do no more."""

AWKWARD: tuple[dict[str, Any], ...] = (
    {"host": "\x1b]0;pwn\x07.1", "status": 4, "service": "[/nope]\x1b[2J", "serviceclass": "[link=file:///etc/passwd]"},
    {"host": "\x9b31m.2", "status": 99, "service": "\u202eevil", "serviceclass": "x", "task": None},
    {"host": "wide.3", "status": 2, "service": "サービス" * 30, "zoc": {"waiting_for": "\x1b]52;c;cHduZWQ=\x07"}},
    {"host": "\ud800.4", "status": 7, "service": "\n\r\t", "workflows": "\x1b[0m"},
)
"""Messages that make a row, whose text must not reach a terminal as it is."""


def publish(transport: Transport, *messages: dict[str, Any] | bytes) -> None:
    """Broadcast messages the way a service does."""
    for message in messages:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        transport.broadcast(Outgoing(transport.topic("transient.status"), body, expires_in=15.0, persistent=False))


def headers_now() -> dict[str, str]:
    """The headers of a broadcast that a broker took just now."""
    now = int(time.time() * 1000)
    return {"timestamp": str(now), "expires": str(now + 15_000)}
