"""Services that hold messages, have several queues, timers, topics, and other names."""

from __future__ import annotations

import pytest

from zoctools import Retry, Service, testing
from zoctools.transport.contract import Outgoing
from zoctools.transport.memory import ManualClock, MemoryBroker

OUTPUT = {"output": 2}


class Grid(Service):
    """Gathers three messages and settles them at once, with what they give together."""

    queue = "grid"
    prefetch = 10
    counts_deaths = False

    def start(self):
        self.kept = []
        self.lost = []
        self.every(60, self.flush)
        super().start()

    def process(self, step, payload):
        if payload == "fail":
            self.hold(step)
            raise RuntimeError("after holding")
        self.kept.append(step)
        self.hold(step)
        if payload == "flush and fail":
            self.settle_held(self.kept)
            raise RuntimeError("after settling")
        if len(self.kept) == 3:
            step.send([kept.payload for kept in self.kept])
            self.settle_held(self.kept)
            self.kept = []

    def flush(self, step):
        if self.kept:
            step.send_message("flushed", [kept.payload for kept in self.kept])
            self.settle_held(self.kept)
            self.kept = []

    def on_lost(self, steps):
        self.lost += steps
        self.kept = [step for step in self.kept if step not in steps]


def test_held_messages_are_settled_together_with_all_they_sent():
    harness = testing.Harness(Grid)
    for number in (1, 2):
        harness.put(number, node=OUTPUT)
    harness.settle()
    assert len(harness.waiting("grid")) == 2
    assert harness.messages("node-2") == []
    harness.put(3, node=OUTPUT)
    harness.settle()
    assert harness.waiting("grid") == []
    assert harness.messages("node-2") == [[1, 2, 3]]


def test_a_timer_can_settle_what_is_held():
    harness = testing.Harness(Grid)
    harness.put(1, node=OUTPUT)
    harness.advance(61)
    assert harness.messages("flushed") == [[1]]
    assert harness.waiting("grid") == []


def test_held_messages_the_broker_took_back_are_told_to_the_service():
    harness = testing.Harness(Grid)
    for number in (1, 2):
        harness.put(number, node=OUTPUT)
    harness.settle()
    held = list(harness.service.kept)
    harness.transport.drop_link()
    harness.settle()
    assert harness.service.lost == held
    assert [step.payload for step in harness.service.kept] == [1, 2]
    harness.put(3, node=OUTPUT)
    harness.settle()
    assert harness.messages("node-2") == [[1, 2, 3]]
    assert harness.waiting("grid") == []


def test_a_handler_that_fails_after_holding_holds_nothing():
    harness = testing.Harness(Grid)
    harness.put("fail", node=OUTPUT)
    harness.advance(30)
    assert len(harness.dead_letters()) == 1
    assert harness.waiting("grid") == []


def test_a_handler_that_fails_after_settling_leaves_the_others_held():
    harness = testing.Harness(Grid)
    harness.put(1, node=OUTPUT)
    harness.settle()
    (first,) = harness.service.kept
    harness.put("flush and fail", node=OUTPUT)
    harness.settle()
    assert len(harness.outcomes) == 2
    assert harness.outcomes[1].ending == "failed"
    assert any(message.headers["message-id"] == first.headers["message-id"] for message in harness.waiting("grid"))


def test_a_settle_of_many_that_the_broker_refuses_makes_dead_letters_of_all():
    clock = ManualClock()
    broker = MemoryBroker(clock, refuse=lambda queue: "not yours" if queue.endswith("node-2") else "")
    harness = testing.Harness(Grid, broker=broker, clock=clock)
    for number in (1, 2, 3):
        harness.put(number, node=OUTPUT)
    harness.settle()
    assert [letter.headers["zoc_error"] for letter in harness.dead_letters()] == ["not yours"] * 3
    assert harness.waiting("grid") == []


def test_leaving_hands_back_what_is_held():
    harness = testing.Harness(Grid)
    for number in (1, 2):
        harness.put(number, node=OUTPUT)
    harness.settle()
    harness.leave()
    assert sorted(harness.messages("grid")) == [1, 2]
    assert not any("redelivered" in message.headers for message in harness.waiting("grid"))


