"""The broker's state machine, where the conformance suite does not reach: its clock, its store, its limits."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from support.machine import Machine, bodies, sent
from zoctools.broker.consumers import KEPT_BYTES, KEPT_MESSAGES, Wanted
from zoctools.broker.messages import Sent
from zoctools.broker.topics import KEPT_IN_ALL
from zoctools.errors import SendRefused, StaleDelivery, UsageError


def test_a_delayed_message_is_released_on_time() -> None:
    machine = Machine()
    machine.consumer("q", prefetch=10)
    assert machine.send("q", b"later", AMQ_SCHEDULED_DELAY="5000") == []
    assert machine.queues.next_due() == machine.now + 5
    assert machine.figures("q").delayed == 1
    assert machine.figures("q").depth == 0
    assert machine.advance(4.9) == []
    (handed,) = machine.advance(0.1)
    assert handed.message.headers.items() >= {"scheduledJobId": "ID:test:1", "timestamp": "1000005000"}.items()
    assert "AMQ_SCHEDULED_DELAY" not in handed.message.headers
    assert machine.queues.next_due() is None


def test_without_a_scheduler_the_header_stays_on() -> None:
    machine = Machine(scheduler=False)
    machine.consumer("q")
    (handed,) = machine.send("q", AMQ_SCHEDULED_DELAY="5000")
    assert handed.message.headers["AMQ_SCHEDULED_DELAY"] == "5000"
    assert "scheduledJobId" not in handed.message.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"AMQ_SCHEDULED_DELAY": "1500.0"},
        {"AMQ_SCHEDULED_DELAY": "-1"},
        {"AMQ_SCHEDULED_PERIOD": "10"},
        {"expires": "tomorrow"},
        {"expires": "9" * 30},
        {"priority": "high"},
        {"priority": "²"},
    ],
)
def test_headers_the_broker_cannot_read_are_refused(headers: dict[str, str]) -> None:
    machine = Machine()
    with pytest.raises(SendRefused) as refusal:
        machine.send("q", **headers)
    assert next(iter(headers)) in refusal.value.message


@pytest.mark.parametrize(
    "destination", ["", "/queue/", "q", "/temp-queue/q", "/queue/a\nb", "/queue/a,,b", "/queue/a.*", "/queue/a.>"]
)
def test_destinations_nothing_can_be_sent_to(destination: str) -> None:
    machine = Machine()
    with pytest.raises(SendRefused):
        machine.queues.send(Sent(destination, {}, b"x"))
    assert machine.queues.figures() == []


def test_a_transaction_can_ask_before_its_commit() -> None:
    machine = Machine(refuse=lambda destination: "not yours" if destination == "/queue/b" else "")
    machine.queues.check(sent("a"))
    with pytest.raises(SendRefused, match="not yours"):
        machine.queues.check(sent("a,b"))
    assert machine.queues.figures() == []
    assert machine.carry_out() == []


def test_expiry_needs_nobody_to_look() -> None:
    machine = Machine()
    machine.send("q", b"dies", expires="1000010000")
    machine.send("q", b"lives")
    machine.queues.send(sent("q", b"vanishes", expires="1000010000"))
    assert machine.queues.next_due() == 1_000_010.0
    machine.advance(10)
    assert machine.bodies("q") == [b"lives"]
    assert machine.bodies("DLQ.q") == [b"dies"]
    figures = machine.figures("q")
    assert (figures.ready, figures.dead_letters, figures.expired) == (1, 1, 1)
    (dead,) = machine.queues.browse("/queue/DLQ.q").messages
    assert (
        dead.message.headers.items()
        >= {
            "original-destination": "/queue/q",
            "originalExpiration": "1000010000",
            "expires": "0",
            "dlqDeliveryFailureCause": "Message Expired. Expiration:1000010000",
        }.items()
    )


def test_what_is_expired_on_arrival_is_never_handed_out() -> None:
    machine = Machine()
    machine.consumer("q")
    assert machine.send("q", expires="5") == []
    assert machine.figures("q").dead_letters == 1


def test_a_message_in_flight_expires_when_it_comes_back() -> None:
    machine = Machine()
    first = machine.consumer("q")
    (handed,) = machine.send("q", b"slow", expires="1000001000")
    machine.advance(5)
    assert machine.figures("q").depth == 1
    machine.queues.disconnect(first)
    assert machine.bodies("DLQ.q") == [b"slow"]
    with pytest.raises(KeyError):
        machine.settle(handed)


def test_a_message_in_flight_can_be_acknowledged_after_it_expired() -> None:
    machine = Machine()
    machine.consumer("q")
    (handed,) = machine.send("q", expires="1000001000")
    machine.advance(5)
    machine.settle(handed)
    machine.advance(100)
    assert machine.figures("q").dequeued == 1
    assert machine.store == {}


def test_nack_is_a_dead_letter_as_activemq_writes_it() -> None:
    machine = Machine()
    machine.consumer("ns.q")
    (handed,) = machine.send("ns.q", b"bad", own="header")
    before = handed.message.headers
    machine.queues.nack(handed.connection, "s", handed.tag)
    machine.carry_out()
    (dead,) = machine.queues.browse("/queue/DLQ.ns.q").messages
    assert dead.message.body == b"bad"
    assert dead.message.headers == {
        **before,
        "destination": "/queue/DLQ.ns.q",
        "original-destination": "/queue/ns.q",
        "originalExpiration": "0",
    }
    assert not dead.redelivered
    with pytest.raises(StaleDelivery):
        machine.queues.nack(handed.connection, "s", handed.tag)


def test_consumers_of_equal_rank_take_turns() -> None:
    machine = Machine()
    consumers = [machine.consumer("q", prefetch=2) for _ in range(3)]
    handed = [machine.send("q")[0] for _ in range(6)]
    assert [one.connection for one in handed] == consumers * 2
    assert machine.send("q") == []


def test_the_next_exclusive_consumer_takes_over_before_any_other() -> None:
    machine = Machine()
    plain = machine.consumer("q", prefetch=10)
    first = machine.consumer("q", prefetch=10, exclusive=True)
    second = machine.consumer("q", prefetch=10, exclusive=True)
    assert machine.send("q")[0].connection == first
    machine.queues.disconnect(first)
    assert [(one.connection, one.redelivered) for one in machine.carry_out()] == [(second, True)]
    assert machine.send("q")[0].connection == second
    machine.queues.disconnect(second)
    assert {one.connection for one in machine.carry_out()} == {plain}


def test_messages_come_back_to_their_old_places() -> None:
    machine = Machine()
    for number in range(6):
        machine.send("q", str(number).encode(), n=str(number % 2))
    odd = machine.consumer("q", prefetch=10, selector="n = 1")
    machine.carry_out()
    machine.queues.disconnect(odd)
    machine.consumer("q", prefetch=10)
    handed = machine.carry_out()
    assert bodies(handed) == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert [one.redelivered for one in handed] == [False, True] * 3


def test_a_wildcard_consumer_gets_the_most_urgent_of_all_its_queues() -> None:
    machine = Machine()
    for queue, body, priority in (("a.x", b"3", "4"), ("a.y", b"4", "4"), ("a.z", b"1", "9"), ("a.x", b"2", "9")):
        machine.send(queue, body, priority=priority)
    machine.consumer("a.*")
    order = []
    handed = machine.carry_out()
    while handed:
        order += bodies(handed)
        handed = machine.settle(handed[0])
    assert order == [b"1", b"2", b"3", b"4"]


def test_prefetch_of_a_wildcard_consumer_holds_over_all_its_queues() -> None:
    machine = Machine()
    machine.consumer("a.>,b", prefetch=3)
    handed = [*machine.send("a.x"), *machine.send("a.y"), *machine.send("b"), *machine.send("a.z"), *machine.send("b")]
    assert len(handed) == 3


def test_a_paused_connection_is_handed_nothing() -> None:
    machine = Machine()
    connection = machine.consumer("q", acknowledge=False)
    machine.queues.subscribe(connection, Wanted("t", "/topic/t"))
    machine.queues.pause(connection)
    machine.send("q", b"1")
    machine.queues.send(sent("/topic/t", b"2"))
    machine.queues.send(sent("/topic/t", b"expires meanwhile", expires="1000001000"))
    assert machine.advance(2) == []
    machine.queues.resume(connection)
    assert sorted(bodies(machine.carry_out())) == [b"1", b"2"]
    assert bodies(machine.send("q", b"3")) == [b"3"]


def test_what_waits_for_a_paused_listener_is_bounded() -> None:
    machine = Machine()
    connection = machine.consumer("/topic/t")
    machine.queues.pause(connection)
    for number in range(KEPT_MESSAGES + 5):
        machine.queues.send(sent("/topic/t", str(number).encode()))
    machine.queues.resume(connection)
    handed = machine.carry_out()
    assert (len(handed), handed[0].message.body) == (KEPT_MESSAGES, b"5")


def test_topics_keep_what_is_not_expired_for_retroactive_listeners() -> None:
    machine = Machine()
    machine.queues.send(sent("/topic/t", b"short", expires="1000010000"))
    machine.queues.send(sent("/topic/t", b"long", kind="a"))
    machine.queues.send(sent("/topic/other", b"other", kind="a"))
    machine.advance(20)
    machine.consumer("/topic/t", retroactive=True)
    assert bodies(machine.carry_out()) == [b"long"]
    machine.consumer("/topic/>", retroactive=True, selector="kind = 'a'")
    assert bodies(machine.carry_out()) == [b"long", b"other"]
    machine.consumer("/topic/t")
    assert machine.carry_out() == []


def test_topics_keep_a_bounded_number_and_size() -> None:
    machine = Machine()
    for number in range(KEPT_MESSAGES + 10):
        machine.queues.send(sent("/topic/many", str(number).encode()))
    for number in range(20):
        machine.queues.send(sent("/topic/large", bytes([number]) * 2_000_000))
    machine.queues.send(sent("/topic/huge", bytes(KEPT_BYTES + 1)))
    machine.consumer("/topic/many", retroactive=True)
    handed = machine.carry_out()
    assert (len(handed), handed[0].message.body) == (KEPT_MESSAGES, b"10")
    machine.consumer("/topic/large", retroactive=True)
    kept = bodies(machine.carry_out())
    assert kept[-1][0] == 19
    assert sum(map(len, kept)) <= KEPT_BYTES
    machine.consumer("/topic/huge", retroactive=True)
    assert machine.carry_out() == []


def test_all_topics_together_keep_a_bounded_size() -> None:
    machine = Machine()
    for number in range(100):
        machine.queues.send(sent(f"/topic/t.{number}", bytes(1_000_000)))
        machine.queues.send(sent("/topic/t.0", b"never silent"))
    machine.consumer("/topic/>", retroactive=True)
    handed = machine.carry_out()
    assert KEPT_IN_ALL - 2_000_000 < sum(len(one.message.body) for one in handed) <= KEPT_IN_ALL
    topics = {one.message.destination for one in handed}
    assert {"/topic/t.0", "/topic/t.99"} <= topics
    assert "/topic/t.1" not in topics


def test_browse_finds_the_first_of_many_and_says_how_many() -> None:
    machine = Machine()
    for number in range(100):
        machine.send("q", str(number).encode(), n=str(number), priority="9" if number == 99 else "4")
    seen = machine.queues.browse("/queue/q", "n >= 50", limit=3)
    assert [one.message.body for one in seen.messages] == [b"99", b"50", b"51"]
    assert (seen.matching, seen.of) == (50, 100)
    assert machine.queues.browse("/queue/nothing").of == 0
    machine.send("r.s", b"other")
    assert machine.queues.browse("/queue/>").of == 101
    assert [one.name for one in machine.queues.figures()] == ["q", "r.s"]


def test_figures_count_every_fate() -> None:
    machine = Machine()
    machine.consumer("q", prefetch=3)
    handed = [one for _ in range(6) for one in machine.send("q")]
    machine.send("q", AMQ_SCHEDULED_DELAY="1000")
    machine.settle(handed[0])
    machine.queues.nack(handed[1].connection, "s", handed[1].tag)
    figures = machine.figures("q")
    assert (figures.ready, figures.in_flight, figures.delayed, figures.consumers) == (1, 3, 1, 1)
    assert (figures.enqueued, figures.dequeued, figures.dead_letters, figures.expired) == (6, 1, 1, 0)


def test_the_store_holds_exactly_what_must_survive() -> None:
    machine = Machine()
    machine.consumer("auto", acknowledge=False)
    machine.send("auto")
    assert machine.store == {}
    machine.send("q", b"kept")
    machine.send("q", b"later", AMQ_SCHEDULED_DELAY="60000")
    machine.send("q", b"dies", expires="1000030000")
    machine.queues.send(sent("q", b"lost"))
    machine.queues.send(sent("/topic/t", b"lost", persistent="true"))
    machine.carry_out()
    assert sorted(one.body for one in machine.store.values()) == [b"dies", b"kept", b"later"]

    again = Machine(kept=machine.store)
    again.advance(61)
    assert again.bodies("q") == [b"kept", b"later"]
    assert again.bodies("DLQ.q") == [b"dies"]
    assert sorted(one.body for one in again.store.values()) == [b"dies", b"kept", b"later"]
    again.send("q", b"new")
    last = Machine(kept=again.store)
    assert last.bodies("q") == [b"kept", b"later", b"new"]
    last.consumer("q", prefetch=10)
    assert [one.redelivered for one in last.carry_out()] == [False] * 3


def test_unused_queues_are_forgotten_and_used_ones_are_not() -> None:
    machine = Machine()
    watching = machine.consumer("watched")
    machine.send("full")
    machine.send("later", AMQ_SCHEDULED_DELAY="86400000")
    for number in range(50):
        connection = machine.consumer(f"transient.{number}")
        machine.queues.disconnect(connection)
    for _ in range(3):
        machine.advance(61)
    assert [one.name for one in machine.queues.figures()] == ["full", "later", "watched"]
    assert machine.send("watched")[0].connection == watching


def test_a_subscription_id_is_used_once() -> None:
    machine = Machine()
    connection = machine.consumer("q")
    with pytest.raises(UsageError):
        machine.queues.subscribe(connection, Wanted("s", "/queue/other"))
    machine.queues.unsubscribe(connection, "never opened")
    assert machine.send("q")[0].connection == connection


def test_one_acknowledgement_twice_in_one_settle_is_refused() -> None:
    machine = Machine()
    connection = machine.consumer("q")
    (handed,) = machine.send("q")
    with pytest.raises(StaleDelivery):
        machine.queues.settle(connection, [("s", handed.tag)] * 2, [sent("out")])
    assert machine.figures("q").in_flight == 1
    assert all(one.name != "out" for one in machine.queues.figures())


def calls_of(work: Callable[[], object]) -> int:
    """Count the calls it takes, as a measure of work that no load on the machine changes."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_work_per_message_does_not_grow_with_the_queue() -> None:
    def calls(length: int) -> int:
        machine = Machine()
        for number in range(length):
            machine.queues.send(sent("q", b"x", n=str(number)))
        machine.consumer("q", selector="n = -1")
        consumer = machine.consumer("q")
        handed = machine.carry_out()

        def take_fifty() -> None:
            for _ in range(50):
                handed[:] = machine.settle(handed[0])
                machine.queues.send(sent("q", b"x", n="1"))

        work = calls_of(take_fifty)
        assert handed[0].connection == consumer
        return work

    assert calls(20_000) < 2 * calls(200)


def test_a_message_that_comes_back_again_and_again_costs_the_same_each_time() -> None:
    machine = Machine()
    machine.send("q", b"first")
    machine.consumer("q")
    machine.carry_out()
    machine.send("q", b"x", n="1")

    def come_back() -> None:
        for _ in range(100):
            machine.queues.disconnect(machine.consumer("q", selector="n = 1"))

    first = calls_of(come_back)
    for _ in range(5):
        come_back()
    assert calls_of(come_back) < 2 * first
