"""`zoctools.testing` shows what a service did; its examples are true."""

from __future__ import annotations

import pytest

from zoctools import Reject, Service, Unavailable, testing


class Archiver(Service):
    """Says how many images are missing."""

    queue = "archive.pattern"

    def process(self, step, payload):
        if "pattern" not in payload:
            raise Reject("the payload names no pattern")
        self.log.info("archiving %s", payload["pattern"])
        step.send_to("missing_files", {"missing": step.parameters["images"]})


class Batcher(Service):
    """Gathers numbers for a minute."""

    queue = "numbers"
    prefetch = 100

    def start(self):
        self.kept = []
        super().start()
        self.every(60, self.flush)

    def process(self, step, payload):
        self.hold(step)
        self.kept.append(step)

    def flush(self, step):
        step.send_message("batches", {"numbers": [kept.payload["number"] for kept in self.kept]})
        self.settle_held(self.kept)
        self.kept = []


def test_one_message_one_answer():
    outcome = testing.run(Archiver, {"pattern": "x_%05d.cbf"}, parameters={"images": 3})
    assert outcome.ending == "done"
    assert outcome.sent == [("missing_files", {"missing": 3}, None)]
    assert "archiving x_%05d.cbf" in outcome.words


def test_a_harness_moves_its_clock_only_when_told():
    harness = testing.Harness(Batcher)
    for number in range(3):
        harness.put({"number": number})
    harness.advance(60)
    assert harness.messages("batches") == [{"numbers": [0, 1, 2]}]
    assert harness.waiting("numbers") == []


def test_a_reason_is_reported_and_nothing_counts_as_sent():
    outcome = testing.run(Archiver, {})
    assert (outcome.ending, outcome.error, outcome.sent) == ("reject", "the payload names no pattern", [])
    outcome = testing.run(Archiver, {"pattern": "x"})
    assert outcome.ending == "failed"
    assert outcome.error == "KeyError: 'images'"


def test_with_a_node_only_its_outputs_exist():
    outcome = testing.run(Archiver, {"pattern": "x"}, node={"output": {"other": 2}}, parameters={"images": 1})
    assert outcome.ending == "done"
    assert outcome.sent == []


def test_a_whole_recipe_can_be_given():
    recipe = {
        "1": {"queue": "archive.pattern", "parameters": {"images": 9}, "output": {"missing_files": [2, 3]}},
        "2": {"queue": "second"},
        "3": {"queue": "third"},
        "start": [[1, []]],
    }
    harness = testing.Harness(Archiver)
    harness.put({"pattern": "x"}, recipe=recipe)
    harness.settle()
    assert harness.messages("second") == harness.messages("third") == [{"missing": 9}]
    assert harness.outcomes[0].sent == [("missing_files", {"missing": 9}, None)]


def test_every_way_of_sending_is_noted():
    class Sender(Service):
        queue = "all"
        accepts_plain_messages = True

        def process(self, step, payload):
            step.send(1)
            step.send_to("named", 2, delay=5)
            step.checkpoint(3, delay=1)
            step.send_message("queue", b"raw")
            step.broadcast_message("topic", 4)
            step.start(step.recipe, {})
            assert step.has_output("anything")

    sent = testing.run(Sender, "x").sent
    assert [entry.to for entry in sent] == ["default", "named", "checkpoint", "queue", "topic", "start"]
    assert [entry.delay for entry in sent[:3]] == [None, 5, 1]


def test_what_cannot_be_json_fails_even_where_no_node_follows():
    class Odd(Service):
        queue = "odd"

        def process(self, step, payload):
            step.send_to("x", object())

    assert testing.run(Odd).ending == "failed"


def test_settings_and_options_reach_the_service():
    class Curious(Service):
        queue = "a"

        def process(self, step, payload):
            step.send([str(self.settings), self.options["tag"], self.namespace])

    (sent,) = testing.run(Curious, options={"tag": "x"}).sent
    assert sent.payload == ["None", "x", "zocalo"]


def test_away_is_told():
    class Away(Service):
        queue = "a"

        def process(self, step, payload):
            raise Unavailable("database")

    assert testing.run(Away).ending == "unavailable"


def test_a_service_that_does_not_take_the_message_is_an_error_of_the_test():
    with pytest.raises(AssertionError, match="did not take the message"):
        testing.run(Archiver, {}, queue="elsewhere")

    class Deaf(Service):
        pass

    with pytest.raises(ValueError, match="consumes no queue"):
        testing.run(Deaf, {})


def test_a_service_without_process_says_so():
    class Empty(Service):
        queue = "a"

    assert "has no process method" in testing.run(Empty, {}).error
