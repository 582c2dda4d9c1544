"""What a service says about itself, and when."""

from __future__ import annotations

import json

import pytest

from support.waiting import eventually
from zoctools.service.heartbeat import Heartbeat, Memory, batch_job, private_bytes
from zoctools.service.status import IDLE_AFTER, PERIOD, Minute, Shares, Status, Vitals
from zoctools.transport.memory import ManualClock, MemoryBroker, MemoryTransport


class Scene:
    """Vitals with a clock of their own, and what they announced: (time, status)."""

    def __init__(self, **extra):
        self.clock = ManualClock(1000.0)
        self.vitals = Vitals("site.node.7", "Archiver", "Archiver", "1.2.3", self.clock, **extra)
        self.said = []

    def look(self):
        message = self.vitals.announce()
        if message is not None:
            self.said.append((round(self.clock() - 1000, 2), message["status"]))
        return message

    def pass_time(self, seconds, step=0.05):
        for _ in range(round(seconds / step)):
            self.look()
            self.clock.advance(step)
        self.look()

    def idle(self):
        self.vitals.enter(Status.STARTING)
        self.vitals.enter(Status.IDLE)
        self.pass_time(5)
        self.said.clear()


def test_the_broadcast_has_every_field_of_the_wire_and_one_of_ours():
    scene = Scene(extra={"tag": "mytag", "cluster_JOB_ID": "12"}, memory=lambda: 4096)
    scene.vitals.queues = ("zocalo.archive",)
    scene.vitals.wait_for("away", "mail server")
    scene.vitals.enter(Status.PROCESSING, "recipe-7")
    scene.vitals.note(0.25, handled=True, failed=False)
    scene.vitals.note(None, handled=False, failed=True)
    scene.clock.advance(2)
    message = scene.vitals.announce()
    assert message == {
        "host": "site.node.7",
        "status": 4,
        "statustext": "processing",
        "service": "Archiver",
        "serviceclass": "Archiver",
        "utilization": {"4": 1.0},
        "workflows": "3.7",
        "zoctools": "1.2.3",
        "tag": "mytag",
        "cluster_JOB_ID": "12",
        "mem-uss": 4096,
        "zoc": {
            "busy_for": 2.0,
            "wait_p95": 0.25,
            "handled": 1,
            "failed": 1,
            "queues": ["zocalo.archive"],
            "recipe_ID": "recipe-7",
            "waiting_for": "mail server",
        },
    }
    json.dumps(message)
    assert scene.vitals.fields["workflows_status"] == 4
    assert scene.vitals.fields["workflows_tag"] == "mytag"
    assert "workflows_zoc" not in scene.vitals.fields


def test_nothing_new_is_repeated_every_period():
    scene = Scene()
    scene.idle()
    scene.pass_time(13)
    assert [status for _, status in scene.said] == [Status.IDLE, Status.IDLE]
    first, second = (time for time, _ in scene.said)
    assert PERIOD <= second - first < PERIOD + 0.2


def test_a_short_message_is_seen_at_once_and_idleness_only_after_half_a_second():
    scene = Scene()
    scene.idle()
    began = scene.clock() - 1000
    scene.vitals.enter(Status.PROCESSING)
    scene.clock.advance(0.001)
    scene.vitals.enter(Status.IDLE)
    scene.pass_time(2)
    (processing, working), (idle, resting) = scene.said
    assert (working, resting) == (Status.PROCESSING, Status.IDLE)
    assert processing - began < 0.06
    assert idle - began >= IDLE_AFTER


def test_a_stream_of_messages_is_one_state():
    scene = Scene()
    scene.idle()
    for _ in range(100):
        scene.vitals.enter(Status.PROCESSING)
        scene.pass_time(0.05)
        scene.vitals.enter(Status.IDLE)
        scene.pass_time(0.05)
    assert {status for _, status in scene.said} == {Status.PROCESSING}
    assert len(scene.said) == 2


def test_a_handler_that_blocks_is_repeated_and_says_for_how_long():
    scene = Scene()
    scene.idle()
    scene.vitals.enter(Status.PROCESSING, "the recipe")
    scene.pass_time(20)
    assert [status for _, status in scene.said] == [Status.PROCESSING] * 4
    scene.clock.advance(PERIOD)
    message = scene.look()
    assert message["zoc"]["busy_for"] > 20
    assert message["zoc"]["recipe_ID"] == "the recipe"
    assert message["utilization"] == {"4": 1.0}


