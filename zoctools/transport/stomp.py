"""Any STOMP broker as a transport, on stomp.py; ActiveMQ is what it is tested against.

A settle is two writes. First BEGIN and every SEND, each with a receipt; when all receipts are in, the ACKs, the
UNSUBSCRIBEs of what closes, and the COMMIT with a receipt. ActiveMQ commits a transaction even when one of its SENDs
was refused, so a COMMIT sent blindly would lose messages. UNSUBSCRIBE stands before COMMIT because the next message
is handed over as soon as one is committed, and would come back marked; should the COMMIT never arrive, the ACKs are
undone with the connection all the same [measured on ActiveMQ 5.17]. A transaction with a refused SEND is left to end
with the connection: nothing was acknowledged in it.

A lost link is opened again for ever. The longer it was away the longer are the pauses, so one that was away shortly
is back within two seconds of the broker, and a broker that is away for the night is not pestered.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from queue import SimpleQueue

from zoctools import text
from zoctools.broker.frames import Frame, assemble, encode, header_lines
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
from zoctools.transport.receipts import Desk
from zoctools.transport.wire import Wire, error_words

SHORTEST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds between two tries to reconnect: a tenth of how long the link has been away, varied by a fifth."""
STABLE_AFTER = 10.0
"""Seconds a link has to live to end an outage; one that breaks at once, again and again, is tried ever more rarely."""
GOODBYE = 3.0
"""Seconds we wait for the broker to confirm that we leave."""
MAX_LEFT_OPEN = 16_000_000
"""Bytes we leave at the broker in transactions it refused a part of; then a new link makes it forget them."""

