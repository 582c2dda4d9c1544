"""Which headers live on which copy of a message, and which must never be sent."""

from __future__ import annotations

import pytest

from zoctools import headers
from zoctools.errors import Unsendable
from zoctools.headers import TABLE, Life

ARRIVED = {
    "destination": "/queue/zocalo.x",
    "message-id": "ID:1",
    "subscription": "1",
    "timestamp": "1795422740886",
    "redelivered": "true",
    "content-length": "2",
    "scheduledJobId": "ID:9",
    "persistent": "true",
    "priority": "4",
    "expires": "1795422799999",
    "workflows-recipe": "True",
    "zocalo.go.user": "gda2",
    "traceparent": "00-1-2-01",
    "site-own": "kept",
    "zoc_attempts": "2",
    "zoc_deaths": "1",
}


def test_a_copy_sent_back_keeps_its_counters_and_its_place_in_the_queue() -> None:
    copy = headers.for_copy(ARRIVED)
    assert copy == {
        "persistent": "true",
        "priority": "4",
        "expires": "1795422799999",
        "workflows-recipe": "True",
        "zocalo.go.user": "gda2",
        "traceparent": "00-1-2-01",
        "site-own": "kept",
        "zoc_attempts": "2",
        "zoc_deaths": "1",
    }


def test_a_dead_letter_neither_expires_nor_carries_counters_a_reinject_would_revive() -> None:
    letter = headers.for_letter(ARRIVED)
    assert letter == {
        "workflows-recipe": "True",
        "zocalo.go.user": "gda2",
        "traceparent": "00-1-2-01",
        "site-own": "kept",
        "zoc_dead_attempts": "2",
        "zoc_dead_deaths": "1",
    }


def test_a_dead_letter_put_back_starts_clean() -> None:
    again = headers.for_copy(headers.for_letter(ARRIVED))
    assert not [name for name in again if headers.life(name) in (Life.COUNTER, Life.LETTER, Life.FRAME)]


def test_every_dead_counter_has_its_row() -> None:
    counters = [row.name for row in TABLE.values() if row.life is Life.COUNTER]
    assert counters
    assert all(headers.life(name.replace("zoc_", "zoc_dead_", 1)) is Life.LETTER for name in counters)


def test_our_header_names_can_be_selected_on() -> None:
    """ActiveMQ's selectors match nothing on a name with a hyphen, and refuse one with a dot."""
    assert all(name.replace("_", "").isalnum() for name in TABLE if name.startswith("zoc_"))


@pytest.mark.parametrize("name", ["activemq.prefetchSize", "AMQ_SCHEDULED_ANYTHING", "JMSXGroupID"])
def test_control_headers_of_the_broker_are_never_copied(name: str) -> None:
    assert headers.life(name) is Life.FRAME


@pytest.mark.parametrize(
    ("value", "is_recipe"),
    [("True", True), ("true", True), ("1", False), ("TRUE", False), ("yes", False), (None, False)],
)
def test_the_recipe_flag_is_read_as_the_existing_receivers_read_it(value: str | None, is_recipe: bool) -> None:
    assert headers.is_recipe({} if value is None else {"workflows-recipe": value}) is is_recipe


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("a\nb", "x"),
        ("a\rb", "x"),
        ("a\0b", "x"),
        ("a", "x\0y"),
        ("a", "x\ry"),
        ("a", "\ud800"),
        ("a", "x" * 10_000),
        ("a", "\n" * 5_000),
    ],
)
def test_what_no_broker_carries_unharmed_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unsendable):
        headers.check(name, value)


@pytest.mark.parametrize("value", ["", "two\nlines", "a:b", "back\\slash", "naïve 😀", "x" * 9_990])
def test_what_is_escaped_on_the_wire_is_allowed(value: str) -> None:
    headers.check("a", value)
