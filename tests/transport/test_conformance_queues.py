"""What every transport promises of queues: who gets a message, in which order, how often, and with which mark."""

from __future__ import annotations

import pytest

from support.brokers import BrokerUnderTest, assert_quiet, await_new_link, next_event, receive, receive_settled
from zoctools.errors import Unsendable, ZocError
from zoctools.headers import SCHEDULED_DELAY
from zoctools.transport.contract import Destination, Link, Outgoing, Transport


def send_numbered(transport: Transport, queue: Destination, count: int, **headers: str) -> list[bytes]:
    """Send messages with the bodies 0, 1, 2, ... and return these."""
    bodies = [str(number).encode() for number in range(count)]
    transport.settle([], [Outgoing(queue, body, headers) for body in bodies])
    return bodies


def test_a_message_arrives_as_it_was_sent(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = Destination.queue(unique)
    subscription = transport.subscribe(queue)
    transport.send(Outgoing(queue, b'{"a": 1}', {"workflows-recipe": "True", "colour": "red"}))
    delivery = receive(transport)
    assert delivery.body == b'{"a": 1}'
    assert delivery.destination == queue
    assert delivery.subscription == subscription
    assert delivery.link == transport.link.number
    assert delivery.message_id
    assert not delivery.redelivered
    sent = {"workflows-recipe": "True", "colour": "red", "persistent": "true", "expires": "0", "priority": "4"}
    assert sent.items() <= delivery.headers.items()
    assert delivery.headers["timestamp"].isdecimal()


def test_names_are_full_names_and_the_namespace_is_applied_once(broker: BrokerUnderTest, unique: str) -> None:
    inside, outside = broker.new_transport(namespace=f"{unique}."), broker.new_transport()
    assert inside.queue("x") == Destination.queue(f"{unique}.x")
    assert inside.topic("x") == Destination.topic(f"{unique}.x")
    assert outside.queue("x") == Destination.queue("x")
    outside.subscribe(Destination.queue(f"{unique}.x"))
    inside.send(Outgoing(inside.queue("x"), b"here"))
    assert receive(outside).body == b"here"


def test_messages_keep_their_order(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    bodies = send_numbered(transport, queue, 30)
    transport.subscribe(queue, prefetch=4)
    assert [delivery.body for delivery in receive_settled(transport, 30)] == bodies


def test_each_message_goes_to_one_of_several_consumers(broker: BrokerUnderTest, unique: str) -> None:
    sender, one, other = (broker.new_transport() for _ in range(3))
    queue = sender.queue(unique)
    one.subscribe(queue)
    other.subscribe(queue)
    bodies = send_numbered(sender, queue, 20)
    received = []
    for _ in range(10):
        received += receive_settled(one, 1) + receive_settled(other, 1)
    assert sorted(delivery.body for delivery in received) == sorted(bodies)
    assert_quiet(broker, one, other)


@pytest.mark.parametrize("prefetch", [1, 3])
def test_no_more_is_delivered_than_prefetch_allows(broker: BrokerUnderTest, unique: str, prefetch: int) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    bodies = send_numbered(transport, queue, 6)
    transport.subscribe(queue, prefetch=prefetch)
    held = [receive(transport) for _ in range(prefetch)]
    assert_quiet(broker, transport)
    transport.settle(held[:1], [])
    held[:1] = [receive(transport)]
    assert_quiet(broker, transport)
    other.subscribe(queue)
    rest = receive_settled(other, 6 - prefetch - 1)
    assert [delivery.body for delivery in rest] == bodies[prefetch + 1 :]


def test_what_a_closed_consumer_held_goes_to_another_marked_and_in_order(broker: BrokerUnderTest, unique: str) -> None:
    leaving, staying = broker.new_transport(), broker.new_transport()
    queue = leaving.queue(unique)
    bodies = send_numbered(leaving, queue, 5)
    leaving.subscribe(queue, prefetch=4)
    held = [receive(leaving) for _ in range(4)]
    leaving.settle([held[1]], [])
    assert receive(leaving).body == bodies[4]
    leaving.close()
    staying.subscribe(queue)
    received = receive_settled(staying, 4)
    assert [delivery.body for delivery in received] == [bodies[0], *bodies[2:]]
    assert all(delivery.redelivered for delivery in received)
    assert_quiet(broker, staying)


def test_unsubscribing_returns_what_was_not_settled(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    send_numbered(transport, queue, 3)
    subscription = transport.subscribe(queue, prefetch=2)
    held = [receive(transport), receive(transport)]
    transport.settle([held[0]], [])
    receive(transport)
    transport.unsubscribe(subscription)
    transport.subscribe(queue, prefetch=10)
    again = [receive(transport), receive(transport)]
    assert [(delivery.body, delivery.redelivered) for delivery in again] == [(b"1", True), (b"2", True)]


def test_a_lost_link_comes_back_with_its_subscriptions(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"once more"))
    first = receive(transport)
    broker.lose(transport)
    down = next_event(transport, Link)
    assert isinstance(down, Link)
    assert not down.connected
    await_new_link(transport, after=first.link)
    assert transport.wait_connected(30)
    again = receive(transport)
    assert (again.body, again.redelivered) == (b"once more", True)
    assert again.link > first.link
    transport.settle([again], [])
    other.send(Outgoing(queue, b"new"))
    assert receive(transport).body == b"new"


def test_a_lost_link_gives_its_messages_to_others(broker: BrokerUnderTest, unique: str) -> None:
    losing, other = broker.new_transport(), broker.new_transport()
    queue = losing.queue(unique)
    subscription = losing.subscribe(queue, priority=10)
    other.send(Outgoing(queue, b"x"))
    assert receive(losing).subscription == subscription
    losing.unsubscribe(subscription)
    other.subscribe(queue)
    assert receive(other).redelivered


def test_what_is_not_acknowledged_by_wish_is_gone_once_delivered(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    bodies = send_numbered(transport, queue, 5)
    subscription = transport.subscribe(queue, acknowledge=False)
    assert [receive(transport).body for _ in range(5)] == bodies
    transport.unsubscribe(subscription)
    transport.subscribe(queue)
    assert_quiet(broker, transport)


def test_an_exclusive_consumer_gets_all_until_it_goes(broker: BrokerUnderTest, unique: str) -> None:
    first, second = broker.new_transport(), broker.new_transport()
    queue = first.queue(unique)
    first.subscribe(queue, exclusive=True)
    second.subscribe(queue, exclusive=True)
    send_numbered(first, queue, 4)
    assert [delivery.body for delivery in receive_settled(first, 3)] == [b"0", b"1", b"2"]
    held = receive(first)
    assert_quiet(broker, second)
    first.close()
    taken_over = receive(second)
    assert (taken_over.body, taken_over.redelivered) == (held.body, True)


def test_the_consumer_of_higher_priority_is_served_first(broker: BrokerUnderTest, unique: str) -> None:
    low, high = broker.new_transport(), broker.new_transport()
    queue = low.queue(unique)
    low.subscribe(queue, priority=1)
    high.subscribe(queue, priority=9)
    for _ in range(4):
        low.send(Outgoing(queue, b"x"))
        receive_settled(high, 1)
    low.settle([], [Outgoing(queue, b"to high"), Outgoing(queue, b"to low")])
    assert receive(high).body == b"to high"
    assert receive(low).body == b"to low"


def test_messages_of_higher_priority_overtake(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    for body, priority in ((b"low", "1"), (b"usual", ""), (b"high", "9"), (b"high too", "9")):
        transport.send(Outgoing(queue, body, {"priority": priority} if priority else {}))
    transport.subscribe(queue)
    received = receive_settled(transport, 4)
    assert [delivery.body for delivery in received] == [b"high", b"high too", b"usual", b"low"]
    assert received[0].headers["priority"] == "9"


def test_a_delayed_message_comes_later_without_the_order_to_wait(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"later", {"own": "header"}, delay=1.5))
    transport.send(Outgoing(queue, b"now"))
    now, later = receive_settled(transport, 2)
    assert (now.body, later.body) == (b"now", b"later")
    assert SCHEDULED_DELAY not in later.headers
    assert later.headers["scheduledJobId"]
    assert later.headers["own"] == "header"
    assert not later.redelivered


def test_a_delayed_message_lives_its_time_from_its_release(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"later", delay=2.5, expires_in=2.0))
    assert receive(transport).body == b"later"


def test_an_expired_message_is_not_delivered_and_becomes_a_dead_letter(broker: BrokerUnderTest, unique: str) -> None:
    transport, graveyard = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    transport.send(Outgoing(queue, b"too late", {"own": "header"}, expires_in=0.2))
    transport.send(Outgoing(queue, b"in time", expires_in=3600))
    graveyard.subscribe(queue.dead_letters)
    dead = receive(graveyard)
    assert dead.body == b"too late"
    assert dead.destination == Destination.queue(f"DLQ.{unique}")
    assert dead.headers["original-destination"] == f"/queue/{unique}"
    assert int(dead.headers["originalExpiration"]) > 0
    assert dead.headers["expires"] == "0"
    assert dead.headers["own"] == "header"
    transport.subscribe(queue)
    (alive,) = receive_settled(transport, 1)
    assert alive.body == b"in time"
    assert int(alive.headers["expires"]) > int(alive.headers["timestamp"])
    assert_quiet(broker, transport)


def test_a_wildcard_consumes_existing_and_later_queues(broker: BrokerUnderTest, unique: str) -> None:
    sender, one_level, all_levels = (broker.new_transport() for _ in range(3))
    for name in (f"{unique}.b", f"{unique}.b.c"):
        sender.send(Outgoing(Destination.queue(name), name.encode()))
    one_level.subscribe(Destination.queue(f"{unique}.*"))
    assert receive_settled(one_level, 1)[0].destination.name == f"{unique}.b"
    all_levels.subscribe(Destination.queue(f"{unique}.>"))
    assert receive_settled(all_levels, 1)[0].destination.name == f"{unique}.b.c"
    sender.send(Outgoing(Destination.queue(f"{unique}.d.e"), b"new"))
    assert receive_settled(all_levels, 1)[0].destination.name == f"{unique}.d.e"
    sender.send(Outgoing(Destination.queue(unique), b"the stem itself"))
    assert receive_settled(all_levels, 1)[0].destination.name == unique
    assert_quiet(broker, one_level, all_levels)


def test_a_name_with_a_comma_is_refused(broker: BrokerUnderTest, unique: str) -> None:
    """ActiveMQ would send to both, and the second is outside of the namespace: perhaps somebody else's Zocalo."""
    transport = broker.new_transport()
    with pytest.raises(Unsendable, match="comma"):
        transport.send(Outgoing(Destination.queue(f"{unique}.a,{unique}.b"), b"twice"))
    for name in (f"{unique}.a", f"{unique}.b"):
        assert transport.browse(Destination.queue(name)).looked_at == 0


def test_a_selector_chooses_and_leaves_the_rest(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    for number in range(6):
        transport.send(Outgoing(queue, str(number).encode(), {"number": str(number)}))
    transport.subscribe(queue, selector="number > 1 AND number <> 3", prefetch=10)
    assert [receive(transport).body for _ in range(3)] == [b"2", b"4", b"5"]
    assert_quiet(broker, transport)
    other.subscribe(queue)
    assert [delivery.body for delivery in receive_settled(other, 3)] == [b"0", b"1", b"3"]


def test_a_selector_sees_how_often_a_message_was_delivered(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.send(Outgoing(queue, b"poison"))
    for _ in range(2):
        subscription = transport.subscribe(queue)
        receive(transport)
        transport.unsubscribe(subscription)
    transport.send(Outgoing(queue, b"good"))
    assert [one.body for one in transport.browse(queue, "JMSXDeliveryCount > 2").messages] == [b"poison"]
    assert transport.browse(queue, "JMSXDeliveryCount > 3").messages == ()


@pytest.mark.parametrize("selector", ["a = ", "a ==== 1", "'open = 1", "zocalo.go.host = 'i04'", "(" * 200 + "a=1"])
def test_a_bad_selector_is_refused(broker: BrokerUnderTest, unique: str, selector: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    with pytest.raises(ZocError):
        transport.subscribe(queue, selector=selector)
    assert transport.wait_connected(30)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"still works"))
    assert receive(transport).body == b"still works"


def test_persistent_messages_outlive_the_broker_and_others_do_not(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue, idle = transport.queue(unique), transport.queue(f"{unique}.idle")
    for number in range(3):
        transport.send(Outgoing(queue, f"kept {number}".encode()))
        transport.send(Outgoing(queue, b"not kept", persistent=False))
    transport.subscribe(idle)
    link = transport.link.number
    broker.restart()
    await_new_link(transport, after=link)
    transport.send(Outgoing(idle, b"subscribed again"))
    assert receive_settled(transport, 1)[0].body == b"subscribed again"
    transport.subscribe(queue)
    assert [one.body for one in receive_settled(transport, 3)] == [b"kept 0", b"kept 1", b"kept 2"]
    assert_quiet(broker, transport)
