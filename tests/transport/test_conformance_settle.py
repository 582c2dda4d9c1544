"""What every transport promises of `settle`: all of it is done, or none."""

from __future__ import annotations

import pytest

from support.brokers import BrokerUnderTest, assert_quiet, await_new_link, next_event, receive, receive_settled
from zoctools.errors import LinkLost, SendRefused, StaleDelivery, Unsendable
from zoctools.transport.contract import Destination, Outgoing, Refused


def test_acknowledges_and_sends(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, first, second = (transport.queue(f"{unique}.{name}") for name in ("in", "one", "two"))
    transport.subscribe(source)
    other.subscribe(first)
    other.subscribe(second)
    transport.send(Outgoing(source, b"in"))
    transport.settle([receive(transport)], [Outgoing(first, b"a"), Outgoing(second, b"b"), Outgoing(first, b"c")])
    received = receive_settled(other, 3)
    assert sorted(one.body for one in received) == [b"a", b"b", b"c"]
    transport.close()
    other.subscribe(source)
    assert_quiet(broker, other)


def test_settles_many_at_once(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, b"x")] * 100)
    transport.subscribe(queue, prefetch=100)
    held = [receive(transport) for _ in range(100)]
    transport.settle(held[::2], [])
    transport.close()
    other.subscribe(queue, prefetch=100)
    again = {receive(other).message_id for _ in range(50)}
    assert again == {delivery.message_id for delivery in held[1::2]}
    assert_quiet(broker, other)


def test_a_copy_to_its_own_queue_goes_behind_the_others(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, b"first"), Outgoing(queue, b"second")])
    transport.subscribe(queue)
    delivery = receive(transport)
    transport.settle([delivery], [Outgoing(queue, delivery.body, {"zoc_attempts": "1"})])
    second, again = receive_settled(transport, 2)
    assert (second.body, again.body, again.redelivered) == (b"second", b"first", False)
    assert again.headers["zoc_attempts"] == "1"


def test_a_dead_letter_is_a_message_on_the_queue_of_that_name(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport(namespace=unique)
    queue = transport.queue("work")
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"\xff bad"))
    bad = receive(transport)
    letter = Outgoing(bad.destination.dead_letters, bad.body, {"original-destination": str(bad.destination)})
    transport.settle([bad], [letter])
    transport.subscribe(Destination.queue(f"DLQ.{unique}.work"))
    dead = receive(transport)
    assert (dead.body, dead.headers["original-destination"]) == (b"\xff bad", f"/queue/{unique}.work")


