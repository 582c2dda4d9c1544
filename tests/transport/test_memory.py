"""The memory transport, beyond what every transport promises: its clocks, and the faults it plays on demand."""

from __future__ import annotations

import threading

import pytest

from support.brokers import receive, receive_settled
from support.waiting import eventually
from zoctools.errors import LinkLost, StaleDelivery, Unreachable, UsageError
from zoctools.headers import SCHEDULED_DELAY
from zoctools.transport.contract import Delivery, Destination, Link, Outgoing
from zoctools.transport.memory import ManualClock, MemoryBroker, MemoryTransport

QUEUE = Destination.queue("q")


def connected(broker: MemoryBroker) -> MemoryTransport:
    """A transport with a link."""
    transport = MemoryTransport(broker)
    transport.connect()
    return transport


def arrived(transport: MemoryTransport) -> list[Delivery]:
    """What is in the inbox now."""
    events = [transport.inbox.get_nowait() for _ in range(transport.inbox.qsize())]
    return [event for event in events if isinstance(event, Delivery)]


def links(transport: MemoryTransport) -> list[tuple[bool, int]]:
    """The states of the link that are in the inbox now."""
    events = [transport.inbox.get_nowait() for _ in range(transport.inbox.qsize())]
    return [(event.connected, event.number) for event in events if isinstance(event, Link)]


def test_with_a_manual_clock_time_passes_only_when_told() -> None:
    clock = ManualClock()
    transport = connected(MemoryBroker(clock))
    transport.subscribe(QUEUE)
    transport.subscribe(QUEUE.dead_letters)
    transport.send(Outgoing(QUEUE, b"dies", delay=10, expires_in=5))
    transport.send(Outgoing(Destination.queue("idle"), b"dies", expires_in=20))
    clock.advance(9.9)
    assert arrived(transport) == []
    clock.advance(0.1)
    (late,) = arrived(transport)
    assert late.body == b"dies"
    transport.settle([late], [])
    transport.subscribe(Destination.queue("DLQ.idle"))
    clock.advance(10)
    assert [one.destination.name for one in arrived(transport)] == ["DLQ.idle"]


def test_with_the_real_clock_nobody_has_to_look() -> None:
    others = set(threading.enumerate())
    transport = connected(MemoryBroker())
    transport.subscribe(QUEUE, prefetch=10)
    transport.subscribe(Destination.queue("DLQ.idle"))
    transport.send(Outgoing(QUEUE, b"last", delay=0.4))
    transport.send(Outgoing(Destination.queue("idle"), b"dead", expires_in=0.2))
    transport.send(Outgoing(QUEUE, b"first", delay=0.05))
    assert [receive(transport).body for _ in range(3)] == [b"first", b"dead", b"last"]
    eventually(lambda: set(threading.enumerate()) <= others, what="the end of the timer with nothing to wait for")
    transport.send(Outgoing(QUEUE, b"again", delay=0.05))
    assert receive(transport).body == b"again"


def test_without_a_scheduler_the_delay_is_passed_on() -> None:
    transport = connected(MemoryBroker(scheduler=False))
    transport.subscribe(QUEUE)
    transport.send(Outgoing(QUEUE, b"x", delay=30))
    (delivery,) = arrived(transport)
    assert delivery.headers[SCHEDULED_DELAY] == "30000"


def test_a_dropped_link_can_stay_away() -> None:
    broker = MemoryBroker()
    transport, other = connected(broker), connected(broker)
    transport.subscribe(QUEUE)
    transport.send(Outgoing(QUEUE, b"x"))
    (held,) = arrived(transport)
    transport.drop_link(reconnect=False)
    assert links(transport) == [(False, 1)]
    assert transport.link.error
    assert not transport.wait_connected(0.01)
    for attempt in (lambda: transport.settle([held], []), lambda: transport.browse(QUEUE)):
        with pytest.raises(LinkLost):
            attempt()
    late = transport.subscribe(Destination.queue("late"))
    other.subscribe(QUEUE)
    (elsewhere,) = arrived(other)
    assert elsewhere.redelivered
    transport.restore_link()
    assert links(transport) == [(True, 2)]
    other.send(Outgoing(Destination.queue("late"), b"y"))
    (delivery,) = arrived(transport)
    assert delivery.subscription == late
    with pytest.raises(StaleDelivery):
        transport.settle([held], [])


