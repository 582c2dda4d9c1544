"""Fixtures of the whole suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.activemq import ActiveMQ


@pytest.fixture(scope="session")
def activemq() -> Iterator[ActiveMQ]:
    """One ActiveMQ for the whole run, as a Zocalo wants it. Do not stop it: take `private_activemq` for that."""
    broker = ActiveMQ.start("full")
    yield broker
    broker.stop()


@pytest.fixture
def private_activemq() -> Iterator[Callable[..., ActiveMQ]]:
    """Start a broker of one's own: ``private_activemq("minimal", scheduler=False)``; it ends with the test."""
    started: list[ActiveMQ] = []

    def start(*args: object, **options: object) -> ActiveMQ:
        started.append(ActiveMQ.start(*args, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for broker in started:
        broker.stop()
