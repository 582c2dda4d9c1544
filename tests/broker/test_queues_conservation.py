"""Whatever happens in whatever order, each message is in exactly one place, and the store knows what must survive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from support.machine import Machine, sent
from zoctools.broker import names
from zoctools.broker.consumers import Wanted
from zoctools.broker.effects import Handed
from zoctools.broker.messages import Sent
from zoctools.errors import SendRefused, StaleDelivery

QUEUES = ("a.x", "a.y", "b")
SELECTORS = ("", "", "", "kind = 'red'", "number > 5", "JMSXDeliveryCount > 1")
Key = tuple[int, str, int]


@dataclass(frozen=True)
class Fact:
    """What is known of a message when it is sent: when it comes out of the scheduler, and when it expires at best."""

    persistent: bool
    release: float
    expiry: float | None


class Conservation(RuleBasedStateMachine):
    """Every message has a body of its own; the model knows where the machine must have it."""

    deliveries = Bundle("deliveries")
    connections = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(refuse=lambda destination: "no" if destination == "/queue/closed" else "")
        self.numbers = count()
        self.sent: dict[bytes, Fact] = {}
        self.acknowledged: set[bytes] = set()
        self.held: dict[Key, Handed] = {}
        self.consumers: dict[tuple[int, str], Wanted] = {}
        self.paused: set[int] = set()

    def note(self) -> Any:
        """Learn what was handed out; returns what has to be acknowledged, for the bundle."""
        mine = []
        for one in self.machine.carry_out():
            if self.consumers[one.connection, one.subscription].acknowledge:
                self.held[key(one)] = one
                mine.append(one)
            else:
                self.acknowledged.add(one.message.body)
        return multiple(*mine)

    def let_go(self, gone: Callable[[tuple[int, str]], bool]) -> None:
        """Forget consumers that went away, and what they held."""
        self.consumers = {name: wanted for name, wanted in self.consumers.items() if not gone(name)}
        self.held = {one: handed for one, handed in self.held.items() if not gone(one[:2])}

    def new_message(
        self, queue: str, kind: str, life: int, delay: int, persistent: bool, priority: int
    ) -> tuple[Sent, Fact]:
        """A SEND with a body of its own."""
        number = next(self.numbers)
        release = self.machine.now + delay
        headers = {"kind": kind, "number": str(number), "priority": str(priority)}
        headers |= {"expires": str(int((self.machine.now + life) * 1000))} if life else {}
        headers |= {"AMQ_SCHEDULED_DELAY": str(delay * 1000)} if delay else {}
        headers |= {"persistent": "true"} if persistent else {}
        return sent(queue, str(number).encode(), **headers), Fact(persistent, release, release + life if life else None)

    messages = st.tuples(
        st.sampled_from(QUEUES),
        st.sampled_from(["red", "blue"]),
        st.sampled_from([0, 0, 5, 50]),
        st.sampled_from([0, 0, 0, 10]),
        st.booleans(),
        st.sampled_from([4, 4, 9]),
    )

    @rule(target=deliveries, message=messages)
    def send(self, message: Any) -> Any:
        one, fact = self.new_message(*message)
        self.machine.queues.send(one)
        self.sent[one.body] = fact
        return self.note()

    @rule(target=connections)
    def connect(self) -> int:
        return self.machine.queues.connect()

    @rule(
        target=deliveries,
        connection=connections,
        queue=st.sampled_from([*QUEUES, "a.*", ">", "a.x,b", "DLQ.>"]),
        acknowledge=st.sampled_from([True, True, True, False]),
        prefetch=st.integers(1, 4),
        exclusive=st.sampled_from([False, False, True]),
        priority=st.integers(0, 2),
        selector=st.sampled_from(SELECTORS),
    )
    def subscribe(self, connection: int, queue: str, **wishes: Any) -> Any:
        wanted = Wanted(str(next(self.numbers)), f"/queue/{queue}", **wishes)
        self.consumers[connection, wanted.id] = wanted
        self.machine.queues.subscribe(connection, wanted)
        return self.note()

    @rule(target=deliveries, first=deliveries, second=deliveries, message=messages, refused=st.booleans())
    def settle(self, first: Handed, second: Handed, message: Any, refused: bool) -> Any:
        """Settle two deliveries with a send: possible only when both are held on one connection, and allowed."""
        one, fact = self.new_message(*message)
        held = key(first) in self.held and key(second) in self.held
        possible = held and first.connection == second.connection and first.tag != second.tag
        try:
            sends = [one, sent("closed")] if refused else [one]
            self.machine.queues.settle(first.connection, [key(first)[1:], key(second)[1:]], sends)
        except StaleDelivery:
            assert not possible
            return multiple()
        except SendRefused:
            assert refused
            return multiple()
        assert possible
        assert not refused
        for delivery in (first, second):
            self.acknowledged.add(self.held.pop(key(delivery)).message.body)
        self.sent[one.body] = fact
        return self.note()

    @rule(target=deliveries, delivery=consumes(deliveries), accept=st.booleans())
    def acknowledge_or_refuse(self, delivery: Handed, accept: bool) -> Any:
        connection, subscription, tag = key(delivery)
        try:
            if accept:
                self.machine.queues.settle(connection, [(subscription, tag)])
            else:
                self.machine.queues.nack(connection, subscription, tag)
        except StaleDelivery:
            assert key(delivery) not in self.held
            return multiple()
        del self.held[key(delivery)]
        if accept:
            self.acknowledged.add(delivery.message.body)
        return self.note()

    @rule(target=deliveries, delivery=consumes(deliveries), closing=st.booleans())
    def unsubscribe(self, delivery: Handed, closing: bool) -> Any:
        if closing:
            self.machine.queues.settle(delivery.connection, [], [], [delivery.subscription])
        else:
            self.machine.queues.unsubscribe(delivery.connection, delivery.subscription)
        self.let_go(lambda name: name == (delivery.connection, delivery.subscription))
        return self.note()

    @rule(target=deliveries, connection=connections)
    def close_all_of_a_connection(self, connection: int) -> Any:
        self.machine.queues.settle(connection, [], [], [name for one, name in self.consumers if one == connection])
        self.let_go(lambda name: name[0] == connection)
        return self.note()

    @rule(target=deliveries, connection=connections, paused=st.booleans())
    def pause_or_resume(self, connection: int, paused: bool) -> Any:
        if paused:
            self.paused.add(connection)
            self.machine.queues.pause(connection)
        else:
            self.paused.discard(connection)
            self.machine.queues.resume(connection)
        return self.note()

    @rule(target=deliveries, seconds=st.sampled_from([1, 6, 30, 100]))
    def advance(self, seconds: int) -> Any:
        self.machine.now += seconds
        self.machine.queues.tick()
        return self.note()

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        visible = self.machine.bodies(">")
        assert len(set(visible)) == len(visible)
        assert not self.acknowledged.intersection(visible)
        for body in self.sent.keys() - self.acknowledged - set(visible):
            fact = self.sent[body]
            delayed = self.machine.now < fact.release
            expired = not fact.persistent and fact.expiry is not None and self.machine.now >= fact.expiry
            assert delayed or expired, f"message {body!r} is gone"
        assert all(self.machine.now >= self.sent[body].release for body in visible)

    @invariant()
    def what_is_held_is_in_flight_and_within_prefetch(self) -> None:
        assert sum(one.in_flight for one in self.machine.queues.figures()) == len(self.held)
        assert len({one.message.body for one in self.held.values()}) == len(self.held)
        for name, number in Counter(one[:2] for one in self.held).items():
            assert number <= self.consumers[name].prefetch

    @invariant()
    def figures_add_up(self) -> None:
        for one in self.machine.queues.figures():
            assert one.enqueued == one.ready + one.in_flight + one.dequeued + one.dead_letters + one.expired
            assert min(one.ready, one.in_flight, one.delayed, one.consumers) >= 0

    @invariant()
    def nothing_waits_for_a_consumer_who_has_room(self) -> None:
        held = Counter(one[:2] for one in self.held)
        for figures in self.machine.queues.figures():
            concerned = {
                name: wanted
                for name, wanted in self.consumers.items()
                if any(names.matches(one, f"/queue/{figures.name}") for one in names.split(wanted.destination))
            }
            if figures.ready and not any(wanted.exclusive for wanted in concerned.values()):
                for name, wanted in concerned.items():
                    full = wanted.acknowledge and held[name] >= wanted.prefetch
                    assert full or wanted.selector or name[0] in self.paused

    @invariant()
    def the_store_holds_what_must_survive(self) -> None:
        alive = {body for body, fact in self.sent.items() if fact.persistent} - self.acknowledged
        assert sorted(message.body for message in self.machine.store.values()) == sorted(alive)

    def teardown(self) -> None:
        """At the end everything can be consumed, none of it twice."""
        for connection in {one for one, _ in self.consumers}:
            self.machine.queues.disconnect(connection)
        self.machine.carry_out()
        visible = self.machine.bodies(">")
        self.machine.consumer(">", prefetch=10_000)
        handed = self.machine.carry_out()
        assert sorted(one.message.body for one in handed) == sorted(visible)


def key(handed: Handed) -> Key:
    """What names one delivery."""
    return handed.connection, handed.subscription, handed.tag


TestConservation = Conservation.TestCase
TestConservation.settings = settings(derandomize=True, deadline=None, max_examples=100, stateful_step_count=40)
