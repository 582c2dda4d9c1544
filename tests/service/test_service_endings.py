"""How a handler can end, and what then becomes of its message."""

from __future__ import annotations

import sys

import pytest

from zoctools import Reject, Retry, Service, Unavailable, headers, testing
from zoctools.errors import LoginRefused, SendRefused
from zoctools.service import loop
from zoctools.transport.contract import Destination, Link, Outgoing
from zoctools.transport.memory import ManualClock, MemoryBroker, MemoryTransport

OUTPUT = {"output": {"next": 2}}


class Doing(Service):
    """Does what its payload says."""

    queue = "work"
    accepts_plain_messages = True

    def process(self, step, payload):
        step.send_to("next", {"from": payload})
        if callable(action := ACTIONS.get(str(payload))):
            action(self, step)


def _raise(error):
    def action(service, step):
        raise error

    return action


class Unshowable(Exception):
    def __str__(self):
        raise ValueError("not even this")


def recurse(service, step):
    recurse(service, step)


ACTIONS = {
    "reject": _raise(Reject("the payload names no\nfile")),
    "retry": _raise(Retry("file not there yet", delay=30)),
    "away": _raise(Unavailable("mail server")),
    "fail": _raise(RuntimeError("boom\x1b[2J")),
    "exit": _raise(SystemExit(3)),
    "memory": _raise(MemoryError()),
    "cancelled": _raise(GeneratorExit()),
    "unshowable": _raise(Unshowable()),
    "bad delay": lambda service, step: _raise(Retry("x", delay="soon"))(service, step),
    "recurse": recurse,
    "unsendable": lambda service, step: step.send_to("next", {}, headers={"a\nb": "c"}),
    "interrupt": _raise(KeyboardInterrupt()),
}


def test_a_handler_that_returns_is_settled_with_what_it_sent():
    harness = testing.Harness(Doing)
    harness.put("fine", node=OUTPUT)
    harness.settle()
    assert harness.messages("node-2") == [{"from": "fine"}]
    assert harness.messages("work") == []
    assert harness.outcomes[0].ending == "done"


def test_a_rejected_message_becomes_a_dead_letter_with_its_bytes_and_the_cause():
    harness = testing.Harness(Doing)
    harness.put("reject", node=OUTPUT, headers={"mine": "kept", "priority": "7", "AMQ_SCHEDULED_CRON": "x"})
    before = harness.waiting("work")[0]
    harness.settle()
    (letter,) = harness.dead_letters()
    assert letter.body == before.body
    assert letter.headers["persistent"] == "true"
    assert letter.headers["original-destination"] == "/queue/zocalo.work"
    assert letter.headers["mine"] == "kept"
    assert "AMQ_SCHEDULED_CRON" not in letter.headers
    assert letter.headers["zoc_error"] == "the payload names no\\nfile"
    assert letter.headers["zoc_error_class"] == "Reject"
    assert letter.headers["zoc_service"] == "Doing"
    assert letter.headers["zoc_host"] == "test.1"
    assert letter.headers["zoc_recipe_ID"] == testing.RECIPE_ID
    assert letter.headers["zoc_node"] == "1"
    assert letter.headers["zoc_failed_at"].startswith("2023-11-")
    assert harness.messages("node-2") == []


def test_a_failing_message_is_tried_three_times_and_then_a_dead_letter():
    harness = testing.Harness(Doing)
    harness.put("fail", node=OUTPUT)
    harness.settle()
    assert [outcome.ending for outcome in harness.outcomes] == ["failed"]
    harness.advance(1.3)
    assert len(harness.outcomes) == 2
    harness.advance(7.4)
    assert len(harness.outcomes) == 2
    harness.advance(5)
    assert len(harness.outcomes) == 3
    (letter,) = harness.dead_letters()
    assert letter.headers["zoc_dead_attempts"] == "3"
    assert headers.ATTEMPTS not in letter.headers
    assert letter.headers["zoc_error"] == "RuntimeError: boom\\x1b[2J"
    assert letter.headers["zoc_traceback"].rstrip().endswith("RuntimeError: boom\\x1b[2J")
    assert harness.messages("work") == []
    assert harness.messages("node-2") == []


