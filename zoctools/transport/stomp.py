"""Any STOMP broker as a transport, on stomp.py; ActiveMQ is what it is tested against.

A settle is two writes. First BEGIN and every SEND, each with a receipt; when all receipts are in, the ACKs, the
UNSUBSCRIBEs of what closes, and the COMMIT with a receipt. ActiveMQ commits a transaction even when one of its SENDs
was refused, so a COMMIT sent blindly would lose messages. A transaction with a refused SEND is left to end with the
connection: nothing was acknowledged in it.

UNSUBSCRIBE stands before COMMIT because the next message is handed over as soon as one is committed, and would come
back marked; should the COMMIT never arrive, the ACKs are undone with the connection all the same. (ActiveMQ 5.17
marked the next message in 80 of 80 tries with COMMIT first, in 49 of 80 with UNSUBSCRIBE first, in none of 80 with
UNSUBSCRIBE first and ``usePrefetchExtension="false"``, which `deploy/activemq.xml` says.)
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from queue import SimpleQueue

from zoctools import text
from zoctools.broker.frames import Frame, assemble, encode, header_lines
from zoctools.config import StompSettings
from zoctools.errors import LinkLost, SendRefused, StaleDelivery, TimedOut, UsageError
from zoctools.transport.browsing import Looks
from zoctools.transport.contract import (
    Browsed,
    Delivery,
    Destination,
    Event,
    Kind,
    Link,
    Outgoing,
    Subscription,
    namespaced,
)
from zoctools.transport.outgoing import frame_headers
from zoctools.transport.session import Session
from zoctools.transport.wire import Wire

MAX_LEFT_OPEN = 16_000_000
"""Bytes we leave at the broker in transactions it refused a part of; then a new link makes it forget them."""

_log = logging.getLogger("zoctools.transport")


class StompTransport:
    """A link to a STOMP broker; see `zoctools.transport.contract` for what it promises."""

    def __init__(self, settings: StompSettings) -> None:
        self.namespace = settings.namespace.rstrip(".")
        self.unknown_messages = 0
        self._session = Session(settings, self)
        self._desk = self._session.desk
        self._numbers = itertools.count(1)
        self._last_subscription = 0
        self._subscriptions: dict[str, Subscription] = {}
        self._unsettled: dict[str, set[str]] = {}
        """What may be acknowledged, of each subscription: ActiveMQ commits a transaction that acknowledges nothing."""
        self._looks = Looks(self._session, self._new_subscription, settings.settle_timeout)

    # Names and the link

    @property
    def inbox(self) -> SimpleQueue[Event]:
        """Where everything arrives."""
        return self._session.inbox

    @property
    def link(self) -> Link:
        """The state of the link now."""
        return self._session.link

    def queue(self, name: str) -> Destination:
        """The queue `name` of our namespace."""
        return Destination.queue(namespaced(self.namespace, name))

    def topic(self, name: str) -> Destination:
        """The topic `name` of our namespace."""
        return Destination.topic(namespaced(self.namespace, name))

    def connect(self) -> None:
        """Open the link; raises `Unreachable` or `LoginRefused`."""
        self._session.connect()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the link is up; returns whether it is, at once when it will not come back."""
        return self._session.wait_connected(timeout)

    def close(self) -> None:
        """Leave in peace; what was not settled goes back to the broker."""
        self._session.close()

    # What the session calls

    def link_opened(self, wire: Wire) -> None:
        """Open every subscription again."""
        for subscription in list(self._subscriptions.values()):
            wire.send(encode("SUBSCRIBE", _wanted(subscription)))

    def link_lost(self, words: str) -> None:
        """Forget what was delivered over it."""
        self._unsettled = {}
        self._looks.lose(words)

    def message_arrived(self, wire: Wire, frame: Frame) -> None:
        """Put a message into the inbox."""
        headers = frame.headers
        identity = headers.get("subscription", "")
        subscription = self._subscriptions.get(identity)
        if subscription is not None:
            where = _destination(headers.get("destination", "")) or subscription.destination
            if subscription.acknowledge:
                self._unsettled.setdefault(identity, set()).add(_ack_key(headers))
            self.inbox.put(
                Delivery(subscription, headers.get("message-id", ""), where, headers, frame.body, wire.number)
            )
        elif not self._looks.take(identity, frame) and not self._was_opened(identity):
            self.unknown_messages += 1
            _log.warning("a message for subscription %r, which we never opened", text.one_line(identity, 60))

    def _was_opened(self, identity: str) -> bool:
        """Whether it is a subscription of the past: what it still brings is on its way back to its queue."""
        return identity.isascii() and identity.isdecimal() and 0 < int(identity[:12]) <= self._last_subscription

    # Sending and settling

    def send(self, message: Outgoing) -> None:
        """Send one message and return when the broker has it."""
        self.settle((), (message,))

    def broadcast(self, message: Outgoing) -> None:
        """Send without waiting for a confirmation; raises `LinkLost` while the link is down."""
        frame = _send_frame(message, "")
        self._session.wire().send(frame)

    def settle(
        self, acks: Sequence[Delivery], sends: Sequence[Outgoing], *, closing: Sequence[Subscription] = ()
    ) -> None:
        """Acknowledge and send as one confirmed whole; see the contract for what it raises."""
        whole = len(acks) + len(sends) + len(closing) > 1 and bool(acks or sends)
        transaction = self._desk.name("tx") if whole else ""
        wanted = [self._desk.name("send") for _ in sends]
        inside = f"transaction:{transaction}\n" if transaction else ""
        offered = b"".join(
            _send_frame(message, f"{inside}receipt:{receipt}\n") for message, receipt in zip(sends, wanted, strict=True)
        )
        begin = f"BEGIN\n{inside}\n\0\n".encode() if transaction else b""
        wire = self._session.wire()
        self._claim(wire, acks)
        if offered:
            self._offer(wire, begin + offered, wanted, acks)
            begin = b""
        if acks or closing or transaction:
            self._finish(wire, begin, acks, closing, transaction)

    def _claim(self, wire: Wire, acks: Sequence[Delivery]) -> None:
        """Take what is to be acknowledged, so that nothing is acknowledged twice; all of it, or raise."""
        with self._session.changed:
            for taken, delivery in enumerate(acks):
                if not delivery.subscription.acknowledge:
                    problem: Exception = ValueError(f"messages from {delivery.destination} are not acknowledged")
                elif delivery.link != wire.number:
                    problem = StaleDelivery("the message came over an earlier link; the broker will deliver it again")
                elif _ack_key(delivery.headers) not in self._unsettled.get(str(delivery.subscription.id), ()):
                    problem = StaleDelivery("the message is settled already, or its subscription is closed")
                else:
                    self._unsettled[str(delivery.subscription.id)].discard(_ack_key(delivery.headers))
                    continue
                self._give_back(acks[:taken])
                raise problem

    def _give_back(self, acks: Sequence[Delivery]) -> None:
        for delivery in acks:
            self._unsettled.setdefault(str(delivery.subscription.id), set()).add(_ack_key(delivery.headers))

    def _offer(self, wire: Wire, frames: bytes, wanted: Sequence[str], acks: Sequence[Delivery]) -> None:
        """The first write. When the broker refuses one of the messages, nothing has been settled."""
        try:
            self._session.confirm(wire, frames, wanted)
        except SendRefused:
            with self._session.changed:
                if self._session.wire_if_up() is wire:
                    self._give_back(acks)
            wire.left_open += len(frames) if frames.startswith(b"BEGIN") else 0
            if wire.left_open > MAX_LEFT_OPEN:
                wire.drop("many messages were refused; a new link makes the broker forget their transactions")
            raise

    def _finish(
        self, wire: Wire, begin: bytes, acks: Sequence[Delivery], closing: Sequence[Subscription], transaction: str
    ) -> None:
        """The second write, and what follows from its confirmation."""
        last = self._desk.name("settled")
        try:
            self._session.confirm(wire, begin + _ending(acks, closing, transaction, last), [last])
        except SendRefused as refusal:
            # What of it was done only the broker knows; what it did not commit it undoes with the connection.
            wire.drop(refusal.message)
            raise LinkLost(f"{refusal.message}; the link is opened anew") from None
        for subscription in closing:
            self._subscriptions.pop(str(subscription.id), None)
            self._unsettled.pop(str(subscription.id), None)

    # Subscriptions

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
        """Ask for the messages of a queue or topic; raises `SendRefused` when the broker will not have it."""
        if acknowledge and prefetch < 1:
            raise UsageError(f"a prefetch of {prefetch} would never deliver anything")
        acknowledge = acknowledge and destination.kind is Kind.QUEUE
        subscription = Subscription(
            self._new_subscription(), destination, acknowledge, prefetch, exclusive, priority, selector, retroactive
        )
        with self._session.changed:
            self._subscriptions[str(subscription.id)] = subscription
            wire = self._session.wire_if_up()
        if wire is None:
            return subscription
        receipt = self._desk.name("subscribed")
        try:
            self._session.confirm(wire, encode("SUBSCRIBE", {**_wanted(subscription), "receipt": receipt}), [receipt])
        except SendRefused:
            del self._subscriptions[str(subscription.id)]
            raise
        except (LinkLost, TimedOut):
            _log.debug("the link went while subscribing; the subscription comes back with it")
        return subscription

    def _new_subscription(self) -> int:
        with self._session.changed:
            self._last_subscription = next(self._numbers)
            return self._last_subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; what it delivered and was not settled goes back to the broker, marked."""
        with self._session.changed:
            known = self._subscriptions.pop(str(subscription.id), None)
        if known is not None and self.link.connected:
            try:
                self.settle((), (), closing=(subscription,))
            except (LinkLost, TimedOut):
                _log.debug("the subscription to %s ended with its link", subscription.destination)

    def browse(self, destination: Destination, selector: str = "", limit: int = 1000) -> Browsed:
        """Look at up to `limit` messages of a queue without consuming any; raises as `settle` does.

        How many there are only ActiveMQ's statistics plug-in tells; without it nothing is called complete.
        """
        if destination.kind is not Kind.QUEUE:
            raise UsageError(f"only a queue can be browsed, not {destination}")
        return self._looks.browse(destination, selector, max(limit, 0))


def _wanted(subscription: Subscription) -> dict[str, str]:
    """Return the headers of SUBSCRIBE. A broker that is not told a prefetch hands over hundreds."""
    headers = {
        "id": str(subscription.id),
        "destination": str(subscription.destination),
        "ack": "client-individual" if subscription.acknowledge else "auto",
    }
    if subscription.destination.kind is Kind.QUEUE:
        headers["activemq.prefetchSize"] = str(subscription.prefetch)
    if subscription.exclusive:
        headers["activemq.exclusive"] = "true"
    if subscription.priority is not None:
        headers["activemq.priority"] = str(subscription.priority)
    if subscription.retroactive:
        headers["activemq.retroactive"] = "true"
    if subscription.selector:
        headers["selector"] = subscription.selector
    return headers


def _send_frame(message: Outgoing, more: str) -> bytes:
    """Return the SEND frame of a message; `more` are header lines of our own. Raises `Unsendable`."""
    headers = frame_headers(message, time.time())
    return assemble(f"SEND\n{header_lines(headers.items())}{more}", message.body)


def _ending(acks: Sequence[Delivery], closing: Sequence[Subscription], transaction: str, receipt: str) -> bytes:
    """Return the frames that end a settle, the last of them asking for the receipt."""
    frames: list[tuple[str, dict[str, str]]] = [("ACK", _ack(delivery)) for delivery in acks]
    frames += [("UNSUBSCRIBE", {"id": str(subscription.id)}) for subscription in closing]
    if transaction:
        for _, headers in frames[: len(acks)]:
            headers["transaction"] = transaction
        frames.append(("COMMIT", {"transaction": transaction}))
    frames[-1][1]["receipt"] = receipt
    return b"".join(encode(command, headers) for command, headers in frames)


def _ack(delivery: Delivery) -> dict[str, str]:
    """Return what an ACK frame names: the message's ``ack`` header, or as STOMP 1.1 had it."""
    ack = delivery.headers.get("ack")
    if ack is not None:
        return {"id": ack}
    return {"message-id": delivery.message_id, "subscription": str(delivery.subscription.id)}


def _ack_key(headers: Mapping[str, str]) -> str:
    return headers.get("ack") or headers.get("message-id", "")


@lru_cache(maxsize=1024)
def _destination(text_: str) -> Destination | None:
    try:
        return Destination.parse(text_)
    except ValueError:
        return None