def test_a_refused_send_leaves_everything_as_it_was(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, output = transport.queue(f"{unique}.in"), transport.queue(f"{unique}.out")
    forbidden = Destination.queue(f"{broker.forbidden}{unique}")
    transport.subscribe(source)
    other.subscribe(output)
    transport.send(Outgoing(source, b"in"))
    delivery = receive(transport)
    with pytest.raises(SendRefused) as refusal:
        transport.settle([delivery], [Outgoing(output, b"before"), Outgoing(forbidden, b"no"), Outgoing(output, b"x")])
    assert "authorized" in refusal.value.message
    assert_quiet(broker, transport, other)
    transport.settle([delivery], [Outgoing(output, b"second try")])
    assert receive_settled(other, 1)[0].body == b"second try"
    transport.close()
    other.subscribe(source)
    assert_quiet(broker, other)


def test_after_a_refused_send_the_input_is_still_there(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source = transport.queue(unique)
    transport.subscribe(source)
    transport.send(Outgoing(source, b"in"))
    delayed = Outgoing(source, b"never", delay=0.1)
    with pytest.raises(SendRefused):
        transport.settle(
            [receive(transport)], [delayed, Outgoing(Destination.queue(f"{broker.forbidden}{unique}"), b"no")]
        )
    transport.close()
    other.subscribe(source)
    again = receive(other)
    assert (again.body, again.redelivered) == (b"in", True)
    other.settle([again], [])
    assert_quiet(broker, other)


def test_a_single_send_can_be_refused_and_the_link_stays(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    with pytest.raises(SendRefused):
        transport.send(Outgoing(Destination.queue(f"{broker.forbidden}{unique}"), b"no"))
    assert transport.link.connected
    transport.send(Outgoing(transport.queue(unique), b"yes"))


def test_a_refused_broadcast_is_told_in_the_inbox(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    transport.broadcast(Outgoing(Destination.topic(f"{broker.forbidden}{unique}"), b"no"))
    refused = next_event(transport, Refused)
    assert isinstance(refused, Refused)
    assert "authorized" in refused.error


def test_what_cannot_be_sent_is_found_before_anything_is_done(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, output = transport.queue(f"{unique}.in"), transport.queue(f"{unique}.out")
    transport.subscribe(source)
    other.subscribe(output)
    transport.send(Outgoing(source, b"in"))
    delivery = receive(transport)
    with pytest.raises(Unsendable):
        transport.settle([delivery], [Outgoing(output, b"good"), Outgoing(output, b"bad", {"name": "a\0b"})])
    assert_quiet(broker, other)
    transport.settle([delivery], [])


def test_a_delivery_of_an_earlier_link_is_stale(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, output = transport.queue(f"{unique}.in"), transport.queue(f"{unique}.out")
    transport.subscribe(source)
    other.subscribe(output)
    transport.send(Outgoing(source, b"in"))
    old = receive(transport)
    broker.lose(transport)
    await_new_link(transport, after=old.link)
    with pytest.raises(StaleDelivery):
        transport.settle([old], [Outgoing(output, b"twice")])
    again = receive(transport)
    transport.settle([again], [Outgoing(output, b"once")])
    assert receive_settled(other, 1)[0].body == b"once"
    assert_quiet(broker, transport, other)


def test_what_was_settled_cannot_be_settled_again(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, output = transport.queue(f"{unique}.in"), transport.queue(f"{unique}.out")
    transport.subscribe(source)
    other.subscribe(output)
    transport.send(Outgoing(source, b"in"))
    delivery = receive(transport)
    transport.settle([delivery], [])
    with pytest.raises(StaleDelivery):
        transport.settle([delivery], [Outgoing(output, b"twice")])
    assert_quiet(broker, other)


def test_what_a_closed_subscription_delivered_cannot_be_settled(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    source, output = transport.queue(f"{unique}.in"), transport.queue(f"{unique}.out")
    subscription = transport.subscribe(source)
    other.subscribe(output)
    transport.send(Outgoing(source, b"in"))
    delivery = receive(transport)
    transport.unsubscribe(subscription)
    with pytest.raises(StaleDelivery):
        transport.settle([delivery], [Outgoing(output, b"no")])
    assert_quiet(broker, other)
    other.subscribe(source)
    assert receive(other).body == b"in"


def test_a_settle_can_close_subscriptions(broker: BrokerUnderTest, unique: str) -> None:
    transport, other = broker.new_transport(), broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, str(number).encode()) for number in range(4)])
    subscription = transport.subscribe(queue, prefetch=2)
    started, waiting = receive(transport), receive(transport)
    copies = [Outgoing(queue, waiting.body, {"copy": "yes"})]
    transport.settle([started, waiting], copies, closing=[subscription])
    other.subscribe(queue)
    received = receive_settled(other, 3)
    assert sorted(one.body for one in received) == [b"1", b"2", b"3"]
    assert [one.headers.get("copy") for one in received if one.body == b"1"] == ["yes"]
    assert_quiet(broker, other)
    broker.lose(transport)
    await_new_link(transport, after=started.link)
    transport.send(Outgoing(queue, b"later"))
    assert receive(other).body == b"later"


def test_nothing_can_be_done_without_a_link(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"in"))
    delivery = receive(transport)
    transport.close()
    transport.close()
    assert not transport.link.connected
    with pytest.raises(LinkLost):
        transport.settle([delivery], [])
    with pytest.raises(LinkLost):
        transport.send(Outgoing(queue, b"x"))
    with pytest.raises(LinkLost):
        transport.broadcast(Outgoing(transport.topic(unique), b"x"))
    with pytest.raises(LinkLost):
        transport.browse(queue)
