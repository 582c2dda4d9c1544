"""What we tell facilities to deploy works as it is."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

from support.activemq import ActiveMQ
from support.site import next_message
from support.waiting import eventually
from zoctools.config import StompSettings
from zoctools.transport.contract import Destination, Outgoing
from zoctools.transport.stomp import StompTransport

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "activemq.xml"


def test_the_broker_configuration_delays_dead_letters_and_retains(private_activemq: Callable[..., ActiveMQ]) -> None:
    broker = private_activemq(CONFIGURATION)
    transport = StompTransport(StompSettings((("127.0.0.1", broker.stomp_port),), namespace="zocalo"))
    transport.connect()
    try:
        queue = Destination.queue(f"deploy.{uuid.uuid4().hex}")
        transport.broadcast(Outgoing(transport.topic("transient.status"), b"status", expires_in=15))
        transport.subscribe(queue)
        transport.send(Outgoing(queue, b"later", delay=1))
        late = next_message(transport)
        assert late.body == b"later"
        assert "AMQ_SCHEDULED_DELAY" not in late.headers
        transport.subscribe(transport.topic("transient.status"), retroactive=True)
        assert next_message(transport).body == b"status"
        expired = Destination.queue(f"deploy.{uuid.uuid4().hex}")
        transport.send(Outgoing(expired, b"too late", expires_in=-5))
        other = transport.subscribe(expired)
        eventually(lambda: transport.browse(expired.dead_letters).looked_at == 1)
        transport.unsubscribe(other)
    finally:
        transport.close()


def test_a_backlog_larger_than_the_memory_blocks_nobody(private_activemq: Callable[..., ActiveMQ]) -> None:
    broker = private_activemq(CONFIGURATION)
    transport = StompTransport(StompSettings((("127.0.0.1", broker.stomp_port),)))
    transport.connect()
    try:
        other = Destination.queue(f"deploy.{uuid.uuid4().hex}")
        for _ in range(34):
            backlog = Destination.queue(f"deploy.{uuid.uuid4().hex}")
            transport.settle([], [Outgoing(backlog, b"x" * 100_000) for _ in range(50)])
        transport.send(Outgoing(other, b"goes through"))
        transport.subscribe(other)
        assert next_message(transport).body == b"goes through"
    finally:
        transport.close()
