"""Queue figures: what the management interfaces say, in one shape, and what becomes of nonsense."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from support.activemq import ActiveMQ
from support.waiting import eventually
from zoctools.errors import LoginRefused, TimedOut, Unreachable, ZocError
from zoctools.queues import Jolokia, QueueFigures, RabbitManagement, of_namespace, source_of
from zoctools.settings import Account, Settings, StompSettings
from zoctools.transport.contract import Delivery, Outgoing
from zoctools.transport.stomp import StompTransport

Answer = tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]


class Web:
    """An HTTP server that answers what it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = (200, b"{}")
        self.paths: list[str] = []
        self.logins: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.paths.append(self.path)
                web.logins.append(self.headers.get("Authorization", ""))
                if callable(web.answer):
                    web.answer(self)
                    return
                status, body = web.answer
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", "http://192.0.2.1/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return self.server.server_port


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    yield server
    server.server.shutdown()
    server.server.server_close()


def jolokia(web: Web, timeout: float = 3.0, **options: Any) -> Jolokia:
    options = {"url": "api/jolokia", "username": "admin", "password": "pässword€", **options}
    return Jolokia(Account(host="127.0.0.1", port=web.port, **options), timeout)


def test_jolokia_is_asked_with_a_login_and_a_quoted_path(web: Web) -> None:
    bean = {"Name": "zocalo.x", "QueueSize": 5, "InFlightCount": 2, "ConsumerCount": 1, "EnqueueCount": 9}
    web.answer = (200, json.dumps({"status": 200, "value": {"bean": bean}}).encode())
    (queue,) = jolokia(web, url="/api/jolokia/").queues()
    assert queue == QueueFigures("zocalo.x", ready=3, in_flight=2, consumers=1, enqueued=9, dequeued=None)
    assert queue.depth == 5
    assert web.paths[0].startswith("/api/jolokia/read/org.apache.activemq:type=Broker,brokerName=*,")
    assert web.logins[0] == "Basic " + base64.b64encode("admin:pässword€".encode()).decode()


def test_no_queue_at_all_is_no_error(web: Web) -> None:
    web.answer = (200, json.dumps({"status": 404, "error": "InstanceNotFound"}).encode())
    assert jolokia(web).queues() == ()
    with pytest.raises(Unreachable, match="no ActiveMQ broker"):
        jolokia(web).broker()


def test_a_queue_name_cannot_reach_outside_its_place(web: Web) -> None:
    web.answer = (200, b'{"status": 200}')
    jolokia(web).remove("b,type=*", "x/../y!z?a#b")
    assert web.paths == [
        "/api/jolokia/exec/org.apache.activemq:type=Broker,brokerName=%22b,type=%5C*%22"
        "/removeQueue(java.lang.String)/x%21%2F..%21%2Fy%21%21z%3Fa%23b?ignoreErrors=true"
    ]


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, b"no"), LoginRefused, "login is refused"),
        ((403, b"no"), LoginRefused, "login is refused"),
        ((500, b"oh"), Unreachable, "HTTP 500"),
        ((302, b""), Unreachable, "elsewhere"),
        ((200, b"<html>\x1b[2J</html>"), Unreachable, r"not JSON: <html>\\x1b"),
        ((404, b"<html></html>"), Unreachable, "not JSON"),
        ((200, b"[" * 100_000), Unreachable, "not JSON"),
        ((200, b"[]"), Unreachable, "not an answer of Jolokia"),
        ((200, b'{"status": 500, "error": "boom"}'), Unreachable, "boom"),
        ((200, b""), Unreachable, "not JSON"),
    ],
)
def test_nonsense_is_one_sentence(web: Web, answer: Answer, error: type[ZocError], words: str) -> None:
    web.answer = answer
    with pytest.raises(error, match=words) as caught:
        jolokia(web).queues()
    assert caught.value.message.startswith(f"Jolokia at 127.0.0.1:{web.port}: ")
    assert caught.value.message.isprintable()


def test_a_silent_server_and_one_that_trickles_end_in_time(web: Web) -> None:
    gone = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        gone.wait(20)

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while not gone.is_set():
                handler.wfile.write(b" " * 70_000)
                time.sleep(0.05)
        except OSError:
            pass

    for answer in (silent, trickle):
        web.answer = answer
        with pytest.raises(TimedOut):
            jolokia(web, timeout=0.5).queues()
    gone.set()


