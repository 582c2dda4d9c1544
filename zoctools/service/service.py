"""What the author of a service subclasses.

    from zoctools import Reject, Service, Step

    class Archiver(Service):
        name = "Archiver"
        queue = "archive.pattern"

        def process(self, step: Step, payload):
            if "pattern" not in payload:
                raise Reject("the payload names no pattern")
            step.send_to("missing_files", {"missing": 0})

What a handler sends is collected in the step's outbox. When the handler returns, the outbox is sent and the message
acknowledged as one confirmed whole; when it raises, nothing of the outbox is sent:

* `Reject`: the message becomes a dead letter now, with the reason.
* `Retry`: it goes back to its queue and comes again later; that is no failure.
* `Unavailable`: something shared is away. The message goes back, the service pauses, probes, and resumes.
* any other exception: a failed attempt. It comes again after `retry_delays`; the last of `max_attempts` makes it a
  dead letter.

A message can be delivered twice, when a process or a link dies between the work and the broker's confirmation: what a
handler does outside the broker should bear being done again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from zoctools.recipe.step import Step
    from zoctools.settings import Settings

Handler = Callable[["Step", Any], object]
"""Called with a step and its payload."""
Listener = Callable[[Any], object]
"""Called with the payload of a broadcast."""
TimerHandler = Callable[["Step"], object]
"""Called with a step that stands at no node: `send_message`, `broadcast_message` and `start` work on it."""
Probe = Callable[[], object]
"""Says whether something is back: it returns, and not False."""


class Reject(Exception):
    """This message can never be handled: make it a dead letter now. `why` is one line for people."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Retry(Exception):
    """Not now: bring this message again after `delay` seconds, for at most `Service.retry_for` in all."""

    def __init__(self, why: str, delay: float = 10.0) -> None:
        super().__init__(why)
        self.why = why
        self.delay = float(delay)


