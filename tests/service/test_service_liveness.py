"""The liveness endpoint answers in time, whatever the main loop does."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

import pytest

from zoctools.errors import UsageError
from zoctools.service.liveness import Endpoint, Liveness


def get(endpoint):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{endpoint.port}/any/path", timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def make():
    started = []

    def start(look_up, timeout):
        endpoint = Endpoint(Liveness(port=0, timeout=timeout), look_up)
        endpoint.start()
        started.append(endpoint)
        return endpoint

    yield start
    for endpoint in started:
        endpoint.stop()


def test_a_loop_that_looks_up_is_alive(make):
    def look_up():
        answer = threading.Event()
        threading.Timer(0.01, answer.set).start()
        return answer

    assert get(make(look_up, 60)) == (200, b"ok\n")


def test_a_loop_that_does_not_answer_is_503(make):
    asked = []

    def look_up():
        asked.append(threading.Event())
        return asked[-1]

    endpoint = make(look_up, 0.1)
    assert get(endpoint)[0] == 503
    assert get(endpoint)[0] == 503
    assert len(asked) == 1, "requests must not pile up in the loop"
    asked[0].set()
    assert get(endpoint)[0] == 503
    asked[1].set()
    endpoint = make(lambda: asked[1], 0.1)
    assert get(endpoint)[0] == 200


def test_a_port_in_use_is_one_line(make):
    port = make(threading.Event, 1).port
    with pytest.raises(UsageError, match=f"cannot listen on 127.0.0.1:{port}"):
        Endpoint(Liveness(port=port), threading.Event)