def test_a_message_behind_a_failing_one_is_handled_at_once():
    harness = testing.Harness(Doing)
    harness.put("fail", node=OUTPUT)
    harness.put("fine", node=OUTPUT)
    harness.settle()
    assert harness.messages("node-2") == [{"from": "fine"}]


def test_what_a_service_says_about_attempts_counts_whenever_it_says_it():
    class Patient(Doing):
        def start(self):
            self.max_attempts = 2
            self.retry_delays = (100.0,)
            super().start()

    harness = testing.Harness(Patient)
    harness.put("fail", node=OUTPUT)
    harness.advance(70)
    assert len(harness.outcomes) == 1
    harness.advance(60)
    assert len(harness.outcomes) == 2
    assert len(harness.dead_letters()) == 1


@pytest.mark.parametrize("action", ["exit", "memory", "cancelled", "unshowable", "recurse", "bad delay"])
def test_whatever_a_handler_raises_is_a_failed_attempt_and_the_service_lives(action):
    harness = testing.Harness(Doing)
    harness.put(action, node=OUTPUT)
    harness.put("fine", node=OUTPUT)
    harness.settle()
    assert [outcome.ending for outcome in harness.outcomes] == ["failed", "done"]
    harness.advance(20)
    (letter,) = harness.dead_letters()
    assert letter.headers["zoc_error"]


def test_a_retry_comes_again_after_its_delay_and_is_given_up_in_the_end():
    harness = testing.Harness(Doing)
    harness.put("retry", node=OUTPUT)
    harness.settle()
    assert harness.outcomes[0].ending == "retry"
    harness.advance(29)
    assert len(harness.outcomes) == 1
    harness.advance(2)
    assert len(harness.outcomes) == 2
    harness.advance(86400)
    (letter,) = harness.dead_letters()
    assert "given up after" in letter.headers["zoc_error"]
    assert "file not there yet" in letter.headers["zoc_error"]
    assert headers.RETRY_SINCE not in letter.headers
    assert "zoc_dead_retry_since" in letter.headers
    assert "zoc_dead_attempts" not in letter.headers
    assert len(harness.outcomes) == 86400 // 30 + 1


def test_counters_do_not_travel_to_the_next_node():
    class Second(Doing):
        tries = 0

        def process(self, step, payload):
            Second.tries += 1
            if Second.tries == 1:
                raise RuntimeError("only once")
            step.send_to("next", payload)

    harness = testing.Harness(Second)
    harness.put({}, node=OUTPUT)
    harness.advance(3)
    (sent,) = harness.waiting("node-2")
    assert not {headers.ATTEMPTS, headers.DEATHS, headers.RETRY_SINCE} & set(sent.headers)


def test_nonsense_in_our_counters_counts_as_nothing():
    harness = testing.Harness(Doing)
    harness.put("fail", node=OUTPUT, headers={headers.ATTEMPTS: "-4e99", headers.RETRY_SINCE: "NaN"})
    harness.advance(20)
    assert len(harness.outcomes) == 3


def test_an_outbox_that_cannot_be_sent_makes_a_dead_letter_that_says_why():
    harness = testing.Harness(Doing)
    harness.put("unsendable", node=OUTPUT)
    harness.settle()
    (letter,) = harness.dead_letters()
    assert "line break" in letter.headers["zoc_error"]
    assert harness.messages("node-2") == []
    assert harness.messages("work") == []


def test_what_the_broker_refuses_becomes_a_dead_letter_with_its_words():
    words = {"/queue/zocalo.node-2": "User x is not authorized to write to zocalo.node-2"}
    clock = ManualClock()
    broker = MemoryBroker(clock, refuse=lambda queue: words.get(queue, ""))
    harness = testing.Harness(Doing, broker=broker, clock=clock)
    harness.put("fine", node=OUTPUT)
    harness.settle()
    (letter,) = harness.dead_letters()
    assert letter.headers["zoc_error"] == words["/queue/zocalo.node-2"]
    assert letter.headers["zoc_error_class"] == "SendRefused"
    assert harness.messages("work") == []