_log = logging.getLogger("zoctools.transport")


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
        """What may be acknowledged, of each subscription: ActiveMQ commits a transaction that acknowledges nothing."""
        self._browses: dict[str, Browse] = {}
        self._last_subscription = 0
        self._down_since = 0.0
        self._desk = Desk()

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
        """Wait until the link is up; returns whether it is, at once when it will not come back."""

        def decided() -> bool:
            return self._link.connected or self._link.given_up or self._closed.is_set()

        with self._changed:
            self._changed.wait_for(decided, timeout)
            return self._link.connected

    def close(self) -> None:
        """Leave in peace; what was not settled goes back to the broker."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            wire = self._wire
        if wire is None:
            return
        if self._link.connected:
            self._say_goodbye(wire)
        wire.drop("closed by us")
        with self._changed:
            self._changed.wait_for(lambda: self._wire is None, GOODBYE)

    def _say_goodbye(self, wire: Wire) -> None:
        impatient = threading.Timer(GOODBYE, wire.drop, ("closed by us",))
        impatient.daemon = True
        impatient.start()
        receipts = self._desk.expect([self._desk.name("bye")])
        try:
            wire.send(encode("DISCONNECT", {"receipt": receipts.names[0]}))
            receipts.wait(GOODBYE)
        except LinkLost:
            _log.debug("the link was gone before we said goodbye")
        finally:
            impatient.cancel()
            self._desk.forget(receipts)

    def _open(self) -> None:
        """Connect to the first of the hosts that takes us; raises what each of them said."""
        number = self._link.number + 1
        problems: list[Unreachable] = []
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
                problems.append(error)
                continue
            with self._changed:
                self._resubscribe(wire)
                self._set_link(Link(True, number, wire.name, time.monotonic()))
            wire.start()
            return
        if not problems:
            raise Unreachable("no broker is configured")
        raise Unreachable("; ".join(problem.message for problem in problems), problems[0].hint)

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
            browsing = [*self._browses.values()]
            now = time.monotonic()
            if not self._down_since or now - self._link.since > STABLE_AFTER:
                self._down_since = now
        self._set_link(Link(False, wire.number, wire.name, now, error=text.one_line(why, 500)))
        self._desk.lose_all(words)
        for browse in browsing:
            browse.lose(words)
        if not self._closed.is_set():
            _log.warning("%s", words)
            threading.Thread(target=self._reopen, name="stomp reconnect", daemon=True).start()

    def _reopen(self) -> None:
        """Try until the link is up again, we are closed, or the broker refuses us."""
        for attempt in itertools.count(1):
            away = time.monotonic() - self._down_since
            wait = min(max(away / 10, SHORTEST_PAUSE), LONGEST_PAUSE) * random.uniform(0.8, 1.2)
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
                self._unsettled.setdefault(identity, set()).add(_ack_key(headers))
            self.inbox.put(
                Delivery(subscription, headers.get("message-id", ""), where, headers, frame.body, wire.number)
            )
        elif identity in self._browses:
            self._browses[identity].take(frame)
        elif identity.isascii() and identity.isdecimal() and 0 < int(identity) <= self._last_subscription:
            _log.debug("a message for subscription %s, which is closed, goes back to its queue", identity)
        else:
            self.unknown_messages += 1
            _log.warning("a message for subscription %r, which we never opened", text.one_line(identity, 60))

    def _take_receipt(self, frame: Frame) -> None:
        self._desk.confirmed(frame.headers.get("receipt-id", ""))

    def _take_error(self, wire: Wire, frame: Frame) -> None:
        words = error_words(frame)
        receipt = frame.headers.get("receipt-id")
        if receipt is not None:
            self._desk.refused(receipt, words)
        else:
            wire.broker_said(words)
            self.inbox.put(Refused(words))

    def _confirmed(self, wire: Wire, frames: bytes, wanted: Sequence[str]) -> None:
        """Write frames as one and wait for their receipts; raises `SendRefused`, `LinkLost` or `TimedOut`."""
        receipts = self._desk.expect(wanted)
        try:
            wire.send(frames)
            if self._wire is not wire:
                receipts.lose(f"the link to broker {wire.name} was lost")
            in_time = receipts.wait(self._settings.settle_timeout)
        finally:
            self._desk.forget(receipts)
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
        whole = len(acks) + len(sends) + len(closing) > 1 and bool(acks or sends)
        transaction = self._desk.name("tx") if whole else ""
        wanted = [self._desk.name("send") for _ in sends]
        inside = f"transaction:{transaction}\n" if transaction else ""
        offered = b"".join(
            _send_frame(message, f"{inside}receipt:{receipt}\n") for message, receipt in zip(sends, wanted, strict=True)
        )
        begin = f"BEGIN\n{inside}\n\0\n".encode() if transaction else b""
        wire = self._connected_wire()
        self._claim(wire, acks)
        if offered:
            self._offer(wire, begin + offered, wanted, acks)
            begin = b""
        if acks or closing or transaction:
            self._finish(wire, begin, acks, closing, transaction)

    def _claim(self, wire: Wire, acks: Sequence[Delivery]) -> None:
        """Take what is to be acknowledged, so that nothing is acknowledged twice; all of it, or raise."""
        with self._changed:
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
            self._confirmed(wire, frames, wanted)
        except SendRefused:
            with self._changed:
                if self._wire is wire:
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
            self._confirmed(wire, begin + _ending(acks, closing, transaction, last), [last])
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
        with self._changed:
            number = self._new_subscription()
            subscription = Subscription(
                number, destination, acknowledge, prefetch, exclusive, priority, selector, retroactive
            )
            self._subscriptions[str(subscription.id)] = subscription
            wire = self._wire
            if wire is None or not self._link.connected:
                return subscription
        receipts = self._desk.expect([self._desk.name("subscribed")])
        try:
            self._write_subscribe(wire, subscription, receipts.names[0])
            if not receipts.wait(self._settings.settle_timeout):
                wire.drop("a subscription was not confirmed in time")
        except LinkLost:
            _log.debug("the link went while subscribing; the subscription comes back with it")
        finally:
            self._desk.forget(receipts)
        if receipts.refusal:
            del self._subscriptions[str(subscription.id)]
            raise SendRefused(f"broker {wire.name} refuses {destination}: {receipts.refusal}")
        return subscription

    def _new_subscription(self) -> int:
        self._last_subscription = next(self._numbers)
        return self._last_subscription

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
            try:
                self.settle((), (), closing=(subscription,))
            except (LinkLost, TimedOut):
                _log.debug("the subscription to %s ended with its link", subscription.destination)

    # Browsing

    def browse(self, destination: Destination, selector: str = "", limit: int = 1000) -> Browsed:
        """Look at up to `limit` messages of a queue without consuming any; raises as `settle` does."""
        if destination.kind is not Kind.QUEUE:
            raise UsageError(f"only a queue can be browsed, not {destination}")
        return browse_rounds(self._browse_once, destination, selector, limit)

    def _browse_once(self, destination: Destination, selector: str, limit: int) -> Browse:
        """Look once; a broker may end a look before the end of the queue."""
        wire = self._connected_wire()
        with self._changed:
            identity = str(self._new_subscription())
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
