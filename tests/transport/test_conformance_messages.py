"""What every transport promises of a message itself: body and headers arrive exactly, or are refused."""

from __future__ import annotations

import pytest

from support.brokers import BrokerUnderTest, receive, receive_settled
from zoctools.errors import Unsendable
from zoctools.headers import MAX_LINE
from zoctools.transport.contract import MAX_BODY, Destination, Outgoing

BODIES = {
    "empty": b"",
    "one NUL": b"\0",
    "every byte": bytes(range(256)) * 3,
    "not JSON": b"{nonsense: ",
    "like a frame": b"\n\n\0\nMESSAGE\ndestination:/queue/x\n\nboo\0",
    "unicode": "µ ☃ 𝄞 \u202e".encode(),
    "line ends": b"a\r\nb\rc\n",
    "5 MB": bytes(range(256)) * 20_480,
}
VALUES = {
    "unicode": "µ ☃ € مرحبا",
    "newline": "one\ntwo\n",
    "colon": "a:b::c:",
    "backslash": r"C:\new\table \\ \c \n",
    "blanks": "  around  ",
    "empty": "",
    "JSON": '{"a": [1, "b\\n"]}',
    "control characters": "\x1b[31m\x07\t",
    "long": "x" * (MAX_LINE - 100),
}
BAD_HEADERS = {
    "CR": {"name": "a\rb"},
    "NUL": {"name": "a\0b"},
    "lone surrogate": {"name": "a\ud800"},
    "too long": {"name": "x" * MAX_LINE},
    "too long once escaped": {"name": "\n" * (MAX_LINE // 2)},
    "newline in name": {"na\nme": "x"},
    "NUL in name": {"na\0me": "x"},
    "no name": {"": "x"},
    "priority is no number": {"priority": "abc"},
    "expires is no number": {"expires": "soon"},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bodies_arrive_exactly(broker: BrokerUnderTest, unique: str, body: bytes) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, body))
    assert receive(transport).body == body


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_header_values_arrive_exactly(broker: BrokerUnderTest, unique: str, value: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.settle([], [Outgoing(queue, b"x", {"own": value, "after": "it"})])
    delivery = receive(transport)
    assert delivery.headers["own"] == value
    assert delivery.headers["after"] == "it"


def test_characters_beyond_u_ffff_harm_nothing_but_themselves(broker: BrokerUnderTest, unique: str) -> None:
    """ActiveMQ replaces them in headers, never in bodies, of what it has read back from its disk."""
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, "𝄞".encode(), {"own": "a 𝄞 b", "after": "it"}))
    delivery = receive(transport)
    assert delivery.headers["own"] in ("a 𝄞 b", "a \ufffd\ufffd b")
    assert delivery.headers["after"] == "it"
    assert delivery.body == "𝄞".encode()


def test_header_names_arrive_exactly(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    own = {"with:colon": "1", "with\\backslash": "2", "snow☃man": "3", "zocalo.go.user": "4", "CaSe": "5"}
    transport.send(Outgoing(queue, b"x", own))
    assert own.items() <= receive(transport).headers.items()


@pytest.mark.parametrize("headers", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_headers_no_broker_carries_unharmed_are_not_sent(
    broker: BrokerUnderTest, unique: str, headers: dict[str, str]
) -> None:
    transport = broker.new_transport()
    for send in (transport.send, transport.broadcast):
        with pytest.raises(Unsendable):
            send(Outgoing(transport.queue(unique), b"x", headers))
    assert transport.link.connected


@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\0b", "x" * 20_000])
def test_names_no_queue_can_have_are_not_sent_to(broker: BrokerUnderTest, name: str) -> None:
    transport = broker.new_transport()
    with pytest.raises(Unsendable):
        transport.send(Outgoing(Destination.queue(name), b"x"))


def test_a_body_beyond_the_limit_is_not_sent(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    with pytest.raises(Unsendable) as refusal:
        transport.send(Outgoing(transport.queue(unique), bytes(MAX_BODY + 1)))
    assert str(MAX_BODY) in refusal.value.hint
    assert transport.link.connected


@pytest.mark.parametrize("times", [{"delay": float("nan")}, {"delay": float("inf")}, {"expires_in": float("nan")}])
def test_times_that_are_none_are_not_sent(broker: BrokerUnderTest, unique: str, times: dict[str, float]) -> None:
    transport = broker.new_transport()
    with pytest.raises(Unsendable):
        transport.send(Outgoing(transport.queue(unique), b"x", **times))


def test_headers_of_an_old_frame_command_nothing(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    old = {
        "destination": f"/queue/{unique}.elsewhere",
        "transaction": "tx-1",
        "receipt": "r-1",
        "subscription": "99",
        "message-id": "ID:old",
        "ack": "old",
        "content-length": "1",
        "redelivered": "true",
        "AMQ_SCHEDULED_DELAY": "3600000",
        "selector": "a = 1",
        "own": "kept",
    }
    transport.send(Outgoing(queue, b"whole body", old))
    (delivery,) = receive_settled(transport, 1)
    assert delivery.body == b"whole body"
    assert delivery.message_id != "ID:old"
    assert not delivery.redelivered
    assert delivery.headers["own"] == "kept"


def test_a_copy_keeps_its_expiry(broker: BrokerUnderTest, unique: str) -> None:
    transport = broker.new_transport()
    queue = transport.queue(unique)
    transport.subscribe(queue)
    transport.send(Outgoing(queue, b"x", expires_in=3600))
    delivery = receive(transport)
    transport.settle([delivery], [Outgoing(queue, b"x", {"expires": delivery.headers["expires"]})])
    assert receive(transport).headers["expires"] == delivery.headers["expires"]