def test_a_retry_that_is_refused_keeps_its_own_cause_on_the_dead_letter():
    refused = []
    clock = ManualClock()
    broker = MemoryBroker(clock, refuse=lambda queue: "no" if queue in refused else "")
    harness = testing.Harness(Doing, broker=broker, clock=clock)
    harness.put("fail", node=OUTPUT)
    refused.append("/queue/zocalo.work")
    harness.settle()
    (letter,) = harness.dead_letters()
    assert "boom" in letter.headers["zoc_error"]
    assert letter.headers["zoc_error"].endswith("no")


def test_a_message_that_cannot_even_be_dead_lettered_stays_and_is_tried_again():
    refused = {"/queue/DLQ.zocalo.work"}
    clock = ManualClock()
    broker = MemoryBroker(clock, refuse=lambda queue: "no such right" if queue in refused else "")
    harness = testing.Harness(Doing, broker=broker, clock=clock)
    harness.put("reject", node=OUTPUT)
    harness.settle()
    assert harness.dead_letters() == []
    assert len(harness.waiting("work")) == 1
    assert "no such right" in harness.vitals.waiting_for
    refused.clear()
    harness.advance(120)
    assert len(harness.dead_letters()) == 1
    assert harness.waiting("work") == []
    assert harness.vitals.waiting_for == ""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", "not-json"),
        (b"", "bad-envelope"),
        (b"[1, 2]", "bad-envelope"),
        (b"\xff\xfe", "not-utf-8"),
        (b'{"recipe": {"1": {}, "start": [[1, []]]}, "recipe-pointer": 99}', "bad-envelope"),
        (b'{"recipe": {"1": {}, "start": [[1, []]]}, "recipe-pointer": 1, "environment": null}', "bad-envelope"),
        (b"[" * 100_000, "not-json"),
    ],
)
def test_what_fails_the_gate_is_a_dead_letter_with_a_named_reason(body, reason):
    harness = testing.Harness(Doing)
    harness.put(body, plain=True, headers={"workflows-recipe": "True"})
    harness.put("fine", node=OUTPUT)
    harness.settle()
    (letter,) = harness.dead_letters()
    assert letter.body == body
    assert letter.headers["zoc_error_class"] == reason
    assert letter.headers["zoc_error"].startswith(f"{reason}: ")
    assert harness.messages("node-2") == [{"from": "fine"}]


def test_plain_messages_reach_only_services_that_accept_them():
    class Recipes(Doing):
        accepts_plain_messages = False

    assert testing.run(Doing, {"a": 1}, plain=True).ending == "done"
    outcome = testing.run(Recipes, {"a": 1}, plain=True)
    assert outcome.ending == "reject"
    assert outcome.error.startswith("not-a-recipe: ")


def test_a_raw_service_gets_the_bytes_as_they_are():
    seen = []

    class Raw(Service):
        queue = "raw"
        raw = True

        def process(self, step, payload):
            seen.append((step.recipe, payload))
            step.send_message("out", payload)

    harness = testing.Harness(Raw)
    harness.put(b"\x00\xff\r\n", plain=True)
    harness.settle()
    assert seen == [(None, b"\x00\xff\r\n")]
    assert harness.waiting("out")[0].body == b"\x00\xff\r\n"


def test_an_interrupt_hands_the_message_back_as_it_came_and_the_service_leaves():
    harness = testing.Harness(Doing)
    harness.put("interrupt", node=OUTPUT)
    harness.advance(0.5)
    (back,) = harness.waiting("work")
    assert not {headers.ATTEMPTS, headers.DEATHS} & set(back.headers)
    assert "redelivered" not in back.headers
    harness.put("fine", node=OUTPUT)
    harness.settle()
    assert harness.messages("node-2") == []


