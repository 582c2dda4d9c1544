"""What the conformance suite asks of a broker under test, and the brokers it knows."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from queue import Empty
from typing import Protocol

from support.activemq import ActiveMQ
from support.proxy import Proxy
from zoctools.config import StompSettings
from zoctools.transport.contract import Delivery, Destination, Event, Link, Transport
from zoctools.transport.memory import MemoryBroker, MemoryTransport
from zoctools.transport.stomp import StompTransport

PATIENCE = 30.0
"""Seconds in which what must happen has happened, on a busy machine too."""


class BrokerUnderTest(Protocol):
    """One broker, shared with other tests: they use names nobody else uses.

    Queues and topics whose full name begins with `forbidden` refuse every SEND; topics whose full name begins with
    `retained` keep messages for retroactive subscribers. `quiet` seconds without a message show that none comes.
    """

    forbidden: str
    retained: str
    quiet: float

    def new_transport(self, *, namespace: str = "") -> Transport:
        """A new transport, already connected; closed after the test."""

    def lose(self, transport: Transport) -> None:
        """Cut the link of `transport`, which reconnects by itself."""

    def restart(self) -> None:
        """Stop the broker and start it again on what it stored; transports reconnect by themselves."""

    def close_transports(self) -> None:
        """Close what `new_transport` opened."""

    def stop(self) -> None:
        """End the broker."""


class MemoryUnderTest:
    """The broker inside this process."""

    forbidden = "forbidden."
    retained = "retro."
    quiet = 0.05

    def __init__(self) -> None:
        self._broker = MemoryBroker(refuse=self._refuse)
        self._transports: list[MemoryTransport] = []

    def _refuse(self, destination: str) -> str:
        name = Destination.parse(destination).name
        return f"not authorized to write to {destination}" if name.startswith(self.forbidden) else ""

    def new_transport(self, *, namespace: str = "") -> MemoryTransport:
        """A new transport, already connected."""
        transport = MemoryTransport(self._broker, namespace)
        transport.connect()
        self._transports.append(transport)
        return transport

    def lose(self, transport: Transport) -> None:
        """Cut the link; it is back at once."""
        assert isinstance(transport, MemoryTransport)
        transport.drop_link()

    def restart(self) -> None:
        """Stop and start it."""
        self._broker.stop()
        self._broker.start()

    def close_transports(self) -> None:
        """Close what was opened."""
        while self._transports:
            self._transports.pop().close()

    def stop(self) -> None:
        """End it."""
        self._broker.stop()


class ActiveMQUnderTest:
    """A private ActiveMQ, each transport behind a proxy of its own."""

    forbidden = "forbidden."
    retained = "retro."
    quiet = 0.5

    def __init__(self) -> None:
        self._login = ("zoc", "zocpw")
        configuration = Path(__file__).with_name("activemq_conf") / "conformance.xml"
        self._broker = ActiveMQ.start(configuration, login=self._login)
        self._transports: list[tuple[StompTransport, Proxy]] = []

    def new_transport(self, *, namespace: str = "") -> StompTransport:
        """A new transport, already connected."""
        proxy = Proxy(self._broker.stomp_port)
        user, password = self._login
        transport = StompTransport(StompSettings((("127.0.0.1", proxy.port),), user, password, namespace))
        self._transports.append((transport, proxy))
        transport.connect()
        return transport

    def lose(self, transport: Transport) -> None:
        """Cut the link."""
        next(proxy for opened, proxy in self._transports if opened is transport).drop()

    def restart(self) -> None:
        """Stop and start it."""
        self._broker.restart()

    def close_transports(self) -> None:
        """Close what was opened."""
        while self._transports:
            transport, proxy = self._transports.pop()
            with contextlib.closing(proxy):
                transport.close()

    def stop(self) -> None:
        """End it."""
        self._broker.stop()


def next_event(transport: Transport, what: type[Event], timeout: float = PATIENCE) -> Event:
    """Take from the inbox until there is one of a kind; what else was there is passed over."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            event = transport.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise AssertionError(f"no {what.__name__} within {timeout:g} s") from None
        if isinstance(event, what):
            return event


def receive(transport: Transport, timeout: float = PATIENCE) -> Delivery:
    """The next message that arrives."""
    event = next_event(transport, Delivery, timeout)
    assert isinstance(event, Delivery)
    return event


def receive_settled(transport: Transport, count: int) -> list[Delivery]:
    """The next `count` messages, each settled before the next one is waited for."""
    received = []
    for _ in range(count):
        received.append(receive(transport))
        transport.settle([received[-1]], [])
    return received


def await_new_link(transport: Transport, after: int) -> None:
    """Wait for the event of a link later than number `after`."""
    while True:
        event = next_event(transport, Link)
        assert isinstance(event, Link)
        if event.connected and event.number > after:
            return


def assert_quiet(broker: BrokerUnderTest, *transports: Transport) -> None:
    """Fail when a message arrives."""
    for transport in transports:
        deadline = time.monotonic() + broker.quiet
        with contextlib.suppress(Empty):
            while True:
                event = transport.inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                assert not isinstance(event, Delivery), f"arrived: {event}"