def test_states_that_end_a_service_are_announced_at_once():
    scene = Scene()
    scene.idle()
    scene.vitals.enter(Status.SHUTDOWN)
    assert scene.look()["status"] == Status.SHUTDOWN
    scene.vitals.enter(Status.ERROR)
    assert scene.look()["status"] == Status.ERROR
    assert scene.vitals.statement(Status.TEARDOWN)["statustext"] == "shutdown"


def test_the_thread_may_sleep_through_quiet_and_not_through_change():
    scene = Scene()
    assert scene.vitals.rest() == 0.0
    scene.idle()
    assert IDLE_AFTER < scene.vitals.rest() <= PERIOD
    scene.vitals.enter(Status.PROCESSING)
    assert scene.vitals.rest() == 0.0
    scene.look()
    assert 0 < scene.vitals.rest() <= IDLE_AFTER


def test_shares_cover_the_window_and_add_up():
    shares = Shares(6.0, 0.0)
    shares.spend(2, 97.0)
    shares.spend(4, 100.0)
    report = shares.report()
    assert report == {"2": 0.5, "4": 0.5}
    assert sum(report.values()) == pytest.approx(1.0)
    shares.spend(4, 100_000.0)
    assert shares.report() == {"4": 1.0}


def test_a_minute_forgets():
    minute = Minute()
    for second in range(60):
        minute.note(float(second), second / 100, True, False)
    assert minute.counts(59.0) == (60, 0)
    assert minute.wait_p95(59.0) == pytest.approx(0.57)
    assert minute.counts(130.0) == (0, 0)
    assert minute.wait_p95(130.0) is None


def test_the_heartbeat_beats_while_the_main_loop_blocks_and_says_good_bye():
    broker = MemoryBroker()
    mine, other = MemoryTransport(broker, "zocalo"), MemoryTransport(broker, "zocalo")
    mine.connect()
    other.connect()
    other.subscribe(other.topic("transient.status"), acknowledge=False)
    vitals = Vitals("site.node.7", "A", "A", "1", ManualClock())
    vitals.enter(Status.PROCESSING)
    heartbeat = Heartbeat(vitals, mine)
    heartbeat.start()
    heard = []

    def hear():
        while not other.inbox.empty():
            event = other.inbox.get()
            heard.extend([json.loads(event.body)] if hasattr(event, "body") else [])
        return heard

    assert eventually(hear)[0]["status"] == Status.PROCESSING
    mine.drop_link()
    vitals.enter(Status.ERROR)
    eventually(lambda: hear()[-1]["status"] == Status.ERROR)
    heartbeat.stop()
    assert eventually(lambda: hear()[-1]["status"] == Status.TEARDOWN)


def test_the_broadcast_expires_and_is_not_persistent():
    clock = ManualClock()
    broker = MemoryBroker(clock)
    mine = MemoryTransport(broker, "zocalo")
    mine.connect()
    mine.subscribe(mine.topic("transient.status"), acknowledge=False)
    mine.inbox.get()
    Heartbeat(Vitals("h.1", "A", "A", "1", clock), mine).say(Status.IDLE)
    message = mine.inbox.get()
    assert int(message.headers["expires"]) == int((clock() + 15) * 1000)
    assert "persistent" not in message.headers


def test_a_batch_job_is_named_as_before():
    assert batch_job({"JOB_ID": "5", "SGE_CELL": "com"}) == {"cluster_JOB_ID": "5", "cluster_SGE_CELL": "com"}
    assert batch_job({"SLURM_JOB_ID": "6"}) == {"cluster_JOB_ID": "6"}
    assert batch_job({}) == {}


def test_memory_is_the_private_part_asked_for_rarely(tmp_path):
    smaps = tmp_path / "smaps"
    smaps.write_text("Rss: 999 kB\nPrivate_Clean: 4 kB\nPrivate_Dirty: 6 kB\nPrivate_Hugetlb: 0 kB\nPrivate_Odd:\n")
    assert private_bytes(smaps) == 10240
    assert private_bytes(tmp_path / "none") is None
    clock = ManualClock()
    memory = Memory(smaps, clock)
    assert memory() == 10240
    smaps.write_text("Private_Dirty: 1 kB\n")
    assert memory() == 10240
    clock.advance(11)
    assert memory() == 1024
