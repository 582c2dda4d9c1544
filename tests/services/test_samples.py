"""The sample services teach: they must do what their text says."""

from __future__ import annotations

import pytest

from zocservices.samples import SampleConsumer, SampleProducer, SampleTxn, SampleTxnProducer, SampleWrapper
from zoctools import Step, testing
from zoctools.recipe.recipe import Recipe


@pytest.mark.parametrize(
    ("producer", "queue"),
    [(SampleProducer, "transient.destination"), (SampleTxnProducer, "transient.transaction")],
)
def test_a_producer_sends_a_numbered_message_every_three_seconds(producer, queue):
    harness = testing.Harness(producer)
    harness.advance(9.5)
    assert harness.messages(queue) == ["Message #1", "Message #2", "Message #3"]


@pytest.mark.parametrize("payload", ["Message #1", {"a": [1]}, None, "\x1b[2J"])
def test_the_consumer_logs_what_it_gets_safely(payload):
    outcome = testing.run(SampleConsumer, payload, plain=True)
    assert (outcome.ending, outcome.sent) == ("done", [])
    (line,) = (words for words in outcome.words if words.startswith("received"))
    assert "\x1b" not in line


def test_the_consumer_takes_messages_of_recipes_too():
    assert testing.run(SampleConsumer, {"a": 1}).ending == "done"


def test_every_message_is_forwarded_exactly_once_though_every_tenth_attempt_fails():
    harness = testing.Harness(SampleTxn)
    sent = [f"Message #{number}" for number in range(1, 26)]
    for message in sent:
        harness.put(message, plain=True)
    harness.advance(60)
    assert sorted(harness.messages("transient.destination")) == sorted(sent)
    assert [outcome.ending for outcome in harness.outcomes].count("failed") == 2
    assert harness.dead_letters() == []


def a_step(**parameters) -> Step:
    nodes = {"1": {"queue": "q", "job_parameters": parameters, "output": {"updates": 2}}, "2": {"queue": "u"}}
    return Step(Recipe({**nodes, "start": [[1, []]]}), 1, environment={"ID": "x"})


def test_the_sample_wrapper_waits_and_says_so():
    step = a_step(seconds=0)
    assert SampleWrapper(step).run() is True
    assert len(step.outbox) == 1


@pytest.mark.parametrize("seconds", [-1, "long", float("nan"), None])
def test_the_sample_wrapper_refuses_what_is_no_time(seconds):
    assert SampleWrapper(a_step(seconds=seconds)).run() is False
