"""The wire under faults: links cut at every point of a settle, silent and lying peers, brokers that come and go."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.activemq import ActiveMQ
from support.fakebroker import AWAIT, CONNECTED, FakeBroker
from support.proxy import Mode, Proxy
from support.site import next_message
from support.waiting import eventually
from zoctools.config import StompSettings
from zoctools.errors import LinkLost, SendRefused, StaleDelivery, TimedOut, Unreachable
from zoctools.transport.contract import Delivery, Destination, Link, Outgoing, Refused
from zoctools.transport.stomp import StompTransport
from zoctools.transport.wire import Wire

Connect = Callable[..., StompTransport]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open transports that are closed after the test."""
    opened: list[StompTransport] = []

    def make(*ports: int, **options: object) -> StompTransport:
        hosts = tuple(("127.0.0.1", port) for port in ports)
        transport = StompTransport(StompSettings(hosts, **options))  # type: ignore[arg-type]
        opened.append(transport)
        transport.connect()
        return transport

    yield make
    for transport in opened:
        transport.close()


def fresh(what: str = "wire") -> Destination:
    return Destination.queue(f"{what}.{uuid.uuid4().hex}")


def bodies(transport: StompTransport, queue: Destination) -> list[bytes]:
    return [message.body for message in transport.browse(queue).messages]


def links(transport: StompTransport) -> list[Link]:
    found = []
    while not transport.inbox.empty():
        event = transport.inbox.get()
        if isinstance(event, Link):
            found.append(event)
    return found


class CutSettle:
    """One settle of one message through a proxy that cuts the link at a chosen point."""

    def __init__(self, observer: StompTransport, through: StompTransport, proxy: Proxy) -> None:
        self.observer, self.through, self.proxy = observer, through, proxy
        self.source, self.target = fresh("from"), fresh("to")
        assert through.wait_connected(20)
        observer.send(Outgoing(self.source, b"in"))
        self.subscription = through.subscribe(self.source)
        self.delivery = next_message(through)
        proxy.forget()

    def settle(self, closing: bool = False) -> bool:
        closes = [self.subscription] if closing else []
        try:
            self.through.settle([self.delivery], [Outgoing(self.target, b"out")], closing=closes)
        except LinkLost:
            return False
        return True

    def outcome(self) -> tuple[list[bytes], list[bytes]]:
        """What is in the two queues once the link is back and nothing is in anybody's hands."""
        assert self.through.wait_connected(20)
        self.through.unsubscribe(self.subscription)
        return bodies(self.observer, self.source), bodies(self.observer, self.target)


