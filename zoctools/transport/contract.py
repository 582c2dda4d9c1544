"""What every transport promises: four verbs and a browse.

A transport keeps one link to a broker. What arrives is put into `Transport.inbox` by the receiver thread, which
does nothing else; whoever owns the transport takes it out. `settle` is the one verb that changes the fate of a
message: it acknowledges deliveries and sends messages as one confirmed whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from queue import SimpleQueue
from typing import Protocol

MAX_BODY = 50_000_000
"""Bytes of a body we are willing to send; ActiveMQ loses 100 MB and more without a word."""


class Kind(Enum):
    """A queue gives each message to one consumer, a topic to every subscriber."""

    QUEUE = "queue"
    TOPIC = "topic"


@dataclass(frozen=True, slots=True)
class Destination:
    """A queue or topic by its full name, namespace included; written ``/queue/zocalo.filewatcher``."""

    kind: Kind
    name: str

    @classmethod
    def queue(cls, name: str) -> Destination:
        """The queue of this full name."""
        return cls(Kind.QUEUE, name)

    @classmethod
    def topic(cls, name: str) -> Destination:
        """The topic of this full name."""
        return cls(Kind.TOPIC, name)

    @classmethod
    def parse(cls, text: str) -> Destination:
        """Read ``/queue/NAME`` or ``/topic/NAME``; raises `ValueError` for anything else."""
        for kind in Kind:
            prefix = f"/{kind.value}/"
            if text.startswith(prefix) and len(text) > len(prefix):
                return cls(kind, text[len(prefix) :])
        raise ValueError(f"not a destination: {text!r}")

    @property
    def dead_letters(self) -> Destination:
        """The queue that collects what could not be handled, as ActiveMQ's individual strategy names it."""
        return Destination(Kind.QUEUE, f"DLQ.{self.name}")

    def __str__(self) -> str:
        return f"/{self.kind.value}/{self.name}"


def namespaced(namespace: str, name: str) -> str:
    """Return the full name of `name` in a namespace given with or without its final dot; it may be empty."""
    stem = namespace.rstrip(".")
    return f"{stem}.{name}" if stem else name


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be sent.

    `delay` holds it back at the broker, `expires_in` lets it be forgotten; both in seconds. `headers` are the
    sender's own: destination, persistence, delay and expiry are written by the transport from the other fields.
    """

    destination: Destination
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    expires_in: float | None = None
    persistent: bool = True


@dataclass(frozen=True, slots=True)
class Subscription:
    """One open subscription, as asked for."""

    id: int
    destination: Destination
    acknowledge: bool = True
    prefetch: int = 1
    exclusive: bool = False
    priority: int | None = None
    selector: str = ""
    retroactive: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it arrived. It can be settled only over the link it came on, numbered by `link`."""

    subscription: Subscription
    message_id: str
    destination: Destination
    headers: Mapping[str, str]
    body: bytes
    link: int = 0

    @property
    def redelivered(self) -> bool:
        """Whether the broker marks it as delivered before."""
        return self.headers.get("redelivered") == "true"


@dataclass(frozen=True, slots=True)
class Link:
    """The state of the link to the broker; also put into the inbox whenever it changes.

    `number` counts the links there have been; `since` and `next_try` are of `time.monotonic`. `given_up` when the
    broker refused our login at a reconnect: it is not tried again.
    """

    connected: bool
    number: int
    broker: str
    since: float
    attempt: int = 0
    next_try: float | None = None
    error: str = ""
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Put into the inbox when the broker sent an error that belongs to nothing we asked a receipt for."""

    error: str


Event = Delivery | Link | Refused


@dataclass(frozen=True, slots=True)
class Browsed:
    """What a browse saw.

    `looked_at` messages were shown to us; the queue held `of` in all, as far as the broker tells (None when it
    does not); `complete` only when nothing can have been missed.
    """

    messages: tuple[Delivery, ...]
    looked_at: int
    of: int | None
    complete: bool


class Transport(Protocol):
    """A link to a broker. Every method may be called from any thread but the receiver's own."""

    namespace: str

    @property
    def inbox(self) -> SimpleQueue[Event]:
        """Where everything that arrives is put, in order."""

    @property
    def link(self) -> Link:
        """The state of the link now."""

    def queue(self, name: str) -> Destination:
        """The queue `name` of our namespace."""

    def topic(self, name: str) -> Destination:
        """The topic `name` of our namespace."""

    def connect(self) -> None:
        """Open the link; raises `Unreachable` or `LoginRefused`. Once open, it is reopened for ever when lost."""

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the link is up; returns whether it is."""

    def close(self) -> None:
        """Leave in peace: unsubscribe, disconnect with a receipt. Safe to call twice and on a lost link."""

    def send(self, message: Outgoing) -> None:
        """Send one message and return when the broker has it; the same as ``settle([], [message])``."""

    def broadcast(self, message: Outgoing) -> None:
        """Send to a topic without waiting for a confirmation; raises `LinkLost` while the link is down."""

    def subscribe(
        self,
        destination: Destination,
        *,
        acknowledge: bool = True,
        prefetch: int = 1,
        exclusive: bool = False,
        priority: int | None = None,
        selector: str = "",
        retroactive: bool = False,
    ) -> Subscription:
        """Ask for the messages of a queue or topic; they arrive in the inbox, and again after a reconnect.

        `prefetch` bounds how many unsettled messages we hold. Topics are never acknowledged.
        """

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; what it delivered and was not settled goes back to the broker, marked."""

    def settle(
        self,
        acks: Sequence[Delivery],
        sends: Sequence[Outgoing],
        *,
        closing: Sequence[Subscription] = (),
    ) -> None:
        """Acknowledge deliveries and send messages as one confirmed whole: all of it is done, or none.

        `closing` subscriptions are closed in the same write, so that the broker has no time to hand over more.
        Raises `Unsendable` (checked before anything is written), `SendRefused` with the broker's words,
        `StaleDelivery` when an ack is of an earlier link, `LinkLost` when the link went before the confirmation
        (it counts as not done: a duplicate is possible, a loss is not), `TimedOut` without an answer.
        """

    def browse(self, destination: Destination, selector: str = "", limit: int = 1000) -> Browsed:
        """Look at up to `limit` messages of a queue without consuming any."""