class TestUnavailable:
    def test_the_message_goes_back_uncounted_with_what_was_prefetched_and_the_status_says_it(self):
        class Eager(Doing):
            prefetch = 5

        harness = testing.Harness(Eager)
        for payload in ("away", "one", "two"):
            harness.put(payload, node=OUTPUT)
        harness.advance(0.5)
        assert sorted(harness.messages("work")) == ["away", "one", "two"]
        for message in harness.waiting("work"):
            assert not {"redelivered", headers.ATTEMPTS, headers.DEATHS} & set(message.headers)
        assert harness.vitals.waiting_for == "mail server"
        assert [figures.consumers for figures in harness.broker.figures() if figures.name == "zocalo.work"] == [0]
        assert len(harness.outcomes) == 1

    def test_a_queue_that_is_refused_when_it_resumes_is_asked_for_again(self):
        handled = []

        class Two(Service):
            def start(self):
                for queue in ("first", "second"):
                    self.consume(queue, self.take, plain=True)

            def take(self, step, payload):
                handled.append(payload)
                if handled == ["away"]:
                    raise Unavailable("mail server", probe=lambda: handled.append("looked"))

        harness = testing.Harness(Two)
        subscribe, refusing = harness.transport.subscribe, [True]

        def refuse_the_first(destination, **options):
            if refusing and destination.name == "zocalo.first":
                raise SendRefused("no permission to read")
            return subscribe(destination, **options)

        harness.transport.subscribe = refuse_the_first
        harness.put("away", queue="first", plain=True)
        harness.settle()
        harness.put("second", queue="second", plain=True)
        harness.advance(2)
        assert handled == ["away", "looked", "second"]
        assert harness.vitals.waiting_for == "no permission to read"
        refusing.clear()
        harness.advance(loop.LONGEST_PAUSE)
        assert handled == ["away", "looked", "second", "away"]
        assert harness.vitals.waiting_for == ""

    def test_it_resumes_when_the_probe_says_so(self):
        back = []
        probes = []

        class Probing(Service):
            queue = "work"

            def process(self, step, payload):
                if not back:
                    raise Unavailable("database", probe=self.look)

            def look(self):
                probes.append(1)
                if not back:
                    raise OSError("connection refused")

        harness = testing.Harness(Probing)
        harness.put("x")
        harness.settle()
        harness.advance(600)
        tried = len(probes)
        assert 5 <= tried <= 30
        assert len(harness.outcomes) == 1
        back.append(True)
        harness.advance(61)
        assert [outcome.ending for outcome in harness.outcomes] == ["unavailable", "done"]
        assert harness.vitals.waiting_for == ""

    def test_without_a_probe_the_messages_are_tried_with_growing_pauses(self):
        harness = testing.Harness(Doing)
        harness.put("away", node=OUTPUT)
        harness.advance(1000)
        assert 10 <= len(harness.outcomes) <= 30
        assert len(harness.waiting("work")) == 1
        assert harness.dead_letters() == []

    def test_a_timer_can_find_it_away_too(self):
        class Ticking(Service):
            queue = "work"

            def start(self):
                self.consume("work", self.process)
                self.every(5, self.tick)

            def process(self, step, payload):
                pass

            def tick(self, step):
                raise Unavailable("scheduler", probe=lambda: False)

        harness = testing.Harness(Ticking)
        harness.advance(6)
        assert harness.vitals.waiting_for == "scheduler"
        harness.put("x")
        harness.advance(100)
        assert harness.outcomes == []


