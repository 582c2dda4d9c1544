"""What every transport promises of topics, of browsing, and of selectors."""

from __future__ import annotations

import pytest

from support.brokers import BrokerUnderTest, assert_quiet, receive, receive_settled
from support.waiting import eventually
from zoctools.errors import UsageError
from zoctools.transport.contract import Destination, Outgoing


def test_a_topic_reaches_every_subscriber_and_nobody_later(broker: BrokerUnderTest, unique: str) -> None:
    sender, one, other, late = (broker.new_transport() for _ in range(4))
    topic = Destination.topic(unique)
    one.subscribe(topic)
    other.subscribe(topic)
    sender.broadcast(Outgoing(topic, b"news", {"own": "header"}, expires_in=60))
    for transport in (one, other):
        delivery = receive(transport)
        assert (delivery.body, delivery.destination) == (b"news", topic)
        assert delivery.headers["own"] == "header"
        assert "persistent" not in delivery.headers
    late.subscribe(topic)
    sender.broadcast(Outgoing(topic, b"more"))
    assert receive(late).body == b"more"


def test_topics_are_never_acknowledged(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    topic = Destination.topic(unique)
    subscription = transport.subscribe(topic, acknowledge=True, prefetch=1)
    assert not subscription.acknowledge
    for number in range(20):
        transport.broadcast(Outgoing(topic, str(number).encode()))
    assert [receive(transport).body for _ in range(20)] == [str(number).encode() for number in range(20)]


def test_a_settle_can_send_to_a_topic(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    topic = Destination.topic(unique)
    transport.subscribe(topic)
    transport.settle([], [Outgoing(topic, b"a"), Outgoing(topic, b"b")])
    assert [receive(transport).body, receive(transport).body] == [b"a", b"b"]


def test_topics_know_wildcards_and_selectors(broker: BrokerUnderTest, unique: str) -> None:
    sender, transport = broker.new_transport(), broker.new_transport()
    transport.subscribe(Destination.topic(f"{unique}.>"), selector="colour = 'red'")
    for level in ("a", "a.b"):
        for colour in ("blue", "red"):
            sender.broadcast(Outgoing(Destination.topic(f"{unique}.{level}"), level.encode(), {"colour": colour}))
    assert [receive(transport).body, receive(transport).body] == [b"a", b"a.b"]
    assert_quiet(broker, transport)


def test_a_retroactive_subscriber_gets_what_was_kept(broker: BrokerUnderTest, unique: str) -> None:
    sender, late, plain = (broker.new_transport() for _ in range(3))
    topic = Destination.topic(f"{broker.retained}{unique}")
    sender.settle([], [Outgoing(topic, b"old 1"), Outgoing(topic, b"old 2")])
    late.subscribe(topic, retroactive=True)
    plain.subscribe(topic)
    sender.broadcast(Outgoing(topic, b"new"))
    assert [receive(late).body for _ in range(3)] == [b"old 1", b"old 2", b"new"]
    assert receive(plain).body == b"new"


def test_browsing_consumes_nothing(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    bodies = [str(number).encode() for number in range(10)]
    transport.settle([], [Outgoing(queue, body, {"own": "header"}) for body in bodies])
    for _ in range(2):
        seen = transport.browse(queue)
        assert [one.body for one in seen.messages] == bodies
        assert seen.looked_at == 10
        assert seen.of in (None, 10)
        assert seen.complete
        assert all(one.headers["own"] == "header" and one.destination == queue for one in seen.messages)
    transport.subscribe(queue)
    received = receive_settled(transport, 10)
    assert [one.body for one in received] == bodies
    assert not any(one.redelivered for one in received)


def test_browsing_an_empty_queue_sees_nothing(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    seen = transport.browse(transport.queue(unique))
    assert (seen.messages, seen.looked_at, seen.complete) == ((), 0, True)


def test_a_limited_browse_says_that_it_is_not_all(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, str(number).encode()) for number in range(10)])
    seen = transport.browse(queue, limit=4)
    assert [one.body for one in seen.messages] == [b"0", b"1", b"2", b"3"]
    assert not seen.complete
    assert transport.browse(queue, limit=10).complete


def test_a_browse_is_complete_only_when_it_saw_all(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    for _ in range(3):
        transport.settle([], [Outgoing(queue, b"x" * 100) for _ in range(300)])
    seen = transport.browse(queue)
    assert len({one.message_id for one in seen.messages}) == len(seen.messages) == seen.looked_at
    assert seen.of in (None, 900)
    assert not seen.complete or len(seen.messages) == 900


def test_a_browse_sees_what_a_consumer_holds(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, b"held"), Outgoing(queue, b"waiting")])
    transport.subscribe(queue)
    assert receive(transport).body == b"held"
    assert sorted(one.body for one in transport.browse(queue).messages) == [b"held", b"waiting"]


def test_a_delayed_message_cannot_be_browsed(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, b"later", delay=3600), Outgoing(queue, b"now")])
    assert [one.body for one in transport.browse(queue).messages] == [b"now"]


def test_a_topic_cannot_be_browsed(broker: BrokerUnderTest, unique: str) -> None:
    with pytest.raises(UsageError):
        broker.new_transport().browse(Destination.topic(unique))


MESSAGES = {
    "a": {"kind": "a", "size": "5", "name": "lima", "flag": "true"},
    "b": {"kind": "b", "size": "50", "name": "Lima"},
    "c": {"kind": "it's", "size": "-1.5", "name": "100%"},
    "d": {"kind": "b", "size": "large", "priority": "7"},
    "e": {"size": "5e1"},
    "f": {},
}
SELECTORS = {
    "kind = 'b'": "bd",
    "KIND = 'b'": "",
    "kind='it''s'": "c",
    "kind = 'b' AND size > 3": "b",
    "size > 3": "ab",
    "size > 3.0": "abe",
    "size >= 50 or size < 0": "b",
    "size = 5": "a",
    "size = 50.0": "be",
    "size <> 5": "bcde",
    "5 < size": "b",
    "size < name": "abc",
    "size BETWEEN -2.0 AND 5": "a",
    "size NOT BETWEEN 0.0 AND 10.0": "bce",
    "-1.5 = size": "c",
    "kind IN ('a', 'it''s')": "ac",
    "kind NOT IN ('a', 'b')": "c",
    "kind IS NULL": "ef",
    "kind IS NOT NULL": "abcd",
    "name LIKE 'l%'": "a",
    "name LIKE '_ima'": "ab",
    "name LIKE '%i%a'": "ab",
    "name LIKE '100!%' ESCAPE '!'": "c",
    "name NOT LIKE '%ima'": "c",
    "not (kind = 'b' or kind = 'a') and kind is not null": "c",
    "JMSPriority > 4": "d",
    "JMSPriority = 4": "abcef",
    "JMSTimestamp > 1000000000000": "abcdef",
    "JMSMessageID IS NULL": "",
    "JMSDeliveryMode = 'PERSISTENT'": "abcdef",
    "JMSXDeliveryCount > 1": "",
    "JMSXDeliveryCount < 2": "abcdef",
    "TRUE": "abcdef",
    "kind = 'a' AND FALSE": "",
}


def test_selectors_mean_the_same_on_every_broker(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.settle([], [Outgoing(queue, name.encode(), headers) for name, headers in MESSAGES.items()])
    eventually(lambda: len(transport.browse(queue).messages) == len(MESSAGES))
    found = {
        selector: "".join(sorted(one.body.decode() for one in transport.browse(queue, selector).messages))
        for selector in SELECTORS
    }
    assert found == SELECTORS
