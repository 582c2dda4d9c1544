"""The board: who is here, how old what we know is, and what it does with rubbish."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoctools.board import Change, StatusBoard
from zoctools.service.status import Status
from zoctools.snapshot import Mood
from zoctools.transport.contract import Link, Refused

WALL = 1_800_000_000.0


class Clock:
    """Monotonic and wall clock, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def wall(self) -> float:
        return WALL + self.now


class Scene:
    """A board and its clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.board = StatusBoard(lambda: self.clock.now, self.clock.wall, **options)

    def say(self, host: str = "ac.site.node7.1", status: int = Status.IDLE, **fields: Any) -> Change:
        sent = {"host": host, "service": "Archiver", "serviceclass": "Archiver", "status": int(status), **fields}
        return self.feed(json.dumps(sent).encode())

    def feed(self, body: bytes, stamp: float | None = None, expires: float | None = None) -> Change:
        at = self.clock.wall() if stamp is None else stamp
        headers = {"timestamp": str(int(at * 1000))}
        if expires is not None:
            headers["expires"] = str(int(expires * 1000))
        return self.board.feed(headers, body)

    def link(self, connected: bool) -> None:
        self.board.set_link(Link(connected, 1, "broker:61613", self.clock.now))

    def words(self) -> dict[str, str]:
        shot = self.board.snapshot()
        return {each.host: shot.word(each) for each in shot.instances}


def test_a_service_is_seen_with_all_it_says() -> None:
    scene = Scene()
    versions = {"workflows": "3.5", "zocalo": "1.6.0", "dlstbx": "dlstbx 0.2262-ge3"}
    scene.say(utilization={"2": 0.5, "4": 0.25, "3": 0.125}, **versions)
    scene.clock.now += 4
    shot = scene.board.snapshot()
    (one,) = shot.instances
    assert (one.label, one.service_class, one.said.node) == ("Archiver", "Archiver", "node7")
    assert shot.word(one) == "idle"
    assert shot.age(one) == 4
    assert one.said.busy == 0.375
    assert one.said.versions == {"dlstbx": "0.2262-ge3", "zocalo": "1.6.0", "workflows": "3.5"}
    assert one.fields()["utilization"]["2"] == 0.5


def test_the_text_shutdown_means_two_things_and_the_number_tells() -> None:
    scene = Scene()
    scene.say("a.1", Status.TEARDOWN, statustext="shutdown")
    scene.say("a.2", Status.END, statustext="shutdown")
    assert scene.words() == {"a.1": "left", "a.2": "ended"}


def test_the_newest_by_the_brokers_stamp_counts() -> None:
    scene = Scene()
    scene.say(status=Status.PROCESSING)
    late = json.dumps({"host": "ac.site.node7.1", "status": int(Status.IDLE)}).encode()
    assert scene.feed(late, stamp=scene.clock.wall() - 1) is Change.NOTHING
    assert scene.words() == {"ac.site.node7.1": "processing"}
    assert scene.board.snapshot().counts.outdated == 1


def test_a_stamp_from_the_future_silences_nobody() -> None:
    scene = Scene()
    body = json.dumps({"host": "a.1", "status": int(Status.ERROR)}).encode()
    scene.feed(body, stamp=4_102_444_800)
    scene.say("a.1", Status.IDLE)
    assert scene.words() == {"a.1": "idle"}


def test_who_should_have_spoken_is_silent_then_forgotten_but_never_its_class() -> None:
    scene = Scene()
    scene.say("a.1")
    scene.say("a.2")
    scene.clock.now += 60
    scene.say("a.1")
    assert scene.words() == {"a.1": "idle", "a.2": "silent"}
    scene.clock.now += 40
    shot = scene.board.snapshot()
    assert [each.host for each in shot.instances] == ["a.1"]
    (archivers,) = shot.missing
    assert (archivers.here, archivers.most, archivers.gone) == (1, 2, 1)
    scene.clock.now += 10_000
    (archivers,) = scene.board.snapshot().missing
    assert (archivers.here, archivers.last_heard) == (0, WALL + 1060)


def test_a_replacement_and_who_was_killed_before_it_are_not_two() -> None:
    scene = Scene()
    for host in ("a.1", "a.2", "a.1"):
        scene.say(host)
    scene.clock.now += 2
    scene.say("a.3")
    for _ in range(20):
        scene.clock.now += 5
        scene.say("a.2")
        scene.say("a.3")
    shot = scene.board.snapshot()
    assert [(each.here, each.most) for each in shot.classes] == [(2, 2)]
    assert shot.missing == ()


def test_goodbyes_are_forgotten_after_ten_seconds() -> None:
    scene = Scene()
    scene.say("a.1", Status.TEARDOWN)
    scene.say("a.2", Status.END, service=None, serviceclass=None, task="dials")
    scene.say("a.3", Status.END)
    scene.clock.now += 9
    assert set(scene.words()) == {"a.1", "a.2", "a.3"}
    scene.clock.now += 2
    assert scene.words() == {"a.3": "silent"}


def test_a_service_without_a_name_keeps_the_one_it_had() -> None:
    scene = Scene()
    scene.say("a.1", Status.NEW, service=None, serviceclass=None)
    scene.say("a.1", Status.IDLE)
    scene.say("a.1", Status.END, service=None, serviceclass=None)
    (one,) = scene.board.snapshot().instances
    assert (one.label, one.service_class) == ("Archiver", "Archiver")
    assert scene.board.snapshot().classes[0].here == 0


def test_the_clock_of_the_board_stands_while_our_own_link_is_down() -> None:
    scene = Scene()
    scene.link(True)
    scene.say()
    scene.clock.now += 3
    scene.link(False)
    scene.clock.now += 3600
    shot = scene.board.snapshot()
    (one,) = shot.instances
    assert shot.age(one) == 3
    assert shot.word(one) == "unknown"
    assert shot.mood(one) is Mood.GONE
    assert shot.lost_at == WALL + 1003
    scene.link(True)
    scene.clock.now += 4
    shot = scene.board.snapshot()
    assert shot.age(shot.instances[0]) == 7
    assert shot.word(shot.instances[0]) == "idle"
    scene.clock.now += 100
    assert scene.board.snapshot().instances == ()


def test_a_wrong_clock_of_the_sender_is_noticed_and_changes_no_age() -> None:
    scene = Scene()
    body = json.dumps({"host": "a.1", "status": 2}).encode()
    scene.feed(body, expires=scene.clock.wall() + 15 - 20)
    scene.feed(body.replace(b"a.1", b"a.2"), expires=scene.clock.wall() + 15 + 3)
    slow, right = scene.board.snapshot().instances
    assert (slow.skew, right.skew) == (-20, None)
    assert scene.board.snapshot().age(slow) == 0


def test_a_broadcast_the_broker_kept_for_us_is_as_old_as_it_is() -> None:
    scene = Scene()
    scene.feed(json.dumps({"host": "a.1", "status": 2}).encode(), stamp=scene.clock.wall() - 12)
    shot = scene.board.snapshot()
    assert shot.age(shot.instances[0]) == pytest.approx(12, abs=0.01)


def test_waiting_is_a_state_of_its_own() -> None:
    scene = Scene()
    scene.say(zoc={"waiting_for": "mail server", "queues": ["mailnotification"], "recipe_ID": "x"})
    shot = scene.board.snapshot()
    assert shot.word(shot.instances[0]) == "waiting"
    assert shot.instances[0].said.waiting_for == "mail server"


def test_kubernetes_pods_are_named_by_node_and_tag() -> None:
    scene = Scene()
    scene.say(container_node="worker-3.site.ac", tag="blue")
    assert scene.board.snapshot().instances[0].said.node == "worker-3.blue"


def test_losses_can_be_accepted() -> None:
    scene = Scene()
    scene.say("a.1")
    scene.say("b.1", serviceclass="Other")
    scene.clock.now += 95
    scene.say("b.1", serviceclass="Other")
    scene.board.accept_losses()
    shot = scene.board.snapshot()
    assert [each.name for each in shot.classes] == ["Other"]
    assert shot.missing == ()


HOSTILE = [
    b"not json",
    b"",
    b"null",
    b"[]",
    b"{}",
    b'{"host": null, "status": 2}',
    b'{"host": "", "status": 2}',
    b'{"host": "a.1", "status": "x"}',
    b'{"host": "a.1", "status": true}',
    b'{"host": "a.1", "status": 1e400}',
    b'{"host": "a.1", "status": 99999999999}',
    b'{"host": "' + b"x" * 10_240 + b'", "status": 2}',
    b"\xff\xfe\x00",
    b"[" * 10_000,
    b"9" * 10_000,
    b'{"host": "a.1", "status": 2, "x": "' + b"y" * 20_000 + b'"}',
]


@pytest.mark.parametrize("body", HOSTILE)
def test_rubbish_is_counted_with_a_sample(body: bytes) -> None:
    scene = Scene()
    assert scene.feed(body) is Change.NOTHING
    counts = scene.board.snapshot().counts
    assert (counts.malformed, counts.heard) == (1, 0)
    assert counts.malformed_sample.isprintable()
    assert len(counts.malformed_sample) < 300


@pytest.mark.parametrize(
    "fields",
    [
        {"service": "\x1b]0;pwn\x07", "serviceclass": "[/nope]"},
        {"service": 7, "serviceclass": ["x"], "task": {"a": 1}},
        {"service": "s" * 5000, "serviceclass": "c" * 5000},
        {"utilization": "lots"},
        {"utilization": {"4": "x", "3": None, "1": float("nan"), "5": 10**400}},
        {"utilization": {"4": 1e308}},
        {"zoc": 7},
        {"zoc": {"waiting_for": 1, "queues": "q", "busy_for": "x", "handled": float("inf")}},
        {"zoc": {"queues": list(range(1000))}},
        {"workflows": 3.5, "dlstbx": None, "container_node": 1},
        {"status": 42},
        {"host": "\ud800\u202e[link=file:///etc/passwd]"},
    ],
)
def test_odd_fields_make_a_row_all_the_same(fields: dict[str, Any]) -> None:
    scene = Scene()
    sent = {"host": "a.1", "status": 4, **fields}
    assert scene.feed(json.dumps(sent).encode()) is Change.NEW
    shot = scene.board.snapshot()
    (one,) = shot.instances
    assert shot.word(one)
    assert len(one.label) <= 200
    assert one.said.busy is None or 0 <= one.said.busy <= 1


@pytest.mark.parametrize(
    "headers", [{}, {"timestamp": "x"}, {"timestamp": "-5", "expires": "9" * 400}, {"expires": "²"}]
)
def test_odd_stamps_count_as_none(headers: dict[str, str]) -> None:
    scene = Scene()
    assert scene.board.feed(headers, b'{"host": "a.1", "status": 2}') is Change.NEW
    assert scene.board.snapshot().instances[0].skew is None


def test_a_flood_of_hosts_is_capped_and_counted() -> None:
    scene = Scene(max_hosts=100)
    for number in range(250):
        scene.say(f"a.{number}", serviceclass=f"C{number}")
    shot = scene.board.snapshot()
    assert len(shot.instances) == 100
    assert shot.counts.overflow == 150


def test_what_the_broker_refuses_is_kept_to_be_shown() -> None:
    scene = Scene()
    scene.board.take(Refused("not allowed\x1b[2J"))
    counts = scene.board.snapshot().counts
    assert counts.refused == 1
    assert counts.refused_sample == "not allowed\\x1b[2J"


_host = st.sampled_from(["a.1", "a.2", "b.1", "", None, 7])
_message = st.fixed_dictionaries(
    {"host": _host, "status": st.one_of(st.integers(-3, 9), st.text(max_size=3), st.none())},
    optional={
        "service": st.one_of(st.none(), st.text(max_size=5)),
        "serviceclass": st.one_of(st.none(), st.text(max_size=5), st.integers()),
        "task": st.one_of(st.none(), st.text(max_size=5)),
        "utilization": st.dictionaries(st.text(max_size=2), st.one_of(st.floats(), st.none()), max_size=4),
        "zoc": st.one_of(st.none(), st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)),
    },
)
_action = st.one_of(
    st.tuples(st.just("say"), _message, st.integers(-30, 30)),
    st.tuples(st.just("bytes"), st.binary(max_size=40)),
    st.tuples(st.just("sleep"), st.floats(0, 200)),
    st.tuples(st.just("link"), st.booleans()),
    st.tuples(st.just("accept")),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(_action, max_size=40))
def test_any_sequence_leaves_the_board_consistent(actions: list[tuple[Any, ...]]) -> None:
    scene = Scene()
    fed = 0
    classes: set[str] = set()
    for action, *rest in actions:
        if action == "say":
            scene.feed(json.dumps(rest[0]).encode(), stamp=scene.clock.wall() + rest[1])
            fed += 1
        elif action == "bytes":
            scene.feed(rest[0])
            fed += 1
        elif action == "sleep":
            scene.clock.now += rest[0]
        elif action == "link":
            scene.link(rest[0])
        else:
            scene.board.accept_losses()
            classes = set()
        shot = scene.board.snapshot()
        counts = shot.counts
        assert counts.heard + counts.outdated + counts.malformed + counts.overflow == fed
        assert len({each.host for each in shot.instances}) == len(shot.instances)
        assert all(0 <= shot.age(each) <= 120 for each in shot.instances)
        assert all(each.here >= 0 and each.most >= min(each.here, 1) for each in shot.classes)
        now_known = {each.name for each in shot.classes}
        assert {each.service_class for each in shot.instances if each.service_class} <= now_known
        assert classes <= now_known
        classes = now_known
