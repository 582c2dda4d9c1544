"""The brokers the conformance suite runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest

from support.brokers import ActiveMQUnderTest, BrokerUnderTest, MemoryUnderTest

KINDS: dict[str, Callable[[], BrokerUnderTest]] = {"memory": MemoryUnderTest, "activemq": ActiveMQUnderTest}


@pytest.fixture(scope="session", params=["memory", pytest.param("activemq", marks=pytest.mark.live)])
def shared_broker(request: pytest.FixtureRequest) -> Iterator[BrokerUnderTest]:
    """One broker of each kind for all tests."""
    broker = KINDS[request.param]()
    yield broker
    broker.stop()


@pytest.fixture
def broker(shared_broker: BrokerUnderTest) -> Iterator[BrokerUnderTest]:
    """The shared broker; the transports it gives are closed after the test."""
    yield shared_broker
    shared_broker.close_transports()


@pytest.fixture
def unique() -> str:
    """A name no other test uses, below ``test.``, where everything is allowed."""
    return f"test.{uuid4().hex[:12]}"