def test_nobody_there_is_said_in_words(web: Web) -> None:
    web.server.shutdown()
    web.server.server_close()
    with pytest.raises(Unreachable, match="connection refused"):
        jolokia(web).queues()


def test_odd_beans_are_passed_over_and_odd_numbers_are_unknown(web: Web) -> None:
    beans = {"a": None, "b": {"Name": 7}, "c": {"Name": "c", "QueueSize": "lots", "InFlightCount": -1}}
    web.answer = (200, json.dumps({"status": 200, "value": beans}).encode())
    assert jolokia(web).queues() == (QueueFigures("c"),)


def test_rabbitmq_is_read_into_the_same_shape(web: Web) -> None:
    queues = [
        {"name": "dlq.filewatcher", "messages_ready": 2, "messages_unacknowledged": 0, "consumers": 0},
        {
            "name": "filewatcher",
            "messages_ready": 4,
            "messages_unacknowledged": 1,
            "consumers": 3,
            "message_stats": {"publish": 10, "ack": 5},
        },
        {"no": "name"},
    ]
    web.answer = (200, json.dumps(queues).encode())
    account = Account(url=f"http://127.0.0.1:{web.port}/api", username="u", password="p", vhost="/zocalo")
    found = RabbitManagement(account).queues()
    assert web.paths == ["/api/queues/%2Fzocalo"]
    assert of_namespace(found, "") == (QueueFigures("filewatcher", 4, 1, 3, 10, 5, dead_letters=2),)


def test_dead_letters_stand_with_their_queue() -> None:
    queues = [
        QueueFigures("zocalo.a", 1, 0, 1, 1, 0),
        QueueFigures("DLQ.zocalo.a", 3, 1, 0, 4, 0),
        QueueFigures("DLQ.zocalo.b", 2, 0, 0, 2, 0),
        QueueFigures("DLQ.zocalo.c", None, None),
        QueueFigures("other.d", 9, 0, 0, 9, 0),
        QueueFigures("ActiveMQ.DLQ", 9, 0, 0, 9, 0),
        QueueFigures("zocalo.e"),
    ]
    assert of_namespace(queues, "zocalo") == (
        QueueFigures("zocalo.a", 1, 0, 1, 1, 0, dead_letters=4),
        QueueFigures("zocalo.b", dead_letters=2),
        QueueFigures("zocalo.c", dead_letters=None),
        QueueFigures("zocalo.e", dead_letters=0),
    )


def test_the_configuration_decides_who_is_asked() -> None:
    jmx, api = Account(host="h", port=1), Account(url="http://h:1/api")
    assert isinstance(source_of(Settings(jmx=jmx, rabbitmqapi=api)), Jolokia)
    assert isinstance(source_of(Settings(rabbitmqapi=api)), RabbitManagement)
    assert source_of(Settings()) is None


def test_a_real_activemq_tells_its_figures(activemq: ActiveMQ) -> None:
    source = Jolokia(Account(host="127.0.0.1", port=activemq.jolokia_port, url="api/jolokia"), timeout=20)
    transport = StompTransport(StompSettings((("127.0.0.1", activemq.stomp_port),), namespace="figures"))
    transport.connect()
    try:
        queue = transport.queue("we/ird!name")
        for _ in range(3):
            transport.send(Outgoing(queue, b"{}"))
        transport.subscribe(queue, prefetch=1)
        delivery = next(event for event in iter(transport.inbox.get, None) if isinstance(event, Delivery))
        (seen,) = eventually(
            lambda: [each for each in of_namespace(source.queues(), "figures") if each.in_flight == 1], what="in flight"
        )
        assert seen == QueueFigures(queue.name, 2, 1, 1, 3, 0, dead_letters=0)
        transport.settle([delivery], [])
    finally:
        transport.close()
    broker = source.broker()
    assert (broker.name, broker.scheduler) == ("zoctest", True)
    assert "tcpNoDelay=true" in (broker.connectors or {})["stomp"]
    assert broker.store is not None
    source.remove(broker.name, queue.name)
    assert of_namespace(source.queues(), "figures") == ()
