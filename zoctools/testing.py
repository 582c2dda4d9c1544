"""Run a service without a broker, and look at what it sent.

One message, one answer:

    from zoctools import testing
    from mysite.archiver import Archiver

    def test_a_missing_image_is_reported():
        outcome = testing.run(Archiver, {"pattern": "x_%05d.cbf"}, parameters={"images": 3})
        assert outcome.ending == "done"
        assert outcome.sent == [("missing_files", {"missing": 3}, None)]

Several messages, timers, held messages: a `Harness`, whose clock moves only when it is told to.

    def test_a_batch_is_settled_when_its_time_is_up():
        harness = testing.Harness(Batcher)
        for number in range(3):
            harness.put({"number": number})
        harness.advance(60)
        assert harness.messages("batches") == [{"numbers": [0, 1, 2]}]

It is the real runtime on a real broker in memory: what happens to a message here happens to it in a service.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from zoctools import headers as known_headers
from zoctools.recipe import envelope
from zoctools.recipe.recipe import Recipe
from zoctools.recipe.step import Step
from zoctools.service.consumers import Consumer
from zoctools.service.copies import STEP_ASIDE
from zoctools.service.delivery import Clock, gate
from zoctools.service.endings import Away, Done, Ending, Failed, Interrupted, Later, Rejected
from zoctools.service.loop import Loop
from zoctools.service.service import Service
from zoctools.service.status import Vitals
from zoctools.transport.contract import Delivery, Destination, Outgoing
from zoctools.transport.memory import ManualClock, MemoryBroker, MemoryTransport

if TYPE_CHECKING:
    from zoctools.settings import Settings

DEFAULT = "default"
"""What `Sent.to` says for `Step.send`."""
ENDLESS = 100_000
"""Turns without an end in sight after which a test is told that its service never comes to rest."""
RECIPE_ID = "12345678-1234-1234-1234-1234567890ab"


class Sent(NamedTuple):
    """One thing a handler sent: `to` is the output, the queue or topic, ``checkpoint`` or ``start``."""

    to: str
    payload: Any
    delay: float | None = None


@dataclass(slots=True)
class Outcome:
    """How one message was handled.

    `ending` is ``done``, ``reject``, ``retry``, ``unavailable`` or ``failed``; `error` its reason in one line. `sent`
    is empty unless it is ``done``: what a handler that raised had sent before is dropped.
    """

    ending: str
    error: str = ""
    sent: list[Sent] = field(default_factory=list)
    log: list[logging.LogRecord] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The logged messages as text."""
        return [record.getMessage() for record in self.log]


class RecordingStep(Step):
    """A step that also notes what is sent where. An `open_ended` one accepts every output."""

    open_ended = False

    @property
    def sent(self) -> list[Sent]:
        """What was sent so far."""
        notes: list[Sent] = self.__dict__.setdefault("_notes", [])
        return notes

    def has_output(self, name: str) -> bool:
        """Whether `send_to` would lead anywhere; always, for an open-ended step."""
        return self.open_ended or super().has_output(name)

    def send(self, payload: Any, *, headers: Mapping[str, Any] | None = None, delay: float | None = None) -> int:
        """Send to the default output."""
        return self._noted(super().send(payload, headers=headers, delay=delay), DEFAULT, payload, delay)

    def send_to(
        self, output: str, payload: Any, *, headers: Mapping[str, Any] | None = None, delay: float | None = None
    ) -> int:
        """Send to a named output."""
        return self._noted(super().send_to(output, payload, headers=headers, delay=delay), output, payload, delay)

    def checkpoint(self, payload: Any, *, delay: float = 0) -> int:
        """Send to the own node."""
        return self._noted(super().checkpoint(payload, delay=delay), "checkpoint", payload, delay)

    def start(self, recipe: Recipe, environment: dict[str, Any], *, headers: Mapping[str, Any] | None = None) -> int:
        """Start another recipe."""
        return self._noted(super().start(recipe, environment, headers=headers), "start", recipe.to_json(), None)

    def send_message(
        self,
        queue: str,
        body: Any,
        *,
        headers: Mapping[str, Any] | None = None,
        delay: float | None = None,
        namespaced: bool = True,
    ) -> None:
        """Send to a named queue."""
        super().send_message(queue, body, headers=headers, delay=delay, namespaced=namespaced)
        self._noted(1, queue, body, delay)

    def broadcast_message(self, topic: str, body: Any, *, expires_in: float | None = None) -> None:
        """Send to a topic."""
        super().broadcast_message(topic, body, expires_in=expires_in)
        self._noted(1, topic, body, None)

    def _noted(self, messages: int, to: str, payload: Any, delay: float | None) -> int:
        if self.open_ended and not messages:
            envelope.encode(payload)
            messages = 1
        if messages:
            self.sent.append(Sent(to, payload, delay))
        return messages


