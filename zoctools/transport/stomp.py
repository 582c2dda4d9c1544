"""Any STOMP broker as a transport, on stomp.py; ActiveMQ is what it is tested against.

A settle is two writes. First BEGIN and every SEND, each with a receipt; when all receipts are in, the ACKs and the
COMMIT with a receipt. ActiveMQ commits a transaction even when one of its SENDs was refused, so a COMMIT sent blindly
would lose messages. A transaction with a refused SEND is left to end with the connection.

A lost link is opened again for ever, with pauses that stay short enough to be back within two seconds of the broker.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from queue import SimpleQueue

from zoctools import text
from zoctools.broker.frames import Frame, assemble, encode, escape, header_lines
from zoctools.config import StompSettings
from zoctools.errors import (
    LinkLost,
    LoginRefused,
    SendRefused,
    StaleDelivery,
    TimedOut,
    Unreachable,
    UsageError,
    ZocError,
)
from zoctools.transport.browsing import Browse, browse_rounds
from zoctools.transport.contract import (
    Browsed,
    Delivery,
    Destination,
    Event,
    Kind,
    Link,
    Outgoing,
    Refused,
    Subscription,
    namespaced,
)
from zoctools.transport.outgoing import frame_headers
from zoctools.transport.wire import Wire, error_words

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 1.2
"""Seconds between two tries to reconnect, doubled from the first to the longest, each varied by a fifth."""
GOODBYE = 3.0
"""Seconds we wait for the broker to confirm that we leave."""

_log = logging.getLogger("zoctools.transport")


class Receipts:
    """Receipts somebody waits for: done when the last one is in, or when the first error is."""

    def __init__(self, wanted: Sequence[str]) -> None:
        self._missing = set(wanted)
        self._done = threading.Event()
        self.refusal = ""
        self.lost = ""

    def confirm(self, receipt: str) -> None:
        """One is in."""
        self._missing.discard(receipt)
        if not self._missing:
            self._done.set()

    def refuse(self, words: str) -> None:
        """The broker refused what one of them was asked for."""
        self.refusal = self.refusal or words
        self._done.set()

    def lose(self, words: str) -> None:
        """The link went."""
        self.lost = words
        self._done.set()

    def wait(self, timeout: float) -> bool:
        """Return whether anything came of it in time."""
        return self._done.wait(timeout)


class StompTransport:
    """A link to a STOMP broker; see `zoctools.transport.contract` for what it promises."""

    def __init__(self, settings: StompSettings) -> None:
        self.namespace = settings.namespace.rstrip(".")
        self.inbox: SimpleQueue[Event] = SimpleQueue()
        self.unknown_messages = 0
        self._settings = settings
        self._link = Link(False, 0, settings.broker, time.monotonic())
        self._changed = threading.Condition()
        self._opening = threading.Lock()
        self._wire: Wire | None = None
        self._closed = threading.Event()
        self._numbers = itertools.count(1)
        self._subscriptions: dict[str, Subscription] = {}
        self._unsettled: dict[str, set[str]] = {}
        """What an ACK may name, of each subscription: ActiveMQ commits a transaction that acknowledges nothing."""
        self._browses: dict[str, Browse] = {}
        self._receipts: dict[str, Receipts] = {}

    # Names and state

    @property
    def link(self) -> Link:
        """The state of the link now."""
        return self._link

    def queue(self, name: str) -> Destination:
        """The queue `name` of our namespace."""
        return Destination.queue(namespaced(self.namespace, name))

    def topic(self, name: str) -> Destination:
        """The topic `name` of our namespace."""
        return Destination.topic(namespaced(self.namespace, name))

    # Opening and closing

    def connect(self) -> None:
        """Open the link; raises `Unreachable` or `LoginRefused`."""
        with self._opening:
            if not self._link.connected:
                self._closed.clear()
                self._open()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the link is up; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._link.connected, timeout)

    def close(self) -> None:
        """Leave in peace; what was not settled goes back to the broker."""
        self._closed.set()
        wire = self._wire
        if wire is None:
            return
        try:
            bye = self._number("bye")
            receipts = self._expect([bye])
            wire.send(encode("DISCONNECT", {"receipt": bye}))
            receipts.wait(GOODBYE)
            self._forget_receipts([bye])
        except LinkLost:
            _log.debug("the link was gone before we said goodbye")
        wire.drop("closed by us")
        with self._changed:
            self._changed.wait_for(lambda: self._wire is None, GOODBYE)

    def _open(self) -> None:
        """Connect to the first of the hosts that takes us; raises what the last of them said."""
        number = self._link.number + 1
        problem: ZocError = Unreachable("no broker is configured")
        for address in self._settings.hosts:
            wire = Wire(address, self._settings, number, self._take, self._on_lost)
            with self._changed:
                self._wire = wire
            try:
                wire.open()
            except LoginRefused:
                self._wire = None
                raise
            except Unreachable as error:
                self._wire = None
                problem = error
                continue
            with self._changed:
                self._resubscribe(wire)
                self._set_link(Link(True, number, wire.name, time.monotonic()))
            wire.start()
            return
        raise problem

    def _set_link(self, link: Link) -> None:
        with self._changed:
            self._link = link
            self.inbox.put(link)
            self._changed.notify_all()

    def _resubscribe(self, wire: Wire) -> None:
        try:
            for subscription in list(self._subscriptions.values()):
                self._write_subscribe(wire, subscription, "")
        except LinkLost:
            _log.debug("the link went while subscriptions were opened again")

    def _on_lost(self, wire: Wire, why: str) -> None:
        """Called once by each connection that was opened, on its receiver thread, which ends here."""
        words = f"the link to broker {wire.name} was lost: {why}"
        with self._changed:
            if self._wire is not wire:
                return
            self._wire = None
            self._unsettled = {}
            waiting = [*self._receipts.values()]
            browsing = [*self._browses.values()]
        self._set_link(Link(False, wire.number, wire.name, time.monotonic(), error=text.one_line(why, 500)))
        for receipts in waiting:
            receipts.lose(words)
        for browse in browsing:
            browse.lose(words)
        if not self._closed.is_set():
            _log.warning("%s", words)
            threading.Thread(target=self._reopen, name="stomp reconnect", daemon=True).start()

    def _reopen(self) -> None:
        """Try until the link is up again, we are closed, or the broker refuses us."""
        pause = FIRST_PAUSE
        for attempt in itertools.count(1):
            wait = pause * random.uniform(0.8, 1.2)
            self._set_link(replace(self._link, attempt=attempt, next_try=time.monotonic() + wait))
            if self._closed.wait(wait):
                return
            try:
                with self._opening:
                    if not self._link.connected:
                        self._open()
                    if self._closed.is_set() and self._wire is not None:
                        self._wire.drop("closed by us")
                _log.info("the link to broker %s is up again", self._link.broker)
                return
            except LoginRefused as error:
                _log.error("%s; not trying again", error.message)
                self._set_link(replace(self._link, next_try=None, error=error.message, given_up=True))
                return
            except ZocError as error:
                self._link = replace(self._link, error=error.message)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _connected_wire(self) -> Wire:
        wire = self._wire
        if wire is None or not self._link.connected:
            raise LinkLost(f"the link to broker {self._link.broker} is down", "it is opened again by itself")
        return wire

    # What arrives, on the receiver thread: it stores, and nothing else

    def _take(self, wire: Wire, frames: Sequence[Frame]) -> None:
        for frame in frames:
            if frame.command == "MESSAGE":
                self._take_message(wire, frame)
            elif frame.command == "RECEIPT":
                self._take_receipt(frame)
            elif frame.command == "ERROR":
                self._take_error(wire, frame)
            else:
                wire.drop(f"the broker sent a frame nobody knows: {text.one_line(frame.command, 40)}")
                return

    def _take_message(self, wire: Wire, frame: Frame) -> None:
        headers = frame.headers
        identity = headers.get("subscription", "")
        subscription = self._subscriptions.get(identity)
        if subscription is not None:
            where = _destination(headers.get("destination", "")) or subscription.destination
            if subscription.acknowledge:
                self._unsettled.setdefault(identity, set()).add(headers.get("ack", ""))
            self.inbox.put(
                Delivery(subscription, headers.get("message-id", ""), where, headers, frame.body, wire.number)
            )
        elif identity in self._browses:
            self._browses[identity].take(frame)
        else:
            self.unknown_messages += 1
            _log.debug("a message for no open subscription was passed over: %s", text.one_line(identity, 60))

    def _take_receipt(self, frame: Frame) -> None:
        receipt = frame.headers.get("receipt-id", "")
        receipts = self._receipts.get(receipt)
        if receipts is not None:
            receipts.confirm(receipt)

    def _take_error(self, wire: Wire, frame: Frame) -> None:
        words = error_words(frame)
        receipts = self._receipts.get(frame.headers.get("receipt-id", ""))
        if receipts is not None:
            receipts.refuse(words)
        else:
            wire.broker_said(words)
            self.inbox.put(Refused(words))

    # Receipts

    def _number(self, kind: str) -> str:
        return f"{kind}-{next(self._numbers)}"

    def _expect(self, wanted: Sequence[str]) -> Receipts:
        receipts = Receipts(wanted)
        with self._changed:
            for receipt in wanted:
                self._receipts[receipt] = receipts
        return receipts

    def _forget_receipts(self, wanted: Sequence[str]) -> None:
        for receipt in wanted:
            self._receipts.pop(receipt, None)

    def _confirmed(self, wire: Wire, frames: bytes, wanted: Sequence[str]) -> None:
        """Write frames as one and wait for their receipts; raises `SendRefused`, `LinkLost` or `TimedOut`."""
        receipts = self._expect(wanted)
        try:
            wire.send(frames)
            if self._wire is not wire:
                receipts.lose(f"the link to broker {wire.name} was lost")
            in_time = receipts.wait(self._settings.settle_timeout)
        finally:
            self._forget_receipts(wanted)
        if receipts.refusal:
            raise SendRefused(f"broker {wire.name} refuses: {receipts.refusal}")
        if receipts.lost:
            raise LinkLost(receipts.lost)
        if not in_time:
            waited = text.duration(self._settings.settle_timeout)
            wire.drop(f"no confirmation within {waited}")
            raise TimedOut(f"broker {wire.name} confirmed nothing within {waited}")

    # Sending and settling

    def send(self, message: Outgoing) -> None:
        """Send one message and return when the broker has it."""
        self.settle((), (message,))

    def broadcast(self, message: Outgoing) -> None:
        """Send without waiting for a confirmation; raises `LinkLost` while the link is down."""
        frame = _send_frame(message, "")
        self._connected_wire().send(frame)

    def settle(
        self, acks: Sequence[Delivery], sends: Sequence[Outgoing], *, closing: Sequence[Subscription] = ()
    ) -> None:
        """Acknowledge and send as one confirmed whole; see the contract for what it raises."""
        transaction = self._number("tx") if len(acks) + len(sends) > 1 else ""
        in_transaction = f"transaction:{transaction}\n" if transaction else ""
        wanted = [self._number("send") for _ in sends]
        frames = [
            _send_frame(message, f"{in_transaction}receipt:{receipt}\n")
            for message, receipt in zip(sends, wanted, strict=True)
        ]
        wire = self._connected_wire()
        for delivery in acks:
            if delivery.link != wire.number:
                raise StaleDelivery("the message came over an earlier link; the broker will deliver it again")
            if delivery.headers.get("ack", "") not in self._unsettled.get(str(delivery.subscription.id), ()):
                raise StaleDelivery("the message is settled already, or its subscription is closed")
        begin = f"BEGIN\n{in_transaction}\n\0\n".encode() if transaction else b""
        if frames:
            self._confirmed(wire, begin + b"".join(frames), wanted)
            begin = b""
        last = self._number("settled")
        ending = begin + _ending(acks, transaction, in_transaction, closing, last)
        if ending:
            self._confirmed(wire, ending, [last])
        for delivery in acks:
            self._unsettled.get(str(delivery.subscription.id), set()).discard(delivery.headers["ack"])
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
            next(self._numbers), destination, acknowledge, prefetch, exclusive, priority, selector, retroactive
        )
        with self._changed:
            self._subscriptions[str(subscription.id)] = subscription
            wire = self._wire
            if wire is None or not self._link.connected:
                return subscription
        receipt = self._number("subscribed")
        receipts = self._expect([receipt])
        try:
            self._write_subscribe(wire, subscription, receipt)
            if not receipts.wait(self._settings.settle_timeout):
                wire.drop("a subscription was not confirmed in time")
        except LinkLost:
            _log.debug("the link went while subscribing; the subscription comes back with it")
        finally:
            self._forget_receipts([receipt])
        if receipts.refusal:
            del self._subscriptions[str(subscription.id)]
            raise SendRefused(f"broker {wire.name} refuses {destination}: {receipts.refusal}")
        return subscription

    def _write_subscribe(self, wire: Wire, subscription: Subscription, receipt: str) -> None:
        headers: dict[str, str] = {}
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
        if receipt:
            headers["receipt"] = receipt
        mode = "client-individual" if subscription.acknowledge else "auto"
        wire.protocol.subscribe(str(subscription.destination), str(subscription.id), mode, headers)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Close a subscription; what it delivered and was not settled goes back to the broker, marked."""
        with self._changed:
            known = self._subscriptions.pop(str(subscription.id), None)
            connected = self._link.connected
        if known is not None and connected:
            self.settle((), (), closing=(subscription,))

    # Browsing

    def browse(self, destination: Destination, selector: str = "", limit: int = 1000) -> Browsed:
        """Look at up to `limit` messages of a queue without consuming any; raises as `settle` does."""
        if destination.kind is not Kind.QUEUE:
            raise UsageError(f"only a queue can be browsed, not {destination}")
        return browse_rounds(self._browse_once, destination, selector, limit)

    def _browse_once(self, destination: Destination, selector: str, limit: int) -> Browse:
        """Look once; a broker may end a look before the end of the queue."""
        wire = self._connected_wire()
        identity = str(next(self._numbers))
        browse = Browse(Subscription(int(identity), destination, acknowledge=False, selector=selector), limit)
        self._browses[identity] = browse
        headers = {"browser": "true", "activemq.prefetchSize": "100"}
        if selector:
            headers["selector"] = selector
        try:
            wire.protocol.subscribe(str(destination), identity, "auto", headers)
            browse.wait(self._settings.settle_timeout)
        finally:
            del self._browses[identity]
        if self._wire is wire:
            wire.protocol.unsubscribe(identity)
        return browse


def _send_frame(message: Outgoing, more: str) -> bytes:
    """Return the SEND frame of a message; `more` are header lines of our own. Raises `Unsendable`."""
    headers = frame_headers(message, time.time())
    return assemble(f"SEND\n{header_lines(headers.items())}{more}", message.body)


def _ending(
    acks: Sequence[Delivery], transaction: str, in_transaction: str, closing: Sequence[Subscription], receipt: str
) -> bytes:
    """Return the frames that end a settle, the last but for what closes asking for the receipt; empty for none."""
    asked = f"receipt:{receipt}\n"
    parts = [f"ACK\nid:{escape(delivery.headers['ack'])}\n{in_transaction}" for delivery in acks]
    if transaction:
        parts.append(f"COMMIT\n{in_transaction}")
    if parts:
        parts[-1] += asked
    closes = [f"UNSUBSCRIBE\nid:{subscription.id}\n" for subscription in closing]
    if closes and not parts:
        closes[-1] += asked
    return "".join(f"{part}\n\0\n" for part in (*parts, *closes)).encode()


@lru_cache(maxsize=1024)
def _destination(text_: str) -> Destination | None:
    try:
        return Destination.parse(text_)
    except ValueError:
        return None