@pytest.mark.parametrize("done", [True, False])
def test_a_settle_can_lose_its_confirmation(done: bool) -> None:
    broker = MemoryBroker()
    transport, other = connected(broker), connected(broker)
    transport.subscribe(QUEUE)
    other.subscribe(Destination.queue("out"))
    transport.send(Outgoing(QUEUE, b"in"))
    (held,) = arrived(transport)
    transport.cut_next_settle(done=done)
    with pytest.raises(LinkLost):
        transport.settle([held], [Outgoing(Destination.queue("out"), b"out")])
    assert len(arrived(other)) == done
    again = arrived(transport)
    assert [one.redelivered for one in again] == ([] if done else [True])
    transport.settle(again, [])
    transport.send(Outgoing(QUEUE, b"next"))
    assert [one.body for one in arrived(transport)] == [b"next"]


def test_a_stopped_broker_is_unreachable_until_it_starts() -> None:
    broker = MemoryBroker()
    transport = connected(broker)
    transport.subscribe(QUEUE)
    transport.send(Outgoing(QUEUE, b"kept"))
    transport.send(Outgoing(QUEUE, b"lost", persistent=False))
    arrived(transport)
    broker.stop()
    broker.stop()
    assert not broker.running
    with pytest.raises(Unreachable):
        MemoryTransport(broker).connect()
    with pytest.raises(LinkLost):
        transport.send(Outgoing(QUEUE, b"x"))
    with pytest.raises(LinkLost):
        broker.figures()
    broker.start()
    broker.start()
    assert [(one.body, one.redelivered) for one in arrived(transport)] == [(b"kept", False)]
    assert (transport.link.connected, transport.link.number) == (True, 2)


def test_a_closed_transport_stays_closed_when_the_broker_restarts() -> None:
    broker = MemoryBroker()
    transport = connected(broker)
    transport.close()
    broker.stop()
    broker.start()
    assert not transport.link.connected
    assert links(transport) == [(True, 1), (False, 1)]


def test_the_link_is_told_before_the_messages_that_came_over_it() -> None:
    broker = MemoryBroker()
    transport = connected(broker)
    transport.subscribe(QUEUE)
    transport.send(Outgoing(QUEUE, b"x"))
    transport.drop_link()
    kinds = [type(transport.inbox.get_nowait()).__name__ for _ in range(transport.inbox.qsize())]
    assert kinds == ["Link", "Delivery", "Link", "Link", "Delivery"]


def test_connecting_twice_is_connecting_once() -> None:
    transport = connected(MemoryBroker())
    transport.connect()
    assert links(transport) == [(True, 1)]


def test_what_is_not_to_be_acknowledged_cannot_be() -> None:
    transport = connected(MemoryBroker())
    transport.subscribe(QUEUE, acknowledge=False)
    transport.send(Outgoing(QUEUE, b"x"))
    transport.send(Outgoing(Destination.queue("seen"), b"x"))
    (looked_at,) = transport.browse(Destination.queue("seen")).messages
    for delivery in (*arrived(transport), looked_at):
        with pytest.raises(ValueError, match="not acknowledged"):
            transport.settle([delivery], [])


def test_a_prefetch_of_nothing_is_a_mistake() -> None:
    with pytest.raises(UsageError):
        connected(MemoryBroker()).subscribe(QUEUE, prefetch=0)


def test_many_threads_lose_and_double_nothing() -> None:
    broker = MemoryBroker()
    total, workers = 400, 6
    done = Destination.queue("done")
    collector = connected(broker)
    collector.subscribe(done, prefetch=total)

    def send(start: int) -> None:
        transport = connected(broker)
        for number in range(start, total, 2):
            transport.send(Outgoing(QUEUE, str(number).encode(), delay=0.01 * (number % 3)))

    def work() -> None:
        transport = connected(broker)
        transport.subscribe(QUEUE, prefetch=3)
        while True:
            event = transport.inbox.get()
            if not isinstance(event, Delivery):
                continue
            if event.body == b"stop":
                transport.close()
                return
            if int(event.body) % 50 == 0 and not event.redelivered:
                transport.drop_link()
                continue
            try:
                transport.settle([event], [Outgoing(done, event.body)])
            except StaleDelivery:
                assert event.link < transport.link.number

    threads = [threading.Thread(target=send, args=(start,)) for start in range(2)]
    threads += [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    finished = [receive(collector).body for _ in range(total)]
    sender = connected(broker)
    for _ in range(workers):
        sender.send(Outgoing(QUEUE, b"stop"))
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert sorted(finished, key=int) == [str(number).encode() for number in range(total)]


def test_the_queue_can_be_long() -> None:
    broker = MemoryBroker()
    transport = connected(broker)
    for _ in range(100):
        transport.settle([], [Outgoing(QUEUE, b"x")] * 1000)
    assert transport.browse(QUEUE, limit=1).of == 100_000
    transport.subscribe(QUEUE, prefetch=5)
    receive_settled(transport, 500)
    (figures,) = broker.figures()
    assert (figures.depth, figures.in_flight, figures.dequeued) == (99_500, 5, 500)