class TestDeaths:
    @staticmethod
    def die(harness: testing.Harness) -> testing.Harness:
        """The process ends without settling what it has; another takes its place."""
        harness.transport.drop_link(reconnect=False)
        return testing.Harness(type(harness.service), broker=harness.broker, clock=harness.clock)

    def test_a_message_that_was_delivered_before_counts_a_death_and_is_then_handled(self):
        first = testing.Harness(Doing)
        first.put("fine", node=OUTPUT, headers={"mine": "kept", "priority": "6"})
        second = self.die(first)
        assert second.waiting("work")[0].headers["redelivered"] == "true"
        second.loop.turn(0)
        (copy,) = second.waiting("work")
        assert copy.headers[headers.DEATHS] == "1"
        assert copy.headers["mine"] == "kept"
        assert copy.headers["priority"] == "6"
        assert "redelivered" not in copy.headers
        second.settle()
        assert second.messages("node-2") == [{"from": "fine"}]
        assert second.dead_letters() == []

    def test_the_fifth_death_condemns_it_and_nothing_was_decoded(self):
        harness = testing.Harness(Doing)
        harness.put(b"\xff not even text", plain=True, headers={headers.DEATHS: "4", "workflows-recipe": "True"})
        harness = self.die(harness)
        harness.settle()
        (letter,) = harness.dead_letters()
        assert letter.headers["zoc_error"] == "delivered 5 times to a service that went away before finishing"
        assert letter.headers["zoc_dead_deaths"] == "5"
        assert letter.body == b"\xff not even text"
        assert harness.outcomes == []

    def test_the_copy_goes_behind_the_others(self):
        harness = testing.Harness(Doing)
        harness.put("deadly", node=OUTPUT)
        for number in range(3):
            harness.put(f"good {number}", node=OUTPUT)
        harness = self.die(harness)
        harness.settle()
        assert [message["from"] for message in harness.messages("node-2")] == ["good 0", "good 1", "good 2", "deadly"]

    def test_a_service_that_holds_many_does_not_count(self):
        class Holding(Doing):
            counts_deaths = False

        harness = testing.Harness(Holding)
        harness.put("fine", node=OUTPUT, headers={headers.DEATHS: "4"})
        harness = self.die(harness)
        harness.settle()
        assert harness.messages("node-2") == [{"from": "fine"}]


class TestLinks:
    @pytest.mark.parametrize("done", [False, True])
    @pytest.mark.parametrize("payload", ["fine", "reject", "fail", "retry"])
    def test_a_link_cut_during_a_settle_loses_nothing_and_the_service_goes_on(self, payload, done):
        harness = testing.Harness(Doing)
        harness.put(payload, node=OUTPUT)
        harness.put("another", node=OUTPUT)
        harness.transport.cut_next_settle(done=done)
        harness.settle()
        harness.advance(100)
        delivered = [message["from"] for message in harness.messages("node-2")]
        assert delivered.count("another") == 1
        ended = {"fine": delivered.count("fine"), "retry": len(harness.outcomes) >= 3}
        assert ended.get(payload, len(harness.dead_letters())) == 1

    def test_what_a_lost_link_took_back_is_forgotten_and_comes_again(self):
        class Eager(Doing):
            prefetch = 10

        harness = testing.Harness(Eager)
        for number in range(5):
            harness.put(number, node=OUTPUT)
        harness.loop.turn(0)
        harness.transport.drop_link()
        harness.settle()
        assert sorted(message["from"] for message in harness.messages("node-2")) == [0, 1, 2, 3, 4]
        assert harness.waiting("work") == []

    def test_a_link_that_is_lost_is_no_death(self):
        harness = testing.Harness(Doing)
        harness.put("fine", node=OUTPUT, headers={headers.DEATHS: "4"})
        for _ in range(6):
            harness.transport.cut_next_settle(done=False)
            harness.loop.turn(0)
        assert len(harness.outcomes) == 6
        harness.settle()
        assert harness.messages("node-2") == [{"from": "fine"}]
        assert harness.dead_letters() == []

    def test_the_status_says_that_the_broker_is_waited_for(self):
        harness = testing.Harness(Doing)
        harness.transport.drop_link(reconnect=False)
        harness.settle()
        assert "broker" in harness.vitals.waiting_for
        harness.transport.restore_link()
        harness.settle()
        assert harness.vitals.waiting_for == ""

    def test_a_service_that_is_paused_while_the_link_goes_stays_paused_and_resumes(self):
        harness = testing.Harness(Doing)
        harness.put("away", node=OUTPUT)
        harness.transport.cut_next_settle(done=False)
        harness.settle()
        assert [figures.consumers for figures in harness.broker.figures() if figures.name == "zocalo.work"] == [0]
        harness.advance(2)
        assert len(harness.outcomes) == 2

    def test_a_login_refused_at_a_reconnect_ends_the_service(self):
        stops = []

        class Stopping(Doing):
            def stop(self):
                stops.append(1)

        harness = testing.Harness(Stopping)
        harness.transport.inbox.put(Link(False, 1, "broker:61613", 0.0, error="password is invalid", given_up=True))
        with pytest.raises(LoginRefused, match="password is invalid"):
            harness.loop.run()
        assert stops == [1]