def test_stop_can_settle_what_is_held():
    class Tidy(Grid):
        def stop(self):
            self.settle_held(self.kept)

    harness = testing.Harness(Tidy)
    harness.put(1, node=OUTPUT)
    harness.settle()
    harness.put(2, node=OUTPUT)
    harness.settle()
    harness.leave()
    assert harness.waiting("grid") == []


def test_only_messages_of_the_running_handler_can_be_held():
    harness = testing.Harness(Grid)
    harness.put(1, node=OUTPUT)
    harness.settle()
    with pytest.raises(ValueError, match="only the message being handled"):
        harness.service.hold(harness.service.kept[0])
    with pytest.raises(ValueError, match="from within a handler"):
        harness.service.settle_held(harness.service.kept)


class Busy(Service):
    """Several queues, timers and topics."""

    queue = "first"

    def start(self):
        self.heard, self.ticks = [], 0
        super().start()
        self.consume("second", self.other, plain=True, selector="colour = 'red'")
        self.listen("news", self.heard.append)
        self.every(5, self.tick)

    def process(self, step, payload):
        step.send({"first": payload})

    def other(self, step, payload):
        self.rename(f"Busy with {payload}")

    def tick(self, step):
        self.ticks += 1
        step.send_message("ticks", self.ticks, delay=1)
        step.broadcast_message("news", {"tick": self.ticks})
        if self.ticks == 2:
            raise RuntimeError("this one fails")
        if self.ticks == 3:
            raise Retry("sooner", delay=1)


def test_each_queue_has_its_handler_and_its_selector():
    harness = testing.Harness(Busy)
    harness.put(1, node=OUTPUT)
    harness.put("red wine", queue="second", plain=True, headers={"colour": "red"})
    harness.put("white wine", queue="second", plain=True, headers={"colour": "white"})
    harness.settle()
    assert harness.messages("node-2") == [{"first": 1}]
    assert harness.messages("second") == ["white wine"]
    assert harness.vitals.name == "Busy with red wine"
    assert harness.vitals.service_class == "Busy"
    assert harness.vitals.queues == ("zocalo.first", "zocalo.second")


def test_timers_tick_at_their_period_and_survive_their_failures():
    harness = testing.Harness(Busy)
    harness.advance(4)
    assert harness.service.ticks == 0
    harness.advance(7)
    assert harness.service.ticks == 2
    harness.advance(4.5)
    assert harness.service.ticks == 3
    harness.advance(1)
    assert harness.service.ticks == 4
    harness.advance(1)
    assert harness.messages("ticks") == [1, 4]
    assert harness.service.heard == [{"tick": 1}, {"tick": 4}]


def test_a_period_must_be_a_time():
    harness = testing.Harness(Busy)
    with pytest.raises(ValueError, match="more than 0 seconds"):
        harness.service.every(0, print)


def test_a_broadcast_that_is_not_json_is_passed_over():
    harness = testing.Harness(Busy)
    harness.world.send(Outgoing(harness.world.topic("news"), b"\xff", persistent=False))
    harness.world.send(Outgoing(harness.world.topic("news"), b"[1]", persistent=False))
    harness.settle()
    assert harness.service.heard == [[1]]


def test_another_main_queue_can_be_named_at_the_start():
    harness = testing.Harness(Busy, options={"queue": "third"})
    harness.put(1, queue="third", node=OUTPUT)
    harness.settle()
    assert harness.messages("node-2") == [{"first": 1}]
    assert harness.vitals.queues == ("zocalo.third", "zocalo.second")


def test_exclusive_services_leave_the_messages_to_the_first():
    class Alone(Busy):
        exclusive = True

    first = testing.Harness(Alone)
    second = testing.Harness(Alone, broker=first.broker, clock=first.clock)
    for number in range(3):
        first.put(number, node=OUTPUT)
    second.settle()
    first.settle()
    assert (len(first.outcomes), len(second.outcomes)) == (3, 0)


def test_what_is_stored_in_the_environment_travels_on():
    class Storing(Service):
        queue = "work"

        def process(self, step, payload):
            step.environment["seen"] = payload
            step.send(payload)

    harness = testing.Harness(Storing)
    harness.put("x", node=OUTPUT)
    harness.settle()
    (sent,) = harness.waiting("node-2")
    assert testing.envelope.decode(sent.body)["environment"]["seen"] == "x"
