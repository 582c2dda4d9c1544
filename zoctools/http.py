"""Asking a management interface for JSON: bounded in time and size, every failure one sentence."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from zoctools.errors import LoginRefused, TimedOut, Unreachable
from zoctools.text import one_line

TIMEOUT = 3.0
"""Seconds for a whole answer."""

MAX_ANSWER = 50_000_000
_CHUNK = 65_536


def get_json(url: str, *, what: str, username: str = "", password: str = "", timeout: float = TIMEOUT) -> Any:
    """Return what a GET of `url` answers; `what` names the server in errors.

    Raises `Unreachable`, `LoginRefused`, or `TimedOut` when the answer is not whole in `timeout` seconds. Status
    404 is an answer like others, if it is JSON: the interfaces in use say so where nothing matches.
    """
    import requests

    deadline = time.monotonic() + timeout
    session = requests.Session()
    session.trust_env = False
    headers = {"Accept": "application/json", "Origin": "/".join(url.split("/", 3)[:3])}
    login = requests.auth.HTTPBasicAuth(username.encode(), password.encode()) if username else None
    try:
        with session.get(
            url, headers=headers, auth=login, timeout=timeout, stream=True, allow_redirects=False
        ) as answer:
            _check_status(answer.status_code, what)
            body = bytearray()
            for chunk in answer.iter_content(_CHUNK):
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise Unreachable(f"{what}: the answer is larger than {MAX_ANSWER} bytes")
                if time.monotonic() > deadline:
                    raise TimedOut(f"{what}: the answer was not whole after {timeout:g} s")
    except requests.Timeout:
        raise TimedOut(f"{what}: no answer within {timeout:g} s") from None
    except requests.RequestException as error:
        raise Unreachable(f"{what}: {_reason(error)}") from None
    finally:
        session.close()
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unreachable(f"{what}: the answer is not JSON: {one_line(body[:60].decode('utf-8', 'replace'))}") from None


def _check_status(status: int, what: str) -> None:
    if status in (401, 403):
        raise LoginRefused(f"{what}: the login is refused (HTTP {status})")
    if 300 <= status < 400:
        raise Unreachable(f"{what}: it sends us elsewhere (HTTP {status})", "check the base_url")
    if status != 404 and not 200 <= status < 300:
        raise Unreachable(f"{what}: HTTP {status}")


def _reason(error: BaseException) -> str:
    """Find the words that help in the nest of exceptions an HTTP library makes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        arguments = [item for item in seen.args if isinstance(item, BaseException)]
        reason = getattr(seen, "reason", None)
        seen = arguments[0] if arguments else (reason if isinstance(reason, BaseException) else seen.__cause__)
    return one_line(error, 200)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