class Unavailable(Exception):
    """Something every message needs is away; `what` names it as the status shows it: ``mail server``.

    `probe` is called with growing pauses until it returns without an exception and not False. Without a probe the
    service tries the messages themselves again.
    """

    def __init__(self, what: str, probe: Probe | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.probe = probe


class Runtime(Protocol):
    """What runs a service and does what the service asks for."""

    settings: Settings | None
    options: Mapping[str, Any]
    namespace: str

    def consume(
        self,
        queue: str,
        handler: Handler,
        *,
        prefetch: int,
        exclusive: bool,
        priority: int | None,
        selector: str,
        plain: bool,
        raw: bool,
    ) -> None:
        """Hand each message of a queue to a handler."""

    def listen(self, topic: str, handler: Listener) -> None:
        """Hand each broadcast on a topic to a handler."""

    def every(self, seconds: float, handler: TimerHandler) -> None:
        """Call a handler again and again."""

    def hold(self, step: Step) -> None:
        """Keep a message unsettled when its handler returns."""

    def settle_held(self, steps: Iterable[Step]) -> None:
        """Settle held messages together."""

    def renamed(self, name: str) -> None:
        """Show another name in the status."""

    def waits_for(self, what: str) -> None:
        """Show in the status what a handler is waiting for; nothing is waited for when it is empty."""


class Service:
    """A program that takes messages from queues; subclass it, set `name` and `queue`, and write `process`.

    The class name is the service's identity (`zoc shutdown -s Archiver`); `name` is what people see.
    """

    name: str = ""
    """Display name; the class name when empty."""
    queue: str | None = None
    """Main queue, without namespace; ``--queue`` replaces it. None: the service consumes what `start` asks for."""
    prefetch: int = 1
    """How many messages the broker hands over before the first is settled; more is faster and less fair."""
    exclusive: bool = False
    """Only one instance gets messages, the others stand by."""
    priority: int | None = None
    """Consumers of a higher priority (0 to 127) are served first."""
    selector: str = ""
    """Which messages to take, as a JMS selector over their headers."""
    accepts_plain_messages: bool = False
    """Messages outside any recipe reach `process` too, with a step whose `recipe` is None."""
    counts_deaths: bool = True
    """Dead-letter what five processes died of. False for services that hold many messages: one death marks all."""
    max_attempts: int = 3
    """How often a handler may fail on one message."""
    retry_delays: Sequence[float] = (1.0, 10.0)
    """Seconds before the second, third, ... attempt, each varied by a fifth; the last value serves for all further."""
    retry_for: float = 86400.0
    """Seconds from its first `Retry` after which a message is given up."""
    raw: bool = False
    """`process` gets the body as bytes, and nothing is decoded."""
    outputs: Sequence[str] | None = None
    """The named outputs it ever sends to, as patterns (``select-*``), for `zoc recipe lint`. None: not said."""
    placeholders: Sequence[str] = ()
    """Templates in its node's parameters that it fills in itself (``payload``), for `zoc recipe lint`."""

    def __init__(self, runtime: Runtime) -> None:
        """Made by whatever runs the service; prepare in `start` instead of here."""
        self._runtime = runtime
        self.name = self.name or type(self).__name__
        self.log = logging.getLogger(type(self).__module__)

    # What an author writes

    def start(self) -> None:
        """Prepare, and say what to consume; called once, with the broker connected. Default: the main queue.

        An exception raised here ends the process.
        """
        if self.queue:
            self.consume(self.queue, self.process)

    def process(self, step: Step, payload: Any) -> None:
        """Handle one message of the main queue."""
        raise NotImplementedError(f"{type(self).__name__} has no process method")

    def stop(self) -> None:
        """Leave in peace: called once before the links are closed, no message is being handled."""

    def on_lost(self, steps: Sequence[Step]) -> None:
        """Forget held messages: the broker has taken them back and will deliver them again, here or elsewhere."""

    # What an author is offered

    @property
    def settings(self) -> Settings | None:
        """The site configuration; None when the service runs without one, as in a test."""
        return self._runtime.settings

    @property
    def options(self) -> Mapping[str, Any]:
        """The options the service was started with."""
        return self._runtime.options

    @property
    def namespace(self) -> str:
        """What stands in front of every queue and topic name, without the final dot."""
        return self._runtime.namespace

    def consume(
        self,
        queue: str,
        handler: Handler,
        *,
        prefetch: int | None = None,
        exclusive: bool | None = None,
        priority: int | None = None,
        selector: str | None = None,
        plain: bool | None = None,
        raw: bool | None = None,
    ) -> None:
        """Hand each message of `queue` to `handler(step, payload)`; what is not given is as the class says."""
        self._runtime.consume(
            queue,
            handler,
            prefetch=self.prefetch if prefetch is None else prefetch,
            exclusive=self.exclusive if exclusive is None else exclusive,
            priority=self.priority if priority is None else priority,
            selector=self.selector if selector is None else selector,
            plain=self.accepts_plain_messages if plain is None else plain,
            raw=self.raw if raw is None else raw,
        )

    def listen(self, topic: str, handler: Listener) -> None:
        """Call `handler(payload)` for each broadcast on `topic`; what is not JSON is logged and passed over."""
        self._runtime.listen(topic, handler)

    def every(self, seconds: float, handler: TimerHandler) -> None:
        """Call `handler(step)` every so many seconds, first after one period; its outbox is sent when it returns.

        An outbox that a lost link kept from the broker is sent again before the handler's next turn.
        """
        self._runtime.every(seconds, handler)

    def hold(self, step: Step) -> None:
        """Keep the message being handled, and its outbox, unsettled when the handler returns.

        The broker hands over at most `prefetch` unsettled messages: ask for as many as are held at a time.
        """
        self._runtime.hold(step)

    def settle_held(self, steps: Iterable[Step]) -> None:
        """Settle held messages: all their outboxes and acknowledgements in one, when the running handler returns.

        Should the handler raise, they stay held. Should the broker refuse what they send, all become dead letters.
        Raises `ValueError` for a step that is not held.
        """
        self._runtime.settle_held(steps)

    def rename(self, text: str) -> None:
        """Show `text` as the service's name from now on; its class name stays."""
        self.name = text
        self._runtime.renamed(text)

    def waits_for(self, what: str) -> None:
        """Show in the status that the running handler waits for `what`, such as a file system; empty: no more."""
        self._runtime.waits_for(what)