class Harness:
    """One service on a broker in memory.

    `clock` is advanced by `advance` alone; `outcomes` has one entry for each message handled; `service` is the
    running service, `broker` its broker, `vitals` what its status broadcast would say.
    """

    def __init__(
        self,
        service: type[Service],
        *,
        settings: Settings | None = None,
        options: Mapping[str, Any] | None = None,
        namespace: str = "zocalo",
        broker: MemoryBroker | None = None,
        clock: ManualClock | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.broker = broker or MemoryBroker(self.clock)
        self.transport = MemoryTransport(self.broker, namespace)
        self.transport.connect()
        self.world = MemoryTransport(self.broker, namespace)
        """A second link, for everybody else."""
        self.world.connect()
        self.vitals = Vitals("test.1", service.name or service.__name__, service.__name__, "test", self.clock)
        self.outcomes: list[Outcome] = []
        self._steps: dict[str, RecordingStep] = {}
        self._records: list[logging.LogRecord] = []
        self.loop = Loop(
            service,
            self.transport,
            self.vitals,
            settings=settings,
            options=options,
            clock=Clock(self.clock, self.clock),
            admit=self._admit,
            witness=self._witness,
        )
        with self._recording():
            self.loop.start()

    @property
    def service(self) -> Service:
        """The running service."""
        return self.loop.service

    @property
    def log(self) -> list[logging.LogRecord]:
        """Everything that was logged since the last message was handled."""
        return self._records

    def put(
        self,
        payload: Any = None,
        *,
        queue: str | None = None,
        node: Mapping[str, Any] | None = None,
        recipe: Recipe | Mapping[str | int, Any] | None = None,
        pointer: int = 1,
        parameters: Mapping[str, Any] | None = None,
        environment: dict[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
    ) -> None:
        """Send a message to the service; `settle` or `advance` has it handled.

        It stands at node `pointer` of `recipe` or, without one, at the only node of a recipe, which is `node` with
        `parameters`, and accepts every output when no `node` is given. A `plain` message belongs to no recipe: its
        payload is bytes, sent as they are, or becomes JSON. `queue`, without namespace, is where it is sent.
        """
        target = self.transport.queue(queue) if queue else Destination.queue(self._main_queue())
        if plain:
            body = bytes(payload) if isinstance(payload, (bytes, bytearray)) else envelope.encode(payload)
            self.world.send(Outgoing(target, body, dict(headers or {})))
            return
        if recipe is None:
            standing = {"queue": queue or "test", **(node or {})}
            standing["parameters"] = {**standing.get("parameters", {}), **(parameters or {})}
            others = {number: {"queue": f"node-{number}"} for number in _numbers(standing.get("output"))}
            recipe = Recipe({"1": standing, **{str(key): value for key, value in others.items()}, "start": [[1, []]]})
        elif not isinstance(recipe, Recipe):
            recipe = Recipe(recipe)
        given = {"ID": RECIPE_ID} if environment is None else environment
        step = Step(recipe, pointer, payload=payload, environment=given)
        marked = {known_headers.RECIPE: "True", **(headers or {})}
        if node is None and "output" not in recipe.nodes[pointer]:
            marked[_OPEN] = "yes"
        self.world.send(Outgoing(target, envelope.encode(step.to_json()), marked))

    def settle(self) -> None:
        """Have everything done that can be done now, without time passing."""
        with self._recording():
            for _ in range(ENDLESS):
                if not self.loop.turn(0):
                    return
        raise AssertionError("the service never comes to rest")

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due meanwhile is done at its time: timers, delayed messages, retries."""
        self.settle()
        end = self.clock() + seconds
        while (due := self._next_due()) is not None and due <= end:
            self.clock.advance(max(due - self.clock(), 0.0))
            self.settle()
        self.clock.advance(max(end - self.clock(), 0.0))
        self.settle()

    def leave(self) -> None:
        """Have the service leave in peace; what it hands back is in its queue again afterwards."""
        with self._recording():
            self.loop.leave("the test is over")
            self.loop.run()
            self.transport.close()
        self.clock.advance(STEP_ASIDE)

    def waiting(self, queue: str) -> list[Delivery]:
        """Return what stands in a queue, named without namespace, as delivered: headers and bytes."""
        return list(self.world.browse(self.world.queue(queue), limit=ENDLESS).messages)

    def messages(self, queue: str) -> list[Any]:
        """Return the payloads of what stands in a queue, named without namespace."""
        return [_payload(message) for message in self.waiting(queue)]

    def dead_letters(self, queue: str | None = None) -> list[Delivery]:
        """Return the dead letters of a queue, named without namespace; without a name those of the main queue."""
        full = self.transport.queue(queue).name if queue else self._main_queue()
        return list(self.world.browse(Destination.queue(full).dead_letters, limit=ENDLESS).messages)

    def _main_queue(self) -> str:
        if not self.vitals.queues:
            raise ValueError(f"{type(self.service).__name__} consumes no queue: name one")
        return self.transport.queue(self.service.queue).name if self.service.queue else self.vitals.queues[0]

    def _next_due(self) -> float | None:
        with self.broker.step() as queues:
            dues = (self.loop.next_due(), queues.next_due())
        return min((due for due in dues if due is not None), default=None)

    def _admit(self, delivery: Delivery, consumer: Consumer, namespace: str) -> Step:
        step = gate(delivery, consumer, namespace, RecordingStep)
        assert isinstance(step, RecordingStep)
        step.open_ended = _OPEN in delivery.headers
        self._steps[delivery.message_id] = step
        return step

    def _witness(self, delivery: Delivery, ending: Ending) -> None:
        step = self._steps.pop(delivery.message_id, None)
        outcome = _outcome(ending)
        if step is not None and outcome.ending == "done":
            outcome.sent = step.sent
        outcome.log = list(self._records)
        self._records.clear()
        self.outcomes.append(outcome)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Note every record, whatever logging is set up for."""
        root, handler = logging.getLogger(), _Recorder(self._records)
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            root.setLevel(level)
            root.removeHandler(handler)


def run(
    service: type[Service],
    payload: Any = None,
    *,
    settings: Settings | None = None,
    options: Mapping[str, Any] | None = None,
    **message: Any,
) -> Outcome:
    """Have a service handle one message; returns what came of it.

    `message` describes it as `Harness.put` does: `node`, `recipe`, `pointer`, `parameters`, `environment`, `headers`,
    `plain`, `queue`. No time passes: what is to be tried again is not.
    """
    harness = Harness(service, settings=settings, options=options)
    harness.put(payload, **message)
    harness.settle()
    if not harness.outcomes:
        raise AssertionError(f"{service.__name__} did not take the message: does it consume that queue?")
    return harness.outcomes[0]


class _Recorder(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self._records = records

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append(record)


_OPEN = "zoc-test-every-output"


def _outcome(ending: Ending) -> Outcome:
    match ending:
        case Rejected(cause):
            return Outcome("reject", cause.error)
        case Failed(cause):
            return Outcome("failed", cause.error)
        case Later(why):
            return Outcome("retry", why)
        case Away(what):
            return Outcome("unavailable", what)
        case Interrupted():
            return Outcome("interrupted")
        case Done():
            return Outcome("done")


def _payload(message: Delivery) -> Any:
    decoded = envelope.decode(message.body)
    return decoded["payload"] if known_headers.is_recipe(message.headers) else decoded


def _numbers(output: Any) -> list[int]:
    """Return every node number an `output` names."""
    if isinstance(output, Mapping):
        return [number for entry in output.values() for number in _numbers(entry)]
    if isinstance(output, list):
        return [number for entry in output for number in _numbers(entry)]
    return [output] if isinstance(output, int) and output != 1 else []