class TestNoScheduler:
    def make(self, service=Doing) -> testing.Harness:
        clock = ManualClock()
        return testing.Harness(service, broker=MemoryBroker(clock, scheduler=False), clock=clock)

    def test_a_message_before_its_time_waits_here_and_the_status_says_why(self):
        harness = self.make()
        harness.put("fail", node=OUTPUT)
        harness.settle()
        assert len(harness.outcomes) == 1
        assert loop.NO_SCHEDULER in harness.vitals.waiting_for
        harness.advance(0.5)
        assert len(harness.outcomes) == 1
        harness.advance(30)
        assert len(harness.outcomes) == 3
        assert len(harness.dead_letters()) == 1

    def test_it_does_not_keep_the_others_from_us(self):
        harness = self.make()
        for payload in ("retry", "retry", "fail", "fine"):
            harness.put(payload, node=OUTPUT)
        harness.settle()
        assert harness.messages("node-2") == [{"from": "fine"}]
        harness.advance(40)
        harness.put("another", node=OUTPUT)
        harness.settle()
        assert [message["from"] for message in harness.messages("node-2")] == ["fine", "another"]
        assert len(harness.dead_letters()) == 1
        harness.leave()
        assert harness.messages("work") == ["retry", "retry"]

    def test_leaving_hands_it_back_with_the_rest_of_its_delay(self):
        harness = self.make()
        harness.put("retry", node=OUTPUT)
        harness.settle()
        harness.advance(10)
        harness.leave()
        (back,) = harness.waiting("work")
        assert 19_000 <= int(back.headers[headers.SCHEDULED_DELAY]) <= 21_000
        assert "redelivered" not in back.headers

    def test_without_a_stamp_of_the_broker_it_is_handled_once_the_delay_is_over(self):
        harness = self.make()
        seen = harness.outcomes
        harness.world.send(Outgoing(Destination.queue("zocalo.work"), b'{"x": 1}', {"timestamp": "nonsense"}, delay=5))
        harness.settle()
        assert seen == []
        harness.advance(6)
        assert len(seen) == 1