@pytest.mark.parametrize(("direction", "closing"), [("up", False), ("down", False), ("up", True)])
def test_a_settle_cut_anywhere_is_done_or_not_done_and_never_half(
    activemq: ActiveMQ, connect: Connect, direction: str, closing: bool
) -> None:
    with Proxy(activemq.stomp_port) as proxy:
        observer, through = connect(activemq.stomp_port), connect(proxy.port)
        whole = CutSettle(observer, through, proxy)
        assert whole.settle(closing)
        length = len(proxy.up if direction == "up" else proxy.down)
        assert whole.outcome() == ([], [b"out"])
        cut = proxy.cut_up_after if direction == "up" else proxy.cut_down_after
        points = sorted({1, length - 1, *range(2, length, max(length // 12, 1))})
        for point in points:
            attempt = CutSettle(observer, through, proxy)
            cut(point)
            confirmed = attempt.settle(closing)
            outcome = attempt.outcome()
            assert outcome in (([b"in"], []), ([], [b"out"])), f"cut {direction} after {point} of {length} bytes"
            assert not confirmed or outcome == ([], [b"out"])


@pytest.mark.parametrize("step", range(5))
def test_a_process_killed_between_two_steps_of_a_settle_loses_and_halves_nothing(
    activemq: ActiveMQ, connect: Connect, step: int
) -> None:
    observer, source, target = connect(activemq.stomp_port), fresh("from"), fresh("to")
    observer.send(Outgoing(source, b"in"))
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "support" / "killed.py"),
        str(activemq.stomp_port),
        source.name,
        target.name,
        str(step),
    ]
    ended = subprocess.run(command, timeout=60, check=False).returncode
    assert ended == (0 if step == 4 else -signal.SIGKILL)

    def at_rest() -> tuple[list[bytes], list[bytes]] | None:
        outcome = bodies(observer, source), bodies(observer, target)
        return outcome if outcome in (([b"in"], []), ([], [b"out"])) else None

    outcome = eventually(at_rest)
    if step <= 2:
        assert outcome == ([b"in"], [])
    if step == 4:
        assert outcome == ([], [b"out"])


def test_a_refused_message_settles_nothing_and_the_link_goes_on(
    private_activemq: Callable[..., ActiveMQ], connect: Connect
) -> None:
    broker = private_activemq("auth")
    transport, source, target = connect(broker.stomp_port, username="zoc", password="zocpw"), fresh(), fresh()
    forbidden = Destination.queue("forbidden.x")
    transport.send(Outgoing(source, b"in"))
    transport.subscribe(source)
    delivery = next_message(transport)
    outputs = [Outgoing(queue, b"out") for queue in (target, forbidden, target, forbidden)]
    with pytest.raises(SendRefused, match="zoc is not authorized to write to: queue://forbidden"):
        transport.settle([delivery], outputs)
    assert bodies(transport, source) == [b"in"]
    transport.settle([delivery], [Outgoing(target, b"second try")])
    assert (bodies(transport, source), bodies(transport, target)) == ([], [b"second try"])
    assert transport.inbox.empty()
    assert transport.link.number == 1


def test_transactions_left_open_by_refusals_do_not_pile_up(
    private_activemq: Callable[..., ActiveMQ], connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoctools.transport.stomp.MAX_LEFT_OPEN", 10_000)
    transport = connect(private_activemq("auth").stomp_port, username="zoc", password="zocpw")
    outputs = [Outgoing(fresh(), b"x" * 6000), Outgoing(Destination.queue("forbidden.x"), b"x")]
    for _ in range(2):
        assert transport.link.number == 1
        with pytest.raises(SendRefused):
            transport.settle([], outputs)
    eventually(lambda: transport.link.connected and transport.link.number == 2)


def test_what_closes_with_a_settle_takes_nothing_more(activemq: ActiveMQ, connect: Connect) -> None:
    leaving, staying, queue = connect(activemq.stomp_port), connect(activemq.stomp_port), fresh()
    for number in range(4):
        leaving.send(Outgoing(queue, b"%d" % number))
    subscription = leaving.subscribe(queue)
    leaving.settle([next_message(leaving)], [], closing=[subscription])
    staying.subscribe(queue, prefetch=10)
    rest = [next_message(staying) for _ in range(3)]
    assert [delivery.body for delivery in rest] == [b"1", b"2", b"3"]
    assert not any(delivery.redelivered for delivery in rest)


def test_two_threads_cannot_settle_one_delivery(activemq: ActiveMQ, connect: Connect) -> None:
    transport, queue, target = connect(activemq.stomp_port), fresh(), fresh()
    transport.subscribe(queue)
    outcomes: list[str] = []

    def settle(delivery: Delivery) -> None:
        try:
            transport.settle([delivery], [Outgoing(target, b"out")])
            outcomes.append("done")
        except StaleDelivery:
            outcomes.append("stale")

    for _ in range(10):
        transport.send(Outgoing(queue, b"in"))
        delivery = next_message(transport)
        threads = [threading.Thread(target=settle, args=(delivery,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(outcomes) == ["done"] * 10 + ["stale"] * 20
    assert len(bodies(transport, target)) == 10


def test_each_half_of_a_settle_is_one_write(
    activemq: ActiveMQ, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, source = connect(activemq.stomp_port), fresh()
    transport.send(Outgoing(source, b"in"))
    transport.subscribe(source)
    delivery = next_message(transport)
    writes: list[bytes] = []
    send = Wire.send
    monkeypatch.setattr(Wire, "send", lambda wire, data: (writes.append(data), send(wire, data)))
    transport.settle([delivery], [Outgoing(fresh(), b"one"), Outgoing(fresh(), b"two")])
    first, second = writes
    assert [first.count(word) for word in (b"BEGIN\n", b"SEND\n", b"receipt:", b"COMMIT\n")] == [1, 2, 2, 0]
    assert [second.count(word) for word in (b"ACK\n", b"COMMIT\n", b"receipt:")] == [1, 1, 1]
    assert b"ABORT" not in first + second
    assert b"NACK" not in first + second


def test_small_writes_leave_at_once_and_prefetch_is_always_asked_for(activemq: ActiveMQ, connect: Connect) -> None:
    with Proxy(activemq.stomp_port) as proxy:
        transport = connect(proxy.port)
        assert transport._session.wire().socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        transport.subscribe(fresh())
        transport.subscribe(fresh(), prefetch=7)
        assert b"activemq.prefetchSize:1\n" in proxy.up
        assert b"activemq.prefetchSize:7\n" in proxy.up


def test_nothing_is_sent_by_the_thread_that_receives(
    activemq: ActiveMQ, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = set()
    send = Wire.send

    def recorded(wire: Wire, data: bytes) -> None:
        writers.add(threading.current_thread().name)
        send(wire, data)

    monkeypatch.setattr(Wire, "send", recorded)
    transport, queue = connect(activemq.stomp_port), fresh()
    transport.subscribe(queue, prefetch=100)
    for number in range(20):
        transport.send(Outgoing(queue, b"%d" % number))
    for _ in range(20):
        transport.settle([next_message(transport)], [])
    assert writers
    assert not [name for name in writers if "receiver" in name]


def test_a_link_that_carries_nothing_any_more_is_noticed(activemq: ActiveMQ, connect: Connect) -> None:
    with Proxy(activemq.stomp_port) as proxy:
        transport, queue = connect(proxy.port, heartbeat=0.4), fresh()
        transport.subscribe(queue)
        proxy.mode = Mode.BLACKHOLE
        eventually(lambda: not transport.link.connected, 20)
        assert "silent" in transport.link.error
        proxy.mode = Mode.PASS
        proxy.drop()
        assert transport.wait_connected(20)
        transport.send(Outgoing(queue, b"after"))
        assert next_message(transport).body == b"after"


def test_heart_beats_keep_an_idle_link_and_start_again_after_a_reconnect(
    private_activemq: Callable[..., ActiveMQ], connect: Connect
) -> None:
    broker = private_activemq("minimal")
    transport = connect(broker.stomp_port, heartbeat=0.5)
    broker.kill()
    broker.restart()
    assert transport.wait_connected(20)
    number = transport.link.number
    broker.freeze()
    eventually(lambda: not transport.link.connected, 20)
    broker.thaw()
    assert transport.wait_connected(20)
    assert transport.link.number > number


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_broker_that_comes_back_finds_us_where_we_were(
    private_activemq: Callable[..., ActiveMQ], connect: Connect, how: str
) -> None:
    broker = private_activemq("minimal")
    transport, queue, out = connect(broker.stomp_port), fresh(), fresh()
    for number in range(3):
        transport.send(Outgoing(queue, b"%d" % number))
    transport.subscribe(queue)
    old = next_message(transport)
    getattr(broker, how)()
    eventually(lambda: not transport.link.connected)
    with pytest.raises(LinkLost):
        transport.send(Outgoing(out, b"lost"))
    broker.restart()
    assert transport.wait_connected(20)
    with pytest.raises(StaleDelivery):
        transport.settle([old], [Outgoing(out, b"stale")])
    for _ in range(3):
        delivery = next_message(transport)
        transport.settle([delivery], [Outgoing(out, delivery.body)])
    assert sorted(bodies(transport, out)) == [b"0", b"1", b"2"]
    seen = links(transport)
    assert not seen or seen[-1].connected


def test_the_second_host_serves_when_the_first_does_not(activemq: ActiveMQ, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = taken.getsockname()[1]
    transport = connect(dead, activemq.stomp_port)
    assert transport.link.broker == f"127.0.0.1:{activemq.stomp_port}"


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\xfe not stomp at all\n\n\0",
        b"NONSENSE\nfoo:bar\n\nbody\0",
        b"MESSAGE\nsubscription:1\ncontent-length:abc\n\nx\0",
        b"MESSAGE\nsubscription:1\ncontent-length:99999999999\n\nx\0",
        b"MESSAGE\nsubscription:1\nmessage-id:1\ncontent-length:5\n\nab",
        b"MESSAGE\nno colon here\n\n\0",
        b"ERROR\nmessage:go away\n\n\0",
    ],
)
def test_a_peer_that_sends_garbage_or_stops_mid_frame_is_left_and_tried_again(connect: Connect, garbage: bytes) -> None:
    with FakeBroker([CONNECTED, AWAIT, garbage, None], [CONNECTED]) as broker:
        transport = connect(broker.port)
        transport.broadcast(Outgoing(Destination.topic("hello"), b"x"))
        eventually(lambda: broker.accepted >= 2 and transport.link.connected)
        events = [transport.inbox.get() for _ in range(transport.inbox.qsize())]
        lost = [event for event in events if isinstance(event, Link) and not event.connected]
        assert lost
        assert all(event.error for event in lost)
        assert not [event for event in events if not isinstance(event, Link | Refused)]


def test_a_message_for_no_subscription_is_counted_and_passed_over(connect: Connect) -> None:
    stray = b"MESSAGE\nsubscription:77\nmessage-id:1\ndestination:/queue/x\n\nbody\0"
    with FakeBroker([CONNECTED, AWAIT, stray]) as broker:
        transport = connect(broker.port)
        transport.broadcast(Outgoing(Destination.topic("hello"), b"x"))
        eventually(lambda: transport.unknown_messages == 1)
        assert transport.link.connected


def test_the_last_words_of_a_broker_explain_why_it_hung_up(connect: Connect) -> None:
    with FakeBroker([CONNECTED, AWAIT, b"ERROR\nmessage:The maximum header length was exceeded\n\n\0", None]) as broker:
        transport = connect(broker.port)
        transport.broadcast(Outgoing(Destination.topic("hello"), b"x"))
        lost = eventually(lambda: [link for link in links(transport) if not link.connected])
        assert "maximum header length" in lost[0].error


def test_the_receiver_thread_cannot_send(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []

    def answer(transport: StompTransport, wire: Wire, frame: object) -> None:
        try:
            wire.send(b"\n")
        except RuntimeError as error:
            raised.append(error)

    monkeypatch.setattr(StompTransport, "message_arrived", answer)
    with FakeBroker([CONNECTED, AWAIT, b"MESSAGE\nsubscription:1\nmessage-id:1\n\nx\0"]) as broker:
        connect(broker.port).broadcast(Outgoing(Destination.topic("hello"), b"x"))
        eventually(lambda: raised)


def test_a_refused_login_is_not_tried_for_ever(connect: Connect) -> None:
    refusal = b"ERROR\nmessage:java.lang.SecurityException: User name [x] or password is invalid.\n\n\0"
    with FakeBroker([CONNECTED, None], [refusal, None]) as broker:
        transport = connect(broker.port)
        eventually(lambda: transport.link.given_up)
        assert "password is invalid" in transport.link.error
        assert broker.accepted == 2


def test_a_broker_that_confirms_nothing_is_given_up_in_time(connect: Connect) -> None:
    with FakeBroker([CONNECTED]) as broker:
        transport = connect(broker.port, settle_timeout=0.5)
        with pytest.raises(TimedOut):
            transport.send(Outgoing(fresh(), b"x"))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "not a STOMP broker"),
        ([None], "closed the connection"),
        ([], "timed out"),
        ([b"ERROR\nmessage:Broker has been stopped\n\n\0", None], "Broker has been stopped"),
    ],
)
def test_who_is_no_broker_is_named(answer: list[bytes | None], said: str) -> None:
    with FakeBroker(answer) as broker:
        transport = StompTransport(StompSettings((("127.0.0.1", broker.port),), connect_timeout=1.0))
        with pytest.raises(Unreachable) as caught:
            transport.connect()
        assert said in caught.value.message
        assert f"127.0.0.1:{broker.port}" in caught.value.message


def test_a_host_name_that_cannot_be_one_is_said_so() -> None:
    with pytest.raises(Unreachable, match="not a host and port"):
        StompTransport(StompSettings((("a" * 70 + ".example", 61613),))).connect()


def test_the_password_is_in_no_log(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with FakeBroker([CONNECTED]) as broker:
        connect(broker.port, username="zoc", password="s3cret")
    assert "s3cret" not in caplog.text


def test_nobody_there_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable) as caught:
        StompTransport(StompSettings((("127.0.0.1", port),))).connect()
    assert caught.value.message == f"cannot reach broker 127.0.0.1:{port}: connection refused"


def test_a_broker_without_a_scheduler_delivers_early_with_the_delay_still_on(
    private_activemq: Callable[..., ActiveMQ], connect: Connect
) -> None:
    broker = private_activemq("minimal", scheduler=False)
    transport, queue = connect(broker.stomp_port), fresh()
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"early", delay=60))
    assert next_message(transport).headers["AMQ_SCHEDULED_DELAY"] == "60000"


def test_a_broker_of_stomp_1_1_is_acknowledged_in_its_way(connect: Connect) -> None:
    hello = CONNECTED.replace(b"1.2", b"1.1")
    message = b"MESSAGE\nsubscription:1\nmessage-id:m\\c7\ndestination:/queue/x\n\nbody\0"
    with (
        FakeBroker([hello, AWAIT, b"RECEIPT\nreceipt-id:subscribed-1\n\n\0", message]) as broker,
        Proxy(broker.port) as proxy,
    ):
        transport = connect(proxy.port, settle_timeout=0.5)
        transport.subscribe(Destination.queue("x"))
        delivery = next_message(transport)
        with pytest.raises(TimedOut):
            transport.settle([delivery], [])
        assert b"ACK\nmessage-id:m\\c7\nsubscription:1\n" in proxy.up


def test_another_host_takes_over_when_the_first_goes(activemq: ActiveMQ, connect: Connect) -> None:
    with Proxy(activemq.stomp_port) as first, Proxy(activemq.stomp_port) as second:
        transport, queue = connect(first.port, second.port), fresh()
        transport.subscribe(queue)
        assert transport.link.broker == f"127.0.0.1:{first.port}"
        first.close()
        eventually(lambda: transport.link.connected and transport.link.broker == f"127.0.0.1:{second.port}")
        transport.send(Outgoing(queue, b"over here"))
        assert next_message(transport).body == b"over here"


def test_every_host_that_failed_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [server.getsockname()[1] for server in (one, two)]
    with pytest.raises(Unreachable) as caught:
        StompTransport(StompSettings(tuple(("127.0.0.1", port) for port in ports))).connect()
    assert all(f"127.0.0.1:{port}: connection refused" in caught.value.message for port in ports)


def test_an_outage_is_told_try_by_try(private_activemq: Callable[..., ActiveMQ], connect: Connect) -> None:
    broker = private_activemq("minimal")
    transport = connect(broker.stomp_port)
    broker.kill()
    eventually(lambda: transport.link.attempt >= 3)
    link = transport.link
    assert not link.connected
    assert link.next_try is not None
    assert link.next_try >= link.since
    assert "connection refused" in link.error
    attempts = [event.attempt for event in links(transport) if not event.connected]
    assert attempts == sorted(attempts)


def test_waiting_ends_when_the_link_will_not_come_back(connect: Connect) -> None:
    refusal = b"ERROR\nmessage:User name [x] or password is invalid.\n\n\0"
    with FakeBroker([CONNECTED, None], [refusal, None]) as broker:
        transport = connect(broker.port)
        eventually(lambda: not transport.link.connected)
        assert not transport.wait_connected(100)
        assert transport.link.given_up


def test_a_browse_says_how_many_there_are_and_whether_it_saw_all(activemq: ActiveMQ, connect: Connect) -> None:
    transport, queue = connect(activemq.stomp_port), fresh()
    empty = transport.browse(queue)
    assert (empty.looked_at, empty.of, empty.complete) == (0, 0, True)
    transport.settle([], [Outgoing(queue, b"x", {"kind": "odd" if number % 2 else "even"}) for number in range(450)])
    part, everything = transport.browse(queue, limit=100), transport.browse(queue)
    assert (part.looked_at, part.of, part.complete) == (100, 450, False)
    assert everything.of == 450
    assert everything.complete == (everything.looked_at == 450)
    chosen = transport.browse(queue, "kind = 'odd'")
    assert {message.headers["kind"] for message in chosen.messages} == {"odd"}
    assert not chosen.complete


def test_without_the_statistics_plug_in_no_browse_is_called_complete(
    private_activemq: Callable[..., ActiveMQ], connect: Connect
) -> None:
    transport, queue = connect(private_activemq("minimal").stomp_port), fresh()
    transport.send(Outgoing(queue, b"x"))
    seen = transport.browse(queue)
    assert (seen.looked_at, seen.of, seen.complete) == (1, None, False)
    assert transport.link.number == 1


def test_many_threads_settle_at_once(activemq: ActiveMQ, connect: Connect) -> None:
    transport, queue = connect(activemq.stomp_port), fresh()
    failures: list[Exception] = []

    def work(name: int) -> None:
        try:
            for number in range(25):
                transport.settle([], [Outgoing(queue, b"%d-%d" % (name, number)) for _ in range(2)])
                transport.broadcast(Outgoing(Destination.topic("wire.news"), b"x"))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert transport.browse(queue, limit=1000).looked_at == 400