class TestLeaving:
    def test_what_came_to_a_service_that_could_not_start_goes_back_unmarked(self):
        links = []

        class Stillborn(Doing):
            def start(self):
                super().start()
                links.append(self._runtime._transport)
                raise RuntimeError("no database")

        broker = MemoryBroker(clock := ManualClock())
        world = MemoryTransport(broker, "zocalo")
        world.connect()
        world.send(Outgoing(world.queue("work"), b"1"))
        for _ in range(6):
            with pytest.raises(RuntimeError):
                testing.Harness(Stillborn, broker=broker, clock=clock)
            links.pop().close()
            clock.advance(1)
        (message,) = world.browse(world.queue("work")).messages
        assert message.body == b"1"
        assert not {"redelivered", headers.DEATHS} & set(message.headers)

    def test_what_was_never_started_goes_back_unmarked(self):
        class Eager(Doing):
            prefetch = 4

        harness = testing.Harness(Eager)
        for number in range(4):
            harness.put(number, node=OUTPUT)
        harness.leave()
        assert harness.messages("work") == [0, 1, 2, 3]
        assert not any("redelivered" in message.headers for message in harness.waiting("work"))
        assert harness.outcomes == []

    def test_the_settle_of_the_last_message_hands_back_the_rest(self):
        class Leaver(Service):
            queue = "work"
            prefetch = 4

            def process(self, step, payload):
                harness.loop.leave("enough")
                step.send_to("next", payload)

        harness = testing.Harness(Leaver)
        for number in range(4):
            harness.put(number, node=OUTPUT)
        harness.loop.turn(0)
        assert harness.messages("node-2") == [0]
        harness.clock.advance(0.5)
        assert harness.messages("work") == [1, 2, 3]
        assert [figures.consumers for figures in harness.broker.figures() if figures.name == "zocalo.work"] == [0]
        harness.leave()
        assert harness.messages("work") == [1, 2, 3]

    def test_when_copies_are_refused_the_broker_takes_the_messages_back_itself(self):
        refused = set()
        clock = ManualClock()
        broker = MemoryBroker(clock, refuse=lambda queue: "read only" if queue in refused else "")
        harness = testing.Harness(Doing, broker=broker, clock=clock)
        harness.put("fine", node=OUTPUT)
        refused.add("/queue/zocalo.work")
        harness.leave()
        assert harness.messages("work") == ["fine"]

    def test_a_service_can_leave_while_the_link_is_down(self):
        harness = testing.Harness(Doing)
        harness.put("fine", node=OUTPUT)
        harness.transport.drop_link(reconnect=False)
        harness.leave()
        assert harness.messages("work") == ["fine"]

    @pytest.mark.parametrize(
        ("command", "obeyed"),
        [
            ({"command": "shutdown", "service": "Doing"}, True),
            ({"command": "shutdown", "host": "test.1"}, True),
            ({"command": "shutdown", "host": "test.1", "service": "Doing"}, True),
            ({"command": "shutdown", "host": "test.1", "service": "Other"}, False),
            ({"command": "shutdown", "service": "doing"}, False),
            ({"command": "shutdown", "service": None}, False),
            ({"command": "shutdown"}, False),
            ({"command": "restart", "service": "Doing"}, False),
            (["shutdown"], False),
            ("not json", False),
        ],
    )
    def test_commands_are_obeyed_when_they_name_us_exactly(self, command, obeyed):
        harness = testing.Harness(Doing)
        body = b"not json" if command == "not json" else testing.envelope.encode(command)
        harness.world.send(Outgoing(harness.world.topic("command"), body, persistent=False))
        harness.put("fine", node=OUTPUT)
        harness.loop.turn(0)
        assert harness.loop.leaving is obeyed

    def test_stop_is_called_once_and_may_raise(self):
        stops = []

        class Stopping(Doing):
            def stop(self):
                stops.append(1)
                raise RuntimeError("in stop")

        harness = testing.Harness(Stopping)
        harness.put("fine", node=OUTPUT)
        harness.leave()
        assert stops == [1]
        assert harness.messages("work") == ["fine"]


def test_a_recursion_in_the_handler_leaves_the_interpreter_as_it_was():
    limit = sys.getrecursionlimit()
    assert testing.run(Doing, "recurse").ending == "failed"
    assert sys.getrecursionlimit() == limit


def test_the_link_may_be_down_when_a_timer_has_something_to_send():
    class Producer(Service):
        def start(self):
            self.every(10, self.produce)
            self.count = 0

        def produce(self, step):
            self.count += 1
            step.send_message("out", self.count)

    harness = testing.Harness(Producer)
    harness.transport.drop_link(reconnect=False)
    harness.advance(35)
    assert harness.messages("out") == []
    harness.transport.restore_link()
    harness.advance(20)
    sent = harness.messages("out")
    assert sent[0] == 1
    assert sent == sorted(set(sent))
